const POWERS = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

/**
 * A whole number of units as a decimal fraction, exact in every digit: `fixedPoint(12_345, 3)` is `12.345`. The
 * remainder is taken first, because a quotient near 2^53 is rounded and may reach the next whole number.
 * @param units whole, 0 to 2^53.
 * @param places digits after the point, 1 to 9.
 */
export function fixedPoint(units: number, places: number): string {
  const scale = POWERS[places]!;
  const rest = units % scale;
  return `${(units - rest) / scale}.${String(rest).padStart(places, '0')}`;
}
