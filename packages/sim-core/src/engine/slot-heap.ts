import { longer } from '../columns/longer.ts';
import type { EventStore } from './event-store.ts';

/** A binary heap of slots, first event on top. Add and remove O(log n). */
export class SlotHeap {
  size = 0;
  private readonly slots: EventStore;
  private heap = new Int32Array(64);

  constructor(slots: EventStore) {
    this.slots = slots;
  }

  get bytes(): number {
    return this.heap.byteLength;
  }

  get first(): number {
    return this.heap[0]!;
  }

  add(slot: number): void {
    if (this.size === this.heap.length) this.heap = longer(this.heap, this.size * 2);
    const heap = this.heap;
    let at = this.size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.slots.isBefore(slot, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = slot;
  }

  removeFirst(): number {
    const heap = this.heap;
    const first = heap[0]!;
    const slot = heap[--this.size]!;
    let at = 0;
    for (let child = 1; child < this.size; child = 2 * at + 1) {
      if (child + 1 < this.size && this.slots.isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!this.slots.isBefore(heap[child]!, slot)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = slot;
    return first;
  }

  clear(): void {
    this.size = 0;
    this.heap = new Int32Array(64);
  }
}
