import { longer } from '../columns/longer.ts';
import { DUE, type EventHandle } from './event-queue.ts';

/** No slot. */
export const NIL = -1;

/** A record is 32 bytes, seen as four doubles and as eight integers. */
export const DOUBLES = 4;
export const TIME = 0;
/** Priority and sequence in one exact number: compares as (priority, sequence). */
export const ORDER = 1;
export const INTS = 8;
export const NEXT = 4;
/** Kind in the low bits, generation of the slot above; negative once cancelled. */
export const KIND = 5;
export const A = 6;
export const B = 7;

const KIND_BITS = 12;
/** Kinds that a queue can tell apart. */
export const KINDS_MAX = 1 << KIND_BITS;
export const KIND_MASK = KINDS_MAX - 1;
const GENERATION = 1 << KIND_BITS;
const GENERATIONS = 1 << (31 - KIND_BITS);
const CANCELLED = -2147483648;

const SEQUENCES = 35_184_372_088_832; // 2^45
const PRIORITY_MAX = 127;
const SLOTS_MAX = 16_777_216; // 2^24: slot and generation fit a double exactly
const CAPACITY_MIN = 256;
/** Time of a record that is known not to be in use. */
const UNUSED = -1;

/**
 * The records of pending events. A slot is reused, but under a new generation each time, and never again once its
 * generations are used up: a stale handle can never name another event.
 */
export abstract class EventStore {
  readonly times: Float64Array = Float64Array.of(0, Infinity);
  doubles: Float64Array = new Float64Array(CAPACITY_MIN * DOUBLES);
  ints: Int32Array = new Int32Array(this.doubles.buffer);
  protected capacity = CAPACITY_MIN;
  protected readonly sequence: Float64Array = new Float64Array(1);
  /** Slots from here on were never used. */
  private fresh = 0;
  private free = NIL;
  /** Slots from here on are not reused. */
  private keepBelow = SLOTS_MAX;
  /** Generation that a slot begins with: above every generation of slots that were given back. */
  private firstGeneration = 0;

  protected get storeBytes(): number {
    return this.doubles.byteLength;
  }

  /** @throws RangeError for a priority beyond ±127, or more than 2^24 events pending. */
  protected take(priority: number, kind: number, a: number, b: number): number {
    let slot = this.free;
    if (slot === NIL) slot = this.takeFresh();
    else this.free = this.ints[slot * INTS + NEXT]!;
    const { doubles, ints, sequence } = this;
    const order = sequence[0]!;
    sequence[0] = order + 1;
    const row = slot * INTS;
    doubles[slot * DOUBLES + TIME] = this.times[DUE]!;
    doubles[slot * DOUBLES + ORDER] = priority === 0 ? order : ordered(priority, order);
    ints[row + KIND] = (ints[row + KIND]! & ~KIND_MASK) | kind;
    ints[row + A] = a;
    ints[row + B] = b;
    return slot;
  }

  handleOf(slot: number): EventHandle {
    return (this.ints[slot * INTS + KIND]! >> KIND_BITS) * SLOTS_MAX + slot;
  }

  protected isLive(slot: number): boolean {
    return this.ints[slot * INTS + KIND]! >= 0;
  }

  /** Mark the event of a handle as cancelled. False for a stale handle. */
  protected kill(handle: EventHandle): boolean {
    const slot = handle % SLOTS_MAX;
    if (!(slot >= 0 && slot < this.fresh) || this.handleOf(slot) !== handle) return false;
    this.ints[slot * INTS + KIND]! |= CANCELLED;
    return true;
  }

  /** Put a slot up for reuse, under its next generation. */
  protected release(slot: number): void {
    const { ints } = this;
    const row = slot * INTS;
    const next = ((ints[row + KIND]! & ~CANCELLED) + GENERATION) | 0;
    if (next < 0 || slot >= this.keepBelow) {
      // The last generation is never left, so that no handle fits; or the slot is to be given back.
      if (next >= 0) ints[row + KIND] = next;
      this.doubles[slot * DOUBLES + TIME] = UNUSED;
      return;
    }
    ints[row + KIND] = next;
    ints[row + NEXT] = this.free;
    this.free = slot;
  }

  /** Whether x fires before y. */
  isBefore(x: number, y: number): boolean {
    const { doubles } = this;
    const earlier = doubles[x * DOUBLES + TIME]! - doubles[y * DOUBLES + TIME]!;
    return earlier !== 0 ? earlier < 0 : doubles[x * DOUBLES + ORDER]! < doubles[y * DOUBLES + ORDER]!;
  }

  /** The one of two that fires first; NIL is later than any. */
  protected earlier(x: number, y: number): number {
    return x === NIL || this.isBefore(y, x) ? y : x;
  }

  /** Times of up to `count` live records, evenly spaced over the slots, in rising order. */
  protected sampleTimes(count: number): Float64Array {
    this.markUnused();
    const sample = new Float64Array(count);
    const stride = Math.max(1, Math.floor(this.fresh / count));
    let taken = 0;
    for (let slot = 0; slot < this.fresh && taken < count; slot += stride) {
      if (this.isLive(slot) && !this.isUnused(slot)) sample[taken++] = this.doubles[slot * DOUBLES + TIME]!;
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
      generation = Math.max(generation, (this.ints[slot * INTS + KIND]! >> KIND_BITS) + 1);
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
      if (!this.isUnused(slot) || this.ints[slot * INTS + KIND]! >> KIND_BITS === GENERATIONS - 1) continue;
      this.ints[slot * INTS + NEXT] = this.free;
      this.free = slot;
    }
  }

  private isUnused(slot: number): boolean {
    return this.doubles[slot * DOUBLES + TIME] === UNUSED;
  }

  private markUnused(): void {
    for (let slot = this.free; slot !== NIL; slot = this.ints[slot * INTS + NEXT]!) {
      this.doubles[slot * DOUBLES + TIME] = UNUSED;
    }
  }

  private takeFresh(): number {
    if (this.keepBelow < this.fresh) {
      // More events than the smaller store would hold.
      this.offerUnused(SLOTS_MAX);
      const slot = this.free;
      if (slot !== NIL) {
        this.free = this.ints[slot * INTS + NEXT]!;
        return slot;
      }
    }
    if (this.fresh === this.capacity) this.grow();
    const slot = this.fresh++;
    this.ints[slot * INTS + KIND] = this.firstGeneration * GENERATION;
    return slot;
  }

  private grow(): void {
    if (this.capacity === SLOTS_MAX) throw new RangeError(`more than ${SLOTS_MAX} events pending`);
    this.capacity *= 2;
    this.doubles = longer(this.doubles, this.capacity * DOUBLES);
    this.ints = new Int32Array(this.doubles.buffer);
  }
}

function capacityFor(slots: number): number {
  let capacity = CAPACITY_MIN;
  while (capacity < slots) capacity *= 2;
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
