import { netmask, TCP } from '@vipsim/sim-core';
import { familyOf, type Cluster } from '../kubernetes/cluster.ts';
import type { ChainIndex } from './chain-index.ts';
import {
  EXT,
  FW,
  KUBE_EXTERNAL_SERVICES,
  KUBE_NODEPORTS,
  KUBE_PROXY_FIREWALL,
  KUBE_SERVICES,
} from './chains.ts';
import {
  ACCEPT,
  BARE_NAME,
  CLUSTER_IP,
  COMMENT,
  DESTINATION,
  DESTINATION_NOT,
  DROP_PACKET,
  EXTERNAL_IP,
  HEALTH_CHECK,
  JUMP,
  LOAD_BALANCER_IP,
  NFACCT,
  NODE_PORTS_LAST,
  NOT_ACCEPTED,
  NO_ENDPOINTS,
  NO_LOCAL_ENDPOINTS,
  REJECT_PACKET,
  TO_LOCAL,
} from './rule.ts';
import type { RuleTable } from './rule-table.ts';
import type { RulesetOptions } from './ruleset-options.ts';
import { addServiceRule, policyChain } from './service-rules.ts';
import {
  GUARDED,
  HAS_ENDPOINTS,
  HAS_EXTERNAL,
  HAS_INTERNAL,
  USES_FIREWALL,
} from '../kubernetes/service-plan.ts';

/**
 * The chains that every sync writes whole, because all service ports share them. Services come in the order of
 * the cluster's ports; upstream iterates a Go map, so its order changes from sync to sync.
 * Source: syncProxyRules in pkg/proxy/iptables/proxier.go.
 */

const LOOPBACK_NET = 0x7f000000;
/** The nfacct counter localhost_nps_accepted_pkts. */
const LOCALHOST_ACCEPTED = 2;

/** Stage KUBE-SERVICES and KUBE-NODEPORTS of the nat table. `decisions` by service port. */
export function stageNatFront(
  cluster: Cluster,
  nat: RuleTable,
  index: ChainIndex,
  decisions: Uint8Array,
  options: RulesetOptions,
): void {
  const { ports } = cluster;
  nat.begin(KUBE_SERVICES);
  for (let servicePort = 0; servicePort < ports.count; servicePort++) {
    const bits = decisions[servicePort]!;
    if ((bits & HAS_ENDPOINTS) === 0) continue;
    const service = cluster.services[ports.service[servicePort]!]!;
    const rule = { protocol: ports.protocol[servicePort]!, port: ports.port[servicePort]!, target: JUMP };
    if ((bits & HAS_INTERNAL) !== 0) {
      const argument = policyChain(index, service.internalPolicyLocal, servicePort);
      const destination = ports.clusterIp[servicePort]!;
      addServiceRule(nat, { ...rule, destination, argument, about: CLUSTER_IP });
    }
    for (const destination of service.externalIps) {
      const argument = index.ensure(EXT, servicePort);
      addServiceRule(nat, { ...rule, destination, argument, about: EXTERNAL_IP });
    }
    for (const destination of service.loadBalancerIps) {
      const argument = index.ensure((bits & USES_FIREWALL) !== 0 ? FW : EXT, servicePort);
      addServiceRule(nat, { ...rule, destination, argument, about: LOAD_BALANCER_IP });
    }
  }
  addNodePortJumps(cluster, nat, options);

  const counted = options.nfacct && options.localhostNodePorts;
  nat.begin(KUBE_NODEPORTS);
  for (let servicePort = 0; servicePort < ports.count; servicePort++) {
    const port = ports.nodePort[servicePort]!;
    if (port === 0 || (decisions[servicePort]! & HAS_ENDPOINTS) === 0) continue;
    const argument = index.ensure(EXT, servicePort);
    const protocol = ports.protocol[servicePort]!;
    const rule = { protocol, port, target: JUMP, argument, about: BARE_NAME };
    if (counted) {
      const row = addServiceRule(nat, { ...rule, destination: LOOPBACK_NET }, NFACCT);
      nat.rules.destinationMask[row] = netmask(8);
      nat.rules.value[row] = LOCALHOST_ACCEPTED;
    }
    addServiceRule(nat, { ...rule, destination: 0 });
  }
}

