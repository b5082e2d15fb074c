import { Simulation, type Streams } from '@vipsim/sim-core';
import type { Cluster } from '@vipsim/proxiers';
import { Churn } from '../churn/churn.ts';
import type { Scenario } from '../scenario/scenario.ts';
import { ControlPlane, type SliceDelivery } from './control-plane.ts';
import { FreeAddresses } from './free-addresses.ts';
import { PodIndex } from './pod-index.ts';
import type { PodTimeline } from './pod-timeline.ts';

/** What happens in the cluster during a run, whatever the mode: every mode is shown the same day. */
export interface ClusterDay {
  /** The cluster with rows for every pod and endpoint that will be born. */
  readonly cluster: Cluster;
  readonly deliveries: readonly SliceDelivery[];
  readonly timeline: PodTimeline;
  /** Endpoints added, removed or changed, as the slices tell. */
  readonly endpointChanges: number;
  /** Addresses of client pods on the observed node. */
  readonly clients: Uint32Array;
}

/** Plan the day. The cluster that is given stays as it is. */
export function planDay(cluster: Cluster, scenario: Scenario, streams: Streams): ClusterDay {
  const day: Cluster = { ...cluster, pods: cluster.pods.copy(), endpoints: cluster.endpoints.copy() };
  const simulation = new Simulation();
  const index = new PodIndex(day);
  const addresses = new FreeAddresses(day);
  const clients = Uint32Array.from({ length: scenario.workload.clients }, () => addresses.take());
  const controlPlane = new ControlPlane(day, index, simulation, streams, scenario.controlPlane);
  new Churn(day, index, controlPlane, addresses, simulation, streams, scenario.churn).start(streams);
  simulation.run({ untilNs: scenario.duration });
  return {
    cluster: day,
    deliveries: controlPlane.deliveries,
    timeline: controlPlane.timeline,
    endpointChanges: controlPlane.endpointChanges,
    clients,
  };
}
