import { log2 } from '../random/portable.ts';

const SUB_BITS = 7;
const SUB = 1 << SUB_BITS;

/**
 * Log-linear histogram of non-negative integers (HDR type): exact below 256, then 128 buckets an octave, so a
 * quantile is at most 0.8 % above the true value and never above the maximum. Counts, sum, minimum and maximum
 * are exact.
 */
export class Histogram {
  #counts = new Float64Array(SUB * 16);
  count = 0;
  sum = 0;
  min = Infinity;
  max = 0;

  /** Record `value` (non-negative, rounded to an integer) `times` times. */
  record(value: number, times = 1): void {
    const whole = Math.round(value);
    const index = indexOf(whole);
    if (index >= this.#counts.length) this.#grow(index);
    this.#counts[index]! += times;
    this.count += times;
    this.sum += whole * times;
    if (whole < this.min) this.min = whole;
    if (whole > this.max) this.max = whole;
  }

  mean(): number {
    return this.count === 0 ? 0 : this.sum / this.count;
  }

  /** The smallest recorded bucket that holds the share `q` of values (nearest rank); 0 when empty. */
  quantile(q: number): number {
    if (this.count === 0) return 0;
    const rank = Math.max(1, Math.ceil(q * this.count));
    let seen = 0;
    for (let index = 0; index < this.#counts.length; index++) {
      seen += this.#counts[index]!;
      if (seen >= rank) return Math.min(upperOf(index), this.max);
    }
    return this.max;
  }

  /** Non-empty buckets in order, as [highest value of the bucket, count]. */
  *buckets(): Generator<readonly [number, number]> {
    for (let index = 0; index < this.#counts.length; index++) {
      const count = this.#counts[index]!;
      if (count > 0) yield [Math.min(upperOf(index), this.max), count];
    }
  }

  merge(other: Histogram): void {
    for (let index = 0; index < other.#counts.length; index++) {
      const count = other.#counts[index]!;
      if (count === 0) continue;
      if (index >= this.#counts.length) this.#grow(index);
      this.#counts[index]! += count;
    }
    this.count += other.count;
    this.sum += other.sum;
    if (other.min < this.min) this.min = other.min;
    if (other.max > this.max) this.max = other.max;
  }

  #grow(index: number): void {
    const wider = new Float64Array(Math.max(this.#counts.length * 2, index + 1));
    wider.set(this.#counts);
    this.#counts = wider;
  }
}

function indexOf(value: number): number {
  if (value < 2 * SUB) return value;
  const shift = (value < 4294967296 ? 31 - Math.clz32(value) : wideExponent(value)) - SUB_BITS;
  return shift * SUB + Math.floor(value / powerOfTwo(shift));
}

function upperOf(index: number): number {
  if (index < 2 * SUB) return index;
  const shift = Math.floor(index / SUB) - 1;
  return (index - shift * SUB + 1) * powerOfTwo(shift) - 1;
}

function wideExponent(value: number): number {
  const guess = Math.floor(log2(value));
  return powerOfTwo(guess) > value ? guess - 1 : powerOfTwo(guess + 1) <= value ? guess + 1 : guess;
}

function powerOfTwo(exponent: number): number {
  return exponent < 31 ? 1 << exponent : powerOfTwo(exponent - 30) * 1073741824;
}
