import { CONNTRACK_DEFAULTS, FROM_OUTSIDE, FROM_POD, Streams } from '@vipsim/sim-core';
import type { Agent, AgentOptions } from '../../packages/proxiers/src/ebpf/agent/agent.ts';
import { ebpf } from '../../packages/proxiers/src/ebpf/mode.ts';
import type { Cluster } from '../../packages/proxiers/src/kubernetes/cluster.ts';
import type { EndpointsMap } from '../../packages/proxiers/src/kubernetes/endpoints-map.ts';
import { SYNTHETIC_DEFAULTS, syntheticCluster } from '../../packages/proxiers/src/kubernetes/synthetic.ts';
import { defaultsOf } from '../../packages/proxiers/src/proxier.ts';

/** A kind of flow: who sends it, to whom, and how the node serves it. */
export interface Course {
  readonly title: string;
  readonly options: Partial<AgentOptions>;
  readonly origin: typeof FROM_POD | typeof FROM_OUTSIDE;
  /** To a Service; else to addresses that are none. */
  readonly served: boolean;
  /** The client's socket is connected to the backend: later packets carry its address. */
  readonly connects: boolean;
  /** Answers come through the node. */
  readonly answers: boolean;
}

export const COURSE_NAMES = ['socket', 'packet', 'snat', 'xdp', 'dsr', 'pod-else', 'outside-else'] as const;
export type CourseName = (typeof COURSE_NAMES)[number];

const POD = { options: {}, origin: FROM_POD, served: true, connects: false, answers: true } as const;
const OUTSIDE = { ...POD, origin: FROM_OUTSIDE } as const;
/** Outside clients ask ClusterIPs. */
const OPEN = { externalClusterIP: true } as const;

export const COURSES: Readonly<Record<CourseName, Course>> = {
  socket: { ...POD, title: 'socket LB', connects: true },
  packet: { ...POD, title: 'at the pod', options: { socketLB: false } },
  snat: { ...OUTSIDE, title: 'from outside, SNAT', options: OPEN },
  xdp: { ...OUTSIDE, title: 'the same by XDP', options: { ...OPEN, acceleration: 'native' } },
  dsr: { ...OUTSIDE, title: 'from outside, DSR', options: { ...OPEN, lbMode: 'dsr' }, answers: false },
  'pod-else': { ...POD, title: 'no Service, from a pod', served: false },
  'outside-else': { ...OUTSIDE, title: 'no Service, from outside', served: false, answers: false },
};

export type Kind = 'first' | 'later' | 'answer';

export function kindsOf(course: CourseName): readonly Kind[] {
  return COURSES[course].answers ? ['first', 'later', 'answer'] : ['first', 'later'];
}

export function clusterOf(services: number, endpoints: number): Cluster {
  const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services, endpoints });
  // No pod of a Service is on this node: every backend is elsewhere.
  const node = { name: 'node-x', address: cluster.nodes.at(-1)!.address + 1, zone: '' };
  return { ...cluster, nodes: [...cluster.nodes, node] };
}

/** On the node without pods of Services, of maps that grow to what the cluster needs. */
export function agentOf(cluster: Cluster, endpoints: EndpointsMap, options: Partial<AgentOptions>): Agent {
  const streams = new Streams('bench');
  const node = {
    cluster,
    endpoints,
    node: cluster.nodes.length - 1,
    cores: 2,
    conntrack: CONNTRACK_DEFAULTS,
    streams,
  };
  return ebpf.create(node, { ...defaultsOf(ebpf.options), lbMapMax: 0, ...options }) as Agent;
}
