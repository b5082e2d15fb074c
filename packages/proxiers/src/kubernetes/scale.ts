import { formatCidr, IPV4 } from '@vipsim/sim-core';
import { ClusterIps, covering, NodeAddresses, NodePorts, PodAddresses } from './allocate.ts';
import {
  Endpoints,
  familyOf,
  HINT_BY_SERVICE,
  Pods,
  ServicePorts,
  type Cluster,
  type Node,
  type Service,
  type Workload,
} from './cluster.ts';
import { OUTSIDE } from './node-table.ts';
import { quantity } from './notes.ts';

/** Kubernetes' default limit; nodes that are denser already stay as dense. */
const PODS_PER_NODE = 110;
/** Addresses of copied load balancers and external IPs: 240.0.0.0/4, which no cluster uses (RFC 1112). */
const FIRST_EXTERNAL = 0xf0000001;

/**
 * The whole cluster again and again, until it has at least so many endpoints: Services and workloads in
 * namespaces with `-2`, `-3`, … behind, with ClusterIPs, node ports and pods of their own, on more nodes when
 * the present ones are full. Throws RangeError if there are no endpoints to copy, the Service network is full or the
 * cluster is of IPv6.
 */
export function scaleCluster(cluster: Cluster, endpoints: number): Cluster {
  if (familyOf(cluster) !== IPV4) throw new RangeError('an IPv6 cluster cannot be scaled by copying');
  const own = cluster.ports.firstEndpoint[cluster.ports.count]!;
  if (own >= endpoints) return cluster;
  if (own === 0) throw new RangeError('a cluster without endpoints cannot be scaled by copying');
  const suffixes = suffixesOf(cluster, Math.ceil(endpoints / own) - 1);
  const copies = suffixes.length;
  const taken = takenAddresses(cluster);
  const nodes = moreNodes(cluster, copies, taken);
  const { pods, network } = copyPods(cluster, copies, nodes, taken);
  const { services, ports, cleared } = copyServices(cluster, suffixes, taken);
  const notes = [
    ...cluster.notes,
    `copied everything ${quantity(copies, 'time')} to reach ${endpoints} endpoints`,
  ];
  if (cleared > 0) notes.push(`no NodePort was left for ${quantity(cleared, 'copied port')}`);
  return {
    name: cluster.name,
    nodes,
    services,
    ports,
    workloads: copyWorkloads(cluster, suffixes),
    pods,
    endpoints: copyEndpoints(cluster, copies, pods, ports),
    podCidr: (network && covering([cluster.podCidr, network])) ?? cluster.podCidr,
    serviceCidr: cluster.serviceCidr,
    notes,
  };
}

/** `-2`, `-3`, …, without those that would name a namespace that exists. */
function suffixesOf(cluster: Cluster, count: number): string[] {
  const namespaces = new Set([...cluster.services, ...cluster.workloads].map(({ namespace }) => namespace));
  const suffixes: string[] = [];
  for (let number = 2; suffixes.length < count; number++) {
    const clash = [...namespaces].some((namespace) => namespaces.has(`${namespace}-${number}`));
    if (!clash) suffixes.push(`-${number}`);
  }
  return suffixes;
}

function takenAddresses(cluster: Cluster): Set<number> {
  const taken = new Set(cluster.nodes.map((node) => node.address));
  for (let pod = 0; pod < cluster.pods.count; pod++) taken.add(cluster.pods.address[pod]!);
  for (const { clusterIp, externalIps, loadBalancerIps } of cluster.services) {
    taken.add(clusterIp);
    for (const address of externalIps) taken.add(address);
    for (const address of loadBalancerIps) taken.add(address);
  }
  return taken;
}

function moreNodes(cluster: Cluster, copies: number, taken: Set<number>): Node[] {
  const nodes = [...cluster.nodes];
  const present = nodes.filter((node) => node.name !== OUTSIDE);
  const density = Math.max(PODS_PER_NODE, Math.ceil(cluster.pods.count / Math.max(1, present.length)));
  const wanted = Math.ceil((cluster.pods.count * (copies + 1)) / density) - present.length;
  const names = new Set(nodes.map((node) => node.name));
  const addresses = new NodeAddresses(taken);
  for (let number = 0, added = 0; added < wanted; number++) {
    const name = `node-${number}`;
    if (names.has(name)) continue;
    const address = addresses.next();
    taken.add(address);
    nodes.push({ name, address, zone: present[added % present.length]?.zone ?? '' });
    added++;
  }
  return nodes;
}

