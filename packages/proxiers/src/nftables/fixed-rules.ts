import type { BaseChain, Rule, SetSpec, Statement, Value } from '../nf-tables/language/statement.ts';
import type { Layout } from './layout.ts';
import type { FixedChain, FixedSet } from './names.ts';
import type { RulesetOptions } from './settings.ts';
import {
  concat,
  DESTINATION_IS_LOCAL,
  DROP,
  elementsOf,
  FULLY_RANDOM,
  jump,
  match,
  NEW,
  PORT,
  PROTOCOL,
  REJECT,
  RETURN,
  symbol,
  vmap,
  type Terms,
} from './terms.ts';

/**
 * Chains, sets and rules that do not depend on any Service.
 * Source: nftablesBaseChains, nftablesJumpChains and setupNFTables in pkg/proxy/nftables/proxier.go.
 */

export interface BaseChainSpec extends Pick<BaseChain, 'type' | 'hook' | 'priority'> {
  readonly chain: FixedChain;
}

/** In the order in which they are made. */
export function baseChains({ earlyFilters }: Layout): readonly BaseChainSpec[] {
  const filters: readonly BaseChainSpec[] = earlyFilters
    ? [
        { chain: 'filter-prerouting', type: 'filter', hook: 'prerouting', priority: -110 },
        { chain: 'filter-input', type: 'filter', hook: 'input', priority: -110 },
        { chain: 'filter-forward', type: 'filter', hook: 'forward', priority: -110 },
        { chain: 'filter-output', type: 'filter', hook: 'output', priority: -110 },
        { chain: 'filter-output-post-dnat', type: 'filter', hook: 'output', priority: -90 },
      ]
    : [
        { chain: 'filter-prerouting-pre-dnat', type: 'filter', hook: 'prerouting', priority: -110 },
        { chain: 'filter-output-pre-dnat', type: 'filter', hook: 'output', priority: -110 },
        { chain: 'filter-input', type: 'filter', hook: 'input', priority: 0 },
        { chain: 'filter-forward', type: 'filter', hook: 'forward', priority: 0 },
        { chain: 'filter-output', type: 'filter', hook: 'output', priority: 0 },
      ];
  return [
    ...filters,
    { chain: 'nat-prerouting', type: 'nat', hook: 'prerouting', priority: -100 },
    { chain: 'nat-output', type: 'nat', hook: 'output', priority: -100 },
    { chain: 'nat-postrouting', type: 'nat', hook: 'postrouting', priority: 100 },
  ];
}

export interface JumpSpec {
  readonly to: FixedChain;
  readonly from: FixedChain;
  readonly statements: readonly Statement[];
}

/** The jumps from base chains, in the order in which they are written. */
export function jumps({ earlyFilters }: Layout): readonly JumpSpec[] {
  const early = (now: FixedChain, before: FixedChain): FixedChain => (earlyFilters ? before : now);
  return [
    jumpFrom('nodeport-endpoints-check', 'filter-input', NEW),
    jumpFrom('service-endpoints-check', 'filter-input', NEW),
    jumpFrom('service-endpoints-check', 'filter-forward', NEW),
    jumpFrom('service-endpoints-check', 'filter-output', NEW),
    jumpFrom('firewall-check', early('filter-prerouting-pre-dnat', 'filter-prerouting'), NEW),
    jumpFrom('firewall-check', early('filter-output-pre-dnat', 'filter-output'), NEW),
    jumpFrom('services', 'nat-output'),
    jumpFrom('services', 'nat-prerouting'),
    jumpFrom('masquerading', 'nat-postrouting'),
    jumpFrom('cluster-ips-check', 'filter-forward', NEW),
    jumpFrom('cluster-ips-check', early('filter-output', 'filter-output-post-dnat'), NEW),
  ];
}

function jumpFrom(to: FixedChain, from: FixedChain, ...guard: Statement[]): JumpSpec {
  return { to, from, statements: [...guard, jump(to)] };
}

const COMMENTS: Readonly<Record<FixedSet, string>> = {
  'cluster-ips': 'Active ClusterIPs',
  'nodeport-ips': 'IPs that accept NodePort traffic',
  'hairpin-connections': 'service hairpin connections',
  'service-ips': 'ClusterIP, ExternalIP and LoadBalancer IP traffic',
  'service-nodeports': 'NodePort traffic',
  'no-endpoint-services': 'vmap to drop or reject packets to services with no endpoints',
  'no-endpoint-nodeports': 'vmap to drop or reject packets to service nodeports with no endpoints',
  'firewall-ips': 'destinations that are subject to LoadBalancerSourceRanges',
};

