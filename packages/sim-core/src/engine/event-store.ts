import { longer } from '../columns/longer.ts';
import type { EventHandle } from './event-queue.ts';

/** No slot. */
export const NIL = -1;

/** Integers in a record; it is as many bytes times four, and half as many doubles. */
const INTS = 8;
const DOUBLES = 4;

const KIND_BITS = 12;
/** Kinds that a queue can tell apart. */
export const KINDS_MAX = 1 << KIND_BITS;
const GENERATION = 1 << KIND_BITS;
const GENERATIONS = 1 << (31 - KIND_BITS);

const SEQUENCES = 35_184_372_088_832; // 2^45
const PRIORITY_MAX = 127;
const SLOTS_MAX = 16_777_216; // 2^24: slot and generation fit a double exactly
const CAPACITY_MIN = 256;
/** From this size on, the store grows by a quarter instead of twofold. */
const LARGE = 65_536;
/** Time of a record that is known not to be in use. */
const UNUSED = -1;

/**
 * The records of pending events, 32 bytes each, seen as doubles and as integers:
 *
 *      doubles   0: time          1: priority and sequence in one exact number, compares as (priority, sequence)
 *      ints                                           4: next in a list   5: kind   6: a   7: b
 *
 * The kind is in the low bits of its word, the generation of the slot above; negative once cancelled. A slot is
 * reused, but under a new generation each time, and never again once its generations are used up: a stale handle can
 * never name another event.
 *
 * The layout is known to the methods below alone, which V8 inlines. They hold numbers, not names for a reason: a
 * constant that is imported from another module is not folded, but loaded and checked at each use.
 */
export abstract class EventStore {
  protected capacity = CAPACITY_MIN;
  private doubles: Float64Array = new Float64Array(CAPACITY_MIN * DOUBLES);
  private ints: Int32Array = new Int32Array(this.doubles.buffer);
  /** Due, limit, sequence, present: a class field that is a double would be boxed anew at each change. */
  private readonly times: Float64Array = Float64Array.of(0, Infinity, 0, NaN);
  /** Slots from here on were never used. */
  private fresh = 0;
  /** A list of the slots that can be used. */
  private free = NIL;
  /** Slots from here on are not reused. */
  private keepBelow = SLOTS_MAX;
  /** Generation that a slot begins with: above every generation of slots that were given back. */
  private firstGeneration = 0;

  get dueNs(): number {
    return this.times[0]!;
  }

  set dueNs(atNs: number) {
    this.times[0] = atNs;
  }

  get limitNs(): number {
    return this.times[1]!;
  }

  set limitNs(atNs: number) {
    this.times[1] = atNs;
  }

  /** Records written so far. */
  protected get sequence(): number {
    return this.times[2]!;
  }

  /** Time of the event popped last. */
  protected get presentNs(): number {
    return this.times[3]!;
  }

  protected set presentNs(atNs: number) {
    this.times[3] = atNs;
  }

  protected timeOf(slot: number): number {
    return this.doubles[slot << 2]!;
  }

  protected nextOf(slot: number): number {
    return this.ints[(slot << 3) | 4]!;
  }

  protected setNext(slot: number, next: number): void {
    this.ints[(slot << 3) | 4] = next;
  }

  protected kindOf(slot: number): number {
    return this.ints[(slot << 3) | 5]! & 0xfff;
  }

  protected aOf(slot: number): number {
    return this.ints[(slot << 3) | 6]!;
  }

  protected bOf(slot: number): number {
    return this.ints[(slot << 3) | 7]!;
  }

  protected isLive(slot: number): boolean {
    return this.ints[(slot << 3) | 5]! >= 0;
  }

  handleOf(slot: number): EventHandle {
    return this.generationOf(slot) * SLOTS_MAX + slot;
  }

  private generationOf(slot: number): number {
    return this.ints[(slot << 3) | 5]! >> KIND_BITS;
  }

  /** Whether x fires before y. */
  isBefore(x: number, y: number): boolean {
    const { doubles } = this;
    const earlier = doubles[x << 2]! - doubles[y << 2]!;
    return earlier !== 0 ? earlier < 0 : doubles[(x << 2) | 1]! < doubles[(y << 2) | 1]!;
  }

  /** The one of two that fires first; NIL is later than any. */
  protected earlier(x: number, y: number): number {
    return x === NIL || this.isBefore(y, x) ? y : x;
  }

  /** Write down the event that is due. @throws RangeError for a priority beyond ±127, or more than 2^24 events. */
  protected take(priority: number, kind: number, a: number, b: number): number {
    if (this.free < 0) this.offerFresh();
    const { doubles, ints, times, free: slot } = this;
    const row = slot << 3;
    this.free = ints[row | 4]!;
    const order = times[2]!;
    times[2] = order + 1;
    doubles[slot << 2] = times[0]!;
    doubles[(slot << 2) | 1] = priority === 0 ? order : ordered(priority, order);
    ints[row | 5] = (ints[row | 5]! & ~0xfff) | kind;
    ints[row | 6] = a;
    ints[row | 7] = b;
    return slot;
  }

  /** Put a slot up for reuse, under its next generation. */
  protected release(slot: number): void {
    const { ints } = this;
    const row = slot << 3;
    const next = ((ints[row | 5]! & 0x7fffffff) + 0x1000) | 0;
    if (next < 0 || slot >= this.keepBelow) {
      this.retire(slot, next);
      return;
    }
    ints[row | 5] = next;
    ints[row | 4] = this.free;
    this.free = slot;
  }

