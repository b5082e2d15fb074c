import { longer } from '../columns/longer.ts';
import { TCP } from '../net/address.ts';
import { jhash1, jhash3 } from '../net/jhash.ts';
import { ACK, FIN, RST, SYN, type Packet } from '../net/packet.ts';
import type { Stream } from '../random/streams.ts';
import {
  CLOSE,
  ESTABLISHED,
  EVENT_ACK,
  EVENT_FIN,
  EVENT_RST,
  EVENT_SYN,
  EVENT_SYNACK,
  IGNORE,
  INVALID,
  NONE,
  SYN_SENT,
  TCP_TIMEOUTS_S,
  TIME_WAIT,
  nextTcpState,
} from './tcp-states.ts';

export const ORIGINAL = 0;
export const REPLY = 1;

/** What the tracker says of a packet. */
export const TRACKED = 0;
/** The packet fits no state of its connection: it passes untracked and untranslated. */
export const INVALID_PACKET = 1;
/** A SYN on a finished connection: the old entry is gone and the packet opens a new one. */
export const REOPENED = 2;
export type Tracked = typeof TRACKED | typeof INVALID_PACKET | typeof REOPENED;

const ABSENT = -1;
const SECOND = 1_000_000_000;
const UDP_TIMEOUT = 30 * SECOND;
const UDP_STREAM_TIMEOUT = 120 * SECOND;
const UDP_STREAM_AFTER = 2 * SECOND;

const SEEN_REPLY = 1;
const ASSURED = 2;
const CONFIRMED = 4;
const DESTINATION_NAT = 8;
const SOURCE_NAT = 16;

export interface ConntrackOptions {
  /** Hash buckets (nf_conntrack_buckets). 262,144 with more than 4 GiB of memory since Linux 5.15. */
  readonly buckets: number;
  /** Connections at most (nf_conntrack_max). kube-proxy sets max(32,768 × cores, 131,072). */
  readonly max: number;
  readonly tcpEstablishedTimeoutS: number;
  readonly tcpCloseWaitTimeoutS: number;
}

export const CONNTRACK_DEFAULTS: ConntrackOptions = {
  buckets: 262_144,
  max: 262_144,
  tcpEstablishedTimeoutS: 86_400,
  tcpCloseWaitTimeoutS: 3_600,
};

/**
 * The nf_conntrack table: one entry per connection, hashed twice, under the tuple of its first packet and under
 * the tuple that its replies will carry. A *node* is one of the two: node = entry × 2 + direction.
 *
 * Models: both-direction lookup, TCP and UDP states and timeouts, the limit with early drop, DNAT and SNAT
 * mappings with port choice, expiry by lookup and by a sweep.
 * Source: net/netfilter/nf_conntrack_core.c, nf_conntrack_proto_{tcp,udp}.c, nf_nat_core.c (Linux 6.1 to 6.12).
 * Not modelled: TCP windows, retransmission timeouts, expectations, zones, the gc worker's pacing.
 * The kernel hashes with SipHash under a random boot key; here jhash under a key from the run's seed.
 */
export class ConntrackTable {
  readonly options: ConntrackOptions;
  /** Connections in the table or on their way into it. */
  count = 0;
  peak = 0;
  inserts = 0;
  drops = 0;
  earlyDrops = 0;
  portExhaustions = 0;
  /** Nodes compared in hash chains since the caller last set it to zero. */
  steps = 0;

  readonly #heads: Int32Array;
  readonly #key: number;
  readonly #timeoutNs: Float64Array;
  #capacity = 1024;
  #free: Int32Array = new Int32Array(0);
  #freeCount = 0;
  // Tuples by node.
  #source: Uint32Array = new Uint32Array(0);
  #destination: Uint32Array = new Uint32Array(0);
  #ports: Uint32Array = new Uint32Array(0);
  #next: Int32Array = new Int32Array(0);
  // By entry.
  #protocol: Uint8Array = new Uint8Array(0);
  #state: Uint8Array = new Uint8Array(0);
  #flags: Uint8Array = new Uint8Array(0);
  #deadline: Float64Array = new Float64Array(0);
  #born: Float64Array = new Float64Array(0);

