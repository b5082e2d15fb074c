import { CONNTRACK_DEFAULTS, Streams, TCP } from '@vipsim/sim-core';
import { EndpointsMap } from '../../packages/proxiers/src/kubernetes/endpoints-map.ts';
import { SYNTHETIC_DEFAULTS, syntheticCluster } from '../../packages/proxiers/src/kubernetes/synthetic.ts';
import type { Cluster } from '../../packages/proxiers/src/kubernetes/cluster.ts';
import { PREROUTING } from '../../packages/proxiers/src/iptables/chains.ts';
import { IptablesProxier, type IptablesOptions } from '../../packages/proxiers/src/iptables/kube-proxy.ts';
import { iptables } from '../../packages/proxiers/src/iptables/mode.ts';
import { IPTABLES_OPERATIONS, OPERATION } from '../../packages/proxiers/src/iptables/operations.ts';
import { RecentLists } from '../../packages/proxiers/src/iptables/recent-lists.ts';
import { CT_NEW } from '../../packages/proxiers/src/iptables/rule.ts';
import { RuleText } from '../../packages/proxiers/src/iptables/rule-text.ts';
import { Walk } from '../../packages/proxiers/src/iptables/walk.ts';
import { defaultsOf } from '../../packages/proxiers/src/proxier.ts';
import type { TurnResult } from './turn.ts';

/** The iptables mode by itself, in a process of its own. */
export type IptablesRequest =
  /** Walks of the nat table, to one service after another in a scattered order. */
  | {
      readonly bench: 'iptables-walk';
      readonly way: 'literal' | 'indexed';
      readonly backend: 'nft' | 'legacy';
      readonly services: number;
      readonly lookups: number;
    }
  /** The tables of a first sync. */
  | {
      readonly bench: 'iptables-build';
      readonly backend: 'nft' | 'legacy';
      readonly services: number;
      readonly endpoints: number;
    }
  /** Full syncs in a row, an endpoint fewer or more in each. */
  | {
      readonly bench: 'iptables-syncs';
      readonly services: number;
      readonly endpoints: number;
      readonly syncs: number;
    };

/** A step through the services that scatters them: a prime that divides no round number of them. */
const STRIDE = 7919;

export function takeIptablesTurn(request: IptablesRequest): TurnResult {
  if (request.bench === 'iptables-walk') return takeWalkTurn(request);
  return request.bench === 'iptables-build' ? takeBuildTurn(request) : takeSyncsTurn(request);
}

/** ns per walk; the result is how many rules all walks evaluated. */
function takeWalkTurn(request: IptablesRequest & { readonly bench: 'iptables-walk' }): TurnResult {
  const { services, lookups, backend } = request;
  const cluster = clusterOf(services, 1);
  const { dataplane } = synced(cluster, backend);
  const streams = new Streams('bench');
  const walk = new Walk({
    nft: backend === 'nft',
    nodeAddress: cluster.nodes[0]!.address,
    statistic: streams.stream('statistic'),
    recent: new RecentLists(0),
    text: new RuleText(cluster, dataplane.ruleset.style),
    literal: request.way === 'literal',
  });
  const { nat } = dataplane.ruleset;
  const counts = new Float64Array(IPTABLES_OPERATIONS.length);
  walk.source = cluster.podCidr.address + 5;
  walk.fromPod = true;
  walk.protocol = TCP;
  walk.destinationPort = cluster.ports.port[0]!;
  walk.state = CT_NEW;
  const run = (times: number): void => {
    let service = 0;
    for (let i = 0; i < times; i++) {
      service = (service + STRIDE) % services;
      walk.destination = cluster.ports.clusterIp[service]!;
      walk.mark = 0;
      walk.run(nat, PREROUTING, counts);
      if (walk.endpoint !== service) throw new Error(`service ${service} led to endpoint ${walk.endpoint}`);
    }
  };
  run(Math.max(2000, lookups >> 2));
  counts.fill(0);
  const start = process.hrtime.bigint();
  run(lookups);
  const ns = Number(process.hrtime.bigint() - start) / lookups;
  const rules =
    counts[OPERATION['iptables.legacy.skipped']]! +
    counts[OPERATION['iptables.legacy.selected']]! +
    counts[OPERATION['iptables.nft.rule']]!;
  return { ns, result: rules };
}

/** ns and bytes per rule; the result is how many rules there are. */
function takeBuildTurn(request: IptablesRequest & { readonly bench: 'iptables-build' }): TurnResult {
  const cluster = clusterOf(request.services, request.endpoints);
  const endpoints = new EndpointsMap(cluster);
  const before = bytesHeld();
  const start = process.hrtime.bigint();
  const proxier = proxierOf(cluster, endpoints, request.backend);
  for (const stage of proxier.sync([], true).stages) stage.commit();
  const ns = Number(process.hrtime.bigint() - start);
  const bytes = bytesHeld() - before;
  const { nat, filter } = proxier.dataplane.ruleset;
  const rules = nat.holds.rules + filter.holds.rules;
  return { ns: ns / rules, bytes: bytes / rules, result: rules };
}

/** ns per sync; the bytes are what the second half of them left behind, per sync. */
function takeSyncsTurn(request: IptablesRequest & { readonly bench: 'iptables-syncs' }): TurnResult {
  const cluster = clusterOf(request.services, request.endpoints);
  const endpoints = new EndpointsMap(cluster);
  const proxier = proxierOf(cluster, endpoints, 'nft');
  const half = request.syncs >> 1;
  const run = (): void => {
    for (let i = 0; i < half; i++) {
      const row = (i >> 1) % cluster.endpoints.count;
      const conditions = endpoints.conditions[row]!;
      if (i % 2 === 0) endpoints.remove(row);
      else endpoints.add(row, conditions);
      for (const stage of proxier.sync([cluster.endpoints.servicePort[row]!], true).stages) stage.commit();
    }
  };
  run();
  const before = bytesHeld();
  const start = process.hrtime.bigint();
  run();
  const ns = Number(process.hrtime.bigint() - start) / half;
  return { ns, bytes: (bytesHeld() - before) / half, result: proxier.dataplane.ruleset.nat.holds.rules };
}

function clusterOf(services: number, endpoints: number): Cluster {
  return syntheticCluster({ ...SYNTHETIC_DEFAULTS, services, endpoints });
}

function synced(cluster: Cluster, backend: 'nft' | 'legacy'): IptablesProxier {
  const proxier = proxierOf(cluster, new EndpointsMap(cluster), backend);
  for (const stage of proxier.sync([], true).stages) stage.commit();
  return proxier;
}

function proxierOf(cluster: Cluster, endpoints: EndpointsMap, backend: 'nft' | 'legacy'): IptablesProxier {
  const streams = new Streams('bench');
  const options = { ...(defaultsOf(iptables.options) as IptablesOptions), backend };
  return new IptablesProxier(
    { cluster, endpoints, node: 0, cores: 2, conntrack: CONNTRACK_DEFAULTS, streams },
    options,
  );
}

/** On the heap and outside of it, typed arrays included. */
function bytesHeld(): number {
  globalThis.gc?.();
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
