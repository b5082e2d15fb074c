import { ACK, FIN, RST, SYN, TCP } from '@vipsim/sim-core';
import type { LruHashMap } from './lru-hash-map.ts';
import { setTuple, TUPLE_OUT, TUPLE_RELATED, TUPLE_SERVICE, type FlowMaps } from './flow-maps.ts';
import { GC_START_NS, nextGcInterval } from './gc-interval.ts';
import { CT_LOOKUP, CT_UPDATE } from './operations.ts';
import type { Walk } from './walk.ts';

export const NEW = 0;
export const ESTABLISHED = 1;
export const REPLY = 2;

/** Lifetimes in seconds: bpf-ct-timeout-{regular,service}-tcp, -tcp-syn, -tcp-fin, -any. */
export const TCP_LIFETIME_S = 8000;
export const TCP_SYN_LIFETIME_S = 60;
export const TCP_FIN_LIFETIME_S = 10;
export const ANY_LIFETIME_S = 60;

// Words of a value: lifetime; bit field with the reverse NAT id above; backend id; TCP flags seen (sent, received).
const LIFETIME = 0;
const STATE = 1;
const BACKEND = 2;
const SEEN = 3;

const RX_CLOSING = 1;
const TX_CLOSING = 2;
const CLOSED = RX_CLOSING | TX_CLOSING;
const SEEN_NON_SYN = 16;
export const NODE_PORT_ENTRY = 32;

const ICMP = 1;

/** A connection's first-packet tuple: what it is looked up and made under. */
export interface Tuple {
  source: number;
  destination: number;
  sourcePort: number;
  destinationPort: number;
}

/**
 * Cilium's own connection tracking, in two LRU maps by protocol.
 * Models: lookup by tuple, lifetimes, closing by FIN and RST, reuse by SYN, service entries that carry the backend,
 * companion entries for related ICMP, the agent's sweep and its interval.
 * Source: bpf/lib/conntrack.h, pkg/maps/ctmap/{ctmap,gc/gc}.go. A lookup does not ask whether an entry has expired:
 * it lives until the sweep or the LRU takes it.
 * Not modelled: packet and byte counters, monitor reports, the rebalance grace, the sweep's CPU time, sweeps woken
 * by failed inserts.
 */
export class ConnectionTracking {
  /** Entry of the last lookup or creation, and its map. */
  element = -1;
  map: LruHashMap;
  inserts = 0;
  drops = 0;
  peak = 0;
  intervalNs = GC_START_NS;

  readonly #flows: FlowMaps;
  readonly #onDelete: (map: LruHashMap, element: number) => void;
  #nextSweepNs = GC_START_NS;

