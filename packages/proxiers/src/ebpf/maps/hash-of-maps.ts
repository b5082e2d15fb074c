import { FULL, type MapSpec } from './buckets.ts';
import { HashMap } from './hash-map.ts';

/** An element holds the address of its inner map, whatever size of value was declared for the file descriptor. */
const POINTER_BYTES = 8;

export interface HashOfMapsOptions<Inner> {
  /** Whether a map is like the template that the outer map was made with; another is refused with EINVAL. */
  readonly fits?: (inner: Inner) => boolean;
  /** Without BPF_F_NO_PREALLOC. */
  readonly preallocated?: boolean;
  /** Possible CPUs of the machine. */
  readonly cpus?: number;
}

/**
 * BPF_MAP_TYPE_HASH_OF_MAPS: a hash map whose values are maps. Fill `key`, then call.
 * Programs only read it. A system call that updates or deletes an entry returns when no program can still be using
 * the old inner map: after one RCU grace period, which is milliseconds. Not modelled: batched updates, which wait
 * once for all.
 * Source: kernel/bpf/map_in_map.c, maybe_wait_bpf_programs of kernel/bpf/syscall.c (calls that failed do not wait,
 * since Linux 6.8).
 */
export class HashOfMaps<Inner> {
  readonly key: Uint32Array;
  /** RCU grace periods that system calls have waited for. */
  gracePeriods = 0;
  readonly #outer: HashMap;
  readonly #fits: ((inner: Inner) => boolean) | undefined;
  /** By element of the outer map. */
  readonly #inner: (Inner | undefined)[] = [];

  constructor(spec: MapSpec, seed: number, options: HashOfMapsOptions<Inner> = {}) {
    const { preallocated = false, cpus = 1, fits } = options;
    this.#outer = new HashMap(
      { ...spec, valueBytes: POINTER_BYTES, valueWords: 0 },
      seed,
      preallocated,
      cpus,
    );
    this.#fits = fits;
    this.key = this.#outer.key;
  }

  get spec(): MapSpec {
    return this.#outer.spec;
  }

  get count(): number {
    return this.#outer.count;
  }

  get maxEntries(): number {
    return this.#outer.maxEntries;
  }

  /** Chain elements that the last operation looked at. */
  get steps(): number {
    return this.#outer.steps;
  }

  /** The inner map under `key`. */
  lookup(): Inner | undefined {
    const element = this.#outer.find();
    return element < 0 ? undefined : this.#inner[element];
  }

  /** Put `inner` under `key`, in place of another if there is one. False when the map is full: E2BIG. */
  update(inner: Inner): boolean {
    if (this.#fits?.(inner) === false) {
      throw new RangeError(`an inner map of ${this.spec.name} differs from its template (EINVAL)`);
    }
    const old = this.#outer.find();
    const element = this.#outer.update();
    if (element === FULL) return false;
    if (old >= 0) this.#inner[old] = undefined;
    this.#inner[element] = inner;
    this.gracePeriods++;
    return true;
  }

  /** False when `key` is absent: ENOENT. */
  remove(): boolean {
    const old = this.#outer.find();
    if (!this.#outer.remove()) return false;
    this.#inner[old] = undefined;
    this.gracePeriods++;
    return true;
  }

  /** The inner maps, in the order of BPF_MAP_GET_NEXT_KEY. */
  *inners(): Generator<Inner> {
    for (const element of this.#outer.elements()) yield this.#inner[element]!;
  }

  /** Make the map of more entries. */
  enlarge(maxEntries: number): void {
    this.#outer.enlarge(maxEntries);
  }

  /** Kernel memory of the outer map; inner maps account for themselves. */
  bytes(): number {
    return this.#outer.bytes();
  }
}
