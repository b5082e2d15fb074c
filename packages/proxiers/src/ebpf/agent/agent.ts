import type { Counts } from '../../cost/operations.ts';
import type { NodeContext, Proxier, SyncPlan, SyncTrigger } from '../../proxier.ts';
import { MAGLEV_PERMUTATION, TERMINATE_WALK } from './operations.ts';
import { agentRemarks } from './remarks.ts';
import { dataplaneOptions, flowMapSizes, frontendSettings } from './settings.ts';
import { backendList, listedCount, type BackendList, type ListSource } from './backend-list.ts';
import { BackendRegistry } from './backend-registry.ts';
import { nextPowerOfTwo } from '../maps/buckets.ts';
import { EbpfDataplane } from '../programs/dataplane.ts';
import { removeFrontend } from './frontend-removal.ts';
import { FrontendUpdate, type UpdateContext } from './frontend-update.ts';
import { Frontends, FRONTENDS_MAX, NO_BACKENDS, type Frontend } from './frontends.ts';
import { MaglevTables } from './maglev-tables.ts';
import { MapLedger, type LedgerMap } from './map-ledger.ts';
import { nativeText } from '../listings/formats.ts';
import { AGENT_FRONTEND, SYSCALL_DELETE } from '../operations.ts';
import type { AgentOptions } from './options.ts';
import { BACKENDS_MAX, overflowFailure, type Overflow } from './overflow.ts';
import { RetryQueue } from './retry-queue.ts';
import { LB_MAP_DEFAULT, ServiceMaps } from '../service-maps.ts';
import { ServiceWriter } from './service-writer.ts';
import { newCounts, StageList } from './stage-list.ts';

export type { AgentOptions } from './options.ts';

/**
 * The agent's load-balancing reconciler: it writes the service maps frontend by frontend, on one thread.
 * Models: the order of map operations with its window of loss, rewriting of all slots, affinity pairs, source ranges,
 * Maglev tables with the kernel's grace period, sharing of backends between frontends, ids of 16 bits, full maps and
 * the retries that follow, the gathering of events, the walks that look for sockets of UDP backends that are gone.
 * Source: pkg/loadbalancer (1.18 to 1.20), pkg/service/service.go before; cilium/statedb reconciler. Its limit of
 * 1,000 rounds a second, each of up to 1,000 frontends, never binds here: a round of that size takes longer.
 * Not modelled: pruning every 30 minutes, so that slots which a failed update wrote stay until it succeeds; waiting
 * for sources at the start (lb-init-wait-timeout). With `lbMapMax` 0 the maps grow as if whoever runs the cluster had always set
 * bpf-lb-map-max to the next power of two.
 */
export class Agent implements Proxier {
  readonly dataplane: EbpfDataplane;
  readonly trigger: SyncTrigger;
  /** Sweeps of conntrack. */
  readonly watch: { readonly periodNs: number; readonly counts: Counts };
  readonly #node: NodeContext;
  readonly #options: AgentOptions;
  readonly #frontends: Frontends;
  readonly #maps: ServiceMaps;
  readonly #writer: ServiceWriter;
  readonly #tables: MaglevTables;
  #registry = new BackendRegistry();
  /** By frontend: entries that its backends and its master want. */
  readonly #wanted: Uint32Array;
  /** Entries that the cluster wants in the services map. */
  #needed: number;
  #started = false;
  /** Since the last sync. */
  #restarted = false;
  /** Objects, each by its first frontend; those beyond the last frontend are without an id. */
  readonly #retries = new RetryQueue();
  /** Until somebody tells the time every retry is due. */
  #nowNs = Infinity;

