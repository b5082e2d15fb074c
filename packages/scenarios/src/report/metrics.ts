import type { Unit } from './format.ts';
import type { Distribution, ModeResult, ResultDocument } from './result.ts';

/** One figure of a mode. Every report shows this list and nothing else, so that none of them says less. */
export interface Metric {
  /** Column of the CSV, with its unit. */
  readonly id: string;
  readonly group: string;
  readonly label: string;
  readonly unit: Unit;
  /** Which end is the better one; `neutral` figures are never marked. */
  readonly better: 'lower' | 'higher' | 'neutral';
  /** Worth following from size to size. */
  readonly grows: boolean;
  /** Read from a mode's results; undefined where there is nothing to read. */
  readonly of: (mode: ModeResult) => number | undefined;
}

/** How many operations of each mode are listed: the most frequent ones of a first packet. */
const MAIN_OPERATIONS = 3;

/** All metrics of a document, in the order of the reports. */
export function metricsOf(result: ResultDocument): readonly Metric[] {
  const counted = mainOperations(result).map((name) => operationMetric(name));
  return [...TABLES, ...FIRST_PACKET, ...counted, ...PACKETS_AND_CPU, ...REACTION, ...CONNECTIONS];
}

type Options = Partial<Pick<Metric, 'better' | 'grows'>>;

function metric(place: string, id: string, unit: Unit, of: Metric['of'], options: Options = {}): Metric {
  const [group, label] = place.split(': ') as [string, string];
  return { id, group, label, unit, of, better: 'neutral', grows: false, ...options };
}

const LOWER: Options = { better: 'lower' };
const HIGHER: Options = { better: 'higher' };
const LOWER_GROWING: Options = { better: 'lower', grows: true };

/** A figure of a distribution; none where nothing was recorded. */
function quantile(
  of: (mode: ModeResult) => Distribution,
  figure: 'mean' | 'p50' | 'p90' | 'p99' | 'max',
): Metric['of'] {
  return (mode) => (of(mode).count === 0 ? undefined : of(mode)[figure]);
}

const first = (mode: ModeResult): Distribution => mode.lookup.first;
const established = (mode: ModeResult): Distribution => mode.lookup.established;
const connect = (mode: ModeResult): Distribution => mode.connectLatency;
const full = (mode: ModeResult): Distribution => mode.sync.full.duration;
const partial = (mode: ModeResult): Distribution => mode.sync.partial.duration;
const programming = (mode: ModeResult): Distribution => mode.programmingLatency;

const TABLES: readonly Metric[] = [
  metric('Tables: entries', 'table_entries', 'count', (mode) => {
    return mode.tables.reduce((sum, table) => sum + table.entries, 0);
  }),
  metric('Tables: memory', 'memory_bytes', 'bytes', (mode) => mode.memoryBytes, LOWER_GROWING),
];

const FIRST_PACKET: readonly Metric[] = [
  metric('First packet: mean', 'first_packet_ns_mean', 'ns', quantile(first, 'mean'), LOWER_GROWING),
  metric('First packet: p50', 'first_packet_ns_p50', 'ns', quantile(first, 'p50'), LOWER),
  metric('First packet: p99', 'first_packet_ns_p99', 'ns', quantile(first, 'p99'), LOWER_GROWING),
  metric('First packet: max', 'first_packet_ns_max', 'ns', quantile(first, 'max'), LOWER),
];

/** The name goes into the column's name as it is: it names the operation, and the column starts with our word. */
function operationMetric(name: string): Metric {
  const of: Metric['of'] = (mode) =>
    mode.lookup.operations.find((operation) => operation.name === name)?.first;
  return {
    ...metric('Counted per first packet: ', `first_packet_count_mean:${name}`, 'count', of),
    label: name,
  };
}

const PACKETS_AND_CPU: readonly Metric[] = [
  metric(
    'Established packet: mean',
    'established_packet_ns_mean',
    'ns',
    quantile(established, 'mean'),
    LOWER_GROWING,
  ),
  metric('Established packet: p99', 'established_packet_ns_p99', 'ns', quantile(established, 'p99'), LOWER),
  metric('Connect latency: p50', 'connect_latency_ns_p50', 'ns', quantile(connect, 'p50'), LOWER),
  metric('Connect latency: p99', 'connect_latency_ns_p99', 'ns', quantile(connect, 'p99'), LOWER_GROWING),
  metric('CPU: dataplane, cores', 'cpu_dataplane_cores', 'cores', (m) => m.cpu.dataplaneCores, LOWER_GROWING),
  metric('CPU: rest of the stack, cores', 'cpu_stack_cores', 'cores', (m) => m.cpu.stackCores),
  metric('CPU: syncs, cores', 'cpu_control_cores', 'cores', (m) => m.cpu.controlCores, LOWER_GROWING),
  metric(
    'CPU: dataplane, per connection',
    'cpu_dataplane_ns_per_connection',
    'ns',
    (m) => m.cpu.dataplaneNsPerConnection,
    LOWER,
  ),
  metric('Throughput: offered, connections', 'offered_connections_per_second', 'per-second', (m) => {
    return m.throughput.connectionsPerSecond;
  }),
  metric('Throughput: offered, packets', 'offered_packets_per_second', 'per-second', (m) => {
    return m.throughput.packetsPerSecond;
  }),
  metric('Throughput: busiest core', 'busiest_core_share', 'share', (m) => m.throughput.busiestCore, LOWER),
  metric(
    'Throughput: saturation, connections',
    'saturation_connections_per_second',
    'per-second',
    // Zero where no core was ever busy: there is nothing to reckon from.
    (m) => m.throughput.saturationConnectionsPerSecond || undefined,
    { better: 'higher', grows: true },
  ),
];

