import { netmask, type Cidr } from '@vipsim/sim-core';
import { isProxied, type Cluster, type Service } from '../../kubernetes/cluster.ts';
import type { BackendList } from './backend-list.ts';
import {
  AFFINITY,
  EXTERNAL,
  EXTERNAL_IP,
  EXTERNAL_LOCAL,
  FORWARD_DSR,
  INTERNAL,
  INTERNAL_LOCAL,
  LOAD_BALANCER,
  NODE_PORT,
  ROUTABLE,
  SOURCE_RANGE,
  TWO_SCOPES,
} from '../service-maps.ts';
import { TCP } from '@vipsim/sim-core';

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
  /** A node's address for a node port: reconciled with the surrogate before it, as one object. */
  readonly expanded: boolean;
  /** Only backends of this node. */
  readonly local: boolean;
  readonly affinityS: number;
  /** loadBalancerSourceRanges of its Service; flag SOURCE_RANGE says whether they hold here. */
  readonly sourceRanges: readonly Cidr[];
  /** Has an entry for all its other ports: ClusterIPs and load balancer addresses. */
  readonly wildcard: boolean;
  /** Has a table of its own. */
  readonly maglev: boolean;
  /** Backends that the frontend should have. */
  list: BackendList;
  /** Slots in the map, counted from 1. */
  written: number;
  /** Whether its reverse NAT entry, its master and its Maglev table are in the maps. */
  reversed: boolean;
  programmed: boolean;
  tabled: boolean;
  /** Of the source ranges, so many are in the map. */
  ranged: number;
}

/** What of the agent's settings shapes frontends. */
export interface FrontendSettings {
  /** Serve node ports, the node's own one first. */
  readonly nodeAddresses: readonly number[];
  readonly maglev: boolean;
  readonly externalClusterIP: boolean;
  readonly lbMode: 'snat' | 'dsr' | 'hybrid';
  readonly protocolInKey: boolean;
}

const NO_RANGES: readonly Cidr[] = [];
export const NO_BACKENDS: BackendList = {
  ids: new Uint32Array(0),
  rows: new Int32Array(0),
  active: 0,
  selectable: 0,
};

interface Shape {
  readonly servicePort: number;
  readonly service: Service;
  readonly type: FrontendType;
  readonly address: number;
  readonly port: number;
  readonly flags: number;
  readonly scope: number;
  readonly expanded: boolean;
}

/**
 * The frontends of a cluster as this node has them: per service port its ClusterIP, for a node port the surrogate
 * 0.0.0.0 and each of the node's addresses, load balancer addresses, external IPs; the last three once more in the
 * internal scope where only one of the two traffic policies is Local.
 * Source: pkg/loadbalancer/reflectors/k8s.go, reconciler/bpf_reconciler.go. Reverse NAT ids count up from 1.
 * Not modelled: HostPorts, local redirect policies, L7 Services, annotations of single Services.
 */
export class Frontends {
  readonly all: Frontend[] = [];
  /** Frontends that the cluster needs; those beyond FRONTENDS_MAX have no id and do not exist. */
  needed = 0;
  /** Frontends that share address and port with one of another protocol that came later, and so do not exist. */
  collided = 0;
  /** Frontends [first[p], first[p + 1]) belong to service port p. */
  readonly first: Uint32Array;
  readonly #cluster: Cluster;
  readonly #settings: FrontendSettings;
  /** By address and port: the service port that was last to claim them, where protocols are not told apart. */
  readonly #claims = new Map<string, number>();

  constructor(cluster: Cluster, settings: FrontendSettings) {
    const { ports } = cluster;
    this.#cluster = cluster;
    this.#settings = settings;
    this.first = new Uint32Array(ports.count + 1);
    if (!settings.protocolInKey) this.#eachPort((shape) => this.#claim(shape));
    this.#eachPort((shape) => this.#add(shape));
  }

  sourceRanges(revNat: number): readonly Cidr[] {
    return this.all[revNat - 1]?.sourceRanges ?? NO_RANGES;
  }

