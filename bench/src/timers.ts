import { HeapEventQueue, NS_PER_MS, Simulation } from '@vipsim/sim-core';

/** 200 ms: TCP_RTO_MIN, include/net/tcp.h of Linux. */
export const TIMEOUT_NS = 200 * NS_PER_MS;

/**
 * Timers as TCP has them: each packet of a flow pushes the flow's retransmission timer back, so that nearly none ever
 * fires. Two ways: *moved* cancels the event and schedules another; *lazy* leaves it where it is, and compares
 * the deadline on record when it fires. The result is how many timers expired, equal in all.
 */
export interface Timers {
  readonly name: string;
  readonly note?: string;
  /** Packets, but no timers: what the others cost more, timers cost. */
  readonly without?: true;
  /** One flow for each of `starts`, the time of its first packet; `gaps` between packets, repeating. */
  readonly prepare: (starts: Float64Array, gaps: Float64Array, packets: number) => () => number;
}

export const TIMERS: readonly Timers[] = [
  {
    name: 'vipsim',
    note: 'lazy: the deadline is compared when the event fires',
    prepare: (starts, gaps, packets) => lazyTimers(new Simulation(), starts, gaps, packets),
  },
  {
    name: 'vipsim moved',
    note: 'cancel and schedule',
    prepare: (starts, gaps, packets) => movedTimers(new Simulation(), starts, gaps, packets),
  },
  {
    name: 'vipsim without timers',
    note: 'the packets alone: what the others take beyond this is for timers',
    without: true,
    prepare: (starts, gaps, packets) => packetsAlone(new Simulation(), starts, gaps, packets),
  },
  {
    name: 'vipsim HeapEventQueue',
    note: 'lazy, reference queue',
    prepare: (starts, gaps, packets) =>
      lazyTimers(new Simulation({ queue: new HeapEventQueue() }), starts, gaps, packets),
  },
  {
    name: 'vipsim HeapEventQueue moved',
    note: 'cancel and schedule, reference queue',
    prepare: (starts, gaps, packets) =>
      movedTimers(new Simulation({ queue: new HeapEventQueue() }), starts, gaps, packets),
  },
];

export function timersNamed(name: string): Timers {
  const timers = TIMERS.find((candidate) => candidate.name === name);
  if (timers === undefined) throw new RangeError(`no timers are named ${name}`);
  return timers;
}

function movedTimers(
  simulation: Simulation,
  starts: Float64Array,
  gaps: Float64Array,
  packets: number,
): () => number {
  const mask = gaps.length - 1;
  const timers = new Float64Array(starts.length).fill(-1);
  let sent = 0;
  let expired = 0;
  const expire = simulation.on((flow) => {
    timers[flow] = -1;
    expired++;
  });
  const packet = simulation.on((flow) => {
    const { nowNs } = simulation;
    if (timers[flow]! >= 0) simulation.cancel(timers[flow]!);
    timers[flow] = simulation.at(nowNs + TIMEOUT_NS, expire, flow);
    simulation.at(nowNs + gaps[sent & mask]!, packet, flow);
    if (++sent === packets) simulation.stop('enough');
  });
  for (let flow = 0; flow < starts.length; flow++) simulation.at(starts[flow]!, packet, flow);
  return () => {
    simulation.run();
    return expired;
  };
}

function lazyTimers(
  simulation: Simulation,
  starts: Float64Array,
  gaps: Float64Array,
  packets: number,
): () => number {
  const mask = gaps.length - 1;
  const deadlines = new Float64Array(starts.length);
  const armed = new Uint8Array(starts.length);
  let sent = 0;
  let expired = 0;
  const expire = simulation.on((flow) => {
    const leftNs = deadlines[flow]! - simulation.nowNs;
    if (leftNs > 0) {
      simulation.post(leftNs, expire, flow);
      return;
    }
    armed[flow] = 0;
    expired++;
  });
  const packet = simulation.on((flow) => {
    deadlines[flow] = simulation.nowNs + TIMEOUT_NS;
    if (armed[flow] === 0) {
      armed[flow] = 1;
      simulation.post(TIMEOUT_NS, expire, flow);
    }
    simulation.post(gaps[sent & mask]!, packet, flow);
    if (++sent === packets) simulation.stop('enough');
  });
  for (let flow = 0; flow < starts.length; flow++) simulation.at(starts[flow]!, packet, flow);
  return () => {
    simulation.run();
    return expired;
  };
}

function packetsAlone(
  simulation: Simulation,
  starts: Float64Array,
  gaps: Float64Array,
  packets: number,
): () => number {
  const mask = gaps.length - 1;
  let sent = 0;
  const packet = simulation.on((flow) => {
    simulation.post(gaps[sent & mask]!, packet, flow);
    if (++sent === packets) simulation.stop('enough');
  });
  for (let flow = 0; flow < starts.length; flow++) simulation.at(starts[flow]!, packet, flow);
  return () => {
    simulation.run();
    return 0;
  };
}
