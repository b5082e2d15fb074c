import {
  ABSENT,
  ANY,
  Buckets,
  elementBytes,
  EXIST,
  EXISTS,
  NOEXIST,
  type MapSpec,
  type UpdateFlag,
} from './buckets.ts';
import { LruLists } from './lru-lists.ts';
import { PerCpuLruLists } from './per-cpu-lru-lists.ts';

export { EXISTS } from './buckets.ts';

/** No element could be had: ENOMEM. */
export const NO_MEMORY = -1;

export interface LruOptions {
  /** BPF_F_NO_COMMON_LRU: a list of its own for each CPU; the size is rounded up to a multiple of the CPUs. */
  readonly perCpu?: boolean;
  /** Elements that a CPU takes aside at a time: 128 in Linux 6.1, else fitted to the size. */
  readonly batch?: number;
}

/**
 * BPF_MAP_TYPE_LRU_HASH: a hash map that never fills up, but forgets. Elements are preallocated; every update, also
 * of an existing key, takes a new element first and may evict for it, even if the flag then forbids the update.
 * Source: kernel/bpf/hashtab.c, kernel/bpf/bpf_lru_list.c.
 */
export class LruHashMap {
  readonly spec: MapSpec;
  readonly key: Uint32Array;
  count = 0;
  /** Elements that were in use and had to go. */
  evictions = 0;
  /** Of these, the ones that went because a scan found nothing better. */
  forcedEvictions = 0;
  /** Updates that failed for want of an element: ENOMEM. It takes writers that overlap; one at a time always get one. */
  failures = 0;

  readonly #buckets: Buckets;
  readonly #lists: LruLists | PerCpuLruLists;
  #live = new Uint8Array(64);

  /** @param seed of the hash; 0 with BPF_F_ZERO_SEED. @param cpus possible CPUs of the machine: each keeps elements aside. */
  constructor(spec: MapSpec, seed: number, cpus: number, { perCpu = false, batch }: LruOptions = {}) {
    this.spec = perCpu ? { ...spec, maxEntries: Math.ceil(spec.maxEntries / cpus) * cpus } : spec;
    this.#buckets = new Buckets(this.spec, seed);
    this.key = this.#buckets.key;
    const { maxEntries } = this.spec;
    const evict = (element: number, forced: boolean): void => {
      this.#forget(element);
      this.evictions++;
      if (forced) this.forcedEvictions++;
    };
    this.#lists = perCpu
      ? new PerCpuLruLists(maxEntries, cpus, evict)
      : new LruLists(maxEntries, cpus, evict, batch);
  }

  /** Entries that the map is sized for; it forgets before it holds as many. */
  get maxEntries(): number {
    return this.spec.maxEntries;
  }

  /** Chain elements that the last operation looked at. */
  get steps(): number {
    return this.#buckets.steps;
  }

  /** Element numbers in use are below this. */
  get used(): number {
    return this.#lists.used;
  }

  /** Elements had from what some CPU kept aside, because the common lists gave none. */
  get steals(): number {
    return this.#lists.steals;
  }

  /** The element under `key`, or -1, as a system call sees it: no trace is left. */
  find(): number {
    return this.#buckets.find(this.#buckets.hash());
  }

  /** The element under `key`, or -1, as a program looks it up: it counts as used. */
  lookup(): number {
    const element = this.find();
    if (element >= 0) this.#lists.reference(element);
    return element;
  }

  /**
   * The element now under `key`, its value words undefined; else NO_MEMORY, EXISTS or ABSENT.
   * @param cpu whose lists give the element. @param flag true is NOEXIST.
   */
  update(cpu: number, flag: UpdateFlag | boolean = ANY): number {
    const element = this.#lists.take(cpu);
    if (element < 0) {
      this.failures++;
      return NO_MEMORY;
    }
    const hash = this.#buckets.hash();
    const old = this.#buckets.find(hash);
    if (old < 0 ? flag === EXIST : flag === NOEXIST || flag === true) {
      this.#lists.release(element);
      return old < 0 ? ABSENT : EXISTS;
    }
    this.#buckets.link(element, hash);
    this.#setLive(element);
    this.count++;
    if (old >= 0) {
      this.#lists.reference(element);
      this.#forget(old);
      this.#lists.release(old);
    }
    return element;
  }

  /** False when `key` is absent: ENOENT. */
  remove(): boolean {
    const element = this.find();
    if (element < 0) return false;
    this.#forget(element);
    this.#lists.release(element);
    return true;
  }

  /** Elements in use, in the order of BPF_MAP_GET_NEXT_KEY. */
  elements(): Iterable<number> {
    return this.#buckets.elements();
  }

  /** Whether an element number below `used` holds an entry. */
  live(element: number): boolean {
    return this.#live[element] === 1;
  }

  /** Which list an element is on. */
  where(element: number): ReturnType<LruLists['where']> {
    return this.#lists.where(element);
  }

  /** Make the key of `element` the key of the next operation. */
  loadKey(element: number): void {
    for (let word = 0; word < this.key.length; word++) this.key[word] = this.#buckets.keyWord(element, word);
  }

  keyWord(element: number, word: number): number {
    return this.#buckets.keyWord(element, word);
  }

  value(element: number, word: number): number {
    return this.#buckets.value(element, word);
  }

  setValue(element: number, word: number, value: number): void {
    this.#buckets.setValue(element, word, value);
  }

  /** Kernel memory: buckets and all elements, used or not. */
  bytes(): number {
    return this.#buckets.bucketCount * 16 + this.spec.maxEntries * elementBytes(this.spec);
  }

  /** Bytes that lookups move through: the live elements and a bucket for each. */
  liveBytes(): number {
    return this.count * (elementBytes(this.spec) + 16);
  }

  #forget(element: number): void {
    this.#buckets.unlink(element);
    this.#live[element] = 0;
    this.count--;
  }

  #setLive(element: number): void {
    if (element >= this.#live.length) {
      const wider = new Uint8Array(Math.max(this.#live.length * 2, element + 1));
      wider.set(this.#live);
      this.#live = wider;
    }
    this.#live[element] = 1;
  }
}
