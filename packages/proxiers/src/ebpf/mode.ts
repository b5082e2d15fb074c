import type { Mode } from '../proxier.ts';
import { Agent } from './agent/agent.ts';
import { CALICO_FORMATS } from './calico/nat-dump.ts';
import { CalicoProxier } from './calico/proxier.ts';
import { KATRAN_FORMATS, KatranBalancer } from './katran/balancer.ts';
import { VARIANT_OPERATIONS } from './katran/operations.ts';
import { NATIVE_FORMATS } from './listings/formats.ts';
import { EBPF_OPTIONS } from './agent/options.ts';

/** eBPF programs over maps that an agent writes: Cilium in place of kube-proxy; Calico and Katran as variants. */
export const ebpf: Mode<typeof EBPF_OPTIONS> = {
  name: 'ebpf',
  title: 'eBPF (Cilium)',
  options: EBPF_OPTIONS,
  operations: VARIANT_OPERATIONS,
  formats: [...NATIVE_FORMATS, ...CALICO_FORMATS, ...KATRAN_FORMATS],
  create: (node, options) => {
    switch (options.variant) {
      case 'cilium':
        return new Agent(node, options);
      case 'calico':
        return new CalicoProxier(node, options);
      case 'katran':
        return new KatranBalancer(node);
    }
  },
};
