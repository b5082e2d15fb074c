import type { AddressFamily, Cidr } from '@vipsim/sim-core';
import { ClusterIps, NODE_PORT_MAX, NODE_PORT_MIN, NodePorts } from './allocate.ts';
import { ServicePorts, type Service } from './cluster.ts';
import type { Field } from './field.ts';
import type { Notes } from './notes.ts';
import { isProgrammed, type PortObject, type ServiceObject } from './service-object.ts';

/** Node ports of a Service: one for each of its ports, 0 for none. */
interface NumberedPorts {
  readonly ports: readonly number[];
  readonly healthCheck: number;
  readonly allocated: number;
}

/** Services and the rows of their ports, with the addresses and node ports that the API server would add. */
export class ServiceTable {
  readonly services: Service[] = [];
  readonly ports = new ServicePorts();
  /** By service: the row of its first port; the others follow. */
  readonly firstPort: Uint32Array;
  readonly #clusterIps: ClusterIps;
  readonly #cidr: Cidr;
  readonly #family: AddressFamily;
  readonly #nodePorts = new NodePorts();
  readonly #numbered = new Map<ServiceObject, NumberedPorts>();
  readonly #notes: Notes;

  /**
   * Only `own`, those of the family, become rows; but the two families share their node ports, so these are
   * numbered alike in either. Throws InputError where given addresses or ports clash, or none is left.
   */
  constructor(
    { own, all }: { readonly own: readonly ServiceObject[]; readonly all: readonly ServiceObject[] },
    taken: ReadonlySet<number>,
    cidr: Cidr,
    family: AddressFamily,
    notes: Notes,
  ) {
    this.#clusterIps = new ClusterIps(cidr, taken, family);
    this.#cidr = cidr;
    this.#family = family;
    this.#notes = notes;
    this.firstPort = new Uint32Array(own.length);
    this.#reserve(own);
    this.#reserveNodePorts(all);
    for (const service of numberedFor(family, all)) this.#numbered.set(service, this.#number(service));
    for (const [index, service] of own.entries()) {
      this.firstPort[index] = this.ports.count;
      this.#add(index, service);
    }
  }

  #reserve(services: readonly ServiceObject[]): void {
    const byAddress = new Map<number, ServiceObject>();
    for (const service of services) {
      if (!isProgrammed(service)) continue;
      const { clusterIp } = service;
      const holder = clusterIp === undefined ? undefined : byAddress.get(clusterIp);
      if (holder !== undefined) {
        throw service.field
          .get('spec')
          .get('clusterIP')
          .error(
            `${this.#family.text(clusterIp!)} is the ClusterIP of two Services`,
            `the other is ${named(holder)}`,
          );
      }
      if (clusterIp !== undefined) byAddress.set(clusterIp, service);
    }
  }

  #reserveNodePorts(services: readonly ServiceObject[]): void {
    const byNodePort = new Map<number, ServiceObject>();
    for (const service of services) {
      if (!isProgrammed(service)) continue;
      const { healthCheckNodePort } = service;
      if (healthCheckNodePort !== 0) this.#nodePorts.take(healthCheckNodePort);
      for (const { field, protocol, nodePort } of service.ports) {
        if (nodePort === 0) continue;
        const other = byNodePort.get(protocol * 65536 + nodePort);
        if (other !== undefined) {
          throw field
            .get('nodePort')
            .error(`${nodePort} is given twice for one protocol`, `the other is ${named(other)}`);
        }
        byNodePort.set(protocol * 65536 + nodePort, service);
        this.#nodePorts.take(nodePort);
      }
    }
  }

  #add(index: number, service: ServiceObject): void {
    const proxied = isProgrammed(service);
    const clusterIp = proxied ? (service.clusterIp ?? this.#allocateClusterIp(service.field)) : 0;
    const { ports, healthCheck, allocated } = this.#numbered.get(service)!;
    this.#notes.nodePorts += allocated;
    this.services.push({
      namespace: service.namespace,
      name: service.name,
      type: service.type,
      clusterIp,
      externalIps: service.externalIps,
      loadBalancerIps: service.loadBalancerIps,
      sourceRanges: service.sourceRanges,
      affinityS: service.affinityS,
      internalPolicyLocal: service.internalPolicyLocal,
      externalPolicyLocal: service.externalPolicyLocal,
      healthCheckNodePort: healthCheck,
      // Endpoints that come later get their own zone also where the first ones were shared out.
      distribution: service.topologyAuto ? 'zone' : service.distribution,
    });
    if (service.type === 'ExternalName') this.#notes.externalNames++;
    else if (service.headless) this.#notes.headless++;
    if (!proxied) return;
    if (service.type === 'LoadBalancer' && service.loadBalancerIps.length === 0) {
      this.#notes.withoutLoadBalancer.push(`${service.namespace}/${service.name}`);
    }
    for (const [at, { name, protocol, port }] of service.ports.entries()) {
      this.ports.add({ service: index, clusterIp, name, protocol, port, nodePort: ports[at]! });
    }
  }

  #number(service: ServiceObject): NumberedPorts {
    const before = this.#nodePorts.allocated;
    const proxied = isProgrammed(service);
    const ports = proxied ? this.#nodePortsOf(service) : [];
    // A load balancer asks each node whether it has endpoints (allocated after the ports, as alloc.go does).
    const checked = service.type === 'LoadBalancer' && service.externalPolicyLocal && proxied;
    const healthCheck = service.healthCheckNodePort || (checked ? this.#allocateNodePort(service.field) : 0);
    return { ports, healthCheck, allocated: this.#nodePorts.allocated - before };
  }

  /**
   * The node ports of a Service's ports. One number serves the same port of several protocols, unless the
   * input says otherwise (pkg/registry/core/service/storage/alloc.go, initNodePorts).
   */
  #nodePortsOf(service: ServiceObject): number[] {
    const byPort = new Map<number, number>();
    for (const { port, nodePort } of service.ports) if (nodePort !== 0) byPort.set(port, nodePort);
    return service.ports.map(({ field, port, nodePort }: PortObject) => {
      if (nodePort !== 0 || !service.allocateNodePorts) return nodePort;
      const shared = byPort.get(port) ?? this.#allocateNodePort(field);
      byPort.set(port, shared);
      return shared;
    });
  }

  #allocateClusterIp(field: Field): number {
    const address = this.#clusterIps.next();
    if (address === 0)
      throw field.error(
        `no ClusterIP is left in ${this.#family.cidrText(this.#cidr)}`,
        'wanted a larger serviceCidr',
      );
    this.#notes.clusterIps++;
    return address;
  }

  #allocateNodePort(field: Field): number {
    const port = this.#nodePorts.next();
    if (port === 0) {
      throw field.error(
        `no NodePort is left in ${NODE_PORT_MIN}-${NODE_PORT_MAX}`,
        'wanted fewer Services of type NodePort or LoadBalancer, or allocateLoadBalancerNodePorts: false',
      );
    }
    return port;
  }
}

/** Those with an IPv4 half come first, whichever half is read; the others matter to IPv6 alone. */
function numberedFor(family: AddressFamily, services: readonly ServiceObject[]): ServiceObject[] {
  const first = services.filter((service) => service.families !== 'IPv6');
  const others = services.filter((service) => service.families === 'IPv6');
  return family.name === 'ipv4' ? first : [...first, ...others];
}

function named(service: ServiceObject): string {
  return `${service.namespace}/${service.name} at ${service.field.place}`;
}
