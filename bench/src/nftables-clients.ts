import { ACK, FROM_OUTSIDE, FROM_POD, Packet, SYN } from '@vipsim/sim-core';
import type { Cluster } from '../../packages/proxiers/src/kubernetes/cluster.ts';
import { FORWARD, Verdict, type Dataplane } from '../../packages/proxiers/src/proxier.ts';
import { processorNs } from './processor-time.ts';

/** A step through the services that scatters them: a prime that divides no round number of them. */
const STRIDE = 7919;
/** Connections of each client, from port 32768 on. */
const PORTS_EACH = 16;
/** Above the addresses of pods of Services. */
const CLIENTS_FROM = 0x400000;
const NOW_NS = 1_000_000_000;

/** Pods that connect to one Service after another, each connection by its number. */
export class Clients {
  opened = 0;
  readonly #dataplane: Pick<Dataplane, 'classify'>;
  readonly #cluster: Cluster;
  readonly #operations: readonly string[];
  readonly #verdict: Verdict;
  readonly #packet = new Packet();
  /** By connection. */
  readonly #endpoints: Int32Array;

  /** @param operations names of all that the dataplane counts. @param most connections that will be opened. */
  constructor(
    dataplane: Pick<Dataplane, 'classify'>,
    cluster: Cluster,
    operations: readonly string[],
    most: number,
  ) {
    this.#dataplane = dataplane;
    this.#cluster = cluster;
    this.#operations = operations;
    this.#endpoints = new Int32Array(most);
    this.#verdict = new Verdict(this.#operations.length);
  }

  /** ns per connection. */
  open(count: number): number {
    const from = this.opened;
    this.opened += count;
    const start = processorNs();
    for (let flow = from; flow < from + count; flow++) {
      this.#send(flow, SYN);
      this.#endpoints[flow] = this.#verdict.endpoint;
    }
    return (processorNs() - start) / count;
  }

  /**
   * Let the servers answer and the clients go on.
   * @throws Error when one does not reach the other.
   */
  establish(from: number, count: number): void {
    const packet = this.#packet;
    const verdict = this.#verdict;
    const { endpoints } = this.#cluster;
    for (let flow = from; flow < from + count; flow++) {
      const row = this.#endpoints[flow]!;
      this.#aim(flow);
      const { source, sourcePort, destination } = packet;
      packet.origin = FROM_OUTSIDE;
      packet.source = endpoints.address[row]!;
      packet.sourcePort = endpoints.port[row]!;
      packet.destination = source;
      packet.destinationPort = sourcePort;
      packet.flags = SYN | ACK;
      this.#pass(flow);
      if (verdict.source !== destination)
        throw new Error(`connection ${flow} is answered by ${verdict.source}`);
      this.#send(flow, ACK);
      if (verdict.destination !== endpoints.address[row])
        throw new Error(`connection ${flow} left its endpoint`);
    }
  }

  /** ns per packet of connections that are established. */
  later(from: number, count: number, passes: number): number {
    const start = processorNs();
    for (let pass = 0; pass < passes; pass++)
      for (let flow = from; flow < from + count; flow++) this.#send(flow, ACK);
    return (processorNs() - start) / (count * passes);
  }

  /**
   * Open connections: operations per first packet, by name.
   * @throws Error when one leads elsewhere than to an endpoint of its Service.
   */
  survey(count: number): Readonly<Record<string, number>> {
    const { endpoints } = this.#cluster;
    const sums = new Float64Array(this.#operations.length);
    for (let flow = this.opened; flow < this.opened + count; flow++) {
      this.#send(flow, SYN);
      const { endpoint, destination, counts } = this.#verdict;
      const right =
        endpoints.servicePort[endpoint] === this.#serviceOf(flow) &&
        endpoints.address[endpoint] === destination;
      if (!right) throw new Error(`connection ${flow} led to endpoint ${endpoint}`);
      this.#endpoints[flow] = endpoint;
      for (let at = 0; at < counts.length; at++) sums[at]! += counts[at]!;
    }
    this.opened += count;
    return Object.fromEntries(this.#operations.map((name, at) => [name, sums[at]! / count]));
  }

  #send(flow: number, flags: number): void {
    this.#aim(flow);
    this.#packet.flags = flags;
    this.#pass(flow);
  }

  /** From the client to its Service. */
  #aim(flow: number): void {
    const packet = this.#packet;
    const { ports, podCidr } = this.#cluster;
    const service = this.#serviceOf(flow);
    packet.origin = FROM_POD;
    packet.source = podCidr.address + CLIENTS_FROM + Math.floor(flow / PORTS_EACH);
    packet.sourcePort = 32_768 + (flow % PORTS_EACH);
    packet.destination = ports.clusterIp[service]!;
    packet.destinationPort = ports.port[service]!;
  }

  #pass(flow: number): void {
    const verdict = this.#verdict;
    verdict.begin(this.#packet);
    this.#dataplane.classify(this.#packet, NOW_NS, verdict);
    if (verdict.fate !== FORWARD) throw new Error(`connection ${flow} got no further: ${this.#packet}`);
  }

  #serviceOf(flow: number): number {
    return (flow * STRIDE) % this.#cluster.services.length;
  }
}
