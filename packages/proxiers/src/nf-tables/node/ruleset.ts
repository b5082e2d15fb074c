import { HOOKS } from '../kernel/chains.ts';
import { Draft, type AnonymousSet, type LoadedChain, type LoadedTable } from './draft.ts';
import { hookSteps, type HookName, type HookStep, type HookedChain } from './hooks.ts';
import { listLoaded } from './loaded-listing.ts';
import { forEachRule } from '../kernel/program.ts';
import { readNft } from '../language/reader.ts';
import { Link } from '../kernel/skb.ts';
import { NfTables } from '../kernel/tables.ts';

/** A base chain as hooks run it. */
export interface LoadedBase extends HookedChain {
  readonly id: number;
  /** `ip kube-proxy filter-forward` */
  readonly title: string;
}

/** A chain and its table. */
export interface ChainPlace {
  readonly table: LoadedTable;
  readonly chain: LoadedChain;
}

/** Interfaces are numbered as they are met; the loopback is the first on every node. */
const LOOPBACK = 'lo';

/**
 * All nft tables of a node, by their names: what `nft -f` texts made of them.
 * Models: texts are applied whole or not at all; names, comments and the order of making beside the kernel's numbers.
 * Source: nftables 1.0.6, src/libnftables.c, src/rule.c; net/netfilter/nf_tables_api.c.
 * Not modelled: rules placed by index or handle, replaced rules: refused.
 */
export class NftRuleset {
  readonly kernel: NfTables;
  /** In the order in which they were made, by `family name`. */
  tables: ReadonlyMap<string, LoadedTable> = new Map();
  /** Anonymous sets and maps by their numbers. */
  anonymous: ReadonlyMap<number, AnonymousSet> = new Map();
  readonly #links = new Map<string, Link>();
  #chains = new Map<number, ChainPlace>();
  #steps = new Map<string, readonly HookStep<LoadedBase>[]>();

  /** `seed`: sets hash with seeds made from it. */
  constructor(seed = 0) {
    this.kernel = new NfTables(seed);
    this.link(LOOPBACK);
  }

  /**
   * Apply a text for `nft -f`, a listing included.
   * @throws InputError with file and line: the text cannot be read, or the kernel would refuse it.
   */
  apply(text: string, file: string, nowNs = 0): void {
    const draft = new Draft(this, file);
    for (const command of readNft(text, file)) draft.take(command);
    draft.commit(nowNs / 1_000_000);
    this.tables = draft.tables;
    this.anonymous = draft.anonymous;
    this.#steps = new Map();
    this.#chains = new Map();
    for (const chain of draft.touched) this.#noteHandles(chain);
  }

  /** What a packet of a family meets at a hook. */
  steps(family: 4 | 6, hook: HookName): readonly HookStep<LoadedBase>[] {
    const key = `${family} ${hook}`;
    let steps = this.#steps.get(key);
    if (steps === undefined) {
      const chains = HOOKS.flatMap((name) => this.kernel.baseChains(name, family === 6));
      steps = hookSteps(
        chains.map((id) => this.#base(id)),
        hook,
      );
      this.#steps.set(key, steps);
    }
    return steps;
  }

  /** The interface of a name, known from now on. */
  link(name: string): Link {
    let link = this.#links.get(name);
    if (link === undefined) this.#links.set(name, (link = new Link(this.#links.size + 1, name)));
    return link;
  }

  linkName(index: number): string | undefined {
    return [...this.#links.keys()][index - 1];
  }

  /** What `nft list ruleset` prints. */
  list(nowNs = 0): string {
    let text = '';
    for (const line of listLoaded(this, nowNs / 1_000_000)) text += `${line}\n`;
    return text;
  }

  /** Where a chain is, by its number. */
  chain(id: number): ChainPlace {
    if (this.#chains.size === 0) {
      for (const table of this.tables.values()) {
        for (const chain of table.chains.values()) this.#chains.set(chain.id, { table, chain });
      }
    }
    return this.#chains.get(id)!;
  }

  #base(id: number): LoadedBase {
    const { table, chain } = this.chain(id);
    const { type, hook, priority } = chain.base!;
    const registered = [...this.kernel.chains.bases.keys()].indexOf(id);
    return { id, title: `${table.family} ${table.name} ${chain.name}`, type, hook, priority, registered };
  }

  #noteHandles(chain: LoadedChain): void {
    const { arena, start, words } = this.kernel.chains;
    let at = 0;
    forEachRule(arena, start[chain.id]!, words[chain.id]!, (_, handle) => {
      chain.rules[at++]!.handle = handle;
    });
  }
}
