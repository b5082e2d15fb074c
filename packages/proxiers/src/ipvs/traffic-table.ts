import { longer } from '@vipsim/sim-core';
import { NO_TRAFFIC, type Traffic } from './listing.ts';

/** Connections, packets in, packets out, bytes in, bytes out. */
const FIELDS = 5;
const BYTES_IN = 3;
/** Rates of bytes are kept with five binary places, the others with ten. */
const BYTE_SCALE = 32;
const COUNT_SCALE = 1024;
const NONE = -1;

/**
 * Counters of virtual or real servers and the estimators of their rates, by row. Every two seconds a rate goes a
 * quarter of the way to what these two seconds were.
 * Source: ip_vs_conn_stats, ip_vs_in_stats, ip_vs_out_stats, net/netfilter/ipvs/ip_vs_core.c; ip_vs_est.c.
 */
export class TrafficTable {
  /** Where a row's figures are; most rows of a large table never see a packet. */
  #slots = new Int32Array(16).fill(NONE);
  #used = 0;
  #counters = new Float64Array(16 * FIELDS);
  #last = new Float64Array(16 * FIELDS);
  #rates = new Float64Array(16 * FIELDS);

  opened(row: number): void {
    this.#counters[this.#slot(row) * FIELDS]! += 1;
  }

  packetIn(row: number, bytes: number): void {
    const at = this.#slot(row) * FIELDS;
    this.#counters[at + 1]! += 1;
    this.#counters[at + BYTES_IN]! += bytes;
  }

  packetOut(row: number, bytes: number): void {
    const at = this.#slot(row) * FIELDS;
    this.#counters[at + 2]! += 1;
    this.#counters[at + BYTES_IN + 1]! += bytes;
  }

  /** The row is another server's now. */
  clear(row: number): void {
    const slot = row < this.#slots.length ? this.#slots[row]! : NONE;
    if (slot === NONE) return;
    for (const column of [this.#counters, this.#last, this.#rates]) {
      column.fill(0, slot * FIELDS, (slot + 1) * FIELDS);
    }
  }

  /** Two seconds have passed. */
  estimate(): void {
    for (let at = 0; at < this.#used * FIELDS; at++) {
      const gained = this.#counters[at]! - this.#last[at]!;
      this.#last[at] = this.#counters[at]!;
      const scale = at % FIELDS < BYTES_IN ? COUNT_SCALE : BYTE_SCALE;
      this.#rates[at]! += Math.floor((gained * (scale / 2) - this.#rates[at]!) / 4);
    }
  }

  counters(row: number): Traffic {
    return this.#read(row, (at) => this.#counters[at]!);
  }

  /** For each second, rounded up as the kernel does it. */
  rates(row: number): Traffic {
    return this.#read(row, (at) => {
      const scale = at % FIELDS < BYTES_IN ? COUNT_SCALE : BYTE_SCALE;
      return Math.floor((this.#rates[at]! + scale / 2 - 1) / scale);
    });
  }

  #read(row: number, value: (at: number) => number): Traffic {
    const slot = row < this.#slots.length ? this.#slots[row]! : NONE;
    if (slot === NONE) return NO_TRAFFIC;
    const at = slot * FIELDS;
    return {
      connections: value(at),
      packetsIn: value(at + 1),
      packetsOut: value(at + 2),
      bytesIn: value(at + BYTES_IN),
      bytesOut: value(at + BYTES_IN + 1),
    };
  }

  #slot(row: number): number {
    if (row >= this.#slots.length) this.#reach(row);
    const slot = this.#slots[row]!;
    return slot === NONE ? this.#take(row) : slot;
  }

  #reach(row: number): void {
    const held = this.#slots.length;
    this.#slots = longer(this.#slots, row * 2).fill(NONE, held);
  }

  #take(row: number): number {
    const slot = this.#used++;
    this.#slots[row] = slot;
    if (this.#used * FIELDS <= this.#counters.length) return slot;
    const capacity = this.#counters.length * 2;
    this.#counters = longer(this.#counters, capacity);
    this.#last = longer(this.#last, capacity);
    this.#rates = longer(this.#rates, capacity);
    return slot;
  }
}
