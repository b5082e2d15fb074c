import { EBPF_OPERATIONS } from '../operations.ts';

/** What the agent is counted by besides its system calls and frontends. */
const AGENT_ONLY = [
  // A Maglev table: positions of all permutations, probes of the filling loop, and its way into the kernel.
  'ebpf.maglev.permutation',
  'ebpf.maglev.probe',
  'ebpf.maglev.create',
  'ebpf.maglev.fill',
  'ebpf.maglev.swap',
  // The job that ends UDP sockets of backends that are gone: a dump of the node's sockets for each.
  'ebpf.terminate.walk',
] as const;

/** Operations of both halves: the programs' and maps', then the agent's own. */
export const MODE_OPERATIONS: readonly string[] = [...EBPF_OPERATIONS, ...AGENT_ONLY];

const [PERMUTATION, PROBE, CREATE, FILL, SWAP, WALK] = AGENT_ONLY.map(
  (_, index) => EBPF_OPERATIONS.length + index,
) as [number, number, number, number, number, number];

export const MAGLEV_PERMUTATION = PERMUTATION;
export const MAGLEV_PROBE = PROBE;
export const MAGLEV_CREATE = CREATE;
/** By 64 KiB written. */
export const MAGLEV_FILL = FILL;
export const MAGLEV_SWAP = SWAP;
export const TERMINATE_WALK = WALK;
