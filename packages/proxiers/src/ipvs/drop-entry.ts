import { TCP } from '@vipsim/sim-core';
import type { Counts } from '../cost/operations.ts';
import { ESTABLISHED, SYNACK, SYN_RECV } from './connection-states.ts';
import type { ConnectionTimers } from './connection-timers.ts';
import { ASSURED, TEMPLATE, type Connections } from './connections.ts';
import { FLUSH_STEP } from './operations.ts';
import type { RealServers } from './real-servers.ts';
import type { Draws } from './schedulers/options.ts';
import type { VirtualServers } from './virtual-servers.ts';

/** Of so many chains one is looked at each second. */
const CHAINS_EACH = 32;
/** Entries with more packets than this are not dropped. */
const PACKETS_MAX = 8;
const IDLE_NS = 60_000_000_000;

interface Tables {
  readonly services: VirtualServers;
  readonly servers: RealServers;
  readonly connections: Connections;
  readonly timers: ConnectionTimers;
}

/**
 * The defence against running out of memory: each second some chains of the connection table are drawn, and in
 * them half-open connections dropped, templates that never served, and of connections idle for a minute those
 * with few packets: the fewer, the more of them.
 * Source: ip_vs_random_dropentry and todrop_entry, net/netfilter/ipvs/ip_vs_conn.c (Linux 4.19 to 7.0).
 * Not modelled: half-open SCTP, whose entries have one state; the single draw of Linux 7.1.
 */
export class DropEntry {
  readonly #tables: Tables;
  /** By packets seen, 1 to 8: idle entries until the next is dropped. */
  readonly #untilDrop = new Int32Array(PACKETS_MAX + 1);

  constructor(tables: Tables) {
    this.#tables = tables;
  }

  /** One second's entries to drop, each to be deleted before the next is asked for. */
  *chosen(draws: Draws, nowNs: number, counts: Counts): Generator<number> {
    const { connections } = this.#tables;
    const { buckets } = connections;
    for (let i = 0; i < Math.floor(buckets / CHAINS_EACH); i++) {
      counts[FLUSH_STEP]! += 1;
      let next: number;
      for (let at = connections.first(draws.below(buckets)); at >= 0; at = next) {
        next = connections.after(at);
        counts[FLUSH_STEP]! += 1;
        if (this.#isChosen(at, nowNs)) yield at;
      }
    }
  }

  #isChosen(at: number, nowNs: number): boolean {
    const { connections, servers, services } = this.#tables;
    if (connections.controlled[at]! > 0) return false;
    if ((connections.flags[at]! & TEMPLATE) !== 0) {
      const service = servers.service[connections.server[at]!]!;
      if (services.onePacket[service] === 1) return this.#isIdle(at, nowNs);
      return (connections.flags[at]! & ASSURED) === 0;
    }
    const protocol = connections.protocol[at]!;
    if (protocol !== TCP) return this.#isIdle(at, nowNs);
    const state = connections.state[at]!;
    if (state === SYN_RECV || state === SYNACK) return true;
    return state === ESTABLISHED && this.#isIdle(at, nowNs);
  }

  /** Whether it is the turn of an entry that has been idle for long. */
  #isIdle(at: number, nowNs: number): boolean {
    const { connections, timers } = this.#tables;
    if (timers.startedNs(at) + IDLE_NS > nowNs) return false;
    const packets = connections.packetsIn[at]!;
    if (packets < 1 || packets > PACKETS_MAX) return false;
    this.#untilDrop[packets]! -= 1;
    if (this.#untilDrop[packets]! > 0) return false;
    this.#untilDrop[packets] = packets;
    return true;
  }
}
