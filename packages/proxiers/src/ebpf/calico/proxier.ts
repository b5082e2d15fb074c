import type { NodeContext, Proxier, SyncPlan, SyncTrigger } from '../../proxier.ts';
import { nextPowerOfTwo } from '../maps/buckets.ts';
import { addressesIn } from '../agent/node-addresses.ts';
import { ActiveEndpoints } from './active-endpoints.ts';
import { CalicoDataplane } from './dataplane.ts';
import { frontendsOf } from './frontends.ts';
import { natDump } from './nat-dump.ts';
import { BACKENDS_DEFAULT, FRONTENDS_DEFAULT, NatMaps } from './nat-maps.ts';
import { DESIRED } from './operations.ts';
import { calicoRemarks, overflowOf } from './remarks.ts';
import { backendsOf, mayStay, newState, type Backends, type ServiceState } from './service-state.ts';
import { Phase } from './sync-phases.ts';
import { SyncWriter } from './sync-writer.ts';

const SECOND = 1_000_000_000;
const RATIO = BACKENDS_DEFAULT / FRONTENDS_DEFAULT;

/** Of the mode's options, those that mean something here. */
export interface CalicoOptions {
  readonly algorithm: 'random' | 'maglev';
  /** Translate TCP at connect(): bpfConnectTimeLoadBalancing. */
  readonly socketLB: boolean;
  /** bpfMapSizeNATFrontend; bpfMapSizeNATBackend is four times as much. 0: what the cluster needs. */
  readonly lbMapMax: number;
  /** The node's other addresses that serve node ports, with commas between. */
  readonly otherAddresses: string;
}

/**
 * Felix's replacement of kube-proxy: each sync builds the whole wanted state in memory, compares, and writes what
 * differs, first endpoints, then frontends that count them, then takes out endpoints that nothing counts any more. So
 * no ordinal below a count is ever missing. An error ends the sync where it is, and the next one begins anew.
 * Source: felix/bpf/proxy/{kube-proxy,proxy,syncer}.go, felix/cachingmap: at once after idle, at least a second apart.
 * Assumed: a sync that failed is tried again after 30 s. Each phase becomes visible at its end, as its order inside is
 * that of a Go map, by chance. Not modelled: Services that come and go during a run.
 */
export class CalicoProxier implements Proxier {
  readonly dataplane: CalicoDataplane;
  readonly trigger: SyncTrigger = {
    kind: 'bounded',
    minIntervalNs: SECOND,
    retryNs: 30 * SECOND,
    maxIntervalNs: 3600 * SECOND,
  };
  readonly watch: Proxier['watch'] & object;
  readonly #node: NodeContext;
  readonly #options: CalicoOptions;
  readonly #maps: NatMaps;
  readonly #states: ServiceState[] = [];
  readonly #active: ActiveEndpoints;
  /** Service ports of which something is still to be written. */
  readonly #pending = new Set<number>();
  /** Endpoint rows of each service port, whatever their conditions, as of its last sync. */
  readonly #known: Int32Array[] = [];
  /** Endpoints wanted, by service port. */
  readonly #wanted: Uint32Array;
  /** Entries wanted of the second level, and of the first. */
  #backends = 0;
  #frontends = 0;

  constructor(node: NodeContext, options: CalicoOptions) {
    const { cluster, streams, cores } = node;
    this.#node = node;
    this.#options = options;
    const frontends = options.lbMapMax || FRONTENDS_DEFAULT;
    const sizes = { frontends, backends: frontends * RATIO };
    this.#maps = new NatMaps(streams.stream('ebpf.calico.map.seeds'), cores, sizes);
    this.#active = new ActiveEndpoints(cluster);
    const maglev = options.algorithm === 'maglev';
    const addresses = [cluster.nodes[node.node]!.address, ...addressesIn(options.otherAddresses)];
    for (let port = 0; port < cluster.ports.count; port++) {
      const entries = frontendsOf(cluster, port, addresses, maglev);
      const { affinityS } = cluster.services[cluster.ports.service[port]!]!;
      this.#states.push(newState(port, affinityS, entries));
      for (const entry of entries) this.#active.addFrontend(entry, port);
      this.#frontends += entries.length;
    }
    this.#wanted = new Uint32Array(cluster.ports.count);
    this.#addRoutes(addresses);
    this.dataplane = new CalicoDataplane(node, this.#maps, this.#active, {
      connectTime: options.socketLB,
      direct: maglev,
    });
    this.watch = this.dataplane.scanWork;
  }

  sync(changed: readonly number[], full: boolean): SyncPlan {
    const due = full ? this.#states.map((_, port) => port) : [...new Set([...this.#pending, ...changed])];
    const lists = due.map((port) => this.#listOf(port));
    if (this.#options.lbMapMax === 0) {
      this.#maps.enlarge(nextPowerOfTwo(this.#frontends), nextPowerOfTwo(this.#backends));
    }
    const phases = {
      wanted: new Phase(),
      updates: new Phase(),
      frontends: new Phase(),
      deletions: new Phase(),
    };
    phases.wanted.count(DESIRED, this.#frontends + this.#backends);
    const writer = new SyncWriter(this.#node, this.#maps);
    due.forEach((port, i) => writer.endpoints(this.#states[port]!, lists[i]!, phases.updates));
    if (!writer.full) {
      due.forEach((port, i) => writer.frontends(this.#states[port]!, lists[i]!, phases.frontends));
    }
    const failed = writer.full;
    if (!failed) {
      due.forEach((port, i) => writer.surplus(this.#states[port]!, lists[i]!, phases.deletions));
      writer.affinity(this.#states, this.#active, phases.deletions);
    }
    for (const port of due)
      if (failed) this.#pending.add(port);
      else this.#pending.delete(port);
    const stages = [phases.wanted, phases.updates, phases.frontends, phases.deletions].filter(
      (p) => !p.isEmpty,
    );
    const plan: SyncPlan = { scope: full ? 'full' : 'partial', stages };
    if (!failed) return plan;
    return { ...plan, failure: overflowOf(writer.fullMaps, this.#maps, this.#frontends, this.#backends) };
  }

  dump(): Iterable<string> {
    return natDump(this.#maps, this.#states);
  }

  remarks(): readonly string[] {
    return calicoRemarks(this.#node.cluster, this.#maps, this.#states, this.#frontends, this.#backends);
  }

  /** What a service port wants now; noted in the totals. */
  #listOf(port: number): Backends {
    const { endpoints } = this.#node;
    const proxied = this.#states[port]!.frontends.length > 0;
    const list = proxied ? backendsOf(this.#node, port) : { rows: new Int32Array(0), local: 0 };
    this.#backends += list.rows.length - this.#wanted[port]!;
    this.#wanted[port] = list.rows.length;
    const rows = endpoints.of(port);
    for (const row of this.#known[port] ?? []) this.#active.set(row, false);
    for (const row of rows) this.#active.set(row, mayStay(endpoints.conditions[row]!));
    this.#known[port] = rows;
    return list;
  }

  #addRoutes(own: readonly number[]): void {
    const { cluster, node } = this.#node;
    this.#maps.routeToPods(cluster.podCidr, 0);
    cluster.nodes.forEach(({ address, podCidr }, index) => {
      this.#maps.routeToNode(address);
      if (podCidr !== undefined && index !== node) this.#maps.routeToPods(podCidr, address);
    });
    for (const address of own) this.#maps.routeToNode(address);
    const { pods } = cluster;
    for (let pod = 0; pod < pods.count; pod++) {
      if (pods.node[pod] === node) this.#maps.routeToLocalPod(pods.address[pod]!);
    }
  }
}
