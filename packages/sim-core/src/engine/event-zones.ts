import { DOUBLES, INTS, NEXT, NIL, TIME } from './event-store.ts';
import { EventFront, NEAR_MAX } from './event-front.ts';

export const BUCKETS_MIN = 64;
const COARSE = 1024;
const COARSE_MASK = COARSE - 1;
const FINE_MAX = 1 << 16;

// State that is a double lives in a typed array: a class field would box it anew at every change.
export const NEAR_END = 0; // events before this are near
const FINE_END = 1; // events before this, and not near, are in the fine buckets
const HORIZON = 2; // events before this, and not before, are in the ring
const COARSE_END = 3; // events before this, and not before, are in the coarse ring; all others are beyond
const INVERSE = 4; // 1 / width of a ring bucket
export const WIDTH = 5; // of a ring bucket, ns: a power of two, so that times are divided exactly
const FINE_INVERSE = 6;
const FINE_START = 7;
const COARSE_INVERSE = 8;
const COARSE_WIDTH = 9;
const BEYOND_MIN = 10;
const STATE = 11;

/**
 * Where pending events lie, by their time:
 *
 *             NEAR_END    FINE_END          HORIZON                 COARSE_END
 *      | front     | fine      | ring             | coarse ring           | beyond
 *      | sorted    | the ring  | unsorted lists   | unsorted lists, each  | one unsorted list
 *      |           | bucket in | by time / width  | a quarter of the ring |
 *      |           | turn, when|                  |                       |
 *      |           | too full  |                  |                       |
 *
 * Widths are powers of two, so that dividing a time by them is exact.
 */
export abstract class EventZones extends EventFront {
  protected readonly zones: Float64Array = new Float64Array(STATE);
  protected fine = new Int32Array(BUCKETS_MIN).fill(NIL);
  private fineAt = 0;
  protected fineBuckets = 0;
  protected ring = new Int32Array(0);
  protected ringMask = 0;
  private ringCount = 0;
  /** Ring buckets drained since the origin of time; the next is the one in turn. */
  protected turn = 0.5;
  private readonly coarse = new Int32Array(COARSE).fill(NIL);
  private coarseCount = 0;
  private beyond = NIL;
  private beyondCount = 0;

  protected insert(slot: number): void {
    const atNs = this.doubles[slot * DOUBLES + TIME]!;
    const { zones: state, ints } = this;
    if (atNs < state[FINE_END]!) {
      if (atNs < state[NEAR_END]!) this.insertNear(slot);
      else this.link(this.fine, ((atNs - state[FINE_START]!) * state[FINE_INVERSE]!) | 0, slot);
    } else if (atNs < state[HORIZON]!) {
      const { ring } = this;
      const bucket = ((atNs * state[INVERSE]!) | 0) & this.ringMask;
      ints[slot * INTS + NEXT] = ring[bucket]!;
      ring[bucket] = slot;
      this.ringCount++;
    } else if (atNs < state[COARSE_END]!) {
      this.coarseCount++;
      this.link(this.coarse, ((atNs * state[COARSE_INVERSE]!) | 0) & COARSE_MASK, slot);
    } else {
      this.beyondCount++;
      if (atNs < state[BEYOND_MIN]!) state[BEYOND_MIN] = atNs;
      ints[slot * INTS + NEXT] = this.beyond;
      this.beyond = slot;
    }
  }

  private link(heads: Int32Array, bucket: number, slot: number): void {
    this.ints[slot * INTS + NEXT] = heads[bucket]!;
    heads[bucket] = slot;
  }

  /** Gather the next bucket into the near array. False when nothing is pending anywhere. */
  protected refill(): boolean {
    const state = this.zones;
    for (;;) {
      if (this.fineBuckets > 0) {
        if (this.refillFine()) return true;
        continue;
      }
      if (this.ringCount > 0) {
        const head = this.nextRingBucket();
        state[NEAR_END] = this.turn * state[WIDTH]!;
        state[FINE_END] = state[NEAR_END]!;
        this.advanceHorizon();
        if (this.gather(head)) return true;
        continue;
      }
      if (this.coarseCount > 0) this.enterCoarse();
      else if (this.beyondCount > 0) this.enterBeyond();
      else return false;
    }
  }

