import { InputError } from '../../kubernetes/input-error.ts';
import {
  kernelElements,
  namedSetDescription,
  type KernelElement,
  type KernelSet,
} from '../language/linearize-set.ts';
import { linearize, type LinearizeContext, type NamedSet } from '../language/linearize.ts';
import { NfTablesError } from '../kernel/nf-error.ts';
import { ProgramBuilder } from '../kernel/program.ts';
import type { NftRuleset } from './ruleset.ts';
import type { BaseChain, Command, Family, Named, Rule, SetSpec } from '../language/statement.ts';
import { CONTINUED, EXCLUSIVE, IF_EXISTS, INTERVAL_END, Transaction } from '../kernel/transaction.ts';

/** Most elements of a set that rules add to, where the text says nothing: nft asks the kernel for so many. */
const DYNAMIC_SIZE = 65_535;

/** What nft keeps in the kernel beside a rule, and the kernel's number for it. */
export interface LoadedRule {
  readonly source: Rule;
  handle: number;
}

export interface LoadedChain {
  readonly id: number;
  readonly name: string;
  readonly base?: BaseChain;
  readonly comment?: string;
  readonly rules: LoadedRule[];
}

export interface LoadedSet {
  readonly id: number;
  readonly spec: SetSpec;
  /** Comments of elements, by the words of their keys. */
  readonly comments: Map<string, string>;
}

/** An anonymous set or map, as its rule wrote it. */
export type AnonymousSet = Pick<KernelSet, 'types' | 'data'> & { readonly table: number };

export interface LoadedTable {
  readonly family: Family;
  readonly name: string;
  readonly number: number;
  readonly comment?: string;
  readonly chains: Map<string, LoadedChain>;
  readonly sets: Map<string, LoadedSet>;
}

type Of<What extends Command['what']> = Extract<Command, { what: What }>;

/** A ruleset as a text changes it, and the transaction that does the same in the kernel. */
export class Draft {
  readonly tables: Map<string, LoadedTable>;
  readonly anonymous: Map<number, AnonymousSet>;
  readonly #ruleset: NftRuleset;
  readonly #file: string;
  readonly #transaction: Transaction;
  readonly #builder = new ProgramBuilder();
  readonly #owned = new Set<LoadedTable>();
  readonly #touched = new Set<LoadedChain>();
  /** Line of each operation, for the kernel's errors. */
  readonly #lines: number[] = [];
  /** Sets that this text put elements into. */
  readonly #filled = new Set<number>();
  readonly #changed = new Set<LoadedSet>();
  #line = 0;

  constructor(ruleset: NftRuleset, file: string) {
    this.#ruleset = ruleset;
    this.#file = file;
    this.#transaction = new Transaction(ruleset.kernel);
    this.tables = new Map(ruleset.tables);
    this.anonymous = new Map(ruleset.anonymous);
  }

  /** Chains whose rules changed and that are still there. */
  get touched(): LoadedChain[] {
    const chains = [...this.tables.values()].flatMap((table) => [...table.chains.values()]);
    return chains.filter((chain) => this.#touched.has(chain));
  }

  take(command: Command): void {
    this.#line = command.line;
    switch (command.what) {
      case 'ruleset':
        for (const table of this.tables.values()) {
          if (command.family === undefined || table.family === command.family) this.#dropTable(table);
        }
        break;
      case 'table':
        this.#table(command);
        break;
      case 'chain':
        this.#chain(command);
        break;
      case 'set':
      case 'map':
        this.#set(command);
        break;
      case 'element':
        this.#elements(command);
        break;
      case 'rule':
        this.#rule(command);
    }
    while (this.#lines.length < this.#transaction.operations) this.#lines.push(command.line);
  }

  /** @throws InputError if the kernel refuses the transaction; nothing has changed then. */
  commit(nowMs: number): void {
    try {
      this.#transaction.prepare(nowMs);
    } catch (error) {
      if (!(error instanceof NfTablesError)) throw error;
      this.#line = this.#lines[error.operation] ?? 0;
      throw this.#fault(`the kernel refuses it: ${error.message}`, 'nothing of the text is in force');
    }
    this.#transaction.commit();
  }

  #table(command: Of<'table'>): void {
    const { op, family, name } = { ...command, name: command.table };
    const known = this.tables.get(`${family} ${name}`);
    if (op === 'add' || op === 'create') {
      const number = this.#transaction.addTable(family, name, op === 'create' ? EXCLUSIVE : 0);
      if (known !== undefined) return;
      const comment =
        'comment' in command && command.comment !== undefined ? { comment: command.comment } : {};
      const table = { family, name, number, ...comment, chains: new Map(), sets: new Map() };
      this.tables.set(`${family} ${name}`, table);
      this.#owned.add(table);
    } else if (known === undefined) {
      if (op !== 'destroy') throw this.#missing(`table ${family} ${name}`);
    } else if (op === 'flush') {
      for (const chain of this.#own(known).chains.values()) this.#flush(known, chain);
    } else this.#dropTable(known);
  }

  #dropTable(table: LoadedTable): void {
    this.#transaction.deleteTable(table.number);
    this.tables.delete(`${table.family} ${table.name}`);
  }

  #chain(command: Of<'chain'>): void {
    const table = this.#tableOf(command);
    if (command.op === 'flush') {
      this.#flush(table, this.#chainOf(table, command.chain));
    } else if (!('target' in command)) {
      const { name, base, comment } = command.chain;
      const known = table.chains.get(name);
      const id = known?.id ?? this.#ruleset.kernel.reserveChain();
      this.#transaction.addChain(table.number, id, base, command.op === 'create' ? EXCLUSIVE : 0);
      if (known !== undefined) return;
      const chain = { id, name, ...(base && { base }), ...(comment !== undefined && { comment }), rules: [] };
      table.chains.set(name, chain);
    } else {
      const name = this.#nameOf(command.target, 'chain');
      const chain = table.chains.get(name);
      if (chain === undefined && command.op === 'destroy') return;
      this.#transaction.deleteChain(this.#chainOf(table, name).id, IF_EXISTS);
      table.chains.delete(name);
    }
  }

