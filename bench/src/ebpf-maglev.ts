import { spawnSync } from 'node:child_process';
import { freemem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { matrixBytes } from '../../packages/proxiers/src/ebpf/maglev/table.ts';
import { commandTurn, nodeTurn } from './children.ts';
import { contest, type Contender, type Score } from './contest.ts';
import type { Table } from './report.ts';

export interface MaglevScore {
  readonly slots: number;
  readonly backends: number;
  /** ns per table: ours, then the C programs, as far as they ran. */
  readonly ours: Score;
  readonly matrix: Score | undefined;
  readonly cursors: Score | undefined;
}

export interface MaglevEffort {
  readonly rounds: number;
  /** Backends of the tables built. */
  readonly backends: readonly number[];
  /** A turn measures at least that long. */
  readonly turnMs: number;
}

const SIZES = [16381, 65521];

/** Tables of Cilium's default size and of the one four times as large; `program` is the compiled C, if there is one. */
export function measureMaglev(effort: MaglevEffort, program: string | undefined): MaglevScore[] {
  return SIZES.flatMap((slots) =>
    effort.backends.map((backends) => {
      const msMin = effort.turnMs;
      const contenders: Contender[] = [
        {
          name: 'ours',
          agrees: true,
          turn: () => nodeTurn({ bench: 'ebpf-maglev', slots, backends, msMin }),
        },
      ];
      // All of the matrix is touched: a machine that would swap is spared.
      const ways = matrixBytes(backends, slots) < freemem() / 2 ? ['matrix', 'cursors'] : ['cursors'];
      for (const way of program === undefined ? [] : ways) {
        const args = [way, String(slots), String(backends), String(msMin)];
        contenders.push({ name: way, agrees: true, turn: () => commandTurn(program!, args) });
      }
      const scores = contest(contenders, effort.rounds);
      const named = (way: string): Score | undefined => scores.find(({ name }) => name === way);
      return { slots, backends, ours: scores[0]!, matrix: named('matrix'), cursors: named('cursors') };
    }),
  );
}

/** The C program, compiled into the folder; undefined, with the reason on stderr, where there is no compiler. */
export function compileMaglev(folder: string): string | undefined {
  const source = fileURLToPath(new URL('../native/maglev.c', import.meta.url));
  const program = join(folder, 'maglev');
  const { error, status, stderr } = spawnSync(
    'gcc',
    ['-O2', '-std=c11', '-D_GNU_SOURCE', '-o', program, source],
    {
      encoding: 'utf8',
    },
  );
  if (error !== undefined) {
    process.stderr.write('no gcc: Maglev in C is left out\n');
    return undefined;
  }
  if (status !== 0) throw new Error(`gcc cannot compile ${source}:\n${stderr}`);
  return program;
}

export function maglevTable(scores: readonly MaglevScore[]): Table {
  return {
    title: 'Maglev tables: ms per table, names, hashes and order of the backends included',
    head: ['slots, backends', 'ours', 'from', 'to', 'C, matrix', 'ours ÷', 'its MB', 'C, cursors', 'ours ÷'],
    rows: scores.map(({ slots, backends, ours, matrix, cursors }) => [
      `${slots}, ${backends}`,
      ms(ours.ns),
      ms(ours.nsMin),
      ms(ours.nsMax),
      ms(matrix?.ns),
      ratio(ours, matrix),
      ((backends * slots * 8) / 1e6).toFixed(0),
      ms(cursors?.ns),
      ratio(ours, cursors),
    ]),
    notes: [
      'C, matrix: every permutation written down first, 64 bits an entry, as the agent does it, on one core',
      'C, cursors: place and step of each backend, as here; both gcc -O2',
    ],
  };
}

function ms(ns: number | undefined): string {
  return ns === undefined || Number.isNaN(ns) ? '–' : (ns / 1e6).toPrecision(3);
}

function ratio(ours: Score, other: Score | undefined): string {
  return other === undefined || Number.isNaN(other.ns) ? '–' : (ours.ns / other.ns).toPrecision(2);
}
