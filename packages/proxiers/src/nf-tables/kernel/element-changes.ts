import type { Fail } from './nf-error.ts';
import { INSERT_CLASH, INSERT_EXISTS, type ElementWords } from './set-backend.ts';
import type { Pipapo } from './sets/pipapo.ts';
import type { NfTables } from './tables.ts';
import type { TransactionCounts } from './transaction-counts.ts';
import * as op from './transaction.ts';
import { useChain } from './uses.ts';

/**
 * Elements that a transaction adds and deletes.
 * Source: net/netfilter/nf_tables_api.c (nft_add_set_elem, nft_del_setelem), insert functions of nft_set_*.c.
 */
export class ElementChanges {
  readonly #tables: NfTables;
  readonly #batch: op.Transaction;
  readonly #counts: TransactionCounts;
  readonly #fail: Fail;
  /** Pairs of set and element. */
  readonly #added: number[] = [];
  readonly #gone: number[] = [];
  /** Sets that work on a copy until the commit. */
  readonly #copied = new Set<number>();
  readonly #element: ElementWords = {
    words: new Int32Array(0),
    at: 0,
    expiresMs: Infinity,
    timeoutMs: 0,
    intervalEnd: false,
    pending: true,
  };

  constructor(tables: NfTables, batch: op.Transaction, counts: TransactionCounts, fail: Fail) {
    this.#tables = tables;
    this.#batch = batch;
    this.#counts = counts;
    this.#fail = fail;
  }

  commit(): void {
    const { sets } = this.#tables;
    for (let i = 0; i < this.#added.length; i += 2) {
      sets[this.#added[i]!]!.setPending(this.#added[i + 1]!, false);
    }
    for (let i = 0; i < this.#gone.length; i += 2) sets[this.#gone[i]!]!.remove(this.#gone[i + 1]!);
    for (const id of this.#copied) (sets[id] as Pipapo).commit();
  }

  abort(): void {
    const { sets } = this.#tables;
    for (let i = 0; i < this.#gone.length; i += 2)
      sets[this.#gone[i]!]!.setLeaving(this.#gone[i + 1]!, false);
    for (let i = this.#added.length - 2; i >= 0; i -= 2) sets[this.#added[i]!]!.remove(this.#added[i + 1]!);
    for (const id of this.#copied) (sets[id] as Pipapo).abort();
  }

  /** Delete all elements of a set. */
  flush(id: number): void {
    const set = this.#tables.sets[id]!;
    this.#copies(id);
    const elements: number[] = [];
    set.forEach((element) => {
      if (!set.isLeaving(element)) elements.push(element);
    });
    for (const element of elements) this.#drop(id, element);
    this.#counts.elementMessages++;
    this.#counts.deletedElements += elements.length;
  }

  /** Add or delete the element whose words are in the queue at `at`. The verdict of a new element, otherwise -1. */
  change(add: boolean, id: number, extra: number, flags: number, at: number, nowMs: number): number {
    const set = this.#tables.sets[id]!;
    const { queue } = this.#batch;
    const element = this.#element;
    const { description } = set;
    const ranges = set.backend === 'pipapo';
    this.#copies(id);
    element.words = queue;
    element.at = at + 1;
    element.intervalEnd = (flags & op.INTERVAL_END) !== 0;
    if (ranges !== ((queue[at]! & op.WITH_END) !== 0)) {
      this.#fail('EINVAL', 'a range over several fields has an end, other elements have none');
    }
    if (!add) {
      this.#delete(id, flags, nowMs);
      return -1;
    }
    const length = queue[at]! & (op.WITH_END - 1);
    const wanted = set.keyWords * (ranges ? 2 : 1) + (element.intervalEnd ? 0 : description.dataWords);
    if (length !== wanted) this.#fail('EINVAL', `an element of ${wanted} words, not ${length}`);
    element.timeoutMs = 0;
    element.expiresMs = Infinity;
    if (description.timeout) {
      const options = extra > 0 ? this.#batch.elementOptions[extra - 1]! : undefined;
      element.timeoutMs = options?.timeoutMs ?? 0;
      const timeoutMs = element.timeoutMs > 0 ? element.timeoutMs : description.timeoutMs;
      if (timeoutMs > 0) element.expiresMs = nowMs + (options?.expiresMs ?? timeoutMs);
    }
    const added = this.#add(id, flags, nowMs);
    if (!added || !description.verdicts || element.intervalEnd) return -1;
    return queue[at + 1 + wanted - 1]!;
  }

  /** The set works on a copy (pipapo), which the commit puts in place. */
  #copies(id: number): void {
    if (this.#tables.sets[id]!.backend === 'pipapo') this.#copied.add(id);
  }

  #add(id: number, flags: number, nowMs: number): boolean {
    const set = this.#tables.sets[id]!;
    const element = this.#element;
    const limit = this.#tables.setLimit[id]!;
    // The kernel tells of an equal element before it tells of the limit.
    const full = set.count >= limit;
    const found = full ? set.find(element, nowMs) : -1;
    if (full && found < 0) this.#fail('ENFILE', `the set holds all of its ${limit} elements`);
    const number = full ? INSERT_EXISTS - found : set.insert(element, nowMs);
    this.#counts.elementSteps += set.steps;
    if (number === INSERT_CLASH) this.#fail('ENOTEMPTY', 'the range overlaps another one');
    if (number >= 0) {
      this.#counts.newElements++;
      this.#added.push(id, number);
      return true;
    }
    const data = element.at + set.keyWords * (set.backend === 'pipapo' ? 2 : 1);
    for (let i = 0; !element.intervalEnd && i < set.dataWords; i++) {
      if (set.data(INSERT_EXISTS - number, i) !== element.words[data + i]) {
        this.#fail('EEXIST', 'an element of this key with other data');
      }
    }
    if ((flags & op.EXCLUSIVE) !== 0) this.#fail('EEXIST', 'element');
    return false;
  }

  #delete(id: number, flags: number, nowMs: number): void {
    const set = this.#tables.sets[id]!;
    const found = set.find(this.#element, nowMs);
    this.#counts.elementSteps += set.steps;
    if (found < 0) {
      if ((flags & op.IF_EXISTS) !== 0) return;
      this.#fail('ENOENT', 'element');
    }
    this.#counts.deletedElements++;
    this.#drop(id, found);
  }

  #drop(id: number, element: number): void {
    const set = this.#tables.sets[id]!;
    set.setLeaving(element, true);
    this.#gone.push(id, element);
    if (set.description.verdicts && !set.isIntervalEnd(element)) {
      useChain(this.#tables, set.data(element, 0), -1);
    }
  }
}
