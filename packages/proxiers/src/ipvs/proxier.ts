import type {
  NodeContext,
  OptionsOf,
  Proxier,
  SyncFailure,
  SyncPlan,
  SyncStage,
  SyncTrigger,
} from '../proxier.ts';
import { categorize } from '../kubernetes/categorize.ts';
import { ADD, Changes, RECALL, RETIRE } from './changes.ts';
import { IpvsDataplane } from './dataplane.ts';
import { Director } from './director.ts';
import { GracefulTermination } from './graceful-termination.ts';
import { list, save } from './ipvsadm.ts';
import type { ipvsOptions } from './mode.ts';
import { PassMeter } from './pass-meter.ts';
import { SetContents, type SetChange } from './set-contents.ts';
import { createSets, type Sets } from './sets.ts';
import { WantedServers } from './wanted-servers.ts';

/** Up to so many changes each become visible alone; beyond, those of one virtual server together. */
const SINGLE_CHANGES_MAX = 256;
const KEPT = -1;

/**
 * kube-proxy in IPVS mode.
 * Models: one kind of pass, which asks for and compares everything and writes what differs, object by object;
 * graceful termination; sets and the fixed rules. Packets see the states in between: each NEW_DEST, UPDATE and
 * DEL_DEST is a stage of its own after the work that precedes it (the first pass, when nothing is there yet, is
 * one stage).
 * Source: syncProxyRules, pkg/proxy/ipvs/proxier.go (1.36).
 * Not modelled: restarts (the quadratic weight reset of the first pass over existing servers), Services that
 * come and go.
 */
export class IpvsProxier implements Proxier {
  readonly dataplane: IpvsDataplane;
  readonly trigger: SyncTrigger;
  readonly director: Director;
  readonly termination: GracefulTermination;
  readonly #node: NodeContext;
  readonly #sets: Sets;
  readonly #wanted: WantedServers;
  readonly #contents: SetContents;
  readonly #meter: PassMeter;
  /** Elements that the kernel refused: kube-proxy tries them again in every pass. */
  #refused: readonly SetChange[] = [];
  #started = false;

