import type { OptionSpecs, OptionsOf } from '../../proxier.ts';
import { wantedAddresses } from './node-addresses.ts';
import { wantedRatio } from './map-ratio.ts';
import { DEFAULT_MAGLEV_SIZE, MAGLEV_SIZES } from '../maglev/table.ts';
import { DEFAULT_MAGLEV_SEED, wantedOfSeed } from '../maglev/seed.ts';

const SECOND = 1_000_000_000;

const LOAD_BALANCING = {
  variant: {
    kind: 'choice',
    default: 'cilium',
    choices: ['cilium', 'calico', 'katran'],
    about:
      "whose programs: Cilium's, all options below; Calico's, with algorithm, socketLB, lbMapMax and otherAddresses; Katran, a balancer of outside packets, with none",
  },
  lbMapMax: {
    kind: 'integer',
    default: 65_536,
    min: 0,
    max: 16_777_216,
    about:
      'entries of each load-balancing map (bpf-lb-map-max); updates beyond it fail with E2BIG; 0: as many as the cluster needs, at least 65536',
  },
  socketLB: {
    kind: 'boolean',
    default: true,
    about: 'translate at connect() for clients on the node; without it, packet by packet (bpf-lb-sock)',
  },
  socketLBHostOnly: {
    kind: 'boolean',
    default: false,
    about: 'only for processes of the host; pods are served packet by packet (bpf-lb-sock-hostns-only)',
  },
  udpSockets: {
    kind: 'choice',
    default: 'connected',
    choices: ['connected', 'unconnected'],
    about: 'whether UDP clients connect their sockets, or name the service with each datagram',
  },
  lbMode: {
    kind: 'choice',
    default: 'snat',
    choices: ['snat', 'dsr', 'hybrid'],
    about: 'how outside clients reach backends on other nodes; hybrid is dsr for TCP (bpf-lb-mode)',
  },
  dsrDispatch: {
    kind: 'choice',
    default: 'opt',
    choices: ['opt', 'ipip', 'geneve'],
    about: 'how the service address travels to the backend with dsr (bpf-lb-dsr-dispatch)',
  },
  acceleration: {
    kind: 'choice',
    default: 'disabled',
    choices: ['disabled', 'native'],
    about: 'serve outside clients in the driver, by XDP (bpf-lb-acceleration)',
  },
  algorithm: {
    kind: 'choice',
    default: 'random',
    choices: ['random', 'maglev'],
    about: 'how a backend is chosen packet by packet (bpf-lb-algorithm)',
  },
  maglevTableSize: {
    kind: 'choice',
    default: String(DEFAULT_MAGLEV_SIZE),
    choices: MAGLEV_SIZES.map(String),
    about: 'entries of each Maglev table; more than 100 times the backends (bpf-lb-maglev-table-size)',
  },
  maglevHashSeed: {
    kind: 'text',
    default: DEFAULT_MAGLEV_SEED,
    wanted: (text) => (wantedOfSeed(text) === '' ? '' : `wanted ${wantedOfSeed(text)}`),
    about: 'seed of the tables and of packet hashes (bpf-lb-maglev-hash-seed)',
  },
  externalClusterIP: {
    kind: 'boolean',
    default: false,
    about: 'ClusterIPs are served to outside clients, too (bpf-lb-external-clusterip)',
  },
  noBackendResponse: {
    kind: 'choice',
    default: 'reject',
    choices: ['reject', 'drop'],
    about: 'what a packet to a service without backends is answered (service-no-backend-response)',
  },
  serviceTopology: {
    kind: 'boolean',
    default: false,
    about: 'honour the hints of EndpointSlices, so trafficDistribution (enable-service-topology)',
  },
  otherAddresses: {
    kind: 'text',
    default: '',
    wanted: wantedAddresses,
    about: "the node's other addresses that serve NodePorts, with commas between (nodeport-addresses)",
  },
  protocolInKey: {
    kind: 'boolean',
    default: true,
    about:
      'TCP and UDP of one port are two frontends (bpf-lb-proto-diff); older installations know no difference',
  },
} as const satisfies OptionSpecs;

