import { longer } from '../columns/longer.ts';
import { EventStore, NIL } from './event-store.ts';
import { SlotHeap } from './slot-heap.ts';

const NEAR_LENGTH = 128;

/**
 * The front of a queue, the events whose turn is next: a sorted array, latest first so that the next is at its end;
 * a heap for those that fall among many; a queue for those of the present instant, which are in order as they come.
 */
export abstract class EventFront extends EventStore {
  protected near: Int32Array = new Int32Array(NEAR_LENGTH);
  protected nearCount = 0;
  /** Events in the heap and of the present instant: beside the sorted array. */
  protected aside = 0;
  private readonly late = new SlotHeap(this);
  private passingFirst = NIL;
  private passingLast = NIL;

  protected get frontBytes(): number {
    return this.near.byteLength + this.late.bytes;
  }

  /** The event that fires first of those in front; NIL if none is. */
  protected candidate(): number {
    let slot = this.nearCount > 0 ? this.near[this.nearCount - 1]! : NIL;
    if (this.aside === 0) return slot;
    if (this.passingFirst !== NIL) slot = this.earlier(slot, this.passingFirst);
    if (this.late.size > 0) slot = this.earlier(slot, this.late.first);
    return slot;
  }

  protected removeFirst(slot: number): void {
    if (this.nearCount > 0 && this.near[this.nearCount - 1] === slot) {
      this.nearCount--;
      return;
    }
    this.aside--;
    if (slot === this.passingFirst) this.passingFirst = this.nextOf(slot);
    else this.late.removeFirst();
  }

  /** Take an event that comes at the present instant. False if those that pass are of another. */
  protected pass(slot: number): boolean {
    if (this.passingFirst === NIL) this.passingFirst = slot;
    else if (this.timeOf(this.passingFirst) === this.timeOf(slot)) this.setNext(this.passingLast, slot);
    else return false;
    this.setNext(slot, NIL);
    this.passingLast = slot;
    this.aside++;
    return true;
  }

  protected insertNear(slot: number): void {
    if (this.nearCount < NEAR_LENGTH - 1) {
      this.insertSorted(slot, this.nearCount++);
    } else {
      this.aside++;
      this.late.add(slot);
    }
  }

  /** Into the first `count` of the near array. */
  protected insertSorted(slot: number, count: number): void {
    const { near, doubles } = this;
    const atNs = doubles[slot << 2]!;
    const order = doubles[(slot << 2) | 1]!;
    let at = count;
    for (; at > 0; at--) {
      const other = near[at - 1]!;
      const otherNs = doubles[other << 2]!;
      if (otherNs > atNs || (otherNs === atNs && doubles[(other << 2) | 1]! > order)) break;
      near[at] = other;
    }
    near[at] = slot;
  }

  /** Sort many in the near array, which may be the wrong way round; else by merging. */
  protected sortMany(count: number): void {
    const near = this.near.subarray(0, count);
    let rising = 1;
    while (rising < count && this.isBefore(near[rising - 1]!, near[rising]!)) rising++;
    if (rising === count) near.reverse();
    else near.sort((x, y) => (this.isBefore(x, y) ? 1 : -1));
  }

  /** Hand every event to `take`, in no order. */
  protected emptyFront(take: (slot: number) => void): void {
    for (let slot = this.passingFirst; slot !== NIL;) {
      const next = this.nextOf(slot);
      take(slot);
      slot = next;
    }
    this.passingFirst = NIL;
    while (this.late.size > 0) take(this.late.removeFirst());
    this.late.clear();
    this.aside = 0;
    for (let i = 0; i < this.nearCount; i++) take(this.near[i]!);
    this.nearCount = 0;
  }

  protected widenNear(): void {
    this.near = longer(this.near, this.near.length * 2);
  }

  protected narrowNear(): void {
    if (this.near.length > NEAR_LENGTH) this.near = new Int32Array(NEAR_LENGTH);
  }
}
