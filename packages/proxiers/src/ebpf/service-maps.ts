import { swap16, swap32, type Cidr, type Stream } from '@vipsim/sim-core';
import type { TableSize } from '../proxier.ts';
import { elementBytes, nextPowerOfTwo, type MapSpec } from './maps/buckets.ts';
import { FULL, HashMap } from './maps/hash-map.ts';
import { HashOfMaps } from './maps/hash-of-maps.ts';
import { LpmTrie } from './maps/lpm-trie.ts';

/** Scopes of a frontend: reached from anywhere, or from inside the cluster when the two policies differ. */
export const EXTERNAL = 0;
export const INTERNAL = 1;

/** Service flags, first byte. */
export const EXTERNAL_IP = 0x01;
export const NODE_PORT = 0x02;
export const EXTERNAL_LOCAL = 0x04;
export const AFFINITY = 0x10;
export const LOAD_BALANCER = 0x20;
export const ROUTABLE = 0x40;
export const SOURCE_RANGE = 0x80;
/** Service flags, second byte. */
export const INTERNAL_LOCAL = 0x10;
export const TWO_SCOPES = 0x20;
export const FORWARD_DSR = 0x80;

/** Backend states. */
export const BACKEND_ACTIVE = 0;
export const BACKEND_TERMINATING = 1;

/** Who chooses, in the upper byte of a master's union: 0 leaves it to bpf-lb-algorithm. */
export const ALGORITHM_DEFAULT = 0;
export const ALGORITHM_RANDOM = 1;
export const ALGORITHM_MAGLEV = 2;

/** Cilium's default of bpf-lb-map-max. */
export const LB_MAP_DEFAULT = 65_536;

const AFFINITY_SECONDS_MAX = 0xffffff;
/** Bits of a source range's key before its address: the reverse NAT id and padding. */
const STATIC_PREFIX = 32;
/** struct bpf_array, before the value of a Maglev table's inner map: 65,840 bytes in all at 16,381 slots. */
const INNER_MAP_BYTES = 312;

export interface ServiceMapsOptions {
  /** Without it the hash maps take memory entry by entry (BPF_F_NO_PREALLOC). */
  readonly preallocated?: boolean;
  /** Without it all protocols of a port share a key. */
  readonly protocolInKey?: boolean;
  /** Slots of a Maglev table. */
  readonly maglevTableSize?: number;
  /** CPUs that the node could have: maps keep free entries for each. */
  readonly cpus?: number;
}

const SERVICES = { name: 'cilium_lb4_services_v2', keyBytes: 12, valueBytes: 12, valueWords: 4 };
const BACKENDS = { name: 'cilium_lb4_backends_v3', keyBytes: 4, valueBytes: 12, valueWords: 3 };
const REVERSE_NAT = { name: 'cilium_lb4_reverse_nat', keyBytes: 2, valueBytes: 6, valueWords: 2 };
const AFFINITY_MATCH = { name: 'cilium_lb_affinity_match', keyBytes: 8, valueBytes: 1, valueWords: 0 };
const SOURCE_RANGES = { name: 'cilium_lb4_source_range', keyBytes: 12, valueBytes: 1, valueWords: 0 };
const MAGLEV = { name: 'cilium_lb4_maglev', keyBytes: 2, valueBytes: 4, valueWords: 0 };

/** By the member that holds them. */
export const SERVICE_MAP_NAMES = {
  services: SERVICES.name,
  backends: BACKENDS.name,
  reverseNat: REVERSE_NAT.name,
  affinityMatch: AFFINITY_MATCH.name,
  sourceRanges: SOURCE_RANGES.name,
  maglev: MAGLEV.name,
} as const;

/**
 * The maps that the agent writes and every program reads. Slot 0 of a frontend is its master (how many backends,
 * which flags); slots from 1 name backends by id.
 * Layouts, in memory order:
 *   services        address 4, port 2 (network order), slot 2, protocol 1, scope 1, pad 2
 *                →  union 4, count 2, reverse NAT id 2 (network order), flags 1, flags 1, quarantined count 2
 *                   union: a slot's backend id; a master's algorithm (8 bits) and seconds of affinity (24 bits)
 *   backends        id 4 → address 4, port 2 (network order), protocol 1, state 1, cluster id 2, zone 1, pad 1
 *   reverse NAT     id 2 (network order) → address 4, port 2 (network order)
 *   affinity match  backend id 4, reverse NAT id 2 (network order), pad 2 → presence
 *   source ranges   prefix length 4, reverse NAT id 2 (network order), pad 2, address 4 → presence
 *   Maglev          reverse NAT id 2 (network order) → array map of one value: M backend ids
 * Source: bpf/lib/lb.h, pkg/loadbalancer/maps/types.go.
 * A slot also remembers which endpoint row it stands for, beside the kernel's 12 bytes.
 */
