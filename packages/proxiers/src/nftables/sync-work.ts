import type { Cluster } from '../kubernetes/cluster.ts';
import type { Rule, SetSpec } from '../nf-tables/language/statement.ts';
import { NODEPORT_IPS } from './elements.ts';
import type { ElementOperations } from './element-stores.ts';
import { FixedRules, affinitySpec, baseChains, jumps, setSpec, type BaseChainSpec } from './fixed-rules.ts';
import {
  EXTERNAL,
  FIREWALL,
  LOCAL,
  SERVICE,
  affinitySet,
  fixedChain,
  fixedSet,
  serviceChain,
  type FixedChain,
  type FixedSet,
  type ObjectNames,
} from './names.ts';
import { ServiceRules, type Naming } from './service-rules.ts';
import { USES_EXTERNAL, USES_FIREWALL, type ServicePlan } from '../kubernetes/service-plan.ts';
import type { RulesetOptions } from './settings.ts';
import { REJECT, Terms } from './terms.ts';

/** One service port that a sync writes. */
export interface ServiceWork {
  readonly plan: ServicePlan;
  /**
   * Its element operations: [from, to). Those before `chainsAt` come before the chains of the Service, those before
   * `firewallAt` before its firewall chain.
   */
  readonly from: number;
  readonly chainsAt: number;
  readonly firewallAt: number;
  readonly to: number;
}

/** All that the main transaction of a sync says. */
export interface SyncWork {
  /** The shared objects are written, too. */
  readonly full: boolean;
  /** The first since kube-proxy started: base chains are made anew. */
  readonly first: boolean;
  readonly services: readonly ServiceWork[];
  readonly elements: ElementOperations;
  /** Leftover elements: operations from here. */
  readonly leftoversFrom: number;
  /** Endpoint rows whose chains are as they should be. */
  readonly skipped: ReadonlySet<number>;
  /** Chains that nothing uses any more. */
  readonly stale: readonly number[];
  /** Endpoint rows whose affinity sets nothing uses any more. */
  readonly deadSets: readonly number[];
}

/** Takes one operation of a transaction a call. Chains and sets are numbers of names.ts. */
export interface Sink {
  readonly naming: Naming;
  table(comment: string): void;
  addChain(chain: number, base?: BaseChainSpec, comment?: string): void;
  flushChain(chain: number): void;
  deleteChain(chain: number): void;
  addRule(chain: number, rule: Rule): void;
  addSet(set: number, spec: SetSpec): void;
  flushSet(set: number): void;
  deleteSet(set: number): void;
  /** Key and value as of elements.ts. */
  addElement(set: number, key: number, value: number, servicePort: number): void;
  /** `value` -1 where none is told. */
  deleteElement(set: number, key: number, value: number): void;
}

/**
 * Says what a sync changes, in kube-proxy's order, to a sink: the kernel or a text.
 * Source: setupNFTables and syncProxyRules in pkg/proxy/nftables/proxier.go.
 */
export class SyncScript {
  readonly #cluster: Cluster;
  readonly #options: RulesetOptions;
  readonly #names: ObjectNames;
  readonly #terms: Terms;

  constructor(cluster: Cluster, options: RulesetOptions, names: ObjectNames) {
    this.#cluster = cluster;
    this.#options = options;
    this.#names = names;
    this.#terms = new Terms(options);
  }

  run(work: SyncWork, sink: Sink): void {
    for (const part of this.parts(work, sink)) part();
  }

