import { TooSlow } from './children.ts';
import { OURS } from './holders.ts';
import type { TurnResult } from './turn.ts';

/** Something that is measured against others at the same work. */
export interface Contender {
  readonly name: string;
  readonly note?: string | undefined;
  /** Must pop in the order of the others, or compute what they do. */
  readonly agrees: boolean;
  readonly turn: () => TurnResult;
}

/** What a contender did: medians over the rounds. */
export interface Score {
  readonly name: string;
  readonly note?: string | undefined;
  /** Per operation; NaN if it was too slow. */
  readonly ns: number;
  readonly nsMin: number;
  readonly nsMax: number;
  /** NaN where it is not known. */
  readonly bytes: number;
  readonly ownBytes: number;
  /** What the run computed, or the checksum of its order. */
  readonly result: number;
}

/** Those whose names hold one of some texts, and ours; all where there are none. */
export function chosen(contenders: readonly Contender[], against: readonly string[]): readonly Contender[] {
  return contenders.filter(
    ({ name }) => name === OURS || against.length === 0 || against.some((part) => name.includes(part)),
  );
}

/**
 * Let all take turns, round after round, so that a slow minute of the machine falls on everybody.
 * @throws Error when two that should agree do not.
 */
export function contest(contenders: readonly Contender[], rounds: number): Score[] {
  const results = contenders.map((): TurnResult[] => []);
  const tooSlow = new Set<Contender>();
  for (let round = 0; round < rounds; round++) {
    for (const [i, contender] of contenders.entries()) {
      if (tooSlow.has(contender)) continue;
      showProgress(`  round ${round + 1}/${rounds} ${contender.name}`);
      try {
        results[i]!.push(contender.turn());
      } catch (error) {
        if (!(error instanceof TooSlow)) throw error;
        tooSlow.add(contender);
      }
    }
  }
  showProgress('');
  demandAgreement(contenders, results);
  return contenders.map(({ name, note }, i) => scoreOf(name, note, results[i]!));
}

/** On one line of a terminal. */
function showProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001B[K${text}`);
}

function demandAgreement(contenders: readonly Contender[], results: readonly TurnResult[][]): void {
  const facts = contenders.flatMap(({ name, agrees }, i) =>
    agrees ? results[i]!.map((result) => ({ name, fact: result.order ?? result.result })) : [],
  );
  const first = facts[0];
  for (const { name, fact } of facts) {
    if (fact !== first!.fact) throw new Error(`${name} got ${fact}, ${first!.name} got ${first!.fact}`);
  }
}

function scoreOf(name: string, note: string | undefined, results: readonly TurnResult[]): Score {
  const times = results.map(({ ns }) => ns).sort((x, y) => x - y);
  return {
    name,
    note,
    ns: median(times),
    nsMin: times[0] ?? NaN,
    nsMax: times.at(-1) ?? NaN,
    bytes: median(results.map(({ bytes }) => bytes ?? NaN).sort((x, y) => x - y)),
    ownBytes: results[0]?.ownBytes ?? NaN,
    result: results[0]?.result ?? results[0]?.order ?? NaN,
  };
}

/** The middle one of sorted values; the lower of two. NaN of none. */
function median(sorted: readonly number[]): number {
  return sorted[(sorted.length - 1) >> 1] ?? NaN;
}
