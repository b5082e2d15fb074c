import type { Mode } from '../proxier.ts';
import { MODE_OPERATIONS } from './agent-operations.ts';
import { Agent } from './agent.ts';
import { NATIVE_FORMATS } from './native-text.ts';
import { EBPF_OPTIONS } from './options.ts';

/** Cilium as a replacement of kube-proxy: eBPF programs over maps that its agent writes. */
export const ebpf: Mode<typeof EBPF_OPTIONS> = {
  name: 'ebpf',
  title: 'eBPF (Cilium)',
  options: EBPF_OPTIONS,
  operations: MODE_OPERATIONS,
  formats: NATIVE_FORMATS,
  create: (node, options) => new Agent(node, options),
};
