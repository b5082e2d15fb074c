import { longer } from '@vipsim/sim-core';
import type { BaseChain } from './chains.ts';
import type { ProgramBuilder } from './program.ts';
import type { SetDescription } from './set-backend.ts';
import type { Family } from '../language/statement.ts';
import type { NfTables } from './tables.ts';
import { Preparation } from './preparation.ts';
import type { TransactionCounts } from './transaction-counts.ts';
import type { ValidationMode } from './validation.ts';

/** Kinds of operations in the queue. */
export const ADD_TABLE = 0;
export const DELETE_TABLE = 1;
export const ADD_CHAIN = 2;
export const FLUSH_CHAIN = 3;
export const DELETE_CHAIN = 4;
export const ADD_RULES = 5;
export const INSERT_RULES = 6;
export const DELETE_RULE = 7;
export const ADD_SET = 8;
export const DELETE_SET = 9;
export const FLUSH_SET = 10;
export const ADD_ELEMENT = 11;
export const DELETE_ELEMENT = 12;

// Flags of operations.
/** `create`: an error if it exists (NLM_F_EXCL). */
export const EXCLUSIVE = 1;
/** `destroy`: no error if it does not exist. */
export const IF_EXISTS = 2;
/** The element comes in the same message as the one before it. */
export const CONTINUED = 4;
export const INTERVAL_END = 8;

/** In an element's count of words: the end of its range stands between key and data. */
export const WITH_END = 1 << 16;

/** Words from which on the queue grows by a quarter instead of twofold. */
const LARGE = 1 << 20;

export interface ElementOptions {
  /** One of the flags above, or several. */
  readonly flags?: number;
  /** Of a range over several fields (pipapo): its end, with as many words as the key. */
  readonly keyEnd?: ArrayLike<number>;
  /** Its own timeout; without it, that of the set. */
  readonly timeoutMs?: number;
  /** What is left of it already; without it, all. */
  readonly expiresMs?: number;
}

/**
 * A batch for the kernel. Operations are queued here in order; `prepare` checks them one after the other and counts
 * the kernel's work, without a packet noticing; `commit` then puts them in force, all at once. Between the two
 * nothing else may be prepared. An error undoes everything.
 *
 * Ids of new chains and sets come from NfTables.reserveChain and reserveSet. A chain that was deleted in this
 * transaction and is added again is a new one and needs a new id, as in the kernel. When a chain or set is gone, by
 * commit or because its making failed, its id may be given out again.
 */
export class Transaction {
  /** `kind | flags << 8`, then operands. */
  queue = new Int32Array(256);
  length = 0;
  operations = 0;
  readonly bases = new Map<number, BaseChain>();
  readonly descriptions = new Map<number, SetDescription>();
  readonly elementOptions: ElementOptions[] = [];
  readonly #tables: NfTables;
  readonly #mode: ValidationMode;
  #preparation: Preparation | undefined;

  constructor(tables: NfTables, mode: ValidationMode = 'once') {
    this.#tables = tables;
    this.#mode = mode;
  }

  /** The table of this family and name, made if there is none. Its number is its place in NfTables.tables. */
  addTable(family: Family, name: string, flags = 0): number {
    const table = this.#tables.tableNumber(family, name);
    this.#put(ADD_TABLE | (flags << 8), table);
    return table;
  }

  /** With all that is in it. */
  deleteTable(table: number, flags = 0): void {
    this.#put(DELETE_TABLE | (flags << 8), table);
  }

  addChain(table: number, chain: number, base?: BaseChain, flags = 0): void {
    if (base !== undefined) this.bases.set(this.operations, base);
    this.#put(ADD_CHAIN | (flags << 8), table, chain);
  }

  /** Delete the chain's rules. */
  flushChain(chain: number): void {
    this.#put(FLUSH_CHAIN, chain);
  }

  deleteChain(chain: number, flags = 0): void {
    this.#put(DELETE_CHAIN | (flags << 8), chain);
  }

