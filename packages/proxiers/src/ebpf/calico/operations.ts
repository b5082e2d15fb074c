import { MODE_OPERATIONS } from '../agent/operations.ts';

/** What Calico's programs and its syncer are counted by where Cilium has nothing of the kind. */
const CALICO_ONLY = [
  // The frontend map is a trie: one walk, whose nodes are `ebpf.trie.step`.
  'ebpf.calico.frontend.lookup',
  // One entry of a Maglev table, which is an entry of a hash map.
  'ebpf.calico.maglev.lookup',
  // A program deletes a connection that is being reused.
  'ebpf.calico.ct.delete',
  // An entry of the wanted state, which the syncer builds anew, whole, for every sync.
  'ebpf.calico.desired',
] as const;

/** The mode's operations, then Calico's own. */
export const CALICO_OPERATIONS: readonly string[] = [...MODE_OPERATIONS, ...CALICO_ONLY];

const [LOOKUP, MAGLEV, DELETE, WANTED] = CALICO_ONLY.map((_, index) => MODE_OPERATIONS.length + index) as [
  number,
  number,
  number,
  number,
];

export const FRONTEND_LOOKUP = LOOKUP;
export const MAGLEV_LOOKUP = MAGLEV;
export const CT_DELETE = DELETE;
export const DESIRED = WANTED;
