import { longer } from '@vipsim/sim-core';
import { nextPowerOfTwo } from './buckets.ts';

const FREE = 0;
const LOCAL_FREE = 1;
const PENDING = 2;
const INACTIVE = 3;
const ACTIVE = 4;

/** Elements looked at in one rotation or shrink, and the most that one refill moves to a CPU. */
const SCANS = 128;
const TARGET_MAX = 128;
const NONE = -1;

/**
 * Which element an LRU map gives up. All elements start on one free list; a CPU takes them in batches to its own
 * free list and parks the ones it has used on its pending list until its next batch, when they join the common
 * order: referenced ones ACTIVE, others INACTIVE.
 *
 *     FREE ──batch──► local free ──take──► pending ──flush──► INACTIVE ◄──rotate──► ACTIVE
 *       ▲                 ▲                                      │
 *       └─────delete──────┴───────────────evict──────────────────┘
 *
 * Models: the common LRU (no BPF_F_NO_COMMON_LRU): batches of clamp(n / CPUs / 2, 1, 128), scans of 128, reference
 * bits, rotation with its cursor, forced eviction, stealing from other CPUs.
 * Source: kernel/bpf/bpf_lru_list.c (6.12; the batch was 128 whatever the size before).
 * Not modelled: locks and their contention.
 */
export class LruLists {
  /** Elements that one refill brings to a CPU. */
  readonly batch: number;
  readonly #elements: number;
  readonly #cpus: number;
  readonly #evict: (element: number) => void;
  // Nodes: 0 ACTIVE's head, 1 INACTIVE's, 2 + c the pending list of CPU c, then the elements.
  readonly #offset: number;
  #next: Int32Array;
  #prev: Int32Array;
  #list: Uint8Array;
  #referenced: Uint8Array;
  #cpu: Uint16Array;
  #active = 0;
  #inactive = 0;
  #cursor = 1;
  // Free lists are stacks linked through `next`; below the last freed element lie the ones never used.
  #freeTop = NONE;
  #virgin = 0;
  readonly #localTop: Int32Array;
  readonly #steal: Int32Array;

  /** @param evict takes an element out of the map; it is on no list then. */
  constructor(elements: number, cpus: number, evict: (element: number) => void) {
    this.#elements = elements;
    this.#cpus = cpus;
    this.#evict = evict;
    this.batch = Math.min(TARGET_MAX, Math.max(1, Math.floor(elements / cpus / 2)));
    this.#offset = 2 + cpus;
    const capacity = this.#offset + Math.min(64, elements);
    this.#next = Int32Array.from({ length: capacity }, (_, node) => node);
    this.#prev = Int32Array.from({ length: capacity }, (_, node) => node);
    this.#list = new Uint8Array(capacity);
    this.#referenced = new Uint8Array(capacity);
    this.#cpu = new Uint16Array(capacity);
    this.#localTop = new Int32Array(cpus).fill(NONE);
    this.#steal = Int32Array.from({ length: cpus }, (_, cpu) => cpu);
  }

  /** Elements that were ever used: all live ones have lower numbers. */
  get used(): number {
    return this.#virgin;
  }

  /** A lookup by a program, or the replacement of an element, spares it once. */
  reference(element: number): void {
    this.#referenced[element + this.#offset] = 1;
  }

  /** An element for `cpu`, evicting if it must; -1 when every CPU holds on to its own (ENOMEM). */
  take(cpu: number): number {
    let node = this.#popLocal(cpu);
    if (node === NONE) {
      this.#refill(cpu);
      node = this.#popLocal(cpu);
    }
    if (node === NONE) node = this.#stealFor(cpu);
    if (node === NONE) return NONE;
    this.#list[node] = PENDING;
    this.#cpu[node] = cpu;
    this.#referenced[node] = 0;
    this.#insert(node, 2 + cpu);
    return node - this.#offset;
  }

  /** Give an element back: one still pending stays with its CPU. */
  release(element: number): void {
    const node = element + this.#offset;
    if (this.#list[node] === PENDING) {
      this.#unlink(node);
      this.#pushLocal(node, this.#cpu[node]!);
      return;
    }
    this.#leave(node);
    this.#list[node] = FREE;
    this.#next[node] = this.#freeTop;
    this.#freeTop = node;
  }

  /** Where an element is: `free`, `pending`, `inactive`, `active`. */
  where(element: number): 'free' | 'pending' | 'inactive' | 'active' {
    const list = this.#list[element + this.#offset]!;
    return list <= LOCAL_FREE
      ? 'free'
      : list === PENDING
        ? 'pending'
        : list === INACTIVE
          ? 'inactive'
          : 'active';
  }

  #refill(cpu: number): void {
    this.#flush(cpu);
    if (this.#inactive < this.#active) this.#rotateActive();
    this.#rotateInactive();
    let moved = 0;
    while (moved < this.batch) {
      const node = this.#popFree();
      if (node === NONE) break;
      this.#pushLocal(node, cpu);
      moved++;
    }
    if (moved < this.batch) this.#shrink(cpu, this.batch - moved);
  }

