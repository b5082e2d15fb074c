import { READY, SERVING, TERMINATING, type Cluster } from '../kubernetes/cluster.ts';
import type { EndpointsMap } from '../kubernetes/endpoints-map.ts';
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
  /** The node whose endpoints alone count; -1 for all. */
  readonly onlyNode: number;
}

/**
 * The backends of a service port: endpoints that are ready, or terminating and still serving.
 * Source: sortedBackends, pkg/loadbalancer/reconciler/bpf_reconciler.go: by state, address, port.
 * Not modelled: endpoints that terminate and no longer serve (newer releases list them), topology hints, weights.
 */
export function backendList(source: ListSource, registry: BackendRegistry): BackendList {
  const { cluster, endpoints } = source;
  const { conditions } = endpoints;
  const { address, port } = cluster.endpoints;
  const rows = endpoints.of(source.servicePort).filter((row) => isListed(source, row));
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
  const rows = source.endpoints.of(source.servicePort);
  let count = 0;
  for (let i = 0; i < rows.length; i++) if (isListed(source, rows[i]!)) count++;
  return count;
}

function isListed(source: ListSource, row: number): boolean {
  const conditions = source.endpoints.conditions[row]!;
  const draining = SERVING | TERMINATING;
  if ((conditions & READY) === 0 && (conditions & draining) !== draining) return false;
  return (
    source.onlyNode < 0 || source.cluster.pods.node[source.cluster.endpoints.pod[row]!] === source.onlyNode
  );
}
