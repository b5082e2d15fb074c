import {
  CONNTRACK_DEFAULTS,
  FROM_POD,
  Packet,
  SYN,
  Streams,
  TCP,
  formatIpv4,
  type Origin,
} from '@vipsim/sim-core';
import { operationIndex } from '../src/cost/operations.ts';
import type { Cluster } from '../src/kubernetes/cluster.ts';
import { EndpointsMap } from '../src/kubernetes/endpoints-map.ts';
import { NftablesProxier, type NftablesOptions } from '../src/nftables/kube-proxy.ts';
import { nftables } from '../src/nftables/mode.ts';
import { NFTABLES_OPERATIONS } from '../src/nftables/operations.ts';
import { DROP, FORWARD, Verdict, defaultsOf, type SyncPlan } from '../src/proxier.ts';
import { LOCAL_NODE, ip, type ServiceSpec } from './iptables-bench.ts';

export const OP = operationIndex(NFTABLES_OPERATIONS);
/** One release of each layout. */
export const L1 = '1.35';
export const L2 = '1.36';
export const L3 = '1.37';
export const LAYOUTS = [L1, L2, L3] as const;
export const NODE = '192.168.0.2';

export interface NftBench {
  readonly cluster: Cluster;
  readonly endpoints: EndpointsMap;
  readonly proxier: NftablesProxier;
  readonly verdict: Verdict;
}

export function bench(cluster: Cluster, options: Partial<NftablesOptions> = {}, seed = '0'): NftBench {
  const endpoints = new EndpointsMap(cluster);
  const proxier = new NftablesProxier(
    {
      cluster,
      endpoints,
      node: LOCAL_NODE,
      cores: 2,
      conntrack: CONNTRACK_DEFAULTS,
      streams: new Streams(seed),
    },
    { ...(defaultsOf(nftables.options) as NftablesOptions), ...options },
  );
  return { cluster, endpoints, proxier, verdict: new Verdict(NFTABLES_OPERATIONS.length) };
}

export function commit(plan: SyncPlan): SyncPlan {
  for (const stage of plan.stages) stage.commit();
  return plan;
}

export function synced(cluster: Cluster, options: Partial<NftablesOptions> = {}, seed = '0'): NftBench {
  const made = bench(cluster, options, seed);
  commit(made.proxier.sync([], true));
  return made;
}

export function total(plan: SyncPlan, operation: keyof typeof OP): number {
  return plan.stages.reduce((sum, stage) => sum + stage.counts[OP[operation]]!, 0);
}

/** The `nft -f` text of all, with K for `ip kube-proxy` and kube-proxy's test mark. */
export function textOf(made: NftBench): string[] {
  return Array.from(made.proxier.dump('nft'), short);
}

export function short(line: string): string {
  return line.replace('ip kube-proxy', 'K').replaceAll('0x00004000', '0x4000');
}

/** Lines that say something of a Service, those that flush its new chains left out. */
export function ownLines(made: NftBench, marks: readonly string[]): string[] {
  return textOf(made).filter(
    (line) => !line.startsWith('flush') && marks.some((mark) => line.includes(mark)),
  );
}

let sourcePort = 1024;

export interface Send {
  readonly from: string;
  readonly to: string;
  readonly protocol?: number;
  readonly origin?: Origin;
  readonly nowNs?: number;
}

export function send(
  made: NftBench,
  { from, to, protocol = TCP, origin = FROM_POD, nowNs = 1000 }: Send,
): Verdict {
  const [address, port] = to.split(':') as [string, string];
  const packet = new Packet();
  packet.source = ip(from);
  packet.sourcePort = 1024 + (sourcePort++ % 60_000);
  packet.destination = ip(address);
  packet.destinationPort = Number(port);
  packet.protocol = protocol;
  packet.flags = protocol === TCP ? SYN : 0;
  packet.origin = origin;
  made.verdict.begin(packet);
  made.proxier.dataplane.classify(packet, nowNs, made.verdict);
  return made.verdict;
}

/** `10.180.0.1:80 masq`, `drop`, `reject` or `untouched`. */
export function outcome(made: NftBench, packet: Send): string {
  const verdict = send(made, packet);
  if (verdict.fate !== FORWARD) return verdict.fate === DROP ? 'drop' : 'reject';
  const masqueraded = verdict.source === ip(NODE) && packet.from !== NODE;
  const rewritten = verdict.sourcePort !== 1024 + ((sourcePort - 1) % 60_000);
  const masq = masqueraded || rewritten ? ' masq' : '';
  if (verdict.endpoint < 0) return `untouched${masq}`;
  return `${formatIpv4(verdict.destination)}:${verdict.destinationPort}${masq}`;
}

/** kube-proxy's six test Services; in L2 the endpoints of svc1, svc3 and svc5 are on the node, 10.180.0.5 always. */
export function sixServices(localMore: boolean): ServiceSpec[] {
  return [
    { clusterIp: '172.30.0.41', endpoints: [at('10.180.0.1', localMore)] },
    {
      clusterIp: '172.30.0.42',
      type: 'LoadBalancer',
      nodePort: 3001,
      loadBalancerIps: ['1.2.3.4'],
      externalIps: ['192.168.99.22'],
      externalPolicyLocal: true,
      endpoints: [at('10.180.0.2', false)],
    },
    { clusterIp: '172.30.0.43', nodePort: 3003, endpoints: [at('10.180.0.3', localMore)] },
    {
      clusterIp: '172.30.0.44',
      externalIps: ['192.168.99.33'],
      endpoints: [at('10.180.0.4', false), at('10.180.0.5', true)],
    },
    {
      clusterIp: '172.30.0.45',
      type: 'LoadBalancer',
      nodePort: 3002,
      loadBalancerIps: ['5.6.7.8'],
      sourceRanges: ['203.0.113.0/25'],
      affinityS: 10_800,
      endpoints: [at('10.180.0.3', localMore)],
    },
    { clusterIp: '172.30.0.46' },
  ];
}

function at(address: string, local: boolean): { at: string; local: boolean } {
  return { at: `${address}:80`, local };
}
