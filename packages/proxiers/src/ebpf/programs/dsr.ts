import { SYN, swap16, swap32, TCP, type Packet } from '@vipsim/sim-core';
import type { Verdict } from '../../proxier.ts';
import { setTuple, TUPLE_OUT } from './flow-maps.ts';
import { LruHashMap } from '../maps/lru-hash-map.ts';
import { DSR_DISPATCH } from '../operations.ts';
import type { Walk } from './walk.ts';

/**
 * Direct server return: the packet carries the service's address to the backend's node, whose answers go to the client
 * from there and never come back here.
 *
 *     client ──► this node ──(service address in an option or outer header)──► backend's node ──► client
 *
 * Models: an IP option on SYNs and on every datagram (opt); an outer header on every packet (ipip, and geneve with
 * its option on SYNs and datagrams); what the backend's node writes into its own SNAT map from them, by which it
 * restores the service's address. Those nodes' maps stand together as one here and cost this node nothing.
 * Source: dsr_set_opt4, dsr_set_ipip4 and nodeport_extract_dsr_v4, bpf/lib/nodeport.h.
 * Not modelled: this node at the far end of another's flows; packets that the header makes too large. With ipip the
 * inner destination stays the service's; the model shows the backend's.
 */
export class Dsr {
  readonly #walk: Walk;
  readonly #method: 'opt' | 'ipip' | 'geneve';
  readonly #far: LruHashMap;

  /** @param entries of the SNAT map. */
  constructor(walk: Walk, method: 'opt' | 'ipip' | 'geneve', entries: number) {
    this.#walk = walk;
    this.#method = method;
    const spec = {
      name: 'cilium_snat_v4_external of other nodes',
      keyBytes: 14,
      valueBytes: 40,
      valueWords: 2,
    };
    this.#far = new LruHashMap({ ...spec, maxEntries: entries }, 0, 1);
  }

  /** Send a packet on to its backend, the destination of `verdict`. */
  dispatch(packet: Packet, verdict: Verdict): void {
    const walk = this.#walk;
    const tells = packet.protocol !== TCP || (packet.flags & SYN) !== 0 || this.#method === 'ipip';
    if (tells || this.#method === 'geneve') walk.counts[DSR_DISPATCH]! += 1;
    walk.recorder?.step('dsr', tells ? `the service's address travels along (${this.#method})` : 'as it is');
    if (!tells) return;
    const map = this.#far;
    const { destination, source, destinationPort, sourcePort } = verdict;
    setTuple(map.key, source, destination, sourcePort, destinationPort, packet.protocol, TUPLE_OUT);
    let element = map.lookup();
    if (element < 0) element = map.update(0);
    if (element < 0) return;
    map.setValue(element, 0, swap32(packet.destination));
    map.setValue(element, 1, swap16(packet.destinationPort));
  }

  /** Whether a packet is an answer that leaves from its backend's node; `verdict` shows how it does. */
  answer(packet: Packet, verdict: Verdict): boolean {
    const map = this.#far;
    if (map.count === 0) return false;
    const { destination, source, destinationPort, sourcePort, protocol } = packet;
    setTuple(map.key, destination, source, destinationPort, sourcePort, protocol, TUPLE_OUT);
    const element = map.lookup();
    if (element < 0) return false;
    verdict.source = swap32(map.value(element, 0));
    verdict.sourcePort = swap16(map.value(element, 1));
    verdict.pastStack = true;
    this.#walk.recorder?.step('dsr', "the backend's node answers the client itself: nothing comes here");
    return true;
  }
}
