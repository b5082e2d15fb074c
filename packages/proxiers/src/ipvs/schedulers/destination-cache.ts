import { longer } from '@vipsim/sim-core';
import { hash32 } from './hash-32.ts';

const NONE = -1;
const BITS = 10;
const BUCKETS = 1024;
const SECOND_NS = 1_000_000_000;
/** net/ipv4/vs/lblc_expiration, lblcr_expiration. */
export const CACHE_EXPIRATION_NS = 86_400 * SECOND_NS;
const CHECK_NS = 60 * SECOND_NS;
/** Every so many checks in a row without a collection, all entries are looked at. */
const CHECKS_TO_FULL = 30;
/** Idle for so long, an entry may go when there are too many. */
const IDLE_NS = 360 * SECOND_NS;
const ENTRIES_MAX = 16 * BUCKETS;
/** With half as many again no more are taken. */
const REFUSED_FROM = ENTRIES_MAX + ENTRIES_MAX / 2;

/** Of one virtual server. */
interface Table {
  readonly heads: Int32Array;
  entries: number;
  /** The bucket where the last collection stopped. */
  rover: number;
  checks: number;
  nextCheckNs: number;
}

/**
 * What lblc and lblcr remember by destination address: for each virtual server 1024 chains, the newest entry
 * first. A timer looks once a minute: usually at the number of entries alone; if there are more than 16,384, it
 * goes on through the buckets and drops entries idle for six minutes until a third more than the excess, at most
 * 8,192, is gone; at each thirtieth look it drops all entries that were idle for the expiration, a day.
 * The timers run when the cache is next looked at, as of the times when they were due: nothing else sees it.
 * Source: net/netfilter/ipvs/ip_vs_lblc.c, ip_vs_lblcr.c. The bound on new entries is that of 6.1.192.
 */
export class DestinationCache {
  /** Chain entries compared since the caller last set it to zero. */
  probes = 0;
  lastUseNs: Float64Array = new Float64Array(16);
  readonly #expirationNs: number;
  readonly #fold: (address: number) => number;
  /** Told of each entry before it goes. */
  readonly #forget: (entry: number) => void;
  readonly #tables: (Table | undefined)[] = [];
  readonly #startNs: number[] = [];
  #address: Uint32Array = new Uint32Array(16);
  #next: Int32Array = new Int32Array(16);
  readonly #free: number[] = [];
  #rows = 0;

  constructor(
    forget: (entry: number) => void,
    expirationNs: number = CACHE_EXPIRATION_NS,
    fold: (address: number) => number = (address) => address,
  ) {
    this.#forget = forget;
    this.#expirationNs = expirationNs;
    this.#fold = fold;
  }

  /** Entries of a virtual server now. */
  entries(service: number): number {
    return this.#tables[service]?.entries ?? 0;
  }

  started(service: number, nowNs: number): void {
    this.stopped(service);
    this.#startNs[service] = nowNs;
  }

  stopped(service: number): void {
    const table = this.#tables[service];
    if (table === undefined) return;
    for (let bucket = 0; bucket < BUCKETS; bucket++) this.#drop(table, bucket, Infinity);
    this.#tables[service] = undefined;
  }

  /** The entry of an address, which counts as used now; -1 without. */
  find(service: number, address: number, nowNs: number): number {
    const table = this.#tables[service];
    if (table === undefined) return NONE;
    this.#runTimer(table, nowNs);
    let at = table.heads[this.#bucket(address)]!;
    while (at !== NONE) {
      this.probes++;
      if (this.#address[at] === address) {
        this.lastUseNs[at] = nowNs;
        return at;
      }
      at = this.#next[at]!;
    }
    return NONE;
  }

  /** An entry for an address that `find` did not find; -1 where there are too many. */
  add(service: number, address: number, nowNs: number): number {
    const table = (this.#tables[service] ??= newTable(this.#startNs[service] ?? 0, nowNs));
    if (table.entries >= REFUSED_FROM) return NONE;
    const at = this.#free.pop() ?? this.#rows++;
    if (at === this.#address.length) this.#grow(at * 2);
    const bucket = this.#bucket(address);
    this.#address[at] = address;
    this.lastUseNs[at] = nowNs;
    this.#next[at] = table.heads[bucket]!;
    table.heads[bucket] = at;
    table.entries++;
    return at;
  }

  /** Put an entry before the others of its chain, as if it were new. */
  toFront(service: number, entry: number): void {
    const { heads } = this.#tables[service]!;
    const bucket = this.#bucket(this.#address[entry]!);
    const first = heads[bucket]!;
    if (first === entry) return;
    let before = first;
    while (this.#next[before] !== entry) before = this.#next[before]!;
    this.#next[before] = this.#next[entry]!;
    this.#next[entry] = first;
    heads[bucket] = entry;
  }

  #bucket(address: number): number {
    return hash32(this.#fold(address), BITS);
  }

  #runTimer(table: Table, nowNs: number): void {
    for (; table.nextCheckNs <= nowNs; table.nextCheckNs += CHECK_NS) {
      if (table.checks % CHECKS_TO_FULL === 0) {
        table.checks = 1;
        this.#sweep(table, table.nextCheckNs - this.#expirationNs, Infinity);
      } else if (table.entries <= ENTRIES_MAX) {
        table.checks++;
      } else {
        const wanted = Math.trunc(((table.entries - ENTRIES_MAX) * 4) / 3);
        this.#sweep(table, table.nextCheckNs - IDLE_NS, Math.min(wanted, ENTRIES_MAX / 2));
      }
    }
  }

  /** Bucket by bucket from behind the rover, drop what was last used by `lastNs`, until `goal` are gone. */
  #sweep(table: Table, lastNs: number, goal: number): void {
    for (let seen = 0; seen < BUCKETS && goal > 0; seen++) {
      table.rover = (table.rover + 1) & (BUCKETS - 1);
      goal -= this.#drop(table, table.rover, lastNs);
    }
  }

  /** Drop the entries of a bucket that were last used by `lastNs`; returns how many. */
  #drop(table: Table, bucket: number, lastNs: number): number {
    let dropped = 0;
    let kept = NONE;
    let next = NONE;
    for (let at = table.heads[bucket]!; at !== NONE; at = next) {
      next = this.#next[at]!;
      if (this.lastUseNs[at]! > lastNs) {
        kept = at;
        continue;
      }
      if (kept === NONE) table.heads[bucket] = next;
      else this.#next[kept] = next;
      this.#forget(at);
      this.#free.push(at);
      dropped++;
    }
    table.entries -= dropped;
    return dropped;
  }

  #grow(capacity: number): void {
    this.lastUseNs = longer(this.lastUseNs, capacity);
    this.#address = longer(this.#address, capacity);
    this.#next = longer(this.#next, capacity);
  }
}

/** Of a virtual server started at `startNs`. Until its first entry, now, each look only counted. */
function newTable(startNs: number, nowNs: number): Table {
  const past = Math.max(0, Math.floor((nowNs - startNs) / CHECK_NS));
  // Counts 1, 2, … 30, and at the look with 30, the full one, on with 1.
  const checks = (past % CHECKS_TO_FULL) + 1;
  return {
    heads: new Int32Array(BUCKETS).fill(NONE),
    entries: 0,
    rover: 0,
    checks,
    nextCheckNs: startNs + (past + 1) * CHECK_NS,
  };
}
