import { ACK, FIN, RST, SYN, TCP } from '@vipsim/sim-core';
import type { CtTimeouts } from './options.ts';
import type { LruHashMap } from '../maps/lru-hash-map.ts';
import { setTuple, TUPLE_OUT, TUPLE_RELATED, TUPLE_SERVICE, type FlowMaps } from './flow-maps.ts';
import { CT_LOOKUP, CT_UPDATE } from '../operations.ts';
import type { Walk } from './walk.ts';

export const NEW = 0;
export const ESTABLISHED = 1;
export const REPLY = 2;

// Words of a value: lifetime; bit field with the reverse NAT id above; backend id; TCP flags seen, sent ones in the
// low byte and received ones in the next; seconds of the last reports.
const LIFETIME = 0;
const STATE = 1;
const BACKEND = 2;
const SEEN = 3;
const LAST_TX = 4;
const LAST_RX = 5;

const RX_CLOSING = 1;
const TX_CLOSING = 2;
const CLOSED = RX_CLOSING | TX_CLOSING;
/** The pod talks to itself: its source was replaced. */
export const LOOPBACK_ENTRY = 8;
const SEEN_NON_SYN = 16;
export const NODE_PORT_ENTRY = 32;

/** Reports of a flow without new flags are at least so far apart (CT_REPORT_INTERVAL). */
const REPORT_INTERVAL_S = 5;
const ICMP = 1;
/** SYN in the header's flag byte, where the kept flags lie. */
const HEADER_SYN = 0x02;

/** A connection's first-packet tuple: what it is looked up and made under. */
export interface Tuple {
  source: number;
  destination: number;
  sourcePort: number;
  destinationPort: number;
}

/**
 * Cilium's own connection tracking, in two LRU maps by protocol.
 * Models: lookup by tuple, lifetimes, flags and seconds of reports, closing by FIN and RST, reuse by SYN with the grace
 * of service entries, service entries that carry the backend, companion entries for related ICMP, failed inserts.
 * Source: bpf/lib/conntrack.h, pkg/maps/ctmap/ctmap.go. A lookup does not ask whether an entry has expired: it lives
 * until the sweep (garbage-collection.ts) or the LRU takes it.
 * Not modelled: packet and byte counters.
 */
export class ConnectionTracking {
  /** Entry of the last lookup or creation, and its map. */
  element = -1;
  map: LruHashMap;
  inserts = 0;
  drops = 0;
  peak = 0;

  readonly #flows: FlowMaps;
  readonly #timeouts: CtTimeouts;

  constructor(flows: FlowMaps, timeouts: CtTimeouts) {
    this.#flows = flows;
    this.#timeouts = timeouts;
    this.map = flows.ctTcp;
  }

  /** Whether `tuple` answers a connection that exists: the direction in which its programs will look it up. */
  isReply(tuple: Tuple, protocol: number): boolean {
    this.#reversed(tuple, protocol, TUPLE_OUT);
    return this.map.find() >= 0;
  }

  /** Whether `tuple` continues a connection that exists. */
  isKnown(tuple: Tuple, protocol: number): boolean {
    this.#forward(tuple, protocol, TUPLE_OUT);
    return this.map.find() >= 0;
  }

  /** One lookup of the connection that `tuple` belongs to. */
  lookup(walk: Walk, tuple: Tuple, protocol: number, flags: number, reply: boolean): number {
    if (reply) this.#reversed(tuple, protocol, TUPLE_OUT);
    else this.#forward(tuple, protocol, TUPLE_OUT);
    this.element = walk.lookup(this.map, CT_LOOKUP);
    if (this.element < 0) return NEW;
    return this.#track(walk, protocol, flags, reply, false) ? (reply ? REPLY : ESTABLISHED) : NEW;
  }

  /** One lookup under the other direction's tuple, found or not. */
  lookupReverse(walk: Walk, tuple: Tuple, protocol: number): void {
    this.#reversed(tuple, protocol, TUPLE_OUT);
    walk.lookup(this.map, CT_LOOKUP);
  }

  /** One lookup of a service entry: NEW as well when it belongs to another frontend. */
  lookupService(walk: Walk, tuple: Tuple, protocol: number, flags: number, revNat: number): number {
    this.#forward(tuple, protocol, TUPLE_SERVICE);
    this.element = walk.lookup(this.map, CT_LOOKUP);
    if (this.element < 0 || this.revNat() !== revNat) return NEW;
    return this.#track(walk, protocol, flags, false, true) ? ESTABLISHED : NEW;
  }

