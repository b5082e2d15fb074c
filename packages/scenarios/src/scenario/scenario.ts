import { z } from 'zod';
import { MODES, defaultsOf, type OptionSpec } from '@vipsim/proxiers';
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

/** Every field with its default and what it means; units are nanoseconds where a duration is written. */
const SHAPE = {
  schema: z.literal('vipsim.scenario/1').default('vipsim.scenario/1'),
  /** Same seed, same result. */
  seed: seed.prefault('0'),
  modes: z
    .array(z.enum(MODES.map((mode) => mode.name) as [string, ...string[]]))
    .min(1)
    .default(MODES.map((mode) => mode.name)),
  /** Virtual time during which connections arrive. */
  duration: duration.prefault('60s').refine((ns) => ns > 0, 'wanted more than 0'),
  /** The observed node. */
  node: z
    .strictObject({
      cores: z.number().int().min(1).max(1024).default(16),
      /** net.core.netdev_max_backlog, packets a core. */
      backlog: z.number().int().min(1).max(1_000_000).default(1000),
    })
    .prefault({}),
  /** kube-proxy's conntrack settings; 0 leaves what kube-proxy would set. */
  conntrack: z
    .strictObject({
      maxPerCore: z.number().int().min(1).max(10_000_000).default(32_768),
      min: z.number().int().min(1).max(1_000_000_000).default(131_072),
    })
    .prefault({}),
  network: z
    .strictObject({
      /** One way between two nodes. */
      delay: duration.prefault('50us'),
      /** One way between two pods of the observed node. */
      localDelay: duration.prefault('5us'),
      /** One way between a client outside and the observed node. */
      outsideDelay: duration.prefault('5ms'),
    })
    .prefault({}),
  /** Connections that the observed node opens or receives: an open-loop Poisson process. */
  workload: z
    .strictObject({
      connectionsPerSecond: z.number().positive().max(10_000_000).default(4000),
      /** Popularity of service ports: rank^-s; 0 makes them equal. */
      zipfExponent: z.number().min(0).max(10).default(1),
      /** Share of TCP connections that stay open for several requests. */
      keepaliveShare: share.default(0.1),
      keepaliveRequests: z.number().int().min(1).max(100_000).default(10),
      /** Mean pause between two requests of a connection. */
      thinkTime: duration.prefault('500ms'),
      requestPackets: z.number().int().min(1).max(1000).default(1),
      responsePackets: z.number().int().min(1).max(1000).default(2),
      /** Median time a server takes to answer (lognormal, sigma 0.5). */
      serviceTime: duration.prefault('1ms'),
      connectTimeout: duration.prefault('5s'),
      requestTimeout: duration.prefault('5s'),
      /** Client pods on the observed node. */
      clients: z.number().int().min(1).max(10_000).default(50),
      /** Share of connections to Services of type LoadBalancer that come from outside the cluster. */
      outsideShare: share.default(1),
    })
    .prefault({}),
  /** What happens to the pods of the whole cluster. */
  churn: z
    .strictObject({
      rolloutsPerMinute: z.number().min(0).max(100_000).default(2),
      scalingsPerMinute: z.number().min(0).max(100_000).default(2),
      crashesPerMinute: z.number().min(0).max(100_000).default(2),
      /** Median from creation to ready (lognormal, sigma 0.5). */
      podStartTime: duration.prefault('2s'),
    })
    .prefault({}),
  /** From a pod to the node's watch; medians of lognormal delays (sigma 0.5). */
  controlPlane: z
    .strictObject({
      /** From a change of readiness to the API server: kubelet. */
      statusDelay: duration.prefault('100ms'),
      /** Until the EndpointSlice controller has written. */
      controllerDelay: duration.prefault('20ms'),
      /** From the API server to the observed node. */
      watchDelay: duration.prefault('20ms'),
      /** --max-endpoints-per-slice. */
      endpointsPerSlice: z.number().int().min(1).max(1000).default(100),
      /** From the signal to stop to the end of accepting connections. */
      shutdownDelay: duration.prefault('0s'),
      /** From then to the exit of the process. */
      terminationTime: duration.prefault('2s'),
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

/** All fields with their defaults, as `path=value` lines: what --set accepts. */
export function scenarioFields(): string[] {
  const lines: string[] = [];
  const walk = (value: unknown, path: string): void => {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      for (const [key, inner] of Object.entries(value)) walk(inner, path === '' ? key : `${path}.${key}`);
    } else {
      lines.push(`${path}=${Array.isArray(value) ? value.join(',') : String(value)}`);
    }
  };
  walk(scenarioDocument(resolveScenario({})), '');
  return lines;
}

function unknownField(path: string): string {
  const known = scenarioFields().map((line) => line.slice(0, line.indexOf('=')));
  const near = known
    .map((name) => ({ name, distance: editDistance(name, path) }))
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
      return z.enum(spec.choices as [string, ...string[]]).default(spec.default);
    case 'boolean':
      return z.boolean().default(spec.default);
    case 'integer':
      return z.number().int().min(spec.min).max(spec.max).default(spec.default);
    case 'duration':
      return duration.prefault(formatDuration(spec.default));
  }
}