/** The last rules of KUBE-SERVICES: packets to this node's addresses, or to those that serve node ports. */
function addNodePortJumps(cluster: Cluster, nat: RuleTable, options: RulesetOptions): void {
  if (options.nodePortAddresses === undefined) {
    const { exceptLoopback } = options;
    const match = COMMENT | TO_LOCAL | (exceptLoopback === undefined ? 0 : DESTINATION_NOT);
    const row = nat.add(match, JUMP, KUBE_NODEPORTS, NODE_PORTS_LAST);
    if (exceptLoopback === undefined) return;
    nat.rules.destination[row] = exceptLoopback.address;
    nat.rules.destinationMask[row] = familyOf(cluster).mask(exceptLoopback.prefix);
    return;
  }
  for (const address of options.nodePortAddresses) {
    const row = nat.add(COMMENT | DESTINATION, JUMP, KUBE_NODEPORTS, NODE_PORTS_LAST);
    nat.rules.destination[row] = address;
    nat.rules.destinationMask[row] = 0xffffffff;
  }
}

/** Stage the filter table's chains that depend on services. */
export function stageFilterFront(cluster: Cluster, filter: RuleTable, decisions: Uint8Array): void {
  filter.begin(KUBE_SERVICES);
  for (let servicePort = 0; servicePort < cluster.ports.count; servicePort++) {
    if ((decisions[servicePort]! & HAS_INTERNAL) !== 0) continue;
    addRefusal(cluster, filter, servicePort, cluster.ports.clusterIp[servicePort]!, decisions);
  }
  filter.begin(KUBE_EXTERNAL_SERVICES);
  for (let servicePort = 0; servicePort < cluster.ports.count; servicePort++) {
    if ((decisions[servicePort]! & HAS_EXTERNAL) !== 0) continue;
    const service = cluster.services[cluster.ports.service[servicePort]!]!;
    for (const address of service.externalIps) addRefusal(cluster, filter, servicePort, address, decisions);
    for (const address of service.loadBalancerIps) {
      addRefusal(cluster, filter, servicePort, address, decisions);
    }
    if (cluster.ports.nodePort[servicePort] !== 0) addRefusal(cluster, filter, servicePort, 0, decisions);
  }
  stageHealthChecks(cluster, filter);
  stageFirewallDrops(cluster, filter, decisions);
}

/** Nothing to send it to: tell the sender, or with endpoints elsewhere that the policy rules out, say nothing. */
function addRefusal(
  cluster: Cluster,
  filter: RuleTable,
  servicePort: number,
  destination: number,
  decisions: Uint8Array,
): void {
  const { ports } = cluster;
  const elsewhere = (decisions[servicePort]! & HAS_ENDPOINTS) !== 0;
  addServiceRule(
    filter,
    {
      protocol: ports.protocol[servicePort]!,
      port: destination === 0 ? ports.nodePort[servicePort]! : ports.port[servicePort]!,
      destination,
      target: elsewhere ? DROP_PACKET : REJECT_PACKET,
      argument: servicePort,
      about: elsewhere ? NO_LOCAL_ENDPOINTS : NO_ENDPOINTS,
    },
    destination === 0 ? TO_LOCAL : 0,
  );
}

function stageHealthChecks(cluster: Cluster, filter: RuleTable): void {
  filter.begin(KUBE_NODEPORTS);
  for (let servicePort = 0; servicePort < cluster.ports.count; servicePort++) {
    const port = cluster.services[cluster.ports.service[servicePort]!]!.healthCheckNodePort;
    if (port === 0) continue;
    addServiceRule(filter, {
      protocol: TCP,
      port,
      destination: 0,
      target: ACCEPT,
      argument: servicePort,
      about: HEALTH_CHECK,
    });
  }
}

/** What a KUBE-FW chain in nat did not send on to the service still carries the load balancer's address. */
function stageFirewallDrops(cluster: Cluster, filter: RuleTable, decisions: Uint8Array): void {
  filter.begin(KUBE_PROXY_FIREWALL);
  for (let servicePort = 0; servicePort < cluster.ports.count; servicePort++) {
    if ((decisions[servicePort]! & GUARDED) !== GUARDED) continue;
    const { ports } = cluster;
    for (const destination of cluster.services[ports.service[servicePort]!]!.loadBalancerIps) {
      addServiceRule(filter, {
        protocol: ports.protocol[servicePort]!,
        port: ports.port[servicePort]!,
        destination,
        target: DROP_PACKET,
        argument: servicePort,
        about: NOT_ACCEPTED,
      });
    }
  }
}
