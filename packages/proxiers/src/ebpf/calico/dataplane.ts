import { ACK, FROM_OUTSIDE, SYN, TCP, type Packet, type Stream } from '@vipsim/sim-core';
import type { Counts } from '../../cost/operations.ts';
import {
  DROP,
  REJECT,
  type ConnectionStats,
  type Dataplane,
  type NodeContext,
  type Recorder,
  type TableSize,
  type Verdict,
} from '../../proxier.ts';
import * as operations from '../operations.ts';
import { ConnectionScan, type FrontendEndpoints } from './connection-scan.ts';
import { Conntrack, DNAT, ESTABLISHED, MID_FLOW, NEW, SNAT } from './conntrack.ts';
import type { NatMaps } from './nat-maps.ts';
import { AT_DEVICE, AT_SOCKET, AT_WORKLOAD, FORBIDDEN, FOUND, NatLookup, NO_BACKEND } from './nat-lookup.ts';
import { CALICO_OPERATIONS, FRONTEND_LOOKUP, MAGLEV_LOOKUP } from './operations.ts';
import { CalicoWalk } from './walk.ts';

const SECOND = 1_000_000_000;

export interface CalicoDataplaneOptions {
  /** bpfConnectTimeLoadBalancing: TCP, or Disabled. */
  readonly connectTime: boolean;
  /** bpfExternalServiceMode: answers to outside clients leave from the endpoint's node (DSR), or come back (Tunnel). */
  readonly direct: boolean;
}

/**
 * What a packet meets on a node whose Services are Calico's: programs at sockets, at pods' interfaces and at the device.
 * Models: connections first, the service only for what opens one; TCP sockets translated as they connect; endpoints on
 * other nodes reached from outside through a tunnel that keeps the client's address; what a scan has forgotten.
 * Source: felix/bpf-gpl/{tc.c,connect.h,fib_co_re.h}. A pod's or the host's packet meets the program where it enters.
 * Not modelled: policy; the second program of a flow (at the far pod, or where it leaves); the loop through the node's
 * own service interface; unconnected UDP sockets' own translation, which needs bpfConnectTimeLoadBalancing Enabled.
 */
export class CalicoDataplane implements Dataplane {
  readonly maps: NatMaps;
  readonly conntrack: Conntrack;
  /** Felix's scans as work beside its syncs: what ran in the last second. */
  readonly scanWork: { readonly periodNs: number; readonly counts: Counts };
  readonly #options: CalicoDataplaneOptions;
  readonly #walk: CalicoWalk;
  readonly #lookup: NatLookup;
  readonly #scan: ConnectionScan;
  readonly #ports: Stream;
  #cookies = 0;

  constructor(
    node: NodeContext,
    maps: NatMaps,
    endpoints: FrontendEndpoints,
    options: CalicoDataplaneOptions,
  ) {
    const { streams, cores } = node;
    this.maps = maps;
    this.#options = options;
    this.conntrack = new Conntrack(maps.conntrack);
    this.#walk = new CalicoWalk(cores);
    this.#lookup = new NatLookup(this.#walk, maps, streams.stream('ebpf.calico.prandom'));
    this.#ports = streams.stream('ebpf.calico.ports');
    this.#scan = new ConnectionScan(this.conntrack, endpoints);
    this.scanWork = { periodNs: SECOND, counts: new Float64Array(CALICO_OPERATIONS.length) };
  }

  get recorder(): Recorder | undefined {
    return this.#walk.recorder;
  }

  set recorder(recorder: Recorder | undefined) {
    this.#walk.recorder = recorder;
  }

