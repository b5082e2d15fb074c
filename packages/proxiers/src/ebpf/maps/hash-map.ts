import {
  ABSENT,
  ANY,
  Buckets,
  elementBytes,
  EXIST,
  EXISTS,
  FULL,
  NOEXIST,
  type MapSpec,
  type UpdateFlag,
} from './buckets.ts';
import { ElementCount } from './element-count.ts';
import { FreeLists } from './free-lists.ts';

export { FULL } from './buckets.ts';

/**
 * BPF_MAP_TYPE_HASH. Fill `key`, then `find`, `update` or `remove`; an element's value words are read and written
 * by its number, which holds until its key is updated again or removed.
 * Models: buckets; chain order (the new element goes to the bucket's head, then the old one is unlinked); flags;
 * with preallocation the CPUs' free lists and spare elements, without it the count that decides; E2BIG; memory.
 * Source: kernel/bpf/hashtab.c.
 * Not modelled: EBUSY of nested updates; a reader on another CPU that meets an element which was freed and reused.
 */
export class HashMap {
  readonly spec: MapSpec;
  readonly key: Uint32Array;
  /** bpf-lb-map-max of this map; `enlarge` raises it. */
  maxEntries: number;
  count = 0;

  readonly #buckets: Buckets;
  readonly #cpus: number;
  readonly #free: FreeLists;
  /** With preallocation, each CPU's element for its next replacement: a full map can still be updated. */
  readonly #spares: Int32Array | undefined;
  readonly #counter: ElementCount;

  /**
   * @param seed of the hash; 0 with BPF_F_ZERO_SEED.
   * @param preallocated without BPF_F_NO_PREALLOC: the kernel takes the memory of all elements at once.
   * @param cpus possible CPUs of the machine.
   */
  constructor(spec: MapSpec, seed: number, preallocated = false, cpus = 1) {
    this.spec = spec;
    this.maxEntries = spec.maxEntries;
    this.#cpus = cpus;
    this.#buckets = new Buckets(spec, seed);
    this.key = this.#buckets.key;
    this.#counter = new ElementCount(spec.maxEntries, cpus);
    // Without preallocation elements come from the allocator: one list, and one more while two stand for a key.
    this.#free = preallocated
      ? new FreeLists(spec.maxEntries + cpus, cpus)
      : new FreeLists(spec.maxEntries + 1, 1);
    // The CPU that creates the map takes all the spares, from its own list while that lasts.
    if (preallocated) this.#spares = Int32Array.from({ length: cpus }, () => this.#free.pop(0));
  }

  /** Chain elements that the last operation looked at. */
  get steps(): number {
    return this.#buckets.steps;
  }

  /** Without preallocation: times that a full or nearly full map summed the counts of all CPUs. */
  get countSums(): number {
    return this.#counter.sums;
  }

  /** The element under `key`, or -1. */
  find(): number {
    return this.#buckets.find(this.#buckets.hash());
  }

  /** The element now under `key`, a new one, its value words undefined; else FULL, EXISTS or ABSENT. */
  update(cpu = 0, flag: UpdateFlag = ANY): number {
    const hash = this.#buckets.hash();
    const old = this.#buckets.find(hash);
    if (old >= 0 && flag === NOEXIST) return EXISTS;
    if (old < 0 && flag === EXIST) return ABSENT;
    const element = this.#spares === undefined ? this.#allocate(cpu, old) : this.#takeFree(cpu, old);
    if (element < 0) return FULL;
    this.#buckets.link(element, hash);
    if (old < 0) {
      this.count++;
    } else {
      this.#buckets.unlink(old);
      if (this.#spares === undefined) this.#release(cpu, old);
    }
    return element;
  }

  /** False when `key` is absent: ENOENT. */
  remove(cpu = 0): boolean {
    const element = this.find();
    if (element < 0) return false;
    this.#buckets.unlink(element);
    this.#release(cpu, element);
    this.count--;
    return true;
  }

  /** Elements in use, in the order of BPF_MAP_GET_NEXT_KEY. */
  elements(): Iterable<number> {
    return this.#buckets.elements();
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

  /** The same content in a map of more entries. */
  enlarge(maxEntries: number): void {
    this.#free.add(maxEntries - this.maxEntries);
    this.#counter.enlarge(maxEntries);
    this.maxEntries = maxEntries;
    this.#buckets.resize(maxEntries);
  }

  /** Kernel memory: 16 B a bucket, and every element with the CPUs' spares, or only what lives without preallocation. */
  bytes(): number {
    const elements = this.#spares === undefined ? this.count : this.maxEntries + this.#cpus;
    return this.#buckets.bucketCount * 16 + elements * elementBytes(this.spec);
  }

  /** Bytes that lookups move through: the live elements and a bucket for each. */
  liveBytes(): number {
    return this.count * (elementBytes(this.spec) + 16);
  }

  #takeFree(cpu: number, old: number): number {
    if (old < 0) return this.#free.pop(cpu);
    const spare = this.#spares![cpu]!;
    this.#spares![cpu] = old;
    return spare;
  }

  /** From the memory allocator. The kernel asks whether the map is full before it asks whether it matters. */
  #allocate(cpu: number, old: number): number {
    if (this.#counter.isFull() && old < 0) return FULL;
    this.#counter.add(cpu, 1);
    return this.#free.pop(0);
  }

  #release(cpu: number, element: number): void {
    if (this.#spares === undefined) {
      this.#counter.add(cpu, -1);
      this.#free.push(0, element);
    } else {
      this.#free.push(cpu, element);
    }
  }
}
