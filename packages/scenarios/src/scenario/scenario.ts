import { z } from 'zod';
import { DEFAULT_MODES, MODES, defaultsOf, type OptionSpec } from '@vipsim/proxiers';
import { formatDuration, parseDuration } from './duration.ts';

/** Written `500ms`, `30s`, `2m`; held in nanoseconds. */
const duration = z.codec(
  z
    .string()
    .refine((text) => parseDuration(text) !== undefined, 'wanted a duration such as 500ms, 30s or 2m'),
  z.number().int().nonnegative(),
  { decode: (text) => parseDuration(text)!, encode: formatDuration },
);

/** Any text; a number is taken as its text. */
const seed = z.codec(z.union([z.string(), z.number()]), z.string(), {
  decode: String,
  encode: (text) => text,
});

const share = z.number().min(0).max(1);

/** Every field with its default and what it means. */
const SHAPE = {
  schema: z.literal('vipsim.scenario/1').default('vipsim.scenario/1').describe('version of this document'),
  seed: seed.prefault('0').describe('same seed, same result'),
  modes: z
    .array(z.enum(MODES.map((mode) => mode.name) as [string, ...string[]]))
    .min(1)
    .default([...DEFAULT_MODES])
    .describe('which modes to run'),
  duration: duration
    .refine((ns) => ns > 0, 'wanted more than 0')
    .prefault('60s')
    .describe('virtual time during which connections arrive'),
  node: z
    .strictObject({
      cores: z.number().int().min(1).max(1024).default(16).describe('cores of the observed node'),
      backlog: z
        .number()
        .int()
        .min(1)
        .max(1_000_000)
        .default(1000)
        .describe('packets that may wait on a core: net.core.netdev_max_backlog'),
    })
    .prefault({}),
  conntrack: z
    .strictObject({
      maxPerCore: z
        .number()
        .int()
        .min(1)
        .max(10_000_000)
        .default(32_768)
        .describe("kube-proxy's conntrack.maxPerCore: nf_conntrack_max is this times the cores"),
      min: z
        .number()
        .int()
        .min(1)
        .max(1_000_000_000)
        .default(131_072)
        .describe("kube-proxy's conntrack.min: nf_conntrack_max is at least this"),
    })
    .prefault({}),
  network: z
    .strictObject({
      delay: duration.prefault('50us').describe('one way between two nodes'),
      localDelay: duration.prefault('5us').describe('one way between two pods of the observed node'),
      outsideDelay: duration
        .prefault('5ms')
        .describe('one way between a client outside and the observed node'),
    })
    .prefault({}),
  workload: z
    .strictObject({
      connectionsPerSecond: z
        .number()
        .positive()
        .max(10_000_000)
        .default(4000)
        .describe('connections that the observed node opens or receives: a Poisson process'),
      zipfExponent: z
        .number()
        .min(0)
        .max(10)
        .default(1)
        .describe('popularity of service ports: rank^-exponent; 0 makes them equal'),
      keepaliveShare: share
        .default(0.1)
        .describe('share of TCP connections that stay open for several requests'),
      keepaliveRequests: z
        .number()
        .int()
        .min(1)
        .max(100_000)
        .default(10)
        .describe('requests of such a connection'),
      thinkTime: duration.prefault('500ms').describe('mean pause between its requests (exponential)'),
      requestPackets: z.number().int().min(1).max(1000).default(1).describe('packets of a request'),
      responsePackets: z.number().int().min(1).max(1000).default(2).describe('packets of a response'),
      serviceTime: duration
        .prefault('1ms')
        .describe('median time a server takes to answer (lognormal, sigma 0.5)'),
      connectTimeout: duration.prefault('5s').describe('patience for the answer to a SYN or a datagram'),
      requestTimeout: duration.prefault('5s').describe('patience for the answer to a request'),
      clients: z.number().int().min(1).max(10_000).default(50).describe('client pods on the observed node'),
      // Without a default: a document that does not set it is the same document as before there was the field.
      sourcePorts: z
        .number()
        .int()
        .min(1)
        .max(28_232)
        .optional()
        .describe(
          'each client goes round so many source ports (all 28232 of Linux if empty): the fewer, the sooner one is used again',
        ),
      outsideShare: share
        .default(1)
        .describe('share of connections to LoadBalancer Services that come from outside the cluster'),
    })
    .prefault({}),
  churn: z
    .strictObject({
      rolloutsPerMinute: z
        .number()
        .min(0)
        .max(100_000)
        .default(6)
        .describe('rolling restarts in the whole cluster'),
      scalingsPerMinute: z
        .number()
        .min(0)
        .max(100_000)
        .default(6)
        .describe('workloads that grow or shrink by a quarter'),
      crashesPerMinute: z
        .number()
        .min(0)
        .max(100_000)
        .default(6)
        .describe('pods whose process dies and comes back'),
      podStartTime: duration.prefault('2s').describe('median from creation to ready (lognormal, sigma 0.5)'),
    })
    .prefault({}),
  controlPlane: z
    .strictObject({
      statusDelay: duration
        .prefault('100ms')
        .describe('median from a change of readiness to the API server (lognormal, sigma 0.5)'),
      controllerDelay: duration
        .prefault('20ms')
        .describe('median until the EndpointSlice controller has written'),
      watchDelay: duration.prefault('20ms').describe('median from the API server to the observed node'),
      endpointsPerSlice: z.number().int().min(1).max(1000).default(100).describe('--max-endpoints-per-slice'),
      shutdownDelay: duration
        .prefault('0s')
        .describe('from the signal to stop until a pod accepts no more connections (preStop)'),
      terminationTime: duration.prefault('2s').describe('from then until its process is gone'),
    })
    .prefault({}),
};

