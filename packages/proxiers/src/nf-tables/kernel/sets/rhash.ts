import { jhash, jhash1, longer } from '@vipsim/sim-core';
import { INSERT_EXISTS, type ElementWords, type NfSet, type SetDescription } from '../set-backend.ts';
import { LEAVING, LINK, PENDING, roundUpToPowerOfTwo } from './links.ts';

/**
 * The resizable hash table behind named sets.
 * Models: bucket of a seeded jhash of the key's bytes, insertion at the chain's head, growth to twice the buckets
 * above 75 % and shrinking below 30 %, each into a table with a new seed; expiry at lookup, collection afterwards.
 * Source: net/netfilter/nft_set_hash.c, lib/rhashtable.c, include/linux/rhashtable.h.
 * Not modelled: that resizing runs in a worker a moment after the insertion that calls for it (both tables are
 * searched meanwhile), and the limit of 16 on chains, which makes an insertion resize at once.
 *
 * Element: link | hash | key words | data words. Expiry lies in columns of its own, where the set has timeouts.
 */

const MIN_BUCKETS = 4;
/** NFT_RHASH_ELEMENT_HINT */
const ELEMENT_HINT = 3;
/** Bytes of struct nft_rhash, nft_rhash_elem (key and data follow) and nft_timeout: BTF of Linux 6.18, x86-64. */
const TABLE_BYTES = 232;
const ELEMENT_BYTES = 40;
const EXPIRY_BYTES = 16;
const LINK_BITS = LINK;
const PENDING_BIT = PENDING;
const LEAVING_BIT = LEAVING;

export class Rhash implements NfSet {
  readonly backend = 'rhash';
  readonly description: SetDescription;
  readonly keyWords: number;
  readonly dataWords: number;
  count = 0;
  steps = 0;
  /** Buckets that the kernel's table has. */
  buckets: number;
  private readonly keyBytes: number;
  private readonly stride: number;
  private seed: number;
  /** Chains; fewer than the kernel's buckets while a table was made for far more elements than it holds. */
  private heads: Int32Array;
  private words: Int32Array;
  private expiry: Float64Array | undefined;
  private timeouts: Float64Array | undefined;
  private free = 0;
  private used = 0;
  /** No element expires before; Infinity if none does. */
  earliestMs = Infinity;

  constructor(description: SetDescription, seed: number) {
    this.description = description;
    this.keyBytes = description.keyBytes;
    this.keyWords = (description.keyBytes + 3) >> 2;
    this.dataWords = description.dataWords;
    this.stride = 2 + this.keyWords + this.dataWords;
    const hint = description.size > 0 ? description.size : ELEMENT_HINT;
    this.buckets = Math.max(MIN_BUCKETS, roundUpToPowerOfTwo(Math.floor((hint * 4) / 3)));
    this.seed = seed | 0;
    this.heads = new Int32Array(MIN_BUCKETS);
    this.words = new Int32Array(0);
  }

  lookup(registers: Uint32Array, at: number, nowMs: number): number {
    const words = this.words;
    const stride = this.stride;
    const first = registers[at]! | 0;
    const hash = jhash(registers, this.keyBytes, this.seed, at);
    const mask = this.buckets - 1;
    let steps = 0;
    let link = this.heads[hash & (this.heads.length - 1)]!;
    while (link !== 0) {
      const base = (link - 1) * stride;
      const word = words[base]!;
      if (((words[base + 1]! ^ hash) & mask) === 0) {
        steps++;
        if (
          words[base + 2] === first &&
          (word & PENDING_BIT) === 0 &&
          this.sameRest(registers, at, base + 2) &&
          (this.expiry === undefined || this.expiry[link - 1]! > nowMs)
        ) {
          this.steps = steps;
          return link - 1;
        }
      }
      link = word & LINK_BITS;
    }
    this.steps = steps;
    return -1;
  }

  /** An element whose key is at `at`, of any generation: what rules that add elements look for. */
  findAny(registers: Uint32Array, at: number, nowMs: number): number {
    return this.search(registers as unknown as Int32Array, at, nowMs, 0);
  }

