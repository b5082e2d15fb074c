import type { Mode } from '../proxier.ts';
import { IptablesProxier } from './kube-proxy.ts';
import { IPTABLES_OPERATIONS } from './operations.ts';

const OPTIONS = {
  backend: {
    kind: 'choice',
    default: 'nft',
    choices: ['nft', 'legacy'],
    about: 'iptables-nft keeps the rules in nf_tables, iptables-legacy in x_tables',
  },
  minSyncPeriod: {
    kind: 'duration',
    default: 1_000_000_000,
    about: 'kube-proxy waits this long after a sync before it starts the next (iptables.minSyncPeriod)',
  },
  syncPeriod: {
    kind: 'duration',
    default: 30_000_000_000,
    about:
      'a failed sync is tried again after this, leftover chains of a large cluster are deleted as rarely',
  },
  masqueradeAll: {
    kind: 'boolean',
    default: false,
    about: 'masquerade all traffic to ClusterIPs, not only that from outside the pod network',
  },
  largeClusterEndpoints: {
    kind: 'integer',
    default: 1000,
    min: 0,
    max: 4_294_967_295,
    about: 'with more endpoints than this, per-endpoint rules have no comments (a constant in kube-proxy)',
  },
} as const;

/** kube-proxy in iptables mode over either kernel backend. */
export const iptables: Mode<typeof OPTIONS> = {
  name: 'iptables',
  title: 'iptables',
  options: OPTIONS,
  operations: IPTABLES_OPERATIONS,
  formats: ['iptables-restore', 'iptables-save'],
  create: (node, options) => new IptablesProxier(node, options),
};
