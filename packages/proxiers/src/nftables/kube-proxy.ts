import type { NodeContext, Proxier, SyncPlan, SyncStage, SyncTrigger } from '../proxier.ts';
import { jsonRuleset } from '../nf-tables/language/json.ts';
import { listRuleset, type ListedTable } from '../nf-tables/language/listing.ts';
import { NftablesDataplane } from './dataplane.ts';
import { KernelSink } from './kernel-sink.ts';
import { KernelTable } from './kernel-table.ts';
import { Listing } from './listing.ts';
import { commandLines } from './command-text.ts';
import { ObjectNames } from './names.ts';
import { Programmed } from './programmed.ts';
import { remarksOf } from './remarks.ts';
import { resolveOptions, type RulesetOptions, type RulesetSettings } from './settings.ts';
import { SyncCounts } from './sync-counts.ts';
import { SyncScript, type SyncWork } from './sync-work.ts';

export interface NftablesOptions extends RulesetSettings {
  readonly minSyncPeriod: number;
  readonly syncPeriod: number;
}

const HOUR = 3_600_000_000_000;

/**
 * kube-proxy in nftables mode: full and partial syncs with what they cost.
 *
 * Models: syncProxyRules: stale chains deleted in a transaction of their own, the shared objects and what reading
 * their elements back takes in full syncs, the listing of chains and sets before each (until 1.36), one transaction
 * with the chains of changed Services, elements that differ, chains that nothing uses flushed. Full at the start,
 * after a failure and an hour after the last, always before 1.31; the first one after a restart leaves endpoint chains that exist (1.33
 * to 1.35).
 * Source: pkg/proxy/nftables/proxier.go.
 * Not modelled: walks of IPv6 packets; tables that others change; deletion of conntrack entries of stale UDP
 * endpoints; ServiceCIDRs and topology labels that change; node ports on localhost (1.37).
 */
export class NftablesProxier implements Proxier {
  readonly dataplane: NftablesDataplane;
  readonly trigger: SyncTrigger;
  readonly #node: NodeContext;
  readonly #settings: NftablesOptions;
  readonly #options: RulesetOptions;
  readonly #names: ObjectNames;
  readonly #script: SyncScript;
  readonly #table: KernelTable;
  readonly #programmed: Programmed;
  readonly #costs: SyncCounts;
  /** By service port: endpoints, whatever their conditions, when it was last synced. */
  readonly #known: Uint32Array;
  readonly #portsOfService: readonly (readonly number[])[];
  #endpointTotal = 0;
  /** At the start, and from the beginning of each sync until it has succeeded. */
  #needFull = true;
  /** Since kube-proxy started: no transaction was made, none was committed. */
  #first = true;
  #syncedOnce = false;
  #toldNs = 0;
  #lastFullNs = 0;

