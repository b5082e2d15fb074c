import { exp, ln } from '../random/portable.ts';
import { ln1p, lnBeta } from './gamma.ts';

const TERMS_MAX = 100_000;
const TINY = 1e-300;

/**
 * The regularised incomplete beta function I_x(a, b) for a, b > 0 and 0 ≤ x ≤ 1: the share of a beta distribution
 * at or below x. `rest` is 1 − x; give it where it is known better than by subtraction. Relative error about
 * 1e-13 for a + b up to 1,000, growing with a + b to about 1e-10 at 1,000,000.
 */
export function incompleteBeta(a: number, b: number, x: number, rest = 1 - x): number {
  if (x <= 0) return 0;
  if (rest <= 0) return 1;
  const front = exp(a * lnOf(x, rest) + b * lnOf(rest, x) - lnBeta(a, b));
  // The fraction converges fast on this side of the mean only; the other side is the complement.
  return x * (a + b + 2) < a + 1 ? (front / a) * fraction(a, b, x) : 1 - (front / b) * fraction(b, a, rest);
}

/** P(at most k of n independent trials of chance p succeed), 0 ≤ k ≤ n: I_{1−p}(n − k, k + 1) (DLMF 8.17.5). */
export function binomialAtMost(k: number, n: number, p: number): number {
  if (k < 0) return 0;
  return k >= n ? 1 : incompleteBeta(n - k, k + 1, 1 - p, p);
}

function lnOf(x: number, rest: number): number {
  return x > 0.5 ? ln1p(-rest) : ln(x);
}

/** The continued fraction 1/(1 + d1/(1 + d2/(1 + …))) of DLMF 8.17.22, from the front by Lentz's method. */
function fraction(a: number, b: number, x: number): number {
  let numerator = 1;
  let denominator = 0;
  let value = 1;
  for (let n = 1; n <= TERMS_MAX; n++) {
    const d = coefficient(n, a, b, x);
    denominator = 1 / nonZero(1 + d * denominator);
    numerator = nonZero(1 + d / numerator);
    const factor = numerator * denominator;
    value *= factor;
    if (Math.abs(factor - 1) < 3e-16) return 1 / value;
  }
  throw new RangeError(`incomplete beta function did not converge at a = ${a}, b = ${b}, x = ${x}`);
}

function coefficient(n: number, a: number, b: number, x: number): number {
  const m = n >> 1;
  return n % 2 === 1
    ? (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))
    : (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
}

function nonZero(value: number): number {
  return Math.abs(value) < TINY ? TINY : value;
}
