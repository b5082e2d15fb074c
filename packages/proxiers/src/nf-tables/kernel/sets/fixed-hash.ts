import { jhash, jhash1 } from '@vipsim/sim-core';
import { INSERT_EXISTS, type ElementWords, type NfSet, type SetDescription } from '../set-backend.ts';
import { LEAVING, LINK, PENDING, roundUpToPowerOfTwo, scaled } from './links.ts';
import type { SetArena } from './set-arena.ts';

/**
 * The hash tables of sets whose size is known: all anonymous ones, and named ones with `size`.
 * Models: buckets as the next power of two above four thirds of the size, for good; the bucket by multiply-high of
 * a seeded jhash (jhash_1word for keys of 4 bytes, "hash_fast"); insertion at the head of the chain.
 * Source: net/netfilter/nft_set_hash.c (nft_hash_buckets, nft_hash_lookup, nft_hash_lookup_fast).
 *
 * All such sets share one arena, so that a hundred thousand small maps cost little more than their words:
 * heads | elements, each: link | key words | data words.
 */

/** Bytes of struct nft_hash and nft_hash_elem (key and data follow): BTF of Linux 6.18, x86-64. */
const TABLE_BYTES = 8;
const ELEMENT_BYTES = 32;
const LINK_BITS = LINK;
const PENDING_BIT = PENDING;
const LEAVING_BIT = LEAVING;

export class FixedHash implements NfSet {
  readonly description: SetDescription;
  readonly keyWords: number;
  readonly dataWords: number;
  count = 0;
  steps = 0;
  readonly buckets: number;
  private readonly arena: SetArena;
  private readonly seed: number;
  private readonly stride: number;
  private base = -1;
  private free = 0;
  private used = 0;

  constructor(description: SetDescription, seed: number, arena: SetArena) {
    this.description = description;
    this.keyWords = (description.keyBytes + 3) >> 2;
    this.dataWords = description.dataWords;
    this.buckets = roundUpToPowerOfTwo(Math.floor((description.size * 4) / 3));
    this.arena = arena;
    // As a small integer, which takes no room of its own.
    this.seed = seed | 0;
    this.stride = 1 + this.keyWords + this.dataWords;
  }

  get backend(): 'hash' | 'hash_fast' {
    return this.description.keyBytes === 4 ? 'hash_fast' : 'hash';
  }

  lookup(registers: Uint32Array, at: number): number {
    if (this.base < 0) return -1;
    const words = this.arena.words;
    const elements = this.base + this.buckets;
    const first = registers[at]! | 0;
    const hash =
      this.keyWords === 1 && this.description.keyBytes === 4
        ? jhash1(first, this.seed)
        : jhash(registers, this.description.keyBytes, this.seed, at);
    let steps = 0;
    let link = words[this.base + scaled(hash, this.buckets)]!;
    while (link !== 0) {
      steps++;
      const base = elements + (link - 1) * this.stride;
      const word = words[base]!;
      if (words[base + 1] === first && (word & PENDING_BIT) === 0 && this.sameRest(registers, at, base + 1)) {
        this.steps = steps;
        return link - 1;
      }
      link = word & LINK_BITS;
    }
    this.steps = steps;
    return -1;
  }

  insert(element: ElementWords): number {
    const found = this.find(element);
    if (found >= 0) return INSERT_EXISTS - found;
    if (this.base < 0) this.base = this.arena.take(this.buckets + this.description.size * this.stride);
    const number = this.free !== 0 ? this.free - 1 : this.used++;
    const base = this.base + this.buckets + number * this.stride;
    const words = this.arena.words;
    if (this.free !== 0) this.free = words[base]!;
    const head = this.bucket(element.words, element.at);
    words[base] = words[head]! | (element.pending ? PENDING_BIT : 0);
    for (let i = 0; i < this.stride - 1; i++) words[base + 1 + i] = element.words[element.at + i]!;
    words[head] = number + 1;
    this.count++;
    return number;
  }

