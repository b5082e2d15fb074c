import { formatIpv4 } from '@vipsim/sim-core';
import type { Counts } from '../cost/operations.ts';
import { isProxied, READY, servicePortName } from '../kubernetes/cluster.ts';
import type { NodeContext, Proxier, SyncPlan, SyncTrigger } from '../proxier.ts';
import { RoundRobin } from './balancer.ts';
import { entries, UserspaceDataplane } from './dataplane.ts';
import { OPEN_FILES_MAX } from './open-files.ts';
import { OPERATION, USERSPACE_OPERATIONS } from './operations.ts';
import { NODEPORT_NON_LOCAL } from './portal-chain.ts';
import { commandLines, JUMPS, savedLines, socketLines } from './portal-text.ts';
import { FILTER_FRAME, NAT_FRAME, NOT_PROXIED, Portals } from './portals.ts';

export interface UserspaceOptions {
  readonly syncPeriod: number;
  readonly udpIdleTimeout: number;
  readonly payloadBytes: number;
}

/** A connection's two buffers of 32 KiB and three goroutine stacks of 2 KiB; how many are worth a remark. */
const COPY_BYTES = 2 * 32_768 + 3 * 2048;
const BUSY_CONNECTIONS = 1000;
/** The endpoints controller cuts an Endpoints object at so many addresses, from Kubernetes 1.22 on. */
const ENDPOINTS_OBJECT_MAX = 1000;

const LISTEN = OPERATION['userspace.listen'];
const SHUFFLE = OPERATION['userspace.shuffle'];
const LOCK = OPERATION['userspace.lock'];
const PROCESS = OPERATION['process.launch'];
const READ = OPERATION['iptables.kernel.read'];
const REPLACED = OPERATION['iptables.kernel.replaced'];

/**
 * kube-proxy in userspace mode.
 *
 * Models: endpoint changes, which touch no rule: a list compared and, if the set is another, shuffled; the start,
 * with each rule asked for and appended by a command of its own, and asked for once more; the re-check of every
 * rule and jump each syncPeriod, with affinity records too old thrown out. Every iptables command reads its whole
 * table, and one that changes something writes it back (x_tables).
 * Source: pkg/proxy/userspace/proxier.go (Kubernetes 1.22: iptablesInit, iptablesFlush, mergeService, ensurePortals).
 * It watches Endpoints, which hold ready addresses only: traffic policies, hints and terminating endpoints do not
 * exist for it.
 * Not modelled: Services that come and go; the cut of Endpoints objects at 1,000 addresses; releases in which the
 * re-check held the mutex that accepting a connection took (kubernetes/kubernetes issue 11977).
 */
export class UserspaceProxier implements Proxier {
  readonly dataplane: UserspaceDataplane;
  readonly trigger: SyncTrigger;
  readonly balancer: RoundRobin;
  readonly portals: Portals;
  readonly #node: NodeContext;
  readonly #options: UserspaceOptions;
  readonly #hostAddress: string;
  #started = false;
  #checkedNs = 0;

  constructor(node: NodeContext, options: UserspaceOptions) {
    this.#node = node;
    this.#options = options;
    this.#hostAddress = formatIpv4(node.cluster.nodes[node.node]!.address);
    this.portals = new Portals(node.cluster);
    this.balancer = new RoundRobin(node.streams.stream('userspace.shuffle'));
    this.dataplane = new UserspaceDataplane(node, {
      portals: this.portals,
      balancer: this.balancer,
      udpIdleNs: options.udpIdleTimeout,
      payloadBytes: options.payloadBytes,
    });
    this.trigger = {
      kind: 'bounded',
      minIntervalNs: 0,
      retryNs: options.syncPeriod,
      maxIntervalNs: options.syncPeriod,
    };
  }

