/** Running sums over a row of counters that change: both operations take log2(length) steps (a Fenwick tree). */
export class PrefixSums {
  readonly #tree: Float64Array;

  constructor(length: number) {
    this.#tree = new Float64Array(length + 1);
  }

  add(index: number, amount: number): void {
    for (let at = index + 1; at < this.#tree.length; at += at & -at) this.#tree[at]! += amount;
  }

  /** The sum of the first `count` counters. */
  of(count: number): number {
    let sum = 0;
    for (let at = count; at > 0; at -= at & -at) sum += this.#tree[at]!;
    return sum;
  }
}
