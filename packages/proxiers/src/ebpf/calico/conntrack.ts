import { ACK, FIN, formatIpv4, RST, swap32, SYN, TCP, type Packet, type Stream } from '@vipsim/sim-core';
import { EXISTS, type LruHashMap } from '../maps/lru-hash-map.ts';
import { CT_LOOKUP, CT_UPDATE, PRANDOM } from '../operations.ts';
import { CT_DELETE } from './operations.ts';
import type { CalicoWalk } from './walk.ts';

/** What a lookup finds. */
export const NEW = 0;
/** A TCP packet that opens nothing and belongs to nothing: left to the host's stack. */
export const MID_FLOW = 1;
export const ESTABLISHED = 2;
/** A request of a translated flow: `address` and `port` are its endpoint. */
export const DNAT = 3;
/** An answer in a translated flow: `address` and `port` are what the client asked. */
export const SNAT = 4;

/** Kinds of entries (CALI_CT_TYPE_*). */
export const NORMAL = 0;
export const FORWARD = 1;
export const REVERSE = 2;

/** Flags of an entry, here above its kind. */
const B_TO_A = 0x100;
/** Answers leave from the endpoint's node (CALI_CT_FLAG_DSR_FWD). */
export const DIRECT = 0x200;

// Words of a value. A forward entry has the reverse one's key where others have legs and the original destination.
const KIND = 0;
const LAST_SEEN = 1;
const CREATED = 3;
const LEGS = 5;
const ORIGINAL_ADDRESS = 6;
const ORIGINAL_PORTS = 7;
const RST_SEEN = 9;
const REVERSE_KEY = 5;

/** Bits of a leg; B to A lies in the second byte. */
export const SYN_SEEN = 1;
export const ACK_SEEN = 2;
export const FIN_SEEN = 4;
export const RST_SEEN_BIT = 8;
const OPENER = 16;

/** Ports for flows whose own is taken (bpfPSNATPorts), and how often one is tried. */
const COLLISION_PORT = 20_000;
const COLLISION_PORTS = 10_000;
const COLLISION_TRIES = 3;

const SECOND = 1_000_000_000;
const HALF = 4_294_967_296;

/**
 * Calico's connection tracking: one LRU map for all protocols, keys without direction. A translated flow has two
 * entries: the forward one, under what the client sent, names the reverse one, under what the endpoint sees, which
 * holds the state. So a request takes two lookups, an answer one, and neither asks for the service again.
 *
 *     client → VIP   ──► FORWARD ──names──► REVERSE ◄──  endpoint → client
 *
 * Models: keys and their order, both lookups, legs with the flags that they have seen, reuse by SYN, source ports that
 * collide.
 * Source: felix/bpf-gpl/conntrack.h. An entry lives until the scan takes it (connection-lifetime.ts).
 * Assumed: sequence numbers fit. Not modelled: policy's approval of each leg, ICMP errors.
 */
export class Conntrack {
  readonly map: LruHashMap;
  /** Of the last lookup that found DNAT or SNAT. */
  address = 0;
  port = 0;
  /** The client's port: as the endpoint sees it in a request, as the client does in an answer. */
  sourcePort = 0;
  /** The last flow found answers its client directly. */
  direct = false;
  inserts = 0;
  drops = 0;
  peak = 0;

  constructor(map: LruHashMap) {
    this.map = map;
  }