  constructor(node: NodeContext, settings: NftablesOptions) {
    const { cluster } = node;
    this.#node = node;
    this.#settings = settings;
    this.#options = resolveOptions(settings, cluster, node.node);
    this.#names = new ObjectNames(cluster);
    this.#script = new SyncScript(cluster, this.#options, this.#names);
    this.#table = new KernelTable(node, this.#options, this.#names);
    this.#programmed = new Programmed(node, this.#options, this.#names);
    this.#costs = new SyncCounts(this.#options.layout);
    this.dataplane = new NftablesDataplane(node, this.#options, this.#table, this.#programmed);
    this.trigger = {
      kind: 'bounded',
      minIntervalNs: settings.minSyncPeriod,
      retryNs: settings.syncPeriod,
      maxIntervalNs: HOUR,
    };
    this.#known = new Uint32Array(cluster.ports.count);
    const portsOfService: number[][] = cluster.services.map(() => []);
    for (let port = 0; port < cluster.ports.count; port++)
      portsOfService[cluster.ports.service[port]!]!.push(port);
    this.#portsOfService = portsOfService;
  }

  tell(nowNs: number): void {
    this.#toldNs = nowNs;
  }

  /** kube-proxy starts anew: it knows nothing of the table that it finds. */
  restart(): void {
    this.#programmed.forget();
    this.#needFull = true;
    this.#first = true;
    this.#syncedOnce = false;
  }

  sync(changed: readonly number[], fullAsked: boolean): SyncPlan {
    return this.#plan(changed, fullAsked).plan;
  }

  dump(format: string): Iterable<string> {
    if (format === 'nft') return this.#lines(this.#programmed.everything());
    if (format === 'nft-list') return listRuleset([this.#listed()]);
    if (format === 'nft-json') return jsonRuleset([this.#listed()]);
    throw new RangeError(`nftables prints nft, nft-list or nft-json, not ${format}`);
  }

  /** What one sync hands to `nft -f -`: everything, if a full one is due. */
  partialDump(changed: readonly number[]): Iterable<string> {
    const { plan, work } = this.#plan(changed, false);
    const lines = [...this.#lines(work)];
    for (const stage of plan.stages) stage.commit();
    return lines;
  }

  remarks(): readonly string[] {
    return remarksOf(this.#settings, this.#node, this.#options);
  }

  #plan(changed: readonly number[], fullAsked: boolean): { plan: SyncPlan; work: SyncWork } {
    const nowNs = this.#nowNs();
    const programmed = this.#programmed;
    // What was staged and never came into force is to be written anew, and kube-proxy's memory of it is void.
    if (programmed.rollback()) this.#needFull = true;
    const full =
      fullAsked || this.#needFull || !this.#options.layout.partialSyncs || nowNs - this.#lastFullNs >= HOUR;
    this.#needFull = true;
    const ports = full ? Array.from(this.#known.keys()) : this.#withSiblings(changed);
    for (const port of ports) this.#recount(port);

    const stages: SyncStage[] = [];
    const expired = programmed.takeExpired(nowNs);
    if (expired.length > 0) stages.push(this.#deletion(expired, nowNs));
    const work = programmed.stage({
      ports,
      full,
      first: this.#first,
      keepsEndpointChains: !this.#syncedOnce,
    });
    this.#first &&= !full;
    stages.push(this.#main(work, full, nowNs));
    return { plan: { scope: full ? 'full' : 'partial', stages }, work };
  }

  /** Nothing leads to these chains: no packet can tell when they go. */
  #deletion(chains: readonly number[], nowNs: number): SyncStage {
    const listed = this.#table.counted();
    const sink = new KernelSink(this.#table);
    for (const chain of chains) sink.deleteChain(chain);
    const counts = this.#costs.transaction(sink, sink.prepare(nowNs), listed);
    sink.commit();
    return { counts, commit: nothing };
  }

  #main(work: SyncWork, full: boolean, nowNs: number): SyncStage {
    const sink = new KernelSink(this.#table);
    const listed = this.#table.counted();
    this.#script.run(work, sink);
    const counts = this.#costs.sync({
      full,
      servicePorts: this.#known.length,
      endpoints: this.#endpointTotal,
      elements: this.#programmed.elementsBefore,
      listed,
      sink,
      kernel: sink.prepare(nowNs),
    });
    this.#table.plannedOperations = sink.operations + sink.inlineElements;
    return {
      counts,
      commit: () => {
        sink.commit();
        this.#programmed.commit(nowNs);
        this.#needFull = false;
        this.#syncedOnce = true;
        if (full) this.#lastFullNs = this.#nowNs();
      },
    };
  }

  #lines(work: SyncWork): Iterable<string> {
    return commandLines(this.#node.cluster, this.#options, this.#names, this.#script, work);
  }

  #listed(): ListedTable {
    const listing = new Listing(this.#node.cluster, this.#table, this.#programmed);
    return listing.table(Math.floor(this.#nowNs() / 1_000_000));
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

  /** As told, or as packets and timers told the dataplane. */
  #nowNs(): number {
    return Math.max(this.#toldNs, this.dataplane.nowNs);
  }
}

function nothing(): void {
  // It is done.
}
