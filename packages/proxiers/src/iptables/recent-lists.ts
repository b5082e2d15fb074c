import { jhash1, longer, swap32 } from '@vipsim/sim-core';
import type { Counts } from '../cost/operations.ts';
import { OPERATION } from './operations.ts';

const EVALUATED = OPERATION['iptables.match.recent'];
const LIST = OPERATION['iptables.recent.list'];
const ENTRY = OPERATION['iptables.recent.entry'];
const STAMP = OPERATION['iptables.recent.stamp'];
const INSERT = OPERATION['iptables.recent.insert'];

/** ip_list_tot: addresses that a list remembers. */
export const ADDRESSES_MAX = 100;
/** ip_list_hash_size: 2^fls(ip_list_tot). */
const BUCKETS = 128;
/** Without --hitcount an entry holds the times of its last 32 packets. */
const STAMPS = 32;
/** CONFIG_HZ=250: times are told apart to 4 ms. */
const JIFFY_NS = 4_000_000;
const HZ = 250;
const NONE = -1;

/** A list's 264-byte head and 128 buckets, and an entry with 32 stamps, as kmalloc rounds them. */
const LIST_BYTES = 4096;
const ENTRY_BYTES = 512;

/**
 * The lists behind `-m recent`: which addresses an endpoint served last, and when. The list of an endpoint is named
 * like its KUBE-SEP chain, and here known by that chain's number.
 *
 *     lists  1: KUBE-SEP-A ─ 2: KUBE-SEP-B ─ 3: KUBE-SEP-C ─ …     one search by name for every rule evaluated
 *                               └ 128 buckets ─ entry ─ entry      found by address
 *                               └ oldest ─ … ─ newest              least recently --set first
 *
 * Models: position in the list of lists, buckets by jhash, 100 addresses a list with the least recently updated one
 * evicted, 32 stamps an entry, --set, --rcheck --seconds --reap (which looks at the one oldest entry).
 * Source: net/netfilter/xt_recent.c, HZ = 250.
 * Not modelled: waiting for the one spinlock that all evaluations of a host share; --hitcount, --rttl, --update.
 */
export class RecentLists {
  lists = 0;
  entries = 0;
  readonly #seed: number;
  /** Chains that have a list, in order of creation. */
  #order: number[] = [];
  #gone = false;
  // By chain.
  #references: Uint32Array = new Uint32Array(0);
  /** Lists compared until this one is found. */
  #position: Uint32Array = new Uint32Array(0);
  #held: Uint32Array = new Uint32Array(0);
  #oldest: Int32Array = new Int32Array(0);
  #newest: Int32Array = new Int32Array(0);
  /** Where the buckets are, once there is an entry. */
  #block: Int32Array = new Int32Array(0);
  // Buckets, 128 a block.
  #heads: Int32Array = new Int32Array(0);
  #blocks = 0;
  #freeBlocks: number[] = [];
  // Entries.
  #address: Uint32Array = new Uint32Array(0);
  #inBucket: Int32Array = new Int32Array(0);
  #older: Int32Array = new Int32Array(0);
  #newer: Int32Array = new Int32Array(0);
  #index: Uint8Array = new Uint8Array(0);
  #stampCount: Uint8Array = new Uint8Array(0);
  #stamps: Uint32Array = new Uint32Array(0);
  #used = 0;
  #free = NONE;
  /** The address hashed last: one packet asks many lists. */
  #hashed = 0;
  #bucket = 0;

  /** `seed` stands for the kernel's random number of the boot. */
  constructor(seed: number) {
    this.#seed = seed;
    this.#bucket = jhash1(0, seed) & (BUCKETS - 1);
  }

  exists(chain: number): boolean {
    return chain < this.#references.length && this.#references[chain]! > 0;
  }

