import { SYN, type Packet } from '@vipsim/sim-core';
import { DROP, REJECT, type Verdict } from '../../proxier.ts';
import { Affinity } from './affinity.ts';
import type { BackendChoice } from './backend-choice.ts';
import { ESTABLISHED, type ConnectionTracking } from './connection-tracking.ts';
import { AFFINITY, BACKEND_ACTIVE } from '../service-maps.ts';
import type { Walk } from './walk.ts';

/** What a pod that reaches itself sees as the client: 169.254.42.1. */
export const SERVICE_LOOPBACK = 0xa9fe2a01;

/**
 * Balancing packet by packet: a flow's service entry names its backend; the first packet chooses one.
 * Models: flows that keep a terminating backend until they open anew; a new choice in place when the backend has been
 * deleted; clients that stick to a backend, written with each packet; a pod that reaches itself.
 * Source: lb4_local, bpf/lib/lb.h. Without a backend the sender gets an ICMP error, or nothing:
 * --service-no-backend-response (cilium/cilium PR 28157).
 * Not modelled: fragments, services of layer 7.
 */
export class PacketLb {
  /** The last packet goes back to the pod that sent it. */
  loopback = false;
  readonly #walk: Walk;
  readonly #tracking: ConnectionTracking;
  readonly #choice: BackendChoice;
  readonly #affinity: Affinity;
  readonly #refusal: typeof REJECT | typeof DROP;

  constructor(walk: Walk, tracking: ConnectionTracking, choice: BackendChoice, response: 'reject' | 'drop') {
    this.#walk = walk;
    this.#tracking = tracking;
    this.#choice = choice;
    this.#affinity = new Affinity(walk);
    this.#refusal = response === 'reject' ? REJECT : DROP;
  }

  /**
   * Translate the destination. False when the packet ends here; `verdict.fate` says how.
   * @param atPod in a pod's own program, not at the device.
   */
  balance(packet: Packet, master: number, scope: number, atPod: boolean, verdict: Verdict): boolean {
    const walk = this.#walk;
    const tracking = this.#tracking;
    const revNat = walk.services.revNat(master);
    const found = tracking.lookupService(walk, packet, packet.protocol, packet.flags, revNat);
    let backend = -1;
    let id = 0;
    if (found === ESTABLISHED) {
      id = tracking.backend();
      backend = walk.backend(id);
      const draining = backend >= 0 && walk.services.backendState(backend) !== BACKEND_ACTIVE;
      if (backend < 0 || (draining && (packet.flags & SYN) !== 0)) {
        backend = this.#choose(packet, master, scope, atPod, verdict);
        if (backend < 0) return false;
        id = this.#choice.id;
        tracking.moveService(walk, packet, packet.protocol, id);
      }
    } else {
      verdict.first = true;
      backend = this.#stuck(packet, master, scope, revNat, verdict);
      if (backend < 0) backend = this.#choose(packet, master, scope, atPod, verdict);
      if (backend < 0) return false;
      id = this.#choice.id;
      if (!tracking.createService(walk, packet, packet.protocol, revNat, id)) {
        verdict.fate = DROP;
        return false;
      }
    }
    if ((walk.services.flags(master) & AFFINITY) !== 0) this.#affinity.keepAddress(packet.source, revNat, id);
    this.#translate(packet, backend, verdict);
    return true;
  }

  #translate(packet: Packet, backend: number, verdict: Verdict): void {
    const { services, recorder } = this.#walk;
    verdict.destination = services.backendAddress(backend);
    verdict.destinationPort = services.backendPort(backend);
    this.loopback = verdict.destination === packet.source;
    if (!this.loopback) return;
    verdict.source = SERVICE_LOOPBACK;
    recorder?.step('lb4_local', 'a pod that reaches itself: from 169.254.42.1');
  }

  /** The backend that the client sticks to, or -1: none, or it is gone. */
  #stuck(packet: Packet, master: number, scope: number, revNat: number, verdict: Verdict): number {
    const { services } = this.#walk;
    if ((services.flags(master) & AFFINITY) === 0 || services.count(master) === 0) return -1;
    const id = this.#affinity.ofAddress(packet.source, revNat, services.affinitySeconds(master));
    if (id === 0) return -1;
    const backend = this.#choice.take(id, packet, scope);
    if (backend >= 0) verdict.endpoint = this.#choice.row;
    return backend;
  }

  #choose(packet: Packet, master: number, scope: number, atPod: boolean, verdict: Verdict): number {
    const walk = this.#walk;
    let backend = -1;
    if (walk.services.count(master) > 0) {
      backend = this.#choice.choose(packet, master, scope, atPod);
      verdict.endpoint = this.#choice.row;
    }
    if (backend >= 0) return backend;
    verdict.fate = this.#refusal;
    const answered = this.#refusal === REJECT ? ', answered by an ICMP error' : '';
    walk.recorder?.step('lb4_local', `DROP_NO_SERVICE${answered}`);
    return -1;
  }
}
