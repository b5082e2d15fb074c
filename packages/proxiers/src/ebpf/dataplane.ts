import { ACK, FROM_OUTSIDE, SCTP, SYN, TCP, UDP, swap16, swap32, type Packet } from '@vipsim/sim-core';
import type { Counts } from '../cost/operations.ts';
import type { ConnectionStats, Dataplane, NodeContext, Recorder, TableSize, Verdict } from '../proxier.ts';
import { ConnectionTracking } from './connection-tracking.ts';
import { EndpointProgram } from './endpoint-program.ts';
import { FlowMaps } from './flow-maps.ts';
import type { Frontends } from './frontends.ts';
import type { HashMap } from './hash-map.ts';
import type { LruHashMap } from './lru-hash-map.ts';
import { NorthSouth } from './north-south.ts';
import * as operations from './operations.ts';
import { PacketLb } from './packet-lb.ts';
import { EXTERNAL, INTERNAL, TWO_SCOPES, type ServiceMaps } from './service-maps.ts';
import { SocketLb } from './socket-lb.ts';
import { SourceNat } from './source-nat.ts';
import { Walk } from './walk.ts';

export interface EbpfDataplaneOptions {
  readonly socketLB: boolean;
  readonly bothDirections: boolean;
  readonly wildcards: boolean;
}

/**
 * What a packet meets on a node whose Services are Cilium's: programs at sockets, pods and the device, over maps.
 * A packet that is on its way already is served by what its flow left in the maps; netfilter is not asked.
 * Source: bpf/{bpf_sock,bpf_lxc,bpf_host}.c. Not modelled: what each class of this folder says for itself.
 */
export class EbpfDataplane implements Dataplane {
  readonly services: ServiceMaps;
  readonly flows: FlowMaps;
  readonly tracking: ConnectionTracking;
  readonly #options: EbpfDataplaneOptions;
  readonly #nodeAddress: number;
  readonly #walk: Walk;
  readonly #endpoint: EndpointProgram;
  readonly #socketLb: SocketLb;
  readonly #packetLb: PacketLb;
  readonly #northSouth: NorthSouth;
  readonly #sourceNat: SourceNat;

