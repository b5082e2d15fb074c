import { TCP, UDP, type Cidr } from '@vipsim/sim-core';
import {
  Endpoints,
  Pods,
  READY,
  SERVING,
  ServicePorts,
  type Cluster,
  type Node,
  type Service,
  type Workload,
} from './cluster.ts';

export interface SyntheticSpec {
  readonly services: number;
  /** Endpoints of each Service. */
  readonly endpoints: number;
  /** Kubernetes' default limit is 110 pods a node. */
  readonly podsPerNode: number;
  /** 0 derives the number of nodes from pods and podsPerNode. */
  readonly nodes: number;
  /** Every n-th Service is UDP; 0 for none. */
  readonly udpEvery: number;
}

export const SYNTHETIC_DEFAULTS: SyntheticSpec = {
  services: 100,
  endpoints: 10,
  podsPerNode: 110,
  nodes: 0,
  udpEvery: 0,
};

/** kubeadm's default Service network, and a pod network beside it with room for 8 million pods. */
export const SERVICE_CIDR: Cidr = { address: 0x0a600000, prefix: 12 };
export const POD_CIDR: Cidr = { address: 0x0a800000, prefix: 9 };
const FIRST_NODE_ADDRESS = 0xac100002;
const NO_ADDRESSES: readonly number[] = [];
const NO_RANGES: readonly Cidr[] = [];

/**
 * A cluster of equal Services. Pod addresses follow from the node as a per-node /24 would give them, and the
 * endpoints of one Service lie on different nodes, as a scheduler spreads them.
 */
export function syntheticCluster(spec: SyntheticSpec): Cluster {
  const total = spec.services * spec.endpoints;
  const nodeCount = Math.max(1, spec.nodes || Math.ceil(total / spec.podsPerNode));
  const nodes: Node[] = [];
  for (let i = 0; i < nodeCount; i++) {
    // Fuller nodes take more than one block of addresses.
    const podCidr = total > 253 * nodeCount ? undefined : { address: POD_CIDR.address + i * 256, prefix: 24 };
    nodes.push({ name: `node-${i}`, address: FIRST_NODE_ADDRESS + i, zone: '', podCidr });
  }
  const services: Service[] = [];
  const workloads: Workload[] = [];
  const ports = new ServicePorts();
  const pods = new Pods();
  const endpoints = new Endpoints();
  for (let s = 0; s < spec.services; s++) {
    const namespace = `ns-${s % 100}`;
    const name = `service-${s}`;
    const clusterIp = SERVICE_CIDR.address + 1 + s;
    services.push({
      namespace,
      name,
      type: 'ClusterIP',
      clusterIp,
      externalIps: NO_ADDRESSES,
      loadBalancerIps: NO_ADDRESSES,
      sourceRanges: NO_RANGES,
      affinityS: 0,
      internalPolicyLocal: false,
      externalPolicyLocal: false,
      healthCheckNodePort: 0,
    });
    const protocol = spec.udpEvery > 0 && s % spec.udpEvery === spec.udpEvery - 1 ? UDP : TCP;
    const port = ports.add({ service: s, clusterIp, name: 'http', protocol, port: 80, nodePort: 0 });
    ports.firstEndpoint[port] = endpoints.count;
    const members = new Uint32Array(spec.endpoints);
    for (let e = 0; e < spec.endpoints; e++) {
      const at = pods.count;
      const node = at % nodeCount;
      const address = POD_CIDR.address + podOffset(node, Math.floor(at / nodeCount), nodeCount);
      const pod = pods.add(address, node, s);
      members[e] = pod;
      endpoints.add(port, pod, address, 8080, READY | SERVING);
    }
    ports.firstEndpoint[port + 1] = endpoints.count;
    workloads.push({ kind: 'Deployment', namespace, name, pods: members });
  }
  return {
    name: `synthetic:services=${spec.services},endpoints=${spec.endpoints}`,
    nodes,
    services,
    ports,
    workloads,
    pods,
    endpoints,
    podCidr: POD_CIDR,
    serviceCidr: SERVICE_CIDR,
    notes: [],
  };
}

/** Node n owns 256 addresses from n × 256 (.2 the first pod); pods beyond 253 a node follow after all nodes' blocks. */
function podOffset(node: number, index: number, nodeCount: number): number {
  const block = Math.floor(index / 253) * nodeCount + node;
  return block * 256 + 2 + (index % 253);
}
