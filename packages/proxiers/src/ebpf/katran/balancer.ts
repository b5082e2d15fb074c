import { formatIpv4 } from '@vipsim/sim-core';
import { categorize } from '../../kubernetes/categorize.ts';
import { protocolName, servicePortName } from '../../kubernetes/cluster.ts';
import { inertName } from '../../kubernetes/inert-name.ts';
import type { NodeContext, Proxier, SyncFailure, SyncPlan, SyncStage, SyncTrigger } from '../../proxier.ts';
import { KatranDataplane } from './dataplane.ts';
import { KatranMaps, REALS_MAX, VIPS_MAX } from './maps.ts';
import { Reals } from './reals.ts';
import { updateVip, type WantedReals } from './vip-update.ts';
import { vipsOf, type Vip, type VipList } from './vips.ts';

const SECOND = 1_000_000_000;

/** Names of listings of what Katran was told. */
export const KATRAN_FORMATS: readonly string[] = ['katran-list'];

/**
 * Katran in front of a cluster: a balancer of layer 4 for packets from outside, with pods as its reals.
 * Models: the library's numbers of VIPs and reals, rings and what is written of them. Ports are not translated: a pod
 * must answer at the VIP's address and port.
 * Source: katran/lib/{KatranLb,Vip}.cpp. Assumed: whoever feeds it follows the EndpointSlices, choosing endpoints as
 * kube-proxy does, at once, and tries what was refused again after 30 s.
 * Not modelled: health checks, weights, traffic inside the cluster (somebody else has to serve ClusterIPs).
 */
export class KatranBalancer implements Proxier {
  readonly dataplane: KatranDataplane;
  readonly trigger: SyncTrigger = {
    kind: 'bounded',
    minIntervalNs: 0,
    retryNs: 30 * SECOND,
    maxIntervalNs: 3600 * SECOND,
  };
  readonly #node: NodeContext;
  readonly #list: VipList;
  readonly #maps: KatranMaps;
  readonly #reals = new Reals();
  readonly #rows: Map<number, number>[] = [];
  readonly #knownReals = new Set<number>();
  /** Reals that found no number, by VIP. */
  readonly #refusedReals = new Map<number, number>();

  constructor(node: NodeContext) {
    const { cluster, streams, cores } = node;
    this.#node = node;
    this.#list = vipsOf(cluster, cluster.nodes[node.node]!.address);
    this.#maps = new KatranMaps(streams.stream('ebpf.katran.map.seeds'), cores);
    this.dataplane = new KatranDataplane(this.#maps, cores, this.#rows, this.#knownReals);
  }

  sync(changed: readonly number[], full: boolean): SyncPlan {
    const { byPort, vips, refused } = this.#list;
    const due = new Set<Vip>(full ? vips : changed.flatMap((port) => byPort.get(port) ?? []));
    for (const number of this.#refusedReals.keys()) due.add(vips[number]!);
    const stages: SyncStage[] = [];
    const parts = {
      maps: this.#maps,
      reals: this.#reals,
      rows: this.#rows,
      knownReals: this.#knownReals,
    };
    for (const vip of due) {
      const without = updateVip(vip, this.#wanted(vip), parts, stages);
      if (without > 0) this.#refusedReals.set(vip.number, without);
      else this.#refusedReals.delete(vip.number);
    }
    const plan: SyncPlan = { scope: full ? 'full' : 'partial', stages };
    const withoutVip = full ? refused.size > 0 : changed.some((port) => refused.has(port));
    return withoutVip || this.#refusedReals.size > 0 ? { ...plan, failure: this.#failure() } : plan;
  }

  dump(): Iterable<string> {
    return this.#text();
  }

  remarks(): readonly string[] {
    const { cluster } = this.#node;
    const remarks = [
      'Katran serves packets from outside only, at load balancer addresses, external IPs and node ports of this node; ClusterIPs are left to others. It is assumed that pods are its reals, that endpoints are chosen as kube-proxy does, and that changes reach it at once.',
      'Katran sends packets on unchanged inside an outer header: pods must answer at the address and port of the VIP, also where targetPort differs. Answers never come back.',
    ];
    const { vips, needed } = this.#list;
    if (needed > VIPS_MAX || this.#refusedReals.size > 0) remarks.push(this.#failure().message);
    if (vips.length === 0) remarks.push('No Service is reachable from outside, so Katran has no VIP.');
    const ranged = cluster.services.filter(({ sourceRanges }) => sourceRanges.length > 0).length;
    if (ranged > 0) remarks.push(`Katran knows no source ranges; ${ranged} Services have them.`);
    const empty = vips.filter((vip) => this.#hasStaleRing(vip)).length;
    if (empty > 0) {
      remarks.push(
        `${empty} VIPs have lost their last real; their rings stay as they were, so new connections still go to reals that are gone.`,
      );
    }
    return remarks;
  }

  /** Endpoint rows by address. */
  #wanted({ servicePort, local }: Vip): WantedReals {
    const { cluster, endpoints, node } = this.#node;
    const categories = categorize(cluster, endpoints, servicePort, node);
    const rows = local ? categories.local : categories.cluster;
    return new Map(Array.from(rows, (row) => [cluster.endpoints.address[row]!, row]));
  }

  #hasStaleRing({ number, reals }: Vip): boolean {
    return reals.length === 0 && this.#maps.ringAt(number, 0) !== 0;
  }

  #failure(): SyncFailure {
    const { needed, refused } = this.#list;
    const reasons: string[] = [];
    if (needed > VIPS_MAX) {
      reasons.push(
        `exhausted vip's space: the cluster needs ${needed} VIPs, Katran holds ${VIPS_MAX} (maxVips, MAX_VIPS of the program); ${refused.size} service ports lack one; serve fewer Services from outside, or build it with a larger MAX_VIPS.`,
      );
    }
    if (this.#refusedReals.size > 0) {
      const without = [...this.#refusedReals.values()].reduce((sum, count) => sum + count, 0);
      reasons.push(
        `exhausted real's space: Katran holds ${REALS_MAX} reals (maxReals, MAX_REALS of the program), numbered from 1 to ${REALS_MAX - 1}; ${this.#refusedReals.size} VIPs lack ${without}; let nodes be the reals instead of pods, or build it with a larger MAX_REALS.`,
      );
    }
    return { error: 'ENOSPC', message: reasons.join(' ') };
  }

  /** VIPs with their reals, as katran_goclient -l names them; the layout is ours. */
  *#text(): Generator<string> {
    const { cluster } = this.#node;
    for (const { address, port, protocol, servicePort, number, reals, sticks } of this.#list.vips) {
      const name = inertName(servicePortName(cluster, servicePort));
      yield `VIP: ${formatIpv4(address)} Port: ${port} Protocol: ${protocolName(protocol)} number ${number} ${name}${sticks ? ' NO_SPORT' : ''}`;
      for (const real of reals) {
        yield ` ->${formatIpv4(real)} weight: 1 number ${this.#reals.numberOf(real)}`;
      }
    }
  }
}
