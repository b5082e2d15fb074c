import { DestinationHashing } from './dh.ts';
import { FailOver } from './fo.ts';
import { LocalityBased } from './lblc.ts';
import { ReplicatedLocality } from './lblcr.ts';
import { LeastLoaded, type LoadFormula } from './least.ts';
import { MaglevHashing } from './mh.ts';
import type { SchedulerOptions } from './options.ts';
import { Overflow } from './ovf.ts';
import { RoundRobin } from './rr.ts';
import type { Lists, Scheduler } from './scheduler.ts';
import { SourceHashing } from './sh.ts';
import { TwoChoices } from './twos.ts';
import { WeightedRoundRobin } from './wrr.ts';

/** The kernel's schedulers, as `--ipvs-scheduler` names them. */
export const SCHEDULER_NAMES = [
  'rr',
  'wrr',
  'lc',
  'wlc',
  'lblc',
  'lblcr',
  'dh',
  'sh',
  'mh',
  'sed',
  'nq',
  'fo',
  'ovf',
  'twos',
] as const;
export type SchedulerName = (typeof SCHEDULER_NAMES)[number];

/** @throws RangeError for twos without draws and for a table size that mh does not have. */
export function createScheduler(
  name: SchedulerName,
  lists: Lists,
  formula?: LoadFormula,
  options: SchedulerOptions = {},
): Scheduler {
  switch (name) {
    case 'rr':
      return new RoundRobin(lists);
    case 'wrr':
      return new WeightedRoundRobin(lists);
    case 'lblc':
      return new LocalityBased(lists, formula, options);
    case 'lblcr':
      return new ReplicatedLocality(lists, formula, options);
    case 'dh':
      return new DestinationHashing(lists, options);
    case 'sh':
      return new SourceHashing(lists, options);
    case 'mh':
      return new MaglevHashing(lists, options);
    case 'fo':
      return new FailOver(lists);
    case 'ovf':
      return new Overflow(lists);
    case 'twos':
      if (options.draws === undefined) throw new RangeError('scheduler twos: wanted draws to choose by');
      return new TwoChoices(lists, options.draws, formula);
    default:
      return new LeastLoaded(name, lists, formula);
  }
}
