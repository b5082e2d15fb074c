import { DETECT_LOCAL_OPTIONS } from '../netfilter/detect-local.ts';
import type { Mode, NodeContext, OptionSpecs, OptionsOf } from '../proxier.ts';
import { IPVS_OPERATIONS } from './operations.ts';
import { wantedAddresses, wantedCidrs, wantedNodePortCidrs } from './node-settings.ts';
import { IpvsProxier, IPVS_FORMATS } from './proxier.ts';
import { SCHEDULER_NAMES } from './schedulers/create.ts';
import { wantedVersion } from './start-up.ts';

/** kube-proxy's ipvs section and its sysctls; defaults are kube-proxy's and the kernel's. */
export const ipvsOptions = {
  scheduler: {
    kind: 'choice',
    default: 'rr',
    choices: SCHEDULER_NAMES,
    about: 'how a virtual server chooses its real server (--ipvs-scheduler)',
  },
  minSyncPeriod: {
    kind: 'duration',
    default: 0,
    about: 'shortest time from the end of one sync pass to the next (--ipvs-min-sync-period)',
  },
  syncPeriod: {
    kind: 'duration',
    default: 30_000_000_000,
    about: 'a pass runs at least this often, changes or not (--ipvs-sync-period)',
  },
  connTabBits: {
    kind: 'integer',
    default: 12,
    min: 8,
    max: 27,
    about: 'the connection table has 2^n chains (module parameter conn_tab_bits)',
  },
  tcpTimeout: {
    kind: 'duration',
    default: 0,
    about: 'an idle TCP connection ends after this; 0 keeps what the kernel has, 900s (--ipvs-tcp-timeout)',
  },
  tcpFinTimeout: {
    kind: 'duration',
    default: 0,
    about: 'the same after a FIN; 0 keeps what the kernel has, 120s (--ipvs-tcpfin-timeout)',
  },
  udpTimeout: {
    kind: 'duration',
    default: 0,
    about: 'the same for UDP; 0 keeps what the kernel has, 300s (--ipvs-udp-timeout)',
  },
  strictARP: {
    kind: 'boolean',
    default: false,
    about: 'answer ARP only for addresses of the asking interface (--ipvs-strict-arp)',
  },
  excludeCIDRs: {
    kind: 'text',
    default: '',
    wanted: wantedCidrs,
    about: 'virtual servers in these CIDRs are not deleted when no Service wants them (--ipvs-exclude-cidrs)',
  },
  masqueradeAll: {
    kind: 'boolean',
    default: false,
    about: 'masquerade all traffic to ClusterIPs, not only that from outside the pod network',
  },
  masqueradeBit: {
    kind: 'integer',
    default: 14,
    min: 0,
    max: 31,
    about: 'bit of the packet mark that asks for masquerading (--iptables-masquerade-bit)',
  },
  ...DETECT_LOCAL_OPTIONS,
  nodePortAddresses: {
    kind: 'text',
    default: '',
    wanted: wantedNodePortCidrs,
    about:
      'CIDRs, with commas between: only addresses of the node in them serve NodePorts; primary: its own one; all if empty',
  },
  otherAddresses: {
    kind: 'text',
    default: '',
    wanted: wantedAddresses,
    about:
      "addresses of the node's other interfaces, such as docker0 or cni0: each gets a virtual server for every NodePort",
  },
  release: {
    kind: 'text',
    default: 'v1.36',
    wanted: wantedVersion,
    about: 'Kubernetes release of kube-proxy: whether it runs in this mode, and what it does if it cannot',
  },
  kernel: {
    kind: 'text',
    default: '6.12.117',
    wanted: wantedVersion,
    about:
      'Linux release of the node: conn_reuse_mode (set to 0 before 5.9), and how connections are weighed and thresholds kept',
  },
  modules: {
    kind: 'boolean',
    default: true,
    about:
      'the kernel has IPVS and the scheduler; without, kube-proxy exits, or before 1.26 falls back to iptables',
  },
  featureGate: {
    kind: 'choice',
    default: 'default',
    choices: ['default', 'true', 'false'],
    about: 'the feature gate KubeProxyIPVS: on by default from 1.37, off from 1.40',
  },
} as const satisfies OptionSpecs;

export const ipvs: Mode<typeof ipvsOptions> = {
  name: 'ipvs',
  title: 'IPVS',
  options: ipvsOptions,
  operations: IPVS_OPERATIONS,
  formats: IPVS_FORMATS,
  create(node: NodeContext, options: OptionsOf<typeof ipvsOptions>): IpvsProxier {
    return new IpvsProxier(node, options);
  },
};
