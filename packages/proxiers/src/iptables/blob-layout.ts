import { BUILT_IN_CHAINS } from './chains.ts';
import type { RuleText } from './rule-text.ts';
import type { RuleTable } from './rule-table.ts';

/** An entry of the blob. `head`: the ERROR entry that carries a user chain's name. `last`: the table's last one. */
export interface BlobEntry {
  readonly kind: 'head' | 'rule' | 'return' | 'policy' | 'last';
  /** Bytes from the start of the blob. */
  readonly offset: number;
  readonly bytes: number;
  /** -1 for the last. */
  readonly chain: number;
  /** The table's row of a rule, else -1. */
  readonly row: number;
}

/**
 * Where the entries of a table lie in the one array of bytes that x_tables keeps of it.
 *
 *     PREROUTING rules, policy | INPUT … | head KUBE-SEP-2AB…, rules, RETURN | head KUBE-SEP-… | … | last
 *
 * Models: built-in chains in the order of hooks, user chains by name, with sizes to the byte: a jump from
 * KUBE-SERVICES to a service's chain and on to an endpoint's goes far in memory.
 * Source: struct xt_table_info and ipt_replace; libiptc.c of iptables, which keeps user chains in the order of
 * strcmp and compiles a jump to the entry behind the chain's head.
 * Not modelled: nf_tables, whose chains have an allocation each; gaps, of which libiptc leaves none.
 */
export class BlobLayout {
  readonly bytes: number;
  /** Entries as the kernel counts them. */
  readonly entries: number;
  /** Chains that exist, in the order of the blob. */
  readonly chains: readonly number[];
  readonly #table: RuleTable;
  /** By chain: where its first rule lies, or its end where it has none; -1 where there is no chain. */
  readonly #starts: Float64Array;
  readonly #head: number;
  readonly #end: number;

  /**
   * The table as it is now; commits leave the layout behind. Every chain's name is hashed: some 5 s for a million.
   * @throws RangeError for a table of nf_tables.
   */
  constructor(table: RuleTable, names: Pick<RuleText, 'chain' | 'forget'>) {
    const { head, end } = table.entryBytes;
    if (head === 0) throw new RangeError(`table ${table.name} of nf_tables does not lie in one blob`);
    this.#table = table;
    this.#head = head;
    this.#end = end;
    this.chains = orderOf(table, names);
    this.#starts = new Float64Array(table.kind.length).fill(-1);
    let offset = 0;
    let rules = 0;
    for (const chain of this.chains) {
      if (chain >= BUILT_IN_CHAINS) offset += this.#head;
      this.#starts[chain] = offset;
      offset += rulesBytes(table, chain) + this.#end;
      rules += table.count[chain]!;
    }
    const userChains = this.chains.filter((chain) => chain >= BUILT_IN_CHAINS).length;
    this.bytes = offset + this.#head;
    this.entries = rules + this.chains.length + userChains + 1;
  }

  /** Where a walk that comes to the chain begins: what a jump to it carries, or the entry of its hook. */
  start(chain: number): number {
    const start = this.#starts[chain] ?? -1;
    if (start < 0) throw new RangeError(`table ${this.#table.name} has no chain ${chain}`);
    return start;
  }

  /** Where the chain's RETURN lies, or the policy, which is the underflow of its hook. */
  end(chain: number): number {
    return this.start(chain) + rulesBytes(this.#table, chain);
  }

  rule(chain: number, row: number): number {
    return this.start(chain) + this.#table.bytesPassed(this.#table.first[chain]!, row);
  }

  *eachEntry(): Generator<BlobEntry> {
    const { first, count, rules, entryBytes } = this.#table;
    for (const chain of this.chains) {
      const builtIn = chain < BUILT_IN_CHAINS;
      let offset = this.start(chain);
      if (!builtIn) yield { kind: 'head', offset: offset - this.#head, bytes: this.#head, chain, row: -1 };
      for (let row = first[chain]!; row < first[chain]! + count[chain]!; row++) {
        const bytes = entryBytes.rule(rules.match[row]!, rules.target[row]!);
        yield { kind: 'rule', offset, bytes, chain, row };
        offset += bytes;
      }
      yield { kind: builtIn ? 'policy' : 'return', offset, bytes: this.#end, chain, row: -1 };
    }
    yield { kind: 'last', offset: this.bytes - this.#head, bytes: this.#head, chain: -1, row: -1 };
  }
}

function rulesBytes(table: RuleTable, chain: number): number {
  const first = table.first[chain]!;
  return table.bytesPassed(first, first + table.count[chain]!);
}

/** Built-in chains have the numbers of their hooks. */
function orderOf(table: RuleTable, names: Pick<RuleText, 'chain' | 'forget'>): number[] {
  const live = table.liveChains();
  const named = live
    .filter((chain) => chain >= BUILT_IN_CHAINS)
    .map((chain) => ({ chain, name: names.chain(table, chain) }));
  names.forget();
  named.sort((a, b) => (a.name < b.name ? -1 : 1));
  return [...live.filter((chain) => chain < BUILT_IN_CHAINS), ...named.map(({ chain }) => chain)];
}