const REACTION: readonly Metric[] = [
  metric('Sync: initial', 'sync_initial_ns', 'ns', (m) => m.sync.initialNs, LOWER_GROWING),
  metric('Sync: full, count', 'sync_full_count', 'count', (m) => m.sync.full.count),
  metric('Sync: full, mean', 'sync_full_ns_mean', 'ns', quantile(full, 'mean'), LOWER_GROWING),
  metric('Sync: partial, count', 'sync_partial_count', 'count', (m) => m.sync.partial.count),
  metric('Sync: partial, mean', 'sync_partial_ns_mean', 'ns', quantile(partial, 'mean'), LOWER_GROWING),
  metric('Sync: failures', 'sync_failures', 'count', (m) => m.sync.failures, LOWER),
  metric('Programming latency: p50', 'programming_latency_ns_p50', 'ns', quantile(programming, 'p50'), LOWER),
  metric('Programming latency: p90', 'programming_latency_ns_p90', 'ns', quantile(programming, 'p90'), LOWER),
  metric(
    'Programming latency: p99',
    'programming_latency_ns_p99',
    'ns',
    quantile(programming, 'p99'),
    LOWER_GROWING,
  ),
];

const CONNECTIONS: readonly Metric[] = [
  metric('Connections: attempted', 'connections_attempted', 'count', (m) => m.connections.attempted),
  metric('Connections: ok', 'connections_ok', 'count', (m) => m.connections.ok, HIGHER),
  metric('Connections: refused', 'connections_refused', 'count', (m) => m.connections.refused, LOWER),
  metric('Connections: timed out', 'connections_timed_out', 'count', (m) => m.connections.timedOut, LOWER),
  metric('Connections: broken', 'connections_broken', 'count', (m) => m.connections.broken, LOWER),
  metric('Connections: unfinished', 'connections_unfinished', 'count', (m) => m.connections.unfinished),
  metric(
    'Connections: sent to a dead endpoint',
    'connections_sent_to_dead_endpoint',
    'count',
    (m) => {
      return m.connections.sentToDeadEndpoint;
    },
    LOWER,
  ),
  metric('Conntrack: peak', 'conntrack_peak', 'count', (m) => m.conntrack.peak),
  metric('Conntrack: inserts', 'conntrack_inserts', 'count', (m) => m.conntrack.inserts),
  metric('Conntrack: drops', 'conntrack_drops', 'count', (m) => m.conntrack.drops, LOWER),
  metric('Conntrack: early drops', 'conntrack_early_drops', 'count', (m) => m.conntrack.earlyDrops, LOWER),
  metric(
    'Conntrack: ports exhausted',
    'conntrack_port_exhaustions',
    'count',
    (m) => {
      return m.conntrack.portExhaustions;
    },
    LOWER,
  ),
  metric('Balance: endpoints', 'balance_endpoints', 'count', (m) => m.balance.endpoints),
  metric('Balance: connections', 'balance_connections', 'count', (m) => m.balance.connections),
  metric('Balance: max over mean', 'balance_max_over_mean', 'ratio', (m) => m.balance.maxOverMean, LOWER),
  metric(
    'Balance: coefficient of variation',
    'balance_coefficient_of_variation',
    'ratio',
    (m) => {
      return m.balance.coefficientOfVariation;
    },
    LOWER,
  ),
];

/** The most frequent operations of each mode, shared ones once, in the order in which modes name them. */
function mainOperations(result: ResultDocument): readonly string[] {
  const chosen = new Set<string>();
  for (const size of result.sizes) {
    for (const mode of size.modes) {
      if (mode.outcome.kind === 'failed') continue;
      const counted = mode.lookup.operations.filter((operation) => operation.first > 0);
      const main = counted.toSorted((a, b) => b.first - a.first).slice(0, MAIN_OPERATIONS);
      for (const operation of counted) if (main.includes(operation)) chosen.add(operation.name);
    }
  }
  return [...chosen];
}
