import { longer } from '@vipsim/sim-core';
import { NO_SERVER, type Lists, type Scheduler } from './scheduler.ts';

/** The cursor stands before the first server. */
const HEAD = -1;

/**
 * Round robin: on from the server chosen last; weights do not matter but for zero. A new server, at the head of
 * the list, waits for the next round; when the server chosen last goes, its predecessor stands in for it.
 * Source: net/netfilter/ipvs/ip_vs_rr.c.
 */
export class RoundRobin implements Scheduler {
  readonly name = 'rr';
  steps = 0;
  readonly #lists: Lists;
  #cursor = new Int32Array(16).fill(HEAD);

  constructor(lists: Lists) {
    this.#lists = lists;
  }

  pick(service: number): number {
    const { next, weight, overloaded } = this.#lists.servers;
    const first = this.#lists.services.head[service]!;
    this.#reach(service);
    const last = this.#cursor[service]!;
    for (let at = last === HEAD ? first : next[last]!; at >= 0; at = next[at]!) {
      this.steps++;
      if (weight[at]! > 0 && overloaded[at] === 0) return (this.#cursor[service] = at);
    }
    if (last === HEAD) return NO_SERVER;
    for (let at = first; at >= 0; at = next[at]!) {
      this.steps++;
      if (weight[at]! > 0 && overloaded[at] === 0) return (this.#cursor[service] = at);
      if (at === last) break;
    }
    return NO_SERVER;
  }

  started(service: number): void {
    this.#reach(service);
    this.#cursor[service] = HEAD;
  }

  stopped(): void {}

  added(): void {}

  removed(service: number, server: number, predecessor: number): void {
    this.#reach(service);
    if (this.#cursor[service] === server) this.#cursor[service] = predecessor;
  }

  updated(): void {}

  changeSteps(): number {
    return 0;
  }

  #reach(service: number): void {
    const held = this.#cursor.length;
    if (service >= held)
      this.#cursor = longer(this.#cursor, Math.max(held * 2, service + 1)).fill(HEAD, held);
  }
}
