import { Buckets, elementBytes, type MapSpec } from './buckets.ts';
import { LruLists } from './lru-lists.ts';

/** No element could be had: ENOMEM. */
export const NO_MEMORY = -1;
/** BPF_NOEXIST was asked for, and the key is there. */
export const EXISTS = -2;

/**
 * BPF_MAP_TYPE_LRU_HASH: a hash map that never fills up, but forgets. Elements are preallocated; every update, also
 * of an existing key, takes a new element first and may evict for it.
 * Source: kernel/bpf/hashtab.c, kernel/bpf/bpf_lru_list.c.
 */
export class LruHashMap {
  readonly spec: MapSpec;
  readonly key: Uint32Array;
  count = 0;
  evictions = 0;

  readonly #buckets: Buckets;
  readonly #lists: LruLists;
  #live = new Uint8Array(64);

  /** @param cpus possible CPUs of the machine: each keeps elements aside. */
  constructor(spec: MapSpec, seed: number, cpus: number) {
    this.spec = spec;
    this.#buckets = new Buckets(spec, seed);
    this.key = this.#buckets.key;
    this.#lists = new LruLists(spec.maxEntries, cpus, (element) => {
      this.#forget(element);
      this.evictions++;
    });
  }

  /** Chain elements that the last operation looked at. */
  get steps(): number {
    return this.#buckets.steps;
  }

  /** Element numbers in use are below this. */
  get used(): number {
    return this.#lists.used;
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

  /** The element now under `key`, its value words undefined; NO_MEMORY, or EXISTS if it must be new and is not. */
  update(cpu: number, mustBeNew = false): number {
    const element = this.#lists.take(cpu);
    if (element < 0) return NO_MEMORY;
    const hash = this.#buckets.hash();
    const old = this.#buckets.find(hash);
    if (old >= 0 && mustBeNew) {
      this.#lists.release(element);
      return EXISTS;
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
