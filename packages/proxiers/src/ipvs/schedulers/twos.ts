import type { LoadFormula } from './least.ts';
import type { Draws } from './options.ts';
import { NO_SERVER, type Lists } from './scheduler.ts';
import { StatelessScheduler } from './stateless.ts';

/**
 * The power of two choices: two servers by chance, likelier by weight, and of them the less loaded by weight.
 * The draws go from 0 to the sum of weights, both included, so that the first of the list is a little likelier
 * than its weight says. Products have 32 bits in the kernel and wrap here as they do there.
 * Source: net/netfilter/ipvs/ip_vs_twos.c.
 */
export class TwoChoices extends StatelessScheduler {
  readonly name = 'twos';
  readonly #lists: Lists;
  readonly #draws: Draws;
  readonly #formula: LoadFormula;

  constructor(lists: Lists, draws: Draws, formula: LoadFormula = 257) {
    super();
    this.#lists = lists;
    this.#draws = draws;
    this.#formula = formula;
  }

  pick(service: number): number {
    const { services, servers } = this.#lists;
    const { next, weight, active, inactive, overloaded } = servers;
    const first = services.head[service]!;
    let sum = 0;
    for (let at = first; at >= 0; at = next[at]!) {
      if (overloaded[at] === 0 && weight[at]! > 0) sum += weight[at]!;
    }
    this.steps += services.servers[service]!;
    if (sum === 0) return NO_SERVER;
    let left1 = this.#draws.below(sum + 1);
    let left2 = this.#draws.below(sum + 1);
    let one = NO_SERVER;
    let other = NO_SERVER;
    for (let at = first; one === NO_SERVER || other === NO_SERVER; at = next[at]!) {
      this.steps++;
      const own = weight[at]!;
      if (overloaded[at] !== 0 || own <= 0) continue;
      left1 -= own;
      left2 -= own;
      if (left1 <= 0 && one === NO_SERVER) one = at;
      if (left2 <= 0 && other === NO_SERVER) other = at;
    }
    const load1 = this.#formula * active[one]! + inactive[one]!;
    const load2 = this.#formula * active[other]! + inactive[other]!;
    return Math.imul(weight[other]!, load1) > Math.imul(weight[one]!, load2) ? other : one;
  }
}
