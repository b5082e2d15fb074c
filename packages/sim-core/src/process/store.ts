import type { Environment } from './environment.ts';
import { Event } from './event.ts';
import { Line } from './line.ts';

/** An item to be put into a store, and the event of its being in. */
export class StorePut<T> extends Event {
  readonly store: Store<T>;
  readonly item: T;

  /** Use `store.put`. */
  constructor(store: Store<T>, item: T) {
    super(store.env);
    this.store = store;
    this.item = item;
  }

  /** Stop waiting; false when the item is in, or the put withdrawn, already. */
  withdraw(): boolean {
    return this.store.withdraw(this);
  }
}

/** The wish for an item, and the event of having it. */
export class StoreGet<T> extends Event<T> {
  readonly store: Store<T>;
  readonly wanted: ((item: T) => boolean) | undefined;

  /** Use `store.get`. */
  constructor(store: Store<T>, wanted: ((item: T) => boolean) | undefined) {
    super(store.env);
    this.store = store;
    this.wanted = wanted;
  }

  /** Stop waiting; false when the item was handed over (it is the `value`), or the get withdrawn, before. */
  withdraw(): boolean {
    return this.store.withdraw(this);
  }
}

/**
 * Items in the order of their arrival: a queue, a mailbox, a pool. Puts wait for room; gets take the first item,
 * or the first one they want. Both lines are first come first, but a get that wants none of the items lets later
 * ones pass.
 */
export class Store<T> {
  readonly env: Environment;
  readonly name: string;
  readonly capacity: number;
  readonly #items = new Line<T>();
  readonly #puts = new Line<StorePut<T>>();
  /** None of them wants any of the items. */
  readonly #gets = new Line<StoreGet<T>>();

  /** @throws RangeError unless the capacity, without limit by default, is at least one. */
  constructor(env: Environment, options: { readonly capacity?: number; readonly name?: string } = {}) {
    this.env = env;
    this.name = options.name ?? 'store';
    this.capacity = options.capacity ?? Infinity;
    if (!(this.capacity >= 1))
      throw new RangeError(`${this.name} cannot have room for ${this.capacity} items`);
  }

  /** The items, oldest first. */
  get items(): readonly T[] {
    return [...this.#items];
  }

  get size(): number {
    return this.#items.length;
  }

  /** Puts and gets that wait. */
  get waiting(): number {
    return this.#puts.length + this.#gets.length;
  }

  put(item: T): StorePut<T> {
    const put = new StorePut(this, item);
    this.#puts.push(put);
    this.#admit();
    return put;
  }

  /** The first item; the first that `wanted` accepts, if given. */
  get(wanted?: (item: T) => boolean): StoreGet<T> {
    const get = new StoreGet(this, wanted);
    for (let index = 0; index < this.#items.length; index++) {
      if (wanted !== undefined && !wanted(this.#items.at(index))) continue;
      get.succeed(this.#items.take(index));
      this.#admit();
      return get;
    }
    this.#gets.push(get);
    return get;
  }

  /** Take a put or a get out of its line; false when it is in none. */
  withdraw(claim: StorePut<T> | StoreGet<T>): boolean {
    return claim instanceof StorePut ? this.#puts.remove(claim) : this.#gets.remove(claim);
  }

  #admit(): void {
    while (this.#puts.length > 0 && this.#items.length < this.capacity) {
      const put = this.#puts.shift();
      put.succeed();
      this.#handOver(put.item);
    }
  }

  /** To the first get that wants the item, or into the store. */
  #handOver(item: T): void {
    for (let index = 0; index < this.#gets.length; index++) {
      const { wanted } = this.#gets.at(index);
      if (wanted !== undefined && !wanted(item)) continue;
      this.#gets.take(index).succeed(item);
      return;
    }
    this.#items.push(item);
  }
}