  #eachPort(take: (shape: Shape) => void): void {
    const { ports, services } = this.#cluster;
    for (let port = 0; port < ports.count; port++) {
      const service = services[ports.service[port]!]!;
      if (isProxied(service)) this.#shapes(port, service, take);
      this.first[port + 1] = this.all.length;
    }
  }

  #shapes(servicePort: number, service: Service, take: (shape: Shape) => void): void {
    const { ports } = this.#cluster;
    const { nodeAddresses, externalClusterIP } = this.#settings;
    const port = ports.port[servicePort]!;
    const nodePort = ports.nodePort[servicePort]!;
    const two = service.internalPolicyLocal !== service.externalPolicyLocal;
    const shape = { servicePort, service, port, scope: EXTERNAL, expanded: false };
    const scopes = (type: FrontendType, flags: number, addresses: readonly number[], at = port): void => {
      for (const scope of two ? [EXTERNAL, INTERNAL] : [EXTERNAL]) {
        const all = two && scope === EXTERNAL ? flags | (TWO_SCOPES << 8) : flags;
        addresses.forEach((address, i) => {
          const routable = address === 0 ? 0 : ROUTABLE;
          take({ ...shape, type, address, port: at, flags: all | routable, scope, expanded: i > 0 });
        });
      }
    };
    const clusterIp = ports.clusterIp[servicePort]!;
    take({ ...shape, type: 'ClusterIP', address: clusterIp, flags: externalClusterIP ? ROUTABLE : 0 });
    if (nodePort !== 0) scopes('NodePort', NODE_PORT, [0, ...nodeAddresses], nodePort);
    const range = service.sourceRanges.length > 0 ? SOURCE_RANGE : 0;
    for (const address of service.loadBalancerIps) scopes('LoadBalancer', LOAD_BALANCER | range, [address]);
    for (const address of service.externalIps) scopes('ExternalIPs', EXTERNAL_IP, [address]);
  }

  #claim({ address, port, scope, servicePort }: Shape): void {
    this.#claims.set(`${address}:${port}/${scope}`, servicePort);
  }

  #add({ servicePort, service, type, address, port, flags: kind, scope, expanded }: Shape): void {
    const { maglev, externalClusterIP, lbMode, protocolInKey } = this.#settings;
    if (!protocolInKey && this.#claims.get(`${address}:${port}/${scope}`) !== servicePort) {
      this.collided++;
      return;
    }
    this.needed++;
    if (this.all.length === FRONTENDS_MAX) return;
    const protocol = this.#cluster.ports.protocol[servicePort]!;
    let flags = kind;
    if (service.affinityS > 0) flags |= AFFINITY;
    if (type !== 'ClusterIP' && service.externalPolicyLocal) flags |= EXTERNAL_LOCAL;
    if (service.internalPolicyLocal) flags |= INTERNAL_LOCAL << 8;
    if (lbMode === 'dsr' || (lbMode === 'hybrid' && protocol === TCP)) flags |= FORWARD_DSR << 8;
    const internal = type === 'ClusterIP' || scope === INTERNAL;
    this.all.push({
      servicePort,
      type,
      address,
      port,
      protocol,
      scope,
      flags,
      revNat: this.all.length + 1,
      expanded,
      local: internal ? service.internalPolicyLocal : service.externalPolicyLocal,
      affinityS: service.affinityS,
      sourceRanges: service.sourceRanges.length === 0 ? NO_RANGES : unique(service.sourceRanges),
      wildcard: scope === EXTERNAL && (type === 'ClusterIP' || type === 'LoadBalancer'),
      maglev: maglev && address !== 0 && (type !== 'ClusterIP' || externalClusterIP),
      list: NO_BACKENDS,
      written: 0,
      reversed: false,
      programmed: false,
      tabled: false,
      ranged: 0,
    });
  }
}

/** Host bits cleared, each range once. */
function unique(ranges: readonly Cidr[]): readonly Cidr[] {
  const kept = new Map<string, Cidr>();
  for (const { address, prefix } of ranges) {
    const network = (address & netmask(prefix)) >>> 0;
    kept.set(`${network}/${prefix}`, { address: network, prefix });
  }
  return [...kept.values()];
}