  /** Append the rules that the builder holds. A rule with handle 0 gets the table's next one. */
  addRules(chain: number, builder: ProgramBuilder): void {
    this.#rules(ADD_RULES, chain, builder);
  }

  /** Put the rules before those of the chain, one by one: the last of them ends up first. */
  insertRules(chain: number, builder: ProgramBuilder): void {
    this.#rules(INSERT_RULES, chain, builder);
  }

  deleteRule(chain: number, handle: number, flags = 0): void {
    this.#put(DELETE_RULE | (flags << 8), chain, handle);
  }

  addSet(table: number, set: number, description: SetDescription, flags = 0): void {
    this.descriptions.set(this.operations, description);
    this.#put(ADD_SET | (flags << 8), table, set);
  }

  deleteSet(set: number, flags = 0): void {
    this.#put(DELETE_SET | (flags << 8), set);
  }

  flushSet(set: number): void {
    this.#put(FLUSH_SET, set);
  }

  /** `key` and `data` are words as they stand in registers; the data of a map of verdicts is a verdictWord. */
  addElement(set: number, key: ArrayLike<number>, data?: ArrayLike<number>, options?: ElementOptions): void {
    this.#element(ADD_ELEMENT, set, key, data, options);
  }

  deleteElement(set: number, key: ArrayLike<number>, options?: ElementOptions): void {
    this.#element(DELETE_ELEMENT, set, key, undefined, options);
  }

  /**
   * Check everything and count the kernel's work. Packets still meet the old ruleset.
   * @throws {NfTablesError} as the kernel would answer; nothing is left behind.
   */
  prepare(nowMs = 0): TransactionCounts {
    const preparation = new Preparation(this.#tables, this, this.#mode);
    const counts = preparation.run(nowMs);
    this.#preparation = preparation;
    return counts;
  }

  /** Put it in force. The transaction is empty afterwards and may be used again. */
  commit(): void {
    if (this.#preparation === undefined) throw new Error('nothing was prepared');
    this.#preparation.commit();
    this.clear();
  }

  /** Drop what was prepared. */
  abort(): void {
    this.#preparation?.abort();
    this.clear();
  }

  clear(): void {
    this.#preparation = undefined;
    this.length = 0;
    this.operations = 0;
    this.bases.clear();
    this.descriptions.clear();
    this.elementOptions.length = 0;
    if (this.queue.length > 1 << 16) this.queue = new Int32Array(256);
  }

  #rules(kind: number, chain: number, builder: ProgramBuilder): void {
    this.#put(kind, chain, builder.length);
    this.#words(builder.words, builder.length);
  }

  #element(
    kind: number,
    set: number,
    key: ArrayLike<number>,
    data: ArrayLike<number> | undefined,
    options: ElementOptions | undefined,
  ): void {
    const flags = options?.flags ?? 0;
    const needed =
      options !== undefined && (options.timeoutMs !== undefined || options.expiresMs !== undefined);
    const extra = needed ? this.elementOptions.push(options) : 0;
    const end = options?.keyEnd;
    const length = key.length + (end?.length ?? 0) + (data?.length ?? 0);
    this.#put(kind | (flags << 8), set, extra);
    this.#reserve(1);
    this.queue[this.length++] = end === undefined ? length : length | WITH_END;
    this.#words(key, key.length);
    if (end !== undefined) this.#words(end, end.length);
    if (data !== undefined) this.#words(data, data.length);
  }

  #put(head: number, a: number, b = 0): void {
    this.operations++;
    this.#reserve(3);
    this.queue[this.length] = head;
    this.queue[this.length + 1] = a;
    this.queue[this.length + 2] = b;
    this.length += 3;
  }

  #words(words: ArrayLike<number>, count: number): void {
    this.#reserve(count);
    for (let i = 0; i < count; i++) this.queue[this.length + i] = words[i]!;
    this.length += count;
  }

  #reserve(words: number): void {
    if (this.length + words > this.queue.length) {
      const more = this.queue.length < LARGE ? this.queue.length : this.queue.length >> 2;
      this.queue = longer(this.queue, Math.max(this.queue.length + more, this.length + words));
    }
  }
}
