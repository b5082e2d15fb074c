import { standardNormalQuantile } from '../random/distributions.ts';
import { binomialAtMost } from './incomplete-beta.ts';
import { DEFAULT_LEVEL, requireLevel, type Interval } from './interval.ts';

/** Up to this many values the ranks come from the binomial distribution itself, beyond from its normal limit. */
export const BINOMIAL_VALUES_MAX = 1_000_000;

export interface QuantileInterval extends Interval {
  readonly method: 'binomial' | 'normal';
}

/**
 * The interval of a quantile of independent values from any distribution, between two order statistics (David &
 * Nagaraja, Order Statistics, 7.1). How many values fall below the quantile is binomial, so each side misses it
 * with at most (1 − level)/2: the coverage is the level or more. The estimate is the value of nearest rank,
 * ⌈q·n⌉. Where so few values bound a side not at all, that side is -Infinity or Infinity. Values of one run are
 * rarely independent: take them from replications or far enough apart.
 *
 * @param sorted finite values in ascending order.
 * @throws RangeError for no values, values out of order, or q or level outside (0, 1).
 */
export function quantileInterval(
  sorted: ArrayLike<number>,
  q: number,
  level = DEFAULT_LEVEL,
): QuantileInterval {
  requireLevel(level);
  if (!(q > 0 && q < 1)) throw new RangeError(`a quantile is between 0 and 1, not ${q}`);
  const n = sorted.length;
  if (n === 0) throw new RangeError('no values have no quantile');
  requireSorted(sorted);
  const side = (1 - level) / 2;
  const method = n <= BINOMIAL_VALUES_MAX ? 'binomial' : 'normal';
  const reach = standardNormalQuantile(1 - side) * Math.sqrt(n * q * (1 - q));
  const low = method === 'binomial' ? lowRank(n, q, side) : Math.floor(n * q - reach);
  const high = method === 'binomial' ? highRank(n, q, side) : Math.ceil(n * q + reach) + 1;
  return {
    estimate: sorted[Math.max(1, Math.ceil(q * n)) - 1]!,
    low: low < 1 ? -Infinity : sorted[low - 1]!,
    high: high > n ? Infinity : sorted[high - 1]!,
    level,
    n,
    method,
  };
}

/** The greatest rank whose value is above the quantile with probability at most `side`; 0 when there is none. */
function lowRank(n: number, q: number, side: number): number {
  return firstWhere(n + 1, (below) => binomialAtMost(below, n, q) > side);
}

/** The least rank whose value is below the quantile with probability at most `side`; n + 1 when there is none. */
function highRank(n: number, q: number, side: number): number {
  // P(B ≥ rank) = P(n − B ≤ n − rank): the complement counted directly keeps the digits of a small tail.
  return firstWhere(n + 1, (rank) => binomialAtMost(n - rank, n, 1 - q) <= side);
}

/** The first of 0 … end that holds, for a condition that once true stays true; `end` when none before does. */
function firstWhere(end: number, holds: (index: number) => boolean): number {
  let low = 0;
  let high = end;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

function requireSorted(values: ArrayLike<number>): void {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) throw new RangeError(`value ${i} is ${values[i]}`);
    if (i > 0 && values[i]! < values[i - 1]!) throw new RangeError(`value ${i} is below the one before it`);
  }
}