  lookup(
    walk: CalicoWalk,
    source: number,
    sourcePort: number,
    destination: number,
    destinationPort: number,
    protocol: number,
    flags: number,
  ): number {
    const { map } = this;
    const forwards = this.#setKey(source, sourcePort, destination, destinationPort, protocol);
    const opens = protocol === TCP && (flags & (SYN | ACK)) === SYN;
    const element = walk.lru(map, CT_LOOKUP, this.#text(walk));
    if (element < 0) return protocol === TCP && !opens ? MID_FLOW : NEW;
    this.#seen(element, walk.nowNs);
    const kind = map.value(element, KIND);
    if ((kind & 0xff) === FORWARD) return this.#follow(walk, element, opens, protocol, flags);
    this.direct = (kind & DIRECT) !== 0;
    const shift = forwards ? 0 : 8;
    if ((kind & 0xff) === NORMAL && opens && recycles(map.value(element, LEGS))) {
      this.#delete(walk);
      return NEW;
    }
    this.#track(element, shift, protocol, flags, walk.nowNs);
    const other = map.value(element, LEGS) >>> (8 - shift);
    if ((kind & 0xff) === NORMAL || (other & OPENER) === 0) return ESTABLISHED;
    this.address = map.value(element, ORIGINAL_ADDRESS);
    this.port = map.value(element, ORIGINAL_PORTS) & 0xffff;
    this.sourcePort = map.value(element, ORIGINAL_PORTS) >>> 16;
    return SNAT;
  }

  /** Whether a packet belongs to a flow that is known; leaves no trace. */
  isKnown(
    source: number,
    sourcePort: number,
    destination: number,
    destinationPort: number,
    protocol: number,
  ): boolean {
    this.#setKey(source, sourcePort, destination, destinationPort, protocol);
    return this.map.find() >= 0;
  }

  /** Whether a packet answers a flow whose answers never come here; if so, `address` and `port` are its source. */
  isDirectAnswer(
    source: number,
    sourcePort: number,
    destination: number,
    destinationPort: number,
    protocol: number,
  ): boolean {
    if (!this.isKnown(source, sourcePort, destination, destinationPort, protocol)) return false;
    const element = this.map.find();
    if ((this.map.value(element, KIND) & (DIRECT | 0xff)) !== (DIRECT | REVERSE)) return false;
    this.address = this.map.value(element, ORIGINAL_ADDRESS);
    this.port = this.map.value(element, ORIGINAL_PORTS) & 0xffff;
    this.sourcePort = this.map.value(element, ORIGINAL_PORTS) >>> 16;
    return true;
  }

  /** Enter a flow that nobody translates. False when the map gave no element. */
  create(
    walk: CalicoWalk,
    source: number,
    sourcePort: number,
    destination: number,
    destinationPort: number,
    protocol: number,
    flags: number,
  ): boolean {
    const forwards = this.#setKey(source, sourcePort, destination, destinationPort, protocol);
    const done = this.#enter(walk, NORMAL, forwards, flags, destination, destinationPort, sourcePort) >= 0;
    if (!done) this.drops++;
    return done;
  }

  /**
   * Enter a flow from `packet` that goes to `endpoint`: two entries. Where another flow of the client to that endpoint
   * uses its port, the device's program takes a port at random instead; `sourcePort` is what came of it.
   */
  createTranslated(
    walk: CalicoWalk,
    packet: Packet,
    endpoint: number,
    endpointPort: number,
    direct: boolean,
    ports: Stream | undefined,
  ): boolean {
    const { map } = this;
    const { source, destination, destinationPort, protocol, flags } = packet;
    const kind = direct ? REVERSE | DIRECT : REVERSE;
    this.sourcePort = packet.sourcePort;
    let element = -1;
    for (let attempt = 0; element < 0 && attempt <= (ports === undefined ? 0 : COLLISION_TRIES); attempt++) {
      if (attempt > 0) this.sourcePort = COLLISION_PORT + this.#random(walk, ports!);
      const forwards = this.#setKey(source, this.sourcePort, endpoint, endpointPort, protocol);
      element = this.#enter(walk, kind, forwards, flags, destination, destinationPort, packet.sourcePort);
      if (element !== EXISTS) break;
    }
    if (element < 0) {
      this.drops++;
      return false;
    }
    const { key } = map;
    const a = key[1]!;
    const b = key[2]!;
    const both = key[3]!;
    this.#setKey(source, packet.sourcePort, destination, destinationPort, protocol);
    const forward = this.#put(walk, FORWARD, false);
    if (forward < 0) return false;
    map.setValue(forward, REVERSE_KEY, protocol);
    map.setValue(forward, REVERSE_KEY + 1, a);
    map.setValue(forward, REVERSE_KEY + 2, b);
    map.setValue(forward, REVERSE_KEY + 3, both);
    return true;
  }

  kind(element: number): number {
    return this.map.value(element, KIND) & 0xff;
  }

  originalAddress(element: number): number {
    return this.map.value(element, ORIGINAL_ADDRESS);
  }

  originalPort(element: number): number {
    return this.map.value(element, ORIGINAL_PORTS) & 0xffff;
  }

  createdNs(element: number): number {
    return this.#time(element, CREATED);
  }

  lastSeenNs(element: number): number {
    return this.#time(element, LAST_SEEN);
  }

  /** The reverse entry that a forward one names, -1 when it is gone. The key is the reverse entry's afterwards. */
  reverseOf(element: number): number {
    this.#loadReverseKey(element);
    return this.map.find();
  }

  /** The state's flags of both legs, A to B first. */
  legs(element: number): number {
    return this.map.value(element, LEGS) & 0xffff;
  }

  #random(walk: CalicoWalk, ports: Stream): number {
    walk.counts[PRANDOM]! += 1;
    return ports.uint32() % COLLISION_PORTS;
  }

  #follow(walk: CalicoWalk, element: number, opens: boolean, protocol: number, flags: number): number {
    const { map } = this;
    this.#loadReverseKey(element);
    const reverse = walk.lru(map, CT_LOOKUP, this.#text(walk));
    if (reverse < 0) return NEW;
    if (opens && recycles(map.value(reverse, LEGS))) {
      this.#delete(walk);
      map.loadKey(element);
      this.#delete(walk);
      return NEW;
    }
    this.#seen(reverse, walk.nowNs);
    const kind = map.value(reverse, KIND);
    const opposite = (kind & B_TO_A) !== 0;
    this.direct = (kind & DIRECT) !== 0;
    this.#track(reverse, opposite ? 8 : 0, protocol, flags, walk.nowNs);
    const ports = map.keyWord(reverse, 3);
    this.address = swap32(map.keyWord(reverse, opposite ? 1 : 2));
    this.port = opposite ? ports & 0xffff : ports >>> 16;
    this.sourcePort = opposite ? ports >>> 16 : ports & 0xffff;
    return DNAT;
  }