  /** @param onDelete is told of each entry before a sweep deletes it. */
  constructor(flows: FlowMaps, onDelete: (map: LruHashMap, element: number) => void) {
    this.#flows = flows;
    this.#onDelete = onDelete;
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

  /** Enter a connection. False when the map gave no element. `related`: with the companion for ICMP errors. */
  create(
    walk: Walk,
    tuple: Tuple,
    protocol: number,
    flags: number,
    revNat: number,
    bits: number,
    related: boolean,
  ): boolean {
    this.#forward(tuple, protocol, TUPLE_OUT);
    if (!this.#write(walk, protocol, flags, revNat, bits, 0)) return false;
    if (!related) return true;
    const { element, map } = this;
    const companion = this.#flows.ctAny;
    this.map = companion;
    setTuple(companion.key, tuple.destination, tuple.source, 0, 0, ICMP, TUPLE_OUT | TUPLE_RELATED);
    const made = this.#write(walk, ICMP, 0, revNat, bits, 0);
    this.map = map;
    this.element = element;
    return made;
  }

  createService(
    walk: Walk,
    tuple: Tuple,
    protocol: number,
    flags: number,
    revNat: number,
    backend: number,
  ): boolean {
    this.#forward(tuple, protocol, TUPLE_SERVICE);
    return this.#write(walk, protocol, flags, revNat, 0, backend);
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

  /** Second at which an entry may be swept. */
  lifetimeS(map: LruHashMap, element: number): number {
    return map.value(element, LIFETIME);
  }

  get entries(): number {
    return this.#flows.ctTcp.count + this.#flows.ctAny.count;
  }

  get evictions(): number {
    return this.#flows.ctTcp.evictions + this.#flows.ctAny.evictions;
  }

  /** The agent's sweep, when it is due. */
  expire(nowNs: number): void {
    if (nowNs < this.#nextSweepNs) return;
    const nowS = Math.floor(nowNs / 1_000_000_000);
    const ratio = Math.max(this.#sweep(this.#flows.ctTcp, nowS), this.#sweep(this.#flows.ctAny, nowS));
    this.intervalNs = nextGcInterval(this.intervalNs, ratio);
    this.#nextSweepNs = nowNs + this.intervalNs;
  }

  #sweep(map: LruHashMap, nowS: number): number {
    let deleted = 0;
    for (let element = 0; element < map.used; element++) {
      if (!map.live(element) || map.value(element, LIFETIME) >= nowS) continue;
      this.#onDelete(map, element);
      map.loadKey(element);
      map.remove();
      deleted++;
    }
    return deleted / map.spec.maxEntries;
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

  #write(
    walk: Walk,
    protocol: number,
    flags: number,
    revNat: number,
    bits: number,
    backend: number,
  ): boolean {
    const { map } = this;
    const before = map.count + map.evictions;
    const element = walk.update(map, CT_UPDATE, false);
    this.element = element;
    if (element < 0) {
      this.drops++;
      return false;
    }
    if (map.count + map.evictions > before) this.inserts++;
    const established = protocol === TCP && (flags & SYN) === 0;
    const lifetime = protocol !== TCP ? ANY_LIFETIME_S : established ? TCP_LIFETIME_S : TCP_SYN_LIFETIME_S;
    map.setValue(element, LIFETIME, walk.nowS + lifetime);
    map.setValue(element, STATE, bits | (established ? SEEN_NON_SYN : 0) | (revNat << 16));
    map.setValue(element, BACKEND, backend);
    map.setValue(element, SEEN, flags & SYN);
    this.peak = Math.max(this.peak, this.entries);
    return true;
  }

  /** Let the entry see a packet. False: a SYN met a closing entry, so that the connection begins anew. */
  #track(walk: Walk, protocol: number, flags: number, reply: boolean, service: boolean): boolean {
    const { map, element } = this;
    if (protocol !== TCP) {
      map.setValue(element, LIFETIME, walk.nowS + ANY_LIFETIME_S);
      return true;
    }
    let state = map.value(element, STATE);
    const seen = map.value(element, SEEN) | (reply ? (flags & SYN) << 8 : flags & SYN);
    map.setValue(element, SEEN, seen);
    if ((state & CLOSED) !== CLOSED) {
      if ((flags & SYN) === 0) state |= SEEN_NON_SYN;
      const lifetime = (state & SEEN_NON_SYN) !== 0 ? TCP_LIFETIME_S : TCP_SYN_LIFETIME_S;
      map.setValue(element, LIFETIME, walk.nowS + lifetime);
    }
    if ((flags & (FIN | RST)) !== 0) {
      const synsSeen = (seen & SYN) !== 0 && (seen & (SYN << 8)) !== 0;
      const both = service || ((flags & RST) !== 0 && !synsSeen);
      state |= both ? CLOSED : reply ? RX_CLOSING : TX_CLOSING;
      if ((state & CLOSED) === CLOSED) map.setValue(element, LIFETIME, walk.nowS + TCP_FIN_LIFETIME_S);
    } else if ((flags & (SYN | ACK)) === SYN && (state & CLOSED) !== 0) {
      map.setValue(element, STATE, state & ~CLOSED);
      return false;
    }
    map.setValue(element, STATE, state);
    return true;
  }
}
