import { FREE as ON_FREE, INACTIVE as ON_INACTIVE, LruNodes } from './lru-nodes.ts';
import { LruOrder, type Evict } from './lru-order.ts';

const FREE = ON_FREE;
const INACTIVE = ON_INACTIVE;
const NONE = -1;
/** PERCPU_NR_SCANS and PERCPU_FREE_TARGET. */
const SCANS = 4;
const BATCH = 4;

/**
 * Which element an LRU map made with BPF_F_NO_COMMON_LRU (bpf-distributed-lru) gives up: each CPU has a share of
 * the elements and an order of its own, and evicts only from that. A map may so be full for one CPU and half empty
 * for another.
 * Models: every take rotates, evicts 4 when the CPU's free list is empty, and puts the element on INACTIVE at once;
 * an element returns to the CPU whose share it is from. Source: kernel/bpf/bpf_lru_list.c. Not modelled: locks.
 */
export class PerCpuLruLists {
  readonly batch = BATCH;
  /** Nothing is ever stolen here. */
  readonly steals = 0;
  readonly #share: number;
  readonly #nodes: LruNodes;
  readonly #orders: readonly LruOrder[];
  /** Elements of each CPU that were ever taken. */
  readonly #taken: Int32Array;

  /** @param elements a multiple of `cpus`. @param evict takes an element out of the map. */
  constructor(elements: number, cpus: number, evict: Evict) {
    this.#share = elements / cpus;
    const nodes = new LruNodes(2 * cpus, cpus);
    this.#nodes = nodes;
    this.#orders = Array.from(
      { length: cpus },
      (_, cpu) => new LruOrder(nodes, 2 * cpu, 2 * cpu + 1, SCANS, evict),
    );
    this.#taken = new Int32Array(cpus);
  }

  /** Elements that were ever used: all live ones have lower numbers. */
  get used(): number {
    return this.#nodes.used;
  }

  /** A lookup by a program, or the replacement of an element, spares it once. */
  reference(element: number): void {
    this.#nodes.referenced[element + this.#nodes.first] = 1;
  }

  /** An element of `cpu`, evicting if it must. */
  take(cpu: number): number {
    const order = this.#orders[cpu]!;
    order.rotate();
    const untouched = this.#taken[cpu]! < this.#share;
    if (!untouched && this.#nodes.isEmpty(cpu)) order.shrink(BATCH, cpu, FREE);
    let node = this.#nodes.pop(cpu);
    if (node === NONE) {
      if (!untouched) return NONE;
      this.#taken[cpu]!++;
      node = this.#nodes.fresh(cpu);
    }
    order.join(node, INACTIVE);
    return node - this.#nodes.first;
  }

  release(element: number): void {
    const node = element + this.#nodes.first;
    const cpu = this.#nodes.cpu[node]!;
    this.#orders[cpu]!.leave(node);
    this.#nodes.push(cpu, node, FREE);
  }

  /** Where an element is: `free`, `inactive`, `active`. */
  where(element: number): ReturnType<LruNodes['where']> {
    return this.#nodes.where(element);
  }
}
