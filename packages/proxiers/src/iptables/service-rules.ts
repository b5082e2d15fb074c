import { contains, netmask, type Cidr } from '@vipsim/sim-core';
import type { Cluster, Service } from '../kubernetes/cluster.ts';
import type { ChainIndex } from './chain-index.ts';
import { EXT, FW, KUBE_MARK_MASQ, SEP, SVC, SVL } from './chains.ts';
import { threshold } from './probability.ts';
import {
  BARE_NAME,
  CLUSTER_IP,
  COMMENT,
  DESTINATION,
  DNAT,
  FROM_LOCAL,
  JUMP,
  LOAD_BALANCER_IP,
  MASQUERADE_EXTERNAL,
  MASQUERADE_LOCAL,
  NOTHING,
  OTHER_TRAFFIC,
  POD_TRAFFIC,
  PORT,
  PROTOCOL,
  ROUTE_LOCAL,
  SERVICE_SHAPE,
  SOURCE,
  SOURCE_NOT,
  STATISTIC,
  TO_ENDPOINT,
} from './rule.ts';
import type { RuleTable } from './rule-table.ts';
import { HAS_EXTERNAL, HAS_INTERNAL, USES_EXT, USES_FW, type ServicePlan } from './service-plan.ts';

/** What the chains of all services have in common in one sync. */
export interface ServiceRulesContext {
  readonly cluster: Cluster;
  readonly nodeAddress: number;
  readonly nat: RuleTable;
  readonly index: ChainIndex;
  readonly masqueradeAll: boolean;
  /** More than 1,000 endpoints in all: per-endpoint rules go without their comments. */
  readonly largeCluster: boolean;
}

/**
 * Stage the chains of one service port: KUBE-EXT, KUBE-FW, KUBE-SVC, KUBE-SVL and a KUBE-SEP for each endpoint.
 * Source: syncProxyRules in pkg/proxy/iptables/proxier.go. Not modelled: session affinity, topology hints, nfacct,
 * snatNodeInternalIP.
 */
export function stageService(context: ServiceRulesContext, plan: ServicePlan): void {
  const { cluster, index } = context;
  const service = cluster.services[cluster.ports.service[plan.servicePort]!]!;
  if ((plan.decisions & USES_EXT) !== 0) stageExternal(context, plan, service);
  if ((plan.decisions & USES_FW) !== 0) stageFirewall(context, plan, service);
  if (plan.cluster.length > 0) {
    stageDispatch(context, plan, SVC, plan.cluster, !service.internalPolicyLocal);
  }
  if (plan.local.length > 0) {
    stageDispatch(context, plan, SVL, plan.local, service.internalPolicyLocal);
  }
  for (const endpoint of plan.reachable) {
    stageEndpoint(context, plan.servicePort, endpoint, index.ensure(SEP, endpoint));
  }
}

/** The chain of the service port that carries traffic by the given policy. */
export function policyChain(index: ChainIndex, policyLocal: boolean, servicePort: number): number {
  return index.ensure(policyLocal ? SVL : SVC, servicePort);
}

function stageDispatch(
  context: ServiceRulesContext,
  plan: ServicePlan,
  kind: number,
  endpoints: Int32Array,
  internal: boolean,
): void {
  const { nat, index } = context;
  nat.begin(index.ensure(kind, plan.servicePort));
  if (internal && (plan.decisions & HAS_INTERNAL) !== 0) addClusterMasquerade(context, plan.servicePort);
  const comment = context.largeCluster ? 0 : COMMENT;
  const last = endpoints.length - 1;
  for (let i = 0; i <= last; i++) {
    const match = comment | (i < last ? STATISTIC : 0);
    const row = nat.add(match, JUMP, index.ensure(SEP, endpoints[i]!), TO_ENDPOINT);
    if (i < last) nat.rules.value[row] = threshold(endpoints.length - i);
  }
}

