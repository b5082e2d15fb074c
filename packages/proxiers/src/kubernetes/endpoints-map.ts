import type { Cluster } from './cluster.ts';

/**
 * What one node knows of the endpoints: the state of its EndpointSlice watch, kube-proxy's EndpointsMap. It
 * starts as the cluster does and then follows the slices; a proxier reads it when a sync begins.
 */
export class EndpointsMap {
  /** By endpoint row: READY | SERVING | TERMINATING as last told. */
  readonly conditions: Uint8Array;
  readonly #cluster: Cluster;
  readonly #rows: Int32Array;
  readonly #changed = new Map<number, Int32Array>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.conditions = cluster.endpoints.conditions.slice(0, cluster.endpoints.count);
    this.#rows = Int32Array.from(
      { length: cluster.ports.firstEndpoint[cluster.ports.count]! },
      (_, row) => row,
    );
  }

  /** The endpoint rows of a service port, whatever their conditions, in the order they became known. Do not modify. */
  of(servicePort: number): Int32Array {
    const { firstEndpoint } = this.#cluster.ports;
    return (
      this.#changed.get(servicePort) ??
      this.#rows.subarray(firstEndpoint[servicePort]!, firstEndpoint[servicePort + 1]!)
    );
  }

  add(endpoint: number, conditions: number): void {
    this.conditions[endpoint] = conditions;
    const servicePort = this.#cluster.endpoints.servicePort[endpoint]!;
    const old = this.of(servicePort);
    if (old.includes(endpoint)) return;
    const rows = new Int32Array(old.length + 1);
    rows.set(old);
    rows[old.length] = endpoint;
    this.#changed.set(servicePort, rows);
  }

  remove(endpoint: number): void {
    const servicePort = this.#cluster.endpoints.servicePort[endpoint]!;
    this.#changed.set(
      servicePort,
      this.of(servicePort).filter((row) => row !== endpoint),
    );
  }
}
