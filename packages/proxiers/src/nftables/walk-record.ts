import { formatIpv4, swap32 } from '@vipsim/sim-core';
import type { Cluster } from '../kubernetes/cluster.ts';
import type { Evaluator, ExpressionRecorder } from '../nf-tables/kernel/evaluator.ts';
import { expressionText } from '../nf-tables/kernel/expression-text.ts';
import { ruleText } from '../nf-tables/language/listing-rule.ts';
import { forEachRule } from '../nf-tables/kernel/program.ts';
import type { Recorder } from '../proxier.ts';
import type { KernelTable } from './kernel-table.ts';
import { Listing } from './listing.ts';
import type { Programmed } from './programmed.ts';

const LONGEST_RULE = 200;

/** A walk in words: each rule begun, and where it stopped fitting. Texts are made when a step needs them. */
export class WalkRecord implements ExpressionRecorder {
  recorder: Recorder | undefined = undefined;
  readonly #table: KernelTable;
  readonly #listing: Listing;
  #chain = -1;
  #rule = -1;
  #expressions = 0;
  #broke = -1;
  #rules = 0;
  #total = 0;

  constructor(cluster: Cluster, table: KernelTable, programmed: Programmed) {
    this.#table = table;
    this.#listing = new Listing(cluster, table, programmed);
  }

  /** A base chain is entered. */
  begin(): void {
    this.#rule = -1;
    this.#rules = 0;
    this.#total = 0;
  }

  expression(chain: number, rule: number, at: number, broke: boolean): void {
    if (rule !== this.#rule) {
      this.#say('goes on');
      this.#chain = chain;
      this.#rule = rule;
      this.#expressions = 0;
      this.#rules++;
    }
    this.#expressions++;
    this.#total++;
    this.#broke = broke ? at : -1;
  }

  /** The base chain has decided. */
  end(base: number, passes: boolean, machine: Evaluator): void {
    if (this.recorder === undefined) return;
    const nat = machine.nat === 0 ? undefined : natText(machine);
    this.#say(nat ?? (machine.rejected ? 'rejects' : passes ? 'goes on' : 'drops'));
    const fate = nat === undefined ? (passes ? 'accept' : 'drop') : `accept, ${nat}`;
    this.recorder.step(
      this.#nameOf(base),
      `${fate}: ${many(this.#rules, 'rule')} begun, ${many(this.#total, 'expression')}`,
    );
  }

  /** What came of the rule at hand. */
  #say(outcome: string): void {
    if (this.recorder === undefined || this.#rule < 0) return;
    const { chains } = this.#table.tables;
    let index = 0;
    let count = 0;
    forEachRule(chains.arena, chains.start[this.#chain]!, chains.words[this.#chain]!, (at) => {
      if (at < this.#rule) index++;
      count++;
    });
    const text = ruleText(this.#listing.rule(this.#chain, this.#rule, index));
    const shown = text.length > LONGEST_RULE ? `${text.slice(0, LONGEST_RULE)}…` : text;
    const failed = this.#broke >= 0 ? `no: ${this.#expressionAt(this.#broke)} fails` : outcome;
    this.recorder.step(
      this.#nameOf(this.#chain),
      `rule ${index + 1} of ${count}, ${many(this.#expressions, 'expression')}: ${shown} → ${failed}`,
    );
  }

  #expressionAt(at: number): string {
    const names = {
      chain: (id: number): string => this.#nameOf(id),
      set: (id: number): string => {
        const own = this.#table.ownSet(id);
        return own < 0 ? `__set${id}` : this.#table.names.set(own);
      },
    };
    return `[ ${expressionText(this.#table.tables.chains.arena, at, names)} ]`;
  }

  #nameOf(chain: number): string {
    return this.#table.names.chain(this.#table.ownChain(chain));
  }
}

function natText(machine: Evaluator): string {
  if (machine.masquerade) return 'masquerade';
  return `DNAT to ${formatIpv4(swap32(machine.natAddress[0]!))}:${machine.natPortMin}`;
}

function many(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
