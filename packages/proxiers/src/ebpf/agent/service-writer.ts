import type { Cluster } from '../../kubernetes/cluster.ts';
import type { HashMap } from '../maps/hash-map.ts';
import type { FlowMaps } from '../programs/flow-maps.ts';
import type { Frontend } from './frontends.ts';
import {
  ALGORITHM_DEFAULT,
  EXTERNAL,
  LOAD_BALANCER,
  masterUnion,
  SOURCE_RANGE,
  type ServiceMaps,
} from '../service-maps.ts';

/** bpf(2) on the service maps, one call each; whether the entries fit was settled when the sync was planned. */
export class ServiceWriter {
  readonly #maps: ServiceMaps;
  readonly #flows: FlowMaps;
  readonly #cluster: Cluster;
  readonly #node: number;
  readonly #wildcards: ReadonlySet<number>;
  readonly #claimed = new Set<number>();

  /** @param wildcards addresses that get an entry for all their other ports. */
  constructor(
    maps: ServiceMaps,
    flows: FlowMaps,
    cluster: Cluster,
    node: number,
    wildcards: ReadonlySet<number>,
  ) {
    this.#maps = maps;
    this.#flows = flows;
    this.#cluster = cluster;
    this.#node = node;
    this.#wildcards = wildcards;
  }

  hasWildcard(frontend: Frontend): boolean {
    return frontend.wildcard && this.#wildcards.has(frontend.address);
  }

  /** Whether the frontend's wildcard is not in the map yet, nor on its way there. */
  needsWildcard(frontend: Frontend): boolean {
    return this.hasWildcard(frontend) && !this.#claimed.has(frontend.address);
  }

  claimWildcard(frontend: Frontend): void {
    this.#claimed.add(frontend.address);
  }

  /** The last frontend of the address is going. */
  dropWildcard(frontend: Frontend): void {
    this.#claimed.delete(frontend.address);
  }

  writeBackend(id: number, row: number, protocol: number, state: number): void {
    const { endpoints, pods } = this.#cluster;
    const address = endpoints.address[row]!;
    const element = this.#maps.backend(id).update();
    this.#maps.writeBackend(element, address, endpoints.port[row]!, protocol, state);
    // The endpoint map is the endpoint manager's; here it learns of the pods that Services name.
    if (pods.node[endpoints.pod[row]!] === this.#node) {
      const local = this.#flows.endpoint(address).update();
      if (local >= 0) this.#flows.lxc.setValue(local, 0, row);
    }
  }

  deleteBackend(id: number): void {
    this.#maps.backend(id).remove();
  }

  /** Whether the backend may keep clients of the frontend. */
  hasPair({ revNat }: Frontend, id: number): boolean {
    return this.#maps.affinity(id, revNat).find() >= 0;
  }

  writePair({ revNat }: Frontend, id: number): void {
    this.#maps.affinity(id, revNat).update();
  }

  deletePair({ revNat }: Frontend, id: number): void {
    this.#maps.affinity(id, revNat).remove();
  }

  /** Slots carry their frontend's flags, too, but those of source ranges. */
  writeSlot(frontend: Frontend, slot: number, id: number, row: number): void {
    const element = this.#slot(frontend, slot).update();
    const flags = frontend.flags & ~SOURCE_RANGE;
    if (this.#maps.writeService(element, id, 0, frontend.revNat, flags, 0))
      this.#maps.setEndpoint(element, row);
  }

  deleteSlot(frontend: Frontend, slot: number): void {
    this.#slot(frontend, slot).remove();
  }

  writeTable({ revNat }: Frontend, ids: Uint32Array): void {
    this.#maps.maglevTable(revNat).update(ids);
  }

  deleteTable({ revNat }: Frontend): void {
    this.#maps.maglevTable(revNat).remove();
  }

  writeSourceRange({ revNat, sourceRanges }: Frontend, at: number): void {
    this.#maps.addSourceRange(revNat, sourceRanges[at]!);
  }

  deleteSourceRange({ revNat, sourceRanges }: Frontend, at: number): void {
    this.#maps.removeSourceRange(revNat, sourceRanges[at]!);
  }

  writeReverse({ revNat, address, port }: Frontend): void {
    this.#maps.writeReverse(this.#maps.reverse(revNat).update(), address, port);
  }

  deleteReverse({ revNat }: Frontend): void {
    this.#maps.reverse(revNat).remove();
  }

  writeMaster(frontend: Frontend, count: number, queued: number): void {
    const { revNat, flags, affinityS } = frontend;
    const element = this.#slot(frontend, 0).update();
    this.#maps.writeService(element, masterUnion(ALGORITHM_DEFAULT, affinityS), count, revNat, flags, queued);
  }

  /** Of its flags only the type, as several frontends may share the entry. */
  writeWildcard({ address, flags }: Frontend): void {
    const element = this.#wildcard(address).update();
    this.#maps.writeService(element, 0, 0, 0, flags & LOAD_BALANCER, 0);
  }

  deleteWildcard({ address }: Frontend): void {
    this.#wildcard(address).remove();
  }

  #wildcard(address: number): HashMap {
    return this.#maps.service(address, 0, 0, 0, EXTERNAL);
  }

  #slot(frontend: Frontend, slot: number): HashMap {
    return this.#maps.service(frontend.address, frontend.port, slot, frontend.protocol, frontend.scope);
  }
}
