import { protocolName, type Cluster, type Service } from '../kubernetes/cluster.ts';
import type { Element, Rule, Statement } from '../nf-tables/language/statement.ts';
import { LOCAL, SERVICE, affinitySet, serviceChain, type ObjectNames } from './names.ts';
import { HAS_EXTERNAL, HAS_INTERNAL, type ServicePlan } from '../kubernetes/service-plan.ts';
import type { RulesetOptions } from './settings.ts';
import {
  DROP,
  PROTOCOL,
  SOURCE_IS_LOCAL,
  elementsOf,
  goTo,
  integer,
  jump,
  match,
  random,
  symbol,
  verdict,
  vmap,
  type Terms,
} from './terms.ts';

/** How chains and sets are called in rules: by their names, or by tokens for them. */
export interface Naming {
  chain(chain: number): string;
  set(set: number): string;
}

const MARK_CHAIN = 'mark-for-masquerade';

/**
 * The rules of the chains that a service port and its endpoints have.
 * Source: syncProxyRules, writeServiceToEndpointRules (L1), writeServiceToEndpointDNATs and
 * writeServiceToEndpointJumps (L2) in pkg/proxy/nftables/proxier.go; kubernetes pull request 140723 (L3).
 */
export class ServiceRules {
  readonly #cluster: Cluster;
  readonly #options: RulesetOptions;
  readonly #terms: Terms;
  readonly #names: ObjectNames;
  readonly #naming: Naming;

  constructor(
    cluster: Cluster,
    options: RulesetOptions,
    terms: Terms,
    names: ObjectNames,
    naming: Naming = names,
  ) {
    this.#cluster = cluster;
    this.#options = options;
    this.#terms = terms;
    this.#names = names;
    this.#naming = naming;
  }

