import { studentTQuantile } from './student-t.ts';
import { Tally } from './tally.ts';

/** A confidence interval: in the long run the share `level` of such intervals holds the true value. */
export interface Interval {
  readonly estimate: number;
  readonly low: number;
  readonly high: number;
  /** Nominal coverage, between 0 and 1. */
  readonly level: number;
  /** Observations taken as independent: replications, pairs, batches or values. */
  readonly n: number;
}

export const DEFAULT_LEVEL = 0.95;

/**
 * The interval of a mean from independent replications (one value from each seed), by Student's t.
 * @throws RangeError below 2 replications, for a value that is not finite, or a level outside (0, 1).
 */
export function replications(values: ArrayLike<number>, level = DEFAULT_LEVEL): Interval {
  return meanInterval(values, level, 'replications');
}

/**
 * The interval of the mean difference a − b of runs paired by seed (common random numbers): what both runs of a
 * pair share cancels before the variance is taken.
 * @throws RangeError below 2 pairs, for unequal lengths, values that are not finite, or a level outside (0, 1).
 */
export function pairedDifference(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  level = DEFAULT_LEVEL,
): Interval {
  if (a.length !== b.length) throw new RangeError(`${a.length} runs cannot be paired with ${b.length}`);
  const differences = new Float64Array(a.length);
  for (let i = 0; i < a.length; i++) differences[i] = a[i]! - b[i]!;
  return meanInterval(differences, level, 'pairs');
}

/**
 * The interval of a steady-state mean from one long correlated series, by non-overlapping batches: their means are
 * taken as independent, so a batch must be long against the time the system remembers; too short batches give
 * too narrow intervals. Where the length is no multiple of `batches`, the first values are left out.
 * @throws RangeError unless 2 ≤ batches ≤ values, all values are finite and the level is in (0, 1).
 */
export function batchMeans(values: ArrayLike<number>, batches: number, level = DEFAULT_LEVEL): Interval {
  if (!Number.isInteger(batches) || batches < 2 || batches > values.length) {
    throw new RangeError(`${values.length} values cannot be cut into ${batches} batches, 2 or more`);
  }
  const size = Math.floor(values.length / batches);
  const first = values.length - size * batches;
  const means = new Float64Array(batches);
  for (let batch = 0; batch < batches; batch++) {
    const tally = new Tally();
    for (let i = 0; i < size; i++) tally.record(values[first + batch * size + i]!);
    means[batch] = tally.mean;
  }
  return meanInterval(means, level, 'batches');
}

/** @throws RangeError unless 0 < level < 1. */
export function requireLevel(level: number): void {
  if (!(level > 0 && level < 1)) throw new RangeError(`a confidence level is between 0 and 1, not ${level}`);
}

function meanInterval(values: ArrayLike<number>, level: number, what: string): Interval {
  requireLevel(level);
  const n = values.length;
  if (n < 2) throw new RangeError(`a confidence interval needs at least 2 ${what}, not ${n}`);
  const tally = new Tally();
  for (let i = 0; i < n; i++) {
    if (!Number.isFinite(values[i])) throw new RangeError(`value ${i} of ${n} ${what} is ${values[i]}`);
    tally.record(values[i]!);
  }
  const half = studentTQuantile((1 + level) / 2, n - 1) * Math.sqrt(tally.variance / n);
  return { estimate: tally.mean, low: tally.mean - half, high: tally.mean + half, level, n };
}
