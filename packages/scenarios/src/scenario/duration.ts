const UNITS: readonly (readonly [string, number])[] = [
  ['h', 3_600_000_000_000],
  ['m', 60_000_000_000],
  ['s', 1_000_000_000],
  ['ms', 1_000_000],
  ['us', 1_000],
  ['ns', 1],
];

/** `1h`, `90s`, `1.5s`, `500ms`, `2m30s` in nanoseconds; undefined if the text is no duration. */
export function parseDuration(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(h|m|s|ms|us|µs|ns))+$/.test(text)) return undefined;
  let ns = 0;
  for (const [, digits, unit] of text.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)/g)) {
    const factor = UNITS.find(([name]) => name === (unit === 'µs' ? 'us' : unit))![1];
    ns += Math.round(Number(digits) * factor);
  }
  return Number.isSafeInteger(ns) ? ns : undefined;
}

/** The shortest single-unit text that parses back to the same nanoseconds. */
export function formatDuration(ns: number): string {
  if (ns === 0) return '0s';
  for (const [name, factor] of UNITS) if (ns % factor === 0 && ns >= factor) return `${ns / factor}${name}`;
  return `${ns}ns`;
}
