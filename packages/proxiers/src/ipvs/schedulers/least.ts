import { NO_SERVER, type Lists } from './scheduler.ts';
import { StatelessScheduler } from './stateless.ts';

/** What an active connection weighs against an inactive one. */
export type LoadFormula =
  /** 256 × active + inactive: Linux until mid 2026. */
  | 256
  /** 257 × active + inactive (256 × active + total): 6.1.192, 6.12.117 and later. */
  | 257;

/**
 * The schedulers that look at every server for the least loaded: lc (weights do not matter), wlc (load by
 * weight), sed (active connections plus the new one, by weight) and nq (an idle server if there is one, else
 * sed). Ties keep the earlier in the list, the newest. UDP never becomes active, so that sed and nq send all of
 * it to one server.
 * Source: net/netfilter/ipvs/ip_vs_lc.c, ip_vs_wlc.c, ip_vs_sed.c, ip_vs_nq.c.
 * Products are exact up to 2^53 here, 64 bits wide in the kernel.
 */
export class LeastLoaded extends StatelessScheduler {
  readonly name: 'lc' | 'wlc' | 'sed' | 'nq';
  readonly #lists: Lists;
  readonly #formula: LoadFormula;

  constructor(name: 'lc' | 'wlc' | 'sed' | 'nq', lists: Lists, formula: LoadFormula = 257) {
    super();
    this.name = name;
    this.#lists = lists;
    this.#formula = formula;
  }

  pick(service: number): number {
    if (this.name === 'nq') return this.#neverQueue(service);
    this.steps += this.#lists.services.servers[service]!;
    if (this.name === 'lc') return leastConnections(this.#lists, service, this.#formula);
    if (this.name === 'wlc') return leastByWeight(this.#lists, service, this.#formula);
    return shortestDelay(this.#lists, service);
  }

  #neverQueue(service: number): number {
    const { next, weight, active, overloaded } = this.#lists.servers;
    let best = NO_SERVER;
    let bestLoad = 0;
    let bestWeight = 0;
    for (let at = this.#lists.services.head[service]!; at >= 0; at = next[at]!) {
      this.steps++;
      const own = weight[at]!;
      if (own <= 0 || overloaded[at] !== 0) continue;
      if (active[at] === 0) return at;
      const load = active[at]! + 1;
      if (best === NO_SERVER || bestLoad * own > load * bestWeight) {
        best = at;
        bestLoad = load;
        bestWeight = own;
      }
    }
    return best;
  }
}

function leastConnections({ services, servers }: Lists, service: number, formula: LoadFormula): number {
  const { next, weight, active, inactive, overloaded } = servers;
  let best = NO_SERVER;
  let bestLoad = 0;
  for (let at = services.head[service]!; at >= 0; at = next[at]!) {
    if (weight[at]! <= 0 || overloaded[at] !== 0) continue;
    const load = formula * active[at]! + inactive[at]!;
    if (best === NO_SERVER || load < bestLoad) {
      best = at;
      bestLoad = load;
    }
  }
  return best;
}

/** What wlc chooses, and lblc and lblcr for what is not in their caches. Examines every server. */
export function leastByWeight({ services, servers }: Lists, service: number, formula: LoadFormula): number {
  const { next, weight, active, inactive, overloaded } = servers;
  let best = NO_SERVER;
  let bestLoad = 0;
  let bestWeight = 0;
  for (let at = services.head[service]!; at >= 0; at = next[at]!) {
    const own = weight[at]!;
    if (own <= 0 || overloaded[at] !== 0) continue;
    const load = formula * active[at]! + inactive[at]!;
    if (best === NO_SERVER || bestLoad * own > load * bestWeight) {
      best = at;
      bestLoad = load;
      bestWeight = own;
    }
  }
  return best;
}

function shortestDelay({ services, servers }: Lists, service: number): number {
  const { next, weight, active, overloaded } = servers;
  let best = NO_SERVER;
  let bestLoad = 0;
  let bestWeight = 0;
  for (let at = services.head[service]!; at >= 0; at = next[at]!) {
    const own = weight[at]!;
    if (own <= 0 || overloaded[at] !== 0) continue;
    const load = active[at]! + 1;
    if (best === NO_SERVER || bestLoad * own > load * bestWeight) {
      best = at;
      bestLoad = load;
      bestWeight = own;
    }
  }
  return best;
}
