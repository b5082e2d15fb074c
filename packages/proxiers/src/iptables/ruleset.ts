import { familyOf, type Cluster } from '../kubernetes/cluster.ts';
import { ChainIndex } from './chain-index.ts';
import { EXT, FW, KUBE_SERVICES, SEP, SVC, SVL } from './chains.ts';
import { stageFixed } from './fixed-rules.ts';
import { stageFilterFront, stageNatFront } from './front-rules.ts';
import { filterChainsOf, type DeletedChain, type Programmed } from './restore-text.ts';
import { sizesIn, type RuleSizes } from './rule-sizes.ts';
import { RuleTable } from './rule-table.ts';
import type { TextStyle } from './rule-text.ts';
import type { RulesetOptions } from './ruleset-options.ts';
import { stageService, type ServiceRulesContext } from './service-rules.ts';
import type { ServicePlan } from '../kubernetes/service-plan.ts';

const NONE = new Int32Array(0);

/** What a sync writes, before it is in force. */
export interface StagedSync {
  readonly plans: readonly ServicePlan[];
  readonly largeCluster: boolean;
  /** Whether chains that nothing uses any more are deleted in this sync. */
  readonly cleanup: boolean;
}

/** How much of the nat table a sync rewrites beyond the chains that every sync writes. */
export interface NatChanges {
  readonly chains: number;
  readonly rules: number;
  /** In the order of service ports; of one, EXT, FW, SVC, SVL, then endpoints; leftovers of before come last. */
  readonly deleted: readonly DeletedChain[];
}

/** Both tables as programmed, what was decided about each service port, and the next state being staged. */
export class Ruleset implements Programmed {
  readonly cluster: Cluster;
  readonly nat: RuleTable;
  readonly filter: RuleTable;
  readonly index: ChainIndex;
  readonly style: TextStyle;
  readonly filterChains: readonly number[];
  readonly #options: RulesetOptions;
  readonly #reachable: Int32Array[];
  #decisions: Uint8Array;
  #nextDecisions: Uint8Array;
  #filterDecisions: Uint8Array;
  #plans: readonly ServicePlan[] = [];
  #unused: number[] = [];
  /** Chains that nothing uses any more, kept until a sync cleans up. */
  readonly #stale = new Set<number>();
  /** By chain: the last staging that it was part of. */
  #stamps = new Uint32Array(64);
  #staging = 0;

  /** `sizes`: of the backend, for IPv4. */
  constructor(cluster: Cluster, sizes: RuleSizes, options: RulesetOptions) {
    const own = sizesIn(familyOf(cluster), sizes);
    this.cluster = cluster;
    this.nat = new RuleTable('nat', own);
    this.filter = new RuleTable('filter', own);
    this.index = new ChainIndex(this.nat, cluster.ports.count, cluster.endpoints.count);
    this.style = options.style;
    this.filterChains = filterChainsOf(options.localhostNodePorts);
    this.#options = options;
    this.#reachable = Array.from({ length: cluster.ports.count }, () => NONE);
    this.#decisions = new Uint8Array(cluster.ports.count);
    this.#nextDecisions = this.#decisions;
    this.#filterDecisions = this.#decisions;
  }

  reachable = (servicePort: number): Int32Array => this.#reachable[servicePort]!;

  /** Whether a chain is part of the rules, rather than a leftover. */
  inUse(chain: number): boolean {
    return this.nat.isLive(chain) && !this.#stale.has(chain);
  }

