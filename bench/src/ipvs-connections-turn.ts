import { TCP } from '@vipsim/sim-core';
import { ConnectionTimers } from '../../packages/proxiers/src/ipvs/connection-timers.ts';
import { Connections } from '../../packages/proxiers/src/ipvs/connections.ts';
import { Jiffies } from '../../packages/proxiers/src/ipvs/timer-wheel.ts';
import type { TurnResult } from './turn.ts';

/** Look connections up in a full table, in a process of its own. */
export interface ConnectionsRequest {
  readonly bench: 'ipvs-connections';
  /** The table with 2^bits chains, or a Map from client address and port. */
  readonly bits: number | 'map';
  /** A power of two. */
  readonly entries: number;
  /** Another power of two: so many of the entries, scattered among all, are looked up. */
  readonly asked: number;
  readonly lookups: number;
}

const VIP = 0x0a60000a;
const PORT = 80;
const SEED = 0x5eed;
const GOLDEN = 0x9e3779b1;
/** Of ports in the key of the Map, which stays a whole number below 2^53. */
const PORTS = 0x10000;
/** Connections of each client address, from port 32768 on. */
const PORTS_EACH = 16;

/**
 * ns per lookup; bytes held for each entry, its timer included. The result is the sum of the rows found, which is
 * the same for the table and for the Map.
 */
export function takeConnectionsTurn(request: ConnectionsRequest): TurnResult {
  const { bits, entries, asked, lookups } = request;
  const before = bytesHeld();
  const look = bits === 'map' ? fillMap(entries) : fillTable(bits, entries);
  const bytes = (bytesHeld() - before) / entries;
  const stride = entries / asked;
  const run = (times: number): number => {
    let sum = 0;
    for (let i = 0; i < times; i++) {
      const entry = ((Math.imul(i, GOLDEN) >>> 0) % asked) * stride;
      sum += look(clientOf(entry), portOf(entry));
    }
    return sum;
  };
  run(lookups);
  const start = process.hrtime.bigint();
  const result = run(lookups);
  return { ns: Number(process.hrtime.bigint() - start) / lookups, bytes, result };
}

/** Chain entries that such lookups compare, by the way. */
export function probesPerLookup(entries: number, bits: number, asked: number): number {
  const { table } = tableOf(bits, entries);
  for (let i = 0; i < asked; i++) {
    const entry = i * (entries / asked);
    table.findIn(clientOf(entry), portOf(entry), VIP, PORT, TCP);
  }
  return table.probes / asked;
}

type Look = (client: number, port: number) => number;

function fillTable(bits: number, entries: number): Look {
  const { table, timers } = tableOf(bits, entries);
  // Kept as long as the table is.
  return (client, port) => (timers === undefined ? -1 : table.findIn(client, port, VIP, PORT, TCP));
}

function tableOf(bits: number, entries: number): { table: Connections; timers: ConnectionTimers } {
  const table = new Connections(bits, SEED);
  const timers = new ConnectionTimers(table, new Jiffies(250));
  for (let i = 0; i < entries; i++) {
    const at = table.add(clientOf(i), portOf(i), VIP, PORT, TCP);
    table.server[at] = 0;
    table.timeout[at] = 900 * 250;
    timers.start(at, i);
  }
  return { table, timers };
}

function fillMap(entries: number): Look {
  const map = new Map<number, number>();
  for (let i = 0; i < entries; i++) map.set(clientOf(i) * PORTS + portOf(i), i);
  return (client, port) => map.get(client * PORTS + port) ?? -1;
}

function clientOf(entry: number): number {
  return 0x0a000000 + Math.floor(entry / PORTS_EACH);
}

function portOf(entry: number): number {
  return 32_768 + (entry % PORTS_EACH);
}

/** On the heap and outside of it, typed arrays included. */
function bytesHeld(): number {
  globalThis.gc?.();
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
