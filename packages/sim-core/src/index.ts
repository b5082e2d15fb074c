// Columns.
export * from './columns/longer.ts';
// Time and order.
export * from './engine/event-queue.ts';
export * from './engine/bucket-event-queue.ts';
export * from './engine/simulation.ts';
// Processes, for scripts and teaching.
export * from './process/index.ts';
// Chance: named streams, portable distributions and functions.
export * from './random/streams.ts';
export * from './random/portable.ts';
export * from './random/distributions.ts';
// Addresses, packets, hosts, links.
export * from './net/address.ts';
export * from './net/address-family.ts';
export { formatIpv6, parseIpv6, type Ipv6 } from './net/ipv6.ts';
export * from './net/packet.ts';
export * from './net/jhash.ts';
export * from './net/host.ts';
export * from './net/link.ts';
// Connection tracking.
export * from './conntrack/table.ts';
export { TCP_STATE_NAMES, TCP_TIMEOUTS_S } from './conntrack/tcp-states.ts';
// What a run observed.
export * from './stats/histogram.ts';
export * from './stats/time-weighted.ts';
export * from './stats/tally.ts';
export {
  DEFAULT_LEVEL,
  batchMeans,
  pairedDifference,
  replications,
  type Interval,
} from './stats/interval.ts';
export * from './stats/quantile-interval.ts';
export * from './stats/student-t.ts';
export * from './stats/warm-up.ts';
// Looking inside: event log, Perfetto traces, captures, banner.
export * from './trace/index.ts';
