import { NEXT, NOW } from './chains.ts';
import type { Fail } from './nf-error.ts';
import type { SetDescription } from './set-backend.ts';
import type { SetList } from './set-list.ts';
import type { NfTables } from './tables.ts';
import type { TransactionCounts } from './transaction-counts.ts';
import * as op from './transaction.ts';
import { forgetJumps } from './uses.ts';

/**
 * Sets that a transaction makes and deletes.
 * Source: net/netfilter/nf_tables_api.c (nf_tables_newset, nf_tables_delset, nf_tables_set_alloc_name).
 */
export class SetChanges {
  readonly #tables: NfTables;
  readonly #counts: TransactionCounts;
  readonly #fail: Fail;
  readonly #made: number[] = [];
  readonly #gone: number[] = [];

  constructor(tables: NfTables, counts: TransactionCounts, fail: Fail) {
    this.#tables = tables;
    this.#counts = counts;
    this.#fail = fail;
  }

  add(table: number, set: number, description: SetDescription, flags: number): void {
    const tables = this.#tables;
    const { sets } = tables.tables[table]!;
    this.#counts.newSets++;
    if ((tables.setState[set]! & NEXT) !== 0) {
      this.#counts.setListSteps += sets.place(set);
      if ((flags & op.EXCLUSIVE) !== 0) this.#fail('EEXIST', 'set');
      if (!isSame(tables.sets[set]!.description, description)) {
        this.#fail('EEXIST', 'a set of this name with other properties');
      }
      return;
    }
    if (tables.setState[set] !== 0) this.#fail('EBUSY', 'the id of a set that this transaction deletes');
    // The search for the name comes to the list's end.
    this.#counts.setListSteps += sets.length;
    if (!tables.makeSet(set, table, description)) this.#fail('EOPNOTSUPP', 'no kind of set fits');
    this.#made.push(set);
    if (description.anonymous) {
      const number = sets.takeNumber(description.dataWords > 0);
      tables.setNumber[set] = number;
      this.#counts.setListSteps += sets.namingSteps(number);
    } else this.#counts.setListSteps += sets.length;
    sets.append(set);
    tables.tables[table]!.handle++;
  }

  delete(set: number, flags: number): void {
    const tables = this.#tables;
    this.#counts.deletedSets++;
    if ((tables.setState[set]! & NEXT) === 0) {
      if ((flags & op.IF_EXISTS) !== 0) return;
      this.#fail('ENOENT', 'set');
    }
    this.#counts.setListSteps += this.#list(set).place(set);
    if (tables.setUses[set]! > 0) this.#fail('EBUSY', 'rules use the set');
    this.dismiss(set);
  }

  /** The set is not in the next generation; neither are its elements, nor their jumps. */
  dismiss(set: number): void {
    this.#counts.elementsWalked += forgetJumps(this.#tables, set);
    this.#tables.setState[set]! &= ~NEXT;
    if (this.#tables.setNumber[set]! >= 0) this.#number(set, false);
    this.#gone.push(set);
  }

  /** Sets passed until one is found by name; one of the batch without a name is not, and is then found by id. */
  steps(set: number): number {
    const list = this.#list(set);
    return this.#tables.sets[set]!.description.anonymous ? list.length : list.place(set);
  }

  commit(): void {
    for (const set of this.#made) this.#tables.setState[set]! |= NOW;
    for (const set of this.#gone) this.#free(set);
  }

  abort(): void {
    const tables = this.#tables;
    for (const set of this.#made) {
      if (tables.setNumber[set]! >= 0 && (tables.setState[set]! & NEXT) !== 0) this.#number(set, false);
      this.#free(set);
    }
    for (const set of this.#gone) {
      if ((tables.setState[set]! & NOW) === 0) continue;
      tables.setState[set]! |= NEXT;
      if (tables.setNumber[set]! >= 0) this.#number(set, true);
    }
  }

  /** The number in an anonymous set's name is taken, or free again. */
  #number(set: number, taken: boolean): void {
    const map = this.#tables.sets[set]!.dataWords > 0;
    const number = this.#tables.setNumber[set]!;
    if (taken) this.#list(set).keepNumber(map, number);
    else this.#list(set).giveNumber(map, number);
  }

  #list(set: number): SetList {
    return this.#tables.tables[this.#tables.setTable[set]!]!.sets;
  }

  #free(set: number): void {
    this.#list(set).remove(set);
    this.#tables.dropSet(set);
  }
}

function isSame(a: SetDescription, b: SetDescription): boolean {
  return (
    a.keyBytes === b.keyBytes &&
    a.dataWords === b.dataWords &&
    a.verdicts === b.verdicts &&
    a.interval === b.interval &&
    a.timeout === b.timeout &&
    a.dynamic === b.dynamic
  );
}
