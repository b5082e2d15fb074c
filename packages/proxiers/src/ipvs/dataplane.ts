import { FROM_HOST, Packet, TCP, type AddressFamily } from '@vipsim/sim-core';
import { ConnectionPath, DONE } from '../netfilter/connection-path.ts';
import type { Counts } from '../cost/operations.ts';
import { familyOf } from '../kubernetes/cluster.ts';
import {
  DROP,
  REJECT,
  type ConnectionStats,
  type Dataplane,
  type NodeContext,
  type Recorder,
  type TableSize,
  type Verdict,
} from '../proxier.ts';
import { CONNECTION_STATES, OUT } from './connection-states.ts';
import { FOUND, OPENED, PASS, REFUSED, type Director, type Outcome } from './director.ts';
import type { GracefulTermination } from './graceful-termination.ts';
import { HASH_IP, IpSet, entryOf } from './ipset.ts';
import { IPVS_OPERATIONS, NAT_REWRITE } from './operations.ts';
import { DROPPED as RULES_DROP, MASQUERADED, REJECTED, RuleWalk, type Walked } from './rule-walk.ts';
import { FILTER_TABLE, natTable } from './rules.ts';
import type { Sets } from './sets.ts';
import { ipvsTables, ipvsWorkingSets } from './memory.ts';
import { requestText } from './request-text.ts';

/**
 * What a packet meets on a node in IPVS mode. A packet to a virtual address:
 *
 *     conntrack → nat PREROUTING → filter INPUT → IPVS (reply?, request?) → filter OUTPUT → nat POSTROUTING
 *
 * and a reply: conntrack → filter FORWARD → IPVS (reply?). The nat chains only meet a connection's first packet.
 * With net/ipv4/vs/conntrack=1, which kube-proxy sets, each connection has a conntrack and an IPVS entry, and
 * they go together.
 * Source: net/netfilter/ipvs/ip_vs_core.c and ip_vs_xmit.c; pkg/proxy/ipvs/proxier.go.
 * Not modelled: the lookup of the ipvs match in KUBE-IPVS-OUT-FILTER is not counted; ICMP; servers on the node's
 * own network. The hairpin MASQUERADE takes a random port here, where kube-proxy's rule keeps the client's if free.
 */
export class IpvsDataplane implements Dataplane {
  readonly director: Director;
  readonly nat: RuleWalk;
  readonly filter: RuleWalk;
  /** The node's addresses: its own and those bound to kube-ipvs0, which is not limited as ipsets are. */
  readonly local: IpSet;
  /** Work that belongs to no packet and no sync pass: timers, the worker after removals, draining checks. */
  readonly background: Counts = new Float64Array(IPVS_OPERATIONS.length);
  readonly #path: ConnectionPath;
  readonly #sets: Sets;
  readonly #cores: number;
  readonly #family: AddressFamily;
  readonly #address: number;
  readonly #termination: GracefulTermination;
  readonly #original = new Packet();
  #recorder: Recorder | undefined;
  #nowNs = 0;

  constructor(node: NodeContext, director: Director, sets: Sets, termination: GracefulTermination) {
    this.director = director;
    this.#path = new ConnectionPath(node);
    this.#sets = sets;
    this.#cores = node.cores;
    this.#family = familyOf(node.cluster);
    this.#termination = termination;
    this.#address = node.cluster.nodes[node.node]!.address;
    this.local = new IpSet('local', HASH_IP, '', 0, Infinity);
    this.nat = new RuleWalk(natTable(node.cluster.podCidr), sets, this.local);
    this.filter = new RuleWalk(FILTER_TABLE, sets, this.local);
    director.onExpire = (connection) => this.#dropConntrack(connection);
  }

  get recorder(): Recorder | undefined {
    return this.#recorder;
  }

  set recorder(recorder: Recorder | undefined) {
    this.#recorder = recorder;
    this.nat.recorder = recorder;
    this.filter.recorder = recorder;
  }

  classify(packet: Packet, nowNs: number, verdict: Verdict): void {
    this.#nowNs = nowNs;
    this.director.sweep(nowNs);
    this.director.settle(this.background);
    const entry = this.#path.enter(packet, nowNs, verdict);
    this.#recorder?.step('conntrack', entry === DONE ? 'known connection' : 'new entry');
    if (verdict.fate === DROP) return;
    if (entry === DONE) this.#established(packet, nowNs, verdict);
    else this.#opening(packet, entry, nowNs, verdict);
    this.#uncountRewrite(packet, verdict);
  }

  expire(nowNs: number): void {
    this.#nowNs = nowNs;
    this.director.expire(nowNs, this.background);
    this.#path.conntrack.expire(nowNs);
    this.#termination.check(nowNs, this.background);
  }

