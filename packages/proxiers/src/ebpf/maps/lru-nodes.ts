import { longer } from '@vipsim/sim-core';
import { nextPowerOfTwo } from './buckets.ts';

const NONE = -1;

/** Where a node is. FREE and LOCAL_FREE are stacks, the others doubly linked lists. */
export const FREE = 0;
export const LOCAL_FREE = 1;
export const PENDING = 2;
export const INACTIVE = 3;
export const ACTIVE = 4;

/**
 * The links of an LRU map's elements: columns by node. The first nodes are heads of doubly linked lists, the
 * elements follow in the order in which they were first taken, so that what was never taken takes no memory.
 */
export class LruNodes {
  /** Node of element 0. */
  readonly first: number;
  next: Int32Array;
  prev: Int32Array;
  list: Uint8Array;
  referenced: Uint8Array;
  /** Who took the element last, or whose it is for good. */
  cpu: Uint16Array;
  /** Elements that were ever taken. */
  used = 0;
  readonly #tops: Int32Array;

  constructor(heads: number, stacks: number) {
    this.first = heads;
    const capacity = heads + 64;
    this.next = Int32Array.from({ length: capacity }, (_, node) => node);
    this.prev = Int32Array.from({ length: capacity }, (_, node) => node);
    this.list = new Uint8Array(capacity);
    this.referenced = new Uint8Array(capacity);
    this.cpu = new Uint16Array(capacity);
    this.#tops = new Int32Array(stacks).fill(NONE);
  }

  /** A node that was never taken. */
  fresh(cpu: number): number {
    const node = this.first + this.used++;
    if (node >= this.next.length) this.#grow(node + 1);
    this.cpu[node] = cpu;
    return node;
  }

  push(stack: number, node: number, list: typeof FREE | typeof LOCAL_FREE): void {
    this.list[node] = list;
    this.referenced[node] = 0;
    this.next[node] = this.#tops[stack]!;
    this.#tops[stack] = node;
  }

  /** The last one pushed, or -1. */
  pop(stack: number): number {
    const node = this.#tops[stack]!;
    if (node !== NONE) this.#tops[stack] = this.next[node]!;
    return node;
  }

  isEmpty(stack: number): boolean {
    return this.#tops[stack] === NONE;
  }

  insert(node: number, head: number): void {
    const after = this.next[head]!;
    this.next[head] = node;
    this.prev[node] = head;
    this.next[node] = after;
    this.prev[after] = node;
  }

  unlink(node: number): void {
    const before = this.prev[node]!;
    const after = this.next[node]!;
    this.next[before] = after;
    this.prev[after] = before;
  }

  /** Where an element is: `free`, `pending`, `inactive`, `active`. */
  where(element: number): 'free' | 'pending' | 'inactive' | 'active' {
    const list = this.list[element + this.first]!;
    if (list === PENDING) return 'pending';
    if (list === INACTIVE) return 'inactive';
    return list === ACTIVE ? 'active' : 'free';
  }

  #grow(needed: number): void {
    const capacity = nextPowerOfTwo(needed);
    this.next = longer(this.next, capacity);
    this.prev = longer(this.prev, capacity);
    this.list = longer(this.list, capacity);
    this.referenced = longer(this.referenced, capacity);
    this.cpu = longer(this.cpu, capacity);
  }
}
