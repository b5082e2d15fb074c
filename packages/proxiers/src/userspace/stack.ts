import { FROM_HOST, FROM_POD, type Packet } from '@vipsim/sim-core';
import { ConnectionPath, DONE } from '../netfilter/connection-path.ts';
import { DROP, FORWARD, type NodeContext, type Verdict } from '../proxier.ts';
import { OPERATION } from './operations.ts';
import { PortalWalk } from './portal-walk.ts';
import type { Portals } from './portals.ts';

const STACK_PACKET = OPERATION['stack.packet'];

/**
 * The node's netfilter around the proxy: what comes in, what its sockets send.
 *
 *     in:  conntrack → nat PREROUTING (portals, node ports) → filter INPUT → nat INPUT → socket
 *     out: conntrack → nat OUTPUT (portals, node ports) → filter OUTPUT → nat POSTROUTING
 *
 * nat is asked by the first packet of a connection only; what the proxy dials has one of its own and passes all
 * rules for packets from the host. Hook order: include/uapi/linux/netfilter_ipv4.h.
 * REDIRECT leads to the primary address of the interface that a packet came in by (nf_nat_redirect.c), which is the
 * pods' bridge; the node's address stands for it here. Pods hang on that bridge, with bridge-nf-call-iptables on.
 */
export class Stack {
  readonly path: ConnectionPath;
  readonly walk: PortalWalk;
  readonly nodeAddress: number;

  constructor(node: NodeContext, portals: Portals) {
    this.path = new ConnectionPath(node);
    this.nodeAddress = node.cluster.nodes[node.node]!.address;
    this.walk = new PortalWalk(portals, this.nodeAddress);
  }

  /**
   * Take a packet from the wire, a pod or the host. Returns the port of the node's own to which it goes, 0 when it
   * goes elsewhere: it is forwarded, or it is gone. `proxyPorts`: where service ports listen.
   */
  receive(packet: Packet, nowNs: number, proxyPorts: Uint16Array, verdict: Verdict): number {
    const entry = this.path.enter(packet, nowNs, verdict);
    if (verdict.fate === DROP) return 0;
    if (entry === DONE) {
      this.#filter(packet, verdict.destination, verdict.destinationPort, false, verdict);
      return this.walk.isLocal(verdict.destination) ? verdict.destinationPort : 0;
    }
    const { walk } = this;
    const fromHost = packet.origin === FROM_HOST;
    this.#see(packet, packet.destination, packet.destinationPort, true);
    walk.translate(fromHost, verdict.counts);
    const redirected = walk.servicePort >= 0;
    const destination = redirected ? this.nodeAddress : packet.destination;
    const port = redirected ? proxyPorts[walk.servicePort]! : packet.destinationPort;
    this.#filter(packet, destination, port, true, verdict);
    walk.policy(verdict.counts);
    this.path.accept(entry, redirected ? destination : 0, port, 0, verdict);
    return verdict.fate === FORWARD && walk.isLocal(destination) ? port : 0;
  }

  /** Send a packet from a socket of the node. It is in `verdict` as it leaves. False if it is lost on the way. */
  send(packet: Packet, nowNs: number, verdict: Verdict): boolean {
    const { walk } = this;
    verdict.source = packet.source;
    verdict.sourcePort = packet.sourcePort;
    verdict.destination = packet.destination;
    verdict.destinationPort = packet.destinationPort;
    verdict.counts[STACK_PACKET]! += 1;
    const entry = this.path.enter(packet, nowNs, verdict);
    if (verdict.fate === DROP) return false;
    if (entry === DONE) {
      this.#filter(packet, verdict.destination, verdict.destinationPort, false, verdict);
      return true;
    }
    this.#see(packet, packet.destination, packet.destinationPort, true);
    walk.translate(true, verdict.counts);
    this.#filter(packet, packet.destination, packet.destinationPort, true, verdict);
    walk.policy(verdict.counts);
    this.path.accept(entry, 0, 0, 0, verdict);
    return verdict.fate === FORWARD;
  }

  /** filter OUTPUT of what the host sends, then INPUT or FORWARD. */
  #filter(packet: Packet, destination: number, port: number, opening: boolean, verdict: Verdict): void {
    const { walk } = this;
    const fromHost = packet.origin === FROM_HOST;
    if (fromHost) walk.policy(verdict.counts);
    if (walk.isLocal(destination)) {
      this.#see(packet, destination, port, opening);
      walk.input(verdict.counts);
    } else if (!fromHost) {
      walk.policy(verdict.counts);
    }
  }

  #see(packet: Packet, destination: number, port: number, opening: boolean): void {
    const { walk } = this;
    walk.destination = destination;
    walk.destinationPort = port;
    walk.protocol = packet.protocol;
    walk.opening = opening;
    walk.fromBridge = packet.origin === FROM_POD;
  }
}
