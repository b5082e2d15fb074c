import { EndpointRows } from '../programs/endpoint-rows.ts';
import type { Cluster } from '../../kubernetes/cluster.ts';
import type { FrontendEndpoints } from './connection-scan.ts';
import type { Frontend } from './frontends.ts';
import { ANY_NODE } from './nat-maps.ts';

/**
 * Which endpoints each frontend has, for the scan of connections: the ready ones and those that terminate, as of the
 * last sync. A node port that is nobody's here may be another node's.
 * Source: ConntrackFrontendHasBackend, felix/bpf/proxy/syncer.go.
 */
export class ActiveEndpoints implements FrontendEndpoints {
  readonly #rows: EndpointRows;
  /** By protocol, then by address × 65536 + port: the service port. */
  readonly #services = new Map<number, Map<number, number>>();
  #active = new Uint8Array(64);

  constructor(cluster: Cluster) {
    this.#rows = new EndpointRows(cluster.endpoints);
  }

  addFrontend({ address, port, protocol }: Frontend, servicePort: number): void {
    let services = this.#services.get(protocol);
    if (services === undefined) this.#services.set(protocol, (services = new Map()));
    services.set(address * 65_536 + port, servicePort);
  }

  set(row: number, active: boolean): void {
    if (row >= this.#active.length) {
      const wider = new Uint8Array(Math.max(row + 1, this.#active.length * 2));
      wider.set(this.#active);
      this.#active = wider;
    }
    this.#active[row] = active ? 1 : 0;
  }

  isActive(row: number): boolean {
    return row >= 0 && row < this.#active.length && this.#active[row] === 1;
  }

  has(address: number, port: number, protocol: number, endpoint: number, endpointPort: number): boolean {
    const services = this.#services.get(protocol);
    const servicePort = services?.get(address * 65_536 + port) ?? services?.get(ANY_NODE * 65_536 + port);
    if (servicePort === undefined) return false;
    return this.isActive(this.#rows.rowOf(servicePort, endpoint, endpointPort));
  }
}
