import { SYN, type Packet, type Stream } from '@vipsim/sim-core';
import { DROP, REJECT, type Verdict } from '../proxier.ts';
import { ESTABLISHED, type ConnectionTracking } from './connection-tracking.ts';
import { PRANDOM } from './operations.ts';
import { BACKEND_ACTIVE } from './service-maps.ts';
import type { Walk } from './walk.ts';

/**
 * Balancing packet by packet: a flow's service entry names its backend; the first packet chooses one.
 * Models: choice of a random slot; flows that keep a terminating backend until they open anew; a new choice when the
 * backend has been deleted.
 * Source: lb4_local and lb4_select_backend_id, bpf/lib/lb.h. Without a backend the sender gets an ICMP error:
 * --service-no-backend-response=reject (cilium/cilium PR 28157).
 * Not modelled: affinity, loopback (a pod that reaches itself keeps its source), fragments.
 */
export class PacketLb {
  readonly #walk: Walk;
  readonly #tracking: ConnectionTracking;
  readonly #prandom: Stream;
  #chosen = 0;

  constructor(walk: Walk, tracking: ConnectionTracking, prandom: Stream) {
    this.#walk = walk;
    this.#tracking = tracking;
    this.#prandom = prandom;
  }

  /** Translate the destination. False when the packet ends here; `verdict.fate` says how. */
  balance(packet: Packet, master: number, scope: number, verdict: Verdict): boolean {
    const walk = this.#walk;
    const tracking = this.#tracking;
    const revNat = walk.services.revNat(master);
    const found = tracking.lookupService(walk, packet, packet.protocol, packet.flags, revNat);
    let backend = -1;
    if (found === ESTABLISHED) {
      backend = walk.backend(tracking.backend());
      const draining = backend >= 0 && walk.services.backendState(backend) !== BACKEND_ACTIVE;
      if (backend < 0 || (draining && (packet.flags & SYN) !== 0)) {
        backend = this.#choose(packet, master, scope, verdict);
        if (backend < 0) return false;
        tracking.moveService(walk, packet, packet.protocol, this.#chosen);
      }
    } else {
      verdict.first = true;
      backend = this.#choose(packet, master, scope, verdict);
      if (backend < 0) return false;
      if (!tracking.createService(walk, packet, packet.protocol, packet.flags, revNat, this.#chosen)) {
        verdict.fate = DROP;
        return false;
      }
    }
    verdict.destination = walk.services.backendAddress(backend);
    verdict.destinationPort = walk.services.backendPort(backend);
    return true;
  }

  /** A backend of a random slot; a slot or backend that is missing is not tried again. */
  #choose(packet: Packet, master: number, scope: number, verdict: Verdict): number {
    const walk = this.#walk;
    const count = walk.services.count(master);
    let backend = -1;
    if (count > 0) {
      walk.counts[PRANDOM]! += 1;
      const slot = (this.#prandom.uint32() % count) + 1;
      const entry = walk.service(packet.destination, packet.destinationPort, slot, packet.protocol, scope);
      if (entry >= 0) verdict.endpoint = walk.services.endpoint(entry);
      this.#chosen = entry < 0 ? 0 : walk.services.backendId(entry);
      backend = walk.backend(this.#chosen);
    }
    if (backend >= 0) return backend;
    verdict.fate = REJECT;
    walk.recorder?.step('lb4_local', 'DROP_NO_SERVICE, answered by an ICMP error');
    return -1;
  }
}