  classify(packet: Packet, nowNs: number, verdict: Verdict): void {
    const walk = this.#walk;
    walk.begin(packet, nowNs, verdict.counts);
    const { source, sourcePort, destination, destinationPort, protocol } = packet;
    const { conntrack } = this;
    if (
      this.#options.direct &&
      conntrack.isDirectAnswer(source, sourcePort, destination, destinationPort, protocol)
    ) {
      walk.recorder?.step('tc', "the endpoint's node answers the client itself: nothing comes here");
      return this.#restore(verdict);
    }
    const outside = packet.origin === FROM_OUTSIDE;
    if (!outside && this.#connects(packet) && !this.#connect(packet, verdict)) return;
    this.#pass(packet, outside ? AT_DEVICE : AT_WORKLOAD, verdict);
  }

  /** Lets Felix scan, when it is due. */
  expire(nowNs: number): void {
    const { counts } = this.scanWork;
    counts.fill(0);
    this.#scan.run(nowNs, counts);
  }

  workingSets(out: Float64Array): void {
    const { maps } = this;
    out.fill(0);
    const tracked = maps.conntrack.liveBytes();
    const sticky = maps.affinity.liveBytes();
    const sockets = maps.sockets.liveBytes();
    out[FRONTEND_LOOKUP] = maps.frontends.bytes();
    out[MAGLEV_LOOKUP] = maps.maglev.liveBytes();
    out[operations.BACKENDS_LOOKUP] = maps.backends.liveBytes();
    out[operations.IPCACHE_LOOKUP] = maps.routes.bytes();
    out[operations.CT_LOOKUP] = tracked;
    out[operations.CT_UPDATE] = tracked;
    out[operations.AFFINITY_LOOKUP] = sticky;
    out[operations.AFFINITY_UPDATE] = sticky;
    out[operations.REVERSE_SK_UPDATE] = sockets;
  }

  tables(): readonly TableSize[] {
    const { frontends, backends, affinity, maglev, conntrack, sockets, routes } = this.maps;
    const shown = [frontends, backends, routes, conntrack, sockets];
    if (affinity.count > 0) shown.push(affinity);
    if (maglev.count > 0) shown.push(maglev);
    return shown.map((map) => ({
      name: `${map.spec.name} (max ${map.maxEntries})`,
      entries: map.count,
      bytes: map.bytes(),
    }));
  }

  connections(): ConnectionStats {
    const { inserts, drops, peak, map } = this.conntrack;
    return { entries: map.count, peak, inserts, drops, earlyDrops: map.evictions, portExhaustions: 0 };
  }

  /** A socket connects now: the first packet of a TCP flow that no entry knows. */
  #connects({ source, sourcePort, destination, destinationPort, protocol, flags }: Packet): boolean {
    if (!this.#options.connectTime || protocol !== TCP || (flags & (SYN | ACK)) !== SYN) return false;
    return !this.conntrack.isKnown(source, sourcePort, destination, destinationPort, protocol);
  }

  /** False when connect(2) fails and nothing is sent. */
  #connect(packet: Packet, verdict: Verdict): boolean {
    const walk = this.#walk;
    walk.counts[operations.CONNECT]! += 1;
    verdict.first = true;
    const found = this.#lookup.lookup(packet, 0, AT_SOCKET);
    if (found === NO_BACKEND) {
      verdict.fate = REJECT;
      walk.recorder?.step('connect4', 'no endpoint: EPERM');
      return false;
    }
    if (found !== FOUND) return true;
    const { address, port, endpoint } = this.#lookup;
    this.#cookies++;
    const { sockets } = this.maps;
    sockets.key[0] = this.#cookies;
    sockets.key[1] = 0;
    sockets.key[2] = address;
    sockets.key[3] = port | (packet.protocol << 16);
    const text = walk.recorder === undefined ? '' : `cookie ${this.#cookies}`;
    const entry = walk.put(sockets, operations.REVERSE_SK_UPDATE, text);
    if (entry >= 0) {
      sockets.setValue(entry, 0, packet.destination);
      sockets.setValue(entry, 1, packet.destinationPort);
    }
    verdict.destination = address;
    verdict.destinationPort = port;
    verdict.endpoint = endpoint;
    verdict.connected = true;
    return true;
  }

