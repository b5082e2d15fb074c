import { longer } from '@vipsim/sim-core';
import { NO_SERVER, type Lists, type Scheduler } from './scheduler.ts';

const HEAD = -1;

/**
 * Weighted round robin: passes over the list, each for servers of at least the current weight, which falls by
 * the greatest common divisor from pass to pass. A change moves the cursor to the head but keeps the current
 * weight, so that the phase depends on history: after adding servers one by one the first cycle begins in its
 * lowest pass.
 * Source: net/netfilter/ipvs/ip_vs_wrr.c.
 */
export class WeightedRoundRobin implements Scheduler {
  readonly name = 'wrr';
  steps = 0;
  readonly #lists: Lists;
  #cursor = new Int32Array(16).fill(HEAD);
  #divisor = new Int32Array(16).fill(1);
  #highest = new Int32Array(16);
  #current = new Int32Array(16);

  constructor(lists: Lists) {
    this.#lists = lists;
  }

  pick(service: number): number {
    const { next, weight, overloaded } = this.#lists.servers;
    const first = this.#lists.services.head[service]!;
    if (first < 0 || this.#highest[service] === 0) return NO_SERVER;
    const divisor = this.#divisor[service]!;
    const last = this.#cursor[service]!;
    let current = this.#current[service]!;
    let at = last === HEAD ? first : next[last]!;
    let stop = -2;
    let restarted = false;
    let lastPass = false;
    for (;;) {
      for (; at >= 0; at = next[at]!) {
        this.steps++;
        if (weight[at]! >= current && overloaded[at] === 0) {
          this.#current[service] = current;
          return (this.#cursor[service] = at);
        }
        if (at === stop) return this.#keep(service, current);
      }
      current -= divisor;
      if (current <= 0) {
        current = this.#highest[service]!;
        // A whole cycle from its first pass, or the only pass there is, has found nothing.
        if (lastPass || last === HEAD) return this.#keep(service, current);
        restarted = true;
      }
      lastPass = current <= divisor;
      if (lastPass && restarted && last !== HEAD) stop = last;
      at = first;
    }
  }

  started(service: number): void {
    this.#reach(service);
    this.#current[service] = 0;
    this.#survey(service);
  }

  stopped(): void {}

  added(service: number, server: number): void {
    this.#reach(service);
    const { servers } = this.#lists.services;
    const weight = this.#lists.servers.weight[server]!;
    // One server more: what a walk over all would find follows from what it found before.
    const known = servers[service] === 1 ? 0 : this.#highest[service]! + this.#divisor[service]! - 1;
    const divisor = known === 0 ? 0 : this.#divisor[service]!;
    const common = weight > 0 ? gcd(weight, divisor) : divisor;
    this.#restart(service, common, Math.max(known, weight));
  }

  removed(service: number): void {
    this.#survey(service);
  }

  updated(service: number): void {
    this.#survey(service);
  }

  /** The kernel walks the list twice, for the divisor and for the maximum. */
  changeSteps(servers: number): number {
    return 2 * servers;
  }

  #survey(service: number): void {
    this.#reach(service);
    const { next, weight } = this.#lists.servers;
    let divisor = 0;
    let highest = 0;
    for (let at = this.#lists.services.head[service]!; at >= 0; at = next[at]!) {
      if (weight[at]! > 0) divisor = gcd(weight[at]!, divisor);
      if (weight[at]! > highest) highest = weight[at]!;
    }
    this.#restart(service, divisor, highest);
  }

  #restart(service: number, common: number, weightMax: number): void {
    const divisor = common === 0 ? 1 : common;
    const highest = weightMax - (divisor - 1);
    const current = this.#current[service]!;
    this.#cursor[service] = HEAD;
    this.#divisor[service] = divisor;
    this.#highest[service] = highest;
    if (current > highest || current === 0) this.#current[service] = highest;
    else if (divisor > 1) this.#current[service] = Math.floor(current / divisor) * divisor + 1;
  }

  #keep(service: number, current: number): number {
    this.#current[service] = current;
    return NO_SERVER;
  }

  #reach(service: number): void {
    const held = this.#cursor.length;
    if (service < held) return;
    const capacity = Math.max(held * 2, service + 1);
    this.#cursor = longer(this.#cursor, capacity).fill(HEAD, held);
    this.#divisor = longer(this.#divisor, capacity).fill(1, held);
    this.#highest = longer(this.#highest, capacity);
    this.#current = longer(this.#current, capacity);
  }
}

function gcd(a: number, b: number): number {
  while (b !== 0) {
    const rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}
