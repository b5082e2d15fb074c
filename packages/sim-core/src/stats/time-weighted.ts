const VALUE = 0;
const SINCE_NS = 1;
const START_NS = 2;
const INTEGRAL = 3;
const MAX = 4;
const MIN = 5;

/**
 * A gauge over virtual time: a value that holds from one change to the next, so that its mean weighs every value
 * by the nanoseconds it lasted. Times are whole nanoseconds and must not run backwards. The integral is exact
 * while it stays below 2^53 and the values are integers.
 */
export class TimeWeighted {
  // One typed array: a double in a class field is boxed anew at each update.
  readonly #state = new Float64Array(6);
  readonly #levels: Float64Array;
  readonly #atOrAboveNs: Float64Array;

  /** `levels` are the thresholds that `atOrAboveNs` can be asked about. */
  constructor(
    options: { readonly startNs?: number; readonly value?: number; readonly levels?: readonly number[] } = {},
  ) {
    this.#levels = Float64Array.from(options.levels ?? []);
    this.#atOrAboveNs = new Float64Array(this.#levels.length);
    this.#state[VALUE] = options.value ?? 0;
    this.#state[SINCE_NS] = options.startNs ?? 0;
    this.reset(this.#state[SINCE_NS]);
  }

  /** The value now. */
  get value(): number {
    return this.#state[VALUE]!;
  }

  /** The greatest value since the start or the last reset. */
  get max(): number {
    return this.#state[MAX]!;
  }

  /** The least value since the start or the last reset. */
  get min(): number {
    return this.#state[MIN]!;
  }

  /**
   * From `nowNs` on the value is `value`. A value that lasts no time counts for `max` and `min` alone.
   * @throws RangeError for a time before the last change.
   */
  set(nowNs: number, value: number): void {
    this.#advance(nowNs);
    const state = this.#state;
    state[VALUE] = value;
    if (value > state[MAX]!) state[MAX] = value;
    if (value < state[MIN]!) state[MIN] = value;
  }

  /** From `nowNs` on the value is greater by `change`. */
  add(nowNs: number, change: number): void {
    this.set(nowNs, this.#state[VALUE]! + change);
  }

  /** The integral of the value over time since the start or the last reset: value × ns. */
  integralNs(nowNs: number): number {
    this.#advance(nowNs);
    return this.#state[INTEGRAL]!;
  }

  /** The mean over time since the start or the last reset; the present value if no time has passed. */
  mean(nowNs: number): number {
    const lastedNs = nowNs - this.#state[START_NS]!;
    const integralNs = this.integralNs(nowNs);
    return lastedNs === 0 ? this.value : integralNs / lastedNs;
  }

  /**
   * How long the value was at `level` or above since the start or the last reset, in ns.
   * @throws RangeError for a level that was not declared.
   */
  atOrAboveNs(level: number, nowNs: number): number {
    const index = this.#levels.indexOf(level);
    if (index === -1) throw new RangeError(`the gauge was not asked to watch level ${level}`);
    this.#advance(nowNs);
    return this.#atOrAboveNs[index]!;
  }

  /** Forget all that was before `nowNs` but the present value: the end of a warm-up. */
  reset(nowNs: number): void {
    this.#advance(nowNs);
    const state = this.#state;
    state[START_NS] = nowNs;
    state[INTEGRAL] = 0;
    state[MAX] = state[VALUE]!;
    state[MIN] = state[VALUE]!;
    this.#atOrAboveNs.fill(0);
  }

  #advance(nowNs: number): void {
    const state = this.#state;
    const lastedNs = nowNs - state[SINCE_NS]!;
    if (!(lastedNs >= 0)) throw new RangeError(`the gauge stands at ${state[SINCE_NS]!} ns, not ${nowNs} ns`);
    const value = state[VALUE]!;
    state[INTEGRAL]! += value * lastedNs;
    state[SINCE_NS] = nowNs;
    for (let i = 0; i < this.#levels.length; i++) {
      if (value >= this.#levels[i]!) this.#atOrAboveNs[i]! += lastedNs;
    }
  }
}
