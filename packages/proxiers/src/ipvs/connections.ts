import { longer, jhash3, swap16, swap32 } from '@vipsim/sim-core';

const NONE = -1;

/** Hash of a connection: the client's address and port and the protocol, not the virtual or real server. */
export function connectionHash(client: number, clientPort: number, protocol: number, seed: number): number {
  return jhash3(swap32(client), swap16(clientPort), protocol, seed);
}

/**
 * The table of IPVS connections: a fixed number of chains, a new entry at the head, one entry per connection
 * found in both directions, because both hash the client.
 * Source: net/netfilter/ipvs/ip_vs_conn.c up to Linux 7.0. Default 2^12 chains; the table never grows, so with
 * c connections a search compares about 1 + c/8192 entries on a hit.
 * Timers run out at `expire`, once a virtual second. The kernel's timer wheel is later than that (up to an
 * eighth of the timeout), and a packet in between revives the entry, as it does here.
 * Not modelled: entries without a client port, persistence templates, IPv6, the double hashing of Linux 7.1.
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
  protocol: Uint8Array = new Uint8Array(1024);
  /** Index into the real servers. */
  server: Int32Array = new Int32Array(1024).fill(NONE);
  state: Uint8Array = new Uint8Array(1024);
  /** When the entry expires unless another packet comes. */
  deadlineNs: Float64Array = new Float64Array(1024);
  /** Rows in use lie below this. */
  rows = 0;
  readonly #heads: Int32Array;
  readonly #seed: number;
  #next = new Int32Array(1024);
  #previous = new Int32Array(1024);
  #free = new Int32Array(1024);
  #freeCount = 0;

  /** @param bits 8 to 27: the table has 2^bits chains. */
  constructor(bits: number, seed: number) {
    this.buckets = 1 << bits;
    this.#heads = new Int32Array(this.buckets).fill(NONE);
    this.#seed = seed;
  }

  /** A new entry, at the head of its chain. The caller sets state, server, addresses of the server and deadline. */
  add(client: number, clientPort: number, virtual: number, virtualPort: number, protocol: number): number {
    const at = this.#freeCount > 0 ? this.#free[--this.#freeCount]! : this.rows++;
    if (at === this.client.length) this.#grow(at * 2);
    this.client[at] = client;
    this.clientPort[at] = clientPort;
    this.virtual[at] = virtual;
    this.virtualPort[at] = virtualPort;
    this.protocol[at] = protocol;
    const bucket = this.bucketOf(client, clientPort, protocol);
    const first = this.#heads[bucket]!;
    this.#next[at] = first;
    this.#previous[at] = NONE;
    if (first !== NONE) this.#previous[first] = at;
    this.#heads[bucket] = at;
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

  remove(connection: number): void {
    const next = this.#next[connection]!;
    const previous = this.#previous[connection]!;
    if (previous === NONE) {
      const bucket = this.bucketOf(
        this.client[connection]!,
        this.clientPort[connection]!,
        this.protocol[connection]!,
      );
      this.#heads[bucket] = next;
    } else {
      this.#next[previous] = next;
    }
    if (next !== NONE) this.#previous[next] = previous;
    this.server[connection] = NONE;
    this.#free[this.#freeCount++] = connection;
    this.count--;
  }

  bucketOf(client: number, clientPort: number, protocol: number): number {
    return connectionHash(client, clientPort, protocol, this.#seed) & (this.buckets - 1);
  }

  #grow(capacity: number): void {
    this.client = longer(this.client, capacity);
    this.clientPort = longer(this.clientPort, capacity);
    this.virtual = longer(this.virtual, capacity);
    this.virtualPort = longer(this.virtualPort, capacity);
    this.real = longer(this.real, capacity);
    this.realPort = longer(this.realPort, capacity);
    this.protocol = longer(this.protocol, capacity);
    const held = this.server.length;
    this.server = longer(this.server, capacity).fill(NONE, held);
    this.state = longer(this.state, capacity);
    this.deadlineNs = longer(this.deadlineNs, capacity);
    this.#next = longer(this.#next, capacity);
    this.#previous = longer(this.#previous, capacity);
    this.#free = longer(this.#free, capacity);
  }
}
