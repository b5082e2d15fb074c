import { ACK, FROM_OUTSIDE, FROM_POD, Packet, SYN } from '@vipsim/sim-core';
import type { Agent } from '../../packages/proxiers/src/ebpf/agent/agent.ts';
import { ebpf } from '../../packages/proxiers/src/ebpf/mode.ts';
import type { Cluster } from '../../packages/proxiers/src/kubernetes/cluster.ts';
import { EndpointsMap } from '../../packages/proxiers/src/kubernetes/endpoints-map.ts';
import { FORWARD, Verdict } from '../../packages/proxiers/src/proxier.ts';
import {
  agentOf,
  clusterOf,
  COURSES,
  type Course,
  type CourseName,
  type Kind,
} from './ebpf-paths-courses.ts';

/** A step through the services that scatters them: a prime that divides no round number of them. */
const STRIDE = 7919;
/** Connections of each client, from port 32768 on. */
const PORTS_EACH = 16;
const POD_CLIENTS = 0x0a400000;
const OUTSIDE_CLIENTS = 0x64400000;
const STRANGERS = 0xc6336400;
const NOW_NS = 1_000_000_000_000;

/** Flows of one course by number, through an agent's maps, with where the node sent each. */
export class FlowRun {
  readonly agent: Agent;
  readonly verdict = new Verdict(ebpf.operations.length);
  checksum = 0;
  readonly #cluster: Cluster;
  readonly #course: Course;
  readonly #services: number;
  readonly #packet = new Packet();
  readonly #source: Uint32Array;
  readonly #sourcePort: Uint32Array;
  readonly #destination: Uint32Array;
  readonly #destinationPort: Uint32Array;

  constructor(course: CourseName, services: number, endpoints: number, flows: number) {
    const cluster = clusterOf(services, endpoints);
    this.#cluster = cluster;
    this.#course = COURSES[course];
    this.#services = services;
    this.agent = agentOf(cluster, new EndpointsMap(cluster), this.#course.options);
    for (const stage of this.agent.sync([], true).stages) stage.commit();
    this.#source = new Uint32Array(flows);
    this.#sourcePort = new Uint32Array(flows);
    this.#destination = new Uint32Array(flows);
    this.#destinationPort = new Uint32Array(flows);
  }

  /** Send a packet of each flow from `from` up to `to`, which is excluded. */
  send(kind: Kind, from: number, to: number): void {
    const { verdict } = this;
    const packet = this.#packet;
    const { dataplane } = this.agent;
    let sum = this.checksum;
    for (let flow = from; flow < to; flow++) {
      if (kind === 'answer') this.#answer(flow);
      else this.#request(flow, kind === 'first');
      verdict.begin(packet);
      dataplane.classify(packet, NOW_NS, verdict);
      if (verdict.fate !== FORWARD)
        throw new Error(`${kind} packet of flow ${flow} was not sent on: ${packet}`);
      if (kind === 'first') this.#keep(flow);
      sum = (Math.imul(sum, 31) + verdict.destination + verdict.sourcePort) | 0;
    }
    this.checksum = sum;
  }

  /** @throws Error when the packet that was sent last, of that flow, did not go where it should. */
  demandRight(kind: Kind, flow: number): void {
    const { verdict } = this;
    const { endpoints } = this.#cluster;
    const { served } = this.#course;
    const service = this.#serviceOf(flow);
    this.#request(flow, true);
    const { source, sourcePort, destination, destinationPort } = this.#packet;
    let right: boolean;
    if (kind === 'answer') {
      // A connected socket has asked the backend itself.
      const asked = this.#course.connects ? this.#destination[flow]! : destination;
      right =
        verdict.destination === source && verdict.destinationPort === sourcePort && verdict.source === asked;
    } else if (!served) {
      right = verdict.destination === destination && verdict.destinationPort === destinationPort;
    } else {
      const row = verdict.endpoint;
      right = verdict.destination === this.#destination[flow];
      if (kind === 'first') {
        right &&= endpoints.servicePort[row] === service && verdict.destination === endpoints.address[row];
      }
    }
    if (!right) throw new Error(`${kind} packet of flow ${flow} left as ${JSON.stringify(verdict)}`);
  }

  #serviceOf(flow: number): number {
    return (flow * STRIDE) % this.#services;
  }

  #request(flow: number, first: boolean): void {
    const { origin, served, connects } = this.#course;
    const packet = this.#packet;
    packet.origin = origin;
    packet.flags = first ? SYN : ACK;
    packet.source = (origin === FROM_POD ? POD_CLIENTS : OUTSIDE_CLIENTS) + Math.floor(flow / PORTS_EACH);
    packet.sourcePort = 32_768 + (flow % PORTS_EACH);
    if (connects && !first) {
      packet.destination = this.#destination[flow]!;
      packet.destinationPort = this.#destinationPort[flow]!;
    } else if (served) {
      const { ports } = this.#cluster;
      const service = this.#serviceOf(flow);
      packet.destination = ports.clusterIp[service]!;
      packet.destinationPort = ports.port[service]!;
    } else {
      packet.destination = STRANGERS + (flow & 0xff);
      packet.destinationPort = 443;
    }
  }

  /** From where the first packet went to where it came from. */
  #answer(flow: number): void {
    const packet = this.#packet;
    packet.origin = FROM_OUTSIDE;
    packet.flags = ACK;
    packet.source = this.#destination[flow]!;
    packet.sourcePort = this.#destinationPort[flow]!;
    packet.destination = this.#source[flow]!;
    packet.destinationPort = this.#sourcePort[flow]!;
  }

  #keep(flow: number): void {
    const { verdict } = this;
    this.#source[flow] = verdict.source;
    this.#sourcePort[flow] = verdict.sourcePort;
    this.#destination[flow] = verdict.destination;
    this.#destinationPort[flow] = verdict.destinationPort;
  }
}