const AGENT = {
  agentOrder: {
    kind: 'choice',
    default: '1.18+',
    choices: ['1.18+', 'pre-1.18'],
    about: 'order of map operations in an update: orphan backends deleted first (1.18+) or last',
  },
  reflectorWait: {
    kind: 'duration',
    default: SECOND / 2,
    about: 'how long the agent gathers events (lb-reflector-wait-time)',
  },
  reflectorFlush: {
    kind: 'choice',
    default: 'ticker',
    choices: ['ticker', 'timer'],
    about: 'what ends the gathering: a free-running ticker, or a timer that the first event starts',
  },
  reflectorBatch: {
    kind: 'integer',
    default: 5000,
    min: 1,
    max: 1_000_000,
    about: 'so many gathered events are worked off at once; 500 in some releases',
  },
  rcuGracePeriod: {
    kind: 'duration',
    default: 12_500_000,
    about: 'how long the kernel waits after a Maglev table is put in place, 5ms to 50ms',
  },
  terminateSockets: {
    kind: 'boolean',
    default: true,
    about: 'look for UDP sockets that are connected to a backend that is gone, and end them',
  },
} as const satisfies OptionSpecs;

const CONNECTIONS = {
  ctLookups: {
    kind: 'integer',
    default: 1,
    min: 1,
    max: 2,
    about: 'conntrack lookups of a request packet at its pod: 1, or 2 where both directions are tried (1.14)',
  },
  snatTries: {
    kind: 'integer',
    default: 32,
    min: 1,
    max: 128,
    about: 'ports tried for a translated source; 128 in older releases with large programs',
  },
  snatClamp: {
    kind: 'choice',
    default: 'recent',
    choices: ['recent', 'old'],
    about: 'how a number becomes a port of the range: by multiplication, or in older releases by remainder',
  },
  ctTimeoutTcp: {
    kind: 'duration',
    default: 8000 * SECOND,
    about: 'established TCP (bpf-ct-timeout-regular-tcp; 21600s in older releases)',
  },
  ctTimeoutTcpSyn: {
    kind: 'duration',
    default: 60 * SECOND,
    about: 'TCP of which only SYN was seen (bpf-ct-timeout-regular-tcp-syn)',
  },
  ctTimeoutTcpFin: {
    kind: 'duration',
    default: 10 * SECOND,
    about: 'TCP that both ends have closed, or that was reset (bpf-ct-timeout-regular-tcp-fin)',
  },
  ctTimeoutAny: {
    kind: 'duration',
    default: 60 * SECOND,
    about: 'other protocols (bpf-ct-timeout-regular-any)',
  },
  ctTimeoutServiceTcp: {
    kind: 'duration',
    default: 8000 * SECOND,
    about: "a TCP flow's choice of a backend (bpf-ct-timeout-service-tcp; 21600s in older releases)",
  },
  ctTimeoutServiceAny: {
    kind: 'duration',
    default: 60 * SECOND,
    about: "another protocol's choice of a backend (bpf-ct-timeout-service-any)",
  },
  ctTimeoutServiceTcpGrace: {
    kind: 'duration',
    default: 60 * SECOND,
    about: 'how long a closing flow keeps its backend (bpf-ct-timeout-service-tcp-grace)',
  },
  ctGcInterval: {
    kind: 'duration',
    default: 0,
    about: 'time between sweeps of conntrack; 0: by what the last one found (conntrack-gc-interval)',
  },
  ctGcMaxInterval: {
    kind: 'duration',
    default: 0,
    about: 'the longest time between sweeps; 0: 12h (conntrack-gc-max-interval)',
  },
} as const satisfies OptionSpecs;

const SIZES = {
  memoryGiB: {
    kind: 'integer',
    default: 64,
    min: 1,
    max: 24_576,
    about: 'memory of the node, from which the maps of connections get their sizes',
  },
  mapSizeRatio: {
    kind: 'text',
    default: '0.0025',
    wanted: wantedRatio,
    about: 'the share of memory for these maps; 0: their static sizes (bpf-map-dynamic-size-ratio)',
  },
  distributedLru: {
    kind: 'boolean',
    default: false,
    about: 'LRU lists for each CPU instead of common ones (bpf-distributed-lru)',
  },
  preallocateMaps: {
    kind: 'boolean',
    default: false,
    about: 'take the memory of all entries at once (preallocate-bpf-maps)',
  },
} as const satisfies OptionSpecs;

/** Cilium's own settings, its defaults, and what differs between its releases. */
export const EBPF_OPTIONS = { ...LOAD_BALANCING, ...AGENT, ...CONNECTIONS, ...SIZES } as const;

export type AgentOptions = OptionsOf<typeof EBPF_OPTIONS>;
