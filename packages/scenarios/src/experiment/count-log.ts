import { longer } from '@vipsim/sim-core';

/** Count vectors one after another, of which only what is not zero is kept: most packets count a few operations. */
export class CountLog {
  /** Vectors kept. */
  length = 0;
  readonly #names: readonly string[];
  #end = 0;
  #first: Float64Array = new Float64Array(1024);
  #operation: Uint16Array = new Uint16Array(4096);
  #count: Float64Array = new Float64Array(4096);

  constructor(operations: readonly string[]) {
    this.#names = operations;
  }

  add(counts: Float64Array): void {
    if (this.length + 1 === this.#first.length) this.#first = longer(this.#first, 2 * this.#first.length);
    for (let operation = 0; operation < counts.length; operation++) {
      if (counts[operation] === 0) continue;
      if (this.#end === this.#count.length) {
        this.#operation = longer(this.#operation, 2 * this.#end);
        this.#count = longer(this.#count, 2 * this.#end);
      }
      this.#operation[this.#end] = operation;
      this.#count[this.#end++] = counts[operation]!;
    }
    this.#first[++this.length] = this.#end;
  }

  /** `conntrack.lookup 1, iptables.rule 37`: the vector of a row, in the order of the mode's operations. */
  text(row: number): string {
    const parts: string[] = [];
    for (let at = this.#first[row]!; at < this.#first[row + 1]!; at++)
      parts.push(`${this.#names[this.#operation[at]!]!} ${this.#count[at]!}`);
    return parts.join(', ');
  }
}
