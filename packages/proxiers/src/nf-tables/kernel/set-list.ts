import { longer } from '@vipsim/sim-core';

/** How many numbers of anonymous sets one pass over the list sees: the bits of a page. */
const NUMBERS_PER_PASS = 32768;

/**
 * The sets of one table, in the order of their making. The kernel finds a set by walking this list and comparing
 * names, so what a lookup costs is the place of the set in it, and the whole list where no set has the name.
 * Source: net/netfilter/nf_tables_api.c (nft_set_lookup, nf_tables_set_alloc_name).
 *
 * Places are counted by a Fenwick tree over slots; a set keeps its slot, and slots are given out anew when half of
 * them are empty.
 */
export class SetList {
  /** Set of each slot, -1 if it left. */
  #sets = new Int32Array(16).fill(-1);
  /** Slot of each set, by id. */
  #slots = new Int32Array(16);
  #tree = new Int32Array(17);
  #used = 0;
  length = 0;
  readonly #names = [new FreeNumbers(), new FreeNumbers()];

  append(set: number): void {
    if (this.#used === this.#sets.length) this.#renumber();
    while (set >= this.#slots.length) this.#slots = longer(this.#slots, 2 * this.#slots.length);
    this.#sets[this.#used] = set;
    this.#slots[set] = this.#used++;
    this.#add(this.#slots[set]!, 1);
    this.length++;
  }

  remove(set: number): void {
    const slot = this.#slots[set]!;
    this.#sets[slot] = -1;
    this.#add(slot, -1);
    this.length--;
  }

  /** How many sets a walk passes until it is at this one, which it counts, too. */
  place(set: number): number {
    let sum = 0;
    for (let i = this.#slots[set]! + 1; i > 0; i &= i - 1) sum += this.#tree[i]!;
    return sum;
  }

  /** In order. */
  *[Symbol.iterator](): Generator<number> {
    for (let slot = 0; slot < this.#used; slot++) if (this.#sets[slot]! >= 0) yield this.#sets[slot]!;
  }

  /** The lowest number that no anonymous set (or map) of the table has: __set3, __map0. */
  takeNumber(map: boolean): number {
    return this.#names[map ? 1 : 0]!.take();
  }

  /** The set of this number came back: its deletion failed. */
  keepNumber(map: boolean, number: number): void {
    this.#names[map ? 1 : 0]!.keep(number);
  }

  giveNumber(map: boolean, number: number): void {
    this.#names[map ? 1 : 0]!.give(number);
  }

  /** Sets passed while an anonymous set gets its name: once per page of numbers, and once to see that it is new. */
  namingSteps(number: number): number {
    return this.length * (Math.floor(number / NUMBERS_PER_PASS) + 2);
  }

  #add(slot: number, change: number): void {
    for (let i = slot + 1; i < this.#tree.length; i += i & -i) this.#tree[i]! += change;
  }

  #renumber(): void {
    const capacity = 2 * this.length > this.#sets.length ? 2 * this.#sets.length : this.#sets.length;
    const sets = new Int32Array(capacity).fill(-1);
    let used = 0;
    for (const set of this) {
      sets[used] = set;
      this.#slots[set] = used++;
    }
    this.#sets = sets;
    this.#used = used;
    this.#tree = new Int32Array(capacity + 1);
    for (let i = 1; i <= capacity; i++) {
      this.#tree[i]! += i <= used ? 1 : 0;
      const parent = i + (i & -i);
      if (parent <= capacity) this.#tree[parent]! += this.#tree[i]!;
    }
  }
}

/** Numbers from 0, the lowest free one first. */
class FreeNumbers {
  #taken = new Uint8Array(16);
  #lowest = 0;

  take(): number {
    while (this.#lowest < this.#taken.length && this.#taken[this.#lowest] === 1) this.#lowest++;
    if (this.#lowest === this.#taken.length) this.#taken = longer(this.#taken, 2 * this.#taken.length);
    this.#taken[this.#lowest] = 1;
    return this.#lowest;
  }

  keep(number: number): void {
    this.#taken[number] = 1;
  }

  give(number: number): void {
    this.#taken[number] = 0;
    if (number < this.#lowest) this.#lowest = number;
  }
}
