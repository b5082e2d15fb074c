import { longer } from '@vipsim/sim-core';
import {
  INSERT_CLASH,
  INSERT_EXISTS,
  type ElementWords,
  type NfSet,
  type SetDescription,
} from '../set-backend.ts';
import { compareKeys } from './key-order.ts';
import { LEAVING, PENDING } from './links.ts';
import { RedBlackTree } from './red-black-tree.ts';

/**
 * Sets of ranges of one field.
 * Models: a red-black tree of the ranges' starts and ends, greater keys to the left; a lookup that remembers the
 * last smaller one on its way down; ranges that overlap are refused.
 * Source: net/netfilter/nft_set_rbtree.c.
 * Not modelled: collection of expired ranges at insertion; the sorted array of Linux 7.0, searched in halves.
 *
 * Element: state | key words | data words, its number is that of its node less one.
 */

/** Bytes of struct nft_rbtree_elem (key and data follow): BTF of Linux 6.18, x86-64. */
const ELEMENT_BYTES = 40;
const END = 1;

export class RangeTree implements NfSet {
  readonly backend = 'rbtree';
  readonly description: SetDescription;
  readonly keyWords: number;
  readonly dataWords: number;
  count = 0;
  steps = 0;
  readonly #tree = new RedBlackTree();
  readonly #stride: number;
  #words: Int32Array;
  #expiry: Float64Array | undefined;
  #free: number[] = [];
  #used = 0;

  constructor(description: SetDescription) {
    this.description = description;
    this.keyWords = (description.keyBytes + 3) >> 2;
    this.dataWords = description.dataWords;
    this.#stride = 1 + this.keyWords + this.dataWords;
    this.#words = new Int32Array(8 * this.#stride);
  }