  /** What the CPU has used since its last batch joins the common order, oldest first. */
  #flush(cpu: number): void {
    const head = 2 + cpu;
    for (let node = this.#prev[head]!; node !== head;) {
      const before = this.#prev[node]!;
      this.#unlink(node);
      this.#join(node, this.#referenced[node] === 1 ? ACTIVE : INACTIVE);
      node = before;
    }
  }

  /** From the tail: referenced elements get another round, others step down. Ends at the element that was first. */
  #rotateActive(): void {
    const first = this.#next[0]!;
    let node = this.#prev[0]!;
    for (let scan = 0; scan < SCANS && node !== 0; scan++) {
      const before = this.#prev[node]!;
      this.#move(node, this.#referenced[node] === 1 ? ACTIVE : INACTIVE);
      if (node === first) return;
      node = before;
    }
  }

  /** From the cursor towards the head, at most one turn: referenced elements step up. */
  #rotateInactive(): void {
    if (this.#inactive === 0) return;
    let last = this.#next[this.#cursor]!;
    if (last === 1) last = this.#next[1]!;
    let node = this.#cursor;
    let following = 1;
    for (let scan = 0; scan < SCANS;) {
      if (node === 1) {
        node = this.#prev[1]!;
        continue;
      }
      following = this.#prev[node]!;
      if (this.#referenced[node] === 1) this.#move(node, ACTIVE);
      if (node === last) break;
      node = following;
      scan++;
    }
    this.#cursor = following;
  }

  #shrink(cpu: number, wanted: number): void {
    let evicted = 0;
    let node = this.#prev[1]!;
    for (let scan = 0; scan < SCANS && node !== 1; scan++) {
      const before = this.#prev[node]!;
      if (this.#referenced[node] === 1) {
        this.#move(node, ACTIVE);
      } else {
        this.#evictTo(node, cpu);
        if (++evicted === wanted) return;
      }
      node = before;
    }
    if (evicted > 0) return;
    const head = this.#inactive > 0 ? 1 : 0;
    const tail = this.#prev[head]!;
    if (tail !== head) this.#evictTo(tail, cpu);
  }

  #evictTo(node: number, cpu: number): void {
    this.#evict(node - this.#offset);
    this.#leave(node);
    this.#pushLocal(node, cpu);
  }

  /** Round the CPUs: a free element of theirs, else the oldest pending one, unreferenced if there is such. */
  #stealFor(cpu: number): number {
    const first = this.#steal[cpu]!;
    let from = first;
    let node = NONE;
    do {
      node = this.#popLocal(from);
      if (node === NONE) node = this.#popPending(from);
      from = (from + 1) % this.#cpus;
    } while (node === NONE && from !== first);
    this.#steal[cpu] = from;
    return node;
  }

  #popPending(cpu: number): number {
    const head = 2 + cpu;
    let victim = this.#prev[head]!;
    if (victim === head) return NONE;
    while (victim !== head && this.#referenced[victim] === 1) victim = this.#prev[victim]!;
    if (victim === head) victim = this.#prev[head]!;
    this.#evict(victim - this.#offset);
    this.#unlink(victim);
    return victim;
  }

  #popFree(): number {
    const node = this.#freeTop;
    if (node !== NONE) {
      this.#freeTop = this.#next[node]!;
      return node;
    }
    if (this.#virgin === this.#elements) return NONE;
    const fresh = this.#offset + this.#virgin++;
    if (fresh >= this.#next.length) this.#grow(fresh + 1);
    return fresh;
  }

  #popLocal(cpu: number): number {
    const node = this.#localTop[cpu]!;
    if (node !== NONE) this.#localTop[cpu] = this.#next[node]!;
    return node;
  }

  #pushLocal(node: number, cpu: number): void {
    this.#list[node] = LOCAL_FREE;
    this.#referenced[node] = 0;
    this.#next[node] = this.#localTop[cpu]!;
    this.#localTop[cpu] = node;
  }

  #move(node: number, list: typeof ACTIVE | typeof INACTIVE): void {
    this.#leave(node);
    this.#join(node, list);
  }

  /** Put a node that is on no list at the head of ACTIVE or INACTIVE; its reference is spent. */
  #join(node: number, list: typeof ACTIVE | typeof INACTIVE): void {
    if (list === ACTIVE) this.#active++;
    else this.#inactive++;
    this.#list[node] = list;
    this.#referenced[node] = 0;
    this.#insert(node, list === ACTIVE ? 0 : 1);
  }

  /** Take a node off ACTIVE or INACTIVE; the rotation's cursor steps aside. */
  #leave(node: number): void {
    if (node === this.#cursor) this.#cursor = this.#prev[node]!;
    if (this.#list[node] === ACTIVE) this.#active--;
    else this.#inactive--;
    this.#unlink(node);
  }

  #insert(node: number, head: number): void {
    const after = this.#next[head]!;
    this.#next[head] = node;
    this.#prev[node] = head;
    this.#next[node] = after;
    this.#prev[after] = node;
  }

  #unlink(node: number): void {
    const before = this.#prev[node]!;
    const after = this.#next[node]!;
    this.#next[before] = after;
    this.#prev[after] = before;
  }

  #grow(needed: number): void {
    const capacity = nextPowerOfTwo(needed);
    this.#next = longer(this.#next, capacity);
    this.#prev = longer(this.#prev, capacity);
    this.#list = longer(this.#list, capacity);
    this.#referenced = longer(this.#referenced, capacity);
    this.#cpu = longer(this.#cpu, capacity);
  }
}
