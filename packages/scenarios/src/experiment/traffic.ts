import {
  ACK,
  FIN,
  FROM_OUTSIDE,
  FROM_POD,
  Host,
  Link,
  NS_PER_MS,
  NS_PER_S,
  Packet,
  RST,
  SYN,
  type Simulation,
  type Streams,
} from '@vipsim/sim-core';
import { FORWARD, PriceList, REJECT, Verdict, type Dataplane } from '@vipsim/proxiers';
import type { ClusterDay } from '../cluster/cluster-day.ts';
import { CLOSING, GONE, LISTENING } from '../cluster/pod-timeline.ts';
import type { Scenario } from '../scenario/scenario.ts';
import { Arrivals } from '../workload/arrivals.ts';
import { RequestDraws } from '../workload/request-draws.ts';
import { Flows } from './flows.ts';
import { BROKEN, OK, REFUSED, TIMED_OUT, type Ending, type Observations } from './observations.ts';
import type { RunTrace } from './run-trace.ts';

/** What an endpoint sends back. */
const SYNACK = 0;
const RESET = 1;
const RESPONSE = 2;
const FINISH = 3;
const DATAGRAM = 4;

/** What a client does next. */
const REQUEST_AFTER_HANDSHAKE = 0;
const REQUEST = 1;
const AFTER_RESPONSE = 2;
const LAST_ACK = 3;

/** A packet found no room, or was dropped. */
const LOST = -1;
const REFUSED_BY_DATAPLANE = -2;

const NOBODY = -1;
const FIRST_RETRANSMISSION = NS_PER_S;
const DATA_RETRANSMISSION = 200 * NS_PER_MS;

/**
 * The observed node's connections, packet by packet: every packet that crosses the node waits for its core, meets
 * the dataplane, and costs what that did. A connection always has exactly one event ahead of it.
 * Models: TCP handshake, requests and responses, close; SYN retransmission at 1 s, 3 s, 7 s …; UDP request and
 * answer; pods that refuse, reset or are gone.
 * Not modelled: loss and congestion in the network, TCP windows, server capacity.
 */
export class Traffic {
  readonly host: Host;
  readonly #simulation: Simulation;
  readonly #day: ClusterDay;
  readonly #scenario: Scenario;
  readonly #dataplane: Dataplane;
  readonly #prices: PriceList;
  readonly #stackNs: number;
  readonly #observations: Observations;
  readonly #trace: RunTrace | undefined;
  readonly #arrivals: Arrivals;
  readonly #draws: RequestDraws;
  readonly #flows = new Flows();
  readonly #packet = new Packet();
  readonly #verdict: Verdict;
  readonly #node: number;
  readonly #local: Link;
  readonly #remote: Link;
  readonly #arrive: number;
  readonly #open: number;
  readonly #answer: number;
  readonly #client: number;
  readonly #end: number;
  #podOf: Map<number, number> | undefined;

  constructor(setup: {
    readonly simulation: Simulation;
    readonly day: ClusterDay;
    readonly node: number;
    readonly scenario: Scenario;
    readonly dataplane: Dataplane;
    readonly operations: number;
    readonly prices: PriceList;
    readonly stackNs: number;
    readonly observations: Observations;
    readonly streams: Streams;
    readonly trace: RunTrace | undefined;
  }) {
    const { simulation, scenario, streams } = setup;
    this.#simulation = simulation;
    this.#day = setup.day;
    this.#scenario = scenario;
    this.#dataplane = setup.dataplane;
    this.#prices = setup.prices;
    this.#stackNs = setup.stackNs;
    this.#observations = setup.observations;
    this.#trace = setup.trace;
    this.#node = setup.node;
    this.#verdict = new Verdict(setup.operations);
    this.host = new Host(streams.stream('host.key').uint32(), scenario.node);
    this.#local = new Link(scenario.network.localDelay);
    this.#remote = new Link(scenario.network.delay);
    this.#arrivals = new Arrivals(setup.day, setup.node, scenario, streams);
    this.#draws = new RequestDraws(scenario, streams);
    this.#arrive = simulation.on(() => this.#onArrive(), 'arrival');
    this.#open = simulation.on((flow) => this.#onOpen(flow), 'connection opens');
    this.#answer = simulation.on((flow, what) => this.#onAnswer(flow, what), 'answer');
    this.#client = simulation.on((flow, step) => this.#onClient(flow, step), 'client acts');
    this.#end = simulation.on((flow, ending) => this.#finish(flow, ending as Ending), 'connection ends');
    this.#planArrival();
  }

  /** Connections still open. */
  get active(): number {
    return this.#flows.active;
  }