  /** The same in parts, each of a few operations: a text of all would be too long to be held. */
  *parts(work: SyncWork, sink: Sink): Generator<() => void> {
    if (work.full) yield () => this.#setUp(work.first, sink);
    const rules = new ServiceRules(this.#cluster, this.#options, this.#terms, this.#names, sink.naming);
    for (const service of work.services) yield () => this.#service(service, work, rules, sink);
    yield () => {
      for (const chain of work.stale) sink.flushChain(chain);
      for (const row of work.deadSets) sink.deleteSet(affinitySet(row));
      this.#elements(work.elements, work.leftoversFrom, work.elements.count, -1, sink);
    };
  }

  #setUp(first: boolean, sink: Sink): void {
    const { layout } = this.#options;
    const { ip } = this.#terms;
    const rules = new FixedRules(this.#options, this.#terms);
    const bases = baseChains(layout);
    const addSet = (name: FixedSet): void => sink.addSet(fixedSet(name), setSpec(name, ip));
    const addRules = (chain: FixedChain, list: readonly Rule[]): void => {
      for (const rule of list) sink.addRule(fixedChain(chain), rule);
    };
    sink.table('rules for kube-proxy');
    if (first) {
      for (const { chain } of bases) {
        sink.addChain(fixedChain(chain));
        sink.deleteChain(fixedChain(chain));
      }
    }
    for (const base of bases) {
      sink.addChain(fixedChain(base.chain), base);
      sink.flushChain(fixedChain(base.chain));
    }
    this.#jumps(sink);
    if (layout.endpointChains) addRules('mark-for-masquerade', [{ statements: [this.#terms.setMark] }]);
    else addSet('hairpin-connections');
    addRules('masquerading', rules.masquerading());
    addSet('cluster-ips');
    addRules('cluster-ips-check', rules.clusterIpsCheck());
    this.#nodePortIps(sink);
    addSet('no-endpoint-services');
    addSet('no-endpoint-nodeports');
    const reject = fixedChain('reject-chain');
    sink.addChain(reject, undefined, 'helper for @no-endpoint-services / @no-endpoint-nodeports');
    sink.flushChain(reject);
    sink.addRule(reject, { statements: [REJECT] });
    addRules('service-endpoints-check', [rules.dispatch('no-endpoint-services')]);
    addRules('nodeport-endpoints-check', [rules.nodePortEndpointsCheck()]);
    addSet('firewall-ips');
    addRules('firewall-check', [rules.dispatch('firewall-ips')]);
    addSet('service-ips');
    addSet('service-nodeports');
    addRules('services', rules.services());
  }

  #jumps(sink: Sink): void {
    const { layout } = this.#options;
    const made = new Set<FixedChain>();
    const ensure = (chain: FixedChain): void => {
      if (made.has(chain)) return;
      made.add(chain);
      sink.addChain(fixedChain(chain));
      sink.flushChain(fixedChain(chain));
    };
    for (const { to, from, statements } of jumps(layout)) {
      ensure(to);
      sink.addRule(fixedChain(from), { statements });
    }
    if (layout.endpointChains) ensure('mark-for-masquerade');
  }

  /** A set that is not wanted is added and deleted: deleting what is not there would be an error. */
  #nodePortIps(sink: Sink): void {
    const { nodePortAddresses } = this.#options;
    sink.addSet(NODEPORT_IPS, setSpec('nodeport-ips', this.#terms.ip));
    if (nodePortAddresses === undefined) {
      sink.deleteSet(NODEPORT_IPS);
      return;
    }
    sink.flushSet(NODEPORT_IPS);
    for (const address of nodePortAddresses) sink.addElement(NODEPORT_IPS, address * 262_144, 0, -1);
  }

  #service(
    { plan, from, chainsAt, firewallAt, to }: ServiceWork,
    work: SyncWork,
    rules: ServiceRules,
    sink: Sink,
  ): void {
    const { servicePort, decisions, cluster, local } = plan;
    const ensure = (chain: number): void => {
      sink.addChain(chain);
      sink.flushChain(chain);
    };
    const sticky = rules.isSticky(servicePort);
    const hasChains = sticky || this.#options.layout.endpointChains;
    const ownChains = hasChains ? plan.reachable.filter((row) => !work.skipped.has(row)) : [];
    for (const row of ownChains) ensure(this.#names.endpointChain(row));
    this.#elements(work.elements, from, chainsAt, servicePort, sink);
    const chain = (kind: number): number => serviceChain(servicePort, kind);
    if (cluster.length > 0) ensure(chain(SERVICE));
    if (local.length > 0) ensure(chain(LOCAL));
    if ((decisions & USES_EXTERNAL) !== 0) ensure(chain(EXTERNAL));
    this.#elements(work.elements, chainsAt, firewallAt, servicePort, sink);
    if ((decisions & USES_FIREWALL) !== 0) ensure(chain(FIREWALL));
    this.#elements(work.elements, firewallAt, to, servicePort, sink);

    const add = (kind: number, list: readonly Rule[]): void => {
      for (const rule of list) sink.addRule(chain(kind), rule);
    };
    const masquerade = rules.masqueradeClusterIp(plan);
    if (masquerade !== undefined) add(this.#isInternalLocal(servicePort) ? LOCAL : SERVICE, [masquerade]);
    if ((decisions & USES_EXTERNAL) !== 0) add(EXTERNAL, rules.external(plan));
    if ((decisions & USES_FIREWALL) !== 0) add(FIREWALL, [rules.firewall(servicePort)]);
    if (sticky) this.#affinitySets(plan, sink);
    if (cluster.length > 0) add(SERVICE, rules.dispatch(servicePort, cluster));
    if (local.length > 0) add(LOCAL, rules.dispatch(servicePort, local));
    for (const row of ownChains) {
      for (const rule of rules.endpoint(row)) sink.addRule(this.#names.endpointChain(row), rule);
    }
  }

  #affinitySets({ servicePort, reachable }: ServicePlan, sink: Sink): void {
    const { services, ports } = this.#cluster;
    const { affinityS } = services[ports.service[servicePort]!]!;
    for (const row of reachable) {
      const set = affinitySet(row);
      sink.addSet(set, affinitySpec(sink.naming.set(set), affinityS, this.#terms.ip));
    }
  }

  #elements(elements: ElementOperations, from: number, to: number, servicePort: number, sink: Sink): void {
    elements.visit(from, to, (adds, set, key, value) => {
      if (adds) sink.addElement(set, key, value, servicePort);
      else sink.deleteElement(set, key, value);
    });
  }

  #isInternalLocal(servicePort: number): boolean {
    const { services, ports } = this.#cluster;
    return services[ports.service[servicePort]!]!.internalPolicyLocal;
  }
}
