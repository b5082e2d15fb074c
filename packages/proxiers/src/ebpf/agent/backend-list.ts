import { READY, SERVING, TERMINATING, type Cluster } from '../../kubernetes/cluster.ts';
import type { EndpointsMap } from '../../kubernetes/endpoints-map.ts';
import { topologyOf } from '../../kubernetes/topology.ts';
import type { BackendRegistry } from './backend-registry.ts';

/** A frontend's backends in the order of its slots: active ones, then terminating ones. */
export interface BackendList {
  readonly ids: Uint32Array;
  /** Endpoint rows, by position. */
  readonly rows: Int32Array;
  readonly active: number;
  /** The first so many may be chosen: the active ones, or without any all the terminating ones (KEP-1669). */
  readonly selectable: number;
}

/** Which endpoints a frontend lists, from what this node knows of a service port. */
export interface ListSource {
  readonly cluster: Cluster;
  readonly endpoints: EndpointsMap;
  readonly servicePort: number;
  /** The node that lists them. */
  readonly node: number;
  /** Only endpoints of this node. */
  readonly local: boolean;
  /** Only endpoints that hints mean for this node, where hints play a part (enable-service-topology). */
  readonly topology: boolean;
}

/**
 * The backends of a service port: endpoints that are ready, or terminating and still serving.
 * Source: sortedBackends, pkg/loadbalancer/reconciler/bpf_reconciler.go: healthy ones, then by state, address, port,
 * as numbers. Not modelled: endpoints that terminate and no longer serve (newer releases list them), weights, health
 * checks and so quarantine, maintenance.
 */
export function backendList(source: ListSource, registry: BackendRegistry): BackendList {
  const { cluster, endpoints } = source;
  const { conditions } = endpoints;
  const { address, port } = cluster.endpoints;
  const rows = listedRows(source);
  rows.sort(
    (a, b) =>
      (conditions[b]! & READY) - (conditions[a]! & READY) ||
      address[a]! - address[b]! ||
      port[a]! - port[b]! ||
      a - b,
  );
  const protocol = cluster.ports.protocol[source.servicePort]!;
  const ids = new Uint32Array(rows.length);
  let active = 0;
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i]!;
    ids[i] = registry.idOf(address[row]!, port[row]!, protocol);
    if ((conditions[row]! & READY) !== 0) active++;
  }
  return { ids, rows, active, selectable: active > 0 ? active : rows.length };
}

/** How many backends the list will have. */
export function listedCount(source: ListSource): number {
  if (source.topology) return listedRows(source).length;
  const rows = source.endpoints.of(source.servicePort);
  let count = 0;
  for (let i = 0; i < rows.length; i++) if (isListed(source, rows[i]!)) count++;
  return count;
}

/** Endpoint rows that are listed, in no order. */
function listedRows(source: ListSource): Int32Array {
  const { cluster, endpoints, servicePort, node } = source;
  const rows = endpoints.of(servicePort).filter((row) => isListed(source, row));
  if (!source.topology) return rows;
  const isReady = (row: number): boolean => (endpoints.conditions[row]! & READY) !== 0;
  const isMeant = topologyOf(cluster, servicePort, rows.filter(isReady), node);
  return isMeant === undefined ? rows : rows.filter((row) => !isReady(row) || isMeant(row));
}

function isListed({ endpoints, cluster, local, node }: ListSource, row: number): boolean {
  const conditions = endpoints.conditions[row]!;
  const draining = SERVING | TERMINATING;
  if ((conditions & READY) === 0 && (conditions & draining) !== draining) return false;
  return !local || cluster.pods.node[cluster.endpoints.pod[row]!] === node;
}
