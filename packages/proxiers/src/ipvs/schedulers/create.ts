import { LeastLoaded, type LoadFormula } from './least.ts';
import { RoundRobin } from './rr.ts';
import type { Lists, Scheduler } from './scheduler.ts';
import { SourceHashing } from './sh.ts';
import { WeightedRoundRobin } from './wrr.ts';

/** Values of `--ipvs-scheduler` that are modelled. */
export const SCHEDULER_NAMES = ['rr', 'wrr', 'lc', 'wlc', 'sed', 'nq', 'sh'] as const;
export type SchedulerName = (typeof SCHEDULER_NAMES)[number];

export function createScheduler(name: SchedulerName, lists: Lists, formula?: LoadFormula): Scheduler {
  if (name === 'rr') return new RoundRobin(lists);
  if (name === 'wrr') return new WeightedRoundRobin(lists);
  if (name === 'sh') return new SourceHashing(lists);
  return new LeastLoaded(name, lists, formula);
}
