import { FLOW_MAP_DEFAULTS, type FlowMapSizes } from './flow-maps.ts';

/** Lifetimes of conntrack entries in seconds, by the flags bpf-ct-timeout-*. */
export interface CtTimeouts {
  readonly regularTcp: number;
  /** TCP of which nothing but SYNs was seen, of both kinds of entries. */
  readonly regularTcpSyn: number;
  /** From the last FIN, or an RST. */
  readonly regularTcpFin: number;
  readonly regularAny: number;
  readonly serviceTcp: number;
  readonly serviceAny: number;
  /** A SYN that meets a closing service entry sooner than this after its last report resets it first. */
  readonly serviceTcpGrace: number;
}

export interface EbpfDataplaneOptions {
  /** Translate at sockets; without it, packet by packet at pods. */
  readonly socketLB: boolean;
  /** bpf-lb-sock-hostns-only: sockets of the host alone; pods are balanced packet by packet. */
  readonly socketLBHostOnly: boolean;
  /** Whether sockets of UDP clients connect, or name the service with each datagram. */
  readonly udpSockets: 'connected' | 'unconnected';
  /** bpf-lb-mode; hybrid is DSR for TCP and SNAT for all else. */
  readonly mode: 'snat' | 'dsr' | 'hybrid';
  readonly dsrDispatch: 'opt' | 'ipip' | 'geneve';
  /** bpf-lb-acceleration: native runs the device's program at XDP. */
  readonly acceleration: 'disabled' | 'native';
  /** bpf-lb-algorithm, of frontends that do not name their own. */
  readonly algorithm: 'random' | 'maglev';
  readonly maglevSeedIpv4: number;
  /** bpf-lb-external-clusterip: outside clients may use ClusterIPs. */
  readonly externalClusterIP: boolean;
  /** Releases before 1.15 look a connection up under the answer's tuple first. */
  readonly bothDirections: boolean;
  /** Addresses with a wildcard entry: a second lookup tells their unserved ports from strangers (1.18 and later). */
  readonly wildcards: boolean;
  /** All addresses of this node; empty for the one that the cluster names. */
  readonly hostAddresses: readonly number[];
  /** Ports tried for a translated flow: 32; 128 in older releases on kernels with large programs. */
  readonly snatTries: number;
  /** How a number becomes a port of the range: by multiplication (recent) or by remainder (old). */
  readonly snatClamp: 'recent' | 'old';
  readonly timeouts: CtTimeouts;
  /** conntrack-gc-interval in ns; 0 adapts it. */
  readonly gcInterval: number;
  /** conntrack-gc-max-interval in ns; 0 for 12 hours. */
  readonly gcMaxInterval: number;
  /** The last port of the NodePort range: translated flows leave from those above. */
  readonly nodePortMax: number;
  readonly sizes: FlowMapSizes;
  /** bpf-distributed-lru: an LRU list for each CPU. */
  readonly distributedLru: boolean;
  /** --service-no-backend-response: what a packet to a service without backends is answered. */
  readonly noBackendResponse: 'reject' | 'drop';
}

/** Cilium's defaults; the seed is the second word of its default bpf-lb-maglev-hash-seed. */
export const DATAPLANE_DEFAULTS: EbpfDataplaneOptions = {
  socketLB: true,
  socketLBHostOnly: false,
  udpSockets: 'connected',
  mode: 'snat',
  dsrDispatch: 'opt',
  acceleration: 'disabled',
  algorithm: 'random',
  maglevSeedIpv4: 0x71dcda46,
  externalClusterIP: false,
  bothDirections: false,
  wildcards: true,
  hostAddresses: [],
  snatTries: 32,
  snatClamp: 'recent',
  timeouts: {
    regularTcp: 8000,
    regularTcpSyn: 60,
    regularTcpFin: 10,
    regularAny: 60,
    serviceTcp: 8000,
    serviceAny: 60,
    serviceTcpGrace: 60,
  },
  gcInterval: 0,
  gcMaxInterval: 0,
  nodePortMax: 32_767,
  sizes: FLOW_MAP_DEFAULTS,
  distributedLru: false,
  noBackendResponse: 'reject',
};