  #loadReverseKey(element: number): void {
    const { map } = this;
    for (let word = 0; word < 4; word++) map.key[word] = map.value(element, REVERSE_KEY + word);
  }

  #enter(
    walk: CalicoWalk,
    kind: number,
    forwards: boolean,
    flags: number,
    original: number,
    originalPort: number,
    sourcePort: number,
  ): number {
    const { map } = this;
    const element = this.#put(walk, forwards ? kind : kind | B_TO_A, true);
    if (element < 0) return element;
    const leg = OPENER | ((flags & SYN) !== 0 ? SYN_SEEN : 0);
    map.setValue(element, LEGS, forwards ? leg : leg << 8);
    map.setValue(element, ORIGINAL_ADDRESS, original);
    map.setValue(element, ORIGINAL_PORTS, originalPort | (sourcePort << 16));
    map.setValue(element, RST_SEEN, 0);
    map.setValue(element, RST_SEEN + 1, 0);
    return element;
  }

  #put(walk: CalicoWalk, kind: number, mustBeNew: boolean): number {
    const { map } = this;
    const before = map.count + map.evictions;
    const element = walk.put(map, CT_UPDATE, this.#text(walk), mustBeNew);
    if (element < 0) return element;
    if (map.count + map.evictions > before) this.inserts++;
    this.peak = Math.max(this.peak, map.count);
    map.setValue(element, KIND, kind);
    this.#setTime(element, CREATED, walk.nowNs);
    this.#seen(element, walk.nowNs);
    return element;
  }

  #delete(walk: CalicoWalk): void {
    walk.counts[CT_DELETE]! += 1;
    walk.recorder?.step(this.map.spec.name, `${this.#text(walk)}: deleted, a SYN opens it anew`);
    this.map.remove();
  }

  /** ct_tcp_entry_update. @param shift of the leg that the packet travels. */
  #track(element: number, shift: number, protocol: number, flags: number, nowNs: number): void {
    if (protocol !== TCP) return;
    const { map } = this;
    const back = 8 - shift;
    let legs = map.value(element, LEGS);
    if ((flags & RST) !== 0) {
      legs |= RST_SEEN_BIT << shift;
      this.#setTime(element, RST_SEEN, nowNs);
    } else if (nowNs - this.#time(element, RST_SEEN) > 120 * SECOND) {
      this.#setTime(element, RST_SEEN, 0);
    }
    if ((flags & FIN) !== 0) legs |= FIN_SEEN << shift;
    const there = legs >>> back;
    const here = legs >>> shift;
    if ((flags & (SYN | ACK)) === (SYN | ACK)) {
      if ((there & SYN_SEEN) !== 0) legs |= (SYN_SEEN | ACK_SEEN) << shift;
    } else if ((flags & ACK) !== 0 && (here & (ACK_SEEN | SYN_SEEN)) === SYN_SEEN) {
      if ((there & SYN_SEEN) !== 0) legs |= ACK_SEEN << shift;
    } else if ((there & ACK_SEEN) !== 0 && (flags & RST) === 0) {
      legs &= ~(RST_SEEN_BIT | (RST_SEEN_BIT << 8));
    }
    map.setValue(element, LEGS, legs);
  }

  /** True when the source is A: the lesser of the two as words in network order, then by port. */
  #setKey(
    source: number,
    sourcePort: number,
    destination: number,
    destinationPort: number,
    protocol: number,
  ): boolean {
    const { key } = this.map;
    const from = swap32(source);
    const to = swap32(destination);
    const forwards = from < to || (from === to && sourcePort < destinationPort);
    key[0] = protocol;
    key[1] = forwards ? from : to;
    key[2] = forwards ? to : from;
    key[3] = forwards ? sourcePort | (destinationPort << 16) : destinationPort | (sourcePort << 16);
    return forwards;
  }

  #seen(element: number, nowNs: number): void {
    this.#setTime(element, LAST_SEEN, nowNs);
  }

  #setTime(element: number, word: number, ns: number): void {
    this.map.setValue(element, word, ns % HALF);
    this.map.setValue(element, word + 1, Math.floor(ns / HALF));
  }

  #time(element: number, word: number): number {
    return this.map.value(element, word) + this.map.value(element, word + 1) * HALF;
  }

  #text(walk: CalicoWalk): string {
    return walk.recorder === undefined ? '' : tupleText(this.map.key);
  }
}

/** Both sides have closed or reset: a SYN makes the entry anybody's. */
function recycles(legs: number): boolean {
  const closed = FIN_SEEN | RST_SEEN_BIT;
  return (legs & closed) !== 0 && ((legs >>> 8) & closed) !== 0;
}

/** `6 10.0.0.1:1234 <-> 10.0.0.2:80`, A first. */
export function tupleText(key: ArrayLike<number>): string {
  const ports = key[3]!;
  const [a, b] = [formatIpv4(swap32(key[1]!)), formatIpv4(swap32(key[2]!))];
  return `${key[0]!} ${a}:${ports & 0xffff} <-> ${b}:${ports >>> 16}`;
}
