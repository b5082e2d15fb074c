import {
  ACTIVE as ON_ACTIVE,
  INACTIVE as ON_INACTIVE,
  type FREE,
  type LOCAL_FREE,
  type LruNodes,
} from './lru-nodes.ts';

const ACTIVE = ON_ACTIVE;
const INACTIVE = ON_INACTIVE;

/** Takes an element out of the map. @param forced although it was referenced, or without asking. */
export type Evict = (element: number, forced: boolean) => void;

/**
 * Two lists, ACTIVE and INACTIVE, newest at the head, with a cursor that goes round INACTIVE; what is evicted comes
 * from INACTIVE's tail. Referenced nodes are promoted when they are come by, and their reference is spent.
 * Source: struct bpf_lru_list and its functions, kernel/bpf/bpf_lru_list.c.
 */
export class LruOrder {
  readonly #nodes: LruNodes;
  readonly #activeHead: number;
  readonly #inactiveHead: number;
  /** Nodes looked at in one rotation or shrink. */
  readonly #scans: number;
  readonly #evict: Evict;
  #active = 0;
  #inactive = 0;
  #cursor: number;

  constructor(nodes: LruNodes, activeHead: number, inactiveHead: number, scans: number, evict: Evict) {
    this.#nodes = nodes;
    this.#activeHead = activeHead;
    this.#inactiveHead = inactiveHead;
    this.#scans = scans;
    this.#evict = evict;
    this.#cursor = inactiveHead;
  }

  rotate(): void {
    if (this.#inactive < this.#active) this.#rotateActive();
    this.#rotateInactive();
  }

  /** Evict up to `wanted` nodes to a free stack; if none could be had in one scan, the oldest whatever it is. */
  shrink(wanted: number, stack: number, list: typeof FREE | typeof LOCAL_FREE): void {
    const { prev, referenced } = this.#nodes;
    const head = this.#inactiveHead;
    let evicted = 0;
    let node = prev[head]!;
    for (let scan = 0; scan < this.#scans && node !== head; scan++) {
      const before = prev[node]!;
      if (referenced[node] === 1) {
        this.move(node, ACTIVE);
      } else {
        this.#evictTo(node, stack, list, false);
        if (++evicted === wanted) return;
      }
      node = before;
    }
    if (evicted > 0) return;
    const last = this.#inactive > 0 ? head : this.#activeHead;
    const tail = prev[last]!;
    if (tail !== last) this.#evictTo(tail, stack, list, true);
  }

  /** Put a node that is on no list at the head of ACTIVE or INACTIVE; its reference is spent. */
  join(node: number, list: typeof ACTIVE | typeof INACTIVE): void {
    if (list === ACTIVE) this.#active++;
    else this.#inactive++;
    this.#nodes.list[node] = list;
    this.#nodes.referenced[node] = 0;
    this.#nodes.insert(node, list === ACTIVE ? this.#activeHead : this.#inactiveHead);
  }

  /** Take a node off ACTIVE or INACTIVE; the cursor steps aside. */
  leave(node: number): void {
    if (node === this.#cursor) this.#cursor = this.#nodes.prev[node]!;
    if (this.#nodes.list[node] === ACTIVE) this.#active--;
    else this.#inactive--;
    this.#nodes.unlink(node);
  }

  move(node: number, list: typeof ACTIVE | typeof INACTIVE): void {
    this.leave(node);
    this.join(node, list);
  }

  /** From the tail: referenced nodes get another round, others step down. Ends at the node that was first. */
  #rotateActive(): void {
    const { next, prev, referenced } = this.#nodes;
    const head = this.#activeHead;
    const first = next[head]!;
    let node = prev[head]!;
    for (let scan = 0; scan < this.#scans && node !== head; scan++) {
      const before = prev[node]!;
      this.move(node, referenced[node] === 1 ? ACTIVE : INACTIVE);
      if (node === first) return;
      node = before;
    }
  }

  /** From the cursor towards the head, at most one turn: referenced nodes step up. */
  #rotateInactive(): void {
    if (this.#inactive === 0) return;
    const { next, prev, referenced } = this.#nodes;
    const head = this.#inactiveHead;
    let last = next[this.#cursor]!;
    if (last === head) last = next[head]!;
    let node = this.#cursor;
    let following = head;
    for (let scan = 0; scan < this.#scans;) {
      if (node === head) {
        node = prev[head]!;
        continue;
      }
      following = prev[node]!;
      if (referenced[node] === 1) this.move(node, ACTIVE);
      if (node === last) break;
      node = following;
      scan++;
    }
    this.#cursor = following;
  }

  #evictTo(node: number, stack: number, list: typeof FREE | typeof LOCAL_FREE, forced: boolean): void {
    this.#evict(node - this.#nodes.first, forced);
    this.leave(node);
    this.#nodes.push(stack, node, list);
  }
}
