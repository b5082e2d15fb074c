import { IPV4, longer, SCTP, TCP, UDP, type AddressFamily, type Cidr } from '@vipsim/sim-core';

/**
 * A cluster as columns: what the API server knows, before any node has programmed anything. It is of one address
 * family; a dual-stack cluster is read once for each, as kube-proxy runs a proxier for each.
 */
export interface Cluster {
  /** For reports: the file names or the synthetic spec. */
  readonly name: string;
  readonly nodes: readonly Node[];
  readonly services: readonly Service[];
  readonly ports: ServicePorts;
  readonly workloads: readonly Workload[];
  readonly pods: Pods;
  readonly endpoints: Endpoints;
  /** Pod addresses; kube-proxy's --cluster-cidr, by which it tells pods from others. */
  readonly podCidr: Cidr;
  readonly serviceCidr: Cidr;
  /** What the reader skipped, derived or allocated: one sentence each. */
  readonly notes: readonly string[];
}

export interface Node {
  readonly name: string;
  readonly address: number;
  /** topology.kubernetes.io/zone, empty if unknown. */
  readonly zone: string;
  /** The range of its pods, where the cluster gives one to each node. */
  readonly podCidr?: Cidr | undefined;
}

export type ServiceType = 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName';

export interface Service {
  readonly namespace: string;
  readonly name: string;
  readonly type: ServiceType;
  /** 0 when headless or ExternalName: listed, not proxied. */
  readonly clusterIp: number;
  readonly externalIps: readonly number[];
  /** status.loadBalancer.ingress addresses in VIP mode. */
  readonly loadBalancerIps: readonly number[];
  readonly sourceRanges: readonly Cidr[];
  /** sessionAffinity ClientIP timeout in seconds; 0 without affinity. */
  readonly affinityS: number;
  readonly internalPolicyLocal: boolean;
  readonly externalPolicyLocal: boolean;
  readonly healthCheckNodePort: number;
  /** What the EndpointSlice controller hints for an endpoint: its own zone, or its own node, too. */
  readonly distribution?: 'zone' | 'node' | undefined;
}

/** A controller of pods, or the Service itself where the input names no controller: the unit of a rollout. */
export interface Workload {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly pods: Uint32Array;
}

/** How the numbers in the cluster's address columns are to be read. */
export function familyOf(cluster: Cluster): AddressFamily {
  return cluster.endpoints.family;
}

export function addressText(cluster: Cluster, address: number): string {
  return familyOf(cluster).text(address);
}

/** Whether kube-proxy and its like program the Service at all. */
export function isProxied(service: Service): boolean {
  return service.type !== 'ExternalName' && service.clusterIp !== 0;
}

/** Reachable other than by its ClusterIP: a node port, a load balancer address or an external IP. */
export function isExternallyAccessible(cluster: Cluster, servicePort: number): boolean {
  const service = cluster.services[cluster.ports.service[servicePort]!]!;
  return (
    cluster.ports.nodePort[servicePort] !== 0 ||
    service.loadBalancerIps.length > 0 ||
    service.externalIps.length > 0
  );
}

/** The ports of proxied Services, one row each, in the order of the input. */
export class ServicePorts {
  count = 0;
  /** Index into `Cluster.services`. */
  service: Uint32Array = new Uint32Array(16);
  clusterIp: Uint32Array = new Uint32Array(16);
  port: Uint16Array = new Uint16Array(16);
  /** 0 without a node port. */
  nodePort: Uint16Array = new Uint16Array(16);
  protocol: Uint8Array = new Uint8Array(16);
  /** Endpoints [firstEndpoint[p], firstEndpoint[p + 1]) belong to port p at the start of a run. */
  firstEndpoint: Uint32Array = new Uint32Array(17);
  /** The port's name, empty when unnamed. */
  readonly names: string[] = [];

  add(row: {
    service: number;
    clusterIp: number;
    name: string;
    protocol: number;
    port: number;
    nodePort: number;
  }): number {
    const at = this.count++;
    if (at === this.service.length) this.#grow(at * 2);
    this.service[at] = row.service;
    this.clusterIp[at] = row.clusterIp;
    this.port[at] = row.port;
    this.nodePort[at] = row.nodePort;
    this.protocol[at] = row.protocol;
    this.names.push(row.name);
    return at;
  }

  #grow(capacity: number): void {
    this.service = longer(this.service, capacity);
    this.clusterIp = longer(this.clusterIp, capacity);
    this.port = longer(this.port, capacity);
    this.nodePort = longer(this.nodePort, capacity);
    this.protocol = longer(this.protocol, capacity);
    this.firstEndpoint = longer(this.firstEndpoint, capacity + 1);
  }
}

/** kube-proxy's name of a service port: `namespace/name:port`, without the colon when the port is unnamed. */
export function servicePortName(cluster: Cluster, servicePort: number): string {
  const service = cluster.services[cluster.ports.service[servicePort]!]!;
  const port = cluster.ports.names[servicePort]!;
  return port === ''
    ? `${service.namespace}/${service.name}`
    : `${service.namespace}/${service.name}:${port}`;
}

