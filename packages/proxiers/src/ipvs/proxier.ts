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
import { kernelOptions } from './director-options.ts';
import { listedConnections, listedServices } from './director-listing.ts';
import { GracefulTermination } from './graceful-termination.ts';
import {
  connectionList,
  list,
  persistentList,
  rateList,
  save,
  statisticsList,
  thresholdList,
  timeoutLine,
} from './ipvsadm.ts';
import { MeteredDirector } from './metered-director.ts';
import { jumpCommands } from './jump-commands.ts';
import type { ListedService } from './listing.ts';
import type { ipvsOptions } from './mode.ts';
import { resolveSettings, type NodeSettings } from './node-settings.ts';
import { PassMeter } from './pass-meter.ts';
import { remarksOf } from './remarks.ts';
import { filterTableOf, natTableOf } from './rules.ts';
import { SetContents, type SetChange } from './set-contents.ts';
import { createSets, fullSetOf, ipsetCommands, type Sets } from './sets.ts';
import { refusalOf, reuseModeOf, startSysctls, timeoutsOf } from './start-up.ts';
import { WantedServers } from './wanted-servers.ts';

/** Up to so many changes each become visible alone; beyond, those of one virtual server together. */
const SINGLE_CHANGES_MAX = 256;
const KEPT = -1;