  constructor(node: NodeContext, services: ServiceMaps, frontends: Frontends, options: EbpfDataplaneOptions) {
    const { cluster, streams } = node;
    const nodeAddress = cluster.nodes[node.node]!.address;
    const prandom = streams.stream('ebpf.prandom');
    this.services = services;
    this.flows = new FlowMaps(node.cores, streams.stream('ebpf.map.seeds.flows'));
    this.#options = options;
    this.#nodeAddress = nodeAddress;
    this.#walk = new Walk(
      services,
      this.flows,
      node.cores,
      nodeAddress,
      new Set(cluster.nodes.map(({ address }) => address)),
    );
    this.tracking = new ConnectionTracking(this.flows, (map, element) => {
      const ports = map.keyWord(element, 2);
      const tuple = {
        destination: swap32(map.keyWord(element, 0)),
        source: swap32(map.keyWord(element, 1)),
        sourcePort: swap16(ports & 0xffff),
        destinationPort: swap16(ports >>> 16),
      };
      this.#sourceNat.purge(tuple, map.keyWord(element, 3) & 0xff);
    });
    this.#endpoint = new EndpointProgram(this.#walk, this.tracking, options.bothDirections);
    this.#socketLb = new SocketLb(this.#walk, prandom);
    this.#packetLb = new PacketLb(this.#walk, this.tracking, prandom);
    this.#sourceNat = new SourceNat(this.#walk, nodeAddress, streams.stream('ebpf.snat.ports'));
    this.#northSouth = new NorthSouth(this.#walk, this.tracking, this.#packetLb, this.#sourceNat, {
      nodeAddress,
      wildcards: options.wildcards,
      sourceRanges: (revNat) => frontends.sourceRanges(revNat),
    });
  }

  get recorder(): Recorder | undefined {
    return this.#walk.recorder;
  }

  set recorder(recorder: Recorder | undefined) {
    this.#walk.recorder = recorder;
  }

  classify(packet: Packet, nowNs: number, verdict: Verdict): void {
    this.#walk.begin(packet, nowNs, verdict.counts);
    if (packet.origin === FROM_OUTSIDE || this.#sourceNat.isAnswer(packet)) {
      this.#fromDevice(packet, verdict);
    } else if (this.#options.socketLB && packet.protocol !== SCTP) {
      this.#fromSocket(packet, verdict);
    } else {
      this.#fromPod(packet, verdict);
    }
  }

  expire(nowNs: number): void {
    this.tracking.expire(nowNs);
  }

  workingSets(out: Float64Array): void {
    const { services, flows } = this;
    out.fill(0);
    out[operations.SERVICES_LOOKUP] = services.services.liveBytes();
    out[operations.BACKENDS_LOOKUP] = services.backends.liveBytes();
    out[operations.REVNAT_LOOKUP] = services.reverseNat.liveBytes();
    out[operations.LXC_LOOKUP] = flows.lxc.liveBytes();
    const tracked = flows.ctTcp.liveBytes() + flows.ctAny.liveBytes();
    spread(out, operations.CT_LOOKUP, operations.CT_UPDATE, tracked);
    spread(out, operations.REVERSE_SK_LOOKUP, operations.REVERSE_SK_UPDATE, flows.reverseSk.liveBytes());
    spread(out, operations.NEIGH_LOOKUP, operations.NEIGH_UPDATE, flows.neighbours.liveBytes());
    spread(out, operations.SNAT_LOOKUP, operations.SNAT_UPDATE, flows.snat.liveBytes());
  }

  /** Every map with its limit. */
  tables(): readonly TableSize[] {
    const { services, flows } = this;
    const lb = [services.services, services.backends, services.reverseNat];
    const lru = [flows.ctTcp, flows.ctAny, flows.snat, flows.reverseSk, flows.neighbours];
    return [
      ...[...lb, flows.lxc].map((map) => table(map, map.maxEntries)),
      ...lru.map((map) => table(map, map.spec.maxEntries)),
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
      portExhaustions: this.#sourceNat.exhaustions,
    };
  }

  #fromDevice(packet: Packet, verdict: Verdict): void {
    if (this.#northSouth.receive(packet, verdict)) return;
    // The node's own address is the stack's business, unless a process of the node waits for the packet.
    const toHost = packet.destination === this.#nodeAddress;
    if (toHost && !this.tracking.isReply(packet, packet.protocol)) return;
    verdict.first = this.#endpoint.pass(packet, 0, verdict);
  }

  #fromSocket(packet: Packet, verdict: Verdict): void {
    if (this.#opens(packet) && !this.#socketLb.connect(packet, verdict)) return;
    this.#count(operations.PROGRAM, verdict.counts);
    this.#endpoint.pass(packet, 0, verdict);
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
    this.#count(operations.PROGRAM, verdict.counts);
    let scope: number = EXTERNAL;
    let master = walk.service(packet.destination, packet.destinationPort, 0, packet.protocol, EXTERNAL);
    if (master >= 0 && ((this.services.flags(master) >>> 8) & TWO_SCOPES) !== 0) {
      scope = INTERNAL;
      master = walk.service(packet.destination, packet.destinationPort, 0, packet.protocol, INTERNAL);
    }
    if (master < 0) {
      verdict.first = this.#endpoint.pass(packet, 0, verdict);
      return;
    }
    if (!this.#packetLb.balance(packet, master, scope, verdict)) return;
    this.#endpoint.pass(packet, this.services.revNat(master), verdict);
  }

  #count(operation: number, counts: Counts): void {
    counts[operation]! += 1;
  }
}

function table(map: HashMap | LruHashMap, maxEntries: number): TableSize {
  return { name: `${map.spec.name} (max ${maxEntries})`, entries: map.count, bytes: map.bytes() };
}

function spread(out: Float64Array, lookup: number, update: number, bytes: number): void {
  out[lookup] = bytes;
  out[update] = bytes;
}
