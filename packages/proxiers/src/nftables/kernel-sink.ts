import { linearize, type LinearizeContext, type NamedSet } from '../nf-tables/language/linearize.ts';
import { namedSetDescription, type KernelSet } from '../nf-tables/language/linearize-set.ts';
import { DROP, GOTO, ProgramBuilder, verdictWord } from '../nf-tables/kernel/program.ts';
import type { Rule, SetSpec } from '../nf-tables/language/statement.ts';
import type { TransactionCounts } from '../nf-tables/kernel/transaction-counts.ts';
import { CONTINUED, INTERVAL_END, Transaction } from '../nf-tables/kernel/transaction.ts';
import { DROPS, chainOf } from './elements.ts';
import { affinitySpec, setSpec, type BaseChainSpec } from './fixed-rules.ts';
import { NO_ID, TABLE_NUMBER, type KernelTable } from './kernel-table.ts';
import { FIXED_CHAINS, FIXED_SETS } from './names.ts';
import type { Naming } from './service-rules.ts';
import type { Sink } from './sync-work.ts';
import { Terms } from './terms.ts';

const FIXED_CHAIN_NUMBERS = new Map<string, number>(FIXED_CHAINS.map((name, number) => [name, number]));
const FIXED_SET_NUMBERS = new Map<string, number>(FIXED_SETS.map((name, number) => [name, number]));

/** In the rules that are loaded, chains and sets are called by their numbers: no name is made or kept. */
const TOKENS: Naming = { chain: String, set: String };

/** A transaction in the making. */
export class KernelSink implements Sink {
  readonly naming = TOKENS;
  /** As kube-proxy counts them. */
  operations = 0;
  /** Elements of anonymous sets and maps. */
  inlineElements = 0;
  /**
   * Sets passed while jumps and gotos, of rules and of elements, are checked for loops: each time the list as it is
   * then (nf_tables_check_loops). Not modelled: chains behind the one that is led to, which have no rules yet when
   * kube-proxy writes the jump.
   */
  loopSteps = 0;
  readonly #table: KernelTable;
  readonly #transaction: Transaction;
  readonly #builder = new ProgramBuilder();
  readonly #terms: Terms;
  readonly #context: LinearizeContext;
  #sets: number;
  /** Own numbers that this transaction names or unnames, each with the kernel's number of before. */
  readonly #chainsBefore: number[] = [];
  readonly #setsBefore: number[] = [];

