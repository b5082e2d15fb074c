const COUNT = 0;
const MEAN = 1;
const SQUARES = 2;
const MIN = 3;
const MAX = 4;

/**
 * Count, mean, variance and extremes of observations, in one pass and without keeping them (Welford 1962,
 * Technometrics 4(3); merging after Chan, Golub & LeVeque 1979). Nothing observed: mean and variance are 0.
 */
export class Tally {
  readonly #state = Float64Array.of(0, 0, 0, Infinity, -Infinity);

  record(value: number): void {
    const state = this.#state;
    const count = state[COUNT]! + 1;
    const delta = value - state[MEAN]!;
    state[COUNT] = count;
    state[MEAN]! += delta / count;
    state[SQUARES]! += delta * (value - state[MEAN]!);
    if (value < state[MIN]!) state[MIN] = value;
    if (value > state[MAX]!) state[MAX] = value;
  }

  get count(): number {
    return this.#state[COUNT]!;
  }

  get mean(): number {
    return this.#state[MEAN]!;
  }

  /** The sample variance, over count − 1; 0 below two observations. */
  get variance(): number {
    return this.count < 2 ? 0 : this.#state[SQUARES]! / (this.count - 1);
  }

  /** The sample standard deviation: the root of the variance. */
  get deviation(): number {
    return Math.sqrt(this.variance);
  }

  /** Infinity when nothing was observed. */
  get min(): number {
    return this.#state[MIN]!;
  }

  /** -Infinity when nothing was observed. */
  get max(): number {
    return this.#state[MAX]!;
  }

  /** Take in what another tally observed. */
  merge(other: Tally): void {
    if (other.count === 0) return;
    const state = this.#state;
    const count = this.count + other.count;
    const delta = other.mean - this.mean;
    state[SQUARES]! += other.#state[SQUARES]! + delta * delta * ((this.count * other.count) / count);
    state[MEAN]! += (delta * other.count) / count;
    state[COUNT] = count;
    state[MIN] = Math.min(this.min, other.min);
    state[MAX] = Math.max(this.max, other.max);
  }

  /** Forget everything: the end of a warm-up. */
  reset(): void {
    this.#state.set([0, 0, 0, Infinity, -Infinity]);
  }
}
