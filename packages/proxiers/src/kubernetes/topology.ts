import { HINT_BY_SERVICE, type Cluster } from './cluster.ts';

/**
 * Which ready endpoints are meant for a node: those of its own, else those of its zone, provided that every
 * ready endpoint carries a hint of that kind and one of them fits. undefined when hints play no part.
 * Source: topologyModeFromHints and availableForTopology, pkg/proxy/topology.go.
 */
export function topologyOf(
  cluster: Cluster,
  servicePort: number,
  ready: Int32Array,
  node: number,
): ((endpoint: number) => boolean) | undefined {
  const { endpoints } = cluster;
  const service = cluster.services[cluster.ports.service[servicePort]!]!;
  const hinted = ready.length > 0 && (service.distribution !== undefined || endpoints.hints.length > 2);
  if (!hinted) return undefined;
  const { name, zone } = cluster.nodes[node]!;
  const forNode = hintedFor(ready, (row) => nodesOf(cluster, row), name);
  return forNode ?? hintedFor(ready, (row) => zonesOf(cluster, row), zone);
}

function hintedFor(
  ready: Int32Array,
  hintsOf: (endpoint: number) => readonly string[],
  wanted: string,
): ((endpoint: number) => boolean) | undefined {
  if (wanted === '') return undefined;
  let found = false;
  for (const row of ready) {
    const hints = hintsOf(row);
    if (hints.length === 0) return undefined;
    found ||= hints.includes(wanted);
  }
  return found ? (row) => hintsOf(row).includes(wanted) : undefined;
}

function nodesOf(cluster: Cluster, endpoint: number): readonly string[] {
  const hint = cluster.endpoints.hint[endpoint]!;
  if (hint !== HINT_BY_SERVICE) return cluster.endpoints.hints[hint]!.nodes;
  return distributionOf(cluster, endpoint) === 'node' ? own(homeOf(cluster, endpoint).name) : [];
}

/** As the controller hints for trafficDistribution: the endpoint's own zone, where that is known. */
function zonesOf(cluster: Cluster, endpoint: number): readonly string[] {
  const hint = cluster.endpoints.hint[endpoint]!;
  if (hint !== HINT_BY_SERVICE) return cluster.endpoints.hints[hint]!.zones;
  return distributionOf(cluster, endpoint) === undefined ? [] : own(homeOf(cluster, endpoint).zone);
}

function distributionOf(cluster: Cluster, endpoint: number): 'zone' | 'node' | undefined {
  const { endpoints, ports, services } = cluster;
  return services[ports.service[endpoints.servicePort[endpoint]!]!]!.distribution;
}

function homeOf({ nodes, pods, endpoints }: Cluster, endpoint: number): { name: string; zone: string } {
  return nodes[pods.node[endpoints.pod[endpoint]!]!]!;
}

function own(name: string): readonly string[] {
  return name === '' ? [] : [name];
}