  constructor(keys: Stream, options: ConntrackOptions = CONNTRACK_DEFAULTS) {
    this.options = options;
    this.#heads = new Int32Array(options.buckets).fill(ABSENT);
    this.#key = keys.uint32();
    this.#timeoutNs = Float64Array.from(TCP_TIMEOUTS_S, (seconds) => seconds * SECOND);
    this.#timeoutNs[ESTABLISHED] = options.tcpEstablishedTimeoutS * SECOND;
    this.#timeoutNs[5] = options.tcpCloseWaitTimeoutS * SECOND;
    this.#resize(1024);
  }

  /** The node whose tuple is the packet's, or -1. Expired entries met on the way are removed, as the kernel does. */
  find(packet: Packet, nowNs: number): number {
    const ports = packet.sourcePort * 65536 + packet.destinationPort;
    const bucket = this.#bucket(packet.source, packet.destination, ports, packet.protocol);
    let node = this.#heads[bucket]!;
    while (node !== ABSENT) {
      this.steps++;
      const next = this.#next[node]!;
      const entry = node >> 1;
      if (this.#deadline[entry]! <= nowNs) {
        this.remove(entry);
        // The removal may have taken the other node of the entry out of this very bucket.
        node = next === (node ^ 1) ? this.#heads[bucket]! : next;
        continue;
      }
      if (this.#matches(node, packet.source, packet.destination, ports, packet.protocol)) return node;
      node = next;
    }
    return ABSENT;
  }

  /** A new entry for the packet, not yet in the table; -1 when the table is full and nothing could be dropped early. */
  allocate(packet: Packet, nowNs: number): number {
    if (this.count >= this.options.max && !this.#dropEarly(packet, nowNs)) {
      this.drops++;
      return ABSENT;
    }
    if (this.#freeCount === 0) this.#resize(this.#capacity * 2);
    const entry = this.#free[--this.#freeCount]!;
    const node = entry * 2;
    this.#source[node] = packet.source;
    this.#destination[node] = packet.destination;
    this.#ports[node] = packet.sourcePort * 65536 + packet.destinationPort;
    this.#source[node + 1] = packet.destination;
    this.#destination[node + 1] = packet.source;
    this.#ports[node + 1] = packet.destinationPort * 65536 + packet.sourcePort;
    this.#protocol[entry] = packet.protocol;
    this.#state[entry] = NONE;
    this.#flags[entry] = 0;
    this.#born[entry] = nowNs;
    this.#deadline[entry] = nowNs;
    this.count++;
    if (this.count > this.peak) this.peak = this.count;
    return entry;
  }

  /** DNAT: replies will come from `address`:`port`. Before confirm only. */
  translateDestination(entry: number, address: number, port: number): void {
    const reply = entry * 2 + 1;
    this.#source[reply] = address;
    this.#ports[reply] = port * 65536 + (this.#ports[reply]! & 0xffff);
    this.#flags[entry]! |= DESTINATION_NAT;
  }

  /**
   * MASQUERADE: replies will go to `address`, at the client's own port if that is free and `fullyRandom` is
   * off, else at a port searched from a random offset: up to 248 probes in rounds of 128, 64, 32, 16 and 8.
   * When all are taken the last one is kept, and confirm fails.
   */
  masquerade(entry: number, address: number, fullyRandom: boolean, ports: Stream): void {
    const reply = entry * 2 + 1;
    this.#destination[reply] = address;
    this.#flags[entry]! |= SOURCE_NAT;
    const original = this.#ports[reply]! & 0xffff;
    if (!fullyRandom && !this.#taken(reply)) return;
    const low = original < 512 ? 1 : original < 1024 ? 600 : 1024;
    const size = (original < 512 ? 511 : original < 1024 ? 1023 : 65535) - low + 1;
    for (let attempts = Math.min(size, 128); ; attempts >>= 1) {
      const offset = ports.below(65536);
      for (let probe = 0; probe < attempts; probe++) {
        this.#setReplyPort(reply, low + ((offset + probe) % size));
        if (!this.#taken(reply)) return;
      }
      if (attempts < 16 || attempts >= size) break;
    }
    this.portExhaustions++;
  }

  /**
   * What happens to the source of a flow for which no rule decides (nf_nat_alloc_null_binding): it stays, unless the
   * answers would be those of another flow; then the port changes.
   */
  keepSource(entry: number, ports: Stream): void {
    const reply = entry * 2 + 1;
    if (this.#taken(reply)) this.masquerade(entry, this.#destination[reply]!, false, ports);
  }

  /** Insert both nodes. False, and the entry is gone, when one of its tuples exists already. */
  confirm(entry: number): boolean {
    const node = entry * 2;
    if (this.#taken(node) || this.#taken(node + 1)) {
      this.drops++;
      this.discard(entry);
      return false;
    }
    this.#flags[entry]! |= CONFIRMED;
    this.#link(node);
    this.#link(node + 1);
    this.inserts++;
    return true;
  }

  /** Let the tracker see a packet of an entry (confirmed or not): advance the state, renew the timeout. */
  track(entry: number, direction: number, packet: Packet, nowNs: number): Tracked {
    if (packet.protocol === TCP) return this.#trackTcp(entry, direction, packet.flags, nowNs);
    if (direction === REPLY) this.#flags[entry]! |= SEEN_REPLY;
    if ((this.#flags[entry]! & SEEN_REPLY) !== 0 && nowNs > this.#born[entry]! + UDP_STREAM_AFTER) {
      this.#flags[entry]! |= ASSURED;
      this.#deadline[entry] = nowNs + UDP_STREAM_TIMEOUT;
    } else {
      this.#deadline[entry] = nowNs + UDP_TIMEOUT;
    }
    return TRACKED;
  }

  /** Free an entry that was allocated but never confirmed. */
  discard(entry: number): void {
    this.#free[this.#freeCount++] = entry;
    this.count--;
  }

  /** Delete a confirmed entry. */
  remove(entry: number): void {
    this.#unlink(entry * 2);
    this.#unlink(entry * 2 + 1);
    this.#flags[entry] = 0;
    this.discard(entry);
  }

  /** Remove what has expired: the gc worker's effect. Walks the whole table. */
  expire(nowNs: number): void {
    for (let entry = 0; entry < this.#capacity; entry++) {
      if ((this.#flags[entry]! & CONFIRMED) !== 0 && this.#deadline[entry]! <= nowNs) this.remove(entry);
    }
  }

  source(node: number): number {
    return this.#source[node]!;
  }

  destination(node: number): number {
    return this.#destination[node]!;
  }

  sourcePort(node: number): number {
    return this.#ports[node]! >>> 16;
  }

  destinationPort(node: number): number {
    return this.#ports[node]! & 0xffff;
  }

  protocol(entry: number): number {
    return this.#protocol[entry]!;
  }

  /** A TCP state of tcp-states.ts; NONE for other protocols. */
  state(entry: number): number {
    return this.#state[entry]!;
  }

  assured(entry: number): boolean {
    return (this.#flags[entry]! & ASSURED) !== 0;
  }

  /** Whether packets of the entry are rewritten at all. */
  translated(entry: number): boolean {
    return (this.#flags[entry]! & (DESTINATION_NAT | SOURCE_NAT)) !== 0;
  }

  /** When the entry expires unless another packet comes. */
  /** IPS_SEEN_REPLY: packets have passed in both directions. */
  answered(entry: number): boolean {
    return (this.#flags[entry]! & SEEN_REPLY) !== 0;
  }

  deadlineNs(entry: number): number {
    return this.#deadline[entry]!;
  }

  /** Bytes the kernel would hold: 256 a connection, 128 more for the NAT extension, 8 a bucket, and by-source buckets alike. */
  memory(): number {
    return this.peak * 384 + this.options.buckets * 16;
  }

  #trackTcp(entry: number, direction: number, flags: number, nowNs: number): Tracked {
    const old = this.#state[entry]!;
    const state = nextTcpState(old, direction, eventOf(flags));
    if (state === IGNORE) return TRACKED;
    if (state === INVALID) return INVALID_PACKET;
    if (state === SYN_SENT && old >= TIME_WAIT) {
      this.remove(entry);
      return REOPENED;
    }
    if (state === CLOSE && old === SYN_SENT && (this.#flags[entry]! & SEEN_REPLY) === 0) {
      // Refused before any reply: the entry goes at once.
      if ((this.#flags[entry]! & CONFIRMED) !== 0) this.remove(entry);
      return TRACKED;
    }
    this.#state[entry] = state;
    if (direction === REPLY) this.#flags[entry]! |= SEEN_REPLY;
    else if (state === ESTABLISHED && (this.#flags[entry]! & SEEN_REPLY) !== 0)
      this.#flags[entry]! |= ASSURED;
    const retransmittedSyn = old === SYN_SENT && state === SYN_SENT;
    if (!retransmittedSyn) this.#deadline[entry] = nowNs + this.#timeoutNs[state]!;
    return TRACKED;
  }

  #dropEarly(packet: Packet, nowNs: number): boolean {
    const ports = packet.sourcePort * 65536 + packet.destinationPort;
    const first = this.#bucket(packet.source, packet.destination, ports, packet.protocol);
    for (let i = 0; i < 8; i++) {
      const bucket = (first + i) % this.#heads.length;
      const victims: number[] = [];
      for (let node = this.#heads[bucket]!; node !== ABSENT; node = this.#next[node]!) {
        const entry = node >> 1;
        const spared = this.assured(entry) && this.#deadline[entry]! > nowNs;
        if (!spared && !victims.includes(entry)) victims.push(entry);
      }
      for (const entry of victims) this.remove(entry);
      this.earlyDrops += victims.length;
      if (victims.length > 0) return true;
    }
    return false;
  }

  #bucket(source: number, destination: number, ports: number, protocol: number): number {
    const hash = jhash3(source, destination, ports, jhash1(protocol, this.#key));
    return Math.floor((hash * this.#heads.length) / 4294967296);
  }

  #matches(node: number, source: number, destination: number, ports: number, protocol: number): boolean {
    return (
      this.#ports[node] === ports &&
      this.#source[node] === source &&
      this.#destination[node] === destination &&
      this.#protocol[node >> 1] === protocol
    );
  }

  /** Whether another confirmed connection already uses the tuple of `node`. */
  #taken(node: number): boolean {
    const source = this.#source[node]!;
    const destination = this.#destination[node]!;
    const ports = this.#ports[node]!;
    const protocol = this.#protocol[node >> 1]!;
    let other = this.#heads[this.#bucket(source, destination, ports, protocol)]!;
    while (other !== ABSENT) {
      if (this.#matches(other, source, destination, ports, protocol)) return true;
      other = this.#next[other]!;
    }
    return false;
  }

  #setReplyPort(reply: number, port: number): void {
    this.#ports[reply] = (this.#ports[reply]! & 0xffff0000) + port;
  }

  #bucketOfNode(node: number): number {
    return this.#bucket(
      this.#source[node]!,
      this.#destination[node]!,
      this.#ports[node]!,
      this.#protocol[node >> 1]!,
    );
  }

  #link(node: number): void {
    const bucket = this.#bucketOfNode(node);
    this.#next[node] = this.#heads[bucket]!;
    this.#heads[bucket] = node;
  }

  #unlink(node: number): void {
    const bucket = this.#bucketOfNode(node);
    let at = this.#heads[bucket]!;
    if (at === node) {
      this.#heads[bucket] = this.#next[node]!;
      return;
    }
    while (this.#next[at] !== node) at = this.#next[at]!;
    this.#next[at] = this.#next[node]!;
  }

  #resize(capacity: number): void {
    const held = this.#protocol.length;
    this.#source = longer(this.#source, capacity * 2);
    this.#destination = longer(this.#destination, capacity * 2);
    this.#ports = longer(this.#ports, capacity * 2);
    this.#next = longer(this.#next, capacity * 2);
    this.#protocol = longer(this.#protocol, capacity);
    this.#state = longer(this.#state, capacity);
    this.#flags = longer(this.#flags, capacity);
    this.#deadline = longer(this.#deadline, capacity);
    this.#born = longer(this.#born, capacity);
    this.#free = longer(this.#free, capacity);
    // Lowest entry on top of the free stack, so that runs are easy to follow in a trace.
    for (let entry = capacity - 1; entry >= held; entry--) this.#free[this.#freeCount++] = entry;
    this.#capacity = capacity;
  }
}

function eventOf(flags: number): number {
  if ((flags & RST) !== 0) return EVENT_RST;
  if ((flags & SYN) !== 0) return (flags & ACK) !== 0 ? EVENT_SYNACK : EVENT_SYN;
  return (flags & FIN) !== 0 ? EVENT_FIN : EVENT_ACK;
}
