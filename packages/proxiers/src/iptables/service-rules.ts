import { familyOf, type Cluster, type Service } from '../kubernetes/cluster.ts';
import type { ChainIndex } from './chain-index.ts';
import { EXT, FW, KUBE_MARK_MASQ, SEP, SVC, SVL } from './chains.ts';
import { setLocal } from './local-detector.ts';
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
  RECENT_CHECK,
  RECENT_SET,
  ROUTE_LOCAL,
  SERVICE_SHAPE,
  SOURCE,
  STATISTIC,
  TO_ENDPOINT,
} from './rule.ts';
import type { RuleTable } from './rule-table.ts';
import type { RulesetOptions } from './ruleset-options.ts';
import {
  GUARDED,
  HAS_EXTERNAL,
  HAS_INTERNAL,
  USES_EXTERNAL,
  type ServicePlan,
} from '../kubernetes/service-plan.ts';

/** What the chains of all services have in common in one sync. */
export interface ServiceRulesContext {
  readonly cluster: Cluster;
  readonly options: RulesetOptions;
  readonly nat: RuleTable;
  readonly index: ChainIndex;
  /** More than 1,000 endpoints in all: per-endpoint rules go without their comments. */
  readonly largeCluster: boolean;
}

/**
 * Stage the chains of one service port: KUBE-EXT, KUBE-FW, KUBE-SVC, KUBE-SVL and a KUBE-SEP for each endpoint.
 * Source: syncProxyRules, writeServiceToEndpointRules and writeServiceEndpointRules in
 * pkg/proxy/iptables/proxier.go.
 */
export function stageService(context: ServiceRulesContext, plan: ServicePlan): void {
  const { cluster, index } = context;
  const service = cluster.services[cluster.ports.service[plan.servicePort]!]!;
  if ((plan.decisions & USES_EXTERNAL) !== 0) stageExternal(context, plan, service);
  if ((plan.decisions & GUARDED) === GUARDED) stageFirewall(context, plan, service);
  if (plan.cluster.length > 0) {
    stageDispatch(context, plan, SVC, plan.cluster, service);
  }
  if (plan.local.length > 0) {
    stageDispatch(context, plan, SVL, plan.local, service);
  }
  const sticky = service.affinityS > 0 ? RECENT_SET : 0;
  for (const endpoint of plan.reachable) {
    stageEndpoint(context, plan.servicePort, endpoint, index.ensure(SEP, endpoint), sticky);
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
  { internalPolicyLocal, affinityS }: Service,
): void {
  const { nat, index } = context;
  const internal = (kind === SVL) === internalPolicyLocal;
  nat.begin(index.ensure(kind, plan.servicePort));
  if (internal && (plan.decisions & HAS_INTERNAL) !== 0) addClusterMasquerade(context, plan.servicePort);
  const comment = context.largeCluster ? 0 : COMMENT;
  const last = endpoints.length - 1;
  if (affinityS > 0) addRecentChecks(context, endpoints, affinityS);
  for (let i = 0; i <= last; i++) {
    const match = comment | (i < last ? STATISTIC : 0);
    const row = nat.add(match, JUMP, index.ensure(SEP, endpoints[i]!), TO_ENDPOINT);
    if (i < last) nat.rules.value[row] = threshold(endpoints.length - i);
  }
}

/** A client that an endpoint remembers goes back to it before anything is drawn. */
function addRecentChecks(context: ServiceRulesContext, endpoints: Int32Array, seconds: number): void {
  const { nat, index } = context;
  const comment = context.largeCluster ? 0 : COMMENT;
  for (const endpoint of endpoints) {
    const row = nat.add(comment | RECENT_CHECK, JUMP, index.ensure(SEP, endpoint), TO_ENDPOINT);
    nat.rules.value[row] = seconds;
  }
}

/** Traffic to the ClusterIP from outside the pod network must return through this node. */
function addClusterMasquerade(context: ServiceRulesContext, servicePort: number): void {
  const { nat, cluster } = context;
  const { masqueradeAll, detector } = context.options;
  const { ports } = cluster;
  const outside = masqueradeAll ? 0 : detector.ifNotLocal;
  if (outside === 0 && !masqueradeAll) return;
  const row = nat.add(SERVICE_SHAPE | outside, JUMP, KUBE_MARK_MASQ, CLUSTER_IP);
  nat.rules.protocol[row] = ports.protocol[servicePort]!;
  nat.rules.port[row] = ports.port[servicePort]!;
  nat.rules.destination[row] = ports.clusterIp[servicePort]!;
  nat.rules.destinationMask[row] = 0xffffffff;
  if (outside !== 0) setLocal(nat.rules, row, detector);
}

function stageExternal(context: ServiceRulesContext, plan: ServicePlan, service: Service): void {
  const { nat, index } = context;
  const { detector } = context.options;
  const { servicePort } = plan;
  nat.begin(index.ensure(EXT, servicePort));
  if (service.externalPolicyLocal) {
    const toCluster = index.ensure(SVC, servicePort);
    if (detector.ifLocal !== 0) {
      setLocal(nat.rules, nat.add(COMMENT | detector.ifLocal, JUMP, toCluster, POD_TRAFFIC), detector);
    }
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
  const { nat, index, cluster } = context;
  const { nodeAddress } = context.options;
  const family = familyOf(cluster);
  const { servicePort } = plan;
  const external = index.ensure(EXT, servicePort);
  nat.begin(index.ensure(FW, servicePort));
  for (const range of service.sourceRanges) {
    const row = nat.add(COMMENT | SOURCE, JUMP, external, LOAD_BALANCER_IP);
    nat.rules.source[row] = range.address;
    nat.rules.sourceMask[row] = family.mask(range.prefix);
  }
  // A node that is let in must also be let in when its packet carries the load balancer's address as source.
  if (service.sourceRanges.some((range) => family.contains(range, nodeAddress))) {
    for (const address of service.loadBalancerIps) {
      const row = nat.add(COMMENT | SOURCE, JUMP, external, LOAD_BALANCER_IP);
      nat.rules.source[row] = address;
      nat.rules.sourceMask[row] = 0xffffffff;
    }
  }
  nat.add(COMMENT, NOTHING, servicePort, OTHER_TRAFFIC);
}

function stageEndpoint(
  context: ServiceRulesContext,
  servicePort: number,
  endpoint: number,
  chain: number,
  sticky: number,
): void {
  const { nat, cluster } = context;
  const comment = context.largeCluster ? 0 : COMMENT;
  nat.begin(chain);
  const hairpin = nat.add(comment | SOURCE, JUMP, KUBE_MARK_MASQ, BARE_NAME);
  nat.rules.source[hairpin] = cluster.endpoints.address[endpoint]!;
  nat.rules.sourceMask[hairpin] = 0xffffffff;
  const translate = nat.add(comment | sticky | PROTOCOL, DNAT, endpoint, BARE_NAME);
  nat.rules.protocol[translate] = cluster.ports.protocol[servicePort]!;
}

/** A front rule: comment, protocol, port and perhaps a destination. Returns its row. */
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
): number {
  const match = COMMENT | PROTOCOL | PORT | (rule.destination === 0 ? 0 : DESTINATION) | extra;
  const row = table.add(match, rule.target, rule.argument, rule.about);
  table.rules.protocol[row] = rule.protocol;
  table.rules.port[row] = rule.port;
  table.rules.destination[row] = rule.destination;
  table.rules.destinationMask[row] = rule.destination === 0 ? 0 : 0xffffffff;
  return row;
}
