import { swap16, swap32, type Stream } from '@vipsim/sim-core';
import type { MapSpec } from './buckets.ts';
import { FULL, HashMap } from './hash-map.ts';

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

/** Backend states. */
export const BACKEND_ACTIVE = 0;
export const BACKEND_TERMINATING = 1;

/** Cilium's default of bpf-lb-map-max. */
export const LB_MAP_DEFAULT = 65_536;

const spec = (
  name: string,
  keyBytes: number,
  valueBytes: number,
  valueWords: number,
): Omit<MapSpec, 'maxEntries'> => ({
  name,
  keyBytes,
  valueBytes,
  valueWords,
});

/**
 * The maps that the agent writes and every program reads. Slot 0 of a frontend is its master (how many backends,
 * which flags); slots from 1 name backends by id.
 * Layouts, in memory order:
 *   services     address 4, port 2 (network order), slot 2, protocol 1, scope 1, pad 2
 *             →  backend id 4, count 2, reverse NAT id 2 (network order), flags 1, flags 1, quarantined count 2
 *   backends     id 4 → address 4, port 2 (network order), protocol 1, state 1, cluster id 2, zone 1, pad 1
 *   reverse NAT  id 2 (network order) → address 4, port 2 (network order)
 * Source: bpf/lib/lb.h, pkg/loadbalancer/maps/types.go.
 * A slot also remembers which endpoint row it stands for, beside the kernel's 12 bytes.
 */
export class ServiceMaps {
  readonly services: HashMap;
  readonly backends: HashMap;
  readonly reverseNat: HashMap;

  /** @param maxEntries bpf-lb-map-max, the limit of each. @param seeds of the maps' hashes, as get_random_u32 gives them. */
  constructor(maxEntries: number, seeds: Stream) {
    this.services = new HashMap({ ...spec('cilium_lb4_services_v2', 12, 12, 4), maxEntries }, seeds.uint32());
    this.backends = new HashMap({ ...spec('cilium_lb4_backends_v3', 4, 12, 3), maxEntries }, seeds.uint32());
    this.reverseNat = new HashMap({ ...spec('cilium_lb4_reverse_nat', 2, 6, 2), maxEntries }, seeds.uint32());
  }

  get maxEntries(): number {
    return this.services.maxEntries;
  }

  enlarge(maxEntries: number): void {
    this.services.enlarge(maxEntries);
    this.backends.enlarge(maxEntries);
    this.reverseNat.enlarge(maxEntries);
  }

  /** Set the key of `services`. */
  service(address: number, port: number, slot: number, protocol: number, scope: number): HashMap {
    const { key } = this.services;
    key[0] = swap32(address);
    key[1] = swap16(port) | (slot << 16);
    key[2] = protocol | (scope << 8);
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

  backendId(element: number): number {
    return this.services.value(element, 0);
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
