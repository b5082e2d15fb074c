import { BucketEventQueue, FiredEvent, HeapEventQueue, Simulation } from '@vipsim/sim-core';
import { packetProcessLine, serverProcessLine } from './process-lines.ts';
import { simjsLine, simscriptLine } from './rival-lines.ts';

/**
 * A packet pipeline, M/M/1: a source, a wire, a queue, a server, a sink. Without a wire a packet is two events
 * (arrival, departure) and few are pending: what is measured is the way of an event through the simulator. A wire of
 * `wireNs` makes it three (sending, arrival, departure), with as many pending as are on the wire. Gaps and service
 * times are drawn beforehand, `gaps[i]` and `services[i]` of packet i, repeating. The result is the time that all
 * packets spent in queue and server, ns, which is equal in all ways to write it, whatever the wire.
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
    wireNs: number,
  ) => () => number | Promise<number>;
  /** It is written with a wire, too. */
  readonly wire?: boolean;
}

export const LINES: readonly Line[] = [
  {
    name: 'vipsim',
    note: 'kinds of event, default queue',
    prepare: (...work) => kindLine(new Simulation(), ...work),
    wire: true,
  },
  {
    name: 'vipsim queue, switch',
    note: 'the default queue alone, its events told apart by a switch',
    prepare: switchLine,
    wire: true,
  },
  { name: 'vipsim closures', note: '`schedule` with a function for each event', prepare: closureLine },
  {
    name: 'vipsim HeapEventQueue',
    note: 'kinds of event, reference queue',
    prepare: (...work) => kindLine(new Simulation({ queue: new HeapEventQueue() }), ...work),
    wire: true,
  },
  {
    name: 'vipsim processes',
    note: 'source and server are generators',
    prepare: serverProcessLine,
    wire: true,
  },
  {
    name: 'vipsim packet processes',
    note: 'a generator for each packet, and a Resource',
    prepare: packetProcessLine,
    wire: true,
  },
  { name: 'simjs', note: 'timer and facility', packetsMax: 500_000, prepare: simjsLine, wire: true },
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
  wireNs: number,
): () => number {
  const mask = gaps.length - 1;
  const waiting = new Float64Array(ROOM);
  const spent = new Float64Array(1);
  let sent = 0;
  let arrived = 0;
  let delivered = 0;
  const arrive = simulation.on(() => {
    waiting[arrived & (ROOM - 1)] = simulation.nowNs;
    if (arrived++ === delivered) simulation.post(services[delivered & mask]!, depart);
    if (wireNs === 0 && arrived < packets) simulation.post(gaps[arrived & mask]!, arrive);
  });
  const send = simulation.on(() => {
    simulation.post(wireNs, arrive);
    if (++sent < packets) simulation.post(gaps[sent & mask]!, send);
  });
  const depart = simulation.on(() => {
    spent[0]! += simulation.nowNs - waiting[delivered & (ROOM - 1)]!;
    if (++delivered < arrived) simulation.post(services[delivered & mask]!, depart);
  });
  return () => {
    simulation.at(gaps[0]!, wireNs === 0 ? arrive : send);
    simulation.run();
    return spent[0]!;
  };
}

const SEND = 0;
const ARRIVE = 1;
const DEPART = 2;

function switchLine(
  gaps: Float64Array,
  services: Float64Array,
  packets: number,
  wireNs: number,
): () => number {
  const queue = new BucketEventQueue();
  const event = new FiredEvent();
  const mask = gaps.length - 1;
  const waiting = new Float64Array(ROOM);
  let sent = 0;
  let arrived = 0;
  let delivered = 0;
  let spent = 0;
  const post = (delayNs: number, kind: number): void => {
    queue.dueNs = queue.nowNs + delayNs;
    queue.pushDue(0, kind, 0, 0);
  };
  return () => {
    post(gaps[0]!, wireNs === 0 ? ARRIVE : SEND);
    while (queue.pop(event)) {
      switch (event.kind) {
        case SEND:
          post(wireNs, ARRIVE);
          if (++sent < packets) post(gaps[sent & mask]!, SEND);
          break;
        case ARRIVE:
          waiting[arrived & (ROOM - 1)] = queue.nowNs;
          if (arrived++ === delivered) post(services[delivered & mask]!, DEPART);
          if (wireNs === 0 && arrived < packets) post(gaps[arrived & mask]!, ARRIVE);
          break;
        case DEPART:
          spent += queue.nowNs - waiting[delivered & (ROOM - 1)]!;
          if (++delivered < arrived) post(services[delivered & mask]!, DEPART);
      }
    }
    return spent;
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
