import { DUE } from './event-queue.ts';
import { DOUBLES, EventStore, INTS, NEXT, NIL, TIME } from './event-store.ts';
import { SlotHeap } from './slot-heap.ts';

/** Up to this many events are kept sorted as they come. */
export const NEAR_MAX = 64;

/**
 * The front of a queue, the events whose turn is next: a sorted array, latest first so that the next is at its end;
 * a heap for those that fall among many; a queue for those of the present instant, which are in order as they come.
 */
export abstract class EventFront extends EventStore {
  protected nearTime: Float64Array = new Float64Array(NEAR_MAX * 2);
  protected nearSlots: Int32Array = new Int32Array(NEAR_MAX * 2);
  protected nearCount = 0;
  /** Events in the heap and of the present instant: beside the sorted array. */
  protected aside = 0;
  private readonly late = new SlotHeap(this);
  private passingFirst = NIL;
  private passingLast = NIL;
  private readonly passingTime = new Float64Array(1);

  protected get frontBytes(): number {
    return this.nearTime.byteLength + this.nearSlots.byteLength + this.late.bytes;
  }

  protected candidate(): number {
    let slot = this.nearCount > 0 ? this.nearSlots[this.nearCount - 1]! : NIL;
    if (this.aside === 0) return slot;
    if (this.passingFirst !== NIL) slot = this.earlier(slot, this.passingFirst);
    if (this.late.size > 0) slot = this.earlier(slot, this.late.first);
    return slot;
  }

  protected removeFirst(slot: number): void {
    if (this.nearCount > 0 && this.nearSlots[this.nearCount - 1] === slot) {
      this.nearCount--;
      return;
    }
    this.aside--;
    if (slot === this.passingFirst) this.passingFirst = this.ints[slot * INTS + NEXT]!;
    else this.late.removeFirst();
  }

  /** Whether the event that is due may join those of the present instant. */
  protected joinsPassing(): boolean {
    return this.passingFirst === NIL || this.times[DUE] === this.passingTime[0];
  }

  /** Events of this very instant are in order as they come. */
  protected pass(slot: number): void {
    const { ints } = this;
    this.aside++;
    ints[slot * INTS + NEXT] = NIL;
    if (this.passingFirst === NIL) {
      this.passingFirst = slot;
      this.passingTime[0] = this.times[DUE]!;
    } else {
      ints[this.passingLast * INTS + NEXT] = slot;
    }
    this.passingLast = slot;
  }

  protected insertNear(slot: number): void {
    if (this.nearCount < NEAR_MAX * 2 - 1) {
      this.insertSorted(slot, this.nearCount++);
    } else {
      this.aside++;
      this.late.add(slot);
    }
  }

  /** Into the first `count` of the near array, latest first, so that the first event is taken from its end. */
  protected insertSorted(slot: number, count: number): void {
    const atNs = this.doubles[slot * DOUBLES + TIME]!;
    const { nearTime, nearSlots } = this;
    let at = count;
    while (at > 0) {
      const time = nearTime[at - 1]!;
      if (time > atNs || (time === atNs && !this.isBefore(nearSlots[at - 1]!, slot))) break;
      nearTime[at] = time;
      nearSlots[at] = nearSlots[at - 1]!;
      at--;
    }
    nearTime[at] = atNs;
    nearSlots[at] = slot;
  }

  /** Lists are last in, first out: those of one instant are mostly in order already. Else sort by merging. */
  protected sortMany(count: number): void {
    const near = this.nearSlots.subarray(0, count);
    let falling = 1;
    while (falling < count && this.isBefore(near[falling]!, near[falling - 1]!)) falling++;
    if (falling === count) return;
    let rising = 1;
    while (rising < count && this.isBefore(near[rising - 1]!, near[rising]!)) rising++;
    if (rising === count) near.reverse();
    else near.sort((x, y) => (this.isBefore(x, y) ? 1 : -1));
    for (let i = 0; i < count; i++) this.nearTime[i] = this.doubles[near[i]! * DOUBLES + TIME]!;
  }

  /** Hand every event to `take`, in no order. */
  protected emptyFront(take: (slot: number) => void): void {
    for (let slot = this.passingFirst; slot !== NIL;) {
      const next = this.ints[slot * INTS + NEXT]!;
      take(slot);
      slot = next;
    }
    this.passingFirst = NIL;
    while (this.late.size > 0) take(this.late.removeFirst());
    this.late.clear();
    this.aside = 0;
    for (let i = 0; i < this.nearCount; i++) take(this.nearSlots[i]!);
    this.nearCount = 0;
  }

  protected widenNear(): void {
    const near = new Int32Array(this.nearSlots.length * 2);
    near.set(this.nearSlots);
    this.nearSlots = near;
    const times = new Float64Array(near.length);
    times.set(this.nearTime);
    this.nearTime = times;
  }

  protected narrowNear(): void {
    if (this.nearSlots.length === NEAR_MAX * 2) return;
    this.nearSlots = new Int32Array(NEAR_MAX * 2);
    this.nearTime = new Float64Array(NEAR_MAX * 2);
  }
}
