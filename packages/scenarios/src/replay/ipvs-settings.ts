import { IPV4, type AddressFamily } from '@vipsim/sim-core';
import { ipvsKernel } from '@vipsim/proxiers';
import { textOf, wrong, type Recording, type Step } from './recording.ts';

/** What `-p` without a number means. */
const PERSISTENCE_S = 360;

/** A step that the model has nothing for: what it does not do, or why what it does cannot be compared. */
export class Unplayable extends Error {}

/** What `flags` and `scheduler` of a step say. */
export function serviceSettings(
  step: Step,
  family: AddressFamily,
  recording: Recording,
): ipvsKernel.ServiceSettings {
  const words = textOf(step, 'flags', recording).split(' ');
  const after = (option: string): string | undefined =>
    words.includes(option) ? (words[words.indexOf(option) + 1] ?? '') : undefined;
  const scheduler = textOf(step, 'scheduler', recording) as ipvsKernel.SchedulerName;
  const flags = after('-b')?.split(',') ?? [];
  const mask = after('-M');
  const persistence = after('-p');
  const known = ['-b', '-p', '-M', '-o'];
  if (!ipvsKernel.SCHEDULER_NAMES.includes(scheduler) || scheduler === 'twos') throw new Unplayable();
  if (words.some((word) => word.startsWith('-') && !known.includes(word))) throw new Unplayable();
  return {
    scheduler,
    port: flags.some((flag) => flag.endsWith('-port') || flag === 'flag-2'),
    fallback: flags.some((flag) => flag.endsWith('-fallback') || flag === 'flag-1'),
    persistenceS: /^\d+$/.test(persistence ?? '')
      ? Number(persistence)
      : persistence === undefined
        ? 0
        : PERSISTENCE_S,
    onePacket: words.includes('-o'),
    ...(mask === undefined ? {} : { netmask: maskOf(mask, family, recording) }),
  };
}

function maskOf(text: string, family: AddressFamily, recording: Recording): number {
  const mask = family === IPV4 ? IPV4.parse(text) : family.mask(Number(text));
  if (mask === undefined) throw wrong(recording.file, 'steps', `${text} is no netmask`);
  return mask;
}

/** Weight and, in `extra`, thresholds. */
export function serverSettings(step: Step, recording: Recording): ipvsKernel.ServerSettings {
  const weight = step['weight'];
  if (typeof weight !== 'number') throw wrong(recording.file, 'steps', 'an op on a server without a weight');
  const extra = typeof step['extra'] === 'string' ? step['extra'] : '';
  const after = (option: string): number => Number(new RegExp(`${option} (\\d+)`).exec(extra)?.[1] ?? 0);
  if (!/^( ?-[xy] \d+| ?-m)*$/.test(extra)) throw new Unplayable();
  return { weight, upper: after('-x'), lower: after('-y') };
}