  /**
   * Enter a connection. False when the map gave no element: DROP_CT_CREATE_FAILED, and the agent is told.
   * @param bits LOOPBACK_ENTRY, NODE_PORT_ENTRY. @param related with the companion for ICMP errors.
   */
  create(
    walk: Walk,
    tuple: Tuple,
    protocol: number,
    revNat: number,
    bits: number,
    related: boolean,
  ): boolean {
    this.#forward(tuple, protocol, TUPLE_OUT);
    if (!this.#write(walk, protocol, revNat, bits, 0, false)) return false;
    if (!related) return true;
    const { element, map } = this;
    const companion = this.#flows.ctAny;
    const lifetime = map.value(element, LIFETIME);
    const lastTx = map.value(element, LAST_TX);
    this.map = companion;
    setTuple(companion.key, tuple.destination, tuple.source, 0, 0, ICMP, TUPLE_OUT | TUPLE_RELATED);
    // ICMP has no SYN to wait for; all else is the connection's.
    const made = this.#write(walk, ICMP, revNat, bits | SEEN_NON_SYN, 0, false);
    if (made) {
      companion.setValue(this.element, LIFETIME, lifetime);
      companion.setValue(this.element, LAST_TX, lastTx);
    }
    this.map = map;
    this.element = element;
    return made;
  }

  createService(walk: Walk, tuple: Tuple, protocol: number, revNat: number, backend: number): boolean {
    this.#forward(tuple, protocol, TUPLE_SERVICE);
    return this.#write(walk, protocol, revNat, 0, backend, true);
  }

  /** Point the service entry of `tuple` to another backend: found again, then written in place. */
  moveService(walk: Walk, tuple: Tuple, protocol: number, backend: number): void {
    this.#forward(tuple, protocol, TUPLE_SERVICE);
    const element = walk.lookup(this.map, CT_LOOKUP);
    if (element >= 0) this.map.setValue(element, BACKEND, backend);
  }

  revNat(): number {
    return this.map.value(this.element, STATE) >>> 16;
  }

  backend(): number {
    return this.map.value(this.element, BACKEND);
  }

  isNodePort(): boolean {
    return (this.map.value(this.element, STATE) & NODE_PORT_ENTRY) !== 0;
  }

  isLoopback(): boolean {
    return (this.map.value(this.element, STATE) & LOOPBACK_ENTRY) !== 0;
  }

  /** Second at which an entry may be swept. */
  lifetimeS(map: LruHashMap, element: number): number {
    return map.value(element, LIFETIME);
  }

  /** An entry's bit field: closing (1, 2), loopback 8, a packet without SYN 16, node port 32. */
  bits(map: LruHashMap, element: number): number {
    return map.value(element, STATE) & 0xffff;
  }

  revNatOf(map: LruHashMap, element: number): number {
    return map.value(element, STATE) >>> 16;
  }

  backendOf(map: LruHashMap, element: number): number {
    return map.value(element, BACKEND);
  }

  /** TCP flag bytes seen from the side that opened, or with `received` from the other. */
  flagsSeen(map: LruHashMap, element: number, received: boolean): number {
    return (map.value(element, SEEN) >>> (received ? 8 : 0)) & 0xff;
  }

  /** Second of the last report of that direction. */
  lastReportS(map: LruHashMap, element: number, received: boolean): number {
    return map.value(element, received ? LAST_RX : LAST_TX);
  }

  get entries(): number {
    return this.#flows.ctTcp.count + this.#flows.ctAny.count;
  }

  get evictions(): number {
    return this.#flows.ctTcp.evictions + this.#flows.ctAny.evictions;
  }

  #forward(tuple: Tuple, protocol: number, flags: number): void {
    this.map = this.#flows.ct(protocol);
    const { source, destination, sourcePort, destinationPort } = tuple;
    // Conntrack tuples carry the ports exchanged.
    setTuple(this.map.key, destination, source, sourcePort, destinationPort, protocol, flags);
  }