  /** Stage one sync; what was staged before and not committed is forgotten. */
  stage(sync: StagedSync): NatChanges {
    this.rollback();
    const { nat, filter, index, cluster } = this;
    const first = !nat.isLive(KUBE_SERVICES);
    this.#plans = sync.plans;
    this.#nextDecisions = this.#decisions.slice();
    for (const plan of sync.plans) this.#nextDecisions[plan.servicePort] = plan.decisions;
    nat.reserve(rowsFor(cluster, sync.plans));
    const { largeCluster } = sync;
    const context: ServiceRulesContext = { options: this.#options, cluster, nat, index, largeCluster };
    for (const plan of sync.plans) stageService(context, plan);
    const { chains, rules } = nat.staged();
    this.#findUnused();
    const deleted = sync.cleanup ? this.#dropUnused() : [];
    // Rewriting the shared chains changes nothing in them while the decisions stay as they are.
    if (first || differ(this.#nextDecisions, this.#decisions)) {
      stageNatFront(cluster, nat, index, this.#nextDecisions, this.#options);
    }
    if (!filter.isLive(KUBE_SERVICES) || differ(this.#nextDecisions, this.#filterDecisions)) {
      stageFilterFront(cluster, filter, this.#nextDecisions);
    }
    if (first) stageFixed(nat, filter, this.#options);
    return { chains, rules, deleted };
  }

  commitFilter(): void {
    this.filter.commit();
    this.#filterDecisions = this.#nextDecisions;
  }

  commitNat(): void {
    for (const chain of this.#unused) this.#stale.add(chain);
    if (this.#stale.size > 0) this.nat.eachStaged((chain) => this.#stale.delete(chain));
    const gone = this.nat.commit();
    this.index.forget(gone);
    for (const chain of gone) this.#stale.delete(chain);
    for (const plan of this.#plans) this.#reachable[plan.servicePort] = plan.reachable;
    this.#decisions = this.#nextDecisions;
    this.#plans = [];
    this.#unused = [];
  }

  /** Forget what is staged in nat; what is staged in filter stays, its own COMMIT comes first. */
  rollbackNat(): void {
    this.index.forget(this.nat.rollback());
    this.#plans = [];
    this.#unused = [];
  }

  rollback(): void {
    this.rollbackNat();
    this.filter.rollback();
    this.#nextDecisions = this.#decisions;
  }

  /** Chains of the planned service ports that exist and are not written again. */
  #findUnused(): void {
    this.#staging++;
    this.nat.eachStaged((chain) => this.#stamp(chain));
    for (const plan of this.#plans) {
      for (const kind of [EXT, FW, SVC, SVL]) this.#checkUse(this.index.find(kind, plan.servicePort));
      for (const endpoint of this.#reachable[plan.servicePort]!)
        this.#checkUse(this.index.find(SEP, endpoint));
    }
  }

  #checkUse(chain: number): void {
    if (chain !== 0 && this.#stamps[chain] !== this.#staging) this.#unused.push(chain);
  }

  #dropUnused(): DeletedChain[] {
    const deleted: DeletedChain[] = [];
    for (const chain of this.#unused) {
      this.#stamp(chain);
      this.#drop(chain, deleted);
    }
    for (const chain of this.#stale) {
      if (this.#stamps[chain] !== this.#staging) this.#drop(chain, deleted);
    }
    return deleted;
  }

  #drop(chain: number, deleted: DeletedChain[]): void {
    this.nat.drop(chain);
    deleted.push({ kind: this.nat.kind[chain]!, subject: this.nat.subject[chain]! });
  }

  #stamp(chain: number): void {
    if (chain >= this.#stamps.length) {
      const wider = new Uint32Array(Math.max(chain + 1, this.#stamps.length * 2));
      wider.set(this.#stamps);
      this.#stamps = wider;
    }
    this.#stamps[chain] = this.#staging;
  }
}

/** Upper bound of the rows that the plans stage. */
function rowsFor({ ports, services }: Cluster, plans: readonly ServicePlan[]): number {
  let rows = 64;
  for (const { servicePort, cluster, local, reachable } of plans) {
    const dispatches = services[ports.service[servicePort]!]!.affinityS > 0 ? 2 : 1;
    rows += 12 + dispatches * (cluster.length + local.length) + 2 * reachable.length;
  }
  return rows;
}

function differ(a: Uint8Array, b: Uint8Array): boolean {
  return a !== b && a.some((value, at) => value !== b[at]);
}
