import { Environment, Resource, type Event, type ProcessSteps } from '@vipsim/sim-core';

/** The pipeline written as processes. */

/** What the processes of a pipeline share. */
interface Work {
  readonly env: Environment;
  readonly gaps: Float64Array;
  readonly services: Float64Array;
  readonly mask: number;
  readonly packets: number;
  readonly wireNs: number;
  readonly spent: Float64Array;
}

function newWork(gaps: Float64Array, services: Float64Array, packets: number, wireNs: number): Work {
  const spent = new Float64Array(1);
  return { env: new Environment(), gaps, services, mask: gaps.length - 1, packets, wireNs, spent };
}

/** As one would write it: a process for each packet, which asks for the server, is served, and leaves. */
export function packetProcessLine(
  gaps: Float64Array,
  services: Float64Array,
  packets: number,
  wireNs: number,
): () => number {
  const work = newWork(gaps, services, packets, wireNs);
  const server = new Resource(work.env, { capacity: 1 });
  return () => {
    work.env.process(packetSource(work, server), 'source');
    work.env.run();
    return work.spent[0]!;
  };
}

function* packetSource(work: Work, server: Resource): ProcessSteps {
  for (let number = 0; number < work.packets; number++) {
    yield work.gaps[number & work.mask]!;
    work.env.process(packet(work, server, number), 'packet');
  }
}

function* packet(work: Work, server: Resource, number: number): ProcessSteps {
  if (work.wireNs > 0) yield work.wireNs;
  const arrivedNs = work.env.nowNs;
  const request = server.request();
  yield* request;
  yield work.services[number & work.mask]!;
  request.leave();
  work.spent[0]! += work.env.nowNs - arrivedNs;
}

/** Packets that may wait at once; a power of two. */
const ROOM = 65_536;

/** Packets in a ring, and the event that ends the wait of an idle server. */
class Waiting {
  readonly arrivedNs = new Float64Array(ROOM);
  readonly env: Environment;
  arrived = 0;
  work: Event | undefined = undefined;

  constructor(env: Environment) {
    this.env = env;
  }

  arrive(): void {
    this.arrivedNs[this.arrived++ & (ROOM - 1)] = this.env.nowNs;
    this.work?.succeed();
    this.work = undefined;
  }
}

/** Two processes, source and server; the packets are numbers in a ring, and events while they are on the wire. */
export function serverProcessLine(
  gaps: Float64Array,
  services: Float64Array,
  packets: number,
  wireNs: number,
): () => number {
  const work = newWork(gaps, services, packets, wireNs);
  const waiting = new Waiting(work.env);
  return () => {
    work.env.process(ringSource(work, waiting), 'source');
    work.env.process(ringServer(work, waiting), 'server');
    work.env.run();
    return work.spent[0]!;
  };
}

function* ringSource(work: Work, waiting: Waiting): ProcessSteps {
  const { gaps, mask, packets, wireNs } = work;
  const { simulation } = work.env;
  const arrive = simulation.on(() => waiting.arrive());
  for (let sent = 0; sent < packets; sent++) {
    yield gaps[sent & mask]!;
    if (wireNs === 0) waiting.arrive();
    else simulation.post(wireNs, arrive);
  }
}

function* ringServer(work: Work, waiting: Waiting): ProcessSteps {
  const { env, services, mask, packets, spent } = work;
  for (let served = 0; served < packets; served++) {
    if (served === waiting.arrived) {
      waiting.work = env.event();
      yield* waiting.work;
    }
    yield services[served & mask]!;
    spent[0]! += env.nowNs - waiting.arrivedNs[served & (ROOM - 1)]!;
  }
}
