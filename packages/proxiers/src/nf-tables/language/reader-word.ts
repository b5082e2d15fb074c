import type { Tokens } from './tokens.ts';

/** A name of a table, chain or set. nft knows no quoting of names: letters first, then also digits and / - _ . */
export function readName(tokens: Tokens, what: string): string {
  if (tokens.kind !== 'word' || tokens.text.endsWith('*')) {
    throw tokens.fault(
      `${tokens.shown()} where the name of ${what} was wanted`,
      'names begin with a letter or _ and hold letters, digits and / - _ .',
    );
  }
  const { text } = tokens;
  tokens.next();
  return text;
}

/** `80`, `0x4000` */
export function readNumber(tokens: Tokens, what: string): number {
  const value = numberOfText(tokens.text);
  if (tokens.kind !== 'number' || value === undefined) {
    throw tokens.fault(`${tokens.shown()} where ${what} was wanted`, 'write a number');
  }
  tokens.next();
  return value;
}

/** Decimal, hexadecimal after 0x, octal after a leading 0, as strtoull reads them. */
export function numberOfText(text: string): number | undefined {
  if (/^0x[0-9a-fA-F]{1,13}$/.test(text)) return parseInt(text.slice(2), 16);
  if (/^0[0-7]{1,16}$/.test(text)) return parseInt(text, 8);
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

const UNITS: readonly (readonly [string, number])[] = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
  ['ms', 1],
];

/** `10800s`, `1h30m`, `9m59s972ms`; a bare number is in seconds. In ms. */
export function readTime(tokens: Tokens): number {
  const { text } = tokens;
  const parts = /^(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m(?!s))?(?:(\d{1,12})s)?(?:(\d{1,12})ms)?$/.exec(
    text,
  );
  const plain = numberOfText(text);
  if (tokens.kind !== 'number' || (parts === null && plain === undefined)) {
    throw tokens.fault(`${tokens.shown()} where a time was wanted`, 'write it as 10800s or 1h30m');
  }
  tokens.next();
  if (parts === null) return plain! * 1000;
  return UNITS.reduce((total, [, ms], i) => total + ms * Number(parts[i + 1] ?? 0), 0);
}

/** As nft lists a time: `3h`, `1m30s`, `9m59s972ms`. */
export function timeText(ms: number): string {
  let left = ms;
  let text = '';
  for (const [unit, size] of UNITS) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count > 0) text += `${count}${unit}`;
  }
  return text === '' ? '0s' : text;
}
