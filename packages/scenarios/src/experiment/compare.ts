import { MODES, scaleCluster, type Cluster, type CostProfile } from '@vipsim/proxiers';
import { Streams } from '@vipsim/sim-core';
import { planDay } from '../cluster/cluster-day.ts';
import type { SizeResult } from '../report/result.ts';
import type { Scenario } from '../scenario/scenario.ts';
import { runMode } from './node-run.ts';

export interface ComparePlan {
  readonly scenario: Scenario;
  readonly profile: CostProfile;
  /** The cluster at each size, made when its turn comes: large ones do not lie in memory together. */
  readonly sizes: readonly { readonly label: string; readonly cluster: () => Cluster }[];
}

export interface Progress {
  /** `10000 endpoints · ipvs`. */
  readonly what: string;
  /** Share done of the whole comparison, 0 to 1. */
  readonly share: number;
}

/** The modes side by side: at each size, every mode through the same day. */
export function compare(
  plan: ComparePlan,
  onProgress: (progress: Progress) => void = () => undefined,
): SizeResult[] {
  const { scenario, profile } = plan;
  const modes = MODES.filter((mode) => scenario.modes.includes(mode.name));
  const seconds = scenario.duration / 1e9;
  return plan.sizes.map((size, sizeIndex) => {
    const report = (what: string, share: number): void =>
      onProgress({ what: `${size.label} · ${what}`, share: (sizeIndex + share) / plan.sizes.length });
    report('building the cluster', 0);
    const cluster = size.cluster();
    const day = planDay(cluster, scenario, new Streams(scenario.seed));
    return {
      label: size.label,
      nodes: cluster.nodes.length,
      services: cluster.services.length,
      servicePorts: cluster.ports.count,
      endpoints: cluster.endpoints.count,
      endpointChanges: day.endpointChanges,
      modes: modes.map((mode, modeIndex) => {
        report(mode.title, modeIndex / modes.length);
        return runMode(mode, day, scenario, profile, (done) =>
          report(mode.title, (modeIndex + Math.min(1, done / seconds)) / modes.length),
        );
      }),
    };
  });
}

/** A cluster of about `endpoints` endpoints from the one given: copies of it, or itself if it is no smaller. */
export function atSize(cluster: Cluster, endpoints: number): Cluster {
  return cluster.endpoints.count >= endpoints ? cluster : scaleCluster(cluster, endpoints);
}
