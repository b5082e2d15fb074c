import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import {
  SYNTHETIC_DEFAULTS,
  readCluster,
  syntheticCluster,
  type Cluster,
  type SourceText,
  type SyntheticSpec,
} from '@vipsim/proxiers';
import { atSize } from '../experiment/compare.ts';
import type { ResultDocument } from '../report/result.ts';
import { listInputs, readInput } from './files.ts';
import { UsageError } from './usage-error.ts';

const SYNTHETIC = 'synthetic:';
const SERVICES_MAX = 1_000_000;
const ENDPOINTS_MAX = 2_000_000;

/** What the INPUT words name: manifests and dumps, or a synthetic cluster. */
export interface Input {
  readonly title: string;
  readonly records: ResultDocument['inputs'];
  cluster(): Cluster;
  /** The same kind of cluster with about this many endpoints. */
  atSize(endpoints: number): Cluster;
}

/** `family`: which half of a dual-stack cluster; a synthetic cluster has but IPv4. */
export function readInputs(words: readonly string[], family: 'ipv4' | 'ipv6' = 'ipv4'): Input {
  const synthetic = words.filter((word) => word.startsWith(SYNTHETIC));
  if (synthetic.length === 0) return manifests(words, family);
  if (family === 'ipv6') throw new UsageError(`--family ipv6: ${synthetic[0]!} has IPv4 alone; give files`);
  if (words.length > 1)
    throw new UsageError('a synthetic cluster stands alone: give one synthetic:… or files, not both');
  return syntheticInput(parseSynthetic(synthetic[0]!));
}

/** `10k`, `1M`, `250000`. */
export function parseSize(text: string): number {
  const size = wholeNumber(text);
  if (!Number.isSafeInteger(size) || size < 1 || size > ENDPOINTS_MAX) {
    throw new UsageError(`size ${text}: wanted endpoints from 1 to ${ENDPOINTS_MAX}, such as 500, 10k or 1M`);
  }
  return size;
}

function manifests(words: readonly string[], family: 'ipv4' | 'ipv6'): Input {
  const sources: SourceText[] = [];
  const records: ResultDocument['inputs'] = [];
  for (const path of words.flatMap((word) => listInputs(word))) {
    const bytes = readInput(path);
    const name = path === '-' ? 'standard input' : path;
    sources.push({ name, text: bytes.toString('utf8') });
    // The digest must not depend on where the file lies.
    records.push({
      name: basename(name),
      bytes: bytes.length,
      sha256: createHash('sha256').update(bytes).digest('hex'),
    });
  }
  const cluster = readCluster(sources, { family });
  return {
    title: words
      .map((word) => (word === '-' ? 'standard input' : word.replace(/\/+$/, '').replace(/^.*\//, '')))
      .join(' + '),
    records,
    cluster: () => cluster,
    atSize: (endpoints) => atSize(cluster, endpoints),
  };
}

function syntheticInput(spec: SyntheticSpec): Input {
  return {
    title: `${spec.services} services × ${spec.endpoints} endpoints`,
    records: [],
    cluster: () => syntheticCluster(spec),
    atSize: (endpoints) =>
      syntheticCluster({
        ...spec,
        services: Math.max(1, Math.round(endpoints / Math.max(1, spec.endpoints))),
      }),
  };
}

function parseSynthetic(word: string): SyntheticSpec {
  const limits: Record<keyof SyntheticSpec, readonly [number, number]> = {
    services: [1, SERVICES_MAX],
    endpoints: [0, ENDPOINTS_MAX],
    podsPerNode: [1, 10_000],
    nodes: [0, 30_000],
    udpEvery: [0, SERVICES_MAX],
  };
  const spec: Record<string, number> = { ...SYNTHETIC_DEFAULTS };
  for (const part of word.slice(SYNTHETIC.length).split(',').filter(Boolean)) {
    const [name, text, ...rest] = part.split('=');
    const range = Object.hasOwn(limits, name!) ? limits[name as keyof SyntheticSpec] : undefined;
    if (range === undefined || text === undefined || rest.length > 0) {
      throw new UsageError(`${word}: ${part} is none of ${Object.keys(limits).join('=, ')}=`);
    }
    const value = wholeNumber(text);
    if (!Number.isSafeInteger(value) || value < range[0] || value > range[1]) {
      throw new UsageError(
        `${word}: ${name} is ${text}; wanted a whole number from ${range[0]} to ${range[1]}`,
      );
    }
    spec[name!] = value;
  }
  const total = spec['services']! * spec['endpoints']!;
  if (total > ENDPOINTS_MAX) {
    throw new UsageError(`${word}: ${total} endpoints in all; the limit is ${ENDPOINTS_MAX}`);
  }
  return spec as unknown as SyntheticSpec;
}

/** `250000`, `10k`, `1.5M`; NaN for anything else. */
function wholeNumber(text: string): number {
  if (!/^\d+(\.\d+)?[kM]?$/.test(text)) return NaN;
  const unit = text.endsWith('k') ? 1_000 : text.endsWith('M') ? 1_000_000 : 1;
  return Number(unit === 1 ? text : text.slice(0, -1)) * unit;
}
