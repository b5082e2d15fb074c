import { IPV4, type AddressFamily, type Stream } from '@vipsim/sim-core';
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

/** What ipset allows for a name. */
const NAME_MAX = 31;

/**
 * Keyed by their IPv4 names; those of IPv6 are named KUBE-6- for KUBE-, cut to 31 characters.
 * @param seeds each set draws the seed of its hash, as the kernel does at its creation.
 */
export function createSets(seeds: Stream, family: AddressFamily = IPV4): Sets {
  const named = (name: string): string =>
    family.name === 'ipv4' ? name : name.replace('KUBE-', 'KUBE-6-').slice(0, NAME_MAX);
  return Object.fromEntries(
    KUBE_SETS.map(([name, type, comment]) => [
      name,
      new IpSet(named(name), type, comment, seeds.uint32(), undefined, family),
    ]),
  ) as Sets;
}

/** Text for `ipset restore`: kube-proxy's own commands, one process each there, in its order. */
export function* ipsetCommands(sets: Sets): Generator<string> {
  for (const set of Object.values(sets)) yield set.createText();
  for (const set of Object.values(sets))
    for (const text of set.texts()) yield `add ${set.name} ${text} -exist`;
}

/** A sentence on the first set that is to hold more than it takes; undefined where all is well. */
export function fullSetOf(sets: Sets): string | undefined {
  const set = Object.values(sets).find(({ wanted, elementsMax }) => wanted > elementsMax);
  if (set === undefined) return undefined;
  return (
    `${set.name} is to hold ${set.wanted} elements and takes ${set.elementsMax}: connections to the others are ` +
    'not masqueraded, and refused if their address is in KUBE-IPVS-IPS. kube-proxy has no setting for it; ' +
    'use fewer Services or another mode.'
  );
}
