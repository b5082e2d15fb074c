import { ACK, FROM_HOST, FROM_OUTSIDE, SCTP, SYN, TCP, UDP, type Packet } from '@vipsim/sim-core';
import type { Counts } from '../../cost/operations.ts';
import type { ConnectionStats, Dataplane, NodeContext, Recorder, TableSize, Verdict } from '../../proxier.ts';
import { BackendChoice } from './backend-choice.ts';
import { ConnectionTracking } from './connection-tracking.ts';
import { DATAPLANE_DEFAULTS, type EbpfDataplaneOptions } from './options.ts';
import { Dsr } from './dsr.ts';
import { EndpointProgram } from './endpoint-program.ts';
import { FlowMaps } from './flow-maps.ts';
import { GarbageCollection } from './garbage-collection.ts';
import { NorthSouth } from './north-south.ts';
import { PROGRAM } from '../operations.ts';
import { PacketLb } from './packet-lb.ts';
import { EXTERNAL, INTERNAL, TWO_SCOPES, type ServiceMaps } from '../service-maps.ts';
import { SocketLb } from './socket-lb.ts';
import { SourceNat } from './source-nat.ts';
import { Walk } from './walk.ts';
import { programWorkingSets } from './working-sets.ts';

export type { CtTimeouts, EbpfDataplaneOptions } from './options.ts';

const SECOND = 1_000_000_000;

/**
 * What a packet meets on a node whose Services are Cilium's: programs at sockets, pods and the device, over maps.
 * A packet that is on its way already is served by what its flow left in the maps; netfilter is not asked.
 * Source: bpf/{bpf_sock,bpf_lxc,bpf_host,bpf_xdp}.c. Not modelled: what each class of this folder says for itself.
 */
export class EbpfDataplane implements Dataplane {
  readonly services: ServiceMaps;
  readonly flows: FlowMaps;
  readonly tracking: ConnectionTracking;
  readonly sockets: SocketLb;
  readonly sourceNat: SourceNat;
  readonly garbage: GarbageCollection;
  /** The agent's sweep as work beside its syncs: what ran in the last second. */
  readonly agentWork: { readonly periodNs: number; readonly counts: Counts };
  readonly #options: EbpfDataplaneOptions;
  readonly #host: ReadonlySet<number>;
  readonly #walk: Walk;
  readonly #endpoint: EndpointProgram;
  readonly #packetLb: PacketLb;
  readonly #northSouth: NorthSouth;
  readonly #dsr: Dsr;
  #signalsSeen = 0;

  constructor(node: NodeContext, services: ServiceMaps, options: Partial<EbpfDataplaneOptions> = {}) {
    const { cluster, streams, cores } = node;
    const nodeAddress = cluster.nodes[node.node]!.address;
    const all: EbpfDataplaneOptions = { ...DATAPLANE_DEFAULTS, ...options };
    this.#options = all;
    this.services = services;
    const seeds = streams.stream('ebpf.map.seeds.flows');
    const { sizes, distributedLru, mode } = all;
    this.flows = new FlowMaps(cores, seeds, { sizes, affinity: services.maxEntries, distributedLru });
    const nodes = new Set(cluster.nodes.map(({ address }) => address));
    const host = new Set([nodeAddress, ...all.hostAddresses]);
    const walk = new Walk(services, this.flows, cores, host, nodes);
    this.#walk = walk;
    this.#host = host;
    this.tracking = new ConnectionTracking(this.flows, all.timeouts);
    const prandom = streams.stream('ebpf.prandom');
    const maglev = all.algorithm === 'maglev';
    const choice = new BackendChoice(walk, prandom, cluster.endpoints, maglev, all.maglevSeedIpv4);
    this.#endpoint = new EndpointProgram(walk, this.tracking, all.bothDirections);
    this.sockets = new SocketLb(walk, prandom, choice, all.nodePortMax);
    this.#packetLb = new PacketLb(walk, this.tracking, choice, all.noBackendResponse);
    this.sourceNat = new SourceNat(walk, nodeAddress, streams.stream('ebpf.snat.ports'), all);
    this.#dsr = new Dsr(walk, all.dsrDispatch, mode === 'snat' ? 1024 : sizes.nat);
    const { tracking, sourceNat } = this;
    this.#northSouth = new NorthSouth(
      { walk, tracking, packetLb: this.#packetLb, sourceNat, dsr: this.#dsr },
      all,
    );
    this.garbage = new GarbageCollection(this.flows, tracking, sourceNat, all);
    this.agentWork = { periodNs: SECOND, counts: this.garbage.counts };
  }

  get recorder(): Recorder | undefined {
    return this.#walk.recorder;
  }

  set recorder(recorder: Recorder | undefined) {
    this.#walk.recorder = recorder;
  }

