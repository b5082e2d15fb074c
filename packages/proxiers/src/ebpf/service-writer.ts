import type { Cluster } from '../kubernetes/cluster.ts';
import type { HashMap } from './hash-map.ts';
import type { FlowMaps } from './flow-maps.ts';
import type { Frontend } from './frontends.ts';
import { EXTERNAL, type ServiceMaps } from './service-maps.ts';

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

  writeSlot(frontend: Frontend, slot: number, id: number, row: number): void {
    const element = this.#slot(frontend, slot).update();
    if (this.#maps.writeService(element, id, 0, frontend.revNat, 0, 0)) this.#maps.setEndpoint(element, row);
  }

  deleteSlot(frontend: Frontend, slot: number): void {
    this.#slot(frontend, slot).remove();
  }

  writeMaster(frontend: Frontend, count: number, queued: number): void {
    const { address, port, revNat, flags, affinityS } = frontend;
    this.#maps.writeReverse(this.#maps.reverse(revNat).update(), address, port);
    const element = this.#slot(frontend, 0).update();
    this.#maps.writeService(element, affinityS & 0xffffff, count, revNat, flags, queued);
  }

  writeWildcard(frontend: Frontend): void {
    if (!this.hasWildcard(frontend)) return;
    const element = this.#maps.service(frontend.address, 0, 0, 0, EXTERNAL).update();
    this.#maps.writeService(element, 0, 0, 0, frontend.flags, 0);
  }

  #slot(frontend: Frontend, slot: number): HashMap {
    return this.#maps.service(frontend.address, frontend.port, slot, frontend.protocol, frontend.scope);
  }
}
