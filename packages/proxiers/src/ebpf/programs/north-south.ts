import { TCP, type Packet } from '@vipsim/sim-core';
import { DROP, type Verdict } from '../../proxier.ts';
import { NEW, NODE_PORT_ENTRY, type ConnectionTracking } from './connection-tracking.ts';
import type { EbpfDataplaneOptions } from './options.ts';
import type { Dsr } from './dsr.ts';
import { FIB, PROGRAM, XDP } from '../operations.ts';
import type { PacketLb } from './packet-lb.ts';
import { EXTERNAL, FORWARD_DSR, ROUTABLE, SOURCE_RANGE } from '../service-maps.ts';
import type { SourceNat } from './source-nat.ts';
import type { Walk } from './walk.ts';

const HOST_PORT = 0x08;
/** In the second flag byte of a master: its source ranges are those that are kept out. */
const SOURCE_RANGE_DENY = 0x40;

/** What the device's program works with. */
export interface NorthSouthParts {
  readonly walk: Walk;
  readonly tracking: ConnectionTracking;
  readonly packetLb: PacketLb;
  readonly sourceNat: SourceNat;
  readonly dsr: Dsr;
}

/**
 * The program at the network device, at tc or XDP: every packet that enters the node asks the service maps.
 * Models: NodePorts, load balancer and external IPs with backends here and elsewhere, by SNAT or DSR, and the answers
 * that come back through this node; ClusterIPs closed to the outside unless bpf-lb-external-clusterip; source ranges
 * that admit or deny; unserved ports of service addresses. XDP sends on what leaves again; packets for this node go
 * up to tc, which is told not to balance them once more, and pay both.
 * Source: nodeport_lb4 and nodeport_rev_dnat, bpf/lib/nodeport.h; bpf/bpf_xdp.c.
 * Not modelled: the policy of a local backend's own program, tunnels, services of layer 7, IPv6.
 */
export class NorthSouth {
  readonly #parts: NorthSouthParts;
  readonly #options: EbpfDataplaneOptions;
  readonly #xdp: boolean;

  constructor(parts: NorthSouthParts, options: EbpfDataplaneOptions) {
    this.#parts = parts;
    this.#options = options;
    this.#xdp = options.acceleration === 'native';
  }

  /** Whether the packet was dealt with; if not, it is no service's and goes on to the stack or an endpoint. */
  receive(packet: Packet, verdict: Verdict): boolean {
    const { walk, sourceNat } = this.#parts;
    verdict.pastStack = this.#xdp;
    walk.counts[this.#xdp ? XDP : PROGRAM]! += 1;
    const master = walk.service(packet.destination, packet.destinationPort, 0, packet.protocol, EXTERNAL);
    if (master >= 0) {
      this.#serve(packet, master, verdict);
      return true;
    }
    if (this.#options.wildcards && walk.service(packet.destination, 0, 0, 0, EXTERNAL) >= 0) {
      this.#drop(verdict, 'DROP_NO_SERVICE: no service at this port of a service address');
      return true;
    }
    if (this.#options.mode !== 'dsr' && sourceNat.mayAnswer(packet) && this.#answer(packet, verdict)) {
      return true;
    }
    this.#passUp(verdict);
    return false;
  }

  #serve(packet: Packet, master: number, verdict: Verdict): void {
    const { walk, packetLb, sourceNat, dsr } = this.#parts;
    const flags = walk.services.flags(master);
    const revNat = walk.services.revNat(master);
    if ((flags & ROUTABLE) === 0 && !this.#options.externalClusterIP) {
      return this.#drop(verdict, 'DROP_IS_CLUSTER_IP');
    }
    if ((flags & SOURCE_RANGE) !== 0) {
      const denies = ((flags >>> 8) & SOURCE_RANGE_DENY) !== 0;
      if (walk.inSourceRange(revNat, packet.source) === denies) {
        return this.#drop(verdict, 'DROP_NOT_IN_SRC_RANGE');
      }
    }
    if (!packetLb.balance(packet, master, EXTERNAL, false, verdict)) return;
    const local = walk.isLocalEndpoint(verdict.destination);
    if (!local && (flags & HOST_PORT) !== 0)
      return this.#drop(verdict, 'DROP_INVALID: a host port elsewhere');
    const direct = !local && this.#isDirect(packet.protocol, flags);
    if (!direct && !this.#track(packet, revNat, verdict)) return this.#drop(verdict, 'DROP_CT_CREATE_FAILED');
    if (local) return this.#passUp(verdict);
    if (direct) {
      dsr.dispatch(packet, verdict);
    } else {
      walk.neighbour(packet.source);
      if (!sourceNat.translate(packet.protocol, verdict)) return this.#drop(verdict, 'DROP_NAT_NO_MAPPING');
    }
    walk.counts[FIB]! += 1;
  }

  /** Whether answers go to the client from the backend's node. */
  #isDirect(protocol: number, flags: number): boolean {
    const { mode } = this.#options;
    return mode === 'dsr' || (mode === 'hybrid' && protocol === TCP) || ((flags >>> 8) & FORWARD_DSR) !== 0;
  }

  /** The connection to the backend; false when it could not be entered. */
  #track(packet: Packet, revNat: number, verdict: Verdict): boolean {
    const { walk, tracking } = this.#parts;
    const { protocol, flags } = packet;
    if (this.#options.bothDirections) tracking.lookupReverse(walk, verdict, protocol);
    if (tracking.lookup(walk, verdict, protocol, flags, false) !== NEW) return true;
    return tracking.create(walk, verdict, protocol, revNat, NODE_PORT_ENTRY, false);
  }

  /** An answer from a backend elsewhere: to the client, from the address that it asked. */
  #answer(packet: Packet, verdict: Verdict): boolean {
    const { walk, tracking, sourceNat } = this.#parts;
    if (!sourceNat.restore(packet, verdict)) return false;
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

  /** On to tc, which knows from the packet's metadata that it has been balanced. */
  #passUp(verdict: Verdict): void {
    verdict.pastStack = false;
    if (this.#xdp) this.#parts.walk.counts[PROGRAM]! += 1;
  }

  #drop(verdict: Verdict, why: string): void {
    verdict.fate = DROP;
    this.#parts.walk.recorder?.step('nodeport_lb4', why);
  }
}
