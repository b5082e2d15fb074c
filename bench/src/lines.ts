import { HeapEventQueue, Simulation } from '@vipsim/sim-core';
import { packetProcessLine, serverProcessLine } from './process-lines.ts';
import { simjsLine, simscriptLine } from './rival-lines.ts';

/**
 * A packet pipeline, M/M/1: a source, a queue, a server, a sink. Two events a packet (arrival, departure), few pending:
 * what is measured is the way of an event through the simulator. Gaps and service times are drawn beforehand,
 * `gaps[i]` and `services[i]` of packet i, repeating. The result is the time that all packets spent, ns, which is
 * equal in all ways to write it.
 */
export interface Line {
  readonly name: string;
  readonly note?: string;
  /** Packets at most: some are too slow for more. */
  readonly packetsMax?: number;
  readonly prepare: (
    gaps: Float64Array,
    services: Float64Array,
    packets: number,
  ) => () => number | Promise<number>;
}

export const LINES: readonly Line[] = [
  {
    name: 'vipsim',
    note: 'kinds of event, default queue',
    prepare: (gaps, services, packets) => kindLine(new Simulation(), gaps, services, packets),
  },
  { name: 'vipsim closures', note: '`schedule` with a function for each event', prepare: closureLine },
  {
    name: 'vipsim HeapEventQueue',
    note: 'kinds of event, reference queue',
    prepare: (gaps, services, packets) =>
      kindLine(new Simulation({ queue: new HeapEventQueue() }), gaps, services, packets),
  },
  { name: 'vipsim processes', note: 'source and server are generators', prepare: serverProcessLine },
  {
    name: 'vipsim packet processes',
    note: 'a generator for each packet, and a Resource',
    prepare: packetProcessLine,
  },
  { name: 'simjs', note: 'timer and facility', packetsMax: 500_000, prepare: simjsLine },
  { name: 'simscript', note: 'entities and a queue', packetsMax: 5_000, prepare: simscriptLine },
];

export function lineNamed(name: string): Line {
  const line = LINES.find((candidate) => candidate.name === name);
  if (line === undefined) throw new RangeError(`no pipeline is named ${name}`);
  return line;
}

/** Packets that may wait at once; a power of two. At a load of 0.8 there are never as many. */
const ROOM = 65_536;

function kindLine(
  simulation: Simulation,
  gaps: Float64Array,
  services: Float64Array,
  packets: number,
): () => number {
  const mask = gaps.length - 1;
  const waiting = new Float64Array(ROOM);
  const spent = new Float64Array(1);
  let sent = 0;
  let delivered = 0;
  const arrive = simulation.on(() => {
    const { nowNs } = simulation;
    waiting[sent & (ROOM - 1)] = nowNs;
    if (sent === delivered) simulation.post(services[delivered & mask]!, depart);
    if (++sent < packets) simulation.post(gaps[sent & mask]!, arrive);
  });
  const depart = simulation.on(() => {
    const { nowNs } = simulation;
    spent[0]! += nowNs - waiting[delivered & (ROOM - 1)]!;
    if (++delivered < sent) simulation.post(services[delivered & mask]!, depart);
  });
  return () => {
    simulation.at(gaps[0]!, arrive);
    simulation.run();
    return spent[0]!;
  };
}

function closureLine(gaps: Float64Array, services: Float64Array, packets: number): () => number {
  const simulation = new Simulation();
  const mask = gaps.length - 1;
  const waiting = new Float64Array(ROOM);
  const spent = new Float64Array(1);
  let sent = 0;
  let delivered = 0;
  function arrive(packet: number): void {
    waiting[packet & (ROOM - 1)] = simulation.nowNs;
    sent = packet + 1;
    if (packet === delivered) simulation.schedule(services[packet & mask]!, () => depart(packet));
    if (sent < packets) simulation.schedule(gaps[sent & mask]!, () => arrive(packet + 1));
  }
  function depart(packet: number): void {
    spent[0]! += simulation.nowNs - waiting[packet & (ROOM - 1)]!;
    delivered = packet + 1;
    if (delivered < sent) simulation.schedule(services[delivered & mask]!, () => depart(packet + 1));
  }
  return () => {
    simulation.schedule(gaps[0]!, () => arrive(0));
    simulation.run();
    return spent[0]!;
  };
}