  insert(element: ElementWords, nowMs: number): number {
    const { words, at } = element;
    const found = this.search(words, at, nowMs, LEAVING_BIT);
    if (found >= 0) return INSERT_EXISTS - found;
    const number = this.take();
    const base = number * this.stride;
    const hash = jhash(words, this.keyBytes, this.seed, at);
    const head = hash & (this.heads.length - 1);
    this.words[base] = this.heads[head]! | (element.pending ? PENDING_BIT : 0);
    this.words[base + 1] = hash;
    for (let i = 0; i < this.stride - 2; i++) this.words[base + 2 + i] = words[at + i]!;
    this.heads[head] = number + 1;
    if (this.description.timeout) this.setExpiry(number, element.expiresMs, element.timeoutMs);
    this.count++;
    if (this.count > (this.buckets / 4) * 3) this.resize(2 * this.buckets);
    else this.widen();
    return number;
  }

  find(element: ElementWords, nowMs: number): number {
    return this.search(element.words, element.at, nowMs, LEAVING_BIT);
  }

  remove(element: number): void {
    const base = element * this.stride;
    const head = this.words[base + 1]! & (this.heads.length - 1);
    const next = this.words[base]! & LINK_BITS;
    let link = this.heads[head]!;
    if (link === element + 1) this.heads[head] = next;
    else {
      let before = (link - 1) * this.stride;
      while ((link = this.words[before]! & LINK_BITS) !== element + 1) before = (link - 1) * this.stride;
      this.words[before] = (this.words[before]! & ~LINK_BITS) | next;
    }
    this.words[base] = this.free;
    this.words[base + 1] = 0;
    this.free = element + 1;
    this.count--;
    // nft asks rhashtable to shrink by itself, down to what elements need at two thirds of load.
    if (this.count < Math.floor((this.buckets * 3) / 10) && this.buckets > MIN_BUCKETS) {
      const wanted = this.count === 0 ? 0 : roundUpToPowerOfTwo(Math.floor((this.count * 3) / 2));
      if (wanted < this.buckets) this.resize(Math.max(wanted, MIN_BUCKETS));
    }
  }

  setPending(element: number, pending: boolean): void {
    this.setBit(element, PENDING_BIT, pending);
  }

  setLeaving(element: number, leaving: boolean): void {
    this.setBit(element, LEAVING_BIT, leaving);
  }

  isPending(element: number): boolean {
    return (this.words[element * this.stride]! & PENDING_BIT) !== 0;
  }

  isLeaving(element: number): boolean {
    return (this.words[element * this.stride]! & LEAVING_BIT) !== 0;
  }

  key(element: number, word: number): number {
    return this.words[element * this.stride + 2 + word]!;
  }

  keyEnd(element: number, word: number): number {
    return this.key(element, word);
  }

  isIntervalEnd(): boolean {
    return false;
  }

  data(element: number, word: number): number {
    return this.words[element * this.stride + 2 + this.keyWords + word]!;
  }

  expiresMs(element: number): number {
    return this.expiry === undefined ? Infinity : this.expiry[element]!;
  }

  /** The timeout that the element brought; 0 for that of the set. */
  timeoutMs(element: number): number {
    return this.timeouts === undefined ? 0 : this.timeouts[element]!;
  }

  setExpiry(element: number, expiresMs: number, timeoutMs = 0): void {
    if (this.expiry === undefined || this.expiry.length <= element) {
      const capacity = this.words.length / this.stride;
      this.expiry = longer(this.expiry ?? new Float64Array(0), capacity);
      this.timeouts = longer(this.timeouts ?? new Float64Array(0), capacity);
    }
    this.expiry[element] = expiresMs;
    this.timeouts![element] = timeoutMs;
    if (expiresMs < this.earliestMs) this.earliestMs = expiresMs;
  }

  /** A rule deleted it: no lookup finds it any more, and the next collection takes it away. */
  kill(element: number): void {
    this.setExpiry(element, -1);
  }

  /** Take expired elements away; how many there were. The kernel does this every gc interval, by default a second. */
  collect(nowMs: number): number {
    if (this.earliestMs > nowMs || this.expiry === undefined) return 0;
    const expired: number[] = [];
    let earliest = Infinity;
    this.forEach((element) => {
      const at = this.expiry![element]!;
      if (at <= nowMs) expired.push(element);
      else if (at < earliest) earliest = at;
    });
    for (const element of expired) this.remove(element);
    this.earliestMs = earliest;
    return expired.length;
  }

  forEach(visit: (element: number) => void): void {
    if (this.heads.length < this.buckets) {
      for (const element of this.inBucketOrder()) visit(element);
      return;
    }
    for (let bucket = 0; bucket < this.heads.length; bucket++) {
      for (let link = this.heads[bucket]!; link !== 0;) {
        const next = this.words[(link - 1) * this.stride]! & LINK_BITS;
        visit(link - 1);
        link = next;
      }
    }
  }