/** `tcp`, `udp` or `sctp`. */
export function protocolName(protocol: number): string {
  if (protocol === TCP) return 'tcp';
  if (protocol === UDP) return 'udp';
  if (protocol === SCTP) return 'sctp';
  throw new RangeError(`protocol ${protocol} is none of TCP 6, UDP 17, SCTP 132`);
}

/** Every address that serves: the pods, and addresses that only an EndpointSlice names. Rows are never reused. */
export class Pods {
  count = 0;
  address: Uint32Array = new Uint32Array(16);
  /** Index into `Cluster.nodes`. */
  node: Uint32Array = new Uint32Array(16);
  /** Index into `Cluster.workloads`. */
  workload: Uint32Array = new Uint32Array(16);

  add(address: number, node: number, workload: number): number {
    const at = this.count++;
    if (at === this.address.length) {
      this.address = longer(this.address, at * 2);
      this.node = longer(this.node, at * 2);
      this.workload = longer(this.workload, at * 2);
    }
    this.address[at] = address;
    this.node[at] = node;
    this.workload[at] = workload;
    return at;
  }

  copy(): Pods {
    const copy = new Pods();
    copy.count = this.count;
    copy.address = this.address.slice();
    copy.node = this.node.slice();
    copy.workload = this.workload.slice();
    return copy;
  }
}

/** Conditions of an endpoint, as an EndpointSlice carries them. */
export const READY = 1;
export const SERVING = 2;
export const TERMINATING = 4;

/** For whom an endpoint is meant, by names (EndpointSlice: hints). */
export interface Hint {
  readonly zones: readonly string[];
  readonly nodes: readonly string[];
}

/** Places in `Endpoints.hints`: what follows from the Service's distribution, and nothing. */
export const HINT_BY_SERVICE = 0;
export const NO_HINT = 1;

/** Endpoints (a pod behind a service port), one row each. Rows are appended and never reused. */
export class Endpoints {
  count = 0;
  readonly family: AddressFamily;
  /** Index into `ServicePorts`. */
  servicePort: Uint32Array = new Uint32Array(16);
  /** Index into `Pods`. */
  pod: Uint32Array = new Uint32Array(16);
  address: Uint32Array = new Uint32Array(16);
  port: Uint16Array = new Uint16Array(16);
  /** Conditions at the start of a run: READY | SERVING | TERMINATING. */
  conditions: Uint8Array = new Uint8Array(16);
  /** Index into `hints`: HINT_BY_SERVICE unless an EndpointSlice says otherwise. */
  hint: Uint32Array = new Uint32Array(16);
  readonly hints: Hint[] = [
    { zones: [], nodes: [] },
    { zones: [], nodes: [] },
  ];
  readonly #places = new Map<string, number>();

  constructor(family: AddressFamily = IPV4) {
    this.family = family;
  }

  add(
    servicePort: number,
    pod: number,
    address: number,
    port: number,
    conditions: number,
    hint = HINT_BY_SERVICE,
  ): number {
    const at = this.count++;
    if (at === this.servicePort.length) {
      this.hint = longer(this.hint, at * 2);
      this.servicePort = longer(this.servicePort, at * 2);
      this.pod = longer(this.pod, at * 2);
      this.address = longer(this.address, at * 2);
      this.port = longer(this.port, at * 2);
      this.conditions = longer(this.conditions, at * 2);
    }
    this.servicePort[at] = servicePort;
    this.pod[at] = pod;
    this.address[at] = address;
    this.port[at] = port;
    this.conditions[at] = conditions;
    this.hint[at] = hint;
    return at;
  }

  /** For a run to change. Throws RangeError for IPv6: its rules are known, but no walk over them. */
  copy(): Endpoints {
    if (this.family !== IPV4) throw new RangeError('an IPv6 cluster has rules to print, but cannot be run');
    const copy = new Endpoints();
    copy.count = this.count;
    copy.servicePort = this.servicePort.slice();
    copy.pod = this.pod.slice();
    copy.address = this.address.slice();
    copy.port = this.port.slice();
    copy.conditions = this.conditions.slice();
    copy.hint = this.hint.slice();
    for (const { zones, nodes } of this.hints.slice(NO_HINT + 1)) copy.intern(zones, nodes);
    return copy;
  }

  /** The place of these hints in the list. */
  intern(zones: readonly string[], nodes: readonly string[]): number {
    if (zones.length + nodes.length === 0) return NO_HINT;
    const key = JSON.stringify([zones, nodes]);
    const known = this.#places.get(key);
    if (known !== undefined) return known;
    const place = this.hints.push({ zones, nodes }) - 1;
    this.#places.set(key, place);
    return place;
  }

  /** `10.0.0.1:80` or `[fd00::1]:80`, the form that kube-proxy hashes, sorts and prints. */
  text(endpoint: number): string {
    return this.family.hostPort(this.address[endpoint]!, this.port[endpoint]!);
  }
}
