/**
 * Numbers for people, the same on every machine: three significant digits, a point for decimals, a space
 * between thousands and before the unit. What is missing or not a number is shown as `–`.
 */
export type Unit = 'ns' | 'bytes' | 'count' | 'cores' | 'per-second' | 'share' | 'ratio';

export const MISSING = '–';

export function formatValue(value: number | undefined, unit: Unit): string {
  if (value === undefined || !Number.isFinite(value)) return MISSING;
  if (unit === 'ns') return formatNs(value);
  if (unit === 'bytes') return formatBytes(value);
  if (unit === 'cores') return formatCores(value);
  if (unit === 'per-second') return `${formatCount(value < 100 ? value : Math.round(value))} /s`;
  if (unit === 'share') return formatShare(value);
  if (unit === 'ratio') return formatRatio(value);
  return formatCount(value);
}

/** `820 ns`, `36.1 µs`, `1.27 ms`, `2.84 s`. */
export function formatNs(ns: number): string {
  return scaled(ns, ['ns', 'µs', 'ms', 's']);
}

/** `512 B`, `19.2 MB`: decimal units, 1 MB is 1 000 000 bytes. */
export function formatBytes(bytes: number): string {
  return scaled(bytes, ['B', 'kB', 'MB', 'GB', 'TB']);
}

/** `1 000 000`; means of counts keep a decimal or two: `12.5`, `4 999.5`. */
export function formatCount(count: number): string {
  if (count < 0) return `-${formatCount(-count)}`;
  if (Number.isInteger(count)) return grouped(count);
  if (count < 100) return significant(count);
  const [whole, tenth] = count.toFixed(1).split('.');
  return `${grouped(Number(whole))}.${tenth}`;
}

/** `0.0004`, `0.0042`, `0.042`, `1.27`, `12.3`. */
export function formatCores(cores: number): string {
  if (cores < 0) return `-${formatCores(-cores)}`;
  if (cores === 0) return '0';
  if (cores < 0.00001) return '<0.00001';
  if (cores < 0.001) return cores.toFixed(5);
  if (cores < 0.01) return cores.toFixed(4);
  if (cores < 0.9995) return cores.toFixed(3);
  return significant(cores);
}

/** A share of one as `12.3 %`; neither `0 %` for something nor `100 %` for less than all. */
export function formatShare(share: number): string {
  if (share > 0 && share < 0.0001) return '<0.01 %';
  if (share > 0.9999 && share < 1) return '>99.99 %';
  const percent = share * 100;
  if (share > 0.99 && share < 1) return `${percent.toFixed(2)} %`;
  return `${significant(percent)} %`;
}

/** A bare figure such as max/mean: `1.35`. */
export function formatRatio(ratio: number): string {
  return ratio < 0 ? `-${significant(-ratio)}` : significant(ratio);
}

/** How many times as much: `×1.02`, `×10.1`, `×1 250`. */
export function formatFactor(factor: number): string {
  return `×${significant(factor)}`;
}

/** Steps of 1000; the unit is chosen after rounding, so nothing reads `1000 ns`. */
function scaled(value: number, units: readonly string[]): string {
  if (value < 0) return `-${scaled(-value, units)}`;
  let step = 0;
  let rest = value;
  while (Number(rest.toPrecision(3)) >= 1000 && step < units.length - 1) {
    rest /= 1000;
    step++;
  }
  return `${step === 0 && Number.isInteger(rest) ? grouped(rest) : significant(rest)} ${units[step]!}`;
}

/** Three significant digits; beyond 1000 all digits of the whole number. */
function significant(value: number): string {
  const rounded = Number(value.toPrecision(3));
  if (rounded === 0) return '0';
  if (rounded >= 1000) return grouped(Math.round(value));
  if (rounded >= 100) return rounded.toFixed(0);
  if (rounded >= 10) return rounded.toFixed(1);
  if (rounded >= 0.1) return rounded.toFixed(2);
  return rounded < 0.0001 ? '<0.0001' : rounded.toFixed(4);
}

function grouped(whole: number): string {
  const digits = whole.toFixed(0);
  // From 1e21 on, digits come as an exponent; a count never gets there.
  if (digits.includes('e')) return digits;
  let text = digits.slice(0, digits.length % 3 || 3);
  for (let at = text.length; at < digits.length; at += 3) text += ` ${digits.slice(at, at + 3)}`;
  return text;
}