  /** The last generation is never left, so that no handle fits; or the slot is to be given back. */
  private retire(slot: number, word: number): void {
    if (word >= 0) this.ints[(slot << 3) | 5] = word;
    this.doubles[slot << 2] = UNUSED;
  }

  /** False for a stale handle. (A cancelled record has a negative generation until it is met, as no handle has.) */
  isPending(handle: EventHandle): boolean {
    const slot = handle % SLOTS_MAX;
    return slot >= 0 && slot < this.fresh && Number.isInteger(slot) && this.handleOf(slot) === handle;
  }

  /** Mark the event of a handle as cancelled. False for a stale handle. */
  protected kill(handle: EventHandle): boolean {
    if (!this.isPending(handle)) return false;
    this.ints[((handle % SLOTS_MAX) << 3) | 5]! |= 0x80000000;
    return true;
  }

  protected get storeBytes(): number {
    return this.doubles.byteLength;
  }

  /** Times of up to `count` live records, evenly spaced over the slots, in rising order. */
  protected sampleTimes(count: number): Float64Array {
    this.markUnused();
    const sample = new Float64Array(count);
    const stride = Math.max(1, Math.floor(this.fresh / count));
    let taken = 0;
    for (let slot = 0; slot < this.fresh && taken < count; slot += stride) {
      if (this.isLive(slot) && !this.isUnused(slot)) sample[taken++] = this.timeOf(slot);
    }
    return sample.subarray(0, taken).sort();
  }

  /**
   * Give memory back that `size` events do not need: cut the store where its upper part is free; else stop reusing
   * the upper part, so that it will be.
   */
  protected shrink(size: number): void {
    if (this.capacity === CAPACITY_MIN || size * 8 > this.capacity) return;
    this.markUnused();
    let used = this.fresh;
    while (used > 0 && this.isUnused(used - 1)) used--;
    const capacity = capacityFor(used);
    if (capacity < this.capacity && this.cut(capacity)) this.offerUnused(SLOTS_MAX);
    else this.offerUnused(capacityFor(size * 2));
  }

  /** Nothing is pending, alive or cancelled: back to the smallest store. */
  protected reset(): void {
    this.markUnused();
    this.cut(CAPACITY_MIN);
    this.offerUnused(SLOTS_MAX);
  }

  /** Forget the slots from `capacity` on, which are unused. False when their generations are used up. */
  private cut(capacity: number): boolean {
    let generation = this.firstGeneration;
    for (let slot = capacity; slot < this.fresh; slot++) {
      generation = Math.max(generation, this.generationOf(slot) + 1);
    }
    if (generation >= GENERATIONS >> 1) return false;
    this.firstGeneration = generation;
    this.capacity = capacity;
    this.fresh = Math.min(this.fresh, capacity);
    this.doubles = this.doubles.slice(0, capacity * DOUBLES);
    this.ints = new Int32Array(this.doubles.buffer);
    return true;
  }

  /** Put the slots marked unused up for reuse, but only those below `keepBelow`. */
  private offerUnused(keepBelow: number): void {
    this.keepBelow = keepBelow;
    this.free = NIL;
    for (let slot = Math.min(this.fresh, keepBelow) - 1; slot >= 0; slot--) {
      if (!this.isUnused(slot) || this.generationOf(slot) === GENERATIONS - 1) continue;
      this.setNext(slot, this.free);
      this.free = slot;
    }
  }

  private isUnused(slot: number): boolean {
    return this.timeOf(slot) === UNUSED;
  }

  private markUnused(): void {
    for (let slot = this.free; slot !== NIL; slot = this.nextOf(slot)) this.doubles[slot * DOUBLES] = UNUSED;
  }

  /** Put a slot on the list of free ones, which is empty. */
  private offerFresh(): void {
    if (this.keepBelow < this.fresh) {
      // More events than the smaller store would hold.
      this.offerUnused(SLOTS_MAX);
      if (this.free !== NIL) return;
    }
    if (this.fresh === this.capacity) this.grow();
    const slot = this.fresh++;
    this.ints[slot * INTS + 5] = this.firstGeneration * GENERATION;
    this.setNext(slot, NIL);
    this.free = slot;
  }

  private grow(): void {
    if (this.capacity === SLOTS_MAX) throw new RangeError(`more than ${SLOTS_MAX} events pending`);
    this.capacity = nextCapacity(this.capacity);
    this.doubles = longer(this.doubles, this.capacity * DOUBLES);
    this.ints = new Int32Array(this.doubles.buffer);
  }
}

function nextCapacity(capacity: number): number {
  return Math.min(SLOTS_MAX, capacity < LARGE ? capacity * 2 : capacity + (capacity >> 2));
}

function capacityFor(slots: number): number {
  let capacity = CAPACITY_MIN;
  while (capacity < slots) capacity = nextCapacity(capacity);
  return capacity;
}

function ordered(priority: number, sequence: number): number {
  if (!(Math.abs(priority) <= PRIORITY_MAX) || !Number.isInteger(priority)) {
    throw new RangeError(
      `priority ${priority}: wanted a whole number from -${PRIORITY_MAX} to ${PRIORITY_MAX}`,
    );
  }
  return priority * SEQUENCES + sequence;
}
