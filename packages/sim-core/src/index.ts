// Columns.
export * from './columns/longer.ts';
// Time and order.
export * from './engine/event-queue.ts';
export * from './engine/simulation.ts';
// Chance: named streams, portable distributions and functions.
export * from './random/streams.ts';
export * from './random/portable.ts';
export * from './random/distributions.ts';
// Addresses, packets, hosts, links.
export * from './net/address.ts';
export * from './net/packet.ts';
export * from './net/jhash.ts';
export * from './net/host.ts';
export * from './net/link.ts';
// Connection tracking.
export * from './conntrack/table.ts';
export { TCP_STATE_NAMES, TCP_TIMEOUTS_S } from './conntrack/tcp-states.ts';
// What a run observed.
export * from './stats/histogram.ts';
