import type { Family } from '../netfilter/address.ts';
import { RecentTables } from './recent.ts';
import { BUILT_IN, type Chain, type Rule, type Table } from './rule.ts';

/** A rule that is not modelled in full: it never matches. */
export interface Unknown {
  /** `match set`, `target NFQUEUE`. */
  readonly name: string;
  readonly table: string;
  readonly line: number;
}

/** The tables of one family as the kernel holds them, and the state that their matches share. */
export class Ruleset {
  readonly family: Family;
  readonly tables = new Map<string, Table>();
  readonly recent = new RecentTables();
  /** Comment lines behind the last table. */
  trailer: readonly string[] = [];

  constructor(family: Family) {
    this.family = family;
  }

  chain(table: string, name: string): Chain | undefined {
    return this.tables.get(table)?.chains.get(name);
  }

  *rules(): Generator<{ readonly table: Table; readonly chain: Chain; readonly rule: Rule }> {
    for (const table of this.tables.values()) {
      for (const chain of table.chains.values()) {
        for (const rule of chain.rules) yield { table, chain, rule };
      }
    }
  }

  /** What the walk will not take part in, by name and line. */
  unknown(): Unknown[] {
    const found: Unknown[] = [];
    for (const { table, rule } of this.rules()) {
      const names = new Set(rule.matches.filter((match) => match.unknown).map((match) => match.name));
      for (const name of names) found.push({ name: `match ${name}`, table: table.name, line: rule.line });
      if (rule.target?.kind === 'unknown') {
        found.push({ name: `target ${rule.target.name}`, table: table.name, line: rule.line });
      }
    }
    return found.sort((a, b) => a.line - b.line);
  }

  /** Lists of xt_recent live as long as rules name them. */
  refreshLists(): void {
    const names = new Map<string, number>();
    const chains = [...this.tables.values()].flatMap((table) => printedChains(table));
    for (const { rules } of chains) {
      for (const { matches } of rules) {
        for (const { list } of matches) {
          if (list === undefined) continue;
          const ring = list.hits === 0 ? 32 : list.hits;
          names.set(list.name, Math.max(names.get(list.name) ?? 1, ring));
        }
      }
    }
    this.recent.keep(names);
  }
}

/** Built-in chains in the order of their hooks, then the others by name, as libiptc keeps them. */
export function printedChains(table: Table): Chain[] {
  const builtIn = BUILT_IN[table.name]!;
  const first = builtIn.flatMap((name) => table.chains.get(name) ?? []);
  const others = [...table.chains.values()].filter(({ name }) => !builtIn.includes(name));
  return [...first, ...others.sort((a, b) => (a.name < b.name ? -1 : 1))];
}

export function newTable(name: string): Table {
  const chains = BUILT_IN[name]!.map((chain) => [chain, newChain(chain, 'ACCEPT')] as const);
  return { name, chains: new Map(chains), remarks: [] };
}

export function newChain(name: string, policy: Chain['policy']): Chain {
  return { name, policy, packets: 0, bytes: 0, rules: [] };
}