  /** Take the list of the next ring bucket that has one. */
  private nextRingBucket(): number {
    const ring = this.ring;
    const mask = this.ringMask;
    let bucket = (this.turn | 0) & mask;
    let steps = 0;
    while (ring[bucket] === NIL) {
      bucket = (bucket + 1) & mask;
      steps++;
    }
    const head = ring[bucket]!;
    ring[bucket] = NIL;
    this.turn += steps + 1;
    return head;
  }

  /**
   * Move a list into the empty near array and sort it; a long one goes into fine buckets first, unless all its
   * events are of one instant. False when it went into fine buckets.
   */
  private gather(head: number): boolean {
    const { ints } = this;
    let count = 0;
    let slot = head;
    for (; slot !== NIL && count < NEAR_MAX; slot = ints[slot * INTS + NEXT]!) {
      this.insertSorted(slot, count++);
    }
    if (slot !== NIL) return this.gatherMany(slot, count);
    if (this.fineBuckets === 0) this.ringCount -= count;
    this.nearCount = count;
    return true;
  }

  /** The rest of a list of which `count` are in the near array already. */
  private gatherMany(head: number, count: number): boolean {
    const { doubles, ints } = this;
    let low = this.nearTime[count - 1]!;
    let high = this.nearTime[0]!;
    for (let slot = head; slot !== NIL; slot = ints[slot * INTS + NEXT]!) {
      if (count === this.nearSlots.length) this.widenNear();
      const time = doubles[slot * DOUBLES + TIME]!;
      this.nearSlots[count] = slot;
      this.nearTime[count++] = time;
      if (time < low) low = time;
      if (time > high) high = time;
    }
    if (this.fineBuckets === 0) {
      this.ringCount -= count;
      if (low < high) {
        this.refine(count);
        return false;
      }
    }
    this.nearCount = count;
    this.sortMany(count);
    return true;
  }

  /** Spread the ring bucket that was just gathered over buckets of its own. */
  private refine(count: number): void {
    const state = this.zones;
    const width = state[WIDTH]!;
    let buckets = BUCKETS_MIN;
    while (buckets * 2 < count && buckets < FINE_MAX && buckets < width) buckets *= 2;
    if (buckets > width) buckets = width;
    if (buckets > this.fine.length) this.fine = new Int32Array(buckets).fill(NIL);
    this.fineBuckets = buckets;
    this.fineAt = 0;
    state[FINE_INVERSE] = buckets / width;
    state[FINE_START] = state[NEAR_END]! - width;
    // A bucket partly near already keeps what is left of it: nothing before the old end was in its list.
    state[NEAR_END] = state[FINE_START]!;
    for (let i = count - 1; i >= 0; i--) {
      const bucket = ((this.nearTime[i]! - state[FINE_START]!) * state[FINE_INVERSE]!) | 0;
      this.link(this.fine, bucket, this.nearSlots[i]!);
    }
    this.nearCount = 0;
    if (this.nearSlots.length > 4096) this.narrowNear();
  }

  private refillFine(): boolean {
    const state = this.zones;
    const fine = this.fine;
    while (this.fineAt < this.fineBuckets) {
      const bucket = this.fineAt++;
      const head = fine[bucket]!;
      if (head === NIL) continue;
      fine[bucket] = NIL;
      state[NEAR_END] = state[FINE_START]! + this.fineAt / state[FINE_INVERSE]!;
      return this.gather(head);
    }
    this.fineBuckets = 0;
    state[NEAR_END] = state[FINE_END]!;
    return false;
  }

  /** Let the ring reach as far as it can: a quarter at a time, from the coarse ring. */
  private advanceHorizon(): void {
    const state = this.zones;
    const reach = this.turn * state[WIDTH]! + (this.ringMask + 1) * state[WIDTH]!;
    while (state[HORIZON]! + state[COARSE_WIDTH]! <= reach) {
      const bucket = ((state[HORIZON]! * state[COARSE_INVERSE]!) | 0) & COARSE_MASK;
      state[HORIZON]! += state[COARSE_WIDTH]!;
      state[COARSE_END]! += state[COARSE_WIDTH]!;
      this.scatterCoarse(bucket);
    }
    if (this.beyondCount > 0 && state[BEYOND_MIN]! < state[COARSE_END]!) this.scatterBeyond();
  }

