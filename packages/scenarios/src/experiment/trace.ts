import { Streams, type Packet } from '@vipsim/sim-core';
import {
  DROP,
  EndpointsMap,
  PriceList,
  REJECT,
  Verdict,
  type Cluster,
  type CostProfile,
  type Mode,
  type Proxier,
} from '@vipsim/proxiers';
import { modeOptions, type Scenario } from '../scenario/scenario.ts';
import { conntrackOptions, OBSERVED_NODE } from './node-run.ts';

export interface TraceStep {
  readonly where: string;
  readonly what: string;
}

export interface PacketTrace {
  readonly steps: readonly TraceStep[];
  readonly fate: 'forward' | 'reject' | 'drop';
  /** The packet as it leaves the node. */
  readonly leaves: {
    readonly source: number;
    readonly sourcePort: number;
    readonly destination: number;
    readonly destinationPort: number;
  };
  /** Endpoint row that a service chose, -1 for none. */
  readonly endpoint: number;
  readonly operations: readonly { readonly name: string; readonly count: number; readonly ns: number }[];
  readonly totalNs: number;
}

/** A node of the cluster with everything programmed, as it is before the first packet. */
export function programmedProxier(
  mode: Mode,
  cluster: Cluster,
  scenario: Scenario,
): { readonly proxier: Proxier; readonly failure: string } {
  const proxier = mode.create(
    {
      cluster,
      endpoints: new EndpointsMap(cluster),
      node: OBSERVED_NODE,
      cores: scenario.node.cores,
      conntrack: conntrackOptions(scenario),
      streams: new Streams(scenario.seed),
    },
    modeOptions(scenario, mode.name) as never,
  );
  const plan = proxier.sync(
    Array.from({ length: cluster.ports.count }, (_, port) => port),
    true,
  );
  for (const stage of plan.stages) stage.commit();
  return {
    proxier,
    failure: plan.failure === undefined ? '' : `${plan.failure.error}: ${plan.failure.message}`,
  };
}

/** Walk one packet through a freshly programmed node, step by step: the same walk that runs make. */
export function tracePacket(mode: Mode, proxier: Proxier, packet: Packet, profile: CostProfile): PacketTrace {
  const { dataplane } = proxier;
  const steps: TraceStep[] = [];
  const verdict = new Verdict(mode.operations.length);
  const prices = new PriceList(profile, mode.operations);
  const workingSets = new Float64Array(mode.operations.length);
  dataplane.workingSets(workingSets);
  prices.refresh(workingSets);
  dataplane.recorder = { step: (where, what) => steps.push({ where, what }) };
  verdict.begin(packet);
  dataplane.classify(packet, 0, verdict);
  dataplane.recorder = undefined;
  const { source, sourcePort, destination, destinationPort } = verdict;
  return {
    steps,
    fate: verdict.fate === REJECT ? 'reject' : verdict.fate === DROP ? 'drop' : 'forward',
    leaves: { source, sourcePort, destination, destinationPort },
    endpoint: verdict.endpoint,
    operations: mode.operations
      .map((name, i) => ({ name, count: verdict.counts[i]!, ns: verdict.counts[i]! * prices.of(i) }))
      .filter(({ count }) => count > 0),
    totalNs: prices.total(verdict.counts),
  };
}
