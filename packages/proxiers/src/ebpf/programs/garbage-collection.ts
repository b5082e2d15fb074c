import { swap16, swap32 } from '@vipsim/sim-core';
import type { Counts } from '../../cost/operations.ts';
import type { ConnectionTracking, Tuple } from './connection-tracking.ts';
import { TUPLE_IN, type FlowMaps } from './flow-maps.ts';
import { GC_MAX_NS, GC_START_NS, nextGcInterval } from './gc-interval.ts';
import type { LruHashMap } from '../maps/lru-hash-map.ts';
import { EBPF_OPERATIONS, GC_ENTRY, SYSCALL_DELETE, SYSCALL_LOOKUP, SYSCALL_MISSING } from '../operations.ts';
import type { SourceNat } from './source-nat.ts';

const SECOND = 1_000_000_000;

export interface GarbageCollectionOptions {
  /** conntrack-gc-interval in ns; 0 adapts it. */
  readonly gcInterval: number;
  /** conntrack-gc-max-interval in ns; 0 for 12 hours. */
  readonly gcMaxInterval: number;
}

/**
 * The agent's sweep of the conntrack maps: the one place where an entry's lifetime ends it.
 * Models: the interval that adapts to what was deleted, its limits; a pass at once when a program signals that an
 * insert failed or that ports are scarce, which also takes translations without a connection, and which never puts the
 * next full pass off; each connection's translations deleted with it. The agent skips passes while it has no endpoints;
 * the host's own is one, so a node that runs is never without.
 * Counts the entries dumped key by key and the system calls of deletions.
 * Source: pkg/maps/ctmap/gc/gc.go, GetInterval and PurgeOrphanNATEntries of pkg/maps/ctmap/ctmap.go.
 * Not modelled: the time that a pass takes; the count of entries for pressure metrics every 30 seconds. The engine
 * asks every virtual second, so "at once" is within one.
 */
export class GarbageCollection {
  intervalNs: number;
  passes = 0;
  /** What the agent did when it was last asked: zeros unless a pass ran. */
  readonly counts: Counts = new Float64Array(EBPF_OPERATIONS.length);
  readonly #flows: FlowMaps;
  readonly #tracking: ConnectionTracking;
  readonly #sourceNat: SourceNat;
  readonly #options: GarbageCollectionOptions;
  readonly #tuple: Tuple = { source: 0, destination: 0, sourcePort: 0, destinationPort: 0 };
  #lastNs = 0;
  #nextNs: number;

  constructor(
    flows: FlowMaps,
    tracking: ConnectionTracking,
    sourceNat: SourceNat,
    options: GarbageCollectionOptions,
  ) {
    this.#flows = flows;
    this.#tracking = tracking;
    this.#sourceNat = sourceNat;
    this.#options = options;
    this.intervalNs = this.#limited(GC_START_NS);
    this.#nextNs = this.intervalNs;
  }

  /** Sweep if it is time, or if a program `signalled`. */
  run(nowNs: number, signalled: boolean): void {
    this.counts.fill(0);
    const due = nowNs >= this.#nextNs;
    if (!due && !signalled) return;
    const nowS = Math.floor(nowNs / SECOND);
    const { ctTcp, ctAny } = this.#flows;
    const ratio = Math.max(this.#sweep(ctTcp, nowS), this.#sweep(ctAny, nowS));
    if (signalled) this.#purgeOrphans();
    this.passes++;
    this.intervalNs = this.#limited(nextGcInterval(this.intervalNs, ratio, nowNs - this.#lastNs));
    this.#lastNs = nowNs;
    const nextNs = nowNs + this.intervalNs;
    this.#nextNs = due ? nextNs : Math.min(this.#nextNs, nextNs);
  }

  #limited(intervalNs: number): number {
    const { gcInterval, gcMaxInterval } = this.#options;
    return gcInterval !== 0 ? gcInterval : Math.min(intervalNs, gcMaxInterval || GC_MAX_NS);
  }

  /** Delete what has outlived its lifetime. Returns deleted ÷ size of the map. */
  #sweep(map: LruHashMap, nowS: number): number {
    let deleted = 0;
    this.counts[GC_ENTRY]! += map.count;
    for (let element = 0; element < map.used; element++) {
      if (!map.live(element) || this.#tracking.lifetimeS(map, element) >= nowS) continue;
      this.#deleteTranslations(map, element);
      map.loadKey(element);
      map.remove();
      deleted++;
    }
    this.counts[SYSCALL_DELETE]! += deleted;
    return deleted / map.spec.maxEntries;
  }

  #deleteTranslations(map: LruHashMap, element: number): void {
    const tuple = this.#tuple;
    const ports = map.keyWord(element, 2);
    tuple.destination = swap32(map.keyWord(element, 0));
    tuple.source = swap32(map.keyWord(element, 1));
    tuple.sourcePort = swap16(ports & 0xffff);
    tuple.destinationPort = swap16(ports >>> 16);
    const deleted = this.#sourceNat.purge(tuple, map.keyWord(element, 3) & 0xff);
    this.counts[deleted === 0 ? SYSCALL_MISSING : SYSCALL_LOOKUP]! += 1;
    this.counts[SYSCALL_DELETE]! += deleted;
  }

  /** Delete translations of which no connection is known. */
  #purgeOrphans(): void {
    const map = this.#flows.snat;
    const tuple = this.#tuple;
    this.counts[GC_ENTRY]! += map.count;
    this.counts[SYSCALL_LOOKUP]! += map.count;
    for (let element = 0; element < map.used; element++) {
      if (!map.live(element)) continue;
      const ports = map.keyWord(element, 2);
      const rest = map.keyWord(element, 3);
      const answers = rest >>> 8 === TUPLE_IN;
      tuple.source = swap32(answers ? map.value(element, 0) : map.keyWord(element, 1));
      tuple.sourcePort = swap16(answers ? map.value(element, 1) : ports >>> 16);
      tuple.destination = swap32(map.keyWord(element, answers ? 1 : 0));
      tuple.destinationPort = swap16(answers ? ports >>> 16 : ports & 0xffff);
      if (this.#tracking.isKnown(tuple, rest & 0xff)) continue;
      map.loadKey(element);
      map.remove();
      this.counts[SYSCALL_DELETE]! += 1;
    }
  }
}
