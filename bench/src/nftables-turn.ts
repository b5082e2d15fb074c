import { CONNTRACK_DEFAULTS, Streams } from '@vipsim/sim-core';
import { iptables } from '../../packages/proxiers/src/iptables/mode.ts';
import { IptablesDataplane } from '../../packages/proxiers/src/iptables/dataplane.ts';
import type { Cluster } from '../../packages/proxiers/src/kubernetes/cluster.ts';
import { EndpointsMap } from '../../packages/proxiers/src/kubernetes/endpoints-map.ts';
import { SYNTHETIC_DEFAULTS, syntheticCluster } from '../../packages/proxiers/src/kubernetes/synthetic.ts';
import { ConnectionPath, DONE } from '../../packages/proxiers/src/netfilter/connection-path.ts';
import { nftables } from '../../packages/proxiers/src/nftables/mode.ts';
import {
  defaultsOf,
  type Dataplane,
  type NodeContext,
  type Proxier,
} from '../../packages/proxiers/src/proxier.ts';
import { Clients } from './nftables-clients.ts';
import { processorNs } from './processor-time.ts';
import type { TurnResult } from './turn.ts';

/** kube-proxy's nftables mode of a release, or its iptables mode, with one cluster in a process of its own. */
export interface FirstPacketsRequest {
  readonly bench: 'first-packets';
  readonly contender: FirstPacketsContender;
  readonly services: number;
  /** Of each Service. */
  readonly endpoints: number;
  /** Opened while the clock runs. */
  readonly connections: number;
  /** Of iptables: connections opened by the literal walk. */
  readonly literal: number;
}

/** One release of each layout of the rules. */
export const RELEASES = ['1.35', '1.36', '1.37'] as const;
export type FirstPacketsContender = (typeof RELEASES)[number] | 'iptables';

/** What a turn's `parts` are, in their order; `literal` of iptables alone. */
export const PARTS = ['later', 'build', 'change', 'conntrack', 'literal'] as const;

/** A step through the services that scatters them: a prime that divides no round number of them. */
const STRIDE = 7919;
const WARMUP = 20_000;
/** Connections whose counts are taken and whose endpoints are looked at. */
const SURVEYED = 1000;
/** Passes over the connections with later packets. */
const PASSES = 4;
/** Of changes: at least two, that one endpoint goes and comes back, until so many or so long. */
const CHANGES_MAX = 200;
const CHANGES_MS = 2000;
const SECOND = 1_000_000_000;

/**
 * ns per first packet of a connection, conntrack and all hooks included; as `parts` ns per later packet, of the first
 * sync, of a sync after an endpoint has changed, and per first packet that meets conntrack alone; bytes that proxier and tables hold, `ownBytes` the kernel's
 * tables; operations per first packet by name.
 */
export function takeFirstPacketsTurn(request: FirstPacketsRequest): TurnResult {
  const { contender, services, connections, literal } = request;
  const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services, endpoints: request.endpoints });
  const endpoints = new EndpointsMap(cluster);
  const before = bytesHeld();
  const buildStart = processorNs();
  const proxier = proxierOf(contender, cluster, endpoints);
  sync(proxier, [], true);
  const buildNs = processorNs() - buildStart;
  const bytes = bytesHeld() - before;
  const tables = proxier.dataplane.tables().filter(({ name }) => name !== 'conntrack');

  const { operations } = contender === 'iptables' ? iptables : nftables;
  const most = SURVEYED + WARMUP + connections + 2 * literal;
  const clients = new Clients(proxier.dataplane, cluster, operations, most);
  const counts = clients.survey(SURVEYED);
  clients.open(WARMUP);
  clients.establish(SURVEYED, WARMUP);
  clients.later(SURVEYED, WARMUP, 2);
  const from = clients.opened;
  const ns = clients.open(connections);
  clients.establish(from, connections);
  const laterNs = clients.later(from, connections, PASSES);
  const literalNs = [];
  if (proxier.dataplane instanceof IptablesDataplane) {
    proxier.dataplane.literal = true;
    clients.open(literal >> 2);
    literalNs.push(clients.open(literal));
    proxier.dataplane.literal = false;
  }
  const bare = new Clients(conntrackAlone(cluster, endpoints), cluster, operations, most);
  bare.open(WARMUP);
  bare.establish(0, WARMUP);
  const conntrackNs = bare.open(connections);
  const changeNs = nsPerChange(proxier, cluster, endpoints);
  return {
    ns,
    parts: [laterNs, buildNs, changeNs, conntrackNs, ...literalNs],
    bytes,
    ownBytes: tables.reduce((sum, table) => sum + table.bytes, 0),
    counts,
    result: tables.reduce((sum, table) => sum + table.entries, 0),
  };
}

function proxierOf(contender: FirstPacketsContender, cluster: Cluster, endpoints: EndpointsMap): Proxier {
  const node = nodeOf(cluster, endpoints);
  if (contender === 'iptables')
    return iptables.create(node, { ...defaultsOf(iptables.options), backend: 'nft' });
  return nftables.create(node, { ...defaultsOf(nftables.options), kubeProxyVersion: contender });
}

/** A dataplane without rules: every connection is translated to the first endpoint of its Service. */
function conntrackAlone(cluster: Cluster, endpoints: EndpointsMap): Pick<Dataplane, 'classify'> {
  const path = new ConnectionPath(nodeOf(cluster, endpoints));
  const { ports } = cluster;
  return {
    classify: (packet, nowNs, verdict) => {
      const entry = path.enter(packet, nowNs, verdict);
      if (entry === DONE) return;
      const row = ports.firstEndpoint[packet.destination - ports.clusterIp[0]!]!;
      verdict.endpoint = row;
      path.accept(entry, cluster.endpoints.address[row]!, cluster.endpoints.port[row]!, 0, verdict);
    },
  };
}

function nodeOf(cluster: Cluster, endpoints: EndpointsMap): NodeContext {
  const streams = new Streams('bench');
  return { cluster, endpoints, node: 0, cores: 2, conntrack: CONNTRACK_DEFAULTS, streams };
}

function sync(proxier: Proxier, changed: readonly number[], full: boolean): void {
  const { stages, failure } = proxier.sync(changed, full);
  if (failure !== undefined) throw new Error(failure.message);
  for (const stage of stages) stage.commit();
}

/** Syncs two seconds apart, as chains out of use go after one. */
function nsPerChange(proxier: Proxier, cluster: Cluster, endpoints: EndpointsMap): number {
  let nowNs = 2 * SECOND;
  const change = (at: number): void => {
    const row = ((at >> 1) * STRIDE) % cluster.endpoints.count;
    const conditions = cluster.endpoints.conditions[row]!;
    if (at % 2 === 0) endpoints.remove(row);
    else endpoints.add(row, conditions);
    nowNs += 2 * SECOND;
    proxier.tell?.(nowNs);
    sync(proxier, [cluster.endpoints.servicePort[row]!], false);
  };
  const run = (): number => {
    const start = processorNs();
    let at = 0;
    let ns: number;
    do {
      change(at++);
      ns = processorNs() - start;
    } while (at % 2 !== 0 || (at < CHANGES_MAX && ns < CHANGES_MS * 1e6));
    return ns / at;
  };
  run();
  return run();
}

/** On the heap and outside of it, typed arrays included. */
function bytesHeld(): number {
  globalThis.gc?.();
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
