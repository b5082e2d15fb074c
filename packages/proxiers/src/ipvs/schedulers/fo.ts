import { NO_SERVER, type Lists } from './scheduler.ts';
import { StatelessScheduler } from './stateless.ts';

/**
 * Weighted fail-over: everything to the server of the highest weight, of several the newest; to the next when
 * that is overloaded or of weight 0.
 * Source: net/netfilter/ipvs/ip_vs_fo.c.
 */
export class FailOver extends StatelessScheduler {
  readonly name = 'fo';
  readonly #lists: Lists;

  constructor(lists: Lists) {
    super();
    this.#lists = lists;
  }

  pick(service: number): number {
    const { services, servers } = this.#lists;
    const { next, weight, overloaded } = servers;
    this.steps += services.servers[service]!;
    let best = NO_SERVER;
    let highest = 0;
    for (let at = services.head[service]!; at >= 0; at = next[at]!) {
      if (overloaded[at] !== 0 || weight[at]! <= highest) continue;
      best = at;
      highest = weight[at]!;
    }
    return best;
  }
}
