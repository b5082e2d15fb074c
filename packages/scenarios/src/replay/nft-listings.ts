import type { Score } from './score.ts';

/**
 * How far a recorded remaining time may be from ours: both ends of it are known to a millisecond and told in ticks
 * of four; nft itself takes some milliseconds until it has asked.
 */
const OFF_MAX_MS = 16;
/** Which element of a listing with timeouts expires when. */
interface Expiry {
  readonly key: string;
  readonly leftMs: number;
}

/**
 * Hold `nft list` text against ours: lines as text; sets whose elements expire element by element, in no order, with
 * the remaining time within a few ticks.
 */
export function compareListing(own: string, recorded: string, score: Score): void {
  const ours = entries(own);
  const theirs = entries(recorded);
  for (let i = 0; i < Math.max(ours.length, theirs.length); i++) {
    const theirEntry = theirs[i] ?? 'nothing';
    const ourEntry = ours[i] ?? 'nothing';
    const what = `entry ${i + 1} of the listing`;
    if (!isExpiring(theirEntry) || !isExpiring(ourEntry)) score.compare('rows', what, theirEntry, ourEntry);
    else compareExpiries(what, expiriesIn(theirEntry), expiriesIn(ourEntry), score);
  }
}

function compareExpiries(
  what: string,
  recorded: readonly Expiry[],
  own: readonly Expiry[],
  score: Score,
): void {
  const ours = new Map(own.map(({ key, leftMs }) => [key, leftMs]));
  for (const { key, leftMs } of recorded) {
    const left = ours.get(key);
    ours.delete(key);
    const shown = left === undefined ? 'not listed' : Math.abs(left - leftMs) <= OFF_MAX_MS ? leftMs : left;
    score.compare('states', `${key} in ${what}`, `${leftMs} ms left`, textOfLeft(shown));
  }
  score.compare('states', `others in ${what}`, '', [...ours.keys()].join(' '));
}

function textOfLeft(left: number | string): string {
  return typeof left === 'string' ? left : `${left} ms left`;
}

/** The lines of a listing without its blank ones; elements that run over several lines are one entry. */
function entries(text: string): string[] {
  const found: string[] = [];
  let isOpen = false;
  for (const line of text.split('\n')) {
    if (line.trim() === '') continue;
    if (isOpen) found.push(`${found.pop()!} ${line.trim()}`);
    else found.push(line);
    if (line.includes('elements = {')) isOpen = true;
    if (line.trimEnd().endsWith('}')) isOpen = false;
  }
  return found;
}

function isExpiring(entry: string): boolean {
  return entry.includes('elements = {') && entry.includes(' expires ');
}

function expiriesIn(entry: string): Expiry[] {
  const inner = entry.slice(entry.indexOf('{') + 1, entry.lastIndexOf('}'));
  return inner.split(',').map((element) => {
    const [key, left] = element.split(' expires ');
    return { key: key!.trim(), leftMs: milliseconds(left ?? '') };
  });
}

const UNITS: Readonly<Record<string, number>> = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000, ms: 1 };

/** `9m59s972ms` */
function milliseconds(text: string): number {
  let sum = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)(ms|[dhms])/g)) sum += Number(count) * UNITS[unit!]!;
  return sum;
}
