/** Observations from one batch of MSER-5. */
const BATCH = 5;
/** Batches at the end that may not be all that is kept: a few alike ones would look perfectly steady. */
const LAST_BATCHES = 5;

/** What MSER-5 says of a series: how many first observations to delete, or that the run is too short to say. */
export type WarmUp =
  | { readonly kind: 'found'; readonly deleted: number }
  | { readonly kind: 'run-too-short'; readonly deleted: number };

/**
 * The length of the warm-up by MSER-5 (White, Cobb & Spratt 2000, "A comparison of five steady-state truncation
 * heuristics for simulation", Winter Simulation Conference; after White 1997, Simulation 69(6)): in the means of
 * batches of 5, delete so many that the sum of squares about the mean of those kept, over the square of their
 * number, is least: the squared standard error were they independent. Of equal minima the shortest deletion
 * wins. A minimum beyond half of the series says that the run is too short (as does fewer than 10 batches); the
 * last 5 batches are no candidates (Hoad, Robinson & Davies 2010, J. Operational Research Society 61(9)).
 */
export function mser5(values: ArrayLike<number>): WarmUp {
  const batches = Math.floor(values.length / BATCH);
  let best = Infinity;
  let deletedBatches = 0;
  let kept = 0;
  let mean = 0;
  let squares = 0;
  for (let first = batches - 1; first >= 0; first--) {
    kept++;
    const value = batchMean(values, first * BATCH);
    const delta = value - mean;
    mean += delta / kept;
    squares += delta * (value - mean);
    const statistic = squares / (kept * kept);
    if (kept > LAST_BATCHES && statistic <= best) {
      best = statistic;
      deletedBatches = first;
    }
  }
  const deleted = deletedBatches * BATCH;
  const tooShort = batches < 2 * LAST_BATCHES || deletedBatches * 2 > batches;
  return { kind: tooShort ? 'run-too-short' : 'found', deleted };
}

/**
 * The series without its first `deleted` observations: a deletion point that was fixed beforehand, or MSER-5's.
 * @throws RangeError unless 0 ≤ deleted < values.
 */
export function afterWarmUp(values: ArrayLike<number>, deleted: number): Float64Array {
  if (!Number.isInteger(deleted) || deleted < 0 || deleted >= values.length) {
    throw new RangeError(`cannot delete ${deleted} of ${values.length} observations`);
  }
  return Float64Array.from(values).subarray(deleted);
}

function batchMean(values: ArrayLike<number>, first: number): number {
  let sum = 0;
  for (let i = 0; i < BATCH; i++) sum += values[first + i]!;
  return sum / BATCH;
}
