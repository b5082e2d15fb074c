import { READY, SERVING, TERMINATING, type Cluster } from './cluster.ts';
import type { EndpointsMap } from './endpoints-map.ts';
import { topologyOf } from './topology.ts';

export interface Categories {
  /**
   * Endpoints for the Cluster policy: the ready ones, by topology hints only those meant for this node; when
   * none is ready, all serving-terminating ones.
   */
  readonly cluster: Int32Array;
  /** Endpoints on this node for the Local policy, with the same fallback. */
  readonly local: Int32Array;
  /** Whether any endpoint anywhere could serve. */
  readonly hasEndpoints: boolean;
}

/**
 * Which endpoints of a service port may be chosen, by traffic policy.
 * Source: CategorizeEndpoints, pkg/proxy/topology.go.
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
  const isMeant = topologyOf(cluster, servicePort, ready, node);
  return {
    cluster: ready.length === 0 ? draining : isMeant === undefined ? ready : ready.filter(isMeant),
    local: localReady.length > 0 ? localReady : draining.filter(onNode),
    hasEndpoints: ready.length > 0 || draining.length > 0,
  };
}