  private scatterCoarse(bucket: number): void {
    let slot = this.coarse[bucket]!;
    if (slot === NIL) return;
    this.coarse[bucket] = NIL;
    const { ints } = this;
    while (slot !== NIL) {
      const next = ints[slot * INTS + NEXT]!;
      this.coarseCount--;
      this.insert(slot);
      slot = next;
    }
  }

  private scatterBeyond(): void {
    const { ints } = this;
    let slot = this.beyond;
    this.beyond = NIL;
    this.beyondCount = 0;
    this.zones[BEYOND_MIN] = Infinity;
    while (slot !== NIL) {
      const next = ints[slot * INTS + NEXT]!;
      this.insert(slot);
      slot = next;
    }
  }

  /** The ring is empty: go on where the coarse ring has something. */
  private enterCoarse(): void {
    const state = this.zones;
    let bucket = ((state[HORIZON]! * state[COARSE_INVERSE]!) | 0) & COARSE_MASK;
    while (this.coarse[bucket] === NIL) {
      bucket = (bucket + 1) & COARSE_MASK;
      state[HORIZON]! += state[COARSE_WIDTH]!;
      state[COARSE_END]! += state[COARSE_WIDTH]!;
    }
    this.turn = state[HORIZON]! / state[WIDTH]!;
    state[NEAR_END] = state[HORIZON]!;
    state[FINE_END] = state[HORIZON]!;
    this.advanceHorizon();
  }

  /** Everything left lies beyond: lay the zones out anew from its first event. */
  private enterBeyond(): void {
    this.layOut(this.zones[WIDTH]!, this.ringMask + 1, this.zones[BEYOND_MIN]!);
    this.scatterBeyond();
  }

  /** Place the zones: what is before `fromNs` is near. */
  protected layOut(width: number, buckets: number, fromNs: number): void {
    const state = this.zones;
    if (this.ring.length !== buckets) this.ring = new Int32Array(buckets).fill(NIL);
    this.ringMask = buckets - 1;
    state[WIDTH] = width;
    state[INVERSE] = 1 / width;
    state[COARSE_WIDTH] = (buckets / 4) * width;
    state[COARSE_INVERSE] = 1 / state[COARSE_WIDTH]!;
    this.turn = Math.floor(fromNs / width);
    state[NEAR_END] = this.turn * width;
    state[FINE_END] = state[NEAR_END]!;
    state[HORIZON] =
      Math.floor((state[NEAR_END]! + buckets * width) / state[COARSE_WIDTH]!) * state[COARSE_WIDTH]!;
    state[COARSE_END] = state[HORIZON]! + (COARSE - 1) * state[COARSE_WIDTH]!;
  }

  protected get zoneBytes(): number {
    return this.fine.byteLength + this.ring.byteLength + this.coarse.byteLength;
  }

  /** Empty every zone into one chain, without the dead. */
  protected collect(): number {
    const { ints } = this;
    let chain = NIL;
    const add = (slot: number): void => {
      if (!this.isLive(slot)) {
        this.release(slot);
        return;
      }
      ints[slot * INTS + NEXT] = chain;
      chain = slot;
    };
    const addList = (head: number): void => {
      for (let slot = head; slot !== NIL;) {
        const next = ints[slot * INTS + NEXT]!;
        add(slot);
        slot = next;
      }
    };
    for (const heads of [this.fine, this.ring, this.coarse]) {
      for (let bucket = 0; bucket < heads.length; bucket++) {
        if (heads[bucket] === NIL) continue;
        addList(heads[bucket]!);
        heads[bucket] = NIL;
      }
    }
    addList(this.beyond);
    this.emptyFront(add);
    this.fineBuckets = 0;
    this.ringCount = 0;
    this.coarseCount = 0;
    this.beyond = NIL;
    this.beyondCount = 0;
    this.zones[BEYOND_MIN] = Infinity;
    this.narrowNear();
    return chain;
  }

  /** Few events: all in the sorted array, whatever their time. */
  protected allNear(): void {
    const state = this.zones;
    this.ring = new Int32Array(0);
    this.ringMask = 0;
    state[NEAR_END] = Infinity;
    state[FINE_END] = Infinity;
    state[HORIZON] = Infinity;
    state[COARSE_END] = Infinity;
    state[BEYOND_MIN] = Infinity;
  }
}