  lookup(registers: Uint32Array, at: number, nowMs: number): number {
    const tree = this.#tree;
    let steps = 0;
    let interval = 0;
    let node = tree.root;
    while (node !== 0) {
      steps++;
      const difference = this.#compare(node, registers, at);
      if (difference < 0) {
        // Of an end and a start at the same key, the start counts.
        if (!(interval !== 0 && this.#isEnd(node) && !this.#isEnd(interval) && this.#equal(node, interval))) {
          interval = node;
        }
        node = tree.left[node]!;
      } else if (difference > 0) node = tree.right[node]!;
      else if (this.isPending(node - 1)) node = tree.left[node]!;
      else if (this.expiresMs(node - 1) <= nowMs) {
        interval = 0;
        break;
      } else if (this.#isEnd(node)) {
        interval = 0;
        if (this.description.anonymous) break;
        node = tree.left[node]!;
      } else {
        interval = node;
        break;
      }
    }
    this.steps = steps;
    const hit = interval !== 0 && !this.isPending(interval - 1) && !this.#isEnd(interval);
    return hit && this.expiresMs(interval - 1) > nowMs ? interval - 1 : -1;
  }

  insert(element: ElementWords): number {
    const clash = this.#overlap(element);
    if (clash !== 0) return clash;
    const number = this.#free.pop() ?? this.#used++;
    this.#store(number, element);
    const tree = this.#tree;
    tree.reserve(number + 2);
    let parent = 0;
    let onLeft = false;
    for (let node = tree.root; node !== 0; node = onLeft ? tree.left[node]! : tree.right[node]!) {
      parent = node;
      const difference = this.#compare(node, element.words, element.at);
      onLeft = difference < 0 || (difference === 0 && this.#isEnd(node));
    }
    tree.link(number + 1, parent, onLeft);
    this.count++;
    return number;
  }

  find(element: ElementWords): number {
    const tree = this.#tree;
    this.steps = 0;
    let node = tree.root;
    while (node !== 0) {
      this.steps++;
      const difference = this.#compare(node, element.words, element.at);
      if (difference < 0) node = tree.left[node]!;
      else if (difference > 0) node = tree.right[node]!;
      else if (this.#isEnd(node) === element.intervalEnd && !this.isLeaving(node - 1)) return node - 1;
      else node = this.#isEnd(node) && !element.intervalEnd ? tree.left[node]! : this.#besides(node, element);
    }
    return -1;
  }

  remove(element: number): void {
    this.#tree.unlink(element + 1);
    this.#free.push(element);
    this.count--;
  }

  setPending(element: number, pending: boolean): void {
    this.#set(element, PENDING, pending);
  }

  setLeaving(element: number, leaving: boolean): void {
    this.#set(element, LEAVING, leaving);
  }

  isPending(element: number): boolean {
    return (this.#words[element * this.#stride]! & PENDING) !== 0;
  }

  isLeaving(element: number): boolean {
    return (this.#words[element * this.#stride]! & LEAVING) !== 0;
  }

  key(element: number, word: number): number {
    return this.#words[element * this.#stride + 1 + word]!;
  }

  keyEnd(element: number, word: number): number {
    return this.key(element, word);
  }

  isIntervalEnd(element: number): boolean {
    return (this.#words[element * this.#stride]! & END) !== 0;
  }

  data(element: number, word: number): number {
    return this.#words[element * this.#stride + 1 + this.keyWords + word]!;
  }

  expiresMs(element: number): number {
    return this.#expiry === undefined ? Infinity : this.#expiry[element]!;
  }

  /** From the greatest key to the smallest. */
  forEach(visit: (element: number) => void): void {
    for (let node = this.#tree.first(); node !== 0; node = this.#tree.next(node)) visit(node - 1);
  }

  kernelBytes(): number {
    const data = this.description.verdicts ? 16 : 4 * this.dataWords;
    return this.count * (ELEMENT_BYTES + 4 * this.keyWords + data);
  }

  /** Levels of the tree, for tests of its balance. */
  get levels(): number {
    const depth = (node: number): number =>
      node === 0 ? 0 : 1 + Math.max(depth(this.#tree.left[node]!), depth(this.#tree.right[node]!));
    return depth(this.#tree.root);
  }

  /** INSERT_EXISTS - number, INSERT_CLASH, or 0 where the element may be inserted. */
  #overlap(element: ElementWords): number {
    const tree = this.#tree;
    // The closest greater key begins the walk downwards through the order.
    let from = 0;
    this.steps = 0;
    for (let node = tree.root; node !== 0;) {
      this.steps++;
      const difference = this.#compare(node, element.words, element.at);
      if (difference > 0) from = node;
      const left = difference < 0 || (difference === 0 && this.#isEnd(node));
      node = left ? tree.left[node]! : tree.right[node]!;
    }
    let smaller = 0;
    let greater = 0;
    for (let node = from === 0 ? tree.first() : from; node !== 0; node = tree.next(node)) {
      if (this.isLeaving(node - 1)) continue;
      this.steps++;
      const difference = this.#compare(node, element.words, element.at);
      if (difference < 0 || (difference === 0 && this.#isEnd(node))) {
        smaller = node;
        break;
      }
      greater = node;
    }
    return this.#verdict(element, smaller, greater);
  }

  #verdict(element: ElementWords, smaller: number, greater: number): number {
    const isEnd = element.intervalEnd;
    const same = (node: number): boolean =>
      node !== 0 && this.#isEnd(node) === isEnd && this.#compare(node, element.words, element.at) === 0;
    if (same(greater)) return INSERT_EXISTS - (greater - 1);
    if (same(smaller)) return INSERT_EXISTS - (smaller - 1);
    if (smaller !== 0 && !this.#isEnd(smaller) && !isEnd) {
      if (!this.description.anonymous) return INSERT_CLASH;
      const before = this.#tree.previous(smaller);
      if (before !== 0 && this.#isEnd(before)) return INSERT_CLASH;
    }
    if (smaller !== 0 && this.#isEnd(smaller) && isEnd) return INSERT_CLASH;
    if (greater !== 0 && this.#isEnd(greater) && isEnd) return INSERT_CLASH;
    return 0;
  }

  /** Where to look on when a node has the key, but is the other end or is leaving. */
  #besides(node: number, element: ElementWords): number {
    for (const next of [this.#tree.previous(node), this.#tree.next(node)]) {
      const same = next !== 0 && this.#compare(next, element.words, element.at) === 0;
      if (same && this.#isEnd(next) === element.intervalEnd && !this.isLeaving(next - 1)) return next;
    }
    return 0;
  }

  #store(number: number, element: ElementWords): void {
    const base = number * this.#stride;
    if (base + this.#stride > this.#words.length) this.#words = longer(this.#words, 2 * this.#words.length);
    this.#words[base] = (element.intervalEnd ? END : 0) | (element.pending ? PENDING : 0);
    const filled = this.keyWords + (element.intervalEnd ? 0 : this.dataWords);
    for (let i = 0; i < this.#stride - 1; i++) {
      this.#words[base + 1 + i] = i < filled ? element.words[element.at + i]! : 0;
    }
    if (!this.description.timeout) return;
    const capacity = this.#words.length / this.#stride;
    if (this.#expiry === undefined || this.#expiry.length < capacity) {
      this.#expiry = longer(this.#expiry ?? new Float64Array(0), capacity);
    }
    this.#expiry[number] = element.intervalEnd ? Infinity : element.expiresMs;
  }

  #compare(node: number, words: ArrayLike<number>, at: number): number {
    return compareKeys(this.#words, (node - 1) * this.#stride + 1, words, at, this.keyWords);
  }

  #equal(a: number, b: number): boolean {
    return this.#compare(a, this.#words, (b - 1) * this.#stride + 1) === 0;
  }

  #isEnd(node: number): boolean {
    return (this.#words[(node - 1) * this.#stride]! & END) !== 0;
  }

  #set(element: number, bit: number, on: boolean): void {
    const base = element * this.#stride;
    this.#words[base] = on ? this.#words[base]! | bit : this.#words[base]! & ~bit;
  }
}
