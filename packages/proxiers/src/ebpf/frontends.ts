import type { Cidr } from '@vipsim/sim-core';
import { isProxied, type Cluster, type Service } from '../kubernetes/cluster.ts';
import type { BackendList } from './backend-list.ts';
import {
  AFFINITY,
  EXTERNAL,
  EXTERNAL_IP,
  EXTERNAL_LOCAL,
  INTERNAL,
  INTERNAL_LOCAL,
  LOAD_BALANCER,
  NODE_PORT,
  ROUTABLE,
  SOURCE_RANGE,
  TWO_SCOPES,
} from './service-maps.ts';

/** Reverse NAT ids are 16 bits wide, and 0 is none. */
export const FRONTENDS_MAX = 65_535;

export type FrontendType = 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalIPs';

/** One address under which a service port is reached on this node, and what the agent has programmed for it. */
export interface Frontend {
  readonly servicePort: number;
  readonly type: FrontendType;
  readonly address: number;
  readonly port: number;
  readonly protocol: number;
  readonly scope: number;
  /** Both flag bytes: the second one shifted left by 8. */
  readonly flags: number;
  readonly revNat: number;
  /** Only backends of this node. */
  readonly local: boolean;
  readonly affinityS: number;
  /** loadBalancerSourceRanges that hold here. */
  readonly sourceRanges: readonly Cidr[];
  /** Has an entry for all its other ports: ClusterIPs and load balancer addresses. */
  readonly wildcard: boolean;
  /** Backends that the frontend should have. */
  list: BackendList;
  /** Slots in the map, counted from 1. */
  written: number;
  /** Whether its master is in the map. */
  programmed: boolean;
}

const NO_RANGES: readonly Cidr[] = [];
const NOTHING: BackendList = { ids: new Uint32Array(0), rows: new Int32Array(0), active: 0, selectable: 0 };

/**
 * The frontends of a cluster as this node has them: per service port its ClusterIP, for a node port the surrogate
 * 0.0.0.0 and the node's own address, load balancer addresses, external IPs; the last three once more in the
 * internal scope where only one of the two traffic policies is Local.
 * Source: pkg/loadbalancer/reflectors/k8s.go, reconciler/bpf_reconciler.go. Reverse NAT ids count up from 1.
 */
export class Frontends {
  readonly all: Frontend[] = [];
  /** Frontends that the cluster needs; those beyond FRONTENDS_MAX have no id and do not exist. */
  needed = 0;
  /** Frontends [first[p], first[p + 1]) belong to service port p. */
  readonly first: Uint32Array;

  constructor(cluster: Cluster, nodeAddress: number) {
    const { ports } = cluster;
    this.first = new Uint32Array(ports.count + 1);
    for (let port = 0; port < ports.count; port++) {
      const service = cluster.services[ports.service[port]!]!;
      if (isProxied(service)) this.#addPort(cluster, port, service, nodeAddress);
      this.first[port + 1] = this.all.length;
    }
  }

  sourceRanges(revNat: number): readonly Cidr[] {
    return this.all[revNat - 1]?.sourceRanges ?? NO_RANGES;
  }

  #addPort(cluster: Cluster, port: number, service: Service, nodeAddress: number): void {
    const { ports } = cluster;
    const own = ports.port[port]!;
    const nodePort = ports.nodePort[port]!;
    this.#add(cluster, port, service, 'ClusterIP', ports.clusterIp[port]!, own, 0);
    if (nodePort !== 0) {
      this.#addScopes(cluster, port, service, 'NodePort', 0, nodePort, NODE_PORT);
      this.#addScopes(cluster, port, service, 'NodePort', nodeAddress, nodePort, NODE_PORT | ROUTABLE);
    }
    for (const address of service.loadBalancerIps) {
      const range = service.sourceRanges.length > 0 ? SOURCE_RANGE : 0;
      this.#addScopes(cluster, port, service, 'LoadBalancer', address, own, LOAD_BALANCER | ROUTABLE | range);
    }
    for (const address of service.externalIps) {
      this.#addScopes(cluster, port, service, 'ExternalIPs', address, own, EXTERNAL_IP | ROUTABLE);
    }
  }

  #addScopes(
    cluster: Cluster,
    servicePort: number,
    service: Service,
    type: FrontendType,
    address: number,
    port: number,
    flags: number,
  ): void {
    const two = service.internalPolicyLocal !== service.externalPolicyLocal;
    this.#add(cluster, servicePort, service, type, address, port, two ? flags | (TWO_SCOPES << 8) : flags);
    if (two) this.#add(cluster, servicePort, service, type, address, port, flags, INTERNAL);
  }

  #add(
    cluster: Cluster,
    servicePort: number,
    service: Service,
    type: FrontendType,
    address: number,
    port: number,
    kind: number,
    scope: number = EXTERNAL,
  ): void {
    this.needed++;
    if (this.all.length === FRONTENDS_MAX) return;
    let flags = kind;
    if (service.affinityS > 0) flags |= AFFINITY;
    if (type !== 'ClusterIP' && service.externalPolicyLocal) flags |= EXTERNAL_LOCAL;
    if (service.internalPolicyLocal) flags |= INTERNAL_LOCAL << 8;
    const internal = type === 'ClusterIP' || scope === INTERNAL;
    this.all.push({
      servicePort,
      type,
      address,
      port,
      protocol: cluster.ports.protocol[servicePort]!,
      scope,
      flags,
      revNat: this.all.length + 1,
      local: internal ? service.internalPolicyLocal : service.externalPolicyLocal,
      affinityS: service.affinityS,
      sourceRanges: (flags & SOURCE_RANGE) !== 0 ? service.sourceRanges : NO_RANGES,
      wildcard: scope === EXTERNAL && (type === 'ClusterIP' || type === 'LoadBalancer'),
      list: NOTHING,
      written: 0,
      programmed: false,
    });
  }
}
