import { ACK, SYN, type Packet } from '@vipsim/sim-core';
import { DROP, type Verdict } from '../../proxier.ts';
import { LOOPBACK_ENTRY, NEW, REPLY, type ConnectionTracking } from './connection-tracking.ts';
import type { Walk } from './walk.ts';

/**
 * The program at a pod's interface, for the connections that it polices: one entry for each.
 * Models: the lookup by the packet's direction, the entry and its ICMP companion, the way back of translated flows,
 * also to the pod that talked to itself.
 * Source: bpf/bpf_lxc.c, bpf/lib/conntrack.h.
 * Not modelled: policy itself; the second program of a flow between two pods of one node. Programs of older releases
 * look both directions up (`bothDirections`).
 */
export class EndpointProgram {
  readonly #walk: Walk;
  readonly #tracking: ConnectionTracking;
  readonly #bothDirections: boolean;

  constructor(walk: Walk, tracking: ConnectionTracking, bothDirections: boolean) {
    this.#walk = walk;
    this.#tracking = tracking;
    this.#bothDirections = bothDirections;
  }

  /**
   * Let a packet through that leaves as `verdict` says so far; true if it opened a connection.
   * @param revNat the frontend by which its destination was translated, 0 for none. @param loopback back to the pod
   * that sent it.
   */
  pass(packet: Packet, revNat: number, loopback: boolean, verdict: Verdict): boolean {
    const walk = this.#walk;
    const tracking = this.#tracking;
    const { protocol, flags } = packet;
    const opens = (flags & (SYN | ACK)) === SYN;
    const reply = !opens && tracking.isReply(verdict, protocol);
    if (!reply && this.#bothDirections) tracking.lookupReverse(walk, verdict, protocol);
    const status = tracking.lookup(walk, verdict, protocol, flags, reply);
    if (status === NEW) {
      const bits = loopback ? LOOPBACK_ENTRY : 0;
      if (!tracking.create(walk, verdict, protocol, revNat, bits, true)) {
        verdict.fate = DROP;
        walk.recorder?.step('bpf_lxc', 'DROP_CT_CREATE_FAILED');
      }
      return true;
    }
    if (status === REPLY) this.#restore(packet, verdict);
    return false;
  }

  /** The answer to a translated packet comes from the address that the client asked. */
  #restore(packet: Packet, verdict: Verdict): void {
    const revNat = this.#tracking.revNat();
    if (revNat === 0) return;
    const loopback = this.#tracking.isLoopback();
    const element = this.#walk.reverseNat(revNat);
    if (element < 0) return;
    verdict.source = this.#walk.services.reverseAddress(element);
    verdict.sourcePort = this.#walk.services.reversePort(element);
    // Who talks to itself is its own client.
    if (loopback) verdict.destination = packet.source;
  }
}
