import { NO_SERVER, type Lists } from './scheduler.ts';
import { StatelessScheduler } from './stateless.ts';

/**
 * Weighted overflow: everything to the server of the highest weight, of several the newest, until it has more
 * active connections than its weight (so weight + 1); then to the next. UDP never overflows.
 * Source: net/netfilter/ipvs/ip_vs_ovf.c.
 */
export class Overflow extends StatelessScheduler {
  readonly name = 'ovf';
  readonly #lists: Lists;

  constructor(lists: Lists) {
    super();
    this.#lists = lists;
  }

  pick(service: number): number {
    const { services, servers } = this.#lists;
    const { next, weight, active, overloaded } = servers;
    this.steps += services.servers[service]!;
    let best = NO_SERVER;
    let highest = 0;
    for (let at = services.head[service]!; at >= 0; at = next[at]!) {
      const own = weight[at]!;
      if (overloaded[at] !== 0 || active[at]! > own || own <= highest) continue;
      best = at;
      highest = own;
    }
    return best;
  }
}
