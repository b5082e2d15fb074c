import { longer } from '../columns/longer.ts';
import type { EventHandle } from './event-queue.ts';
import { PendingHandles } from './pending-handles.ts';

/** No slot. */
export const NIL = -1;

/** Kinds that a queue can tell apart. */
export const KINDS_MAX = 4096;

/** Doubles and integers in a record. */
const DOUBLES = 4;
const INTS = 8;
/** Doubles before the bits, integers before the ring. */
const HEADER = 32;
const RING_AT = 576;
/** Buckets of the ring, a power of two; the bits of more would not fit before it. */
export const BUCKETS_MIN = 64;
export const BUCKETS_MAX = (RING_AT - 2 * HEADER) * 32;
const SLOTS_MIN = 256;
const LARGE = 65_536;

const SEQUENCES = 35_184_372_088_832; // 2^45
const PRIORITY_MAX = 127;

/**
 * The memory of the events that come next: one buffer, seen as doubles and as integers, because V8 checks each array
 * that a function touches, and a class field that is a double would be boxed anew at each change.
 *
 *      doubles    0 …    due, limit, sequence, now, order due, and what the zones keep
 *      ints      64 …    a bit for each bucket of the ring: whether anything is in it; room for 16,384
 *      ints     576 …    the ring: the first slot of each bucket
 *      after it          the records, 32 bytes each; a slot is the number of a record
 *
 * A record:
 *
 *      doubles   0: time          1: priority and sequence in one exact number, compares as (priority, sequence)
 *      ints                                        4: next in a list   5: kind   6: a   7: b
 *
 * A kind is negative, all bits turned, where the event has a handle: whether it was cancelled is then to be asked.
 *
 * The layout of records is known to the methods below and to the hot ones of the zones, and written in numbers for a
 * reason: a constant that is imported from another module is not folded, but loaded and checked at each use, and each
 * name makes a function longer, until V8 no longer inlines it.
 */
export abstract class EventStore {
  protected doubles: Float64Array = Float64Array.of(0, Infinity, 0, 0, ...new Float64Array(HEADER - 4));
  protected ints: Int32Array = new Int32Array(this.doubles.buffer);
  /** A list of the slots that can be used. */
  protected free = NIL;
  /** Buckets of the ring, less one. */
  protected ringMask = 0;
  private readonly handles = new PendingHandles();

  get dueNs(): number {
    return this.doubles[0]!;
  }

  set dueNs(atNs: number) {
    this.doubles[0] = atNs;
  }

  get limitNs(): number {
    return this.doubles[1]!;
  }

  set limitNs(atNs: number) {
    this.doubles[1] = atNs;
  }

  /** Events scheduled so far. */
  protected get sequence(): number {
    return this.doubles[2]!;
  }

  get nowNs(): number {
    return this.doubles[3]!;
  }

  set nowNs(atNs: number) {
    this.doubles[3] = atNs;
  }

  /** Priority and sequence of the event that is due. */
  protected get dueOrder(): number {
    return this.doubles[4]!;
  }

  protected set dueOrder(order: number) {
    this.doubles[4] = order;
  }

  /** Whether the event that is due was scheduled last, in the ordinary priority. */
  protected get isNewest(): boolean {
    return this.dueOrder === this.sequence - 1;
  }

  protected timeOf(slot: number): number {
    return this.doubles[slot << 2]!;
  }

  protected orderOf(slot: number): number {
    return this.doubles[(slot << 2) | 1]!;
  }

  protected nextOf(slot: number): number {
    return this.ints[(slot << 3) | 4]!;
  }

  protected setNext(slot: number, next: number): void {
    this.ints[(slot << 3) | 4] = next;
  }

  /** Kind, and whether it has a handle. */
  protected wordOf(slot: number): number {
    return this.ints[(slot << 3) | 5]!;
  }

  protected aOf(slot: number): number {
    return this.ints[(slot << 3) | 6]!;
  }

