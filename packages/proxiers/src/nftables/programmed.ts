import type { NodeContext } from '../proxier.ts';
import { CLUSTER_IPS, HAIRPIN, NODEPORT_IPS, visitElements } from './elements.ts';
import { ElementOperations, ElementStores } from './element-stores.ts';
import { EXTERNAL, FIREWALL, FIXED_SETS, LOCAL, SERVICE, serviceChain, type ObjectNames } from './names.ts';
import {
  HAS_ENDPOINTS,
  HAS_EXTERNAL,
  USES_EXTERNAL,
  USES_FIREWALL,
  emptyPlan,
  planService,
  type ServicePlan,
} from '../kubernetes/service-plan.ts';
import type { RulesetOptions } from './settings.ts';
import type { ServiceWork, SyncWork } from './sync-work.ts';

const SECOND = 1_000_000_000;
/** Of a chain that kube-proxy does not know to be stale. */
const NEVER = Infinity;
const NO_ROWS: ReadonlySet<number> = new Set();

/** What one sync is to write. */
export interface Scope {
  readonly ports: readonly number[];
  readonly full: boolean;
  readonly first: boolean;
  /** Endpoint chains that exist are left as they are. */
  readonly keepsEndpointChains: boolean;
}

/**
 * What kube-proxy has put into its table: the plan of each service port, the elements, and the chains that nothing
 * uses any more. A sync is staged on it, and committed or rolled back.
 */
export class Programmed {
  /** Elements of the sets and maps that kube-proxy keeps in memory, when a sync began. */
  elementsBefore = 0;
  readonly #node: NodeContext;
  readonly #options: RulesetOptions;
  readonly #names: ObjectNames;
  readonly #hairpin: { readonly node: number } | undefined;
  readonly #plans: ServicePlan[];
  readonly #stores = new ElementStores();
  /** Chains that are there and that nothing uses, with the time when they were last flushed. */
  readonly #unused = new Map<number, number>();
  #staged: { readonly work: SyncWork; readonly emptied: readonly number[] } | undefined;

  constructor(node: NodeContext, options: RulesetOptions, names: ObjectNames) {
    this.#node = node;
    this.#options = options;
    this.#names = names;
    this.#hairpin = options.layout.endpointChains ? undefined : { node: node.node };
    this.#plans = Array.from({ length: node.cluster.ports.count }, (_, port) => emptyPlan(port));
  }

  /** As in force. */
  plan(servicePort: number): ServicePlan {
    return this.#plans[servicePort]!;
  }

