import { categorize } from './categorize.ts';
import { isExternallyAccessible, isProxied, type Service } from './cluster.ts';
import type { NodeContext } from '../proxier.ts';
import { sortedByText } from './endpoint-order.ts';

/** What kube-proxy decides about a service port from its Service and its endpoints, as bits. */
export const PROXIED = 1;
export const HAS_ENDPOINTS = 2;
export const HAS_INTERNAL = 4;
export const HAS_EXTERNAL = 8;
/** It has endpoints and is reached other than by its ClusterIP. */
export const USES_EXTERNAL = 16;
/** Source ranges guard its load balancer addresses, endpoints or not. */
export const USES_FIREWALL = 32;
/** Both: there is something to guard. */
export const GUARDED = HAS_ENDPOINTS | USES_FIREWALL;

/**
 * What one service port is to have where kube-proxy writes rules.
 * Source: syncProxyRules in pkg/proxy/{iptables,nftables}/proxier.go, UsesClusterEndpoints and UsesLocalEndpoints in
 * pkg/proxy/serviceport.go.
 */
export interface ServicePlan {
  readonly servicePort: number;
  readonly decisions: number;
  /** Endpoint rows for the Cluster policy, in order; empty when nothing uses it. */
  readonly cluster: Int32Array;
  /** The same for the Local policy. */
  readonly local: Int32Array;
  /** All that this node may send to. */
  readonly reachable: Int32Array;
}

const NONE = new Int32Array(0);

export function emptyPlan(servicePort: number): ServicePlan {
  return { servicePort, decisions: 0, cluster: NONE, local: NONE, reachable: NONE };
}

export function planService(node: NodeContext, servicePort: number): ServicePlan {
  const { cluster, endpoints } = node;
  const service = cluster.services[cluster.ports.service[servicePort]!]!;
  if (!isProxied(service)) return emptyPlan(servicePort);
  const found = categorize(cluster, endpoints, servicePort, node.node);
  const external = isExternallyAccessible(cluster, servicePort);
  const usesCluster = !service.internalPolicyLocal || external;
  const usesLocal = service.internalPolicyLocal || (service.externalPolicyLocal && external);
  const clusterRows = usesCluster ? sortedByText(cluster.endpoints, found.cluster) : NONE;
  const localRows = usesLocal ? sortedByText(cluster.endpoints, found.local) : NONE;
  return {
    servicePort,
    decisions: decide(service, found.hasEndpoints, external, found.local.length > 0),
    cluster: clusterRows,
    local: localRows,
    reachable: union(clusterRows, localRows),
  };
}

function decide(service: Service, hasEndpoints: boolean, external: boolean, hasLocal: boolean): number {
  let decisions = PROXIED;
  if (service.loadBalancerIps.length > 0 && service.sourceRanges.length > 0) decisions |= USES_FIREWALL;
  if (!hasEndpoints) return decisions;
  decisions |= HAS_ENDPOINTS;
  if (!service.internalPolicyLocal || hasLocal) decisions |= HAS_INTERNAL;
  if (!service.externalPolicyLocal || hasLocal) decisions |= HAS_EXTERNAL;
  if (external) decisions |= USES_EXTERNAL;
  return decisions;
}

/**
 * The local list is part of the cluster list, unless only the local one fell back to terminating endpoints or
 * topology hints keep local ones out of the other. (Upstream lists such a union in random order; here the cluster
 * list comes first, then the local endpoints that it lacks.)
 */
function union(cluster: Int32Array, local: Int32Array): Int32Array {
  if (local.length === 0) return cluster;
  if (cluster.length === 0) return local;
  // Both are in the same order, so one pass shows whether the cluster list has all.
  let found = 0;
  for (const row of cluster) if (row === local[found]) found++;
  if (found === local.length) return cluster;
  const known = new Set(cluster);
  const more = local.filter((row) => !known.has(row));
  const both = new Int32Array(cluster.length + more.length);
  both.set(cluster);
  both.set(more, cluster.length);
  return both;
}