/** A set or map without its elements. */
export function setSpec(name: FixedSet, ip: 'ip' | 'ip6'): SetSpec {
  const address = ip === 'ip' ? 'ipv4_addr' : 'ipv6_addr';
  const comment = COMMENTS[name];
  const verdicts = { data: ['verdict'], flags: [], comment, elements: [] };
  switch (name) {
    case 'cluster-ips':
    case 'nodeport-ips':
      return { name, types: [address], flags: [], comment, elements: [] };
    case 'hairpin-connections':
      return {
        name,
        types: [address, address, 'inet_proto', 'inet_service'],
        flags: [],
        comment,
        elements: [],
      };
    case 'service-nodeports':
    case 'no-endpoint-nodeports':
      return { name, types: ['inet_proto', 'inet_service'], ...verdicts };
    default:
      return { name, types: [address, 'inet_proto', 'inet_service'], ...verdicts };
  }
}

/** The set of endpoints' clients that `affinityS` seconds keep. */
export function affinitySpec(name: string, affinityS: number, ip: 'ip' | 'ip6'): SetSpec {
  return {
    name,
    types: [ip === 'ip' ? 'ipv4_addr' : 'ipv6_addr'],
    flags: ['dynamic', 'timeout'],
    timeoutMs: affinityS * 1000,
    elements: [],
  };
}

/** Rules of the shared chains, each list in the chain's order. */
export class FixedRules {
  readonly #options: RulesetOptions;
  readonly #terms: Terms;

  constructor(options: RulesetOptions, terms: Terms) {
    this.#options = options;
    this.#terms = terms;
  }

  masquerading(): readonly Rule[] {
    const terms = this.#terms;
    if (this.#options.layout.endpointChains) {
      return [
        { statements: [terms.marked('=='), RETURN] },
        { statements: [terms.clearMark] },
        { statements: [FULLY_RANDOM] },
      ];
    }
    const connection = concat(terms.source, terms.destination, PROTOCOL, PORT);
    return [
      { statements: [terms.marked('!='), terms.clearMark, FULLY_RANDOM] },
      {
        statements: [
          match({ kind: 'ct', key: 'status' }, symbol('dnat')),
          match(connection, named('hairpin-connections')),
          FULLY_RANDOM,
        ],
      },
    ];
  }

  clusterIpsCheck(): readonly Rule[] {
    const { serviceCidrs } = this.#options;
    const { destination } = this.#terms;
    const known: Rule = {
      statements: [match(destination, named('cluster-ips')), REJECT],
      comment: 'Reject traffic to invalid ports of ClusterIPs',
    };
    if (serviceCidrs.length === 0) return [known];
    const networks = elementsOf(serviceCidrs.map((cidr) => ({ key: this.#terms.prefix(cidr) })));
    const unallocated: Rule = {
      statements: [match(destination, networks), DROP],
      comment: 'Drop traffic to unallocated ClusterIPs',
    };
    return [known, unallocated];
  }

  /** `ip daddr . meta l4proto . th dport vmap @…`. */
  dispatch(map: FixedSet): Rule {
    return { statements: [vmap(concat(this.#terms.destination, PROTOCOL, PORT), named(map))] };
  }

  nodePortEndpointsCheck(): Rule {
    return { statements: [...this.#nodePortTests(), this.#nodePorts('no-endpoint-nodeports')] };
  }

  services(): readonly Rule[] {
    const all = this.#options.nodePortAddresses === undefined;
    const local = all ? [DESTINATION_IS_LOCAL] : [];
    return [
      ...this.#masqueradeClusterIps(),
      this.dispatch('service-ips'),
      { statements: [...local, ...this.#nodePortTests(), this.#nodePorts('service-nodeports')] },
    ];
  }

  /** Since 1.36 one rule for all Services. */
  #masqueradeClusterIps(): readonly Rule[] {
    const { layout, masqueradeAll, detector } = this.#options;
    if (layout.endpointChains || (!masqueradeAll && detector.kind === 'none')) return [];
    const { destination, ifNotLocal, setMark } = this.#terms;
    const known = match(destination, named('cluster-ips'));
    if (masqueradeAll) {
      return [{ statements: [known, setMark], comment: 'masquerade all clusterIP traffic' }];
    }
    const comment = 'masquerade clusterIP traffic from outside cluster';
    return [{ statements: [known, ...ifNotLocal, setMark], comment }];
  }

  #nodePortTests(): readonly Statement[] {
    const { ip, destination } = this.#terms;
    if (this.#options.nodePortAddresses !== undefined) return [match(destination, named('nodeport-ips'))];
    const loopback: Value =
      ip === 'ip'
        ? { kind: 'prefix', words: [0x7f000000], length: 8 }
        : { kind: 'address', words: [0, 0, 0, 1] };
    return [match(destination, loopback, '!=')];
  }

  #nodePorts(map: FixedSet): Statement {
    return vmap(concat(PROTOCOL, PORT), named(map));
  }
}

function named(name: FixedSet): Value {
  return { kind: 'reference', name };
}