  constructor(table: KernelTable) {
    table.open(this);
    this.#table = table;
    this.#transaction = new Transaction(table.tables);
    this.#terms = new Terms(table.options);
    this.#sets = table.setCount;
    this.#context = {
      family: this.#terms.ip,
      chain: (name) => this.#chain(FIXED_CHAIN_NUMBERS.get(name) ?? Number(name)),
      set: (name) => this.#namedSet(FIXED_SET_NUMBERS.get(name) ?? Number(name)),
      anonymousSet: (set) => this.#anonymousSet(set),
    };
  }

  table(): void {
    this.operations++;
    this.#transaction.addTable(this.#terms.ip, 'kube-proxy');
  }

  addChain(number: number, base?: BaseChainSpec): void {
    this.operations++;
    let id = this.#table.chain(number);
    if (id === NO_ID) {
      id = this.#table.tables.reserveChain();
      this.#table.bear(id);
      this.#nameChain(number, id);
    }
    this.#transaction.addChain(TABLE_NUMBER, id, base && { ...base, policy: 'accept' });
  }

  flushChain(chain: number): void {
    this.operations++;
    this.#transaction.flushChain(this.#chain(chain));
  }

  deleteChain(chain: number): void {
    this.operations++;
    this.#transaction.deleteChain(this.#chain(chain));
    this.#nameChain(chain, NO_ID);
  }

  addRule(chain: number, rule: Rule): void {
    this.operations++;
    linearize(rule, this.#context, this.#builder.reset());
    if (leads(rule)) this.loopSteps += this.#sets;
    this.#transaction.addRules(this.#chain(chain), this.#builder);
  }

  addSet(number: number, spec: SetSpec): void {
    this.operations++;
    let id = this.#table.set(number);
    if (id === NO_ID) {
      id = this.#table.tables.reserveSet();
      this.#nameSet(number, id);
      this.#sets++;
    }
    this.#transaction.addSet(TABLE_NUMBER, id, namedSetDescription(spec));
  }

  flushSet(set: number): void {
    this.operations++;
    this.#transaction.flushSet(this.#set(set));
  }

  deleteSet(set: number): void {
    this.operations++;
    this.#transaction.deleteSet(this.#set(set));
    this.#nameSet(set, NO_ID);
  }

  addElement(set: number, key: number, value: number): void {
    this.operations++;
    const data = value === DROPS ? [verdictWord(DROP)] : this.#goto(chainOf(value));
    if (chainOf(value) >= 0) this.loopSteps += this.#sets;
    this.#transaction.addElement(this.#set(set), this.#table.keyWords(set, key), data);
  }

  deleteElement(set: number, key: number): void {
    this.operations++;
    this.#transaction.deleteElement(this.#set(set), this.#table.keyWords(set, key));
  }

  /** Check it and count what it makes the kernel do. Throws NfTablesError. */
  prepare(nowNs: number): TransactionCounts {
    return this.#transaction.prepare(Math.floor(nowNs / 1_000_000));
  }

  commit(): void {
    this.#transaction.commit();
    this.#table.closed();
  }

  abort(): void {
    this.#transaction.abort();
    const chains = this.#chainsBefore;
    for (let at = chains.length - 2; at >= 0; at -= 2) this.#table.nameChain(chains[at]!, chains[at + 1]!);
    const sets = this.#setsBefore;
    for (let at = sets.length - 2; at >= 0; at -= 2) this.#table.nameSet(sets[at]!, sets[at + 1]!);
  }

  /** The kernel takes it before the rule that refers to it. */
  #anonymousSet({ description, elements }: KernelSet): number {
    const id = this.#table.tables.reserveSet();
    this.#transaction.addSet(TABLE_NUMBER, id, description);
    let first = true;
    for (const { key, data, intervalEnd } of elements) {
      const flags = (first ? 0 : CONTINUED) | (intervalEnd ? INTERVAL_END : 0);
      this.#transaction.addElement(id, key, data, { flags });
      first = false;
    }
    this.inlineElements += elements.length;
    this.#sets++;
    if (description.verdicts) this.loopSteps += elements.length * this.#sets;
    return id;
  }

  #namedSet(number: number): NamedSet {
    const { ip } = this.#terms;
    const fixed = FIXED_SETS[number];
    const spec = fixed === undefined ? affinitySpec('', 0, ip) : setSpec(fixed, ip);
    return { ...spec, id: this.#set(number), interval: false };
  }

  #goto(chain: number): readonly number[] | undefined {
    return chain < 0 ? undefined : [verdictWord(GOTO, this.#chain(chain))];
  }

  #chain(number: number): number {
    const id = this.#table.chain(number);
    if (id === NO_ID) throw new RangeError(`no chain ${this.#table.names.chain(number)}`);
    return id;
  }

  #set(number: number): number {
    const id = this.#table.set(number);
    if (id === NO_ID) throw new RangeError(`no set ${this.#table.names.set(number)}`);
    return id;
  }

  #nameChain(number: number, id: number): void {
    this.#chainsBefore.push(number, this.#table.chain(number));
    this.#table.nameChain(number, id);
  }

  #nameSet(number: number, id: number): void {
    this.#setsBefore.push(number, this.#table.set(number));
    this.#table.nameSet(number, id);
  }
}

/** Whether the rule jumps or goes to another chain. */
function leads({ statements }: Rule): boolean {
  const last = statements.at(-1)!;
  return last.kind === 'verdict' && (last.verdict.kind === 'jump' || last.verdict.kind === 'goto');
}
