import { SCTP, TCP, UDP } from '@vipsim/sim-core';
import type { Cluster } from '../kubernetes/cluster.ts';
import { EXTERNAL, FIREWALL, LOCAL, SERVICE, fixedChain, fixedSet, serviceChain } from './names.ts';
import {
  HAS_ENDPOINTS,
  HAS_EXTERNAL,
  HAS_INTERNAL,
  PROXIED,
  USES_FIREWALL,
  type ServicePlan,
} from '../kubernetes/service-plan.ts';

/**
 * Elements of the shared sets and maps, as numbers.
 *
 *     key    address × 2^18 + protocol × 2^16 + port; address and port are 0 where the set has none
 *     value  0 in a set; 1 drop; 2 + chain goto
 */

export const IN_SET = 0;
export const DROPS = 1;
const GOTO = 2;

export const CLUSTER_IPS = fixedSet('cluster-ips');
export const NODEPORT_IPS = fixedSet('nodeport-ips');
export const HAIRPIN = fixedSet('hairpin-connections');
export const SERVICE_IPS = fixedSet('service-ips');
export const SERVICE_NODEPORTS = fixedSet('service-nodeports');
export const NO_ENDPOINT_SERVICES = fixedSet('no-endpoint-services');
export const NO_ENDPOINT_NODEPORTS = fixedSet('no-endpoint-nodeports');
export const FIREWALL_IPS = fixedSet('firewall-ips');

const REJECTS = gotoValue(fixedChain('reject-chain'));
const PROTOCOLS = [TCP, UDP, SCTP] as const;

export function keyOf(address: number, protocol: number, port: number): number {
  return address * 262_144 + (protocol === TCP ? 0 : protocol === UDP ? 1 : 2) * 65_536 + port;
}

export function addressOf(key: number): number {
  return Math.floor(key / 262_144);
}

export function protocolOf(key: number): number {
  return PROTOCOLS[Math.floor(key / 65_536) & 3]!;
}

export function portOf(key: number): number {
  return key % 65_536;
}

export function gotoValue(chain: number): number {
  return GOTO + chain;
}

/** The chain that a value leads to; -1 for other verdicts and for sets. */
export function chainOf(value: number): number {
  return value >= GOTO ? value - GOTO : -1;
}

/** Elements of the two maps for Services without endpoints say whose they are. */
export function hasComment(set: number): boolean {
  return set === NO_ENDPOINT_SERVICES || set === NO_ENDPOINT_NODEPORTS;
}

/** `value` as above. */
export type ElementVisitor = (set: number, key: number, value: number) => void;

/**
 * The elements that a service port has, in kube-proxy's order.
 * `hairpin`: of endpoints on the node too (since 1.36).
 */
export function visitElements(
  cluster: Cluster,
  plan: ServicePlan,
  hairpin: { readonly node: number } | undefined,
  visit: ElementVisitor,
): void {
  const { servicePort, decisions } = plan;
  if ((decisions & PROXIED) === 0) return;
  const { ports, services } = cluster;
  const service = services[ports.service[servicePort]!]!;
  const protocol = ports.protocol[servicePort]!;
  const port = ports.port[servicePort]!;
  const hasEndpoints = (decisions & HAS_ENDPOINTS) !== 0;
  const hasExternal = (decisions & HAS_EXTERNAL) !== 0;
  if (hairpin !== undefined) visitHairpins(cluster, plan, hairpin.node, visit);

  const clusterIp = ports.clusterIp[servicePort]!;
  visit(CLUSTER_IPS, keyOf(clusterIp, TCP, 0), IN_SET);
  if ((decisions & HAS_INTERNAL) !== 0) {
    const chain = serviceChain(servicePort, service.internalPolicyLocal ? LOCAL : SERVICE);
    visit(SERVICE_IPS, keyOf(clusterIp, protocol, port), gotoValue(chain));
  } else {
    visit(NO_ENDPOINT_SERVICES, keyOf(clusterIp, protocol, port), hasEndpoints ? DROPS : REJECTS);
  }
  const external = gotoValue(serviceChain(servicePort, EXTERNAL));
  const refusal = hasEndpoints ? DROPS : REJECTS;
  for (const address of service.externalIps) {
    const key = keyOf(address, protocol, port);
    if (hasEndpoints) visit(SERVICE_IPS, key, external);
    if (!hasExternal) visit(NO_ENDPOINT_SERVICES, key, refusal);
  }
  for (const address of service.loadBalancerIps) {
    const key = keyOf(address, protocol, port);
    if (hasEndpoints) visit(SERVICE_IPS, key, external);
    if ((decisions & USES_FIREWALL) !== 0) {
      visit(FIREWALL_IPS, key, gotoValue(serviceChain(servicePort, FIREWALL)));
    }
  }
  if (!hasExternal) {
    for (const address of service.loadBalancerIps) {
      visit(NO_ENDPOINT_SERVICES, keyOf(address, protocol, port), refusal);
    }
  }
  const nodePort = ports.nodePort[servicePort]!;
  if (nodePort === 0) return;
  const key = keyOf(0, protocol, nodePort);
  if (hasEndpoints) visit(SERVICE_NODEPORTS, key, external);
  if (!hasExternal) visit(NO_ENDPOINT_NODEPORTS, key, refusal);
}

function visitHairpins(cluster: Cluster, plan: ServicePlan, node: number, visit: ElementVisitor): void {
  const { endpoints, pods, ports } = cluster;
  const protocol = ports.protocol[plan.servicePort]!;
  for (const row of plan.reachable) {
    if (pods.node[endpoints.pod[row]!] !== node) continue;
    visit(HAIRPIN, keyOf(endpoints.address[row]!, protocol, endpoints.port[row]!), IN_SET);
  }
}