export class ServiceMaps {
  readonly services: HashMap;
  readonly backends: HashMap;
  readonly reverseNat: HashMap;
  readonly affinityMatch: HashMap;
  readonly sourceRanges: LpmTrie;
  readonly maglev: HashOfMaps<Uint32Array>;
  readonly #protocolMask: number;
  readonly #preallocated: boolean;
  readonly #tableSize: number;

  /** @param maxEntries bpf-lb-map-max, the limit of each. @param seeds of the maps' hashes, as get_random_u32 gives them. */
  constructor(maxEntries: number, seeds: Stream, options: ServiceMapsOptions = {}) {
    const preallocated = options.preallocated ?? false;
    const hash = (spec: Omit<MapSpec, 'maxEntries'>): HashMap =>
      new HashMap({ ...spec, maxEntries }, seeds.uint32(), preallocated, options.cpus ?? 1);
    this.services = hash(SERVICES);
    this.backends = hash(BACKENDS);
    this.reverseNat = hash(REVERSE_NAT);
    this.affinityMatch = hash(AFFINITY_MATCH);
    this.sourceRanges = new LpmTrie({ ...SOURCE_RANGES, maxEntries });
    this.#protocolMask = (options.protocolInKey ?? true) ? 0xff : 0;
    this.#preallocated = preallocated;
    const tableSize = options.maglevTableSize ?? 16_381;
    this.#tableSize = tableSize;
    this.maglev = new HashOfMaps({ ...MAGLEV, maxEntries }, seeds.uint32(), {
      fits: (table) => table.length === tableSize,
    });
  }

  get maxEntries(): number {
    return this.services.maxEntries;
  }

  /** But for the trie of source ranges, whose entries are known before it is made. */
  enlarge(maxEntries: number): void {
    this.services.enlarge(maxEntries);
    this.backends.enlarge(maxEntries);
    this.reverseNat.enlarge(maxEntries);
    this.affinityMatch.enlarge(maxEntries);
    this.maglev.enlarge(maxEntries);
  }

  /** Every map that holds anything, or could, with its limit; Maglev with its inner maps. */
  tables(): readonly TableSize[] {
    const { services, backends, reverseNat, affinityMatch, sourceRanges, maglev } = this;
    const tables = [services, backends, reverseNat].map((map) => tableOf(map, map.maxEntries, map.spec.name));
    if (affinityMatch.count > 0)
      tables.push(tableOf(affinityMatch, affinityMatch.maxEntries, AFFINITY_MATCH.name));
    if (sourceRanges.count > 0)
      tables.push(tableOf(sourceRanges, sourceRanges.maxEntries, SOURCE_RANGES.name));
    if (maglev.count > 0) {
      const outer = tableOf(maglev, this.maxEntries, MAGLEV.name);
      tables.push({ ...outer, bytes: outer.bytes + maglev.count * this.innerBytes });
    }
    return tables;
  }