  #reversed(tuple: Tuple, protocol: number, flags: number): void {
    this.map = this.#flows.ct(protocol);
    const { source, destination, sourcePort, destinationPort } = tuple;
    setTuple(this.map.key, source, destination, destinationPort, sourcePort, protocol, flags);
  }

  /** A new TCP entry counts as one that has seen a SYN, whatever its first packet was (ct_create4). */
  #write(
    walk: Walk,
    protocol: number,
    revNat: number,
    bits: number,
    backend: number,
    service: boolean,
  ): boolean {
    const { map } = this;
    const before = map.count + map.evictions;
    const element = walk.update(map, CT_UPDATE, false);
    this.element = element;
    if (element < 0) {
      this.drops++;
      walk.signal('DROP_CT_CREATE_FAILED');
      return false;
    }
    if (map.count + map.evictions > before) this.inserts++;
    map.setValue(element, STATE, bits | (revNat << 16));
    map.setValue(element, BACKEND, backend);
    map.setValue(element, SEEN, 0);
    map.setValue(element, LAST_TX, 0);
    map.setValue(element, LAST_RX, 0);
    const state = map.value(element, STATE);
    map.setValue(element, STATE, this.#refresh(walk.nowS, protocol, state, HEADER_SYN, false, service));
    this.peak = Math.max(this.peak, this.entries);
    return true;
  }

  /** Let the entry see a packet. False: a SYN met a closing entry, so that the connection begins anew. */
  #track(walk: Walk, protocol: number, flags: number, reply: boolean, service: boolean): boolean {
    const { map, element } = this;
    let state = map.value(element, STATE);
    const closing = (state & CLOSED) !== 0;
    const opens = protocol === TCP && (flags & (SYN | FIN | RST)) === SYN;
    const graceS = this.#timeouts.serviceTcpGrace;
    if (service && opens && closing && map.value(element, LAST_TX) + graceS <= walk.nowS) return false;

    const header = protocol === TCP ? headerFlags(flags) : 0;
    if ((state & CLOSED) !== CLOSED) {
      state = this.#refresh(walk.nowS, protocol, state, header, reply, service);
    }
    if (protocol === TCP && (flags & (FIN | RST)) !== 0) {
      const seen = map.value(element, SEEN);
      const bothSyns = (seen & HEADER_SYN) !== 0 && ((seen >>> 8) & HEADER_SYN) !== 0;
      const both = service || ((flags & RST) !== 0 && !bothSyns);
      state |= both ? CLOSED : reply ? RX_CLOSING : TX_CLOSING;
      if ((state & CLOSED) === CLOSED) {
        map.setValue(element, LIFETIME, walk.nowS + this.#timeouts.regularTcpFin);
      }
    } else if (opens && closing) {
      map.setValue(element, SEEN, 0);
      const reset = state & ~(CLOSED | SEEN_NON_SYN);
      map.setValue(element, STATE, this.#refresh(walk.nowS, protocol, reset, header, reply, service));
      return false;
    }
    map.setValue(element, STATE, state);
    return true;
  }

  /** Prolong the entry and note what its direction has seen. Returns the state, which may have seen more than SYNs. */
  #refresh(
    nowS: number,
    protocol: number,
    before: number,
    header: number,
    reply: boolean,
    service: boolean,
  ): number {
    const { map, element } = this;
    const timeouts = this.#timeouts;
    let state = before;
    let lifetime = service ? timeouts.serviceAny : timeouts.regularAny;
    if (protocol === TCP) {
      if ((header & HEADER_SYN) === 0) state |= SEEN_NON_SYN;
      const established = service ? timeouts.serviceTcp : timeouts.regularTcp;
      lifetime = (state & SEEN_NON_SYN) !== 0 ? established : timeouts.regularTcpSyn;
    }
    map.setValue(element, LIFETIME, nowS + lifetime);
    const report = reply ? LAST_RX : LAST_TX;
    const seen = map.value(element, SEEN);
    const seenNow = seen | (reply ? header << 8 : header);
    if (seenNow !== seen || map.value(element, report) + REPORT_INTERVAL_S < nowS) {
      map.setValue(element, SEEN, seenNow);
      map.setValue(element, report, nowS);
    }
    return state;
  }
}

/** A packet's flags as the header's byte holds them: FIN 1, SYN 2, RST 4, ACK 16. */
function headerFlags(flags: number): number {
  let header = 0;
  if ((flags & FIN) !== 0) header |= 0x01;
  if ((flags & SYN) !== 0) header |= HEADER_SYN;
  if ((flags & RST) !== 0) header |= 0x04;
  if ((flags & ACK) !== 0) header |= 0x10;
  return header;
}
