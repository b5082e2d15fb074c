import type { Score } from './contest.ts';
import type { Environment } from './environment.ts';
import type { HoldScores } from './hold.ts';
import { OURS } from './holders.ts';
import type { Steadiness } from './steady.ts';

export interface Table {
  readonly title: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Printed below. */
  readonly notes: readonly string[];
}

/** With fewer pending events the noise of the heap is larger than what they take. */
const BYTES_FROM = 100_000;

/** One table for each shape: for each number of pending events the time, its ratio to ours, and the memory. */
export function holdTables(all: readonly HoldScores[]): Table[] {
  const shapes = [...new Set(all.map(({ shape }) => shape))];
  return shapes.map((shape) => {
    const sizes = all.filter((scores) => scores.shape === shape);
    return {
      title: `Hold, ${shape} increments: ns per hold | ours ÷ it | bytes per pending event`,
      head: ['structure', ...sizes.flatMap(({ pending }) => [`N = ${powerOfTen(pending)}`, 'ours ÷', 'B'])],
      rows: sizes[0]!.scores.map(({ name }, row) => [
        name,
        ...sizes.flatMap(({ pending, scores }) => {
          const score = scores[row]!;
          const bytes = pending >= BYTES_FROM ? score.bytes : NaN;
          return [rounded(score.ns), ratio(oursOf(scores), score), rounded(bytes)];
        }),
      ]),
      notes: notesOf(sizes[0]!.scores),
    };
  });
}

export function packetTable(title: string, scores: readonly Score[]): Table {
  const ours = oursOf(scores);
  return {
    title: `${title}: ns per packet`,
    head: ['simulator', 'ns', 'from', 'to', 'ours ÷'],
    rows: scores.map((score) => [
      score.name,
      rounded(score.ns),
      rounded(score.nsMin),
      rounded(score.nsMax),
      ratio(ours, score),
    ]),
    notes: notesOf(scores),
  };
}

export function steadyTable(all: readonly Steadiness[]): Table {
  return {
    title: 'Steady state, 10,000 pending events, after a warm-up',
    head: ['way', 'events', 'bytes allocated per event', 'scavenges', 'deoptimisations'],
    rows: all.map(({ name, events, bytesPerEvent, scavenges, deopts }) => [
      name,
      String(events),
      bytesPerEvent.toFixed(2),
      String(scavenges),
      String(deopts),
    ]),
    notes: [],
  };
}

export function asText({ title, head, rows, notes }: Table): string {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  const lines = all.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)))
      .join('  '),
  );
  return [title, ...lines, ...notes.map((note) => `  ${note}`), ''].join('\n');
}

export function asMarkdown({ title, head, rows, notes }: Table): string {
  const rule = head.map((_, column) => (column === 0 ? '---' : '---:'));
  const list = notes.length === 0 ? [] : [...notes.map((note) => `- ${note}`), ''];
  const table = [head, rule, ...rows].map((cells) => `| ${cells.join(' | ')} |`);
  return [`### ${title.replaceAll('|', '·')}`, '', ...table, '', ...list].join('\n');
}

export function environmentText({
  machine,
  kernel,
  node,
  compiler,
  pinned,
  date,
  commit,
}: Environment): string {
  return `${date}, vipsim ${commit}; ${machine}; Linux ${kernel}; Node ${node}; C++: ${compiler}; pinned: ${pinned}.\n`;
}

function oursOf(scores: readonly Score[]): Score {
  return scores.find(({ name }) => name === OURS)!;
}

function notesOf(scores: readonly Score[]): string[] {
  return scores.flatMap(({ name, note }) => (note === undefined ? [] : [`${name}: ${note}`]));
}

function ratio(ours: Score, score: Score): string {
  if (Number.isNaN(score.ns)) return '–';
  const quotient = ours.ns / score.ns;
  return quotient < 0.05 ? quotient.toPrecision(1) : quotient.toFixed(2);
}

function rounded(value: number): string {
  return Number.isNaN(value) ? '–' : value.toFixed(0);
}

function powerOfTen(n: number): string {
  return n.toExponential().replace('e+', 'e');
}
