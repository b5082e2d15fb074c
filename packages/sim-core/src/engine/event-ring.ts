import { EventFront } from './event-front.ts';
import type { FiredEvent } from './event-queue.ts';

// Constants of this very module: V8 does not fold imported ones.
const NIL = -1;
const BITS_AT = 64;
const RING_AT = 576;
/** Up to so many events of a bucket are searched for the first; of more, all are sorted. */
const SEARCHED = 8;
/** Up to so many events of a bucket are sorted as they come. */
const NEAR_MAX = 64;
const FINE_MIN = 64;
const FINE_MAX = 1 << 16;

// Places in `doubles`.
const START = 5; // events before this are in front: near, passing, or in fine buckets
const INVERSE = 8; // 1 / width
const WIDTH = 11; // of a bucket, ns: a power of two, so that times are divided exactly
const NEAR_END = 12; // while there are fine buckets: events before this are near
const FINE_START = 13;
const FINE_INVERSE = 14;

/**
 * The ring: buckets of equal width, each a list of slots, and a bit for each that says whether anything is in it. Most
 * hold one event or none; the first is found by its bit. A bucket of many is gathered into the front and sorted there,
 * or, where it holds very many of different times, spread over fine buckets of its own first.
 */
export abstract class EventRing extends EventFront {
  /** Events held, those cancelled but not yet met included. */
  protected stored = 0;
  /** Cancelled events among them. */
  protected dead = 0;
  /** Whether events are spread over buckets and lists; else they are few, and all in front. */
  protected spread = false;
  /** Whether anything may come before what is in the ring. */
  protected ahead = false;
  /** Steps taken in vain since the last look: empty words and lists passed, events gone through and left. */
  protected effort = 0;
  /** The bucket that START lies in. */
  private at = 0;
  /** The slot before the one that `searched` found, in its list. */
  private before = NIL;
  private fine = new Int32Array(FINE_MIN).fill(NIL);
  private fineAt = 0;
  private fineBuckets = 0;

  /** See to it that the ring reaches far enough, and still suits the events that are pending. */
  protected abstract tend(): void;
  /** The ring is empty: go on where there is something. False when nothing is pending. */
  protected abstract enterNext(): boolean;
  /** Nothing is pending. */
  protected abstract rest(): void;

  protected get width(): number {
    return this.doubles[WIDTH]!;
  }

  protected set width(width: number) {
    this.doubles[WIDTH] = width;
    this.doubles[INVERSE] = 1 / width;
  }

  protected get buckets(): number {
    return this.ringMask + 1;
  }

  protected get fineBytes(): number {
    return this.fine.byteLength;
  }

  /** The ring goes on at a time; whatever comes before it is in front. */
  protected startAt(atNs: number): void {
    this.doubles[START] = atNs;
    this.at = ((atNs * this.doubles[INVERSE]!) | 0) & this.ringMask;
  }

  pop(into: FiredEvent): boolean {
    if (this.ahead) return this.popFront(into);
    const { doubles, ints } = this;
    let place = this.at >> 5;
    let set = ints[place + 64]! & (-1 << this.at);
    if (set === 0) {
      place = this.placeAfter(place);
      if (place < 0) return this.popFront(into);
      set = ints[place + 64]!;
    }
    const bit = set & -set;
    const bucket = (place << 5) | (31 - Math.clz32(bit));
    const slot = ints[bucket + 576]!;
    const row = slot << 3;
    if (ints[row | 4]! >= 0) return this.popBucket(bucket, into);
    const atNs = doubles[slot << 2]!;
    if (!(atNs < doubles[1]!)) return false;
    ints[bucket + 576] = -1;
    ints[place + 64]! ^= bit;
    this.at = bucket;
    doubles[5] = atNs;
    const word = ints[row | 5]!;
    into.kind = word;
    into.a = ints[row | 6]!;
    into.b = ints[row | 7]!;
    ints[row | 4] = this.free;
    this.free = slot;
    this.stored--;
    if (word < 0 && !this.settleNamed(slot, into)) return this.popFront(into);
    doubles[3] = atNs;
    if (atNs >= doubles[7]!) this.tend();
    return true;
  }

  /** The next word of bits after a place that has any set, perhaps that of the place itself; NIL if none has. */
  private placeAfter(place: number): number {
    const { ints } = this;
    const places = (this.ringMask + 1) >> 5;
    for (let step = 1; step <= places; step++) {
      const next = (place + step) & (places - 1);
      const set = ints[BITS_AT + next]!;
      if (set === 0) continue;
      this.effort += step;
      return next;
    }
    this.effort += places;
    return NIL;
  }

