import type { Counts } from '../cost/operations.ts';
import type { NodeContext, Proxier, SyncFailure, SyncPlan, SyncTrigger } from '../proxier.ts';
import { KUBE_SERVICES } from './chains.ts';
import { IptablesDataplane, legacyEntries } from './dataplane.ts';
import { IPTABLES_OPERATIONS, OPERATION } from './operations.ts';
import { FILTER_CHAINS, NAT_CHAINS, restoreLines } from './restore-text.ts';
import { LEGACY_SIZES, NFT_SIZES } from './rule-sizes.ts';
import type { Holding, RuleTable } from './rule-table.ts';
import { PRODUCTION_STYLE, type TextStyle } from './rule-text.ts';
import { saveLines } from './save-text.ts';
import { Ruleset, type NatChanges } from './ruleset.ts';
import { planService } from './service-plan.ts';

export interface IptablesOptions {
  readonly backend: 'nft' | 'legacy';
  readonly minSyncPeriod: number;
  readonly syncPeriod: number;
  readonly masqueradeAll: boolean;
  readonly largeClusterEndpoints: number;
}

/** x_tables allocates a table and its 64-byte header in one piece, which must stay below 512 MiB. */
const LEGACY_TABLE_LIMIT = 536_870_912;
const LEGACY_HEADER = 64;
/** Commands that make sure of the jumps from built-in chains: 14 jumps, each -N and -C, and -I where it is missing. */
const JUMPS_IN_FILTER = 11;
const JUMPS_IN_NAT = 3;

const HOUR = 3_600_000_000_000;

const PROCESS = OPERATION['process.launch'];
const SERVICE = OPERATION['iptables.sync.service'];
const ENDPOINT = OPERATION['iptables.sync.endpoint'];
const LINE_LEGACY = OPERATION['iptables.sync.line-legacy'];
const LINE_NFT = OPERATION['iptables.sync.line-nft'];
const SAVED = OPERATION['iptables.sync.saved'];
const READ = OPERATION['iptables.kernel.read'];
const REPLACED = OPERATION['iptables.kernel.replaced'];
const WRITTEN = OPERATION['iptables.kernel.written'];
const VALIDATED = OPERATION['iptables.kernel.validated'];

/**
 * kube-proxy in iptables mode: full and partial syncs with what they cost.
 *
 * Models: syncProxyRules and the two transactions of its iptables-restore (filter, then nat); partial syncs that
 * rewrite the shared chains and the chains of changed Services (KEP-3453); generation over all services and
 * endpoints in either case; large-cluster mode; x_tables reading and replacing whole tables, iptables-nft changing
 * chains; the 512 MiB limit of an x_tables table.
 * Source: pkg/proxy/iptables/proxier.go and pkg/util/iptables (Kubernetes 1.35); ip_tables.c; nf_tables_api.c.
 * Not modelled: the hourly full sync, the canary's own commands, lock contention with other users of iptables,
 * deletion of conntrack entries of stale UDP endpoints.
 */
export class IptablesProxier implements Proxier {
  readonly dataplane: IptablesDataplane;
  readonly trigger: SyncTrigger;
  readonly #node: NodeContext;
  readonly #options: IptablesOptions;
  readonly #ruleset: Ruleset;
  readonly #nft: boolean;
  /** By service port: endpoints, whatever their conditions, when it was last synced. */
  readonly #known: Uint32Array;
  readonly #portsOfService: readonly (readonly number[])[];
  #endpointTotal = 0;
  /** At the start and after a failure, whatever is asked for. */
  #needFull = true;
  #lastCleanupNs = -Infinity;