  #elements(): number {
    let count = 0;
    for (let set = CLUSTER_IPS; set < FIXED_SETS.length; set++) {
      if (set !== NODEPORT_IPS) count += this.#stores.sizeOf(set);
    }
    return count;
  }

  /** kube-proxy has lost its memory of stale chains. */
  forget(): void {
    for (const chain of this.#unused.keys()) this.#unused.set(chain, NEVER);
  }

  /** Stale chains that are more than a second old: the caller deletes them. */
  takeExpired(nowNs: number): readonly number[] {
    const expired: number[] = [];
    for (const [chain, sinceNs] of this.#unused) if (sinceNs < nowNs - SECOND) expired.push(chain);
    for (const chain of expired) this.#unused.delete(chain);
    return expired;
  }

  stage(scope: Scope): SyncWork {
    this.elementsBefore = this.#elements();
    const elements = new ElementOperations();
    for (const port of scope.ports) this.#release(this.#plans[port]!);
    const services = scope.ports.map((port) => this.#want(port, elements)).filter(isWritten);
    const leftoversFrom = elements.count;
    this.#stores.sweep(elements);
    const stale = new Set(this.#unused.keys());
    const deadSets: number[] = [];
    const planned = new Map(services.map(({ plan }) => [plan.servicePort, plan]));
    for (const port of scope.ports) {
      const plan = planned.get(port) ?? emptyPlan(port);
      this.#compare(this.#plans[port]!, plan, stale, deadSets);
    }
    const skips = scope.keepsEndpointChains && this.#options.layout.keepsEndpointChains;
    const work: SyncWork = {
      full: scope.full,
      first: scope.first,
      services,
      elements,
      leftoversFrom,
      skipped: skips ? this.#existing(services, stale) : NO_ROWS,
      stale: [...stale],
      deadSets,
    };
    this.#staged = { work, emptied: scope.ports.filter((port) => !planned.has(port)) };
    return work;
  }

  commit(nowNs: number): void {
    const { work, emptied } = this.#staged!;
    this.#staged = undefined;
    this.#stores.keep();
    for (const { plan } of work.services) this.#plans[plan.servicePort] = plan;
    for (const port of emptied) this.#plans[port] = emptyPlan(port);
    this.#unused.clear();
    for (const chain of work.stale) this.#unused.set(chain, nowNs);
  }

  /** Forget what is staged; false if nothing was. */
  rollback(): boolean {
    if (this.#staged === undefined) return false;
    this.#staged = undefined;
    this.#stores.undo();
    this.forget();
    return true;
  }

  /** What is in force, as a first sync on a clean host would write it. */
  everything(): SyncWork {
    const elements = new ElementOperations();
    const fresh = new ElementStores();
    const services = this.#plans.filter(isPlanned).map((plan) => this.#service(plan, elements, fresh));
    const leftoversFrom = elements.count;
    return {
      full: true,
      first: true,
      services,
      elements,
      leftoversFrom,
      skipped: NO_ROWS,
      stale: [],
      deadSets: [],
    };
  }

  #release(plan: ServicePlan): void {
    visitElements(this.#node.cluster, plan, this.#hairpin, (set, key) => this.#stores.release(set, key));
  }

  #want(port: number, elements: ElementOperations): ServiceWork {
    return this.#service(planService(this.#node, port), elements, this.#stores);
  }

  #service(plan: ServicePlan, elements: ElementOperations, stores: ElementStores): ServiceWork {
    const from = elements.count;
    const { services, ports } = this.#node.cluster;
    const { externalIps, loadBalancerIps } = services[ports.service[plan.servicePort]!]!;
    let chainsAt = -1;
    let firewallAt = -1;
    // Elements of the ClusterIP and of external addresses come before the firewall chain.
    let left = 2;
    if ((plan.decisions & HAS_ENDPOINTS) !== 0) left += externalIps.length;
    if ((plan.decisions & HAS_EXTERNAL) === 0) left += externalIps.length;
    visitElements(this.#node.cluster, plan, this.#hairpin, (set, key, value) => {
      if (set !== HAIRPIN) {
        if (chainsAt < 0) chainsAt = elements.count;
        if (left-- === 0) firewallAt = elements.count;
      }
      stores.want(set, key, value, elements);
    });
    const to = elements.count;
    if (chainsAt < 0) chainsAt = to;
    return {
      plan,
      from,
      chainsAt,
      firewallAt: firewallAt < 0 || loadBalancerIps.length === 0 ? to : firewallAt,
      to,
    };
  }

  /** Chains and affinity sets that `before` had and `after` has not; chains that it has again. */
  #compare(before: ServicePlan, after: ServicePlan, stale: Set<number>, deadSets: number[]): void {
    for (const chain of chainsOf(before)) stale.add(chain);
    for (const chain of chainsOf(after)) stale.delete(chain);
    if (!this.#hasEndpointChains(before.servicePort)) return;
    const sticky = this.#isSticky(before.servicePort);
    const kept = new Set(after.reachable);
    for (const row of before.reachable) {
      if (kept.has(row)) continue;
      stale.add(this.#names.endpointChain(row));
      if (sticky) deadSets.push(row);
    }
    for (const row of after.reachable) stale.delete(this.#names.endpointChain(row));
  }

  /** Endpoint chains of before, stale ones included: those have an affinity set no more, and are empty. */
  #existing(services: readonly ServiceWork[], stale: ReadonlySet<number>): ReadonlySet<number> {
    const rows = new Set<number>();
    for (const { plan } of services) {
      for (const row of this.#plans[plan.servicePort]!.reachable) {
        if (!stale.has(this.#names.endpointChain(row))) rows.add(row);
      }
    }
    return rows;
  }

  #hasEndpointChains(servicePort: number): boolean {
    return this.#options.layout.endpointChains || this.#isSticky(servicePort);
  }

  #isSticky(servicePort: number): boolean {
    const { services, ports } = this.#node.cluster;
    return services[ports.service[servicePort]!]!.affinityS > 0;
  }
}

function isWritten({ plan }: ServiceWork): boolean {
  return isPlanned(plan);
}

function isPlanned({ decisions }: ServicePlan): boolean {
  return decisions !== 0;
}

function chainsOf({ servicePort, decisions, cluster, local }: ServicePlan): number[] {
  const chains: number[] = [];
  if (cluster.length > 0) chains.push(serviceChain(servicePort, SERVICE));
  if (local.length > 0) chains.push(serviceChain(servicePort, LOCAL));
  if ((decisions & USES_EXTERNAL) !== 0) chains.push(serviceChain(servicePort, EXTERNAL));
  if ((decisions & USES_FIREWALL) !== 0) chains.push(serviceChain(servicePort, FIREWALL));
  return chains;
}
