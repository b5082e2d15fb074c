import type { Mode } from '../proxier.ts';
import { UserspaceProxier } from './kube-proxy.ts';
import { USERSPACE_OPERATIONS } from './operations.ts';

const OPTIONS = {
  syncPeriod: {
    kind: 'duration',
    default: 30_000_000_000,
    about: 'every rule is checked again this often, by a command each (iptables.syncPeriod)',
  },
  udpIdleTimeout: {
    kind: 'duration',
    default: 250_000_000,
    about: 'a UDP client without traffic for this long loses its socket and its endpoint (udpIdleTimeout)',
  },
  payloadBytes: {
    kind: 'integer',
    default: 1448,
    min: 1,
    max: 65_507,
    about: 'what a packet with data carries for the proxy to copy: packets have no length of their own here',
  },
} as const;

/** kube-proxy --proxy-mode=userspace: the default before Kubernetes 1.2, removed in 1.26. */
export const userspace: Mode<typeof OPTIONS> = {
  name: 'userspace',
  title: 'userspace',
  options: OPTIONS,
  operations: USERSPACE_OPERATIONS,
  formats: ['iptables-save', 'iptables', 'ss'],
  create: (node, options) => new UserspaceProxier(node, options),
};
