import { longer, jhash } from '@vipsim/sim-core';

const NONE = -1;

/** No element could be had: E2BIG of a hash map, ENOSPC of a trie, ENOMEM of an LRU map. */
export const FULL = -1;
/** NOEXIST was asked for, and the key is there: EEXIST. */
export const EXISTS = -2;
/** EXIST was asked for, and the key is not there: ENOENT. */
export const ABSENT = -3;

/** Flags of an update: BPF_ANY, BPF_NOEXIST, BPF_EXIST of include/uapi/linux/bpf.h. */
export const ANY = 0;
export const NOEXIST = 1;
export const EXIST = 2;
export type UpdateFlag = typeof ANY | typeof NOEXIST | typeof EXIST;

/** Sizes of a map's entries. Words are 32 bits, the little-endian reading of the bytes as the kernel lays them out. */
export interface MapSpec {
  readonly name: string;
  readonly keyBytes: number;
  readonly valueBytes: number;
  /** Words of each value that the model keeps; may differ from the kernel's `valueBytes`. */
  readonly valueWords: number;
  readonly maxEntries: number;
}

/** roundup_pow2 of the kernel. */
export function nextPowerOfTwo(entries: number): number {
  let power = 1;
  while (power < entries) power *= 2;
  return power;
}

/** Bytes of one element: 48 of list, hash and LRU or RCU heads, then key and value, each rounded up to 8. */
export function elementBytes(spec: MapSpec): number {
  return 48 + Math.ceil(spec.keyBytes / 8) * 8 + Math.ceil(spec.valueBytes / 8) * 8;
}

/**
 * The chains that the kernel's hash and LRU hash maps share: elements in columns, linked into buckets at the head.
 * Models: bucket = jhash(key, length, seed) & (buckets − 1); the whole hash is kept and compared before the key.
 * A seed of 0 is what BPF_F_ZERO_SEED gives.
 * Source: kernel/bpf/hashtab.c. Not modelled: bucket locks, per-CPU values, the nulls list's restart.
 */
export class Buckets {
  readonly spec: MapSpec;
  /** The key of the next operation: fill it, then call. */
  readonly key: Uint32Array;
  /** Elements looked at by the last `find`. */
  steps = 0;

  readonly #seed: number;
  readonly #keyWords: number;
  readonly #valueWords: number;
  // First element + 1: an untouched page of zeros is empty buckets, and costs nothing until something is linked.
  #heads: Int32Array;
  #keys: Uint32Array;
  #values: Uint32Array;
  #hashes: Int32Array;
  #next: Int32Array;

  constructor(spec: MapSpec, seed: number) {
    this.spec = spec;
    this.#seed = seed;
    this.#keyWords = Math.ceil(spec.keyBytes / 4);
    this.#valueWords = spec.valueWords;
    this.key = new Uint32Array(this.#keyWords);
    this.#heads = new Int32Array(nextPowerOfTwo(spec.maxEntries));
    const capacity = Math.min(64, spec.maxEntries);
    this.#keys = new Uint32Array(capacity * this.#keyWords);
    this.#values = new Uint32Array(capacity * this.#valueWords);
    this.#hashes = new Int32Array(capacity);
    this.#next = new Int32Array(capacity);
  }

  get bucketCount(): number {
    return this.#heads.length;
  }

  /** Hash of `key`. */
  hash(): number {
    return jhash(this.key, this.spec.keyBytes, this.#seed) | 0;
  }

  /** The element under `key`, or -1. */
  find(hash: number): number {
    const hashes = this.#hashes;
    let element = this.#heads[hash & (this.#heads.length - 1)]! - 1;
    let steps = 0;
    while (element !== NONE) {
      steps++;
      if (hashes[element] === hash && this.#sameKey(element)) break;
      element = this.#next[element]!;
    }
    this.steps = steps;
    return element;
  }

  /** Store `key` in `element` and put it at the head of its bucket. Its value words are left as they are. */
  link(element: number, hash: number): void {
    if (element >= this.#next.length) this.#grow(element + 1);
    const bucket = hash & (this.#heads.length - 1);
    const from = element * this.#keyWords;
    for (let word = 0; word < this.#keyWords; word++) this.#keys[from + word] = this.key[word]!;
    this.#hashes[element] = hash;
    this.#next[element] = this.#heads[bucket]! - 1;
    this.#heads[bucket] = element + 1;
  }

  unlink(element: number): void {
    const next = this.#next;
    const bucket = this.#hashes[element]! & (this.#heads.length - 1);
    let at = this.#heads[bucket]! - 1;
    if (at === element) {
      this.#heads[bucket] = next[element]! + 1;
      return;
    }
    while (next[at] !== element) at = next[at]!;
    next[at] = next[element]!;
  }

  /** Linked elements as BPF_MAP_GET_NEXT_KEY goes through them: by bucket, each from its head. */
  *elements(): Generator<number> {
    for (let bucket = 0; bucket < this.#heads.length; bucket++) {
      let element = this.#heads[bucket]! - 1;
      for (; element !== NONE; element = this.#next[element]!) yield element;
    }
  }

  keyWord(element: number, word: number): number {
    return this.#keys[element * this.#keyWords + word]!;
  }

  value(element: number, word: number): number {
    return this.#values[element * this.#valueWords + word]!;
  }

  setValue(element: number, word: number, value: number): void {
    this.#values[element * this.#valueWords + word] = value;
  }

  /** Spread the linked elements over the buckets of a map of `maxEntries`: a new map with the old one's content. */
  resize(maxEntries: number): void {
    const old = this.#heads;
    this.#heads = new Int32Array(nextPowerOfTwo(maxEntries));
    const mask = this.#heads.length - 1;
    for (let bucket = 0; bucket < old.length; bucket++) {
      for (let element = old[bucket]! - 1; element !== NONE;) {
        const following = this.#next[element]!;
        const to = this.#hashes[element]! & mask;
        this.#next[element] = this.#heads[to]! - 1;
        this.#heads[to] = element + 1;
        element = following;
      }
    }
  }

  #sameKey(element: number): boolean {
    const from = element * this.#keyWords;
    for (let word = 0; word < this.#keyWords; word++) {
      if (this.#keys[from + word] !== this.key[word]) return false;
    }
    return true;
  }

  #grow(needed: number): void {
    const capacity = nextPowerOfTwo(needed);
    this.#keys = longer(this.#keys, capacity * this.#keyWords);
    this.#values = longer(this.#values, capacity * this.#valueWords);
    this.#hashes = longer(this.#hashes, capacity);
    this.#next = longer(this.#next, capacity);
  }
}