  /** One program at tc: what the packet is so far stands in `verdict`. */
  #pass(packet: Packet, where: number, verdict: Verdict): void {
    const walk = this.#walk;
    const { conntrack } = this;
    walk.counts[operations.PROGRAM]! += 1;
    const { source, sourcePort, destination, destinationPort } = verdict;
    const { protocol, flags } = packet;
    switch (conntrack.lookup(walk, source, sourcePort, destination, destinationPort, protocol, flags)) {
      case DNAT:
        verdict.destination = conntrack.address;
        verdict.destinationPort = conntrack.port;
        verdict.sourcePort = conntrack.sourcePort;
        if (where === AT_DEVICE && this.#lookup.isRemote(verdict.destination)) this.#tunnel();
        break;
      case SNAT:
        this.#restore(verdict);
        break;
      case ESTABLISHED:
        break;
      case MID_FLOW:
        if (where !== AT_DEVICE || !this.#lookup.isTabled(packet)) return this.#leaveToHost(packet, verdict);
        if (!this.#open(packet, where, verdict)) return;
        break;
      case NEW:
        if (!this.#open(packet, where, verdict)) return;
        break;
    }
    walk.counts[operations.FIB]! += 1;
  }

  /** The first packet of a flow. False when it ends here. */
  #open(packet: Packet, where: number, verdict: Verdict): boolean {
    const walk = this.#walk;
    const lookup = this.#lookup;
    verdict.first = true;
    if (verdict.connected) return this.#enter(packet, where, verdict);
    const found = lookup.lookup(packet, packet.source, where);
    if (found === FORBIDDEN) return this.#end(verdict, DROP, 'the client is in no source range');
    if (found === NO_BACKEND) return this.#end(verdict, REJECT, 'no endpoint: ICMP port unreachable');
    if (found !== FOUND) return this.#enter(packet, where, verdict);
    const { address, port } = lookup;
    const outside = where === AT_DEVICE;
    const remote = outside && lookup.isRemote(address);
    const direct = remote && this.#options.direct;
    const ports = outside ? this.#ports : undefined;
    if (!this.conntrack.createTranslated(walk, packet, address, port, direct, ports)) {
      return this.#end(verdict, DROP, 'no conntrack entry');
    }
    verdict.endpoint = lookup.endpoint;
    verdict.destination = address;
    verdict.destinationPort = port;
    verdict.sourcePort = this.conntrack.sourcePort;
    if (remote) this.#tunnel();
    return true;
  }

  /** A flow to where it says: the program asks for the service all the same. */
  #enter(packet: Packet, where: number, verdict: Verdict): boolean {
    const walk = this.#walk;
    // After connect() the packet carries the endpoint's address, which no frontend has: the trie and a route say so.
    if (verdict.connected) this.#lookup.confirmNoService(verdict, packet.protocol, packet.source);
    const { source, sourcePort, destination, destinationPort } = verdict;
    const { protocol, flags } = packet;
    const done = this.conntrack.create(
      walk,
      source,
      sourcePort,
      destination,
      destinationPort,
      protocol,
      flags,
    );
    return (
      done || this.#end(verdict, DROP, `no conntrack entry${where === AT_DEVICE ? ' at the device' : ''}`)
    );
  }

  /** An answer leaves from the address that the client asked. */
  #restore(verdict: Verdict): void {
    verdict.source = this.conntrack.address;
    verdict.sourcePort = this.conntrack.port;
    verdict.destinationPort = this.conntrack.sourcePort;
  }

  /** A VXLAN header to the endpoint's node. */
  #tunnel(): void {
    this.#walk.counts[operations.DSR_DISPATCH]! += 1;
    this.#walk.recorder?.step('tc', "through the tunnel to the endpoint's node");
  }

  /** TCP in the middle of a flow without an entry: the host's own stack knows no service, and loses it. */
  #leaveToHost(packet: Packet, verdict: Verdict): void {
    const lost = this.#lookup.isFrontend(packet);
    if (lost) verdict.fate = DROP;
    this.#walk.recorder?.step(
      'tc',
      `no entry in mid-flow: left to the host${lost ? ', which has no such address' : ''}`,
    );
  }

  #end(verdict: Verdict, fate: typeof DROP | typeof REJECT, why: string): false {
    verdict.fate = fate;
    this.#walk.recorder?.step('tc', why);
    return false;
  }
}
