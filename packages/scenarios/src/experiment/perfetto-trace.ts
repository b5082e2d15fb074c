// The trace part of sim-core, until its index exports it.
import {
  perfettoJson,
  runBanner,
  type TraceArgs,
  type TraceEvent,
  type TraceProcess,
} from '@vipsim/sim-core';
import { ACK, FIN, RST, SYN, TCP, formatIpv4 } from '@vipsim/sim-core';
import { DROP, FORWARD, REJECT, servicePortName } from '@vipsim/proxiers';
import { scenarioDocument } from '../scenario/scenario.ts';
import { VERSION } from './document.ts';
import { OBSERVED_NODE } from './node-run.ts';
import { BROKEN, OK, REFUSED, TIMED_OUT } from './observations.ts';
import { NO_ROOM, type PacketLog } from './packet-log.ts';
import { UNFINISHED, type RunTrace } from './run-trace.ts';

const CORES = 1;
const CONTROL = 2;
const CONNECTIONS = 3;

const SYNC_THREAD = 1;
const WATCH_THREAD = 2;

const ENDINGS: Readonly<Record<number, string>> = {
  [OK]: 'ok',
  [REFUSED]: 'refused',
  [TIMED_OUT]: 'timed out',
  [BROKEN]: 'broken',
  [UNFINISHED]: 'unfinished',
};

export const FATES: Readonly<Record<number, string>> = {
  [FORWARD]: 'forwarded',
  [REJECT]: 'rejected',
  [DROP]: 'dropped',
  [NO_ROOM]: 'lost: backlog of its core full',
};

/**
 * A run for ui.perfetto.dev: a track per core with a slice per packet, a track of syncs with their stages, the
 * connections, and what the watch delivered until it was in force.
 */
export function perfettoTrace(trace: RunTrace): Generator<string> {
  return perfettoJson({
    processes: processes(trace),
    events: events(trace),
    facts: { banner: bannerOf(trace).join('\n') },
  });
}

/** What to type to have the same run again, on one line each. */
export function bannerOf(trace: RunTrace): string[] {
  const { seed, ...options } = scenarioDocument(trace.scenario) as Record<string, unknown>;
  return runBanner({
    seed: String(seed),
    version: VERSION,
    options: { ...options, modes: [trace.mode.name] },
  });
}

/** `tcp 10.0.0.1:40000 > 10.96.0.10:80`, as it reached the node or as it left. */
export function tupleText(packets: PacketLog, row: number, after: boolean): string {
  const protocol = packets.protocol[row] === TCP ? 'tcp' : 'udp';
  return after
    ? `${protocol} ${formatIpv4(packets.sourceAfter[row]!)}:${packets.sourcePortAfter[row]!} > ${formatIpv4(packets.destinationAfter[row]!)}:${packets.destinationPortAfter[row]!}`
    : `${protocol} ${formatIpv4(packets.source[row]!)}:${packets.sourcePort[row]!} > ${formatIpv4(packets.destination[row]!)}:${packets.destinationPort[row]!}`;
}

function processes(trace: RunTrace): TraceProcess[] {
  const node = trace.day.cluster.nodes[OBSERVED_NODE]!.name;
  const cores = Array.from({ length: trace.scenario.node.cores }, (_, core) => ({
    id: core + 1,
    name: `core ${core}`,
  }));
  return [
    { id: CORES, name: `${node}: packets (${trace.mode.title})`, threads: cores },
    {
      id: CONTROL,
      name: `${node}: control`,
      threads: [
        { id: SYNC_THREAD, name: 'sync' },
        { id: WATCH_THREAD, name: 'watch' },
      ],
    },
    { id: CONNECTIONS, name: 'connections', threads: [] },
  ];
}

function* events(trace: RunTrace): Generator<TraceEvent> {
  for (let row = 0; row < trace.packets.length; row++) yield packetEvent(trace, row);
  yield* controlEvents(trace);
  yield* connectionEvents(trace);
  yield* openConnections(trace);
}