  constructor(node: NodeContext, options: IptablesOptions) {
    const { cluster } = node;
    this.#node = node;
    this.#options = options;
    this.#nft = options.backend === 'nft';
    this.#ruleset = new Ruleset(cluster, this.#nft ? NFT_SIZES : LEGACY_SIZES, {
      nodeAddress: cluster.nodes[node.node]!.address,
      masqueradeAll: options.masqueradeAll,
    });
    this.dataplane = new IptablesDataplane(node, this.#ruleset, this.#nft);
    this.trigger = {
      kind: 'bounded',
      minIntervalNs: options.minSyncPeriod,
      retryNs: options.syncPeriod,
      maxIntervalNs: HOUR,
    };
    this.#known = new Uint32Array(cluster.ports.count);
    const portsOfService: number[][] = cluster.services.map(() => []);
    for (let port = 0; port < cluster.ports.count; port++)
      portsOfService[cluster.ports.service[port]!]!.push(port);
    this.#portsOfService = portsOfService;
  }

  sync(changed: readonly number[], fullAsked: boolean): SyncPlan {
    const full = fullAsked || this.#needFull;
    const ports = full ? Array.from(this.#known.keys()) : this.#withSiblings(changed);
    for (const port of ports) this.#recount(port);
    const largeCluster = this.#endpointTotal > this.#options.largeClusterEndpoints;
    const cleanup = !largeCluster || this.dataplane.nowNs - this.#lastCleanupNs > this.#options.syncPeriod;
    if (cleanup) this.#lastCleanupNs = this.dataplane.nowNs;

    const { nat, filter } = this.#ruleset;
    const wasEmpty = !nat.isLive(KUBE_SERVICES);
    const changes = this.#ruleset.stage({
      plans: ports.map((port) => planService(this.#node, port)),
      largeCluster,
      cleanup,
    });
    const natAfter = nat.planned();
    const filterCounts = this.#filterCounts(filter.planned(), { full, wasEmpty, cleanup });
    const failure = this.#failureOf(natAfter);
    const natCounts = this.#natCounts(natAfter, changes, failure !== undefined);
    this.dataplane.plannedBytes = natAfter.bytes;
    this.#needFull = failure !== undefined;
    if (failure !== undefined) this.#ruleset.rollbackNat();
    const stages = [
      { counts: filterCounts, commit: () => this.#ruleset.commitFilter() },
      { counts: natCounts, commit: failure === undefined ? () => this.#ruleset.commitNat() : nothing },
    ];
    const scope = full ? 'full' : 'partial';
    return failure === undefined ? { scope, stages } : { scope, stages, failure };
  }

  dump(format: string, style: TextStyle = PRODUCTION_STYLE): Iterable<string> {
    if (format === 'iptables-restore') return restoreLines(this.#ruleset, style);
    if (format === 'iptables-save') return saveLines(this.#ruleset);
    throw new RangeError(`iptables prints iptables-restore or iptables-save, not ${format}`);
  }

  remarks(): readonly string[] {
    const remarks: string[] = [];
    const { services } = this.#node.cluster;
    const sticky = services.filter((service) => service.affinityS > 0).length;
    if (sticky > 0) {
      remarks.push(`${sticky} Services ask for ClientIP affinity; their rules are built without it`);
    }
    if (this.#endpointTotal > this.#options.largeClusterEndpoints) {
      remarks.push(
        `${this.#endpointTotal} endpoints are more than ${this.#options.largeClusterEndpoints}: kube-proxy leaves ` +
          'comments out of per-endpoint rules, and leftover chains in place for up to syncPeriod',
      );
    }
    const legacyBytes = this.#ruleset.nat.bytesIn(LEGACY_SIZES);
    if (legacyBytes > LEGACY_TABLE_LIMIT / 2) {
      const percent = Math.round((legacyBytes / LEGACY_TABLE_LIMIT) * 100);
      const fits = legacyBytes + LEGACY_HEADER < LEGACY_TABLE_LIMIT;
      const legacy = this.#nft ? 'With the legacy backend the nat table would take' : 'The nat table takes';
      remarks.push(
        `${legacy} ${percent} % of the 512 MiB that x_tables allows for one table` +
          (fits ? '' : ': iptables-restore would fail with ENOMEM, and the rules of before would stay'),
      );
    }
    return remarks;
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

  /** Everything up to the COMMIT of filter: the jumps, generation, the stale chains' listing, and the filter table. */
  #filterCounts(
    after: Holding,
    sync: { readonly full: boolean; readonly wasEmpty: boolean; readonly cleanup: boolean },
  ): Counts {
    const counts = new Float64Array(IPTABLES_OPERATIONS.length);
    const { nat, filter } = this.#ruleset;
    const natEntries = legacyEntries(nat.holds);
    const filterEntries = legacyEntries(filter.holds);
    counts[SERVICE] = this.#known.length;
    counts[ENDPOINT] = this.#endpointTotal;
    counts[PROCESS] = 1;
    if (sync.full) {
      const commands = sync.wasEmpty ? 3 : 2;
      counts[PROCESS]! += commands * (JUMPS_IN_FILTER + JUMPS_IN_NAT);
      if (!this.#nft)
        counts[READ]! += commands * (JUMPS_IN_FILTER * filterEntries + JUMPS_IN_NAT * natEntries);
    }
    if (sync.cleanup) {
      counts[PROCESS]! += 1;
      counts[SAVED]! += nat.holds.rules + nat.holds.chains + nat.holds.builtIns;
      if (!this.#nft) counts[READ]! += natEntries;
    }
    const rules = rulesAfter(filter, FILTER_CHAINS);
    this.#countTable(counts, { lines: 2 + FILTER_CHAINS.length + rules, before: filter.holds, after });
    return counts;
  }

  #natCounts(after: Holding, changes: NatChanges, refused: boolean): Counts {
    const counts = new Float64Array(IPTABLES_OPERATIONS.length);
    const { nat } = this.#ruleset;
    const rules = rulesAfter(nat, NAT_CHAINS) + changes.rules + changes.deleted;
    const lines = 2 + NAT_CHAINS.length + changes.chains + changes.deleted + rules;
    this.#countTable(counts, { lines, before: nat.holds, after });
    // A table that is too large is refused before it is copied.
    if (refused) counts[REPLACED] = 0;
    return counts;
  }

  #countTable(
    counts: Counts,
    table: {
      readonly lines: number;
      readonly before: Holding;
      readonly after: Holding;
    },
  ): void {
    if (this.#nft) {
      counts[LINE_NFT]! += table.lines;
      counts[WRITTEN]! += table.lines - 2;
      counts[VALIDATED]! += table.after.rules;
    } else {
      counts[LINE_LEGACY]! += table.lines;
      counts[READ]! += legacyEntries(table.before);
      counts[REPLACED]! += legacyEntries(table.after);
    }
  }

  #failureOf(nat: Holding): SyncFailure | undefined {
    if (this.#nft || nat.bytes + LEGACY_HEADER < LEGACY_TABLE_LIMIT) return undefined;
    return {
      error: 'ENOMEM',
      message:
        `the nat table would take ${nat.bytes} bytes for ${legacyEntries(nat)} entries and x_tables refuses ` +
        `tables of ${LEGACY_TABLE_LIMIT} bytes or more: the rules of before stay; the nft backend has no such limit`,
    };
  }
}

function rulesAfter(table: RuleTable, chains: readonly number[]): number {
  return chains.reduce((rules, chain) => rules + table.countAfter(chain), 0);
}

function nothing(): void {
  // The kernel refused the table: packets go on meeting the old one.
}
