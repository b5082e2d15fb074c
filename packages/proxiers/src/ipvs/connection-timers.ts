import { longer } from '@vipsim/sim-core';
import { GOING, TEMPLATE, type Connections } from './connections.ts';
import { wheelExpiry, wheelLevel, type Jiffies } from './timer-wheel.ts';

/**
 * The timers of connections on the kernel's timer wheel. A packet restarts its entry's timer; when an entry runs
 * out is decided by the wheel's slot, so up to an eighth of its timeout late, and a packet in between revives it.
 * Timers of one slot run in the reverse order of their starting, and a timer that is started anew but stays in
 * its slot keeps its place; coarser levels run first.
 * Source: mod_timer, calc_wheel_index, expire_timers, kernel/time/timer.c; ip_vs_conn_put, ip_vs_conn.c.
 */
export class ConnectionTimers {
  readonly #connections: Connections;
  readonly #jiffies: Jiffies;
  /** The tick at which each entry's timer runs. */
  #runs = new Float64Array(1024);
  #level = new Uint8Array(1024);
  /** Counts starts, to tell which of two was later. */
  #started = new Float64Array(1024);
  #starts = 0;
  #due = new Int32Array(64);
  /** Rows that go with the next tick. */
  #going = new Int32Array(64);
  #goingCount = 0;

  constructor(connections: Connections, jiffies: Jiffies) {
    this.#connections = connections;
    this.#jiffies = jiffies;
  }

  /** Start the timer of a new entry, or start it anew, with the entry's own timeout. */
  start(connection: number, nowNs: number): void {
    const { flags, timeout, deadlineNs } = this.#connections;
    if (connection >= this.#runs.length) this.#grow(flags.length);
    const jiffies = this.#jiffies;
    const ticks = timeout[connection]!;
    const expires = jiffies.at(nowNs) + ticks;
    const level = wheelLevel(ticks);
    const runs = wheelExpiry(expires, level);
    flags[connection]! &= ~GOING;
    deadlineNs[connection] = (expires - jiffies.first) * jiffies.tickNs;
    if (runs === this.#runs[connection] && level === this.#level[connection]) return;
    this.#runs[connection] = runs;
    this.#level[connection] = level;
    this.#started[connection] = ++this.#starts;
  }

  /** Let an entry go with the next tick; until then it is found and counted (ip_vs_conn_expire_now). */
  startLast(connection: number, nowNs: number): void {
    const { flags, deadlineNs } = this.#connections;
    flags[connection]! |= GOING;
    deadlineNs[connection] = nowNs;
    this.#runs[connection] = this.#jiffies.at(nowNs) + 1;
    this.#level[connection] = 0;
    this.#started[connection] = ++this.#starts;
    if (this.#goingCount === this.#going.length) this.#going = longer(this.#going, this.#goingCount * 2);
    this.#going[this.#goingCount++] = connection;
  }

  /** An entry has gone: its row may be used again, for one whose timer was never started. */
  stop(connection: number): void {
    this.#runs[connection] = 0;
  }

  /** One of the entries told to go whose tick has come, -1 when there is none left. Cheap to ask. */
  nextGone(nowNs: number): number {
    while (this.#goingCount > 0) {
      const connection = this.#going[this.#goingCount - 1]!;
      const isGoing =
        this.#connections.server[connection]! >= 0 && (this.#connections.flags[connection]! & GOING) !== 0;
      if (isGoing && this.#runs[connection]! > this.#jiffies.at(nowNs)) return -1;
      this.#goingCount--;
      if (isGoing) return connection;
    }
    return -1;
  }

  /** When the timer of an entry runs, virtual time. */
  runsNs(connection: number): number {
    return (this.#runs[connection]! - this.#jiffies.first) * this.#jiffies.tickNs;
  }

  /** When the timer of an entry was last started: the tick of its last packet, virtual time. */
  startedNs(connection: number): number {
    const { deadlineNs, timeout } = this.#connections;
    return deadlineNs[connection]! - timeout[connection]! * this.#jiffies.tickNs;
  }

  /** Entries whose timers have run by now; in the order in which they do if templates are among them. */
  due(nowNs: number): Int32Array {
    const { server, flags, rows } = this.#connections;
    const tick = this.#jiffies.at(nowNs);
    const runs = this.#runs;
    let count = 0;
    let templates = false;
    for (let at = 0; at < rows; at++) {
      if (server[at]! < 0 || runs[at]! > tick) continue;
      if (count === this.#due.length) this.#due = longer(this.#due, count * 2);
      this.#due[count++] = at;
      if ((flags[at]! & TEMPLATE) !== 0) templates = true;
    }
    const due = this.#due.subarray(0, count);
    if (templates) {
      due.sort(
        (a, b) =>
          runs[a]! - runs[b]! || this.#level[b]! - this.#level[a]! || this.#started[b]! - this.#started[a]!,
      );
    }
    return due;
  }

  #grow(capacity: number): void {
    this.#runs = longer(this.#runs, capacity);
    this.#level = longer(this.#level, capacity);
    this.#started = longer(this.#started, capacity);
  }
}