function copyPods(
  cluster: Cluster,
  copies: number,
  nodes: readonly Node[],
  taken: ReadonlySet<number>,
): { pods: Pods; network: PodAddresses['network'] } {
  const from = cluster.pods;
  const pods = new Pods();
  for (let pod = 0; pod < from.count; pod++)
    pods.add(from.address[pod]!, from.node[pod]!, from.workload[pod]!);
  const addresses = new PodAddresses(nodes.length, taken);
  const places = [...nodes.keys()].filter((node) => nodes[node]!.name !== OUTSIDE);
  for (let copy = 1; copy <= copies; copy++) {
    for (let pod = 0; pod < from.count; pod++) {
      const outside = cluster.nodes[from.node[pod]!]!.name === OUTSIDE;
      const node = outside ? from.node[pod]! : places[pods.count % places.length]!;
      const address = addresses.next(node, undefined);
      if (address === 0) throw new RangeError('no pod address is left in 10.128.0.0/9');
      pods.add(address, node, from.workload[pod]! + copy * cluster.workloads.length);
    }
  }
  return { pods, network: addresses.network };
}

function copyServices(
  cluster: Cluster,
  suffixes: readonly string[],
  taken: ReadonlySet<number>,
): { services: Service[]; ports: ServicePorts; cleared: number } {
  const clusterIps = new ClusterIps(cluster.serviceCidr, taken);
  const nodePorts = new NodePorts();
  let cleared = 0;
  let external = FIRST_EXTERNAL;
  // Most lists are empty: those are shared.
  const copyOf = (list: readonly number[]): readonly number[] =>
    list.length === 0 ? list : list.map(() => external++);
  const services = [...cluster.services];
  const ports = new ServicePorts();
  for (const service of services) nodePorts.take(service.healthCheckNodePort);
  for (let port = 0; port < cluster.ports.count; port++) {
    addPort(ports, cluster, port, 0, cluster.ports.clusterIp[port]!, cluster.ports.nodePort[port]!);
    nodePorts.take(cluster.ports.nodePort[port]!);
  }
  for (const suffix of suffixes) {
    const first = services.length;
    for (const service of cluster.services) {
      const clusterIp = service.clusterIp === 0 ? 0 : clusterIps.next();
      if (service.clusterIp !== 0 && clusterIp === 0) {
        throw new RangeError(`no ClusterIP is left in ${formatCidr(cluster.serviceCidr)}`);
      }
      services.push({
        ...service,
        namespace: service.namespace + suffix,
        clusterIp,
        externalIps: copyOf(service.externalIps),
        loadBalancerIps: copyOf(service.loadBalancerIps),
        healthCheckNodePort: service.healthCheckNodePort === 0 ? 0 : nodePorts.next(),
      });
    }
    // One number may serve two protocols of a Service, and so it does in the copy.
    const renumbered = new Map<number, number>([[0, 0]]);
    for (let port = 0; port < cluster.ports.count; port++) {
      const old = cluster.ports.nodePort[port]!;
      const nodePort = renumbered.get(old) ?? nodePorts.next();
      renumbered.set(old, nodePort);
      if (old !== 0 && nodePort === 0) cleared++;
      addPort(
        ports,
        cluster,
        port,
        first,
        services[first + cluster.ports.service[port]!]!.clusterIp,
        nodePort,
      );
    }
  }
  return { services, ports, cleared };
}

function addPort(
  ports: ServicePorts,
  cluster: Cluster,
  port: number,
  firstService: number,
  clusterIp: number,
  nodePort: number,
): void {
  const from = cluster.ports;
  ports.add({
    service: firstService + from.service[port]!,
    clusterIp,
    name: from.names[port]!,
    protocol: from.protocol[port]!,
    port: from.port[port]!,
    nodePort,
  });
}

function copyWorkloads(cluster: Cluster, suffixes: readonly string[]): Workload[] {
  const workloads = [...cluster.workloads];
  for (const [index, suffix] of suffixes.entries()) {
    const shift = (index + 1) * cluster.pods.count;
    for (const { kind, namespace, name, pods } of cluster.workloads) {
      workloads.push({ kind, namespace: namespace + suffix, name, pods: pods.map((pod) => pod + shift) });
    }
  }
  return workloads;
}

/** Fills firstEndpoint of the ports. */
function copyEndpoints(cluster: Cluster, copies: number, pods: Pods, ports: ServicePorts): Endpoints {
  const from = cluster.endpoints;
  const { count, firstEndpoint } = cluster.ports;
  const own = firstEndpoint[count]!;
  const endpoints = new Endpoints();
  for (let copy = 0; copy <= copies; copy++) {
    for (let row = 0; row < own; row++) {
      const pod = from.pod[row]! + copy * cluster.pods.count;
      const address = copy === 0 ? from.address[row]! : pods.address[pod]!;
      const port = from.servicePort[row]! + copy * count;
      // Hints of a slice name zones and nodes of the original; a copy's follow from its Service.
      const written = copy === 0 ? from.hints[from.hint[row]!]! : undefined;
      const given = written !== undefined && from.hint[row] !== HINT_BY_SERVICE;
      const hint = given ? endpoints.intern(written.zones, written.nodes) : HINT_BY_SERVICE;
      endpoints.add(port, pod, address, from.port[row]!, from.conditions[row]!, hint);
    }
    for (let port = 0; port <= count; port++) {
      ports.firstEndpoint[copy * count + port] = copy * own + firstEndpoint[port]!;
    }
  }
  return endpoints;
}
