import { SCTP } from '@vipsim/sim-core';
import { isProxied, type Cluster } from '../../kubernetes/cluster.ts';
import { VIPS_MAX } from './maps.ts';

/** An address that Katran serves for a service port. */
export interface Vip {
  /** Place of its ring; it never changes here. */
  readonly number: number;
  readonly servicePort: number;
  readonly address: number;
  readonly port: number;
  readonly protocol: number;
  /** Only endpoints of this node. */
  readonly local: boolean;
  /** A client's connections all go to one real. */
  readonly sticks: boolean;
  /** Its reals, by address, in the order in which they were added. */
  reals: readonly number[];
  programmed: boolean;
}

export interface VipList {
  readonly vips: readonly Vip[];
  /** By service port. */
  readonly byPort: ReadonlyMap<number, readonly Vip[]>;
  /** VIPs that the cluster has in all, and service ports that lack one. */
  readonly needed: number;
  readonly refused: ReadonlySet<number>;
}

/**
 * The VIPs of a cluster on a node: load balancer addresses, external IPs, and node ports at the node's own address; of
 * TCP and UDP, one for each port. The first 512 are taken, in the order of the input.
 * Katran knows nothing of Kubernetes: that these are its VIPs, that externalTrafficPolicy Local means the endpoints of
 * this node, and that sessionAffinity leaves the client's port out of the hash, is assumed of whoever feeds it.
 */
export function vipsOf(cluster: Cluster, nodeAddress: number): VipList {
  const { ports, services } = cluster;
  const vips: Vip[] = [];
  const byPort = new Map<number, Vip[]>();
  const refused = new Set<number>();
  let needed = 0;
  for (let servicePort = 0; servicePort < ports.count; servicePort++) {
    const service = services[ports.service[servicePort]!]!;
    const protocol = ports.protocol[servicePort]!;
    if (!isProxied(service) || protocol === SCTP) continue;
    const port = ports.port[servicePort]!;
    const places = [...service.loadBalancerIps, ...service.externalIps].map((address) => [address, port]);
    const nodePort = ports.nodePort[servicePort]!;
    if (nodePort !== 0) places.push([nodeAddress, nodePort]);
    needed += places.length;
    for (const [address, at] of places) {
      if (vips.length === VIPS_MAX) {
        refused.add(servicePort);
        break;
      }
      const vip: Vip = {
        number: vips.length,
        servicePort,
        address: address!,
        port: at!,
        protocol,
        local: service.externalPolicyLocal,
        sticks: service.affinityS > 0,
        reals: [],
        programmed: false,
      };
      vips.push(vip);
      const own = byPort.get(servicePort);
      if (own === undefined) byPort.set(servicePort, [vip]);
      else own.push(vip);
    }
  }
  return { vips, byPort, needed, refused };
}
