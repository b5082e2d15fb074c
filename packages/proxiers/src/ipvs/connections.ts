import { jhash3, longer, swap16, swap32 } from '@vipsim/sim-core';
import { AddressHashes } from './address-hashes.ts';

const NONE = -1;

/** A persistence template: it belongs to a client, not to a connection, and says which server the client has. */
export const TEMPLATE = 1;
/** Of a template: one of its connections was established. */
export const ASSURED = 2;
/** Its conntrack entry goes with it (net/ipv4/vs/conntrack). */
export const CONNTRACK = 4;
/** It has been told to go, and will with the next tick. */
export const GOING = 8;

/** Hash of a connection: the client's address and port and the protocol, not the virtual or real server. */
export function connectionHash(client: number, clientPort: number, protocol: number, seed: number): number {
  return jhash3(swap32(client), swap16(clientPort), protocol, seed);
}

/**
 * The table of IPVS connections: a fixed number of chains, a new entry at the head, one entry per connection
 * found in both directions, because both hash the client. Persistence templates lie in it with client port 0.
 * Source: net/netfilter/ipvs/ip_vs_conn.c up to Linux 7.0. Default 2^12 chains; the table never grows, so with
 * c connections a search compares about 1 + c/8192 entries on a hit.
 * Not modelled: entries without a client port (FTP), the double hashing of Linux 7.1.
 */
export class Connections {
  readonly buckets: number;
  count = 0;
  peak = 0;
  /** Chain entries compared since the caller last set it to zero. */
  probes = 0;
  client: Uint32Array = new Uint32Array(1024);
  clientPort: Uint16Array = new Uint16Array(1024);
  virtual: Uint32Array = new Uint32Array(1024);
  virtualPort: Uint16Array = new Uint16Array(1024);
  real: Uint32Array = new Uint32Array(1024);
  realPort: Uint16Array = new Uint16Array(1024);
  /** 0 of a template by firewall mark, whose virtual address is the mark. */
  protocol: Uint8Array = new Uint8Array(1024);
  /** Index into the real servers; -1: no entry in this row. */
  server: Int32Array = new Int32Array(1024).fill(NONE);
  state: Uint8Array = new Uint8Array(1024);
  /** TEMPLATE, ASSURED, CONNTRACK, GOING. */
  flags: Uint8Array = new Uint8Array(1024);
  /** The template that a connection of a persistent virtual server was opened by, -1 without. */
  control: Int32Array = new Int32Array(1024).fill(NONE);
  /** Of a template: how many connections hold it. */
  controlled: Uint32Array = new Uint32Array(1024);
  /** Packets from the client, as far as 9: of more it does not matter how many. */
  packetsIn: Uint8Array = new Uint8Array(1024);
  /** Ticks that an entry outlives its last packet. */
  timeout: Uint32Array = new Uint32Array(1024);
  /** When the entry expires unless another packet comes: virtual time of the tick. */
  deadlineNs: Float64Array = new Float64Array(1024);
  /** Rows in use lie below this. */
  rows = 0;
  readonly #hashes: AddressHashes;
  readonly #isPlain: boolean;
  readonly #heads: Int32Array;
  readonly #seed: number;
  #next = new Int32Array(1024);
  #previous = new Int32Array(1024);
  #free = new Int32Array(1024);
  #freeCount = 0;

  /**
   * @param bits 8 to 27: the table has 2^bits chains.
   * @param hashes made with the same seed.
   */
  constructor(bits: number, seed: number, hashes = new AddressHashes()) {
    this.buckets = 1 << bits;
    this.#heads = new Int32Array(this.buckets).fill(NONE);
    this.#seed = seed;
    this.#hashes = hashes;
    this.#isPlain = hashes.isPlain;
  }

  /** A new entry, at the head of its chain. The caller sets server, its address, state, flags and deadline. */
  add(client: number, clientPort: number, virtual: number, virtualPort: number, protocol: number): number {
    const at = this.#freeCount > 0 ? this.#free[--this.#freeCount]! : this.rows++;
    if (at === this.client.length) this.#grow(at * 2);
    this.client[at] = client;
    this.clientPort[at] = clientPort;
    this.virtual[at] = virtual;
    this.virtualPort[at] = virtualPort;
    this.protocol[at] = protocol;
    this.flags[at] = 0;
    this.control[at] = NONE;
    this.controlled[at] = 0;
    this.packetsIn[at] = 0;
    this.#link(at);
    this.count++;
    if (this.count > this.peak) this.peak = this.count;
    return at;
  }

