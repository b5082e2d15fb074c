import {
  Discrete,
  FROM_OUTSIDE,
  FROM_POD,
  NS_PER_S,
  TCP,
  UDP,
  exponential,
  zipf,
  type Origin,
  type Stream,
  type Streams,
} from '@vipsim/sim-core';
import type { Cluster } from '@vipsim/proxiers';
import type { ClusterDay } from '../cluster/cluster-day.ts';
import type { Scenario } from '../scenario/scenario.ts';

const FIRST_EPHEMERAL_PORT = 32_768;
/** net.ipv4.ip_local_port_range up to 60999. */
const EPHEMERAL_PORTS = 28_232;
/** TEST-NET-3: clients outside the cluster. */
const OUTSIDE_ADDRESS = 0xcb007101;
const OUTSIDE_CLIENTS = 250;

/**
 * The connections of a run, one after another. Fields describe the present one; `next` moves on. Each purpose
 * draws from its own stream, and nothing depends on the mode: every mode is offered the same connections.
 */
export class Arrivals {
  atNs = 0.5;
  servicePort = 0;
  origin: Origin = FROM_POD;
  protocol = TCP;
  client = 0;
  clientPort = 0;
  /** The address that the client means: a ClusterIP, a load balancer's address, or the node's with a node port. */
  address = 0;
  port = 0;
  requests = 1;
  /** Connections so far: names this one in draws that belong to it. */
  index = -1;

  readonly #scenario: Scenario['workload'];
  readonly #cluster: Cluster;
  readonly #node: number;
  readonly #clients: Uint32Array;
  readonly #popularity: Discrete | undefined;
  readonly #ports: Uint32Array;
  readonly #used: Uint16Array;
  readonly #sourcePorts: number;
  readonly #gaps: Stream;
  readonly #choices: Stream;
  readonly #sources: Stream;
  readonly #lengths: Stream;

  constructor(day: ClusterDay, node: number, scenario: Scenario, streams: Streams) {
    this.#scenario = scenario.workload;
    this.#cluster = day.cluster;
    this.#node = node;
    this.#clients = day.clients;
    this.#sourcePorts = scenario.workload.sourcePorts ?? EPHEMERAL_PORTS;
    this.#used = new Uint16Array(day.clients.length + OUTSIDE_CLIENTS);
    this.#ports = byPopularity(day.cluster, streams.stream('workload.ranks'));
    this.#popularity =
      this.#ports.length === 0 ? undefined : zipf(this.#ports.length, scenario.workload.zipfExponent);
    this.#gaps = streams.stream('workload.gaps');
    this.#choices = streams.stream('workload.services');
    this.#sources = streams.stream('workload.clients');
    this.#lengths = streams.stream('workload.requests');
    this.atNs = 0;
  }

  /** Move on; `atNs` is Infinity when no service port has anybody to connect to. */
  next(): void {
    const { connectionsPerSecond, keepaliveShare, keepaliveRequests, outsideShare } = this.#scenario;
    if (this.#popularity === undefined) {
      this.atNs = Infinity;
      return;
    }
    this.index++;
    this.atNs += Math.max(1, Math.round(exponential(this.#gaps, NS_PER_S / connectionsPerSecond)));
    this.servicePort = this.#ports[this.#popularity.sample(this.#choices)]!;
    const { ports, services } = this.#cluster;
    const service = services[ports.service[this.servicePort]!]!;
    this.protocol = ports.protocol[this.servicePort]!;
    const balanced =
      service.type === 'LoadBalancer' &&
      (service.loadBalancerIps.length > 0 || ports.nodePort[this.servicePort] !== 0);
    this.origin = balanced && this.#sources.uniform() < outsideShare ? FROM_OUTSIDE : FROM_POD;
    this.#chooseClient();
    if (this.origin === FROM_POD) {
      this.address = ports.clusterIp[this.servicePort]!;
      this.port = ports.port[this.servicePort]!;
    } else if (service.loadBalancerIps.length > 0) {
      this.address = service.loadBalancerIps[0]!;
      this.port = ports.port[this.servicePort]!;
    } else {
      this.address = this.#cluster.nodes[this.#node]!.address;
      this.port = ports.nodePort[this.servicePort]!;
    }
    const keeps = this.protocol === TCP && this.#lengths.uniform() < keepaliveShare;
    this.requests = keeps ? keepaliveRequests : 1;
  }

  #chooseClient(): void {
    const pods = this.#clients.length;
    const which =
      this.origin === FROM_POD ? this.#sources.below(pods) : pods + this.#sources.below(OUTSIDE_CLIENTS);
    this.client = which < pods ? this.#clients[which]! : OUTSIDE_ADDRESS + which - pods;
    const used = this.#used[which]!;
    this.clientPort = FIRST_EPHEMERAL_PORT + used;
    this.#used[which] = (used + 1) % this.#sourcePorts;
  }
}

/** Service ports that clients mean: those with TCP or UDP, and with an endpoint to begin with. */
export function targetPorts(cluster: Cluster): number[] {
  const { protocol, firstEndpoint, count } = cluster.ports;
  return Array.from({ length: count }, (_, port) => port).filter(
    (port) =>
      (protocol[port] === TCP || protocol[port] === UDP) && firstEndpoint[port + 1]! > firstEndpoint[port]!,
  );
}

/** The target ports in the order of their popularity. */
function byPopularity(cluster: Cluster, ranks: Stream): Uint32Array {
  const ports = targetPorts(cluster);
  for (let i = ports.length - 1; i > 0; i--) {
    const j = ranks.below(i + 1);
    [ports[i], ports[j]] = [ports[j]!, ports[i]!];
  }
  return Uint32Array.from(ports);
}
