import type { Counts } from '../cost/operations.ts';
import type { NodeContext, Proxier, SyncPlan, SyncTrigger } from '../proxier.ts';
import { IptablesDataplane } from './dataplane.ts';
import { refusalOf } from './legacy-limit.ts';
import { remarksOf } from './remarks.ts';
import { restoreLines } from './restore-text.ts';
import { LEGACY_SIZES, NFT_SIZES } from './rule-sizes.ts';
import type { TextStyle } from './rule-text.ts';
import { saveLines } from './save-text.ts';
import { Ruleset, type NatChanges } from './ruleset.ts';
import { resolveOptions, type RulesetSettings } from './ruleset-options.ts';
import { planService } from '../kubernetes/service-plan.ts';
import { SyncStages } from './sync-stages.ts';
import { XtablesLock } from './xtables-lock.ts';

export interface IptablesOptions extends RulesetSettings {
  readonly backend: 'nft' | 'legacy';
  readonly minSyncPeriod: number;
  readonly syncPeriod: number;
  readonly lockHeld: number;
  readonly lockEvery: number;
  readonly largeClusterEndpoints: number;
}

const HOUR = 3_600_000_000_000;

/**
 * kube-proxy in iptables mode: full and partial syncs with what they cost.
 *
 * Models: syncProxyRules: a full sync at the start, after any failure and, unless the last sync saw a large
 * cluster, an hour after the last one; else partial syncs, which rewrite the shared chains and the chains of changed
 * Services (KEP-3453); the jumps of a full sync by a command each; the two transactions of its iptables-restore,
 * filter before nat, of which the second may fail alone; large-cluster mode; the 512 MiB limit of an x_tables table;
 * the lock that legacy commands wait for; the canary's commands.
 * Source: pkg/proxy/iptables/proxier.go and pkg/util/iptables (Kubernetes 1.36 with pull request 138571: no hourly
 * full syncs in large clusters); ip_tables.c; nf_tables_api.c.
 * Not modelled: walks of IPv6 packets; tables that others flush or change, with what the canary
 * then forces; transactions of iptables-nft that start anew because another program committed meanwhile; deletion
 * of conntrack entries of stale UDP endpoints.
 */
export class IptablesProxier implements Proxier {
  readonly dataplane: IptablesDataplane;
  readonly trigger: SyncTrigger;
  readonly watch: { readonly periodNs: number; readonly counts: Counts };
  readonly #node: NodeContext;
  readonly #options: IptablesOptions;
  readonly #ruleset: Ruleset;
  readonly #nft: boolean;
  readonly #stages: SyncStages;
  /** By service port: endpoints, whatever their conditions, when it was last synced. */
  readonly #known: Uint32Array;
  readonly #portsOfService: readonly (readonly number[])[];
  #endpointTotal = 0;
  #largeCluster = false;
  #started = false;
  /** At the start, and from the beginning of each sync until it has succeeded. */
  #needFull = true;
  #toldNs = 0;
  #lastFullNs = 0;
  #lastCleanupNs = -Infinity;
  /** What the last sync did to nat. */
  #changes: NatChanges = { chains: 0, rules: 0, deleted: [] };

