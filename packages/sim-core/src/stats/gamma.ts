import { ln } from '../random/portable.ts';

const HALF_LN_2PI = 0.9189385332046728;
/** From here on Stirling's series with seven terms is exact to the last place. */
const STIRLING_MIN = 10;

/** ln(1 + x) for x > −1, also where 1 + x loses the digits of x: the rounding of 1 + x is divided out again. */
export function ln1p(x: number): number {
  const sum = 1 + x;
  return sum === 1 ? x : ln(sum) * (x / (sum - 1));
}

/** Logarithm of the gamma function for x > 0; absolute error below 1e-14 up to x = 10, relative 1e-15 beyond. */
export function lnGamma(x: number): number {
  let product = 1;
  let shifted = x;
  while (shifted < STIRLING_MIN) product *= shifted++;
  return (shifted - 0.5) * ln(shifted) - shifted + HALF_LN_2PI + stirlingRest(shifted) - ln(product);
}

/** Logarithm of the beta function B(a, b), a and b > 0, without the cancellation of three large ln Γ. */
export function lnBeta(a: number, b: number): number {
  const small = Math.min(a, b);
  const large = Math.max(a, b);
  if (large < STIRLING_MIN) return lnGamma(small) + lnGamma(large) - lnGamma(small + large);
  const rest = stirlingRest(large) - stirlingRest(small + large) - (large - 0.5) * ln1p(small / large);
  if (small < STIRLING_MIN) return lnGamma(small) + small - small * ln(small + large) + rest;
  return HALF_LN_2PI - 0.5 * ln(small) + small * ln(small / (small + large)) + stirlingRest(small) + rest;
}

/** ln Γ(x) less Stirling's (x − ½) ln x − x + ½ ln 2π, for x ≥ 10 (DLMF 5.11.1). */
function stirlingRest(x: number): number {
  const z = 1 / (x * x);
  const series =
    1 / 12 +
    z * (-1 / 360 + z * (1 / 1260 + z * (-1 / 1680 + z * (1 / 1188 + z * (-691 / 360360 + z / 156)))));
  return series / x;
}
