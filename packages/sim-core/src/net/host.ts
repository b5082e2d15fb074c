import { jhash1, jhash3 } from './jhash.ts';
import type { Packet } from './packet.ts';

export interface HostOptions {
  readonly cores: number;
  /** Packets that may wait on one core, net.core.netdev_max_backlog. */
  readonly backlog: number;
}

export const HOST_DEFAULTS: HostOptions = { cores: 16, backlog: 1_000 };

/** `process` found the core's backlog full. */
/**
 * The packet-processing side of a node: cores that each work through one FIFO of packets to completion, as
 * NET_RX softirq does. A flow's packets of one direction always meet the same core, chosen by the hash of the
 * five-tuple as RSS and RPS choose it: (hash × cores) >> 32.
 * Source: net/core/dev.c. Not modelled: NAPI batches and budgets, interrupt moderation, user processes on the core.
 */
export class Host {
  readonly cores: number;
  /** Nanoseconds that each core has worked. */
  readonly busyNs: Float64Array;
  /** Packets lost to a full backlog. */
  drops = 0;

  readonly #key: number;
  readonly #backlog: number;
  readonly #freeAt: Float64Array;
  // Per core, a ring of completion times of packets that wait or are being worked on.
  readonly #done: Float64Array[];
  readonly #first: Int32Array;
  readonly #waiting: Int32Array;

  constructor(key: number, options: HostOptions = HOST_DEFAULTS) {
    this.cores = options.cores;
    this.#key = key;
    this.#backlog = options.backlog;
    this.busyNs = new Float64Array(options.cores);
    this.#freeAt = new Float64Array(options.cores);
    this.#done = Array.from({ length: options.cores }, () => new Float64Array(options.backlog + 1));
    this.#first = new Int32Array(options.cores);
    this.#waiting = new Int32Array(options.cores);
  }

  coreOf(packet: Packet): number {
    const ports = packet.sourcePort * 65536 + packet.destinationPort;
    const hash = jhash3(packet.source, packet.destination, ports, jhash1(packet.protocol, this.#key));
    return Math.floor((hash * this.cores) / 4294967296);
  }

  /**
   * Whether a packet arriving now on `core` finds room; the caller then works out its cost and calls `process`.
   */
  admits(core: number, nowNs: number): boolean {
    const done = this.#done[core]!;
    while (this.#waiting[core]! > 0 && done[this.#first[core]!]! <= nowNs) {
      this.#first[core] = (this.#first[core]! + 1) % done.length;
      this.#waiting[core]! -= 1;
    }
    if (this.#waiting[core]! <= this.#backlog) return true;
    this.drops++;
    return false;
  }

  /** Work `costNs` on an admitted packet after all before it on the core; returns when it is done. */
  process(core: number, nowNs: number, costNs: number): number {
    const start = Math.max(nowNs, this.#freeAt[core]!);
    const end = start + costNs;
    const done = this.#done[core]!;
    done[(this.#first[core]! + this.#waiting[core]!) % done.length] = end;
    this.#waiting[core]! += 1;
    this.#freeAt[core] = end;
    this.busyNs[core]! += costNs;
    return end;
  }
}