  constructor(node: NodeContext, options: IptablesOptions) {
    const { cluster } = node;
    this.#node = node;
    this.#options = options;
    this.#nft = options.backend === 'nft';
    const resolved = resolveOptions(options, cluster, node.node);
    this.#ruleset = new Ruleset(cluster, this.#nft ? NFT_SIZES : LEGACY_SIZES, resolved);
    this.dataplane = new IptablesDataplane(node, this.#ruleset, this.#nft);
    const lock = this.#nft ? undefined : lockOf(options, node);
    this.#stages = new SyncStages(this.#ruleset, this.#nft, lock, () => this.#nowNs());
    this.trigger = {
      kind: 'bounded',
      minIntervalNs: options.minSyncPeriod,
      retryNs: options.syncPeriod,
      maxIntervalNs: HOUR,
    };
    this.watch = { periodNs: options.syncPeriod, counts: this.#stages.jumps.lookForCanary() };
    this.#known = new Uint32Array(cluster.ports.count);
    const portsOfService: number[][] = cluster.services.map(() => []);
    for (let port = 0; port < cluster.ports.count; port++)
      portsOfService[cluster.ports.service[port]!]!.push(port);
    this.#portsOfService = portsOfService;
  }

  tell(nowNs: number): void {
    this.#toldNs = nowNs;
  }

  sync(changed: readonly number[], fullAsked: boolean): SyncPlan {
    const nowNs = this.#nowNs();
    // kube-proxy's clock has moved on by the time it compares: an hour after a full sync is more than an hour.
    const hourly = nowNs - this.#lastFullNs >= HOUR && !this.#largeCluster;
    const full = fullAsked || this.#needFull || hourly;
    this.#needFull = true;
    const ports = full ? Array.from(this.#known.keys()) : this.#withSiblings(changed);
    for (const port of ports) this.#recount(port);
    const largeCluster = this.#endpointTotal > this.#options.largeClusterEndpoints;
    this.#largeCluster = largeCluster;
    const cleanup = !largeCluster || nowNs - this.#lastCleanupNs > this.#options.syncPeriod;
    if (cleanup) this.#lastCleanupNs = nowNs;

    const plans = ports.map((port) => planService(this.#node, port));
    this.#changes = this.#ruleset.stage({ plans, largeCluster, cleanup });
    const natAfter = this.#ruleset.nat.planned();
    this.dataplane.plannedBytes = natAfter.bytes;
    const failure = this.#nft ? undefined : refusalOf(natAfter);
    const plan: SyncPlan = {
      scope: full ? 'full' : 'partial',
      stages: this.#stages.of({
        full,
        cleanup,
        servicePorts: this.#known.length,
        endpoints: this.#endpointTotal,
        changes: this.#changes,
        natAfter,
        refused: failure !== undefined,
        succeed: () => this.#succeed(full),
      }),
      ...(this.#started ? {} : { aside: this.#stages.jumps.plantCanaries() }),
      ...(failure === undefined ? {} : { failure }),
    };
    this.#started = true;
    if (failure !== undefined) this.#ruleset.rollbackNat();
    return plan;
  }

  /** `style` replaces what is left to builds and hosts. */
  dump(format: string, style: Partial<TextStyle> = {}): Iterable<string> {
    if (format === 'iptables-restore')
      return restoreLines(this.#ruleset, { ...this.#ruleset.style, ...style });
    if (format === 'iptables-save') return saveLines(this.#ruleset);
    throw new RangeError(`iptables prints iptables-restore or iptables-save, not ${format}`);
  }

  /** Everything, if a full sync is due. Throws RangeError if the kernel refuses the tables. */
  partialDump(changed: readonly number[], style: Partial<TextStyle> = {}): Iterable<string> {
    const { scope, stages, failure } = this.sync(changed, false);
    if (failure !== undefined) throw new RangeError(`${failure.error}: ${failure.message}`);
    for (const stage of stages) stage.commit();
    const servicePorts = new Set(scope === 'full' ? this.#known.keys() : this.#withSiblings(changed));
    const { deleted } = this.#changes;
    return restoreLines(this.#ruleset, { ...this.#ruleset.style, ...style }, { servicePorts, deleted });
  }

  remarks(): readonly string[] {
    return remarksOf(this.#options, this.#node, this.#endpointTotal, this.#ruleset.nat);
  }

  /** A partial sync writes a changed Service with all its ports. */
  #withSiblings(changed: readonly number[]): number[] {
    const services = new Set(changed.map((port) => this.#node.cluster.ports.service[port]!));
    return [...services].flatMap((service) => this.#portsOfService[service]!).sort((a, b) => a - b);
  }

  #recount(port: number): void {
    const count = this.#node.endpoints.of(port).length;
    this.#endpointTotal += count - this.#known[port]!;
    this.#known[port] = count;
  }

  #succeed(full: boolean): void {
    this.#ruleset.commitNat();
    this.#needFull = false;
    if (full) this.#lastFullNs = this.#nowNs();
  }

  /** As told, or as packets and timers told the dataplane. */
  #nowNs(): number {
    return Math.max(this.#toldNs, this.dataplane.nowNs);
  }
}

function lockOf(options: IptablesOptions, { streams }: NodeContext): XtablesLock | undefined {
  const { lockHeld, lockEvery } = options;
  if (lockHeld === 0) return undefined;
  const phaseNs = lockEvery === 0 ? 0 : streams.stream('iptables.lock').below(lockEvery);
  return new XtablesLock({ everyNs: lockEvery, heldNs: lockHeld, phaseNs });
}