  /** The first event of several in a bucket. */
  private popBucket(bucket: number, into: FiredEvent): boolean {
    const { ints } = this;
    const head = ints[RING_AT + bucket]!;
    const slot = this.searched(head);
    if (slot < 0) return this.popFront(into);
    const atNs = this.timeOf(slot);
    if (!(atNs < this.limitNs)) return false;
    if (slot === head) ints[RING_AT + bucket] = this.nextOf(head);
    else this.setNext(this.before, this.nextOf(slot));
    this.at = bucket;
    this.doubles[START] = atNs;
    return this.deliver(slot, into) || this.popFront(into);
  }

  /** The first event of a list; NIL when it is long. */
  private searched(head: number): number {
    let first = head;
    let previous = head;
    let count = 1;
    for (let slot = this.nextOf(head); slot >= 0; slot = this.nextOf(slot)) {
      if (++count > SEARCHED) return NIL;
      if (this.isBefore(slot, first)) {
        first = slot;
        this.before = previous;
      }
      previous = slot;
    }
    return first;
  }

  /** The first event, wherever it is, by way of the front. */
  private popFront(into: FiredEvent): boolean {
    const count = this.nearCount - 1;
    if (count < 0 || this.aside !== 0) return this.popAside(into);
    const slot = this.near[count]!;
    if (!(this.timeOf(slot) < this.limitNs)) return false;
    this.nearCount = count;
    if (count === 0) this.ahead = this.fineBuckets !== 0 || !this.spread;
    return this.deliver(slot, into) || this.popAside(into);
  }

  /** The same where events lie beside the sorted array, or it is empty. */
  private popAside(into: FiredEvent): boolean {
    const slot = this.first();
    if (slot < 0) {
      this.rest();
      return false;
    }
    if (!(this.timeOf(slot) < this.limitNs)) return false;
    this.removeFirst(slot);
    this.ahead = (this.nearCount | this.aside | this.fineBuckets) !== 0 || !this.spread;
    return this.deliver(slot, into);
  }

  /** Hand over an event that was taken out, as `pop` does within itself for speed; false if it was cancelled. */
  private deliver(slot: number, into: FiredEvent): boolean {
    const { doubles, ints } = this;
    const row = slot << 3;
    const word = ints[row | 5]!;
    into.kind = word;
    into.a = ints[row | 6]!;
    into.b = ints[row | 7]!;
    ints[row | 4] = this.free;
    this.free = slot;
    this.stored--;
    if (word < 0 && !this.settleNamed(slot, into)) return false;
    doubles[3] = doubles[slot << 2]!;
    return true;
  }

  /** An event that has a handle was taken out: false if it was cancelled. */
  private settleNamed(slot: number, into: FiredEvent): boolean {
    into.kind = ~into.kind;
    if (this.settle(slot)) return true;
    this.dead--;
    return false;
  }

  peekNs(): number {
    const slot = this.first();
    return slot < 0 ? Infinity : this.timeOf(slot);
  }

  /** The slot of the first live event, brought to the front; NIL if there is none. Dead ones before it are dropped. */
  private first(): number {
    for (;;) {
      if (this.nearCount === 0 && this.aside === 0) {
        this.tend();
        if (this.nearCount === 0 && this.aside === 0 && !this.refill()) return NIL;
        this.ahead = true;
      }
      const slot = this.candidate();
      if (this.isLive(slot)) return slot;
      this.removeFirst(slot);
      this.release(slot);
      this.stored--;
      this.dead--;
    }
  }

  /** Place an event that comes before the ring. */
  protected insertEarly(word: number, a: number, b: number): void {
    const slot = this.take(word, a, b);
    if (!this.spread) return this.insertSorted(slot, this.nearCount++);
    const atNs = this.timeOf(slot);
    this.ahead = true;
    if (this.fineBuckets > 0 && atNs >= this.doubles[NEAR_END]!) this.linkFine(slot);
    else if (atNs !== this.nowNs || !this.isNewest || !this.pass(slot)) this.insertNear(slot);
  }

  /** Drop what was cancelled from the sorted array. */
  protected sweepNear(): void {
    const { near, nearCount } = this;
    this.nearCount = 0;
    for (let i = 0; i < nearCount; i++) {
      const slot = near[i]!;
      if (this.isLive(slot)) {
        near[this.nearCount++] = slot;
      } else {
        this.release(slot);
        this.stored--;
        this.dead--;
      }
    }
  }

