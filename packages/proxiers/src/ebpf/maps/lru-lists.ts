import {
  ACTIVE as ON_ACTIVE,
  FREE as ON_FREE,
  INACTIVE as ON_INACTIVE,
  LOCAL_FREE as ON_LOCAL_FREE,
  LruNodes,
  PENDING as ON_PENDING,
} from './lru-nodes.ts';
import { LruOrder, type Evict } from './lru-order.ts';

const FREE = ON_FREE;
const LOCAL_FREE = ON_LOCAL_FREE;
const PENDING = ON_PENDING;
const INACTIVE = ON_INACTIVE;
const ACTIVE = ON_ACTIVE;

const NONE = -1;
/** LOCAL_NR_SCANS and LOCAL_FREE_TARGET. */
const SCANS = 128;
const BATCH_MAX = 128;
// Heads of doubly linked lists, then one PENDING for each CPU; stacks: FREE, then one LOCAL_FREE for each CPU.
const ACTIVE_HEAD = 0;
const INACTIVE_HEAD = 1;
const PENDING_HEAD = 2;
const FREE_STACK = 0;
const LOCAL_STACK = 1;

/** Elements that one refill brings to a CPU, in Linux 6.12 and 6.18; in 6.1 it is always 128. */
export function defaultBatch(elements: number, cpus: number): number {
  return Math.min(BATCH_MAX, Math.max(1, Math.floor(Math.floor(elements / cpus) / 2)));
}

/**
 * Which element an LRU map gives up. All elements start on one free list; a CPU takes them in batches to its own
 * free list and parks the ones it has used on its pending list until its next batch, when they join the common
 * order: referenced ones ACTIVE, others INACTIVE.
 *
 *     FREE ──batch──► local free ──take──► pending ──flush──► INACTIVE ◄──rotate──► ACTIVE
 *       ▲                 ▲                                      │
 *       └─────delete──────┴───────────────evict──────────────────┘
 *
 * Models: the common LRU (no BPF_F_NO_COMMON_LRU): batches, scans of 128, reference bits, rotation with its cursor,
 * forced eviction, stealing from other CPUs. Source: kernel/bpf/bpf_lru_list.c.
 * Not modelled: locks and their contention.
 */
export class LruLists {
  /** Elements that one refill brings to a CPU: target_free. */
  readonly batch: number;
  /** Elements that were had from a CPU's own lists, possibly another's, when a refill brought nothing. */
  steals = 0;
  readonly #elements: number;
  readonly #cpus: number;
  readonly #evict: Evict;
  readonly #nodes: LruNodes;
  readonly #order: LruOrder;
  readonly #stealFrom: Int32Array;

  /**
   * @param evict takes an element out of the map; it is on no list then.
   * @param batch 128 for kernels that do not fit it to the map's size.
   */
  constructor(elements: number, cpus: number, evict: Evict, batch = defaultBatch(elements, cpus)) {
    this.#elements = elements;
    this.#cpus = cpus;
    this.#evict = evict;
    this.batch = batch;
    this.#nodes = new LruNodes(PENDING_HEAD + cpus, LOCAL_STACK + cpus);
    this.#order = new LruOrder(this.#nodes, ACTIVE_HEAD, INACTIVE_HEAD, SCANS, evict);
    this.#stealFrom = Int32Array.from({ length: cpus }, (_, cpu) => cpu);
  }

  /** Elements that were ever used: all live ones have lower numbers. */
  get used(): number {
    return this.#nodes.used;
  }

  /** A lookup by a program, or the replacement of an element, spares it once. */
  reference(element: number): void {
    this.#nodes.referenced[element + this.#nodes.first] = 1;
  }

  /** An element for `cpu`, evicting if it must; -1 when no CPU has one to give (ENOMEM). */
  take(cpu: number): number {
    const nodes = this.#nodes;
    let node = nodes.pop(LOCAL_STACK + cpu);
    if (node === NONE) {
      this.#refill(cpu);
      node = nodes.pop(LOCAL_STACK + cpu);
    }
    if (node === NONE) node = this.#steal(cpu);
    if (node === NONE) return NONE;
    nodes.list[node] = PENDING;
    nodes.cpu[node] = cpu;
    nodes.referenced[node] = 0;
    nodes.insert(node, PENDING_HEAD + cpu);
    return node - nodes.first;
  }

  /** Give an element back: one still pending stays with its CPU. */
  release(element: number): void {
    const nodes = this.#nodes;
    const node = element + nodes.first;
    if (nodes.list[node] === PENDING) {
      nodes.unlink(node);
      nodes.push(LOCAL_STACK + nodes.cpu[node]!, node, LOCAL_FREE);
    } else {
      this.#order.leave(node);
      nodes.push(FREE_STACK, node, FREE);
    }
  }

  /** Where an element is: `free`, `pending`, `inactive`, `active`. */
  where(element: number): ReturnType<LruNodes['where']> {
    return this.#nodes.where(element);
  }

  #refill(cpu: number): void {
    this.#flush(cpu);
    this.#order.rotate();
    let moved = 0;
    while (moved < this.batch) {
      const node = this.#popFree(cpu);
      if (node === NONE) break;
      this.#nodes.push(LOCAL_STACK + cpu, node, LOCAL_FREE);
      moved++;
    }
    if (moved < this.batch) this.#order.shrink(this.batch - moved, LOCAL_STACK + cpu, LOCAL_FREE);
  }

  /** What the CPU has used since its last batch joins the common order, oldest first. */
  #flush(cpu: number): void {
    const { prev, referenced } = this.#nodes;
    const head = PENDING_HEAD + cpu;
    for (let node = prev[head]!; node !== head;) {
      const before = prev[node]!;
      this.#nodes.unlink(node);
      this.#order.join(node, referenced[node] === 1 ? ACTIVE : INACTIVE);
      node = before;
    }
  }

  #popFree(cpu: number): number {
    const node = this.#nodes.pop(FREE_STACK);
    return node === NONE && this.used < this.#elements ? this.#nodes.fresh(cpu) : node;
  }

  /** Round the CPUs: a free element of theirs, else a pending one. The next search starts where this one ended. */
  #steal(cpu: number): number {
    const first = this.#stealFrom[cpu]!;
    let from = first;
    let node = NONE;
    do {
      node = this.#nodes.pop(LOCAL_STACK + from);
      if (node === NONE) node = this.#popPending(from);
      from = from + 1 === this.#cpus ? 0 : from + 1;
    } while (node === NONE && from !== first);
    this.#stealFrom[cpu] = from;
    if (node !== NONE) this.steals++;
    return node;
  }

  /** The oldest that is not referenced, else the oldest. */
  #popPending(cpu: number): number {
    const { prev, referenced } = this.#nodes;
    const head = PENDING_HEAD + cpu;
    const oldest = prev[head]!;
    if (oldest === head) return NONE;
    let node = oldest;
    while (node !== head && referenced[node] === 1) node = prev[node]!;
    const forced = node === head;
    if (forced) node = oldest;
    this.#evict(node - this.#nodes.first, forced);
    this.#nodes.unlink(node);
    return node;
  }
}