const OPTIONS = Object.fromEntries(
  MODES.map((mode) => [
    mode.name,
    z
      .strictObject(
        Object.fromEntries(Object.entries(mode.options).map(([name, spec]) => [name, fieldOf(spec)])),
      )
      .prefault({}),
  ]),
);

/** The scenario document: all that shapes a run, besides the cluster. */
export const ScenarioSchema = z.strictObject({ ...SHAPE, ...OPTIONS });
type Decoded = z.output<z.ZodObject<typeof SHAPE>>;

/** A scenario with every default filled in. Sections named after modes hold their options. */
export type Scenario = { readonly [Field in keyof Decoded]: Decoded[Field] };

/** The options of one mode, complete. */
export function modeOptions(
  scenario: Scenario,
  mode: string,
): Readonly<Record<string, string | number | boolean>> {
  const section = (scenario as unknown as Record<string, Record<string, string | number | boolean>>)[mode];
  return section ?? defaultsOf(MODES.find(({ name }) => name === mode)!.options);
}

export class ScenarioError extends Error {
  override name = 'ScenarioError';
}

/**
 * Fill in a scenario document.
 * @throws ScenarioError naming each wrong field and what was wanted.
 */
export function resolveScenario(document: unknown): Scenario {
  const parsed = ScenarioSchema.safeParse(document);
  if (parsed.success) return parsed.data as unknown as Scenario;
  const problems = parsed.error.issues.map((issue) => {
    const path = issue.path.join('.');
    if (issue.code !== 'unrecognized_keys') return `${path || 'scenario'}: ${issue.message}`;
    return issue.keys.map((key) => unknownField([...issue.path, key].join('.'))).join('\n');
  });
  throw new ScenarioError(problems.join('\n'));
}

/** The document that resolves to this scenario: durations as text. */
export function scenarioDocument(scenario: Scenario): Record<string, unknown> {
  return z.encode(ScenarioSchema, scenario as never) as Record<string, unknown>;
}

export interface ScenarioField {
  /** What --set takes: `workload.zipfExponent`. */
  readonly path: string;
  readonly default: string;
  readonly about: string;
}

/** Every field that a scenario may set. */
export function scenarioFields(): ScenarioField[] {
  const fields: ScenarioField[] = [];
  const walk = (schema: z.ZodType, value: unknown, path: string): void => {
    const inner = schema instanceof z.ZodPrefault ? (schema.unwrap() as z.ZodType) : schema;
    if (inner instanceof z.ZodObject) {
      for (const [key, field] of Object.entries(inner.shape)) {
        const inside = (value as Record<string, unknown>)[key];
        walk(field as z.ZodType, inside, path === '' ? key : `${path}.${key}`);
      }
    } else {
      fields.push({
        path,
        default: value === undefined ? '' : String(value),
        about: schema.description ?? '',
      });
    }
  };
  walk(ScenarioSchema, scenarioDocument(resolveScenario({})), '');
  return fields;
}

function unknownField(path: string): string {
  const near = scenarioFields()
    .map((field) => ({ name: field.path, distance: editDistance(field.path, path) }))
    .sort((x, y) => x.distance - y.distance)[0]!;
  const hint = near.distance <= 4 ? `; did you mean ${near.name}?` : '; vipsim fields lists all';
  return `${path}: no such field${hint}`;
}

function editDistance(x: string, y: string): number {
  let row = Array.from({ length: y.length + 1 }, (_, j) => j);
  for (let i = 1; i <= x.length; i++) {
    const next = [i];
    for (let j = 1; j <= y.length; j++) {
      const substitute = row[j - 1]! + (x[i - 1] === y[j - 1] ? 0 : 1);
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, substitute));
    }
    row = next;
  }
  return row[y.length]!;
}

function fieldOf(spec: OptionSpec): z.ZodType {
  switch (spec.kind) {
    case 'choice':
      return z
        .enum(spec.choices as [string, ...string[]])
        .default(spec.default)
        .describe(`${spec.about} (${spec.choices.join(', ')})`);
    case 'boolean':
      return z.boolean().default(spec.default).describe(spec.about);
    case 'integer':
      return z.number().int().min(spec.min).max(spec.max).default(spec.default).describe(spec.about);
    case 'text':
      return z
        .string()
        .check((context) => {
          const wanted = spec.wanted(context.value);
          if (wanted !== '') context.issues.push({ code: 'custom', message: wanted, input: context.value });
        })
        .default(spec.default)
        .describe(spec.about);
    case 'duration':
      return duration.prefault(formatDuration(spec.default)).describe(spec.about);
  }
}