/** What can be printed, with the command that prints it on a node. */
export const IPVS_FORMATS = [
  // ipvsadm -Sn, -Ln, -Lnc, -Ln --stats, -Ln --rate, -Ln --thresholds, -Ln --persistent-conn, -L --timeout
  'ipvsadm-save',
  'ipvsadm',
  'ipvsadm-connections',
  'ipvsadm-stats',
  'ipvsadm-rate',
  'ipvsadm-thresholds',
  'ipvsadm-persistent',
  'ipvsadm-timeout',
  // What kube-proxy gives to iptables-restore, iptables, ipset and sysctl.
  'iptables-restore',
  'iptables-jumps',
  'ipset-restore',
  'sysctl',
] as const;
type IpvsOptions = OptionsOf<typeof ipvsOptions>;

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
  readonly director: MeteredDirector;
  readonly termination: GracefulTermination;
  readonly #node: NodeContext;
  readonly #options: IpvsOptions;
  readonly #settings: NodeSettings;
  readonly #refusal: string | undefined;
  readonly #sets: Sets;
  readonly #wanted: WantedServers;
  readonly #contents: SetContents;
  readonly #meter: PassMeter;
  /** Elements that the kernel refused: kube-proxy tries them again in every pass. */
  #refused: readonly SetChange[] = [];
  #started = false;

  constructor(node: NodeContext, options: IpvsOptions) {
    const { cluster } = node;
    const seeds = node.streams.stream('ipvs.seeds');
    this.#node = node;
    this.#options = options;
    this.#settings = resolveSettings(options, cluster, node.node);
    this.#refusal = refusalOf(options);
    this.#wanted = new WantedServers(cluster, this.#settings);
    this.#sets = createSets(seeds, this.#settings.family);
    this.director = new MeteredDirector({
      ...kernelOptions(options.kernel),
      scheduler: options.scheduler,
      connTabBits: options.connTabBits,
      seed: seeds.uint32(),
      expireNodest: true,
      expireQuiescentTemplate: true,
      reuseMode: reuseModeOf(options),
      family: this.#settings.family,
      draws: node.streams.stream('ipvs.twos'),
    });
    this.director.setTimeouts(timeoutsOf(options));
    this.#meter = new PassMeter(this.#wanted, this.director, this.#sets, this.#settings.nodeAddresses.length);
    this.termination = new GracefulTermination(this.director, (service) => this.#meter.listed(service, -1));
    this.dataplane = new IpvsDataplane(node, this.director, this.#sets, this.termination);
    this.#contents = new SetContents(cluster, node.node, this.#settings, this.#sets);
    this.dataplane.bind(this.#settings.nodeAddresses);
    this.dataplane.nat.load(natTableOf(this.#settings));
    this.dataplane.filter.load(filterTableOf(this.#settings, this.#contents.barred));
    this.trigger = {
      kind: 'bounded',
      minIntervalNs: options.minSyncPeriod,
      retryNs: options.syncPeriod,
      maxIntervalNs: options.syncPeriod,
    };
  }

  sync(changed: readonly number[], full: boolean): SyncPlan {
    if (this.#refusal !== undefined) {
      return { scope: 'full', stages: [], failure: { error: 'EXIT', message: this.#refusal } };
    }
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
    const { director } = this;
    const { buckets } = director.connections;
    if (format === 'ipvsadm-save') yield* save(director);
    else if (format === 'ipvsadm') yield* list(director);
    else if (format === 'ipvsadm-connections') yield* connectionList(listedConnections(director));
    else if (format === 'ipvsadm-stats') yield* statisticsList(this.#listed('counters'), buckets);
    else if (format === 'ipvsadm-rate') yield* rateList(this.#listed('rates'), buckets);
    else if (format === 'ipvsadm-thresholds') yield* thresholdList(listedServices(director), buckets);
    else if (format === 'ipvsadm-persistent') yield* persistentList(listedServices(director), buckets);
    else if (format === 'ipvsadm-timeout') yield timeoutLine(timeoutsOf(this.#options));
    else if (format === 'iptables-restore') {
      yield* this.dataplane.nat.dump();
      yield* this.dataplane.filter.dump();
    } else if (format === 'iptables-jumps') {
      yield* jumpCommands([natTableOf(this.#settings), filterTableOf(this.#settings, [])], this.#sets);
    } else if (format === 'ipset-restore') yield* ipsetCommands(this.#sets);
    else if (format === 'sysctl') yield* startSysctls(this.#options);
    else throw new RangeError(`ipvs has no format ${format}`);
  }

  #listed(figures: 'counters' | 'rates'): Iterable<ListedService> {
    const { serviceTraffic, serverTraffic } = this.director;
    return listedServices(this.director, {
      service: (row) => serviceTraffic[figures](row),
      server: (row) => serverTraffic[figures](row),
    });
  }

  remarks(): readonly string[] {
    return remarksOf(this.#options, this.#settings, this.#node, this.director, this.#sets);
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
    const meter = this.#meter.begin(true);
    meter.create();
    for (let i = 0; i < changes.count; i++) meter.change(changes, i);
    meter.sets(setChanges.length);
    meter.end(0);
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
    const meter = this.#meter.begin(false);
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
    const foreign = this.#foreign();
    meter.end(foreign.length);
    stages.push({
      counts: meter.take(),
      commit: () => {
        for (const service of foreign) this.director.removeService(service);
      },
    });
    return stages;
  }

  /** Virtual servers that somebody else has made: each pass deletes them, unless excludeCIDRs names them. */
  #foreign(): number[] {
    const { services } = this.director;
    const { family, excluded } = this.#settings;
    const foreign: number[] = [];
    for (let service = this.#wanted.count; service < services.rows; service++) {
      const isSpared = excluded.some((cidr) => family.contains(cidr, services.address[service]!));
      if (services.live[service] === 1 && !isSpared) foreign.push(service);
    }
    return foreign;
  }

  #createServices(): void {
    const { cluster } = this.#node;
    const { count, protocol, address, port, servicePort, bound } = this.#wanted;
    for (let i = 0; i < count; i++) {
      const service = cluster.services[cluster.ports.service[servicePort[i]!]!]!;
      this.director.addService(protocol[i]!, address[i]!, port[i]!, {
        persistenceS: service.affinityS,
        // With mh kube-proxy asks for the client's port to be hashed, too.
        port: this.#options.scheduler === 'mh',
      });
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
    const message = fullSetOf(this.#sets);
    return message === undefined ? undefined : { error: 'IPSET_FULL', message };
  }
}