  /** One more rule names the list of `chain`; the first one creates it, behind all others. */
  refer(chain: number): void {
    if (chain >= this.#references.length) this.#growChains(Math.max(64, (chain * 3) >> 1, chain + 1));
    this.#references[chain]! += 1;
    if (this.#references[chain] !== 1) return;
    this.#order.push(chain);
    this.#position[chain] = this.#order.length;
    this.#held[chain] = 0;
    this.#oldest[chain] = NONE;
    this.#newest[chain] = NONE;
    this.#block[chain] = NONE;
    this.lists++;
  }

  /** One rule less; the last one takes the list with it. Follow with `settle`. */
  release(chain: number): void {
    this.#references[chain]! -= 1;
    if (this.#references[chain] !== 0) return;
    while (this.#oldest[chain] !== NONE) this.#remove(chain, this.#oldest[chain]!);
    if (this.#block[chain] !== NONE) this.#freeBlocks.push(this.#block[chain]!);
    this.lists--;
    this.#gone = true;
  }

  /** Lists have closed up behind those that are gone. */
  settle(): void {
    if (!this.#gone) return;
    this.#gone = false;
    this.#order = this.#order.filter((chain) => this.#references[chain]! > 0);
    for (let i = 0; i < this.#order.length; i++) this.#position[this.#order[i]!] = i + 1;
  }

  /** `--rcheck --seconds … --reap`: whether the address was set in the list of `chain` that lately. */
  check(chain: number, address: number, seconds: number, nowNs: number, counts: Counts): boolean {
    const entry = this.#find(chain, address, counts);
    if (entry === NONE) return false;
    const since = Math.floor(nowNs / JIFFY_NS) - seconds * HZ;
    const first = entry * STAMPS;
    const end = first + this.#stampCount[entry]!;
    let at = first;
    while (at < end && this.#stamps[at]! < since) at++;
    const fresh = at < end;
    counts[STAMP]! += at - first + (fresh ? 1 : 0);
    const oldest = this.#oldest[chain]!;
    if (this.#stamps[oldest * STAMPS + this.#index[oldest]! - 1]! < since) this.#remove(chain, oldest);
    return fresh;
  }

  /** `--set`: remember that the address was here now. */
  set(chain: number, address: number, nowNs: number, counts: Counts): void {
    const jiffies = Math.floor(nowNs / JIFFY_NS);
    const found = this.#find(chain, address, counts);
    if (found === NONE) {
      counts[INSERT]! += 1;
      if (this.#held[chain]! >= ADDRESSES_MAX) this.#remove(chain, this.#oldest[chain]!);
      this.#insert(chain, address, jiffies);
      return;
    }
    const index = this.#index[found]! & (STAMPS - 1);
    this.#stamps[found * STAMPS + index] = jiffies;
    this.#index[found] = index + 1;
    if (index + 1 > this.#stampCount[found]!) this.#stampCount[found] = index + 1;
    this.#unlinkAge(chain, found);
    this.#linkAge(chain, found);
  }

  /** Addresses that the list of `chain` remembers, least recently set first. */
  addresses(chain: number): number[] {
    const addresses: number[] = [];
    if (!this.exists(chain)) return addresses;
    for (let entry = this.#oldest[chain]!; entry !== NONE; entry = this.#newer[entry]!) {
      addresses.push(this.#address[entry]!);
    }
    return addresses;
  }

  /** How many lists a search for that of `chain` compares. */
  position(chain: number): number {
    return this.#position[chain]!;
  }

  memory(): number {
    return this.lists * LIST_BYTES + this.entries * ENTRY_BYTES;
  }

  #find(chain: number, address: number, counts: Counts): number {
    counts[EVALUATED]! += 1;
    counts[LIST]! += this.#position[chain]!;
    const block = this.#block[chain]!;
    if (block === NONE) return NONE;
    let entry = this.#heads[block * BUCKETS + this.#bucketOf(address)]!;
    let steps = 0;
    while (entry !== NONE) {
      steps++;
      if (this.#address[entry] === address) break;
      entry = this.#inBucket[entry]!;
    }
    counts[ENTRY]! += steps;
    return entry;
  }

  #bucketOf(address: number): number {
    if (address !== this.#hashed) {
      this.#hashed = address;
      this.#bucket = jhash1(swap32(address), this.#seed) & (BUCKETS - 1);
    }
    return this.#bucket;
  }

  #insert(chain: number, address: number, jiffies: number): void {
    if (this.#block[chain] === NONE) this.#block[chain] = this.#newBlock();
    const entry = this.#newEntry();
    this.#address[entry] = address;
    this.#stamps[entry * STAMPS] = jiffies;
    this.#index[entry] = 1;
    this.#stampCount[entry] = 1;
    this.#inBucket[entry] = NONE;
    // The kernel adds at the tail of the bucket.
    const head = this.#block[chain]! * BUCKETS + this.#bucketOf(address);
    if (this.#heads[head] === NONE) {
      this.#heads[head] = entry;
    } else {
      let last = this.#heads[head]!;
      while (this.#inBucket[last] !== NONE) last = this.#inBucket[last]!;
      this.#inBucket[last] = entry;
    }
    this.#linkAge(chain, entry);
    this.#held[chain]! += 1;
    this.entries++;
  }

  #remove(chain: number, entry: number): void {
    const head = this.#block[chain]! * BUCKETS + this.#bucketOf(this.#address[entry]!);
    if (this.#heads[head] === entry) {
      this.#heads[head] = this.#inBucket[entry]!;
    } else {
      let before = this.#heads[head]!;
      while (this.#inBucket[before] !== entry) before = this.#inBucket[before]!;
      this.#inBucket[before] = this.#inBucket[entry]!;
    }
    this.#unlinkAge(chain, entry);
    this.#held[chain]! -= 1;
    this.entries--;
    this.#newer[entry] = this.#free;
    this.#free = entry;
  }

  #linkAge(chain: number, entry: number): void {
    const newest = this.#newest[chain]!;
    this.#older[entry] = newest;
    this.#newer[entry] = NONE;
    if (newest === NONE) this.#oldest[chain] = entry;
    else this.#newer[newest] = entry;
    this.#newest[chain] = entry;
  }

  #unlinkAge(chain: number, entry: number): void {
    const older = this.#older[entry]!;
    const newer = this.#newer[entry]!;
    if (older === NONE) this.#oldest[chain] = newer;
    else this.#newer[older] = newer;
    if (newer === NONE) this.#newest[chain] = older;
    else this.#older[newer] = older;
  }

  #newBlock(): number {
    const block = this.#freeBlocks.pop() ?? this.#blocks++;
    const first = block * BUCKETS;
    if (first === this.#heads.length) {
      this.#heads = longer(this.#heads, Math.max(BUCKETS * 16, ((block * 3) >> 1) * BUCKETS));
    }
    this.#heads.fill(NONE, first, first + BUCKETS);
    return block;
  }

  #newEntry(): number {
    const entry = this.#free;
    if (entry !== NONE) {
      this.#free = this.#newer[entry]!;
      return entry;
    }
    if (this.#used === this.#address.length) this.#growEntries(Math.max(256, (this.#used * 3) >> 1));
    return this.#used++;
  }

  #growEntries(capacity: number): void {
    this.#address = longer(this.#address, capacity);
    this.#inBucket = longer(this.#inBucket, capacity);
    this.#older = longer(this.#older, capacity);
    this.#newer = longer(this.#newer, capacity);
    this.#index = longer(this.#index, capacity);
    this.#stampCount = longer(this.#stampCount, capacity);
    this.#stamps = longer(this.#stamps, capacity * STAMPS);
  }

  #growChains(capacity: number): void {
    this.#references = longer(this.#references, capacity);
    this.#position = longer(this.#position, capacity);
    this.#held = longer(this.#held, capacity);
    this.#oldest = longer(this.#oldest, capacity);
    this.#newest = longer(this.#newest, capacity);
    this.#block = longer(this.#block, capacity);
  }
}