  protected bOf(slot: number): number {
    return this.ints[(slot << 3) | 7]!;
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

  /** Write down the event that is due. */
  protected take(word: number, a: number, b: number): number {
    if (this.free < 0) this.grow();
    const { doubles, ints, free: slot } = this;
    const row = slot << 3;
    this.free = ints[row | 4]!;
    doubles[slot << 2] = doubles[0]!;
    doubles[(slot << 2) | 1] = doubles[4]!;
    ints[row | 5] = word;
    ints[row | 6] = a;
    ints[row | 7] = b;
    return slot;
  }

  /** Give the event that is due, ordinary so far, another priority. */
  protected prioritise(priority: number): void {
    checkPriority(priority);
    this.dueOrder += priority * SEQUENCES;
  }

  /** Put a slot up for reuse. */
  protected release(slot: number): void {
    this.ints[(slot << 3) | 4] = this.free;
    this.free = slot;
  }

  /** A handle for the event that comes next in the order of scheduling. */
  protected nameNext(): EventHandle {
    const handle = this.doubles[2]!;
    this.handles.add(handle);
    return handle;
  }

  /** False for a stale handle. */
  isPending(handle: EventHandle): boolean {
    return handle >= 0 && handle < this.sequence && Number.isInteger(handle) && this.handles.has(handle);
  }

  /** The event of a handle is not to fire. False for a stale handle. */
  protected forget(handle: EventHandle): boolean {
    return this.isPending(handle) && this.handles.remove(handle);
  }

  protected isLive(slot: number): boolean {
    return this.wordOf(slot) >= 0 || this.handles.has(sequenceOf(this.orderOf(slot)));
  }

  /** Whether the event that is due, which has a handle, was not cancelled. */
  protected isDueWanted(): boolean {
    return this.handles.has(sequenceOf(this.dueOrder));
  }

  /** An event that has a handle fires: false if it was cancelled. */
  protected settle(slot: number): boolean {
    return this.handles.remove(sequenceOf(this.orderOf(slot)));
  }

  protected get storeBytes(): number {
    return this.doubles.byteLength + this.handles.bytes;
  }

  /** Slots, in use or not. */
  private get slots(): number {
    return (this.ints.length - RING_AT - this.ringMask - 1) / INTS;
  }

  /** Whether there is much more room than so many events need. */
  protected isStoreRoomyFor(events: number): boolean {
    return this.slots > 8 * Math.max(events, SLOTS_MIN / 8) || this.handles.isRoomyFor(events);
  }

  /** No slot is in use: begin anew, with so many buckets, and no more room than so many events need. */
  protected beginStore(events: number, buckets: number): void {
    const slots = this.isStoreRoomyFor(events) ? SLOTS_MIN : Math.max(SLOTS_MIN, this.slots);
    if (this.handles.isRoomyFor(events)) this.handles.fit(events);
    const header = this.doubles.subarray(0, HEADER);
    const first = (RING_AT + buckets) / INTS;
    this.doubles = new Float64Array((first + slots) * DOUBLES);
    this.doubles.set(header);
    this.ints = new Int32Array(this.doubles.buffer);
    this.ints.fill(NIL, RING_AT, RING_AT + buckets);
    this.ringMask = buckets - 1;
    this.free = NIL;
    this.offerFrom(first);
  }

  /** No slot is free: twice as many, or a quarter more if there are very many. */
  protected grow(): void {
    const first = this.doubles.length / DOUBLES;
    const more = this.slots < LARGE ? this.slots : this.slots >> 2;
    this.doubles = longer(this.doubles, (first + more) * DOUBLES);
    this.ints = new Int32Array(this.doubles.buffer);
    this.offerFrom(first);
  }

  private offerFrom(first: number): void {
    for (let slot = this.doubles.length / DOUBLES - 1; slot >= first; slot--) this.release(slot);
  }
}

function sequenceOf(order: number): number {
  return order >= 0 && order < SEQUENCES ? order : order - Math.floor(order / SEQUENCES) * SEQUENCES;
}

/** @throws RangeError for a priority beyond ±127. */
export function checkPriority(priority: number): void {
  if (!(Math.abs(priority) <= PRIORITY_MAX) || !Number.isInteger(priority)) {
    throw new RangeError(
      `priority ${priority}: wanted a whole number from -${PRIORITY_MAX} to ${PRIORITY_MAX}`,
    );
  }
}
