import { DROP, type Verdict } from '../proxier.ts';
import { NEW, REPLY, type ConnectionTracking } from './connection-tracking.ts';
import { ACK, SYN, type Packet } from '@vipsim/sim-core';
import type { Walk } from './walk.ts';

/**
 * The program at a pod's interface, for the connections that it polices: one entry for each.
 * Models: the lookup by the packet's direction, the entry and its ICMP companion, the way back of translated flows.
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
   * @param revNat the frontend by which its destination was translated, 0 for none.
   */
  pass(packet: Packet, revNat: number, verdict: Verdict): boolean {
    const walk = this.#walk;
    const tracking = this.#tracking;
    const { protocol, flags } = packet;
    const opens = (flags & (SYN | ACK)) === SYN;
    const reply = !opens && tracking.isReply(verdict, protocol);
    if (!reply && this.#bothDirections) tracking.lookupReverse(walk, verdict, protocol);
    const status = tracking.lookup(walk, verdict, protocol, flags, reply);
    if (status === NEW) {
      if (!tracking.create(walk, verdict, protocol, flags, revNat, 0, true)) verdict.fate = DROP;
      return true;
    }
    if (status === REPLY) this.#restore(tracking.revNat(), verdict);
    return false;
  }

  /** The answer to a translated packet comes from the address that the client asked. */
  #restore(revNat: number, verdict: Verdict): void {
    if (revNat === 0) return;
    const element = this.#walk.reverseNat(revNat);
    if (element < 0) return;
    verdict.source = this.#walk.services.reverseAddress(element);
    verdict.sourcePort = this.#walk.services.reversePort(element);
  }
}
