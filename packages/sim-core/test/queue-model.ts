import { NS_PER_MS, Simulation, Streams, exponential, type Stream } from '../src/index.ts';
import { TimeWeighted } from '../src/stats/time-weighted.ts';

export const SERVICE_MEAN_NS = NS_PER_MS;

export interface Queue {
  readonly servers: number;
  /** Arrival rate × mean service. */
  readonly load: number;
  /** Places in the system, servers included; an arrival that finds none is lost. */
  readonly places: number;
  /** One service time in mean services. */
  readonly service: (stream: Stream) => number;
}

/** What a finished run saw; the columns hold one row per arrival after the warm-up, in order of arrival. */
export interface QueueRun {
  /** Wait in the queue in mean services; 0 for a lost arrival. */
  readonly waits: Float64Array;
  readonly waited: Uint8Array;
  readonly lost: Uint8Array;
  /** Mean number in the system from the end of the warm-up to the last arrival. */
  readonly meanInSystem: number;
  /** Number in the system integrated over the whole run, until the last departure: customers × ns. */
  readonly integralNs: number;
  /** The times in the system of all customers of the whole run added up, lost ones not counted. */
  readonly sojournSumNs: number;
  readonly served: number;
  readonly leftOver: number;
  readonly nowNs: number;
}

/**
 * Poisson arrivals, equal servers, one queue in order of arrival; `warmUp` first arrivals are not reported. Runs
 * until the last of `arrivals` customers has left.
 */
export function runQueue(queue: Queue, seed: string, arrivals: number, warmUp: number): QueueRun {
  const streams = new Streams(seed);
  const [gaps, services] = [streams.stream('arrivals'), streams.stream('services')];
  const gapMeanNs = SERVICE_MEAN_NS / queue.load;
  const simulation = new Simulation();
  const whole = new TimeWeighted();
  const steady = new TimeWeighted();
  const arrivedNs = new Float64Array(arrivals);
  const waits = new Float64Array(arrivals);
  const waited = new Uint8Array(arrivals);
  const lost = new Uint8Array(arrivals);
  // Every customer in the system is in service or in line; the line holds row numbers in order of arrival.
  const line = new Uint32Array(arrivals);
  let [head, tail, busy, sojournSumNs, served, meanInSystem] = [0, 0, 0, 0, 0, 0];

  const serve = (row: number) => {
    busy++;
    waits[row] = (simulation.nowNs - arrivedNs[row]!) / SERVICE_MEAN_NS;
    const serviceNs = Math.round(queue.service(services) * SERVICE_MEAN_NS);
    simulation.at(simulation.nowNs + serviceNs, departure, row);
  };
  const change = (by: number) => {
    whole.add(simulation.nowNs, by);
    steady.add(simulation.nowNs, by);
  };
  const arrival = simulation.on((row) => {
    const nowNs = simulation.nowNs;
    arrivedNs[row] = nowNs;
    if (row === warmUp) steady.reset(nowNs);
    if (row === arrivals - 1) meanInSystem = steady.mean(nowNs);
    else simulation.at(nowNs + Math.round(exponential(gaps, gapMeanNs)), arrival, row + 1);
    if (whole.value >= queue.places) {
      lost[row] = 1;
      return;
    }
    change(1);
    if (busy < queue.servers) serve(row);
    else {
      waited[row] = 1;
      line[tail++] = row;
    }
  });
  const departure = simulation.on((row) => {
    busy--;
    served++;
    sojournSumNs += simulation.nowNs - arrivedNs[row]!;
    change(-1);
    if (head < tail) serve(line[head++]!);
  });

  simulation.at(Math.round(exponential(gaps, gapMeanNs)), arrival, 0);
  simulation.run();
  return {
    waits: waits.subarray(warmUp),
    waited: waited.subarray(warmUp),
    lost: lost.subarray(warmUp),
    meanInSystem,
    integralNs: whole.integralNs(simulation.nowNs),
    sojournSumNs,
    served,
    leftOver: whole.value,
    nowNs: simulation.nowNs,
  };
}