  /** Addresses are bound to kube-ipvs0: packets to them are for the node. */
  bind(addresses: readonly number[]): void {
    for (const address of [this.#address, ...addresses]) this.local.add(entryOf(address));
  }

  workingSets(out: Float64Array): void {
    ipvsWorkingSets(this.director, this.#sets, this.#path.workingSet(), out);
  }

  tables(): readonly TableSize[] {
    return ipvsTables(this.director, this.#sets, this.#path.conntrack, this.#cores);
  }

  connections(): ConnectionStats {
    return this.#path.stats();
  }

  /** The first packet of a conntrack entry. */
  #opening(packet: Packet, entry: number, nowNs: number, verdict: Verdict): void {
    const { counts } = verdict;
    const fromHost = packet.origin === FROM_HOST;
    this.nat.mark = 0;
    this.#walk(this.nat, fromHost ? 'OUTPUT' : 'PREROUTING', packet, true, counts);
    if (!fromHost && !this.nat.isLocal(packet.destination)) {
      this.filter.mark = this.nat.mark;
      const fate = this.#walk(this.filter, 'FORWARD', packet, true, counts);
      if (this.#refused(entry, fate, verdict)) return;
      this.director.findReply(packet, packet.destination, packet.destinationPort, counts);
      this.#leave(packet, entry, 0, 0, verdict);
      return;
    }
    if (!fromHost && this.#refused(entry, this.#walk(this.filter, 'INPUT', packet, true, counts), verdict))
      return;
    const reply = this.director.findReply(packet, packet.destination, packet.destinationPort, counts);
    if (reply >= 0) {
      // A reply whose conntrack entry is gone: IPVS still knows the connection.
      this.director.advance(reply, OUT, packet.flags, nowNs, counts);
      this.#leave(packet, entry, 0, 0, verdict);
      return;
    }
    const known = this.director.seek(packet);
    this.director.countSeek(counts);
    const outcome = this.director.request(known, packet, false, nowNs, counts);
    this.#recorder?.step('ipvs', this.#describe(packet, outcome));
    verdict.first = outcome !== FOUND;
    if (outcome === PASS) {
      this.#pass(packet, entry, fromHost, verdict);
    } else if (outcome === FOUND || outcome === OPENED) {
      this.#transmit(packet, entry, outcome, verdict);
    } else {
      this.#path.refuse(entry, outcome === REFUSED ? REJECT : DROP, verdict);
    }
  }

  /** A packet whose conntrack entry exists; `verdict` holds its translation already. */
  #established(packet: Packet, nowNs: number, verdict: Verdict): void {
    const { counts } = verdict;
    const { connections } = this.director;
    const fromHost = packet.origin === FROM_HOST;
    this.filter.mark = 0;
    const request = this.director.seek(packet);
    if (request >= 0) {
      this.#establishedRequest(packet, request, nowNs, verdict);
      return;
    }
    // Masquerading is undone before routing: a reply goes to the client's own address.
    const client = verdict.destination;
    const clientPort = verdict.destinationPort;
    const local = !fromHost && this.nat.isLocal(client);
    const chain = fromHost ? 'OUTPUT' : local ? 'INPUT' : 'FORWARD';
    if (this.#stopped(this.filter.walk(chain, packet, client, clientPort, false, counts), verdict)) return;
    const reply = this.director.findReply(packet, client, clientPort, counts);
    if (reply < 0) {
      if (fromHost || local) this.director.countSeek(counts);
      // To a virtual address, but no longer IPVS's: the node itself answers, with a reset.
      if (local && packet.protocol === TCP && this.#isVirtual(packet)) verdict.fate = REJECT;
      return;
    }
    this.director.advance(reply, OUT, packet.flags, nowNs, counts);
    if (verdict.source === packet.source && verdict.sourcePort === packet.sourcePort) {
      verdict.source = connections.virtual[reply]!;
      verdict.sourcePort = connections.virtualPort[reply]!;
    }
    this.#recorder?.step(
      'ipvs',
      `reply of a known connection, ${CONNECTION_STATES[connections.state[reply]!]}`,
    );
  }

  #establishedRequest(packet: Packet, request: number, nowNs: number, verdict: Verdict): void {
    const { counts } = verdict;
    const { connections } = this.director;
    const real = connections.real[request]!;
    const realPort = connections.realPort[request]!;
    if (packet.origin !== FROM_HOST) {
      if (this.#stopped(this.#walk(this.filter, 'INPUT', packet, false, counts), verdict)) return;
    }
    this.director.findReply(packet, packet.destination, packet.destinationPort, counts);
    this.director.countSeek(counts);
    const outcome = this.director.request(request, packet, true, nowNs, counts);
    this.#recorder?.step('ipvs', this.#describe(packet, outcome));
    if (outcome !== FOUND) {
      verdict.fate = DROP;
      return;
    }
    if (this.#stopped(this.filter.walk('OUTPUT', packet, real, realPort, false, counts), verdict)) return;
    if (verdict.destination === packet.destination && verdict.destinationPort === packet.destinationPort) {
      // Conntrack found the packet invalid and left it alone; IPVS does not.
      verdict.destination = real;
      verdict.destinationPort = realPort;
    }
  }

  /** IPVS sends a packet to its real server: out by OUTPUT, where it may end, its entry made already; and POSTROUTING. */
  #transmit(packet: Packet, entry: number, outcome: Outcome, verdict: Verdict): void {
    const { servers, server, serverPort: realPort } = this.director;
    const real = servers.address[server]!;
    this.filter.mark = this.nat.mark;
    const fate = this.filter.walk('OUTPUT', packet, real, realPort, true, verdict.counts);
    if (this.#refused(entry, fate, verdict)) return;
    if (outcome === OPENED) verdict.endpoint = servers.endpoint[server]!;
    this.#leave(packet, entry, real, realPort, verdict);
  }

  /** A packet for the node that is not IPVS's. */
  #pass(packet: Packet, entry: number, fromHost: boolean, verdict: Verdict): void {
    if (packet.protocol === TCP && this.#isVirtual(packet)) {
      this.#path.refuse(entry, REJECT, verdict);
      return;
    }
    if (
      fromHost &&
      this.#refused(entry, this.#walk(this.filter, 'OUTPUT', packet, true, verdict.counts), verdict)
    )
      return;
    this.#leave(packet, entry, 0, 0, verdict);
  }

  /** POSTROUTING, and the connection is confirmed. */
  #leave(packet: Packet, entry: number, address: number, port: number, verdict: Verdict): void {
    const destination = address === 0 ? packet.destination : address;
    const destinationPort = address === 0 ? packet.destinationPort : port;
    const fate = this.nat.walk('POSTROUTING', packet, destination, destinationPort, true, verdict.counts);
    const masqueradeAs = fate === MASQUERADED ? this.#address : 0;
    this.#path.accept(entry, address, port, masqueradeAs, verdict);
  }

  #walk(table: RuleWalk, chain: string, packet: Packet, opening: boolean, counts: Counts): Walked {
    return table.walk(chain, packet, packet.destination, packet.destinationPort, opening, counts);
  }

  #refused(entry: number, fate: Walked, verdict: Verdict): boolean {
    if (fate !== REJECTED && fate !== RULES_DROP) return false;
    this.#path.refuse(entry, fate === REJECTED ? REJECT : DROP, verdict);
    return true;
  }

  /** The same for a packet of a connection that conntrack knows, and keeps. */
  #stopped(fate: Walked, verdict: Verdict): boolean {
    if (fate === REJECTED) verdict.fate = REJECT;
    if (fate === RULES_DROP) verdict.fate = DROP;
    return fate === REJECTED || fate === RULES_DROP;
  }

  /** Whether the packet's destination is an address of kube-ipvs0, or a port of the node that is a virtual server. */
  #isVirtual(packet: Packet): boolean {
    if (packet.destination !== this.#address) return this.nat.isLocal(packet.destination);
    const { services } = this.director;
    return services.find(packet.protocol, packet.destination, packet.destinationPort) >= 0;
  }

  /** IPVS translates the service address, so conntrack rewrites a packet only where it was masqueraded. */
  #uncountRewrite(packet: Packet, verdict: Verdict): void {
    const { counts } = verdict;
    if (!counts[NAT_REWRITE]) return;
    const sourceKept = verdict.source === packet.source && verdict.sourcePort === packet.sourcePort;
    const destinationKept =
      verdict.destination === packet.destination && verdict.destinationPort === packet.destinationPort;
    if (sourceKept || destinationKept) counts[NAT_REWRITE]! -= 1;
  }

  #dropConntrack(connection: number): void {
    const { client, clientPort, virtual, virtualPort, protocol } = this.director.connections;
    const original = this.#original;
    original.source = client[connection]!;
    original.sourcePort = clientPort[connection]!;
    original.destination = virtual[connection]!;
    original.destinationPort = virtualPort[connection]!;
    original.protocol = protocol[connection]!;
    const { conntrack } = this.#path;
    const node = conntrack.find(original, this.#nowNs);
    if (node >= 0) conntrack.remove(node >> 1);
  }

  #describe(packet: Packet, outcome: Outcome): string {
    return requestText(this.director, this.#family, packet, outcome);
  }
}
