import type { Mode } from '../proxier.ts';
import { Agent } from './agent.ts';
import { EBPF_OPERATIONS } from './operations.ts';

const OPTIONS = {
  lbMapMax: {
    kind: 'integer',
    default: 0,
    min: 0,
    max: 16_777_216,
    about:
      "Entries of each service map (bpf-lb-map-max). 0: as many as the cluster needs, at least 65536; Cilium's own default is 65536, and updates beyond it fail with E2BIG",
  },
  socketLB: {
    kind: 'boolean',
    default: true,
    about: 'Translate at connect() for clients on the node; without it, packet by packet',
  },
  agentOrder: {
    kind: 'choice',
    default: '1.18+',
    choices: ['1.18+', 'pre-1.18'],
    about: 'Order of map operations in an update: orphan backends deleted first (1.18+) or last',
  },
  reflectorWait: {
    kind: 'duration',
    default: 500_000_000,
    about: 'How long the agent gathers events (lb-reflector-wait-time)',
  },
  ctLookups: {
    kind: 'integer',
    default: 1,
    min: 1,
    max: 2,
    about: 'Conntrack lookups of a request packet at its pod: 1, or 2 where both directions are tried',
  },
} as const;

/** Cilium as a replacement of kube-proxy: eBPF programs over maps that its agent writes. */
export const ebpf: Mode<typeof OPTIONS> = {
  name: 'ebpf',
  title: 'eBPF (Cilium)',
  options: OPTIONS,
  operations: EBPF_OPERATIONS,
  formats: ['cilium-lb-list', 'cilium-service-list'],
  create: (node, options) => new Agent(node, options),
};
