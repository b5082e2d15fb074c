import { InvalidArgumentError, type Command } from 'commander';
import { PROFILES, type CostProfile } from '@vipsim/proxiers';
import { applySettings } from '../scenario/set.ts';
import { resolveScenario, type Scenario } from '../scenario/scenario.ts';
import { readInput } from './files.ts';
import { UsageError } from './usage-error.ts';

/** Flags that every command which builds a scenario takes. */
export interface ScenarioFlags {
  readonly modes?: string;
  readonly seed?: string;
  readonly duration?: string;
  readonly set: readonly string[];
  readonly profile?: string;
}

export function addScenarioFlags(command: Command): Command {
  return command
    .option('--seed <text>', 'same seed, same result (default: "0")')
    .option(
      '--set <path=value>',
      'set a scenario field; may be repeated (vipsim fields lists them)',
      collect,
      [],
    )
    .option('--profile <name|file>', `what operations cost (default: "${PROFILES[0]!.name}")`);
}

export function scenarioOf(flags: ScenarioFlags): Scenario {
  const document: Record<string, unknown> = {};
  if (flags.modes !== undefined) document['modes'] = flags.modes.split(',');
  if (flags.seed !== undefined) document['seed'] = flags.seed;
  if (flags.duration !== undefined) document['duration'] = flags.duration;
  return resolveScenario(applySettings(document, flags.set));
}

export function profileOf(flags: ScenarioFlags): CostProfile {
  const wanted = flags.profile ?? PROFILES[0]!.name;
  const known = PROFILES.find(({ name }) => name === wanted);
  if (known !== undefined) return known;
  if (!/[./]/.test(wanted)) {
    throw new UsageError(
      `--profile ${wanted}: no such profile; there are ${PROFILES.map(({ name }) => name).join(', ')}, or give a file`,
    );
  }
  return parseProfile(wanted, readInput(wanted).toString('utf8'));
}

function parseProfile(path: string, text: string): CostProfile {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new UsageError(`${path}: not JSON: ${(error as Error).message}`);
  }
  const profile = document as CostProfile;
  if (profile?.schema !== 'vipsim.profile/1' || typeof profile.prices !== 'object') {
    throw new UsageError(`${path}: not a cost profile; wanted "schema": "vipsim.profile/1" and "prices"`);
  }
  for (const [operation, price] of Object.entries(profile.prices)) {
    const points = typeof price.ns === 'number' ? [[0, price.ns] as const] : price.ns;
    const rising =
      Array.isArray(points) &&
      points.length > 0 &&
      points.every(([bytes], i) => i === 0 || bytes > points[i - 1]![0]);
    if (!rising || points.some(([, ns]) => !(ns >= 0) || ns === Infinity)) {
      throw new UsageError(
        `${path}: prices.${operation}.ns: wanted a number, or [bytes, ns] points with rising bytes`,
      );
    }
  }
  return profile;
}

function collect(value: string, previous: readonly string[]): string[] {
  if (!value.includes('='))
    throw new InvalidArgumentError('wanted path=value, such as workload.zipfExponent=0');
  return [...previous, value];
}