  find(element: ElementWords): number {
    this.steps = 0;
    if (this.base < 0) return -1;
    const words = this.arena.words;
    let link = words[this.bucket(element.words, element.at)]!;
    while (link !== 0) {
      this.steps++;
      const base = this.base + this.buckets + (link - 1) * this.stride;
      const word = words[base]!;
      const found =
        words[base + 1] === (element.words[element.at]! | 0) &&
        this.sameRest(element.words, element.at, base + 1);
      if (found && (word & LEAVING_BIT) === 0) return link - 1;
      link = word & LINK_BITS;
    }
    return -1;
  }

  remove(element: number): void {
    const words = this.arena.words;
    const elements = this.base + this.buckets;
    const base = elements + element * this.stride;
    const next = words[base]! & LINK_BITS;
    const head = this.bucket(words, base + 1);
    let link = words[head]!;
    if (link === element + 1) words[head] = next;
    else {
      let before = elements + (link - 1) * this.stride;
      while ((link = words[before]! & LINK_BITS) !== element + 1)
        before = elements + (link - 1) * this.stride;
      words[before] = (words[before]! & ~LINK_BITS) | next;
    }
    words[base] = this.free;
    this.free = element + 1;
    this.count--;
  }

  setPending(element: number, pending: boolean): void {
    this.setBit(element, PENDING_BIT, pending);
  }

  setLeaving(element: number, leaving: boolean): void {
    this.setBit(element, LEAVING_BIT, leaving);
  }

  isPending(element: number): boolean {
    return (this.arena.words[this.at(element)]! & PENDING_BIT) !== 0;
  }

  isLeaving(element: number): boolean {
    return (this.arena.words[this.at(element)]! & LEAVING_BIT) !== 0;
  }

  key(element: number, word: number): number {
    return this.arena.words[this.at(element) + 1 + word]!;
  }

  keyEnd(element: number, word: number): number {
    return this.key(element, word);
  }

  isIntervalEnd(): boolean {
    return false;
  }

  data(element: number, word: number): number {
    return this.arena.words[this.base + this.buckets + element * this.stride + 1 + this.keyWords + word]!;
  }

  expiresMs(): number {
    return Infinity;
  }

  forEach(visit: (element: number) => void): void {
    if (this.base < 0) return;
    for (let bucket = 0; bucket < this.buckets; bucket++) {
      for (let link = this.arena.words[this.base + bucket]!; link !== 0;) {
        const next = this.arena.words[this.at(link - 1)]! & LINK_BITS;
        visit(link - 1);
        link = next;
      }
    }
  }

  kernelBytes(): number {
    const data = this.description.verdicts ? 16 : 4 * this.dataWords;
    return TABLE_BYTES + 8 * this.buckets + this.count * (ELEMENT_BYTES + 4 * this.keyWords + data);
  }

  /** Give the words back to the arena. */
  destroy(): void {
    if (this.base >= 0) this.arena.give(this.base, this.buckets + this.description.size * this.stride);
    this.base = -1;
    this.count = 0;
    this.free = 0;
    this.used = 0;
  }

  private at(element: number): number {
    return this.base + this.buckets + element * this.stride;
  }

  private bucket(words: Int32Array, at: number): number {
    const hash =
      this.description.keyBytes === 4
        ? jhash1(words[at]!, this.seed)
        : jhash(words, this.description.keyBytes, this.seed, at);
    return this.base + scaled(hash, this.buckets);
  }

  private sameRest(words: Uint32Array | Int32Array, at: number, key: number): boolean {
    for (let i = 1; i < this.keyWords; i++) {
      if (this.arena.words[key + i] !== (words[at + i]! | 0)) return false;
    }
    return true;
  }

  private setBit(element: number, bit: number, on: boolean): void {
    const words = this.arena.words;
    const base = this.at(element);
    words[base] = on ? words[base]! | bit : words[base]! & ~bit;
  }
}