  classify(packet: Packet, nowNs: number, verdict: Verdict): void {
    this.#walk.begin(packet, nowNs, verdict.counts);
    if (packet.origin === FROM_OUTSIDE) {
      if (!this.#dsr.answer(packet, verdict)) this.#fromDevice(packet, verdict);
    } else if (this.sourceNat.isAnswer(packet)) {
      this.#fromDevice(packet, verdict);
    } else if (this.#hasSocketLb(packet)) {
      this.#fromSocket(packet, verdict);
    } else {
      this.#fromPod(packet, verdict);
    }
  }

  /** getpeername(2) of the socket that sent or would send `packet`: the answer is the verdict's destination. */
  getpeername(packet: Packet, cookie: number, nowNs: number, verdict: Verdict): void {
    this.#walk.begin(packet, nowNs, verdict.counts);
    this.sockets.getpeername(packet, cookie, verdict);
  }

  /** Lets the agent sweep, when it is due or a program has asked for it since the last call. */
  expire(nowNs: number): void {
    const { signals } = this.#walk;
    this.garbage.run(nowNs, signals > this.#signalsSeen);
    this.#signalsSeen = signals;
  }

  workingSets(out: Float64Array): void {
    programWorkingSets(this.services, this.flows, out);
  }

  /** Every map with its limit. */
  tables(): readonly TableSize[] {
    const { flows } = this;
    const lru = [flows.ctTcp, flows.ctAny, flows.snat, flows.reverseSk, flows.neighbours];
    if (flows.affinity.count > 0) lru.push(flows.affinity);
    return [
      ...this.services.tables(),
      ...[flows.lxc, ...lru].map((map) => ({
        name: `${map.spec.name} (max ${map.maxEntries})`,
        entries: map.count,
        bytes: map.bytes(),
      })),
    ];
  }

  connections(): ConnectionStats {
    const { entries, peak, inserts, drops, evictions } = this.tracking;
    return {
      entries,
      peak,
      inserts,
      drops,
      earlyDrops: evictions + this.flows.snat.evictions,
      portExhaustions: this.sourceNat.exhaustions,
    };
  }

  #hasSocketLb(packet: Packet): boolean {
    const { socketLB, socketLBHostOnly } = this.#options;
    return socketLB && packet.protocol !== SCTP && (!socketLBHostOnly || packet.origin === FROM_HOST);
  }

  #fromDevice(packet: Packet, verdict: Verdict): void {
    if (this.#northSouth.receive(packet, verdict)) return;
    // The node's own address is the stack's business, unless a process of the node waits for the packet.
    const toHost = this.#host.has(packet.destination);
    if (toHost && !this.tracking.isReply(packet, packet.protocol)) return;
    verdict.first = this.#endpoint.pass(packet, 0, false, verdict);
    if (this.#isTold(packet)) this.sockets.recvmsg(packet, verdict);
  }

  #fromSocket(packet: Packet, verdict: Verdict): void {
    if (packet.protocol === UDP && this.#options.udpSockets === 'unconnected') {
      return this.#fromUnconnected(packet, verdict);
    }
    if (this.#opens(packet) && !this.sockets.connect(packet, verdict)) return;
    this.#walk.counts[PROGRAM]! += 1;
    this.#endpoint.pass(packet, 0, false, verdict);
  }

  /** Every datagram is translated where it is sent, and answers where they are read. */
  #fromUnconnected(packet: Packet, verdict: Verdict): void {
    const reply = this.#isTold(packet) || this.tracking.isReply(packet, UDP);
    if (!reply && !this.sockets.sendmsg(packet, verdict)) return;
    this.#walk.counts[PROGRAM]! += 1;
    verdict.first = this.#endpoint.pass(packet, 0, false, verdict);
    if (reply && this.#isTold(packet)) this.sockets.recvmsg(packet, verdict);
  }

  /** Whether a datagram is for an unconnected socket of this node. */
  #isTold({ protocol, destination, destinationPort }: Packet): boolean {
    return protocol === UDP && this.sockets.isUnconnected(destination, destinationPort);
  }

  /** A socket connects now: the first packet of a flow that no entry knows in either direction. */
  #opens(packet: Packet): boolean {
    const { protocol } = packet;
    if (protocol === TCP && (packet.flags & (SYN | ACK)) !== SYN) return false;
    if (this.tracking.isKnown(packet, protocol)) return false;
    return protocol !== UDP || !this.tracking.isReply(packet, protocol);
  }

  /** Balancing in the pod's own program, packet by packet. */
  #fromPod(packet: Packet, verdict: Verdict): void {
    const walk = this.#walk;
    walk.counts[PROGRAM]! += 1;
    let scope: number = EXTERNAL;
    let master = walk.service(packet.destination, packet.destinationPort, 0, packet.protocol, EXTERNAL);
    if (master >= 0 && ((this.services.flags(master) >>> 8) & TWO_SCOPES) !== 0) {
      scope = INTERNAL;
      master = walk.service(packet.destination, packet.destinationPort, 0, packet.protocol, INTERNAL);
    }
    if (master < 0) {
      verdict.first = this.#endpoint.pass(packet, 0, false, verdict);
      return;
    }
    if (!this.#packetLb.balance(packet, master, scope, true, verdict)) return;
    this.#endpoint.pass(packet, this.services.revNat(master), this.#packetLb.loopback, verdict);
  }
}
