import { CONNTRACK_DEFAULTS, NS_PER_S, Simulation, Streams, type ConntrackOptions } from '@vipsim/sim-core';
import {
  ACCEPTS,
  EndpointsMap,
  PriceList,
  REFUSES,
  SILENT,
  type CostProfile,
  type Mode,
  type Reachability,
} from '@vipsim/proxiers';
import type { ClusterDay } from '../cluster/cluster-day.ts';
import { GONE, LISTENING } from '../cluster/pod-timeline.ts';
import type { ModeResult } from '../report/result.ts';
import { modeOptions, type Scenario } from '../scenario/scenario.ts';
import { ControlLoop } from './control-loop.ts';
import { modeResult } from './mode-result.ts';
import { Observations } from './observations.ts';
import type { RunTrace } from './run-trace.ts';
import { Traffic } from './traffic.ts';

/** The price of a packet's way through the rest of the stack, in every mode. */
export const STACK_OPERATION = 'stack.packet';

/** The node whose tables and packets are simulated: the first; all nodes hold the same tables. */
export const OBSERVED_NODE = 0;

/**
 * One mode through one day on the observed node. `onSecond` hears of every virtual second that has passed, `trace`
 * of every packet and sync; the result does not depend on either.
 */
export function runMode(
  mode: Mode,
  day: ClusterDay,
  scenario: Scenario,
  profile: CostProfile,
  onSecond: (secondsDone: number) => void = () => undefined,
  trace?: RunTrace,
): ModeResult {
  const streams = new Streams(scenario.seed);
  const simulation = new Simulation();
  const operations = mode.operations.length;
  const endpoints = new EndpointsMap(day.cluster);
  const { cores } = scenario.node;
  const proxier = mode.create(
    {
      cluster: day.cluster,
      endpoints,
      node: OBSERVED_NODE,
      cores,
      conntrack: conntrackOptions(scenario),
      streams,
      reachability: reachabilityOf(day, scenario),
    },
    modeOptions(scenario, mode.name) as never,
  );
  const { dataplane } = proxier;
  const prices = new PriceList(profile, mode.operations);
  const observations = new Observations(operations, day.cluster.endpoints.count);
  const control = new ControlLoop({
    simulation,
    day,
    endpoints,
    proxier,
    prices,
    operations,
    observations,
    streams,
    endNs: scenario.duration,
    trace,
  });
  const initialFailure = observations.lastFailure;
  const traffic = new Traffic({
    simulation,
    day,
    node: OBSERVED_NODE,
    scenario,
    dataplane,
    operations,
    prices,
    stackNs: new PriceList(profile, [STACK_OPERATION]).of(0),
    observations,
    streams,
    trace,
  });
  for (let second = 1; simulation.nowNs < scenario.duration; second++) {
    simulation.run({ untilNs: Math.min(second * NS_PER_S, scenario.duration) });
    dataplane.expire(simulation.nowNs);
    control.refreshPrices();
    onSecond(second);
  }
  return modeResult({ mode, proxier, day, scenario, prices, observations, traffic, initialFailure });
}

/** What a dial from the observed node would meet, from the day's timeline. */
function reachabilityOf(day: ClusterDay, scenario: Scenario): Reachability {
  const { endpoints, pods } = day.cluster;
  const delayTo = (pod: number): number =>
    pods.node[pod] === OBSERVED_NODE ? scenario.network.localDelay : scenario.network.delay;
  return {
    answer(endpoint, atNs) {
      const pod = endpoints.pod[endpoint]!;
      const state = day.timeline.stateAt(pod, atNs + delayTo(pod));
      return state === LISTENING ? ACCEPTS : state === GONE ? SILENT : REFUSES;
    },
    roundTripNs: (endpoint) => 2 * delayTo(endpoints.pod[endpoint]!),
  };
}

/** kube-proxy's nf_conntrack_max, and the hash size of at least a quarter of it that comes with it. */
export function conntrackOptions(scenario: Scenario): ConntrackOptions {
  const { maxPerCore, min } = scenario.conntrack;
  const max = Math.max(min, maxPerCore * scenario.node.cores);
  return { ...CONNTRACK_DEFAULTS, max, buckets: Math.max(CONNTRACK_DEFAULTS.buckets, Math.ceil(max / 4)) };
}
