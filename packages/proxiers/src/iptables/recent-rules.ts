import { JUMP, RECENT_CHECK, RECENT_SET } from './rule.ts';
import type { RecentLists } from './recent-lists.ts';
import type { RuleText } from './rule-text.ts';
import type { CommitObserver, RuleTable } from './rule-table.ts';

/**
 * Makes lists when rules that name them come into force, and takes them away with the last such rule. A rule of a
 * new table refers to its list before the rule that it replaces lets go, so that lists survive a replacement.
 *
 * x_tables checks the rules of the whole new blob, whose chains lie in alphabetical order: new lists come in the
 * order of the names of their KUBE-SEP chains. iptables-nft adds rules as the document has them.
 * Source: recent_mt_check and recent_mt_destroy in net/netfilter/xt_recent.c; libiptc sorts chains.
 */
export class RecentRules implements CommitObserver {
  readonly #table: RuleTable;
  readonly #lists: RecentLists;
  readonly #names: Pick<RuleText, 'chain' | 'forget'> | undefined;
  /** Chains whose lists are named by rows that come, one for each such row. */
  #named: number[] = [];

  /** `names` are given where lists come in the order of names, and left out where in order of rules. */
  constructor(table: RuleTable, lists: RecentLists, names: Pick<RuleText, 'chain' | 'forget'> | undefined) {
    this.#table = table;
    this.#lists = lists;
    this.#names = names;
  }

  added(chain: number, first: number, count: number): void {
    for (let row = first; row < first + count; row++) {
      const list = listOf(this.#table, chain, row);
      if (list >= 0) this.#named.push(list);
    }
  }

  removed(chain: number, first: number, count: number): void {
    this.#create();
    for (let row = first; row < first + count; row++) {
      const list = listOf(this.#table, chain, row);
      if (list >= 0) this.#lists.release(list);
    }
  }

  committed(): void {
    this.#create();
    this.#lists.settle();
  }

  #create(): void {
    if (this.#named.length === 0) return;
    const named = this.#named;
    this.#named = [];
    if (this.#names !== undefined) {
      this.#createByName(this.#names, named);
      return;
    }
    for (const list of named) this.#lists.refer(list);
  }

  #createByName(names: Pick<RuleText, 'chain' | 'forget'>, named: readonly number[]): void {
    const fresh = [...new Set(named)]
      .filter((list) => !this.#lists.exists(list))
      .map((list) => ({ list, name: names.chain(this.#table, list) }));
    // A number may mean another chain after the next commit.
    names.forget();
    fresh.sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const { list } of fresh) this.#lists.refer(list);
    for (const list of named) this.#lists.refer(list);
    for (const { list } of fresh) this.#lists.release(list);
  }
}

/** The chain whose list a rule names, or -1. */
export function listOf(table: RuleTable, chain: number, row: number): number {
  const match = table.rules.match[row]!;
  if ((match & RECENT_SET) !== 0) return chain;
  if ((match & RECENT_CHECK) === 0) return -1;
  return table.rules.target[row] === JUMP ? table.rules.argument[row]! : chain;
}