  constructor(node: NodeContext, options: AgentOptions) {
    const { cluster, streams, cores } = node;
    this.#node = node;
    this.#options = options;
    const settings = frontendSettings(node, options);
    this.#frontends = new Frontends(cluster, settings);
    const { all } = this.#frontends;
    const tableSize = Number(options.maglevTableSize);
    const ranges = all.reduce((sum, { sourceRanges }) => sum + sourceRanges.length, 0);
    const entries = options.lbMapMax || Math.max(LB_MAP_DEFAULT, nextPowerOfTwo(ranges));
    this.#maps = new ServiceMaps(entries, streams.stream('ebpf.map.seeds.services'), {
      preallocated: options.preallocateMaps,
      protocolInKey: options.protocolInKey,
      maglevTableSize: tableSize,
      cpus: cores,
    });
    const sizes = flowMapSizes(options, cores);
    const programs = dataplaneOptions(options, sizes, settings.nodeAddresses);
    this.dataplane = new EbpfDataplane(node, this.#maps, programs);
    this.#tables = new MaglevTables(cluster, { tableSize, hashSeed: options.maglevHashSeed, cores });
    const addresses = new Set<number>();
    if (options.agentOrder === '1.18+')
      for (const { wildcard, address } of all) if (wildcard) addresses.add(address);
    this.#writer = new ServiceWriter(this.#maps, this.dataplane.flows, cluster, node.node, addresses);
    this.#wanted = new Uint32Array(all.length);
    this.#needed = addresses.size;
    this.trigger = this.#triggerOf(options);
    this.watch = this.dataplane.agentWork;
  }

  tell(nowNs: number): void {
    this.#nowNs = nowNs;
  }

  /** Plans build on each other: the stages of one must have committed before the next is asked for. */
  sync(changed: readonly number[], again: boolean): SyncPlan {
    const initial = !this.#started;
    const everything = initial || this.#restarted;
    this.#started = true;
    const objects = everything ? this.#allObjects() : this.#dueObjects(changed, again);
    this.#size(objects);
    const context = this.#context(initial);
    const full = new Set<LedgerMap>();
    let failed = false;
    const lists = new Map<boolean, BackendList>();
    let listsOf = -1;
    for (const object of objects) {
      const servicePort = this.#frontends.all[object]?.servicePort ?? -1;
      if (listsOf !== servicePort) lists.clear();
      listsOf = servicePort;
      if (this.#reconcile(object, lists, context, full)) this.#retries.succeed(object);
      else {
        failed = true;
        this.#retries.fail(object, this.#nowNs === Infinity ? 0 : this.#nowNs);
      }
    }
    if (this.#restarted) this.#prune(context);
    const plan = this.#planOf(context, everything);
    return failed ? { ...plan, failure: overflowFailure(this.#overflow(full), this.#maps) } : plan;
  }

  /**
   * The agent's process ends and starts anew: the maps stay, and with them the ids of frontends and backends; all else
   * is forgotten. The next sync writes every frontend, and then deletes the backends that none refers to.
   */
  restart(): void {
    this.#registry = BackendRegistry.restored(this.#maps);
    for (const frontend of this.#frontends.all) frontend.list = NO_BACKENDS;
    this.#retries.clear();
    this.#restarted = true;
  }

  /** What the agent does when a service port is deleted: its frontends go, in their order. */
  withdraw(servicePort: number): SyncPlan {
    const { all, first } = this.#frontends;
    const context = this.#context(false);
    for (let index = first[servicePort]!; index < first[servicePort + 1]!; index++) {
      const { address } = all[index]!;
      const shared = all.some(
        (other) => other !== all[index] && other.address === address && other.programmed,
      );
      this.#retries.succeed(index);
      removeFrontend(all[index]!, !shared, context);
      this.#needed -= this.#wanted[index]!;
      this.#wanted[index] = 0;
    }
    return this.#planOf(context, false);
  }

  dump(format: string): Iterable<string> {
    return nativeText(format, this.dataplane, this.#frontends, this.#options.protocolInKey);
  }

  remarks(): readonly string[] {
    return agentRemarks({
      options: this.#options,
      cluster: this.#node.cluster,
      frontends: this.#frontends,
      maps: this.#maps,
      tables: this.#tables,
      needed: this.#needed,
    });
  }

  #triggerOf({ reflectorFlush, reflectorWait, reflectorBatch }: AgentOptions): SyncTrigger {
    const nextRetryNs = (): number => this.#retries.nextNs(this.#nowNs === Infinity ? 0 : this.#nowNs);
    const common = {
      eventsMax: reflectorBatch,
      get retryNs(): number {
        return nextRetryNs();
      },
    };
    // Assigned to, not spread: a spread would read the getter once.
    return reflectorFlush === 'ticker'
      ? Object.assign(common, { kind: 'ticker' as const, periodNs: reflectorWait })
      : Object.assign(common, { kind: 'timer' as const, delayNs: reflectorWait });
  }

  #context(whole: boolean): UpdateContext {
    return {
      registry: this.#registry,
      writer: this.#writer,
      ledger: new MapLedger(this.#maps),
      tables: this.#tables,
      stages: new StageList(whole),
      order: this.#options.agentOrder,
      gracePeriodNs: this.#options.rcuGracePeriod,
      besides: 0,
      udpGone: 0,
    };
  }

  /** Source: pruneBackendMaps, which runs when all sources are known after a start, and every 30 minutes. */
  #prune({ stages, ledger }: UpdateContext): void {
    this.#restarted = false;
    const unused = this.#registry.unused();
    for (const id of unused) this.#registry.setWritten(id, 0);
    stages.cut();
    stages.count(SYSCALL_DELETE, unused.length);
    ledger.give('backends', unused.length);
    stages.enact(() => {
      for (const id of unused) this.#writer.deleteBackend(id);
    });
  }

  #planOf({ stages, besides, udpGone }: UpdateContext, everything: boolean): SyncPlan {
    const walks = this.#options.terminateSockets ? udpGone : 0;
    const scope = everything ? 'full' : 'entries';
    if (besides + walks === 0) return { scope, stages: stages.finish() };
    const aside = newCounts();
    aside[MAGLEV_PERMUTATION] = besides;
    aside[TERMINATE_WALK] = walks;
    return { scope, stages: stages.finish(), aside };
  }

  #allObjects(): number[] {
    const { all, needed } = this.#frontends;
    const objects = all.flatMap(({ expanded }, index) => (expanded ? [] : [index]));
    for (let nameless = FRONTENDS_MAX; nameless < needed; nameless++) objects.push(nameless);
    return objects;
  }

  /**
   * Objects of the changed service ports, then those whose next attempt is due. After a failure the ports of that
   * sync are named once more: what has not changed since is left alone, or waits for its own next attempt.
   */
  #dueObjects(changed: readonly number[], again: boolean): number[] {
    const { first, all } = this.#frontends;
    const due = new Set<number>();
    for (const port of changed) {
      for (let index = first[port]!; index < first[port + 1]!; index++) {
        if (all[index]!.expanded || (again && this.#isCurrent(all[index]!))) continue;
        // A change starts the delays of retries anew.
        this.#retries.succeed(index);
        due.add(index);
      }
    }
    for (const object of this.#retries.due(this.#nowNs)) due.add(object);
    return [...due];
  }

  #isCurrent(frontend: Frontend): boolean {
    const { ids, active } = frontend.list;
    const list = backendList(this.#source(frontend), this.#registry);
    return (
      list.active === active && list.ids.length === ids.length && list.ids.every((id, at) => id === ids[at])
    );
  }

  /** Note what the frontends want now, and with lbMapMax 0 see to maps that take it. */
  #size(objects: readonly number[]): void {
    for (const object of objects) {
      for (const index of this.#frontendsOf(object)) {
        const wanted = 1 + listedCount(this.#source(this.#frontends.all[index]!));
        this.#needed += wanted - this.#wanted[index]!;
        this.#wanted[index] = wanted;
      }
    }
    if (this.#options.lbMapMax === 0 && this.#needed > this.#maps.maxEntries) {
      this.#maps.enlarge(nextPowerOfTwo(this.#needed));
    }
  }

  /** A frontend and those that are expanded from it; none of an object without an id. */
  *#frontendsOf(object: number): Generator<number> {
    const { all } = this.#frontends;
    if (object >= all.length) return;
    yield object;
    for (let index = object + 1; all[index]?.expanded === true; index++) yield index;
  }

  /** False when it has to be tried again. The first of its frontends that fails ends the attempt. */
  #reconcile(
    object: number,
    lists: Map<boolean, BackendList>,
    context: UpdateContext,
    full: Set<LedgerMap>,
  ): boolean {
    if (object >= this.#frontends.all.length) {
      context.stages.count(AGENT_FRONTEND, 1);
      return false;
    }
    for (const index of this.#frontendsOf(object)) {
      const frontend = this.#frontends.all[index]!;
      if (this.#wanted[index]! - 1 > BACKENDS_MAX) {
        context.stages.count(AGENT_FRONTEND, 1);
        return false;
      }
      const list = lists.get(frontend.local) ?? backendList(this.#source(frontend), this.#registry);
      lists.set(frontend.local, list);
      const map = new FrontendUpdate(frontend, list, context).plan();
      if (map === undefined) continue;
      full.add(map);
      return false;
    }
    return true;
  }

  /** What waits for another attempt, and why the latest failed. */
  #overflow(full: ReadonlySet<LedgerMap>): Overflow {
    const { all, needed } = this.#frontends;
    let [waiting, absent, wide, nameless] = [0, 0, 0, 0];
    for (const object of this.#retries.objects()) {
      if (object >= all.length) nameless++;
      for (const index of this.#frontendsOf(object)) {
        if (this.#wanted[index]! - 1 > BACKENDS_MAX) wide++;
        else waiting++;
        if (!all[index]!.programmed) absent++;
      }
    }
    return { full, waiting, absent, wide, frontends: nameless > 0 ? needed : 0, needed: this.#needed };
  }

  #source(frontend: Frontend): ListSource {
    const { cluster, endpoints, node } = this.#node;
    const { servicePort, local } = frontend;
    return { cluster, endpoints, servicePort, node, local, topology: this.#options.serviceTopology };
  }
}
