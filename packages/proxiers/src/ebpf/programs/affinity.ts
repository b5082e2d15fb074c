import type { FlowMaps } from './flow-maps.ts';
import type { LruHashMap } from '../maps/lru-hash-map.ts';
import { AFFINITY_DELETE, AFFINITY_LOOKUP, AFFINITY_UPDATE } from '../operations.ts';
import type { Walk } from './walk.ts';

// Words of a value.
const LAST_USED = 0;
const BACKEND = 1;

/**
 * Clients that stick to a backend (sessionAffinity: ClientIP), frontend by frontend.
 * Models: the entry, refreshed in place when it serves; its end at the timeout, that instant not included; the pair
 * that the agent keeps while the backend is active; deletion of an entry that no longer holds.
 * Source: __lb4_affinity_backend_id and __lb4_update_affinity, bpf/lib/lb.h. A client is its address where packets are
 * balanced, and its network namespace at sockets: the two never meet.
 */
export class Affinity {
  readonly #walk: Walk;
  readonly #flows: FlowMaps;

  constructor(walk: Walk) {
    this.#walk = walk;
    this.#flows = walk.flows;
  }

  /** The backend of a client address, 0 for none. @param seconds a stay without use ends after. */
  ofAddress(address: number, revNat: number, seconds: number): number {
    return this.#lookup(this.#flows.affinityOfAddress(address, revNat), revNat, seconds);
  }

  /** The backend of a network namespace, 0 for none. */
  ofNetns(cookie: number, revNat: number, seconds: number): number {
    return this.#lookup(this.#flows.affinityOfNetns(cookie, revNat), revNat, seconds);
  }

  keepAddress(address: number, revNat: number, backend: number): void {
    this.#keep(this.#flows.affinityOfAddress(address, revNat), backend);
  }

  keepNetns(cookie: number, revNat: number, backend: number): void {
    this.#keep(this.#flows.affinityOfNetns(cookie, revNat), backend);
  }

  #lookup(map: LruHashMap, revNat: number, seconds: number): number {
    const walk = this.#walk;
    const element = walk.lookup(map, AFFINITY_LOOKUP);
    if (element < 0) return 0;
    const backend = map.value(element, BACKEND);
    if (map.value(element, LAST_USED) + seconds <= walk.nowS || !walk.affinityMatch(backend, revNat)) {
      walk.remove(map, AFFINITY_DELETE);
      return 0;
    }
    map.setValue(element, LAST_USED, walk.nowS);
    return backend;
  }

  #keep(map: LruHashMap, backend: number): void {
    const element = this.#walk.update(map, AFFINITY_UPDATE, false);
    if (element < 0) return;
    map.setValue(element, LAST_USED, this.#walk.nowS);
    map.setValue(element, BACKEND, backend);
  }
}