  /** The rule of the chain for traffic to the ClusterIP, if it has one of its own (to 1.35). */
  masqueradeClusterIp(plan: ServicePlan): Rule | undefined {
    const { layout, masqueradeAll, detector } = this.#options;
    if (!layout.endpointChains || (plan.decisions & HAS_INTERNAL) === 0) return undefined;
    if (!masqueradeAll && detector.kind === 'none') return undefined;
    const { ports } = this.#cluster;
    const { destination, ifNotLocal } = this.#terms;
    const tests: Statement[] = [match(destination, this.#terms.address(ports.clusterIp[plan.servicePort]!))];
    if (layout.matchesPort) {
      const protocol = protocolName(ports.protocol[plan.servicePort]!);
      const port = integer(ports.port[plan.servicePort]!);
      tests.push(match({ kind: 'payload', header: protocol, field: 'dport' }, port));
    }
    return { statements: [...tests, ...(masqueradeAll ? [] : ifNotLocal), jump(MARK_CHAIN)] };
  }

  /** Of external-…. */
  external(plan: ServicePlan): Rule[] {
    const service = this.#serviceOf(plan.servicePort);
    const marks = this.#options.layout.endpointChains ? jump(MARK_CHAIN) : this.#terms.setMark;
    const policy = serviceChain(plan.servicePort, service.externalPolicyLocal ? LOCAL : SERVICE);
    const all = this.#goto(serviceChain(plan.servicePort, SERVICE));
    const rules: Rule[] = [];
    if (!service.externalPolicyLocal) {
      const comment = this.#options.layout.endpointChains ? {} : { comment: 'masquerade' };
      rules.push({ statements: [marks], ...comment });
    } else {
      const { ifLocal } = this.#terms;
      if (ifLocal.length > 0) {
        rules.push({ statements: [...ifLocal, all], comment: 'short-circuit pod traffic' });
      }
      rules.push({ statements: [SOURCE_IS_LOCAL, marks], comment: 'masquerade local traffic' });
      rules.push({ statements: [SOURCE_IS_LOCAL, all], comment: 'short-circuit local traffic' });
    }
    if ((plan.decisions & HAS_EXTERNAL) !== 0) rules.push({ statements: [this.#goto(policy)] });
    return rules;
  }

  /** Of firewall-…: an address of the load balancer may be the node's own, so it passes where the node does. */
  firewall(servicePort: number): Rule {
    const { sourceRanges, loadBalancerIps } = this.#serviceOf(servicePort);
    const { family, nodeAddress } = this.#options;
    const elements: Element[] = sourceRanges.map((cidr) => ({ key: this.#terms.prefix(cidr) }));
    if (sourceRanges.some((cidr) => family.contains(cidr, nodeAddress))) {
      for (const address of loadBalancerIps) elements.push({ key: this.#terms.address(address) });
    }
    return { statements: [match(this.#terms.source, elementsOf(elements), '!='), DROP] };
  }

  /** Of service-… or local-…, after the rule for the ClusterIP: a rule a client's endpoint, and the choice. */
  dispatch(servicePort: number, rows: Int32Array): Rule[] {
    const { layout } = this.#options;
    const sticky = this.isSticky(servicePort);
    if (!sticky && !layout.endpointChains) return [this.#translate(servicePort, rows)];
    const rules: Rule[] = [];
    if (sticky) {
      for (const row of rows) {
        const name = this.#naming.set(affinitySet(row));
        const remembered = match(this.#terms.source, { kind: 'reference', name });
        rules.push({ statements: [remembered, this.#goto(this.#names.endpointChain(row))] });
      }
    }
    const elements = Array.from(rows, (row, at): Element => {
      const chain = this.#naming.chain(this.#names.endpointChain(row));
      return { key: integer(at), data: { kind: 'verdict', verdict: goTo(chain) } };
    });
    rules.push({ statements: [vmap(random(rows.length), elementsOf(elements))] });
    return rules;
  }

  /** Of endpoint-…. */
  endpoint(row: number): Rule[] {
    const { endpoints } = this.#cluster;
    const terms = this.#terms;
    const servicePort = endpoints.servicePort[row]!;
    const address = terms.address(endpoints.address[row]!);
    const rules: Rule[] = [];
    if (this.#options.layout.endpointChains) {
      rules.push({ statements: [match(terms.source, address), jump(MARK_CHAIN)] });
    }
    if (this.isSticky(servicePort)) {
      const set = this.#naming.set(affinitySet(row));
      rules.push({ statements: [{ kind: 'dynset', operation: 'update', set, key: terms.source }] });
    }
    rules.push({ statements: this.#translateTo(servicePort, row) });
    return rules;
  }

  isSticky(servicePort: number): boolean {
    return this.#serviceOf(servicePort).affinityS > 0;
  }

  #translate(servicePort: number, rows: Int32Array): Rule {
    if (rows.length === 1 && this.#options.layout.plainSingle) {
      return { statements: this.#translateTo(servicePort, rows[0]!) };
    }
    const { address, port } = this.#cluster.endpoints;
    const elements = Array.from(rows, (row, at): Element => ({
      key: integer(at),
      data: { kind: 'tuple', parts: [this.#terms.address(address[row]!), integer(port[row]!)] },
    }));
    const chosen: Statement = {
      kind: 'nat',
      type: 'dnat',
      family: this.#terms.ip,
      concatenated: true,
      address: { kind: 'map', key: random(rows.length), map: elementsOf(elements) },
      flags: [],
    };
    return { statements: [this.#protocol(servicePort), chosen] };
  }

  #translateTo(servicePort: number, row: number): Statement[] {
    const { address, port } = this.#cluster.endpoints;
    const to: Statement = {
      kind: 'nat',
      type: 'dnat',
      concatenated: false,
      address: { kind: 'value', value: this.#terms.address(address[row]!) },
      port: { kind: 'value', value: integer(port[row]!) },
      flags: [],
    };
    return [this.#protocol(servicePort), to];
  }

  #protocol(servicePort: number): Statement {
    return match(PROTOCOL, symbol(protocolName(this.#cluster.ports.protocol[servicePort]!)));
  }

  #goto(chain: number): Statement {
    return verdict(goTo(this.#naming.chain(chain)));
  }

  #serviceOf(servicePort: number): Service {
    const { services, ports } = this.#cluster;
    return services[ports.service[servicePort]!]!;
  }
}
