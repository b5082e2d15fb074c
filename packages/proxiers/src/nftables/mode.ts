import { DETECT_LOCAL_OPTIONS } from '../netfilter/detect-local.ts';
import type { Mode } from '../proxier.ts';
import { NftablesProxier } from './kube-proxy.ts';
import { VERSIONS } from './layout.ts';
import { NFTABLES_OPERATIONS } from './operations.ts';
import { wantedAddresses, wantedServiceCidrs } from './settings.ts';

const OPTIONS = {
  kubeProxyVersion: {
    kind: 'choice',
    default: '1.36',
    choices: VERSIONS,
    about:
      'the release that writes the rules: endpoint chains to 1.35, maps since 1.36, no map for one endpoint 1.37',
  },
  minSyncPeriod: {
    kind: 'duration',
    default: 1_000_000_000,
    about: 'kube-proxy waits this long after a sync before it starts the next (nftables.minSyncPeriod)',
  },
  syncPeriod: {
    kind: 'duration',
    default: 30_000_000_000,
    about: 'a failed sync is tried again after this (nftables.syncPeriod)',
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
    about: 'bit of the packet mark that asks for masquerading (nftables.masqueradeBit)',
  },
  nodePortAddresses: {
    kind: 'text',
    default: 'primary',
    wanted: wantedAddresses,
    about:
      'CIDRs, with commas between: only addresses of the node in them serve NodePorts; primary: its own one',
  },
  serviceCidrs: {
    kind: 'text',
    default: '',
    wanted: wantedServiceCidrs,
    about:
      "CIDRs of ServiceCIDR objects, with commas between: the cluster's if empty; none: kube-proxy knows none",
  },
  ...DETECT_LOCAL_OPTIONS,
} as const;

/** kube-proxy in nftables mode. */
export const nftables: Mode<typeof OPTIONS> = {
  name: 'nftables',
  title: 'nftables',
  options: OPTIONS,
  operations: NFTABLES_OPERATIONS,
  formats: ['nft', 'nft-list', 'nft-json'],
  ipv6: true,
  create: (node, options) => new NftablesProxier(node, options),
};
