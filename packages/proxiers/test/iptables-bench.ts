import { CONNTRACK_DEFAULTS, Streams, TCP, parseCidr, parseIpv4 } from '@vipsim/sim-core';
import { operationIndex } from '../src/cost/operations.ts';
import {
  Endpoints,
  Pods,
  READY,
  SERVING,
  ServicePorts,
  type Cluster,
  type Service,
} from '../src/kubernetes/cluster.ts';
import { EndpointsMap } from '../src/kubernetes/endpoints-map.ts';
import { IptablesProxier, type IptablesOptions } from '../src/iptables/kube-proxy.ts';
import { iptables } from '../src/iptables/mode.ts';
import { IPTABLES_OPERATIONS } from '../src/iptables/operations.ts';
import { Verdict, defaultsOf, type SyncPlan } from '../src/proxier.ts';

// The fixture of kube-proxy's own unit tests: pods 10.0.0.0/8, node 192.168.0.2, mark 0x4000, no --random-fully.
export const STYLE = { mark: '0x4000', randomFully: false };
export const OP = operationIndex(IPTABLES_OPERATIONS);
export const LOCAL_NODE = 0;
const REMOTE_NODE = 1;

export interface EndpointSpec {
  readonly at: string;
  readonly local?: boolean;
  readonly conditions?: number;
  readonly hint?: { readonly zones: readonly string[]; readonly nodes: readonly string[] };
}

export interface ServiceSpec extends Partial<
  Omit<Service, 'clusterIp' | 'externalIps' | 'loadBalancerIps' | 'sourceRanges'>
> {
  readonly clusterIp: string;
  readonly portName?: string;
  readonly port?: number;
  readonly nodePort?: number;
  readonly protocol?: number;
  readonly externalIps?: readonly string[];
  readonly loadBalancerIps?: readonly string[];
  readonly sourceRanges?: readonly string[];
  readonly endpoints?: readonly EndpointSpec[];
}

export function ip(text: string): number {
  return parseIpv4(text)!;
}

export function clusterOf(specs: readonly ServiceSpec[], podCidr = '10.0.0.0/8'): Cluster {
  const services: Service[] = [];
  const ports = new ServicePorts();
  const pods = new Pods();
  const endpoints = new Endpoints();
  specs.forEach((spec, index) => {
    services.push({
      namespace: spec.namespace ?? `ns${index + 1}`,
      name: spec.name ?? `svc${index + 1}`,
      type: spec.type ?? 'ClusterIP',
      clusterIp: ip(spec.clusterIp),
      externalIps: (spec.externalIps ?? []).map(ip),
      loadBalancerIps: (spec.loadBalancerIps ?? []).map(ip),
      sourceRanges: (spec.sourceRanges ?? []).map((range) => parseCidr(range)!),
      affinityS: spec.affinityS ?? 0,
      distribution: spec.distribution,
      internalPolicyLocal: spec.internalPolicyLocal ?? false,
      externalPolicyLocal: spec.externalPolicyLocal ?? false,
      healthCheckNodePort: spec.healthCheckNodePort ?? 0,
    });
    const port = ports.add({
      service: index,
      clusterIp: ip(spec.clusterIp),
      name: spec.portName ?? 'p80',
      protocol: spec.protocol ?? TCP,
      port: spec.port ?? 80,
      nodePort: spec.nodePort ?? 0,
    });
    ports.firstEndpoint[port] = endpoints.count;
    for (const endpoint of spec.endpoints ?? []) {
      const [address, target] = endpoint.at.split(':') as [string, string];
      const pod = pods.add(ip(address), endpoint.local === true ? LOCAL_NODE : REMOTE_NODE, 0);
      endpoints.add(
        port,
        pod,
        ip(address),
        Number(target),
        endpoint.conditions ?? READY | SERVING,
        endpoint.hint && endpoints.intern(endpoint.hint.zones, endpoint.hint.nodes),
      );
    }
    ports.firstEndpoint[port + 1] = endpoints.count;
  });
  return {
    name: 'fixture',
    nodes: [
      { name: 'test-node', address: ip('192.168.0.2'), zone: 'zone-a', podCidr: parseCidr('10.0.1.0/24')! },
      { name: 'other', address: ip('192.168.0.3'), zone: 'zone-b' },
    ],
    services,
    ports,
    workloads: [],
    pods,
    endpoints,
    podCidr: parseCidr(podCidr)!,
    serviceCidr: parseCidr('172.30.0.0/16')!,
    notes: [],
  };
}

export interface Bench {
  readonly cluster: Cluster;
  readonly endpoints: EndpointsMap;
  readonly proxier: IptablesProxier;
  readonly verdict: Verdict;
}

export function bench(cluster: Cluster, options: Partial<IptablesOptions> = {}, seed = '0'): Bench {
  const endpoints = new EndpointsMap(cluster);
  const proxier = new IptablesProxier(
    {
      cluster,
      endpoints,
      node: LOCAL_NODE,
      cores: 2,
      conntrack: CONNTRACK_DEFAULTS,
      streams: new Streams(seed),
    },
    { ...(defaultsOf(iptables.options) as IptablesOptions), ...options },
  );
  return { cluster, endpoints, proxier, verdict: new Verdict(IPTABLES_OPERATIONS.length) };
}

export function commit(plan: SyncPlan): SyncPlan {
  for (const stage of plan.stages) stage.commit();
  return plan;
}

export function synced(cluster: Cluster, options: Partial<IptablesOptions> = {}, seed = '0'): Bench {
  const made = bench(cluster, options, seed);
  commit(made.proxier.sync([], true));
  return made;
}

/** As kube-proxy's unit tests print it. */
export function dumpOf(made: Bench): string[] {
  return [...made.proxier.dump('iptables-restore', STYLE)];
}

export function total(plan: SyncPlan, operation: keyof typeof OP): number {
  return plan.stages.reduce((sum, stage) => sum + stage.counts[OP[operation]]!, 0);
}

/** The rules of one table that have one of the marks in them. */
export function ownRules(
  lines: readonly string[],
  table: 'filter' | 'nat',
  marks: readonly string[],
): string[] {
  const from = lines.indexOf(`*${table}`);
  const part = lines.slice(from, lines.indexOf('COMMIT', from));
  return part.filter((line) => line.startsWith('-A') && marks.some((mark) => line.includes(mark)));
}
