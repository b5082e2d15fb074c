/** Those that wait, first come first. Taking the first costs no shift of the rest. */
export class Line<T> {
  readonly #items: (T | undefined)[] = [];
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  /** The item with `index` others before it. */
  at(index: number): T {
    return this.#items[this.#head + index]!;
  }

  push(item: T): void {
    this.#items.push(item);
  }

  /** Let an item in with `index` others before it. */
  insert(index: number, item: T): void {
    this.#items.splice(this.#head + index, 0, item);
  }

  /** Take the first item. */
  shift(): T {
    const item = this.#items[this.#head]!;
    this.#items[this.#head++] = undefined;
    if (this.#head >= 32 && this.#head * 2 >= this.#items.length) {
      this.#items.splice(0, this.#head);
      this.#head = 0;
    }
    return item;
  }

  /** Take the item with `index` others before it. */
  take(index: number): T {
    return index === 0 ? this.shift() : this.#items.splice(this.#head + index, 1)[0]!;
  }

  /** Take this very item; false when it is not there. */
  remove(item: T): boolean {
    const index = this.#items.indexOf(item, this.#head);
    if (index === -1) return false;
    this.take(index - this.#head);
    return true;
  }

  *[Symbol.iterator](): Generator<T, void, undefined> {
    for (let index = 0; index < this.length; index++) yield this.at(index);
  }
}
