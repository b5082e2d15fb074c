import { operationIndex } from '../cost/operations.ts';

/** Everything that the programs and the agent are counted by. */
export const EBPF_OPERATIONS = [
  // Programs: entered at connect(2) or sendto(2); at tc, with parsing, checksums and the way out.
  'ebpf.connect',
  'ebpf.program',
  'ebpf.prandom',
  'ebpf.fib',
  // Maps. `ebpf.map.step`: elements looked at in the hash chains of all of them.
  'ebpf.services.lookup',
  'ebpf.backends.lookup',
  'ebpf.revnat.lookup',
  'ebpf.lxc.lookup',
  'ebpf.ipcache.lookup',
  'ebpf.source_range.lookup',
  'ebpf.reverse_sk.lookup',
  'ebpf.reverse_sk.update',
  'ebpf.ct.lookup',
  'ebpf.ct.update',
  'ebpf.neigh.lookup',
  'ebpf.neigh.update',
  'ebpf.snat.lookup',
  'ebpf.snat.update',
  'ebpf.snat.retries',
  'ebpf.map.step',
  // The agent: its own work by frontend and by listed backend, and bpf(2) by outcome.
  'ebpf.agent.frontend',
  'ebpf.agent.backend',
  'ebpf.syscall.insert',
  'ebpf.syscall.update',
  'ebpf.syscall.delete',
  'ebpf.syscall.missing',
] as const;

const INDEX = operationIndex(EBPF_OPERATIONS);

export const CONNECT = INDEX['ebpf.connect'];
export const PROGRAM = INDEX['ebpf.program'];
export const PRANDOM = INDEX['ebpf.prandom'];
export const FIB = INDEX['ebpf.fib'];
export const SERVICES_LOOKUP = INDEX['ebpf.services.lookup'];
export const BACKENDS_LOOKUP = INDEX['ebpf.backends.lookup'];
export const REVNAT_LOOKUP = INDEX['ebpf.revnat.lookup'];
export const LXC_LOOKUP = INDEX['ebpf.lxc.lookup'];
export const IPCACHE_LOOKUP = INDEX['ebpf.ipcache.lookup'];
export const SOURCE_RANGE_LOOKUP = INDEX['ebpf.source_range.lookup'];
export const REVERSE_SK_LOOKUP = INDEX['ebpf.reverse_sk.lookup'];
export const REVERSE_SK_UPDATE = INDEX['ebpf.reverse_sk.update'];
export const CT_LOOKUP = INDEX['ebpf.ct.lookup'];
export const CT_UPDATE = INDEX['ebpf.ct.update'];
export const NEIGH_LOOKUP = INDEX['ebpf.neigh.lookup'];
export const NEIGH_UPDATE = INDEX['ebpf.neigh.update'];
export const SNAT_LOOKUP = INDEX['ebpf.snat.lookup'];
export const SNAT_UPDATE = INDEX['ebpf.snat.update'];
export const SNAT_RETRIES = INDEX['ebpf.snat.retries'];
export const MAP_STEP = INDEX['ebpf.map.step'];
export const AGENT_FRONTEND = INDEX['ebpf.agent.frontend'];
export const AGENT_BACKEND = INDEX['ebpf.agent.backend'];
export const SYSCALL_INSERT = INDEX['ebpf.syscall.insert'];
export const SYSCALL_UPDATE = INDEX['ebpf.syscall.update'];
export const SYSCALL_DELETE = INDEX['ebpf.syscall.delete'];
export const SYSCALL_MISSING = INDEX['ebpf.syscall.missing'];
