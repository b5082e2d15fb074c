import type { Cidr } from '@vipsim/sim-core';
import { isProxied, type Cluster } from '../../kubernetes/cluster.ts';
import {
  ANY_NODE,
  DROP_COUNT,
  EXTERNAL_LOCAL,
  INTERNAL_LOCAL,
  MAGLEV,
  type FrontendValue,
} from './nat-maps.ts';

/** An entry of the frontend trie. */
export interface Frontend {
  readonly address: number;
  readonly port: number;
  readonly protocol: number;
  /** Only for clients of this range. */
  readonly range: Cidr | undefined;
  readonly flags: number;
  /** Its clients are dropped: the entry for all others, where ranges are given. */
  readonly drops: boolean;
  /** Outside clients are given out by a Maglev table of its own. */
  readonly tabled: boolean;
}

/**
 * The entries that a service port has on a node: its ClusterIP; load balancer addresses and external IPs, with one more
 * for each source range; a node port at each of the node's addresses and at 255.255.255.255, for those of all others.
 * Source: felix/bpf/proxy/syncer.go: external IPs carry no policy there, and source ranges hold for them, too. A Maglev
 * table serves load balancer addresses and external IPs alone (Calico documentation, "Add Maglev load balancing").
 * Not modelled: node ports of other nodes with internalTrafficPolicy Local, which have backends of their own there;
 * annotations of Services.
 */
export function frontendsOf(
  cluster: Cluster,
  servicePort: number,
  nodeAddresses: readonly number[],
  maglev: boolean,
): readonly Frontend[] {
  const { ports, services } = cluster;
  const service = services[ports.service[servicePort]!]!;
  if (!isProxied(service)) return [];
  const protocol = ports.protocol[servicePort]!;
  const port = ports.port[servicePort]!;
  const inside = service.internalPolicyLocal ? INTERNAL_LOCAL : 0;
  const both = inside | (service.externalPolicyLocal ? EXTERNAL_LOCAL : 0);
  const entry = { port, protocol, range: undefined, flags: inside, drops: false, tabled: false };
  const entries: Frontend[] = [{ ...entry, address: ports.clusterIp[servicePort]! }];
  const outside = (address: number, flags: number): void => {
    const all = maglev ? flags | MAGLEV : flags;
    const ranges = service.sourceRanges;
    for (const range of ranges) entries.push({ ...entry, address, range, flags: all, tabled: maglev });
    const open = ranges.length === 0;
    entries.push({ ...entry, address, flags: open ? all : 0, drops: !open, tabled: maglev && open });
  };
  for (const address of service.loadBalancerIps) outside(address, both);
  for (const address of service.externalIps) outside(address, 0);
  const nodePort = ports.nodePort[servicePort]!;
  if (nodePort !== 0) {
    const addresses = service.internalPolicyLocal ? nodeAddresses : [...nodeAddresses, ANY_NODE];
    for (const address of addresses) entries.push({ ...entry, address, port: nodePort, flags: both });
  }
  return entries;
}

/** Addresses that have a Maglev table: source ranges share the one of their address. */
export function tabledAddresses(entries: readonly Frontend[]): readonly number[] {
  return [...new Set(entries.filter(({ tabled }) => tabled).map(({ address }) => address))];
}

export function valueOf(
  frontend: Frontend,
  id: number,
  count: number,
  local: number,
  affinityS: number,
): FrontendValue {
  if (frontend.drops) return { id, count: DROP_COUNT, local: 0, affinityS: 0, flags: 0 };
  return { id, count, local, affinityS, flags: frontend.flags };
}
