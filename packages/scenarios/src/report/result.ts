import { z } from 'zod';

/**
 * The result document: everything that every report shows comes from here, and what is not here is not shown.
 * Times are integer nanoseconds of virtual time unless the name says otherwise; sizes are bytes. Canonical JSON
 * of all but `digest`, `command` and `environment` gives the digest.
 */

const count = z.number().int().nonnegative();
const ns = z.number().nonnegative();

export const DistributionSchema = z.strictObject({
  count,
  mean: z.number(),
  min: z.number(),
  p50: z.number(),
  p90: z.number(),
  p99: z.number(),
  max: z.number(),
  /** Histogram buckets [highest value, count]; quantiles are bucket upper ends, at most 0.8 % above the truth. */
  buckets: z.array(z.tuple([z.number(), count])),
});
export type Distribution = z.infer<typeof DistributionSchema>;

export const ModeResultSchema = z.strictObject({
  /** Word of --modes. */
  mode: z.string(),
  /** For people: `iptables (nft backend)`. */
  title: z.string(),
  options: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  /** `failed`: the tables could not be programmed at the start; all else describes a node without them. */
  outcome: z.discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('ok') }),
    z.strictObject({ kind: z.literal('failed'), error: z.string(), message: z.string() }),
  ]),
  /** What a reader must know about this mode at this size: limits near or passed, assumptions. */
  notes: z.array(z.string()),
  tables: z.array(z.strictObject({ name: z.string(), entries: count, bytes: z.number() })),
  /** Kernel memory of the tables on one node. */
  memoryBytes: z.number(),
  lookup: z.strictObject({
    /** Dataplane work of packets that open a flow, ns. */
    first: DistributionSchema,
    /** Dataplane work of all later packets, ns. */
    established: DistributionSchema,
    /** Operations counted, mean per first packet and per established packet. */
    operations: z.array(z.strictObject({ name: z.string(), first: z.number(), established: z.number() })),
  }),
  /** From the client's first SYN to the answer, ns; queueing, network and retransmissions included. */
  connectLatency: DistributionSchema,
  cpu: z.strictObject({
    /** Cores kept busy by Service handling of packets. */
    dataplaneCores: z.number(),
    /** Cores kept busy by the rest of the network stack, the same in every mode. */
    stackCores: z.number(),
    /** Cores kept busy by syncs, the initial one left out. */
    controlCores: z.number(),
    /** Dataplane work of one connection, ns. */
    dataplaneNsPerConnection: ns,
  }),
  throughput: z.strictObject({
    /** Offered in this run, on one node. */
    connectionsPerSecond: z.number(),
    packetsPerSecond: z.number(),
    /** Where the busiest core of this node reaches 100 %. */
    saturationConnectionsPerSecond: z.number(),
    busiestCore: z.number(),
  }),
  sync: z.strictObject({
    initialNs: ns,
    full: z.strictObject({ count, duration: DistributionSchema }),
    partial: z.strictObject({ count, duration: DistributionSchema }),
    failures: count,
    /** The last failure's words, empty without one. */
    lastFailure: z.string(),
    operations: z.array(z.strictObject({ name: z.string(), total: z.number() })),
  }),
  /** From the change of a pod to the tables in force on this node, ns, one sample per change of an endpoint. */
  programmingLatency: DistributionSchema,
  connections: z.strictObject({
    attempted: count,
    ok: count,
    refused: count,
    timedOut: count,
    /** Broke after they had been established. */
    broken: count,
    /** Still open when the run ended. */
    unfinished: count,
    /** Connections whose service sent them to an endpoint that was gone or not listening. */
    sentToDeadEndpoint: count,
  }),
  conntrack: z.strictObject({
    peak: count,
    inserts: count,
    drops: count,
    earlyDrops: count,
    portExhaustions: count,
  }),
  /** How evenly the busiest Service's connections fell on its endpoints. */
  balance: z.strictObject({
    service: z.string(),
    endpoints: count,
    connections: count,
    maxOverMean: z.number(),
    coefficientOfVariation: z.number(),
  }),
  /** One row per second of virtual time. */
  timeline: z.array(
    z.strictObject({ atNs: ns, attempted: count, failed: count, endpointChanges: count, syncs: count }),
  ),
});
export type ModeResult = z.infer<typeof ModeResultSchema>;

export const SizeResultSchema = z.strictObject({
  label: z.string(),
  nodes: count,
  services: count,
  servicePorts: count,
  endpoints: count,
  endpointChanges: count,
  modes: z.array(ModeResultSchema),
});
export type SizeResult = z.infer<typeof SizeResultSchema>;

export const ResultSchema = z.strictObject({
  schema: z.literal('vipsim.result/1'),
  /** SHA-256 of the canonical rest. */
  digest: z.string(),
  tool: z.strictObject({ name: z.literal('vipsim'), version: z.string() }),
  /** Repeats the run. */
  command: z.string(),
  title: z.string(),
  /** In full, after defaults. */
  scenario: z.record(z.string(), z.unknown()),
  inputs: z.array(z.strictObject({ name: z.string(), bytes: count, sha256: z.string() })),
  profile: z.strictObject({
    name: z.string(),
    title: z.string(),
    machine: z.string(),
    kernel: z.string(),
    date: z.string(),
    spread: z.string(),
    digest: z.string(),
    prices: z.array(
      z.strictObject({
        operation: z.string(),
        ns: z.union([z.number(), z.array(z.tuple([z.number(), z.number()]))]),
        kind: z.enum(['measured', 'published', 'estimate']),
        source: z.string(),
      }),
    ),
  }),
  notes: z.array(z.string()),
  sizes: z.array(SizeResultSchema),
  /** Facts of this execution, outside the digest. */
  environment: z.strictObject({
    runtime: z.string(),
    platform: z.string(),
    wallMs: z.number(),
    peakMemoryBytes: z.number(),
  }),
});
export type ResultDocument = z.infer<typeof ResultSchema>;