  #flush(table: LoadedTable, chain: LoadedChain): void {
    this.#transaction.flushChain(chain.id);
    this.#change(table, chain, []);
  }

  #set(command: Of<'set' | 'map'>): void {
    const table = this.#tableOf(command);
    if (command.op === 'flush') {
      const set = this.#setOf(table, command.set);
      this.#transaction.flushSet(set.id);
      table.sets.set(command.set, { ...set, comments: new Map() });
    } else if (!('target' in command)) {
      const known = table.sets.get(command.set.name);
      const id = known?.id ?? this.#ruleset.kernel.reserveSet();
      const spec = sized(command.set);
      const flags = command.op === 'create' ? EXCLUSIVE : 0;
      this.#transaction.addSet(table.number, id, namedSetDescription(spec), flags);
      if (known === undefined) table.sets.set(spec.name, { id, spec, comments: new Map() });
    } else {
      const name = this.#nameOf(command.target, command.what);
      if (!table.sets.has(name) && command.op === 'destroy') return;
      this.#transaction.deleteSet(this.#setOf(table, name).id, IF_EXISTS);
      table.sets.delete(name);
    }
  }

  #elements(command: Of<'element'>): void {
    const table = this.#tableOf(command);
    const set = this.#changing(table, this.#setOf(table, command.set));
    const adds = command.op === 'add' || command.op === 'create';
    const isEmpty =
      adds && !this.#filled.has(set.id) && (this.#ruleset.kernel.sets[set.id]?.count ?? 0) === 0;
    const elements = kernelElements(set.spec, command.elements, this.#context(table), isEmpty);
    const flags = command.op === 'create' ? EXCLUSIVE : command.op === 'destroy' ? IF_EXISTS : 0;
    elements.forEach((element, i) => {
      const key = element.key.join(' ');
      const comment = element.comment;
      this.#element(set.id, element, adds, flags | (i > 0 ? CONTINUED : 0));
      if (!adds) set.comments.delete(key);
      else if (comment !== undefined) set.comments.set(key, comment);
    });
    if (adds && elements.length > 0) this.#filled.add(set.id);
  }

  #element(set: number, element: KernelElement, adds: boolean, flags: number): void {
    const { key, keyEnd, data, timeoutMs, expiresMs, intervalEnd } = element;
    const options = {
      flags: flags | (intervalEnd ? INTERVAL_END : 0),
      ...(keyEnd && { keyEnd }),
      ...(timeoutMs !== undefined && { timeoutMs }),
      ...(expiresMs !== undefined && { expiresMs }),
    };
    if (adds) this.#transaction.addElement(set, key, data, options);
    else this.#transaction.deleteElement(set, key, options);
  }

  #rule(command: Of<'rule'>): void {
    const table = this.#tableOf(command);
    const chain = this.#chainOf(table, command.chain);
    if (!('rule' in command)) {
      const rules = chain.rules.filter(({ handle }) => handle !== command.handle);
      if (rules.length === chain.rules.length) {
        if (command.op === 'destroy') return;
        throw this.#missing(`rule with handle ${command.handle} in chain ${chain.name}`);
      }
      this.#transaction.deleteRule(chain.id, command.handle);
      this.#change(table, chain, rules);
      return;
    }
    if (command.op === 'replace' || command.place !== undefined) {
      throw this.#fault(
        'a rule put at the place of another is not modelled',
        'add rules at the end, insert them at the beginning, or flush the chain and write it anew',
      );
    }
    const { comment: _, ...source } = command.rule;
    linearize({ ...source, handle: 0 }, this.#context(table), this.#builder.reset());
    const rule = { source: command.rule, handle: 0 };
    if (command.op === 'insert') {
      this.#transaction.insertRules(chain.id, this.#builder);
      this.#change(table, chain, [rule, ...chain.rules]);
    } else {
      this.#transaction.addRules(chain.id, this.#builder);
      if (this.#touched.has(chain)) chain.rules.push(rule);
      else this.#change(table, chain, [...chain.rules, rule]);
    }
  }

  #change(table: LoadedTable, chain: LoadedChain, rules: LoadedRule[]): void {
    const changed = { ...chain, rules };
    table.chains.set(chain.name, changed);
    this.#touched.delete(chain);
    this.#touched.add(changed);
  }

  /** The set with comments that this text may change. */
  #changing(table: LoadedTable, set: LoadedSet): LoadedSet {
    if (this.#changed.has(set)) return set;
    const changed = { ...set, comments: new Map(set.comments) };
    this.#changed.add(changed);
    table.sets.set(set.spec.name, changed);
    return changed;
  }

  #context(table: LoadedTable): LinearizeContext {
    return {
      family: table.family,
      place: { file: this.#file, line: this.#line },
      chain: (name) => table.chains.get(name)?.id,
      set: (name) => namedSet(table.sets.get(name)),
      anonymousSet: (set) => this.#anonymous(table, set),
      counter: (packets, bytes) => this.#ruleset.kernel.newCounter(packets, bytes),
      interfaceIndex: (name) => this.#ruleset.link(name).index,
    };
  }

  #anonymous(table: LoadedTable, set: KernelSet): number {
    const { types, data, description, elements } = set;
    const id = this.#ruleset.kernel.reserveSet();
    this.#transaction.addSet(table.number, id, description);
    elements.forEach((element, i) => this.#element(id, element, true, i > 0 ? CONTINUED : 0));
    this.anonymous.set(id, { types, ...(data && { data }), table: table.number });
    return id;
  }

  /** The table of a command, as a copy of what is in force. */
  #tableOf({ family, table }: Exclude<Command, Of<'ruleset'>>): LoadedTable {
    const known = this.tables.get(`${family} ${table}`);
    if (known === undefined) throw this.#missing(`table ${family} ${table}`);
    return this.#own(known);
  }

  #own(table: LoadedTable): LoadedTable {
    if (this.#owned.has(table)) return table;
    const copy = { ...table, chains: new Map(table.chains), sets: new Map(table.sets) };
    this.tables.set(`${table.family} ${table.name}`, copy);
    this.#owned.add(copy);
    return copy;
  }

  #chainOf(table: LoadedTable, name: string): LoadedChain {
    const chain = table.chains.get(name);
    if (chain === undefined) throw this.#missing(`chain ${name} in table ${table.family} ${table.name}`);
    return chain;
  }

  #setOf(table: LoadedTable, name: string): LoadedSet {
    const set = table.sets.get(name);
    if (set === undefined) throw this.#missing(`set or map ${name} in table ${table.family} ${table.name}`);
    return set;
  }

  #nameOf(target: Named, what: string): string {
    if (target.name !== undefined) return target.name;
    throw this.#fault(`a ${what} by its handle ${target.handle}: handles are not modelled`, 'name it');
  }

  #missing(what: string): InputError {
    return this.#fault(`no ${what}: No such file or directory`, 'make it first, or correct the name');
  }

  #fault(problem: string, hint: string): InputError {
    const line = this.#line;
    return new InputError({ file: this.#file, document: 0, line, subject: '', field: '', problem, hint });
  }
}

function namedSet(set: LoadedSet | undefined): NamedSet | undefined {
  if (set === undefined) return undefined;
  const { types, data, flags } = set.spec;
  return { id: set.id, types, ...(data && { data }), interval: flags.includes('interval') };
}

function sized(spec: SetSpec): SetSpec {
  return spec.flags.includes('dynamic') && spec.size === undefined ? { ...spec, size: DYNAMIC_SIZE } : spec;
}
