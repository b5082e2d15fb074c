import { Buckets, elementBytes, type MapSpec } from './buckets.ts';

/** The map is full: E2BIG of bpf(2). */
export const FULL = -1;

/**
 * BPF_MAP_TYPE_HASH. Fill `key`, then `find`, `update` or `remove`; an element's value words are read and written
 * by its number, which holds until the element is removed.
 * Models: buckets, chain order (insert and replace put the element at the head), E2BIG, memory.
 * Source: kernel/bpf/hashtab.c. Not modelled: the spare elements of preallocated maps, EBUSY of nested updates.
 */
export class HashMap {
  readonly spec: MapSpec;
  readonly key: Uint32Array;
  /** bpf-lb-map-max of this map; `enlarge` raises it. */
  maxEntries: number;
  count = 0;

  readonly #buckets: Buckets;
  readonly #preallocated: boolean;
  #free: number[] = [];
  #used = 0;

  /** @param preallocated without BPF_F_NO_PREALLOC: the memory of all elements is taken at once. */
  constructor(spec: MapSpec, seed: number, preallocated = false) {
    this.spec = spec;
    this.maxEntries = spec.maxEntries;
    this.#preallocated = preallocated;
    this.#buckets = new Buckets(spec, seed);
    this.key = this.#buckets.key;
  }

  /** Chain elements that the last operation looked at. */
  get steps(): number {
    return this.#buckets.steps;
  }

  /** The element under `key`, or -1. */
  find(): number {
    return this.#buckets.find(this.#buckets.hash());
  }

  /** The element now under `key`, new (its value words undefined) or replaced; FULL when there is no room. */
  update(): number {
    const hash = this.#buckets.hash();
    const found = this.#buckets.find(hash);
    if (found >= 0) {
      this.#buckets.relink(found);
      return found;
    }
    if (this.count >= this.maxEntries) return FULL;
    const element = this.#free.pop() ?? this.#used++;
    this.#buckets.link(element, hash);
    this.count++;
    return element;
  }

  /** False when `key` is absent: ENOENT. */
  remove(): boolean {
    const element = this.find();
    if (element < 0) return false;
    this.#buckets.unlink(element);
    this.#free.push(element);
    this.count--;
    return true;
  }

  value(element: number, word: number): number {
    return this.#buckets.value(element, word);
  }

  setValue(element: number, word: number, value: number): void {
    this.#buckets.setValue(element, word, value);
  }

  /** The same content in a map of more entries. */
  enlarge(maxEntries: number): void {
    this.maxEntries = maxEntries;
    this.#buckets.resize(maxEntries);
  }

  /** Kernel memory: 16 B a bucket, and every element, or only the live ones without preallocation. */
  bytes(): number {
    const elements = this.#preallocated ? this.maxEntries : this.count;
    return this.#buckets.bucketCount * 16 + elements * elementBytes(this.spec);
  }

  /** Bytes that lookups move through: the live elements and a bucket for each. */
  liveBytes(): number {
    return this.count * (elementBytes(this.spec) + 16);
  }
}