  #planArrival(): void {
    this.#arrivals.next();
    if (this.#arrivals.atNs < this.#scenario.duration) this.#simulation.at(this.#arrivals.atNs, this.#arrive);
  }

  #onArrive(): void {
    const flow = this.#flows.open(this.#arrivals);
    if (this.#flows.origin[flow] === FROM_OUTSIDE)
      this.#flows.startNs[flow]! -= this.#scenario.network.outsideDelay;
    this.#trace?.opened(
      this.#flows.connection[flow]!,
      this.#flows.servicePort[flow]!,
      this.#simulation.nowNs,
    );
    this.#observations.attempted++;
    this.#observations.second(this.#simulation.nowNs).attempted++;
    this.#planArrival();
    this.#onOpen(flow);
  }

  /** Send the SYN or the datagram, for the first time or again. */
  #onOpen(flow: number): void {
    const flows = this.#flows;
    const nowNs = this.#simulation.nowNs;
    const giveUpNs = flows.startNs[flow]! + this.#scenario.workload.connectTimeout;
    if (flows.attempts[flow]! > 0 && nowNs >= giveUpNs) return this.#finish(flow, TIMED_OUT);
    const tcp = flows.isTcp(flow);
    flows.attempts[flow]! += 1;
    const doneNs = this.#request(flow, tcp ? SYN : 0, nowNs);
    if (doneNs === REFUSED_BY_DATAPLANE) return this.#endLater(flow, REFUSED, nowNs + this.#verdict.delayNs);
    if (doneNs !== LOST) {
      const arrivalNs = this.#towardsPod(flow, doneNs);
      const pod = flows.pod[flow]!;
      const state = pod === NOBODY ? GONE : this.#day.timeline.stateAt(pod, arrivalNs);
      if (state !== LISTENING && pod !== NOBODY) flows.sentToDead[flow] = 1;
      if (state === LISTENING) {
        flows.acceptedNs[flow] = arrivalNs;
        flows.acceptedBy[flow] = pod;
        const workNs = tcp ? 0 : this.#draws.serviceTime(flows.connection[flow]!, 0);
        return this.#reply(flow, tcp ? SYNACK : DATAGRAM, arrivalNs + workNs);
      }
      if (state !== GONE) return this.#reply(flow, RESET, arrivalNs);
    }
    const again = tcp ? nowNs + FIRST_RETRANSMISSION * (1 << (flows.attempts[flow]! - 1)) : giveUpNs;
    this.#simulation.at(Math.max(nowNs, Math.min(again, giveUpNs)), this.#open, flow);
  }

  /** Something from the endpoint reaches the node on its way to the client. */
  #onAnswer(flow: number, what: number): void {
    const flows = this.#flows;
    const nowNs = this.#simulation.nowNs;
    const flags =
      what === SYNACK ? SYN | ACK : what === RESET ? RST | ACK : what === FINISH ? FIN | ACK : ACK;
    const packets = what === RESPONSE ? this.#scenario.workload.responsePackets : 1;
    let doneNs = nowNs;
    for (let i = 0; i < packets; i++) {
      doneNs = this.#pass(flow, true, flows.isTcp(flow) ? flags : 0, nowNs);
      if (doneNs >= 0) continue;
      return what === FINISH ? this.#finish(flow, OK) : this.#retransmit(flow, this.#answer, what);
    }
    const atClientNs = doneNs + this.#outsideDelay(flow);
    switch (what) {
      case SYNACK:
        flows.established[flow] = 1;
        this.#observations.connectNs.record(atClientNs - flows.startNs[flow]!);
        return this.#clientActs(flow, REQUEST_AFTER_HANDSHAKE, atClientNs);
      case RESET:
        return this.#endAt(flow, flows.established[flow] === 1 ? BROKEN : REFUSED, atClientNs);
      case RESPONSE:
        return this.#clientActs(flow, AFTER_RESPONSE, atClientNs);
      case FINISH:
        return this.#clientActs(flow, LAST_ACK, atClientNs);
      default:
        return this.#endAt(flow, OK, atClientNs);
    }
  }

  #onClient(flow: number, step: number): void {
    const nowNs = this.#simulation.nowNs;
    switch (step) {
      case REQUEST_AFTER_HANDSHAKE:
        if (this.#request(flow, ACK, nowNs) === REFUSED_BY_DATAPLANE)
          return this.#endLater(flow, BROKEN, nowNs);
        this.#flows.requestNs[flow] = nowNs;
        return this.#sendRequest(flow);
      case REQUEST:
        return this.#sendRequest(flow);
      case AFTER_RESPONSE:
        return this.#afterResponse(flow);
      default:
        this.#request(flow, ACK, nowNs);
        return this.#finish(flow, OK);
    }
  }

  #sendRequest(flow: number): void {
    const flows = this.#flows;
    const nowNs = this.#simulation.nowNs;
    let doneNs = nowNs;
    for (let i = 0; i < this.#scenario.workload.requestPackets; i++) {
      doneNs = this.#request(flow, ACK, nowNs);
      if (doneNs === REFUSED_BY_DATAPLANE) return this.#endLater(flow, BROKEN, nowNs);
      if (doneNs === LOST) return this.#retransmit(flow, this.#client, REQUEST);
    }
    const arrivalNs = this.#towardsPod(flow, doneNs);
    const pod = flows.pod[flow]!;
    const { timeline } = this.#day;
    const state = pod === NOBODY ? GONE : timeline.stateAt(pod, arrivalNs);
    if (state === GONE) {
      const brokenNs = flows.requestNs[flow]! + this.#scenario.workload.requestTimeout;
      return this.#endAt(flow, BROKEN, Math.max(nowNs, brokenNs));
    }
    const known =
      pod === flows.acceptedBy[flow] && timeline.keepsConnections(pod, flows.acceptedNs[flow]!, arrivalNs);
    if (!known || (state !== LISTENING && state !== CLOSING)) return this.#reply(flow, RESET, arrivalNs);
    const answerNs = arrivalNs + this.#draws.serviceTime(flows.connection[flow]!, flows.requestsLeft[flow]!);
    // A process that dies at its work resets what it had accepted.
    const survives = timeline.keepsConnections(pod, arrivalNs, answerNs);
    this.#reply(flow, survives ? RESPONSE : RESET, answerNs);
  }

  #afterResponse(flow: number): void {
    const flows = this.#flows;
    const nowNs = this.#simulation.nowNs;
    flows.requestsLeft[flow]! -= 1;
    const left = flows.requestsLeft[flow]!;
    if (left > 0) {
      const nextNs = nowNs + this.#draws.thinkTime(flows.connection[flow]!, left);
      flows.requestNs[flow] = nextNs;
      this.#simulation.at(nextNs, this.#client, flow, REQUEST);
      return;
    }
    const doneNs = this.#request(flow, FIN | ACK, nowNs);
    if (doneNs < 0) return this.#finish(flow, OK);
    const arrivalNs = this.#towardsPod(flow, doneNs);
    const pod = flows.pod[flow]!;
    // The answer is in: a close that nobody confirms does not make the connection fail.
    const gone = pod === NOBODY || this.#day.timeline.stateAt(pod, arrivalNs) === GONE;
    if (gone) this.#finish(flow, OK);
    else this.#reply(flow, FINISH, arrivalNs);
  }

  /** A packet of the client. Returns when it leaves the node, LOST, or REFUSED_BY_DATAPLANE. */
  #request(flow: number, flags: number, nowNs: number): number {
    const doneNs = this.#pass(flow, false, flags, nowNs);
    if (doneNs < 0) return doneNs;
    const flows = this.#flows;
    const verdict = this.#verdict;
    flows.replySource[flow] = verdict.destination;
    flows.replySourcePort[flow] = verdict.destinationPort;
    flows.replyDestination[flow] = verdict.source;
    flows.replyDestinationPort[flow] = verdict.sourcePort;
    if (verdict.endpoint >= 0) {
      flows.pod[flow] = this.#day.cluster.endpoints.pod[verdict.endpoint]!;
      this.#observations.hits[verdict.endpoint]! += 1;
    } else if (flows.pod[flow] === NOBODY && verdict.destination !== flows.address[flow]) {
      flows.pod[flow] = this.#podAt(verdict.destination);
    }
    if (verdict.connected) {
      flows.address[flow] = verdict.destination;
      flows.port[flow] = verdict.destinationPort;
    }
    return doneNs;
  }

  /** Take one packet through the node: its core, the dataplane, the price. */
  #pass(flow: number, reply: boolean, flags: number, nowNs: number): number {
    const flows = this.#flows;
    const packet = this.#packet;
    const verdict = this.#verdict;
    const observations = this.#observations;
    packet.protocol = flows.protocol[flow]!;
    packet.flags = flags;
    if (reply) {
      packet.source = flows.replySource[flow]!;
      packet.sourcePort = flows.replySourcePort[flow]!;
      packet.destination = flows.replyDestination[flow]!;
      packet.destinationPort = flows.replyDestinationPort[flow]!;
      packet.origin = this.#isLocal(flow) ? FROM_POD : FROM_OUTSIDE;
    } else {
      packet.source = flows.client[flow]!;
      packet.sourcePort = flows.clientPort[flow]!;
      packet.destination = flows.address[flow]!;
      packet.destinationPort = flows.port[flow]!;
      packet.origin = flows.originOf(flow);
    }
    const core = this.host.coreOf(packet);
    if (!this.host.admits(core, nowNs)) {
      this.#trace?.refused(flows.connection[flow]!, packet, reply, core, nowNs);
      return LOST;
    }
    verdict.begin(packet);
    this.#dataplane.classify(packet, nowNs, verdict);
    const ns = this.#prices.total(verdict.counts);
    observations.packets++;
    observations.dataplaneNs += ns;
    const stackNs = verdict.pastStack ? 0 : this.#stackNs;
    observations.stackNs += stackNs;
    (verdict.first ? observations.firstNs : observations.establishedNs).record(ns);
    const totals = verdict.first ? observations.firstCounts : observations.establishedCounts;
    for (let i = 0; i < totals.length; i++) totals[i]! += verdict.counts[i]!;
    const doneNs = this.host.process(core, nowNs, stackNs + ns);
    if (this.#trace !== undefined) {
      const work = { core, atNs: nowNs, doneNs, costNs: stackNs + ns, dataplaneNs: ns };
      this.#trace.processed(flows.connection[flow]!, packet, reply, work, verdict);
    }
    if (verdict.fate === FORWARD) return doneNs + verdict.delayNs;
    return verdict.fate === REJECT ? REFUSED_BY_DATAPLANE : LOST;
  }

  #reply(flow: number, what: number, sentNs: number): void {
    this.#simulation.at(this.#linkOf(flow).carry(sentNs), this.#answer, flow, what);
  }

  /** When what leaves the node at `sentNs` reaches the pod. */
  #towardsPod(flow: number, sentNs: number): number {
    return this.#linkOf(flow).carry(sentNs);
  }

  /** The client acts on what reached it at `atClientNs`; its packet is back at the node a delay later. */
  #clientActs(flow: number, step: number, atClientNs: number): void {
    this.#simulation.at(atClientNs + this.#outsideDelay(flow), this.#client, flow, step);
  }

  /** A lost packet of an open connection is sent again until the client's patience ends. */
  #retransmit(flow: number, kind: number, what: number): void {
    const flows = this.#flows;
    const { connectTimeout, requestTimeout } = this.#scenario.workload;
    const established = flows.established[flow] === 1;
    const sinceNs = established ? flows.requestNs[flow]! : flows.startNs[flow]!;
    const patienceNs = sinceNs + (established ? requestTimeout : connectTimeout);
    const againNs = this.#simulation.nowNs + (established ? DATA_RETRANSMISSION : FIRST_RETRANSMISSION);
    if (againNs >= patienceNs) {
      const ending = established ? BROKEN : TIMED_OUT;
      return this.#endAt(flow, ending, Math.max(this.#simulation.nowNs, patienceNs));
    }
    this.#simulation.at(againNs, kind, flow, what);
  }

  #endLater(flow: number, ending: Ending, nowNs: number): void {
    this.#endAt(flow, ending, nowNs + this.#outsideDelay(flow));
  }

  #endAt(flow: number, ending: Ending, atNs: number): void {
    this.#simulation.at(atNs, this.#end, flow, ending);
  }

  #finish(flow: number, ending: Ending): void {
    this.#observations.sentToDeadEndpoint += this.#flows.sentToDead[flow]!;
    this.#observations.end(ending, this.#simulation.nowNs);
    this.#trace?.closed(this.#flows.connection[flow]!, ending, this.#simulation.nowNs);
    this.#flows.close(flow);
  }

  #linkOf(flow: number): Link {
    return this.#isLocal(flow) ? this.#local : this.#remote;
  }

  #isLocal(flow: number): boolean {
    const pod = this.#flows.pod[flow]!;
    return pod !== NOBODY && this.#day.cluster.pods.node[pod] === this.#node;
  }

  #outsideDelay(flow: number): number {
    return this.#flows.origin[flow] === FROM_OUTSIDE ? this.#scenario.network.outsideDelay : 0;
  }

  /** The pod at an address that a table remembered for another connection. */
  #podAt(address: number): number {
    if (this.#podOf === undefined) {
      const { pods } = this.#day.cluster;
      this.#podOf = new Map();
      for (let pod = 0; pod < pods.count; pod++) this.#podOf.set(pods.address[pod]!, pod);
    }
    return this.#podOf.get(address) ?? NOBODY;
  }
}