  /** Gather the next bucket into the near array, which is empty. False when nothing is pending. */
  private refill(): boolean {
    if (this.fineBuckets > 0 && this.refillFine()) return true;
    for (;;) {
      let place = this.at >> 5;
      let set = this.ints[BITS_AT + place]! & (-1 << this.at);
      if (set === 0) {
        place = this.placeAfter(place);
        if (place >= 0) {
          set = this.ints[BITS_AT + place]!;
        } else {
          // What is entered may have been cancelled, all of it.
          if (this.enterNext()) continue;
          return false;
        }
      }
      const { doubles, ints } = this;
      const bit = set & -set;
      const bucket = (place << 5) | (31 - Math.clz32(bit));
      const head = ints[RING_AT + bucket]!;
      ints[RING_AT + bucket] = NIL;
      ints[BITS_AT + place]! ^= bit;
      this.startAt((Math.floor(this.timeOf(head) * doubles[INVERSE]!) + 1) * doubles[WIDTH]!);
      if (this.gather(head) || this.refillFine()) return true;
    }
  }

  /** Move a list into the empty near array and sort it; a long one may go into fine buckets first: false then. */
  private gather(head: number): boolean {
    let count = 0;
    let slot = head;
    do {
      this.insertSorted(slot, count++);
      slot = this.nextOf(slot);
    } while (slot >= 0 && count < NEAR_MAX);
    if (slot >= 0) return this.gatherMany(slot, count);
    this.nearCount = count;
    return true;
  }

  /** The rest of a list of which `count` are in the near array already. */
  private gatherMany(head: number, count: number): boolean {
    this.effort += count;
    let previous = this.near[count - 1]!;
    let low = this.timeOf(previous);
    let high = this.timeOf(this.near[0]!);
    let sorted = true;
    for (let slot = head; slot !== NIL; slot = this.nextOf(slot)) {
      if (count === this.near.length) this.widenNear();
      this.near[count++] = slot;
      const time = this.timeOf(slot);
      if (time < low) low = time;
      if (time > high) high = time;
      // Lists are last in, first out: events of one instant are mostly in order already.
      if (sorted && this.isBefore(previous, slot)) sorted = false;
      previous = slot;
    }
    if (this.fineBuckets === 0 && low < high) {
      this.refine(count);
      return false;
    }
    this.nearCount = count;
    if (!sorted) this.sortMany(count);
    return true;
  }

  /** Spread the bucket that was just gathered over buckets of its own. */
  private refine(count: number): void {
    const { doubles, width } = this;
    let buckets = FINE_MIN;
    while (buckets * 2 < count && buckets < FINE_MAX && buckets < width) buckets *= 2;
    if (buckets > width) buckets = width;
    if (buckets > this.fine.length) this.fine = new Int32Array(buckets).fill(NIL);
    this.fineBuckets = buckets;
    this.fineAt = 0;
    doubles[FINE_INVERSE] = buckets / width;
    doubles[FINE_START] = doubles[START]! - width;
    // A bucket partly near already keeps what is left of it: nothing before the old end was in its list.
    doubles[NEAR_END] = doubles[FINE_START]!;
    for (let i = count - 1; i >= 0; i--) this.linkFine(this.near[i]!);
    if (this.near.length > 4096) this.narrowNear();
  }

  private linkFine(slot: number): void {
    const { doubles, fine } = this;
    const bucket = ((this.timeOf(slot) - doubles[FINE_START]!) * doubles[FINE_INVERSE]!) | 0;
    this.setNext(slot, fine[bucket]!);
    fine[bucket] = slot;
  }

  private refillFine(): boolean {
    const { doubles, fine } = this;
    while (this.fineAt < this.fineBuckets) {
      const bucket = this.fineAt++;
      const head = fine[bucket]!;
      if (head === NIL) continue;
      fine[bucket] = NIL;
      doubles[NEAR_END] = doubles[FINE_START]! + this.fineAt / doubles[FINE_INVERSE]!;
      return this.gather(head);
    }
    this.fineBuckets = 0;
    return false;
  }

  /** Hand every event to `take`, in no order; their slots are for `beginStore` to take back. */
  protected emptyRing(take: (slot: number) => void): void {
    this.emptyFront(take);
    this.narrowNear();
    this.emptyBuckets(this.fine, 0, this.fine.length, take);
    this.emptyBuckets(this.ints, RING_AT, this.buckets, take);
    this.fineBuckets = 0;
    if (this.fine.length > FINE_MIN) this.fine = new Int32Array(FINE_MIN).fill(NIL);
  }

  private emptyBuckets(heads: Int32Array, from: number, count: number, take: (slot: number) => void): void {
    for (let bucket = from; bucket < from + count; bucket++) {
      for (let slot = heads[bucket]!; slot !== NIL; slot = this.nextOf(slot)) take(slot);
      heads[bucket] = NIL;
    }
  }
}