  /** From client to virtual server: the entry, or -1. */
  findIn(client: number, clientPort: number, virtual: number, virtualPort: number, protocol: number): number {
    let at = this.#heads[this.bucketOf(client, clientPort, protocol)]!;
    while (at !== NONE) {
      this.probes++;
      if (
        this.clientPort[at] === clientPort &&
        this.client[at] === client &&
        this.virtual[at] === virtual &&
        this.virtualPort[at] === virtualPort &&
        this.protocol[at] === protocol
      ) {
        return at;
      }
      at = this.#next[at]!;
    }
    return NONE;
  }

  /** From real server to client: the entry, or -1. */
  findOut(client: number, clientPort: number, real: number, realPort: number, protocol: number): number {
    let at = this.#heads[this.bucketOf(client, clientPort, protocol)]!;
    while (at !== NONE) {
      this.probes++;
      if (
        this.clientPort[at] === clientPort &&
        this.client[at] === client &&
        this.real[at] === real &&
        this.realPort[at] === realPort &&
        this.protocol[at] === protocol
      ) {
        return at;
      }
      at = this.#next[at]!;
    }
    return NONE;
  }

  /** Give an entry another virtual and real port: it moves to the head of its chain. */
  rehash(connection: number, virtualPort: number, realPort: number): void {
    this.#unlink(connection);
    this.virtualPort[connection] = virtualPort;
    this.realPort[connection] = realPort;
    this.#link(connection);
  }

  remove(connection: number): void {
    this.#unlink(connection);
    this.server[connection] = NONE;
    this.#free[this.#freeCount++] = connection;
    this.count--;
  }

  /** The first entry of a chain, -1 if it is empty. */
  first(bucket: number): number {
    return this.#heads[bucket]!;
  }

  /** The entry behind another one in its chain, -1 behind the last. */
  after(connection: number): number {
    return this.#next[connection]!;
  }

  bucketOf(client: number, clientPort: number, protocol: number): number {
    const hash = this.#isPlain
      ? connectionHash(client, clientPort, protocol, this.#seed)
      : jhash3(this.#hashes.word(client), swap16(clientPort), protocol, this.#seed);
    return hash & (this.buckets - 1);
  }

  #link(at: number): void {
    const bucket = this.bucketOf(this.client[at]!, this.clientPort[at]!, this.protocol[at]!);
    const first = this.#heads[bucket]!;
    this.#next[at] = first;
    this.#previous[at] = NONE;
    if (first !== NONE) this.#previous[first] = at;
    this.#heads[bucket] = at;
  }

  #unlink(at: number): void {
    const next = this.#next[at]!;
    const previous = this.#previous[at]!;
    if (previous === NONE) {
      this.#heads[this.bucketOf(this.client[at]!, this.clientPort[at]!, this.protocol[at]!)] = next;
    } else {
      this.#next[previous] = next;
    }
    if (next !== NONE) this.#previous[next] = previous;
  }

  #grow(capacity: number): void {
    const held = this.server.length;
    this.client = longer(this.client, capacity);
    this.clientPort = longer(this.clientPort, capacity);
    this.virtual = longer(this.virtual, capacity);
    this.virtualPort = longer(this.virtualPort, capacity);
    this.real = longer(this.real, capacity);
    this.realPort = longer(this.realPort, capacity);
    this.protocol = longer(this.protocol, capacity);
    this.server = longer(this.server, capacity).fill(NONE, held);
    this.state = longer(this.state, capacity);
    this.flags = longer(this.flags, capacity);
    this.control = longer(this.control, capacity).fill(NONE, held);
    this.controlled = longer(this.controlled, capacity);
    this.packetsIn = longer(this.packetsIn, capacity);
    this.timeout = longer(this.timeout, capacity);
    this.deadlineNs = longer(this.deadlineNs, capacity);
    this.#next = longer(this.#next, capacity);
    this.#previous = longer(this.#previous, capacity);
    this.#free = longer(this.#free, capacity);
  }
}
