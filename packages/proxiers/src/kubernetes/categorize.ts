import { READY, SERVING, TERMINATING, type Cluster } from './cluster.ts';
import type { EndpointsMap } from './endpoints-map.ts';

export interface Categories {
  /** Endpoints for the Cluster policy: the ready ones, or all serving-terminating ones when none is ready. */
  readonly cluster: Int32Array;
  /** Endpoints on this node for the Local policy, with the same fallback. */
  readonly local: Int32Array;
  /** Whether any endpoint anywhere could serve. */
  readonly hasEndpoints: boolean;
}

/**
 * Which endpoints of a service port may be chosen, by traffic policy.
 * Source: CategorizeEndpoints, pkg/proxy/topology.go. Not modelled: topology hints.
 */
export function categorize(
  cluster: Cluster,
  endpoints: EndpointsMap,
  servicePort: number,
  node: number,
): Categories {
  const rows = endpoints.of(servicePort);
  const ready = rows.filter((row) => (endpoints.conditions[row]! & READY) !== 0);
  const draining = rows.filter(
    (row) => (endpoints.conditions[row]! & (SERVING | TERMINATING)) === (SERVING | TERMINATING),
  );
  const onNode = (row: number): boolean => cluster.pods.node[cluster.endpoints.pod[row]!] === node;
  const localReady = ready.filter(onNode);
  return {
    cluster: ready.length > 0 ? ready : draining,
    local: localReady.length > 0 ? localReady : draining.filter(onNode),
    hasEndpoints: ready.length > 0 || draining.length > 0,
  };
}
