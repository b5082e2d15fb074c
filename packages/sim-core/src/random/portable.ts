/**
 * Logarithm and exponential from + − × ÷ and exponent bits alone, so that every engine returns the same
 * bits: `Math.log`, `Math.exp` and `Math.pow` differ in the last place between V8 versions and browsers.
 */

const LN2_HIGH = 0.6931471803691238;
const LN2_LOW = 1.9082149292705877e-10;

const double = new Float64Array(1);
const words = new Uint32Array(double.buffer);
const HIGH = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1 ? 1 : 0;

/** Natural logarithm of x > 0; relative error below 1e-15. ln(0) = -Infinity, ln(x < 0) = NaN. */
export function ln(x: number): number {
  if (!(x > 0)) return x === 0 ? -Infinity : NaN;
  if (x === Infinity) return Infinity;
  let exponent = 0;
  if (x < 2.2250738585072014e-308) {
    x *= 18014398509481984;
    exponent = -54;
  }
  double[0] = x;
  const high = words[HIGH]!;
  exponent += (high >>> 20) - 1022;
  words[HIGH] = (high & 0x000fffff) | 0x3fe00000;
  let mantissa = double[0]!;
  if (mantissa < Math.SQRT1_2) {
    mantissa *= 2;
    exponent--;
  }
  // ln(m) = 2·atanh(s) with s = (m − 1) / (m + 1), |s| ≤ 0.1716: the odd series to s^21 is exact to the last place.
  const s = (mantissa - 1) / (mantissa + 1);
  const z = s * s;
  const tail =
    z *
    (1 / 3 +
      z *
        (1 / 5 +
          z *
            (1 / 7 +
              z *
                (1 / 9 +
                  z * (1 / 11 + z * (1 / 13 + z * (1 / 15 + z * (1 / 17 + z * (1 / 19 + z / 21)))))))));
  return exponent * LN2_HIGH + (exponent * LN2_LOW + 2 * s * tail + 2 * s);
}

/** Base-2 logarithm of x > 0. */
export function log2(x: number): number {
  return ln(x) / Math.LN2;
}

/** e to the x; relative error below 1e-15; 0 and Infinity beyond the range of a double. */
export function exp(x: number): number {
  if (x !== x) return NaN;
  if (x > 709.782712893384) return Infinity;
  if (x < -745.1332191019411) return 0;
  const k = Math.round(x / Math.LN2);
  const r = x - k * LN2_HIGH - k * LN2_LOW;
  // |r| ≤ 0.3466: the Taylor series to r^14 is exact to the last place.
  let sum = 1;
  for (let n = 14; n > 0; n--) sum = 1 + (r / n) * sum;
  return scale(scale(sum, k >> 1), k - (k >> 1));
}

function scale(value: number, exponent: number): number {
  words[HIGH] = (exponent + 1023) << 20;
  words[1 - HIGH] = 0;
  return value * double[0]!;
}
