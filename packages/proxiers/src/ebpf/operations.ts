import { operationIndex } from '../cost/operations.ts';

/** Everything that the programs and the agent are counted by. */
export const EBPF_OPERATIONS = [
  // Programs: entered at a socket's system calls; at tc or XDP, with parsing, checksums and the way out.
  'ebpf.connect',
  'ebpf.sendmsg',
  'ebpf.recvmsg',
  'ebpf.getpeername',
  'ebpf.program',
  'ebpf.xdp',
  'ebpf.prandom',
  'ebpf.fib',
  // An IP option or outer header that carries the service's address to the backend's node (DSR).
  'ebpf.dsr.dispatch',
  // A perf event that wakes the agent's sweep.
  'ebpf.signal',
  // Maps. `ebpf.map.step`: elements looked at in the hash chains of all of them; `ebpf.trie.step`: nodes of tries.
  'ebpf.services.lookup',
  'ebpf.backends.lookup',
  'ebpf.revnat.lookup',
  'ebpf.lxc.lookup',
  'ebpf.ipcache.lookup',
  'ebpf.source_range.lookup',
  // The outer map, then the hash and the one value of the inner array.
  'ebpf.maglev.lookup',
  'ebpf.maglev.read',
  'ebpf.affinity_match.lookup',
  'ebpf.affinity.lookup',
  'ebpf.affinity.update',
  'ebpf.affinity.delete',
  'ebpf.reverse_sk.lookup',
  'ebpf.reverse_sk.update',
  'ebpf.reverse_sk.delete',
  'ebpf.ct.lookup',
  'ebpf.ct.update',
  'ebpf.neigh.lookup',
  'ebpf.neigh.update',
  'ebpf.snat.lookup',
  'ebpf.snat.update',
  'ebpf.snat.delete',
  'ebpf.snat.retries',
  'ebpf.map.step',
  'ebpf.trie.step',
  // The agent: its own work by frontend and by listed backend, entries that its sweep dumps, and bpf(2) by outcome.
  'ebpf.agent.frontend',
  'ebpf.agent.backend',
  'ebpf.gc.entry',
  'ebpf.syscall.lookup',
  'ebpf.syscall.insert',
  'ebpf.syscall.update',
  'ebpf.syscall.delete',
  'ebpf.syscall.missing',
] as const;

const INDEX = operationIndex(EBPF_OPERATIONS);

export const CONNECT = INDEX['ebpf.connect'];
export const SENDMSG = INDEX['ebpf.sendmsg'];
export const RECVMSG = INDEX['ebpf.recvmsg'];
export const GETPEERNAME = INDEX['ebpf.getpeername'];
export const PROGRAM = INDEX['ebpf.program'];
export const XDP = INDEX['ebpf.xdp'];
export const PRANDOM = INDEX['ebpf.prandom'];
export const FIB = INDEX['ebpf.fib'];
export const DSR_DISPATCH = INDEX['ebpf.dsr.dispatch'];
export const SIGNAL = INDEX['ebpf.signal'];
export const SERVICES_LOOKUP = INDEX['ebpf.services.lookup'];
export const BACKENDS_LOOKUP = INDEX['ebpf.backends.lookup'];
export const REVNAT_LOOKUP = INDEX['ebpf.revnat.lookup'];
export const LXC_LOOKUP = INDEX['ebpf.lxc.lookup'];
export const IPCACHE_LOOKUP = INDEX['ebpf.ipcache.lookup'];
export const SOURCE_RANGE_LOOKUP = INDEX['ebpf.source_range.lookup'];
export const MAGLEV_LOOKUP = INDEX['ebpf.maglev.lookup'];
export const MAGLEV_READ = INDEX['ebpf.maglev.read'];
export const AFFINITY_MATCH_LOOKUP = INDEX['ebpf.affinity_match.lookup'];
export const AFFINITY_LOOKUP = INDEX['ebpf.affinity.lookup'];
export const AFFINITY_UPDATE = INDEX['ebpf.affinity.update'];
export const AFFINITY_DELETE = INDEX['ebpf.affinity.delete'];
export const REVERSE_SK_LOOKUP = INDEX['ebpf.reverse_sk.lookup'];
export const REVERSE_SK_UPDATE = INDEX['ebpf.reverse_sk.update'];
export const REVERSE_SK_DELETE = INDEX['ebpf.reverse_sk.delete'];
export const CT_LOOKUP = INDEX['ebpf.ct.lookup'];
export const CT_UPDATE = INDEX['ebpf.ct.update'];
export const NEIGH_LOOKUP = INDEX['ebpf.neigh.lookup'];
export const NEIGH_UPDATE = INDEX['ebpf.neigh.update'];
export const SNAT_LOOKUP = INDEX['ebpf.snat.lookup'];
export const SNAT_UPDATE = INDEX['ebpf.snat.update'];
export const SNAT_DELETE = INDEX['ebpf.snat.delete'];
export const SNAT_RETRIES = INDEX['ebpf.snat.retries'];
export const MAP_STEP = INDEX['ebpf.map.step'];
export const TRIE_STEP = INDEX['ebpf.trie.step'];
export const AGENT_FRONTEND = INDEX['ebpf.agent.frontend'];
export const AGENT_BACKEND = INDEX['ebpf.agent.backend'];
export const GC_ENTRY = INDEX['ebpf.gc.entry'];
export const SYSCALL_LOOKUP = INDEX['ebpf.syscall.lookup'];
export const SYSCALL_INSERT = INDEX['ebpf.syscall.insert'];
export const SYSCALL_UPDATE = INDEX['ebpf.syscall.update'];
export const SYSCALL_DELETE = INDEX['ebpf.syscall.delete'];
export const SYSCALL_MISSING = INDEX['ebpf.syscall.missing'];
