import type { NodeContext, Proxier, SyncFailure, SyncPlan, SyncStage, SyncTrigger } from '../proxier.ts';
import { backendList, listedCount, type BackendList, type ListSource } from './backend-list.ts';
import { BackendRegistry } from './backend-registry.ts';
import { nextPowerOfTwo } from './buckets.ts';
import { EbpfDataplane } from './dataplane.ts';
import { FrontendUpdate, type AgentOrder } from './frontend-update.ts';
import { Frontends, FRONTENDS_MAX, type Frontend } from './frontends.ts';
import { lbList, serviceList } from './native-text.ts';
import { AGENT_FRONTEND, EBPF_OPERATIONS, SYSCALL_MISSING } from './operations.ts';
import { LB_MAP_DEFAULT, ServiceMaps } from './service-maps.ts';
import { ServiceWriter } from './service-writer.ts';

/** Slots and counts are 16 bits wide. */
const BACKENDS_MAX = 65_535;
/** Frontends that a round of the reconciler takes up again after they failed. */
const ROUND = 1_000;
const RETRY_NS = 1_000_000_000;

export interface AgentOptions {
  /** bpf-lb-map-max; 0 as many as the cluster needs. */
  readonly lbMapMax: number;
  readonly socketLB: boolean;
  readonly agentOrder: AgentOrder;
  /** lb-reflector-wait-time in ns. */
  readonly reflectorWait: number;
  /** Lookups of a packet in the endpoint program: 1, or 2 in releases that look both directions up. */
  readonly ctLookups: number;
}

/**
 * The agent's load-balancing reconciler: it writes the service maps frontend by frontend.
 * Models: the order of map operations with its window of loss, rewriting of all slots, sharing of backends between
 * frontends, ids of 16 bits, maps that are full, the free-running ticker that gathers events.
 * Source: pkg/loadbalancer (1.18 to 1.20), pkg/service/service.go before.
 * Not modelled: affinity pairs and Maglev tables, pruning every 30 minutes, backoff beyond the first retry, restoring
 * maps over a restart, the limit of 5,000 events a batch. With `lbMapMax` 0 the maps grow as if whoever runs the
 * cluster had always set bpf-lb-map-max to the next power of two; Cilium itself makes them 65,536 entries large.
 */
export class Agent implements Proxier {
  readonly dataplane: EbpfDataplane;
  readonly trigger: SyncTrigger;
  readonly #node: NodeContext;
  readonly #options: AgentOptions;
  readonly #frontends: Frontends;
  readonly #maps: ServiceMaps;
  readonly #writer: ServiceWriter;
  readonly #registry = new BackendRegistry();
  /** By frontend: entries that its backends and its master want. */
  readonly #wanted: Uint32Array;
  #needed: number;
  #started = false;
  /** Frontends that are not in force, in the order of their next attempt. */
  readonly #failed = new Set<number>();

  constructor(node: NodeContext, options: AgentOptions) {
    const { cluster, streams } = node;
    this.#node = node;
    this.#options = options;
    this.trigger = { kind: 'ticker', periodNs: options.reflectorWait, retryNs: RETRY_NS };
    this.#frontends = new Frontends(cluster, cluster.nodes[node.node]!.address);
    const seeds = streams.stream('ebpf.map.seeds.services');
    this.#maps = new ServiceMaps(options.lbMapMax || LB_MAP_DEFAULT, seeds);
    const wildcards = options.agentOrder === '1.18+';
    this.dataplane = new EbpfDataplane(node, this.#maps, this.#frontends, {
      socketLB: options.socketLB,
      bothDirections: options.ctLookups === 2,
      wildcards,
    });
    const addresses = new Set<number>();
    if (wildcards)
      for (const { wildcard, address } of this.#frontends.all) if (wildcard) addresses.add(address);
    this.#writer = new ServiceWriter(this.#maps, this.dataplane.flows, cluster, node.node, addresses);
    this.#wanted = new Uint32Array(this.#frontends.all.length);
    this.#needed = addresses.size;
  }

