import type { Cluster } from '@vipsim/proxiers';

/** From a pod to its endpoints and Services, and back: the columns of a cluster are sorted the other way. */
export class PodIndex {
  readonly #cluster: Cluster;
  readonly #initialPods: number;
  readonly #first: Uint32Array;
  readonly #endpoints: Uint32Array;
  readonly #later = new Map<number, number[]>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    const { endpoints, pods } = cluster;
    this.#initialPods = pods.count;
    this.#first = new Uint32Array(pods.count + 1);
    for (let row = 0; row < endpoints.count; row++) this.#first[endpoints.pod[row]! + 1]! += 1;
    for (let pod = 0; pod < pods.count; pod++) this.#first[pod + 1]! += this.#first[pod]!;
    const next = this.#first.slice();
    this.#endpoints = new Uint32Array(endpoints.count);
    for (let row = 0; row < endpoints.count; row++) this.#endpoints[next[endpoints.pod[row]!]!++] = row;
  }

  /** Endpoint rows of a pod. */
  endpointsOf(pod: number): ArrayLike<number> & Iterable<number> {
    return pod < this.#initialPods
      ? this.#endpoints.subarray(this.#first[pod]!, this.#first[pod + 1]!)
      : (this.#later.get(pod) ?? []);
  }

  servicesOf(pod: number): Set<number> {
    const services = new Set<number>();
    const { servicePort } = this.#cluster.endpoints;
    for (const row of this.endpointsOf(pod)) services.add(this.#cluster.ports.service[servicePort[row]!]!);
    return services;
  }

  /** Pods behind any port of a Service before the run, in the order of its endpoints. */
  initialPodsOf(service: number): Set<number> {
    const { ports, endpoints } = this.#cluster;
    const pods = new Set<number>();
    for (
      let port = this.#firstPortOf(service);
      port < ports.count && ports.service[port] === service;
      port++
    ) {
      for (let row = ports.firstEndpoint[port]!; row < ports.firstEndpoint[port + 1]!; row++) {
        pods.add(endpoints.pod[row]!);
      }
    }
    return pods;
  }

  /** Give `pod` the same endpoints as `like` has: a new pod of the same workload. */
  addLike(pod: number, like: number): void {
    const { endpoints, pods } = this.#cluster;
    const rows = Array.from(this.endpointsOf(like), (row) =>
      endpoints.add(endpoints.servicePort[row]!, pod, pods.address[pod]!, endpoints.port[row]!, 0),
    );
    this.#later.set(pod, rows);
  }

  /** Ports of a Service are adjacent rows, Services in rising order. */
  #firstPortOf(service: number): number {
    const { ports } = this.#cluster;
    let low = 0;
    let high = ports.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (ports.service[middle]! < service) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