  kernelBytes(): number {
    const expiry = this.description.timeout ? EXPIRY_BYTES : 0;
    const data = this.description.verdicts ? 16 : 4 * this.dataWords;
    return TABLE_BYTES + 8 * this.buckets + this.count * (ELEMENT_BYTES + 4 * this.keyWords + data + expiry);
  }

  private sameRest(words: Uint32Array | Int32Array, at: number, key: number): boolean {
    for (let i = 1; i < this.keyWords; i++) {
      if (this.words[key + i] !== (words[at + i]! | 0)) return false;
    }
    return true;
  }

  /** An element with the key at `at`, not expired and without any of the state bits `hidden`. */
  private search(words: Int32Array, at: number, nowMs: number, hidden: number): number {
    const hash = jhash(words, this.keyBytes, this.seed, at);
    const mask = this.buckets - 1;
    this.steps = 0;
    let link = this.heads[hash & (this.heads.length - 1)]!;
    while (link !== 0) {
      const base = (link - 1) * this.stride;
      const word = this.words[base]!;
      if (((this.words[base + 1]! ^ hash) & mask) === 0) {
        this.steps++;
        const found = this.words[base + 2] === (words[at]! | 0) && this.sameRest(words, at, base + 2);
        if (found && (word & hidden) === 0 && this.expiresMs(link - 1) > nowMs) return link - 1;
      }
      link = word & LINK_BITS;
    }
    return -1;
  }

  private take(): number {
    if (this.free !== 0) {
      const number = this.free - 1;
      this.free = this.words[number * this.stride]!;
      return number;
    }
    if ((this.used + 1) * this.stride > this.words.length) {
      const capacity = Math.max(1, this.used + (this.used >> 1), this.used + 1);
      this.words = longer(this.words, capacity * this.stride);
    }
    return this.used++;
  }

  private setBit(element: number, bit: number, on: boolean): void {
    const base = element * this.stride;
    this.words[base] = on ? this.words[base]! | bit : this.words[base]! & ~bit;
  }

  /** Move to a table of another size. Each chain is emptied from its tail, each element put at its new head. */
  private resize(buckets: number): void {
    const order = this.inBucketOrder();
    const oldBuckets = this.buckets;
    this.seed = jhash1(buckets, this.seed) | 0;
    this.buckets = buckets;
    this.rehash(order, oldBuckets - 1, true);
  }

  /** Chains of our own, when the kernel's table is far larger than needed: same buckets, same seed, same order. */
  private widen(): void {
    if (this.heads.length >= this.buckets || this.count <= 2 * this.heads.length) return;
    this.rehash(this.inBucketOrder(), this.buckets - 1, false);
  }

  private rehash(order: Int32Array, oldMask: number, reseeded: boolean): void {
    this.heads = new Int32Array(
      Math.min(this.buckets, roundUpToPowerOfTwo(Math.max(MIN_BUCKETS, 2 * this.count))),
    );
    const mask = this.heads.length - 1;
    // Of each old bucket the tail moves first; later buckets come to stand before earlier ones.
    for (let from = 0; from < order.length;) {
      let to = from + 1;
      const bucket = this.words[order[from]! * this.stride + 1]! & oldMask;
      while (to < order.length && (this.words[order[to]! * this.stride + 1]! & oldMask) === bucket) to++;
      for (let i = to - 1; i >= from; i--) {
        const base = order[i]! * this.stride;
        const hash = reseeded ? jhash(this.words, this.keyBytes, this.seed, base + 2) : this.words[base + 1]!;
        this.words[base] = (this.words[base]! & ~LINK_BITS) | this.heads[hash & mask]!;
        this.heads[hash & mask] = order[i]! + 1;
        this.words[base + 1] = hash;
      }
      from = to;
    }
  }

  /** All elements, bucket by bucket of the kernel's table, each chain from its head. */
  private inBucketOrder(): Int32Array {
    const order = new Int32Array(this.count);
    let n = 0;
    for (let head = 0; head < this.heads.length; head++) {
      for (let link = this.heads[head]!; link !== 0;) {
        order[n++] = link - 1;
        link = this.words[(link - 1) * this.stride]! & LINK_BITS;
      }
    }
    if (this.heads.length === this.buckets) return order;
    const mask = this.buckets - 1;
    const bucketOf = (element: number): number => this.words[element * this.stride + 1]! & mask;
    return order.sort((a, b) => bucketOf(a) - bucketOf(b));
  }
}
