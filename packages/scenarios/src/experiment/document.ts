import type { CostProfile } from '@vipsim/proxiers';
import { canonicalJson, sealed, sha256Hex } from '../report/index.ts';
import type { ResultDocument, SizeResult } from '../report/result.ts';
import { scenarioDocument, type Scenario } from '../scenario/scenario.ts';

export const VERSION = '0.1.0';

/** Everything that a report needs, in one sealed document. */
export function resultDocument(parts: {
  readonly title: string;
  readonly command: string;
  readonly scenario: Scenario;
  readonly profile: CostProfile;
  readonly inputs: ResultDocument['inputs'];
  readonly notes: readonly string[];
  readonly sizes: SizeResult[];
  readonly environment: ResultDocument['environment'];
}): ResultDocument {
  const { profile } = parts;
  return sealed({
    schema: 'vipsim.result/1',
    digest: '',
    tool: { name: 'vipsim', version: VERSION },
    command: parts.command,
    title: parts.title,
    scenario: scenarioDocument(parts.scenario),
    inputs: parts.inputs,
    profile: {
      name: profile.name,
      title: profile.title,
      machine: profile.machine,
      kernel: profile.kernel,
      date: profile.date,
      spread: profile.spread,
      digest: sha256Hex(canonicalJson(profile)),
      prices: Object.entries(profile.prices).map(([operation, { ns, kind, source }]) => ({
        operation,
        ns: typeof ns === 'number' ? ns : ns.map(([bytes, cost]) => [bytes, cost] as [number, number]),
        kind,
        source,
      })),
    },
    notes: [...parts.notes],
    sizes: parts.sizes,
    environment: parts.environment,
  });
}