  /** Kernel memory of one Maglev table's array map. */
  get innerBytes(): number {
    return INNER_MAP_BYTES + Math.ceil((this.#tableSize * 4) / 8) * 8;
  }

  /** Kernel memory of the services map if it were made for `maxEntries` and held `entries`. */
  servicesBytes(maxEntries: number, entries: number): number {
    const elements = this.#preallocated ? maxEntries : entries;
    return nextPowerOfTwo(maxEntries) * 16 + elements * elementBytes({ ...SERVICES, maxEntries });
  }

  /** Set the key of `services`. */
  service(address: number, port: number, slot: number, protocol: number, scope: number): HashMap {
    const { key } = this.services;
    key[0] = swap32(address);
    key[1] = swap16(port) | (slot << 16);
    key[2] = (protocol & this.#protocolMask) | (scope << 8);
    return this.services;
  }

  backend(id: number): HashMap {
    this.backends.key[0] = id;
    return this.backends;
  }

  reverse(id: number): HashMap {
    this.reverseNat.key[0] = swap16(id);
    return this.reverseNat;
  }

  /** Set the key of `affinityMatch`. */
  affinity(backend: number, revNat: number): HashMap {
    this.affinityMatch.key[0] = backend;
    this.affinityMatch.key[1] = swap16(revNat);
    return this.affinityMatch;
  }

  /** Set the key of `sourceRanges`: a client's address, or a range's. */
  sourceRange(revNat: number, address: number): LpmTrie {
    this.sourceRanges.key[0] = (revNat << 16) >>> 0;
    this.sourceRanges.key[1] = address;
    return this.sourceRanges;
  }

  /** False when the map is full: ENOSPC. */
  addSourceRange(revNat: number, { address, prefix }: Cidr): boolean {
    return this.sourceRange(revNat, address).update(STATIC_PREFIX + prefix) !== FULL;
  }

  removeSourceRange(revNat: number, { address, prefix }: Cidr): void {
    this.sourceRange(revNat, address).remove(STATIC_PREFIX + prefix);
  }

  /** Set the key of `maglev`. */
  maglevTable(revNat: number): HashOfMaps<Uint32Array> {
    this.maglev.key[0] = swap16(revNat);
    return this.maglev;
  }

  /** Fill a service entry that `service(...).update()` gave. False if it gave none: E2BIG. */
  writeService(
    element: number,
    union: number,
    count: number,
    revNat: number,
    flags: number,
    queued: number,
  ): boolean {
    if (element === FULL) return false;
    this.services.setValue(element, 0, union);
    this.services.setValue(element, 1, count | (swap16(revNat) << 16));
    this.services.setValue(element, 2, flags | (queued << 16));
    this.services.setValue(element, 3, 0);
    return true;
  }

  writeBackend(element: number, address: number, port: number, protocol: number, state: number): boolean {
    if (element === FULL) return false;
    this.backends.setValue(element, 0, swap32(address));
    this.backends.setValue(element, 1, swap16(port) | (protocol << 16) | (state << 24));
    this.backends.setValue(element, 2, 0);
    return true;
  }

  writeReverse(element: number, address: number, port: number): boolean {
    if (element === FULL) return false;
    this.reverseNat.setValue(element, 0, swap32(address));
    this.reverseNat.setValue(element, 1, swap16(port));
    return true;
  }

  count(element: number): number {
    return this.services.value(element, 1) & 0xffff;
  }

  queuedCount(element: number): number {
    return this.services.value(element, 2) >>> 16;
  }

  revNat(element: number): number {
    return swap16(this.services.value(element, 1) >>> 16);
  }

  /** Both flag bytes: the second one shifted left by 8. */
  flags(element: number): number {
    return this.services.value(element, 2) & 0xffff;
  }

  /** First word of a value: a slot's backend id. */
  backendId(element: number): number {
    return this.services.value(element, 0);
  }

  /** Of a master: ALGORITHM_DEFAULT, ALGORITHM_RANDOM or ALGORITHM_MAGLEV. */
  algorithm(element: number): number {
    return this.services.value(element, 0) >>> 24;
  }

  /** Of a master: how long a client keeps its backend. */
  affinitySeconds(element: number): number {
    return this.services.value(element, 0) & AFFINITY_SECONDS_MAX;
  }

  setEndpoint(element: number, row: number): void {
    this.services.setValue(element, 3, row + 1);
  }

  /** The endpoint row behind a slot, -1 for a master. */
  endpoint(element: number): number {
    return this.services.value(element, 3) - 1;
  }

  backendAddress(element: number): number {
    return swap32(this.backends.value(element, 0));
  }

  backendPort(element: number): number {
    return swap16(this.backends.value(element, 1) & 0xffff);
  }

  backendProtocol(element: number): number {
    return (this.backends.value(element, 1) >>> 16) & 0xff;
  }

  backendState(element: number): number {
    return this.backends.value(element, 1) >>> 24;
  }

  reverseAddress(element: number): number {
    return swap32(this.reverseNat.value(element, 0));
  }

  reversePort(element: number): number {
    return swap16(this.reverseNat.value(element, 1));
  }
}

/** The first word of a master's value. */
export function masterUnion(algorithm: number, affinityS: number): number {
  return ((algorithm << 24) | (affinityS & AFFINITY_SECONDS_MAX)) >>> 0;
}

function tableOf(
  map: { readonly count: number; bytes(): number },
  maxEntries: number,
  name: string,
): TableSize {
  return { name: `${name} (max ${maxEntries})`, entries: map.count, bytes: map.bytes() };
}