function packetEvent(trace: RunTrace, row: number): TraceEvent {
  const { packets } = trace;
  const place = { process: CORES, thread: packets.core[row]! + 1 };
  const fate = FATES[packets.fate[row]!]!;
  const args: TraceArgs = {
    packet: tupleText(packets, row, false),
    flags: flagsText(packets.flags[row]!),
    service: servicePortName(trace.day.cluster, trace.servicePort[packets.connection[row]!]!),
    connection: packets.connection[row]!,
    fate,
  };
  if (packets.fate[row] === NO_ROOM)
    return { kind: 'instant', ...place, name: 'lost', atNs: packets.atNs[row]!, args };
  const atNs = packets.doneNs[row]! - packets.costNs[row]!;
  return {
    kind: 'complete',
    ...place,
    name: packets.first[row] === 1 ? 'first' : 'established',
    atNs,
    durationNs: packets.costNs[row]!,
    args: {
      ...args,
      leaves: packets.fate[row] === FORWARD ? tupleText(packets, row, true) : '',
      waitedNs: atNs - packets.atNs[row]!,
      dataplaneNs: packets.dataplaneNs[row]!,
      counts: trace.packetCounts.text(packets.counts[row]!),
    },
  };
}

function* controlEvents(trace: RunTrace): Generator<TraceEvent> {
  const sync = { process: CONTROL, thread: SYNC_THREAD };
  const watch = { process: CONTROL, thread: WATCH_THREAD };
  for (const { atNs, scope, servicePorts, failure, firstStage, stages } of trace.syncs) {
    const last = firstStage + stages - 1;
    const endNs = stages === 0 ? atNs : trace.stageNs[last]! + trace.stageCostNs[last]!;
    const args = { servicePorts, stages, outcome: failure === '' ? 'ok' : failure };
    yield { kind: 'complete', ...sync, name: `${scope} sync`, atNs, durationNs: endNs - atNs, args };
    for (let stage = firstStage; stage <= last; stage++) {
      yield {
        kind: 'complete',
        ...sync,
        name: `stage ${stage - firstStage + 1}`,
        atNs: trace.stageNs[stage]!,
        durationNs: trace.stageCostNs[stage]!,
        args: { counts: trace.stageCounts.text(stage) },
      };
    }
  }
  for (const { atNs, endpoints } of trace.deliveries)
    yield { kind: 'instant', ...watch, name: 'EndpointSlice', atNs, args: { endpoints } };
  for (const [index, { changedNs, inForceNs }] of trace.followed.entries()) {
    const change = {
      ...watch,
      category: 'programming',
      id: index + 1,
      name: 'change until in force',
    };
    yield { kind: 'begin', ...change, atNs: changedNs };
    yield { kind: 'end', ...change, atNs: inForceNs };
  }
}

function* connectionEvents(trace: RunTrace): Generator<TraceEvent> {
  const { cluster } = trace.day;
  for (let connection = 0; connection < trace.connections; connection++) {
    const span = {
      process: CONNECTIONS,
      thread: 0,
      category: 'connection',
      id: connection + 1,
      name: servicePortName(cluster, trace.servicePort[connection]!),
    };
    const ending = trace.ending[connection]!;
    yield { kind: 'begin', ...span, atNs: trace.openedNs[connection]! };
    yield { kind: 'end', ...span, atNs: closedNs(trace, connection), args: { ending: ENDINGS[ending]! } };
  }
}

/** How many of the traced connections are open. */
function* openConnections(trace: RunTrace): Generator<TraceEvent> {
  const closes = Float64Array.from({ length: trace.connections }, (_, row) => closedNs(trace, row)).sort();
  const track = { kind: 'counter', process: CONNECTIONS, thread: 0, name: 'open connections' } as const;
  let opened = 0;
  let closed = 0;
  while (closed < closes.length) {
    const openNs = opened < trace.connections ? trace.openedNs[opened]! : Infinity;
    const atNs = Math.min(openNs, closes[closed]!);
    if (openNs === atNs) opened++;
    else closed++;
    yield { ...track, atNs, args: { open: opened - closed } };
  }
}

function closedNs(trace: RunTrace, connection: number): number {
  return trace.ending[connection] === UNFINISHED ? trace.scenario.duration : trace.closedNs[connection]!;
}

function flagsText(flags: number): string {
  const names = [
    [SYN, 'SYN'],
    [FIN, 'FIN'],
    [RST, 'RST'],
    [ACK, 'ACK'],
  ] as const;
  return names
    .filter(([flag]) => (flags & flag) !== 0)
    .map(([, name]) => name)
    .join(' ');
}