  sync(changed: readonly number[], full: boolean): SyncPlan {
    if (!this.#started) return this.#start();
    const plan: SyncPlan = { scope: 'entries', stages: changed.length === 0 ? [] : [this.#update(changed)] };
    const due = this.dataplane.nowNs - this.#checkedNs >= this.#options.syncPeriod;
    if (!due && !full) return plan;
    this.#checkedNs = this.dataplane.nowNs;
    this.balancer.dropStale(this.dataplane.nowNs);
    return { ...plan, aside: this.#recheck() };
  }

  dump(format: string): Iterable<string> {
    if (format === 'iptables-save') return savedLines(this.portals, this.#hostAddress);
    if (format === 'iptables') return commandLines(this.portals, this.#hostAddress);
    if (format === 'ss') return socketLines(this.portals);
    throw new RangeError(`userspace prints iptables-save, iptables or ss, not ${format}`);
  }

  remarks(): readonly string[] {
    const { cluster, endpoints } = this.#node;
    const remarks: string[] = [];
    const { refused, peak } = this.dataplane.proxy.files;
    if (peak >= BUSY_CONNECTIONS) {
      remarks.push(
        `Up to ${peak} connections at once pass through the process: ${Math.round((peak * COPY_BYTES) / 1_000_000)} MB ` +
          'of copy buffers and stacks, beside the kernel memory above',
      );
    }
    if (refused > 0) {
      remarks.push(
        `${refused} connections met the limit of ${OPEN_FILES_MAX} open files: they are refused here; ` +
          'kube-proxy panics, and its restart closes every connection',
      );
    }
    const unproxied: number[] = [];
    let long = 0;
    for (let port = 0; port < cluster.ports.count; port++) {
      if (this.#started && this.portals.proxyPort[port] === NOT_PROXIED) unproxied.push(port);
      if (endpoints.of(port).length > ENDPOINTS_OBJECT_MAX) long++;
    }
    if (unproxied.length > 0) {
      remarks.push(
        `${unproxied.length} service ports have no socket (${servicePortName(cluster, unproxied[0]!)} first): the ` +
          'protocol is neither TCP nor UDP, or all 28232 local ports listen already',
      );
    }
    if (long > 0) {
      remarks.push(
        `${long} service ports have more than ${ENDPOINTS_OBJECT_MAX} endpoints; from Kubernetes 1.22 on this mode ` +
          `would see ${ENDPOINTS_OBJECT_MAX} of them, here it sees all`,
      );
    }
    return remarks;
  }

  /** Sockets, rules, lists: from nothing to everything. */
  #start(): SyncPlan {
    this.#started = true;
    const { cluster } = this.#node;
    const counts = new Float64Array(USERSPACE_OPERATIONS.length);
    for (let port = 0; port < cluster.ports.count; port++) {
      const service = cluster.services[cluster.ports.service[port]!]!;
      const ready = this.#ready(port);
      counts[SHUFFLE]! += ready.length;
      this.balancer.addService(ready, service.affinityS);
      if (isProxied(service)) this.portals.open(port);
    }
    counts[LISTEN] = this.portals.sockets();
    counts[LOCK] = cluster.ports.count;
    this.#countStart(counts);
    return { scope: 'full', stages: [{ counts, commit: () => this.dataplane.proxy.listen() }] };
  }

  /** Compare and shuffle lists. The balancer's mutex makes each list change at once. */
  #update(changed: readonly number[]): SyncPlan['stages'][number] {
    const counts = new Float64Array(USERSPACE_OPERATIONS.length);
    const lists = changed.map((port) => this.#ready(port));
    for (const [i, list] of lists.entries()) {
      counts[LOCK]! += 1;
      counts[SHUFFLE]! += Math.max(list.length, this.balancer.endpointsOf(changed[i]!).length);
    }
    return {
      counts,
      commit: () => {
        for (const [i, list] of lists.entries()) this.balancer.setEndpoints(changed[i]!, list);
      },
    };
  }

  #ready(port: number): Int32Array {
    const { endpoints } = this.#node;
    return endpoints.of(port).filter((row) => (endpoints.conditions[row]! & READY) !== 0);
  }

  /**
   * iptablesInit and iptablesFlush as the proxier is made, then the first syncProxyRules: iptablesInit again, a
   * failed -C and an -A for each rule, and ensurePortals with a -C for each rule that is now there.
   */
  #countStart(counts: Counts): void {
    const table = { nat: NAT_FRAME.builtIns + 1, filter: FILTER_FRAME.builtIns + 1 };
    const command = (name: 'nat' | 'filter', added: number): void => {
      counts[PROCESS]! += 1;
      counts[READ]! += table[name];
      table[name] += added;
      if (added > 0) counts[REPLACED]! += table[name];
    };
    for (const [name] of JUMPS) {
      command(name, 2);
      command(name, 0);
      command(name, 1);
    }
    for (const [name] of JUMPS) {
      command(name, 0);
      counts[REPLACED]! += table[name];
    }
    for (const [name] of JUMPS) {
      command(name, 0);
      command(name, 0);
    }
    for (const { chain } of this.portals.order) {
      const name = chain === NODEPORT_NON_LOCAL ? 'filter' : 'nat';
      command(name, 0);
      command(name, 1);
    }
    this.#countChecks(counts);
  }

  /** One syncProxyRules without changes of Services. */
  #recheck(): Counts {
    const counts = new Float64Array(USERSPACE_OPERATIONS.length);
    const nat = entries(NAT_FRAME, this.portals.natRules());
    const filter = entries(FILTER_FRAME, this.portals.filterRules());
    for (const [name] of JUMPS) {
      counts[PROCESS]! += 2;
      counts[READ]! += 2 * (name === 'nat' ? nat : filter);
    }
    this.#countChecks(counts);
    counts[LOCK]! += this.portals.proxyPort.length;
    return counts;
  }

  #countChecks(counts: Counts): void {
    const { portals } = this;
    const nat = portals.natRules();
    const filter = portals.filterRules();
    counts[PROCESS]! += nat + filter;
    counts[READ]! += nat * entries(NAT_FRAME, nat) + filter * entries(FILTER_FRAME, filter);
  }
}
