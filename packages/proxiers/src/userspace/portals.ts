import { TCP, UDP } from '@vipsim/sim-core';
import type { Cluster } from '../kubernetes/cluster.ts';
import { ACCEPT, DNAT, NOT_FROM_BRIDGE, PortalChain, REDIRECT, STATE_NEW, TO_LOCAL } from './portal-chain.ts';
import { LOCAL_PORTS, LOCAL_PORT_MIN } from './source-ports.ts';

/** No socket: the protocol is not TCP or UDP, or all ports of the range are taken. */
export const NOT_PROXIED = 0;

/** Sizes in x_tables: head, comment, tcp or udp match, REDIRECT's 56; what other matches and targets add. */
const RULE_BYTES = 112 + 288 + 48 + 56;
const PHYSDEV_BYTES = 104;
const ADDRTYPE_BYTES = 40;
const STATE_BYTES = 200;
/** DNAT's second revision has 80 bytes, ACCEPT is a standard target of 40. */
const DNAT_MORE = 24;
const STANDARD_LESS = 16;
/** Five jumps, user chains of 328 bytes, policies of 152 and the closing entry of 176. */
const JUMPS_BYTES = 440 + 440 + 480 + 480;
const NAT_FRAME_BYTES = JUMPS_BYTES + 4 * 328 + 4 * 152 + 176;
const FILTER_FRAME_BYTES = 440 + 328 + 3 * 152 + 176;
/** Entries as the kernel counts them, without portal rules: policies, closing entry, chain ends, jumps. */
export const NAT_FRAME = { builtIns: 4, chains: 4, jumps: 4 } as const;
export const FILTER_FRAME = { builtIns: 3, chains: 1, jumps: 1 } as const;

/**
 * The sockets that stand for Services, and the rules that lead packets to them.
 *
 * Models: one listening port for each service port; per ClusterIP and load balancer address 2 rules, per external
 * IP 3, per node port 2 and one of the filter table; node ports held open by a socket of their own.
 * Source: openPortal, openOnePortal and openNodePort, pkg/proxy/userspace/proxier.go (Kubernetes 1.22).
 * The kernel picks listening ports (bind to port 0) at random among the odd ones of its range, then the even ones;
 * here they are taken in rising order. kube-proxy opens Services in the order of a Go map, here in input order.
 * Not modelled: source ranges and traffic policies, which this mode ignores; SCTP, which it refuses.
 */
export class Portals {
  readonly chains: readonly PortalChain[] = [
    new PortalChain('KUBE-PORTALS-CONTAINER', true),
    new PortalChain('KUBE-PORTALS-HOST', true),
    new PortalChain('KUBE-NODEPORT-CONTAINER', false),
    new PortalChain('KUBE-NODEPORT-HOST', false),
    new PortalChain('KUBE-NODEPORT-NON-LOCAL', false),
  ];
  /** By service port: where its socket listens; NOT_PROXIED. */
  readonly proxyPort: Uint16Array;
  /** In the order in which kube-proxy appends them: chain and row. */
  readonly order: { readonly chain: number; readonly row: number }[] = [];
  /** Sockets held open on node ports, for nobody to take them. */
  readonly heldPorts: { readonly protocol: number; readonly port: number }[] = [];
  natBytes = NAT_FRAME_BYTES;
  filterBytes = FILTER_FRAME_BYTES;
  readonly cluster: Cluster;
  readonly #servicePorts = { [TCP]: new Int32Array(65_536).fill(-1), [UDP]: new Int32Array(65_536).fill(-1) };
  readonly #listening: Record<number, number> = { [TCP]: 0, [UDP]: 0 };

  constructor(cluster: Cluster) {
    this.cluster = cluster;
    this.proxyPort = new Uint16Array(cluster.ports.count);
  }

  /** Listen for a service port and write its rules. False where there can be no socket. */
  open(servicePort: number): boolean {
    const { ports, services } = this.cluster;
    const protocol = ports.protocol[servicePort]!;
    if (protocol !== TCP && protocol !== UDP) return false;
    const proxyPort = this.#listen(protocol, servicePort);
    if (proxyPort === NOT_PROXIED) return false;
    const service = services[ports.service[servicePort]!]!;
    const port = ports.port[servicePort]!;
    const rule = { protocol, port, tests: 0, servicePort };
    this.#add(0, { ...rule, destination: service.clusterIp, target: REDIRECT });
    this.#add(1, { ...rule, destination: service.clusterIp, target: DNAT });
    for (const destination of service.externalIps) {
      this.#add(0, { ...rule, destination, tests: NOT_FROM_BRIDGE, target: REDIRECT });
      this.#add(0, { ...rule, destination, tests: TO_LOCAL, target: REDIRECT });
      this.#add(1, { ...rule, destination, tests: TO_LOCAL, target: DNAT });
    }
    for (const destination of service.loadBalancerIps) {
      this.#add(0, { ...rule, destination, target: REDIRECT });
      this.#add(1, { ...rule, destination, target: DNAT });
    }
    const nodePort = ports.nodePort[servicePort]!;
    if (nodePort === 0) return true;
    this.heldPorts.push({ protocol, port: nodePort });
    this.#add(2, { ...rule, destination: 0, port: nodePort, target: REDIRECT });
    this.#add(3, { ...rule, destination: 0, port: nodePort, target: DNAT });
    this.#add(4, { ...rule, destination: 0, port: proxyPort, tests: STATE_NEW, target: ACCEPT });
    return true;
  }

  /** The service port whose socket has this port, or -1. */
  servicePortAt(protocol: number, port: number): number {
    return protocol === TCP
      ? this.#servicePorts[TCP]![port]!
      : protocol === UDP
        ? this.#servicePorts[UDP]![port]!
        : -1;
  }

  natRules(): number {
    const { chains } = this;
    return chains[0]!.count + chains[1]!.count + chains[2]!.count + chains[3]!.count;
  }

  filterRules(): number {
    return this.chains[4]!.count;
  }

  /** Sockets that listen, those on node ports included. */
  sockets(): number {
    return this.#listening[TCP]! + this.#listening[UDP]! + this.heldPorts.length;
  }

  #listen(protocol: typeof TCP | typeof UDP, servicePort: number): number {
    const nth = this.#listening[protocol]!;
    if (nth >= LOCAL_PORTS) return NOT_PROXIED;
    this.#listening[protocol]!++;
    const odd = LOCAL_PORTS / 2;
    const port = LOCAL_PORT_MIN + (nth < odd ? 1 + 2 * nth : 2 * (nth - odd));
    this.proxyPort[servicePort] = port;
    this.#servicePorts[protocol]![port] = servicePort;
    return port;
  }

  #add(chain: number, rule: Parameters<PortalChain['add']>[0]): void {
    this.order.push({ chain, row: this.chains[chain]!.count });
    this.chains[chain]!.add(rule);
    let bytes = RULE_BYTES;
    if ((rule.tests & NOT_FROM_BRIDGE) !== 0) bytes += PHYSDEV_BYTES;
    if ((rule.tests & TO_LOCAL) !== 0) bytes += ADDRTYPE_BYTES;
    if ((rule.tests & STATE_NEW) !== 0) bytes += STATE_BYTES - STANDARD_LESS;
    if (rule.target === DNAT) bytes += DNAT_MORE;
    if (chain === 4) this.filterBytes += bytes;
    else this.natBytes += bytes;
  }
}
