import { join } from 'node:path';
import { commandTurn, nodeTurn } from './children.ts';
import { writeColumns } from './columns.ts';
import { chosen, contest, type Contender, type Score } from './contest.ts';
import { STRUCTURES } from './holders.ts';
import { holdColumns, type Shape } from './increments.ts';
import { NS3_SCHEDULERS, type Native } from './native.ts';

export interface HoldEffort {
  /** Parts of the names of rivals; empty for all. */
  readonly against: readonly string[];
  readonly rounds: number;
  /** Holds measured in a turn, unless `msMax` is over before. */
  readonly steps: number;
  readonly msMax: number;
}

export interface HoldScores {
  readonly shape: Shape;
  readonly pending: number;
  readonly scores: readonly Score[];
}

/** So many that V8 has compiled all that it will. */
const WARMUP = 2_000_000;

/** All structures at one shape of increments and one number of pending events. */
export function measureHold(
  shape: Shape,
  pending: number,
  effort: HoldEffort,
  folder: string,
  native: Native | undefined,
): HoldScores {
  const columns = join(folder, `${shape}-${pending}.columns`);
  writeColumns(columns, holdColumns(shape, pending));
  const warmup = WARMUP;
  const steps = Math.max(effort.steps, pending);
  const { against, rounds, msMax } = effort;
  const contenders: Contender[] = STRUCTURES.map(({ name, note, stable }) => ({
    name,
    note,
    agrees: stable,
    turn: () => nodeTurn({ bench: 'hold', name, columns, warmup, steps, msMax }),
  }));
  if (native !== undefined) {
    contenders.push(...nativeContenders(native, [columns, String(warmup), String(steps), String(msMax)]));
  }
  return { shape, pending, scores: contest(chosen(contenders, against), rounds) };
}

function nativeContenders({ hold, ns3 }: Native, args: readonly string[]): Contender[] {
  const contenders: Contender[] = [
    {
      name: 'C++ std::priority_queue',
      note: 'records of 32 bytes by value, -O2',
      agrees: true,
      turn: () => commandTurn(hold, args),
    },
  ];
  if (ns3 === undefined) return contenders;
  for (const scheduler of NS3_SCHEDULERS) {
    contenders.push({
      name: `ns-3 ${scheduler}`,
      note: 'Insert and RemoveNext alone',
      agrees: true,
      turn: () => commandTurn(ns3, ['hold', scheduler, ...args]),
    });
  }
  for (const scheduler of ['MapScheduler', 'PriorityQueueScheduler']) {
    contenders.push({
      name: `ns-3 Simulator, ${scheduler}`,
      note: `the whole loop: Simulator::Schedule${scheduler === 'MapScheduler' ? '; the default of ns-3' : ''}`,
      agrees: true,
      turn: () => commandTurn(ns3, ['loop', scheduler, ...args]),
    });
  }
  return contenders;
}
