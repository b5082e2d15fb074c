/**
 * Sets and maps of nf_tables: what any backend offers, and which one the kernel picks.
 * Source: net/netfilter/nf_tables_api.c (nft_select_set_ops), the estimate functions of nft_set_*.c.
 */

export type Backend = 'hash_fast' | 'hash' | 'rhash' | 'bitmap' | 'rbtree' | 'pipapo';

/** What userspace tells of a set when it is made. */
export interface SetDescription {
  /** Length of the key as it stands in registers: each part of a concatenation padded to 4 bytes. */
  readonly keyBytes: number;
  /** Words of the data: 0 for a set, 1 for a verdict. */
  readonly dataWords: number;
  /** The data is a verdict (see verdictWord). */
  readonly verdicts: boolean;
  readonly interval: boolean;
  /** Elements may carry timeouts. */
  readonly timeout: boolean;
  /** Rules may add elements: dynset. */
  readonly dynamic: boolean;
  readonly anonymous: boolean;
  /** Most elements; 0 for no limit. Of an anonymous set nft gives the number of its elements. */
  readonly size: number;
  /** Timeout of elements that bring none, in ms; 0 for none. */
  readonly timeoutMs: number;
  /** How often expired elements are looked for, in ms; 0 for the kernel's second. */
  readonly gcIntervalMs: number;
  /** Lengths in bytes of the parts of a concatenation of ranges, not padded; empty otherwise. */
  readonly fields: readonly number[];
}

/** A plain set without any property; spread and change. */
export const PLAIN_SET: SetDescription = {
  keyBytes: 4,
  dataWords: 0,
  verdicts: false,
  interval: false,
  timeout: false,
  dynamic: false,
  anonymous: false,
  size: 0,
  timeoutMs: 0,
  gcIntervalMs: 0,
  fields: [],
};

/** An element to be inserted: `words` from `at` hold the key, then the end of its range if any, then the data. */
export interface ElementWords {
  words: Int32Array;
  at: number;
  /** Virtual time when it expires, in ms; Infinity for never. */
  expiresMs: number;
  /** Its own timeout in ms; 0 for that of the set. */
  timeoutMs: number;
  /** rbtree: this is the end of a range (exclusive). */
  intervalEnd: boolean;
  /** The transaction is not committed: packets do not see the element yet. */
  pending: boolean;
}

/**
 * One set. Elements are named by numbers that hold while the element lives. Within a transaction an element may be
 * *pending* (packets do not see it yet) or *leaving* (packets still see it, the transaction does not).
 */
export interface NfSet {
  readonly backend: Backend;
  readonly description: SetDescription;
  readonly keyWords: number;
  readonly dataWords: number;
  /** Elements of any state, as set->nelems counts them. */
  readonly count: number;
  /** What the last lookup or insertion met: elements compared, levels of a tree, words of bitmaps. */
  steps: number;
  /** The element that the packet's generation holds for the key in registers from `at`; -1 if none. */
  lookup(registers: Uint32Array, at: number, nowMs: number): number;
  /** The element's number; INSERT_EXISTS - number of an equal one; or INSERT_CLASH (ranges overlap). */
  insert(element: ElementWords, nowMs: number): number;
  /** The transaction's element with exactly this key; -1 if none. */
  find(element: ElementWords, nowMs: number): number;
  /** Take it out, whatever its state. */
  remove(element: number): void;
  /** Mark it pending or not. */
  setPending(element: number, pending: boolean): void;
  setLeaving(element: number, leaving: boolean): void;
  isPending(element: number): boolean;
  isLeaving(element: number): boolean;
  key(element: number, word: number): number;
  /** End of the range of an element, where the backend keeps one (pipapo); the key itself otherwise. */
  keyEnd(element: number, word: number): number;
  isIntervalEnd(element: number): boolean;
  data(element: number, word: number): number;
  /** Infinity for never. */
  expiresMs(element: number): number;
  /** In the order in which the kernel walks the set. */
  forEach(visit: (element: number) => void): void;
  /** Bytes of the kernel's structure and its elements. */
  kernelBytes(): number;
}

/** insert() answers at or below this when an equal element exists: its number is INSERT_EXISTS - answer. */
export const INSERT_EXISTS = -1;
/** The range overlaps another one (ENOTEMPTY). */
export const INSERT_CLASH = -2147483648;

/** Lookup classes of nft_set_estimate; the lowest wins, then the lowest class of space, then the first listed. */
const O_1 = 0;
const O_LOG_N = 1;
const O_N = 2;

interface Candidate {
  readonly backend: Backend;
  readonly lookup: number;
  readonly space: number;
  fits(set: SetDescription): boolean;
}

const plain = (set: SetDescription): boolean => !set.interval && !set.timeout && !set.dynamic;

/** In the kernel's order of registration. */
const CANDIDATES: readonly Candidate[] = [
  {
    backend: 'hash_fast',
    lookup: O_1,
    space: O_N,
    fits: (set) => plain(set) && set.size > 0 && set.keyBytes === 4,
  },
  {
    backend: 'hash',
    lookup: O_1,
    space: O_N,
    fits: (set) => plain(set) && set.size > 0 && set.keyBytes !== 4,
  },
  { backend: 'rhash', lookup: O_1, space: O_N, fits: (set) => !set.interval },
  {
    backend: 'bitmap',
    lookup: O_1,
    space: O_1,
    fits: (set) => plain(set) && set.dataWords === 0 && set.keyBytes <= 2,
  },
  {
    backend: 'rbtree',
    lookup: O_LOG_N,
    space: O_N,
    fits: (set) => !set.dynamic && set.fields.length <= 1,
  },
  {
    backend: 'pipapo',
    lookup: O_LOG_N,
    space: O_N,
    fits: (set) => set.interval && !set.dynamic && set.fields.length >= 1,
  },
];

/** The backend for a set, under the policy "performance"; undefined where the kernel says EOPNOTSUPP. */
export function chooseBackend(set: SetDescription): Backend | undefined {
  let best: Candidate | undefined;
  for (const candidate of CANDIDATES) {
    if (!candidate.fits(set)) continue;
    const better =
      best === undefined ||
      candidate.lookup < best.lookup ||
      (candidate.lookup === best.lookup && candidate.space < best.space);
    if (better) best = candidate;
  }
  return best?.backend;
}
