import { Environment, Resource, type Event, type ProcessSteps } from '@vipsim/sim-core';

/** The pipeline written as processes. */

/** As one would write it: a process for each packet, which asks for the server, is served, and leaves. */
export function packetProcessLine(
  gaps: Float64Array,
  services: Float64Array,
  packets: number,
  wireNs: number,
): () => number {
  const mask = gaps.length - 1;
  const env = new Environment();
  const server = new Resource(env, { capacity: 1 });
  const spent = new Float64Array(1);

  function* packet(number: number): ProcessSteps {
    if (wireNs > 0) yield wireNs;
    const arrivedNs = env.nowNs;
    const request = server.request();
    yield* request;
    yield services[number & mask]!;
    request.leave();
    spent[0]! += env.nowNs - arrivedNs;
  }

  function* source(): ProcessSteps {
    for (let number = 0; number < packets; number++) {
      yield gaps[number & mask]!;
      env.process(packet(number), 'packet');
    }
  }

  return () => {
    env.process(source(), 'source');
    env.run();
    return spent[0]!;
  };
}

/** Packets that may wait at once; a power of two. */
const ROOM = 65_536;

/** Two processes, source and server; the packets are numbers in a ring. */
export function serverProcessLine(gaps: Float64Array, services: Float64Array, packets: number): () => number {
  const mask = gaps.length - 1;
  const env = new Environment();
  const waiting = new Float64Array(ROOM);
  const spent = new Float64Array(1);
  let sent = 0;
  let work: Event | undefined;

  function* source(): ProcessSteps {
    while (sent < packets) {
      yield gaps[sent & mask]!;
      waiting[sent++ & (ROOM - 1)] = env.nowNs;
      work?.succeed();
      work = undefined;
    }
  }

  function* server(): ProcessSteps {
    for (let served = 0; served < packets; served++) {
      if (served === sent) {
        work = env.event();
        yield* work;
      }
      yield services[served & mask]!;
      spent[0]! += env.nowNs - waiting[served & (ROOM - 1)]!;
    }
  }

  return () => {
    env.process(source(), 'source');
    env.process(server(), 'server');
    env.run();
    return spent[0]!;
  };
}