  /** Plans build on each other: the stages of one must have committed before the next is asked for. */
  sync(changed: readonly number[], full: boolean): SyncPlan {
    const initial = !this.#started;
    this.#started = true;
    const frontends = initial ? this.#frontends.all.map((_, index) => index) : this.#affected(changed, full);
    this.#size(frontends);
    const updates: FrontendUpdate[] = [];
    let rejected = 0;
    let room = this.#maps.maxEntries - this.#maps.services.count;
    let lists = new Map<boolean, BackendList>();
    let listsOf = -1;
    for (const index of frontends) {
      const frontend = this.#frontends.all[index]!;
      this.#failed.delete(index);
      if (this.#isHopeless(index, frontend, room)) {
        this.#failed.add(index);
        rejected++;
        continue;
      }
      if (listsOf !== frontend.servicePort) lists = new Map();
      listsOf = frontend.servicePort;
      const list = lists.get(frontend.local) ?? backendList(this.#source(frontend), this.#registry);
      lists.set(frontend.local, list);
      const context = {
        registry: this.#registry,
        writer: this.#writer,
        order: this.#options.agentOrder,
        room,
      };
      const update = new FrontendUpdate(frontend, list, context);
      if (update.overflowed) this.#failed.add(index);
      room += update.surplus - update.added;
      updates.push(update);
    }
    const stages = initial ? [wholeStage(updates)] : updates.flatMap((update) => update.stages());
    if (rejected > 0) stages.push(rejectedStage(rejected));
    const failure = this.#failure();
    return { scope: initial ? 'full' : 'entries', stages, ...(failure && { failure }) };
  }

  dump(format: string): Iterable<string> {
    return format === 'cilium-service-list'
      ? serviceList(this.#maps, this.#frontends)
      : lbList(this.#maps, this.#frontends);
  }

  remarks(): readonly string[] {
    const { maxEntries, services } = this.#maps;
    const remarks: string[] = [];
    if (this.#options.lbMapMax === 0 && maxEntries > LB_MAP_DEFAULT) {
      remarks.push(
        `The service maps are made for ${maxEntries} entries: this cluster needs ${this.#needed}, and with Cilium's default bpf-lb-map-max of ${LB_MAP_DEFAULT} updates would fail with E2BIG.`,
      );
    } else if (this.#options.lbMapMax !== 0 && services.count > maxEntries * 0.8) {
      remarks.push(
        `${services.spec.name} holds ${services.count} entries of at most ${maxEntries} (bpf-lb-map-max).`,
      );
    }
    const sticky = this.#node.cluster.services.filter((service) => service.affinityS > 0).length;
    if (sticky > 0) remarks.push(`Session affinity of ${sticky} Services is not modelled in this mode.`);
    return remarks;
  }

  /** Frontends of the changed service ports, and with `full` a round of those that failed before. */
  #affected(changed: readonly number[], full: boolean): number[] {
    const { first } = this.#frontends;
    const affected = new Set<number>();
    for (const port of changed) {
      for (let index = first[port]!; index < first[port + 1]!; index++) affected.add(index);
    }
    let retried = 0;
    if (full) {
      for (const index of this.#failed) {
        if (retried++ === ROUND) break;
        affected.add(index);
      }
    }
    return [...affected];
  }

  /** Note what the frontends want now, and with lbMapMax 0 see to maps that take it. */
  #size(frontends: readonly number[]): void {
    for (const index of frontends) {
      const wanted = 1 + listedCount(this.#source(this.#frontends.all[index]!));
      this.#needed += wanted - this.#wanted[index]!;
      this.#wanted[index] = wanted;
    }
    if (this.#options.lbMapMax === 0 && this.#needed > this.#maps.maxEntries) {
      this.#maps.enlarge(nextPowerOfTwo(this.#needed));
    }
  }

  /** Nothing of the frontend can be written: it has too many backends, or is new and the map is full. */
  #isHopeless(index: number, frontend: Frontend, room: number): boolean {
    return (
      this.#wanted[index]! - 1 > BACKENDS_MAX ||
      (room === 0 && !frontend.programmed && frontend.written === 0)
    );
  }

  #source(frontend: Frontend): ListSource {
    const { cluster, endpoints, node } = this.#node;
    return { cluster, endpoints, servicePort: frontend.servicePort, onlyNode: frontend.local ? node : -1 };
  }

  #failure(): SyncFailure | undefined {
    const reasons: string[] = [];
    const { needed } = this.#frontends;
    const { maxEntries } = this.#maps;
    let wide = 0;
    for (const index of this.#failed) if (this.#wanted[index]! - 1 > BACKENDS_MAX) wide++;
    if (this.#failed.size > wide) {
      reasons.push(
        `${this.#failed.size - wide} frontends did not fit: the cluster needs ${this.#needed} entries in ` +
          `${this.#maps.services.spec.name}, which holds ${maxEntries}; set bpf-lb-map-max to ${nextPowerOfTwo(this.#needed)}.`,
      );
    }
    if (wide > 0) {
      reasons.push(
        `${wide} frontends have more than ${BACKENDS_MAX} backends, the most that a 16-bit count allows; split their Services.`,
      );
    }
    if (needed > FRONTENDS_MAX) {
      reasons.push(
        `The cluster needs ${needed} frontends on this node; reverse NAT ids are 16 bits wide and number ${FRONTENDS_MAX}.`,
      );
    }
    return reasons.length === 0 ? undefined : { error: 'E2BIG', message: reasons.join(' ') };
  }
}

/** The start: nobody uses the maps before everything is in them. */
function wholeStage(updates: readonly FrontendUpdate[]): SyncStage {
  const counts = new Float64Array(EBPF_OPERATIONS.length);
  for (const update of updates) update.count(counts);
  return {
    counts,
    commit: () => {
      for (const update of updates) update.commit();
    },
  };
}

/** Attempts that failed at their first call. */
function rejectedStage(attempts: number): SyncStage {
  const counts = new Float64Array(EBPF_OPERATIONS.length);
  counts[AGENT_FRONTEND] = attempts;
  counts[SYSCALL_MISSING] = attempts;
  return { counts, commit: () => {} };
}
