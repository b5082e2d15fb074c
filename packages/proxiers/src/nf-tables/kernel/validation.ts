import { HOOKS, NEEDS_NAT, NEXT, REFERS, type BaseChain } from './chains.ts';
import { NfTablesError } from './nf-error.ts';
import { IMMEDIATE_VERDICT, LOOKUP, RULE_HEADER, VERDICT, expressionWords, verdictChain } from './program.ts';
import { isJump } from './references.ts';
import type { NfTables } from './tables.ts';
import type { TransactionCounts } from './transaction-counts.ts';

/**
 * The check of a whole table before a commit: no path of jumps and gotos from a base chain may be 16 deep, and
 * translations and rejects may only be reached from hooks that allow them.
 * Source: net/netfilter/nf_tables_api.c (nft_table_validate, nft_chain_validate, nft_setelem_validate).
 * `once` is the newer way: a chain that was found good from this hook, at this depth or deeper, is not entered
 * again. `each-path` is that of older kernels, which enter a chain as often as something leads to it.
 */
export type ValidationMode = 'once' | 'each-path';

/** NFT_JUMP_STACK_SIZE */
const DEPTH_MAX = 16;
const TYPES: readonly BaseChain['type'][] = ['filter', 'nat', 'route'];
/** Bits of a chain's state: a hook of each type, then the depth. */
const DEPTH_SHIFT = 15;

/** The rules of a chain as the transaction leaves them. */
export interface Run {
  start: number;
  words: number;
  rules: number;
  needs: number;
}

export class Validation {
  readonly #tables: NfTables;
  readonly #counts: TransactionCounts;
  readonly #once: boolean;
  readonly #run: (chain: number, out: Run) => void;
  /** By chain: from which hooks it was found good, and how deep. */
  #seen = new Int32Array(0);
  #hookBit = 0;
  #seenBit = 0;
  #nat = false;
  readonly #runs: Run[] = [];

  constructor(
    tables: NfTables,
    counts: TransactionCounts,
    mode: ValidationMode,
    run: (chain: number, out: Run) => void,
  ) {
    this.#tables = tables;
    this.#counts = counts;
    this.#once = mode === 'once';
    this.#run = run;
    for (let depth = 0; depth <= DEPTH_MAX; depth++)
      this.#runs.push({ start: 0, words: 0, rules: 0, needs: 0 });
  }

  /** Check one table; throws EMLINK, ELOOP or EOPNOTSUPP. */
  check(table: number): void {
    const { chains } = this.#tables;
    this.#seen = new Int32Array(chains.count);
    for (const [chain, base] of chains.bases) {
      if (chains.table[chain] !== table || (chains.state[chain]! & NEXT) === 0) continue;
      const hook = HOOKS.indexOf(base.hook);
      this.#hookBit = 1 << hook;
      this.#seenBit = 1 << (hook + 5 * TYPES.indexOf(base.type));
      this.#nat = base.type === 'nat';
      this.#chain(chain, 0);
    }
  }

  #chain(chain: number, level: number): void {
    if (level === DEPTH_MAX) throw new NfTablesError('EMLINK', -1, 'jumps from chain to chain are 16 deep');
    if (level > 0) {
      if (this.#tables.chains.bases.has(chain)) {
        throw new NfTablesError('ELOOP', -1, 'a rule jumps to a base chain');
      }
      const seen = this.#seen[chain]!;
      if (this.#once && (seen & this.#seenBit) !== 0 && seen >>> DEPTH_SHIFT >= level) {
        this.#counts.chainsSkipped++;
        return;
      }
    }
    const run = this.#runs[level]!;
    this.#run(chain, run);
    this.#counts.chainsValidated++;
    this.#counts.rulesValidated += run.rules;
    if ((run.needs & this.#hookBit) === 0 || ((run.needs & NEEDS_NAT) !== 0 && !this.#nat)) {
      throw new NfTablesError(
        'EOPNOTSUPP',
        -1,
        'a base chain reaches a rule that its hook or type does not allow',
      );
    }
    if ((run.needs & REFERS) !== 0) this.#follow(run.start, run.start + run.words, level);
    const seen = this.#seen[chain]!;
    const depth = Math.max(seen >>> DEPTH_SHIFT, level);
    this.#seen[chain] = (seen & ((1 << DEPTH_SHIFT) - 1)) | this.#seenBit | (depth << DEPTH_SHIFT);
  }

  #follow(start: number, end: number, level: number): void {
    const words = this.#tables.chains.arena;
    for (let rule = start; rule < end; rule += words[rule]!) {
      const ruleEnd = rule + words[rule]!;
      for (let at = rule + RULE_HEADER; at < ruleEnd; at += expressionWords(words, at)) {
        const word = words[at]!;
        if ((word & 255) === IMMEDIATE_VERDICT) {
          if (isJump(words[at + 1]!)) this.#chain(verdictChain(words[at + 1]!), level + 1);
        } else if ((word & 255) === LOOKUP && ((word >>> 16) & 255) === VERDICT) {
          this.#elements(words[at + 1]!, level);
        }
      }
    }
  }

  #elements(id: number, level: number): void {
    const set = this.#tables.sets[id]!;
    set.forEach((element) => {
      if (set.isLeaving(element)) return;
      this.#counts.elementsValidated++;
      if (set.isIntervalEnd(element)) return;
      const verdict = set.data(element, 0);
      if (isJump(verdict)) this.#chain(verdictChain(verdict), level + 1);
    });
  }
}