/** Traffic to the ClusterIP from outside the pod network must return through this node. */
function addClusterMasquerade(context: ServiceRulesContext, servicePort: number): void {
  const { nat, cluster } = context;
  const { ports, podCidr } = cluster;
  const match = context.masqueradeAll ? SERVICE_SHAPE : SERVICE_SHAPE | SOURCE_NOT;
  const row = nat.add(match, JUMP, KUBE_MARK_MASQ, CLUSTER_IP);
  nat.rules.protocol[row] = ports.protocol[servicePort]!;
  nat.rules.port[row] = ports.port[servicePort]!;
  nat.rules.destination[row] = ports.clusterIp[servicePort]!;
  nat.rules.destinationMask[row] = 0xffffffff;
  if (!context.masqueradeAll) setSource(nat.rules, row, podCidr);
}

function stageExternal(context: ServiceRulesContext, plan: ServicePlan, service: Service): void {
  const { nat, index, cluster } = context;
  const { servicePort } = plan;
  nat.begin(index.ensure(EXT, servicePort));
  if (service.externalPolicyLocal) {
    const toCluster = index.ensure(SVC, servicePort);
    const row = nat.add(COMMENT | SOURCE, JUMP, toCluster, POD_TRAFFIC);
    setSource(nat.rules, row, cluster.podCidr);
    nat.add(COMMENT | FROM_LOCAL, JUMP, KUBE_MARK_MASQ, MASQUERADE_LOCAL);
    nat.add(COMMENT | FROM_LOCAL, JUMP, toCluster, ROUTE_LOCAL);
  } else {
    nat.add(COMMENT, JUMP, KUBE_MARK_MASQ, MASQUERADE_EXTERNAL);
  }
  if ((plan.decisions & HAS_EXTERNAL) !== 0) {
    nat.add(0, JUMP, policyChain(index, service.externalPolicyLocal, servicePort), 0);
  }
}

function stageFirewall(context: ServiceRulesContext, plan: ServicePlan, service: Service): void {
  const { nat, index, nodeAddress } = context;
  const { servicePort } = plan;
  const external = index.ensure(EXT, servicePort);
  nat.begin(index.ensure(FW, servicePort));
  for (const range of service.sourceRanges) {
    setSource(nat.rules, nat.add(COMMENT | SOURCE, JUMP, external, LOAD_BALANCER_IP), range);
  }
  // A node that is let in must also be let in when its packet carries the load balancer's address as source.
  if (service.sourceRanges.some((range) => contains(range, nodeAddress))) {
    for (const address of service.loadBalancerIps) {
      const row = nat.add(COMMENT | SOURCE, JUMP, external, LOAD_BALANCER_IP);
      setSource(nat.rules, row, { address, prefix: 32 });
    }
  }
  nat.add(COMMENT, NOTHING, servicePort, OTHER_TRAFFIC);
}

function stageEndpoint(
  context: ServiceRulesContext,
  servicePort: number,
  endpoint: number,
  chain: number,
): void {
  const { nat, cluster } = context;
  const comment = context.largeCluster ? 0 : COMMENT;
  nat.begin(chain);
  const hairpin = nat.add(comment | SOURCE, JUMP, KUBE_MARK_MASQ, BARE_NAME);
  nat.rules.source[hairpin] = cluster.endpoints.address[endpoint]!;
  nat.rules.sourceMask[hairpin] = 0xffffffff;
  const translate = nat.add(comment | PROTOCOL, DNAT, endpoint, BARE_NAME);
  nat.rules.protocol[translate] = cluster.ports.protocol[servicePort]!;
}

/** A front rule: comment, protocol, port and perhaps a destination. */
export function addServiceRule(
  table: RuleTable,
  rule: {
    readonly protocol: number;
    readonly port: number;
    /** 0 for any. */
    readonly destination: number;
    readonly target: number;
    readonly argument: number;
    readonly about: number;
  },
  extra = 0,
): void {
  const match = COMMENT | PROTOCOL | PORT | (rule.destination === 0 ? 0 : DESTINATION) | extra;
  const row = table.add(match, rule.target, rule.argument, rule.about);
  table.rules.protocol[row] = rule.protocol;
  table.rules.port[row] = rule.port;
  table.rules.destination[row] = rule.destination;
  table.rules.destinationMask[row] = rule.destination === 0 ? 0 : 0xffffffff;
}

function setSource(rules: RuleTable['rules'], row: number, cidr: Cidr): void {
  rules.source[row] = cidr.address;
  rules.sourceMask[row] = netmask(cidr.prefix);
}
