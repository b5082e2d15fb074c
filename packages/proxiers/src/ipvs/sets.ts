import type { Stream } from '@vipsim/sim-core';
import {
  BITMAP_PORT,
  HASH_IP,
  HASH_IP_PORT,
  HASH_IP_PORT_IP,
  HASH_IP_PORT_NET,
  IpSet,
  type SetType,
} from './ipset.ts';

const LOAD_BALANCER = 'Kubernetes service load balancer ip + port';
const NODE_PORT = 'Kubernetes nodeport';

/** kube-proxy's seventeen sets, in its order. Source: pkg/proxy/ipvs/ipset.go and proxier.go. */
const KUBE_SETS = [
  [
    'KUBE-LOOP-BACK',
    HASH_IP_PORT_IP,
    'Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose',
  ],
  ['KUBE-CLUSTER-IP', HASH_IP_PORT, 'Kubernetes service cluster ip + port for masquerade purpose'],
  [
    'KUBE-EXTERNAL-IP',
    HASH_IP_PORT,
    'Kubernetes service external ip + port for masquerade and filter purpose',
  ],
  [
    'KUBE-EXTERNAL-IP-LOCAL',
    HASH_IP_PORT,
    'Kubernetes service external ip + port with externalTrafficPolicy=local',
  ],
  ['KUBE-LOAD-BALANCER', HASH_IP_PORT, 'Kubernetes service lb portal'],
  ['KUBE-LOAD-BALANCER-FW', HASH_IP_PORT, `${LOAD_BALANCER} for load balancer with sourceRange`],
  ['KUBE-LOAD-BALANCER-LOCAL', HASH_IP_PORT, `${LOAD_BALANCER} with externalTrafficPolicy=local`],
  ['KUBE-LOAD-BALANCER-SOURCE-IP', HASH_IP_PORT_IP, `${LOAD_BALANCER} + source IP for packet filter purpose`],
  [
    'KUBE-LOAD-BALANCER-SOURCE-CIDR',
    HASH_IP_PORT_NET,
    `${LOAD_BALANCER} + source cidr for packet filter purpose`,
  ],
  ['KUBE-NODE-PORT-TCP', BITMAP_PORT, `${NODE_PORT} TCP port for masquerade purpose`],
  ['KUBE-NODE-PORT-LOCAL-TCP', BITMAP_PORT, `${NODE_PORT} TCP port with externalTrafficPolicy=local`],
  ['KUBE-NODE-PORT-UDP', BITMAP_PORT, `${NODE_PORT} UDP port for masquerade purpose`],
  ['KUBE-NODE-PORT-LOCAL-UDP', BITMAP_PORT, `${NODE_PORT} UDP port with externalTrafficPolicy=local`],
  [
    'KUBE-NODE-PORT-SCTP-HASH',
    HASH_IP_PORT,
    `${NODE_PORT} SCTP port for masquerade purpose with type 'hash ip:port'`,
  ],
  [
    'KUBE-NODE-PORT-LOCAL-SCTP-HASH',
    HASH_IP_PORT,
    `${NODE_PORT} SCTP port with externalTrafficPolicy=local with type 'hash ip:port'`,
  ],
  ['KUBE-HEALTH-CHECK-NODE-PORT', BITMAP_PORT, 'Kubernetes health check node port'],
  ['KUBE-IPVS-IPS', HASH_IP, 'Addresses on the ipvs interface'],
] as const satisfies readonly (readonly [string, SetType, string])[];

export type SetName = (typeof KUBE_SETS)[number][0];

/** All sets by name, in kube-proxy's order. */
export type Sets = Readonly<Record<SetName, IpSet>>;

/** @param seeds each set draws the seed of its hash, as the kernel does at its creation. */
export function createSets(seeds: Stream): Sets {
  return Object.fromEntries(
    KUBE_SETS.map(([name, type, comment]) => [name, new IpSet(name, type, comment, seeds.uint32())]),
  ) as Sets;
}
