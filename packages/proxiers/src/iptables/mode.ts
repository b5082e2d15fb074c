import { DETECT_LOCAL_OPTIONS } from '../netfilter/detect-local.ts';
import type { Mode } from '../proxier.ts';
import { IptablesProxier } from './kube-proxy.ts';
import { IPTABLES_OPERATIONS } from './operations.ts';
import { wantedCidrs } from './ruleset-options.ts';

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
  lockHeld: {
    kind: 'duration',
    default: 0,
    about:
      'another program keeps /run/xtables.lock this long, each time (legacy backend); kube-proxy waits up to 5s',
  },
  lockEvery: {
    kind: 'duration',
    default: 10_000_000_000,
    about: 'how often that program takes the lock',
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
    about: 'bit of the packet mark that asks for masquerading (iptables.masqueradeBit)',
  },
  randomFully: {
    kind: 'boolean',
    default: true,
    about: 'masquerade with --random-fully, as kube-proxy does with iptables 1.6.2 or newer',
  },
  localhostNodePorts: {
    kind: 'boolean',
    default: true,
    about: 'serve NodePorts on 127.0.0.0/8, too (iptables.localhostNodePorts)',
  },
  nodePortAddresses: {
    kind: 'text',
    default: '',
    wanted: wantedCidrs,
    about:
      'CIDRs, with commas between: only addresses of the node in them serve NodePorts; primary: its own one; all if empty',
  },
  ...DETECT_LOCAL_OPTIONS,
  nfacct: {
    kind: 'boolean',
    default: false,
    about: 'the kernel has nfnetlink_acct, so two kinds of rules carry its counters',
  },
  snatNodeInternalIP: {
    kind: 'boolean',
    default: false,
    about: "SNAT to the node's address in place of MASQUERADE (iptables.snatNodeInternalIP)",
  },
  tcpBeLiberal: {
    kind: 'boolean',
    default: false,
    about: 'nf_conntrack_tcp_be_liberal is set (conntrack.tcpBeLiberal): no rule drops INVALID packets',
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
  ipv6: true,
  create: (node, options) => new IptablesProxier(node, options),
};