  constructor(node: NodeContext, options: OptionsOf<typeof ipvsOptions>) {
    const seeds = node.streams.stream('ipvs.seeds');
    this.#node = node;
    this.#wanted = new WantedServers(node.cluster, node.cluster.nodes[node.node]!.address);
    this.#sets = createSets(seeds);
    this.director = new Director({
      scheduler: options.scheduler,
      connTabBits: options.connTabBits,
      seed: seeds.uint32(),
      expireNodest: true,
      reuseMode: 1,
    });
    this.#meter = new PassMeter(this.#wanted, this.director, this.#sets);
    this.termination = new GracefulTermination(this.director, (service) => this.#meter.listed(service, -1));
    this.dataplane = new IpvsDataplane(node, this.director, this.#sets, this.termination);
    this.#contents = new SetContents(node.cluster, node.node, this.#sets);
    this.trigger = {
      kind: 'bounded',
      minIntervalNs: options.minSyncPeriod,
      retryNs: options.syncPeriod,
      maxIntervalNs: options.syncPeriod,
    };
  }

  sync(changed: readonly number[], full: boolean): SyncPlan {
    const first = !this.#started;
    this.#started = true;
    const all = this.#node.cluster.ports.count;
    const ports =
      full || first ? Array.from({ length: all }, (_, p) => p) : [...new Set(changed)].sort((a, b) => a - b);
    const changes = new Changes();
    for (const p of ports) this.#compare(p, first, changes);
    const loops = this.#contents.loops(ports, this.#node.endpoints);
    const setChanges = [
      ...(first ? this.#contents.services(this.#wanted.bound) : []),
      ...loops,
      ...this.#refused,
    ];
    const failure = this.#failureOf(setChanges);
    const stages = first ? [this.#firstStage(changes, setChanges)] : this.#stages(changes, setChanges);
    const scope = full || first ? 'full' : 'entries';
    return failure === undefined ? { scope, stages } : { scope, stages, failure };
  }

  *dump(format: string): Generator<string> {
    if (format === 'ipvsadm-save') yield* save(this.director);
    else if (format === 'ipvsadm') yield* list(this.director);
    else if (format === 'iptables-restore') {
      yield* this.dataplane.nat.dump();
      yield* this.dataplane.filter.dump();
    } else throw new RangeError(`ipvs has no format ${format}`);
  }

  remarks(): readonly string[] {
    const { services, connections } = this.director;
    const remarks: string[] = [];
    if (services.count > 2560) {
      remarks.push(
        `${services.count} virtual servers in 256 hash chains: about ${Math.round(services.count / 512)} compared for ` +
          'each new connection (Linux before 7.1).',
      );
    }
    if (connections.peak > 4 * connections.buckets) {
      remarks.push(
        `Up to ${connections.peak} connections in ${connections.buckets} hash chains: conn_tab_bits is low for this load.`,
      );
    }
    if (services.persistenceS.some((seconds) => seconds > 0)) {
      remarks.push('Session affinity is programmed, but not followed: connections are balanced one by one.');
    }
    const full = this.#fullSet();
    if (full !== undefined) remarks.push(full);
    return remarks;
  }

  /** Compare what a service port wants with what is programmed, virtual server by virtual server. */
  #compare(servicePort: number, first: boolean, changes: Changes): void {
    const { cluster, endpoints, node } = this.#node;
    const from = this.#wanted.first[servicePort]!;
    const to = this.#wanted.first[servicePort + 1]!;
    if (from === to) return;
    const categories = categorize(cluster, endpoints, servicePort, node);
    for (let service = from; service < to; service++) {
      const localOnly = this.#wanted.localOnly[service] === 1;
      // Without a local endpoint the Local policy falls back to all, so that local pods get an answer.
      const rows = localOnly && categories.local.length > 0 ? categories.local : categories.cluster;
      this.#meter.want(service, rows.length);
      this.#compareServers(service, rows, first, changes);
    }
  }

  #compareServers(service: number, rows: Int32Array, first: boolean, changes: Changes): void {
    const { servers, services } = this.director;
    const { address, port } = this.#node.cluster.endpoints;
    const current = new Map<number, number>();
    const positions = new Map<number, number>();
    if (!first) {
      for (let at = services.head[service]!; at >= 0; at = servers.next[at]!) {
        current.set(servers.address[at]! * 65536 + servers.port[at]!, at);
        positions.set(at, positions.size + 1);
      }
    }
    for (const row of rows) {
      const key = address[row]! * 65536 + port[row]!;
      const server = current.get(key);
      if (server === undefined) changes.push(ADD, service, -1, row, 0);
      else if (server !== KEPT && this.termination.has(server)) {
        changes.push(RECALL, service, server, row, positions.get(server)!);
      }
      current.set(key, KEPT);
    }
    for (const server of current.values()) {
      if (server === KEPT || this.termination.has(server)) continue;
      changes.push(RETIRE, service, server, -1, positions.get(server)!);
    }
  }

  #firstStage(changes: Changes, setChanges: readonly SetChange[]): SyncStage {
    const meter = this.#meter.begin();
    meter.create();
    for (let i = 0; i < changes.count; i++) meter.change(changes, i);
    meter.sets(setChanges.length);
    meter.end();
    return {
      counts: meter.take(),
      commit: () => {
        this.#createServices();
        for (let i = 0; i < changes.count; i++) this.#apply(changes, i);
        this.#applySets(setChanges);
      },
    };
  }

  #stages(changes: Changes, setChanges: readonly SetChange[]): SyncStage[] {
    const meter = this.#meter.begin();
    const stages: SyncStage[] = [];
    const alone = changes.count <= SINGLE_CHANGES_MAX;
    let begin = 0;
    for (let end = 1; end <= changes.count; end++) {
      meter.change(changes, end - 1);
      if (!alone && end < changes.count && changes.service[end] === changes.service[begin]) continue;
      const from = begin;
      stages.push({
        counts: meter.take(),
        commit: () => {
          for (let i = from; i < end; i++) this.#apply(changes, i);
        },
      });
      begin = end;
    }
    meter.sets(setChanges.length);
    stages.push({ counts: meter.take(), commit: () => this.#applySets(setChanges) });
    meter.end();
    stages.push({ counts: meter.take(), commit: () => {} });
    return stages;
  }

  #createServices(): void {
    const { cluster } = this.#node;
    const { count, protocol, address, port, servicePort, bound } = this.#wanted;
    for (let i = 0; i < count; i++) {
      const service = cluster.services[cluster.ports.service[servicePort[i]!]!]!;
      this.director.services.add(protocol[i]!, address[i]!, port[i]!, service.affinityS);
    }
    this.dataplane.bind(bound);
  }

  #apply(changes: Changes, at: number): void {
    const kind = changes.kind[at]!;
    const server = changes.server[at]!;
    if (kind === RETIRE) {
      this.termination.retire(server);
      return;
    }
    // The minutely check may have deleted a draining server since the pass looked at it.
    if (kind === RECALL && this.termination.has(server)) this.termination.recall(server);
    const { address, port } = this.#node.cluster.endpoints;
    const row = changes.endpoint[at]!;
    const service = changes.service[at]!;
    this.director.addServer(service, address[row]!, port[row]!, 1, row);
    this.#meter.listed(service, 1);
  }

  #applySets(changes: readonly SetChange[]): void {
    const refused: SetChange[] = [];
    for (const change of changes) {
      const set = this.#sets[change.set];
      if (change.add) {
        if (!set.add(change.entry)) refused.push(change);
      } else {
        set.remove(change.entry);
      }
    }
    this.#refused = refused;
    this.dataplane.nat.load();
    this.dataplane.filter.load();
  }

  /** Count what is wanted, and say what the kernel will refuse. */
  #failureOf(changes: readonly SetChange[]): SyncFailure | undefined {
    const retried = new Set(this.#refused);
    for (const change of changes) {
      if (!retried.has(change)) this.#sets[change.set].wanted += change.add ? 1 : -1;
    }
    const message = this.#fullSet();
    return message === undefined ? undefined : { error: 'IPSET_FULL', message };
  }

  #fullSet(): string | undefined {
    const set = Object.values(this.#sets).find(({ wanted, elementsMax }) => wanted > elementsMax);
    if (set === undefined) return undefined;
    return (
      `${set.name} is to hold ${set.wanted} elements and takes ${set.elementsMax}: connections to the others are ` +
      'not masqueraded, and refused if their address is in KUBE-IPVS-IPS. kube-proxy has no setting for it; ' +
      'use fewer Services or another mode.'
    );
  }
}
