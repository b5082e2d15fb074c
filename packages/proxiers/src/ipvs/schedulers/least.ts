import { NO_SERVER, type Lists, type Scheduler } from './scheduler.ts';

/** What an active connection weighs against an inactive one. */
export type LoadFormula =
  /** 256 × active + inactive: Linux until mid 2026. */
  | 256
  /** 257 × active + inactive (256 × active + total): 6.1.192, 6.12.117 and later. */
  | 257;

/**
 * The schedulers that look at every server for the least loaded: lc (weights do not matter), wlc (load by
 * weight), sed (active connections plus the new one, by weight) and nq (an idle server if there is one, else
 * sed). Ties keep the earlier in the list, the newest.
 * Source: net/netfilter/ipvs/ip_vs_lc.c, ip_vs_wlc.c, ip_vs_sed.c, ip_vs_nq.c.
 * Products are exact up to 2^53 here, 64 bits wide in the kernel.
 */
export class LeastLoaded implements Scheduler {
  readonly name: 'lc' | 'wlc' | 'sed' | 'nq';
  steps = 0;
  readonly #lists: Lists;
  readonly #formula: LoadFormula;

  constructor(name: 'lc' | 'wlc' | 'sed' | 'nq', lists: Lists, formula: LoadFormula = 257) {
    this.name = name;
    this.#lists = lists;
    this.#formula = formula;
  }

  pick(service: number): number {
    return this.name === 'lc' ? this.#leastConnections(service) : this.#leastByWeight(service);
  }

  added(): void {}

  removed(): void {}

  updated(): void {}

  changeSteps(): number {
    return 0;
  }

  #leastConnections(service: number): number {
    const { next, weight } = this.#lists.servers;
    let best = NO_SERVER;
    let bestLoad = 0;
    for (let at = this.#lists.services.head[service]!; at >= 0; at = next[at]!) {
      this.steps++;
      if (weight[at] === 0) continue;
      const load = this.#load(at);
      if (best === NO_SERVER || load < bestLoad) {
        best = at;
        bestLoad = load;
      }
    }
    return best;
  }

  #leastByWeight(service: number): number {
    const { next, weight, active } = this.#lists.servers;
    let best = NO_SERVER;
    let bestLoad = 0;
    for (let at = this.#lists.services.head[service]!; at >= 0; at = next[at]!) {
      this.steps++;
      if (weight[at] === 0) continue;
      if (this.name === 'nq' && active[at] === 0) return at;
      const load = this.name === 'wlc' ? this.#load(at) : active[at]! + 1;
      if (best === NO_SERVER || bestLoad * weight[at]! > load * weight[best]!) {
        best = at;
        bestLoad = load;
      }
    }
    return best;
  }

  #load(server: number): number {
    const { active, inactive } = this.#lists.servers;
    return this.#formula * active[server]! + inactive[server]!;
  }
}
