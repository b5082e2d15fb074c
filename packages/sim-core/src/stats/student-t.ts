import { standardNormalQuantile } from '../random/distributions.ts';
import { exp } from '../random/portable.ts';
import { ln1p, lnBeta } from './gamma.ts';
import { incompleteBeta } from './incomplete-beta.ts';

const TAIL_MIN = 1e-100;
const STEPS_MAX = 1000;

/**
 * The value below which Student's t with `degrees` of freedom falls with probability `p`; relative error about
 * 1e-12.
 * @throws RangeError unless degrees ≥ 1 (they need not be whole) and 1e-100 ≤ p < 1.
 */
export function studentTQuantile(p: number, degrees: number): number {
  const tail = Math.min(p, 1 - p);
  if (!(tail >= TAIL_MIN)) throw new RangeError(`Student's t has no quantile at ${p}`);
  if (!(degrees >= 1)) throw new RangeError(`Student's t needs 1 degree of freedom, not ${degrees}`);
  if (tail === 0.5) return 0;
  // Beyond its mode the upper tail is convex and heavier than the normal's: Newton's steps from the normal
  // quantile stay below the root and can only rise, until rounding stops them.
  let t = -standardNormalQuantile(tail);
  for (let i = 0; i < STEPS_MAX; i++) {
    const step = (studentTTail(t, degrees) - tail) / density(t, degrees);
    t += step;
    if (!(step > 1e-15 * t)) break;
  }
  return p < 0.5 ? -t : t;
}

/** The probability that Student's t with `degrees` of freedom is above `t` ≥ 0 (DLMF 8.17). */
export function studentTTail(t: number, degrees: number): number {
  const sum = degrees + t * t;
  return 0.5 * incompleteBeta(degrees / 2, 0.5, degrees / sum, (t * t) / sum);
}

function density(t: number, degrees: number): number {
  const exponent = -((degrees + 1) / 2) * ln1p((t * t) / degrees) - lnBeta(degrees / 2, 0.5);
  return exp(exponent) / Math.sqrt(degrees);
}
