import { CALICO_OPERATIONS } from '../calico/operations.ts';

/** What Katran's program and library are counted by where Cilium has nothing of the kind. */
const KATRAN_ONLY = [
  // An array read at a place that no cache knows: one position of all rings.
  'ebpf.katran.ring.read',
  // Small arrays: reals, counters, the LRU map of this CPU, the router's address.
  'ebpf.katran.array.lookup',
  // bpf_ktime_get_ns.
  'ebpf.katran.ktime',
  // A position of a ring that the library generates and compares with the old one.
  'ebpf.katran.ring.slot',
  // A position that a batched system call writes.
  'ebpf.katran.batch.entry',
] as const;

/** The mode's operations with those of both variants. */
export const VARIANT_OPERATIONS: readonly string[] = [...CALICO_OPERATIONS, ...KATRAN_ONLY];

const [READ, LOOKUP, KTIME_HELPER, SLOT, ENTRY] = KATRAN_ONLY.map(
  (_, index) => CALICO_OPERATIONS.length + index,
) as [number, number, number, number, number];

export const RING_READ = READ;
export const ARRAY_LOOKUP = LOOKUP;
export const KTIME = KTIME_HELPER;
export const RING_SLOT = SLOT;
export const BATCH_ENTRY = ENTRY;
