import { contains, formatIpv4, type Cidr, type Packet } from '@vipsim/sim-core';
import { DROP, type Verdict } from '../proxier.ts';
import { NEW, NODE_PORT_ENTRY, type ConnectionTracking } from './connection-tracking.ts';
import { FIB, PROGRAM, SOURCE_RANGE_LOOKUP } from './operations.ts';
import type { PacketLb } from './packet-lb.ts';
import { EXTERNAL, ROUTABLE, SOURCE_RANGE } from './service-maps.ts';
import { SNAT_PORT_MIN, type SourceNat } from './source-nat.ts';
import type { Walk } from './walk.ts';

export interface NorthSouthOptions {
  readonly nodeAddress: number;
  /** Addresses with a wildcard entry: a second lookup tells their unserved ports from strangers (1.18 and later). */
  readonly wildcards: boolean;
  /** loadBalancerSourceRanges of a frontend, by its reverse NAT id. */
  readonly sourceRanges: (revNat: number) => readonly Cidr[];
}

/**
 * The program at the network device: every packet that enters the node asks the service maps.
 * Models: NodePorts, load balancer and external IPs in SNAT mode, to backends here and elsewhere, and the answers
 * that come back through this node; ClusterIPs are closed to the outside (bpf-lb-external-clusterip=false).
 * Source: nodeport_lb4 and nodeport_rev_dnat, bpf/lib/nodeport.h.
 * Not modelled: DSR, XDP, tunnels, HostPorts, IPv6.
 */
export class NorthSouth {
  readonly #walk: Walk;
  readonly #tracking: ConnectionTracking;
  readonly #packetLb: PacketLb;
  readonly #sourceNat: SourceNat;
  readonly #options: NorthSouthOptions;

  constructor(
    walk: Walk,
    tracking: ConnectionTracking,
    packetLb: PacketLb,
    sourceNat: SourceNat,
    options: NorthSouthOptions,
  ) {
    this.#walk = walk;
    this.#tracking = tracking;
    this.#packetLb = packetLb;
    this.#sourceNat = sourceNat;
    this.#options = options;
  }

  /** Whether the packet was dealt with; if not, it is no service's and goes on to the stack or an endpoint. */
  receive(packet: Packet, verdict: Verdict): boolean {
    const walk = this.#walk;
    walk.counts[PROGRAM]! += 1;
    const master = walk.service(packet.destination, packet.destinationPort, 0, packet.protocol, EXTERNAL);
    if (master >= 0) {
      this.#serve(packet, master, verdict);
      return true;
    }
    if (this.#options.wildcards && walk.service(packet.destination, 0, 0, 0, EXTERNAL) >= 0) {
      this.#drop(verdict, 'no service at this port of a service address');
      return true;
    }
    return this.#answers(packet) && this.#answer(packet, verdict);
  }

  /** Whether a packet may be an answer to a translated flow. */
  #answers(packet: Packet): boolean {
    return packet.destination === this.#options.nodeAddress && packet.destinationPort >= SNAT_PORT_MIN;
  }

  #serve(packet: Packet, master: number, verdict: Verdict): void {
    const walk = this.#walk;
    const flags = walk.services.flags(master);
    const revNat = walk.services.revNat(master);
    if ((flags & ROUTABLE) === 0) return this.#drop(verdict, 'DROP_IS_CLUSTER_IP');
    if ((flags & SOURCE_RANGE) !== 0 && !this.#admits(packet.source, revNat)) {
      return this.#drop(verdict, 'DROP_NOT_IN_SRC_RANGE');
    }
    if (!this.#packetLb.balance(packet, master, EXTERNAL, verdict)) return;
    const local = walk.isLocalEndpoint(verdict.destination);
    const { protocol } = packet;
    const status = this.#tracking.lookup(walk, verdict, protocol, packet.flags, false);
    if (status === NEW) {
      const made = this.#tracking.create(
        walk,
        verdict,
        protocol,
        packet.flags,
        revNat,
        NODE_PORT_ENTRY,
        false,
      );
      if (!made) return this.#drop(verdict, 'DROP_CT_CREATE_FAILED');
    }
    if (local) return;
    walk.neighbour(packet.source);
    if (!this.#sourceNat.translate(protocol, verdict)) return this.#drop(verdict, 'DROP_NAT_NO_MAPPING');
    walk.counts[FIB]! += 1;
  }

  /** An answer from a backend elsewhere: to the client, from the address that it asked. */
  #answer(packet: Packet, verdict: Verdict): boolean {
    const walk = this.#walk;
    const tracking = this.#tracking;
    if (!this.#sourceNat.restore(packet, verdict)) return false;
    // Once to tell whether the flow entered here as a service's, once to let its entry see the packet.
    tracking.lookupReverse(walk, verdict, packet.protocol);
    const status = tracking.lookup(walk, verdict, packet.protocol, packet.flags, true);
    if (status === NEW || !tracking.isNodePort()) return true;
    const element = walk.reverseNat(tracking.revNat());
    if (element >= 0) {
      verdict.source = walk.services.reverseAddress(element);
      verdict.sourcePort = walk.services.reversePort(element);
    }
    walk.counts[FIB]! += 1;
    return true;
  }

  #admits(source: number, revNat: number): boolean {
    this.#walk.counts[SOURCE_RANGE_LOOKUP]! += 1;
    const admitted = this.#options.sourceRanges(revNat).some((range) => contains(range, source));
    this.#walk.recorder?.step(
      'cilium_lb4_source_range',
      `${revNat}, ${formatIpv4(source)}: ${admitted ? 'hit' : 'miss'}`,
    );
    return admitted;
  }

  #drop(verdict: Verdict, why: string): void {
    verdict.fate = DROP;
    this.#walk.recorder?.step('nodeport_lb4', why);
  }
}
