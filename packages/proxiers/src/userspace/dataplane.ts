import { FROM_HOST, type Packet } from '@vipsim/sim-core';
import {
  DROP,
  type ConnectionStats,
  type Dataplane,
  type NodeContext,
  type Recorder,
  type TableSize,
  type Verdict,
} from '../proxier.ts';
import type { RoundRobin } from './balancer.ts';
import { OPERATION } from './operations.ts';
import { FILTER_FRAME, NAT_FRAME, type Portals } from './portals.ts';
import { ProxyProcess } from './proxy-process.ts';
import { EVERY_DIAL_ANSWERED } from '../reachability.ts';
import { SourcePorts } from './source-ports.ts';
import { Stack } from './stack.ts';

const CONNTRACK_LOOKUP = OPERATION['conntrack.lookup'];
const CONNTRACK_STEP = OPERATION['conntrack.step'];
const SKIPPED = OPERATION['iptables.legacy.skipped'];
const READ = OPERATION['iptables.kernel.read'];
const REPLACED = OPERATION['iptables.kernel.replaced'];

/** Two TCP sockets with inode and file, about 2.9 KiB each on x86-64 without data; struct tcp_timewait_sock. */
const SOCKETS_BYTES = 2 * 2944;
const TIME_WAIT_BYTES = 256;

/**
 * The packet's way through a node whose Services are sockets of a process. Packets for a service port's socket, and
 * those that endpoints send back to the node's own ports, pass through the process and leave as others' packets:
 * the endpoint sees the node as its client. A packet that comes in and the one that goes out for it are one
 * `classify`, with the work of both.
 * Source: pkg/proxy/userspace (Kubernetes 1.22), over the x_tables of the kernel.
 */
export class UserspaceDataplane implements Dataplane {
  /** When the dataplane was last told the time. */
  nowNs = 0;
  readonly proxy: ProxyProcess;
  readonly #stack: Stack;
  readonly #portals: Portals;
  readonly #cores: number;
  #recorder: Recorder | undefined;

  constructor(
    node: NodeContext,
    setup: {
      readonly portals: Portals;
      readonly balancer: RoundRobin;
      readonly udpIdleNs: number;
      readonly payloadBytes: number;
    },
  ) {
    this.#portals = setup.portals;
    this.#cores = node.cores;
    this.#stack = new Stack(node, setup.portals);
    this.proxy = new ProxyProcess({
      ...setup,
      stack: this.#stack,
      endpoints: node.cluster.endpoints,
      ports: new SourcePorts(node.streams.stream('userspace.ports')),
      reachability: node.reachability ?? EVERY_DIAL_ANSWERED,
    });
  }

  get recorder(): Recorder | undefined {
    return this.#recorder;
  }

  set recorder(recorder: Recorder | undefined) {
    this.#recorder = recorder;
    this.#stack.walk.recorder = recorder;
    this.proxy.recorder = recorder;
  }

  /** What the packet waits besides the work that is counted: dials that ran into a timeout, a loop that dials. */
  get delayNs(): number {
    return this.proxy.delayNs;
  }

  classify(packet: Packet, nowNs: number, verdict: Verdict): void {
    this.nowNs = nowNs;
    this.proxy.delayNs = 0;
    const port = this.#stack.receive(packet, nowNs, this.#portals.proxyPort, verdict);
    if (port === 0 || verdict.fate === DROP) return;
    const servicePort = this.#portals.servicePortAt(packet.protocol, port);
    if (servicePort >= 0) {
      this.#recorder?.step('kube-proxy', `the socket on port ${port} has it`);
      this.proxy.fromClient(packet, servicePort, nowNs, verdict);
      verdict.delayNs = this.proxy.delayNs;
    } else if (packet.origin !== FROM_HOST && this.proxy.fromEndpoint(packet, nowNs, verdict)) {
      this.#recorder?.step('kube-proxy', `from an endpoint to the node's port ${port}: on to the client`);
    }
  }

  expire(nowNs: number): void {
    this.nowNs = nowNs;
    this.#stack.path.conntrack.expire(nowNs);
    this.proxy.expire(nowNs);
  }

  workingSets(out: Float64Array): void {
    out.fill(0);
    const connections = this.#stack.path.workingSet();
    out[CONNTRACK_LOOKUP] = connections;
    out[CONNTRACK_STEP] = connections;
    out[SKIPPED] = this.#portals.natBytes / 2;
    out[READ] = this.#portals.natBytes;
    out[REPLACED] = this.#portals.natBytes;
  }

  /** x_tables to the byte, with 16 bytes of counters an entry and CPU; of sockets an estimate, without what the process holds. */
  tables(): readonly TableSize[] {
    const portals = this.#portals;
    const nat = entries(NAT_FRAME, portals.natRules());
    const filter = entries(FILTER_FRAME, portals.filterRules());
    const { conntrack } = this.#stack.path;
    const { sessions, files } = this.proxy;
    const socketBytes = files.peak * SOCKETS_BYTES + sessions.peak * TIME_WAIT_BYTES;
    return [
      { name: 'nat', entries: nat, bytes: portals.natBytes },
      { name: 'filter', entries: filter, bytes: portals.filterBytes },
      { name: 'x_tables counters', entries: this.#cores, bytes: (nat + filter) * 16 * this.#cores },
      { name: 'conntrack', entries: conntrack.count, bytes: conntrack.memory() },
      { name: 'sockets', entries: sessions.count, bytes: socketBytes },
    ];
  }

  connections(): ConnectionStats {
    return this.#stack.path.stats();
  }
}

/** As the kernel counts them: a user chain has two entries besides its rules, the table one more. */
export function entries(
  frame: { readonly builtIns: number; readonly chains: number; readonly jumps: number },
  rules: number,
): number {
  return frame.builtIns + frame.chains * 2 + frame.jumps + rules + 1;
}
