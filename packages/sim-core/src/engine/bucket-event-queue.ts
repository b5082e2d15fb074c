import type { EventHandle, EventQueue, FiredEvent } from './event-queue.ts';
import { EventZones } from './event-zones.ts';

const NIL = -1;
/** Up to so many events are kept in one sorted array; with more, buckets are faster. */
const FEW = 12;
const BUCKETS_MIN = 64;
const BUCKETS_MAX = 1 << 22;
/** Above so many records, caches no longer hold them all: fewer buckets then, with more in each. */
const CACHED = 160_000;
const PATIENCE_MAX = 16;
/** How far the width may be from the ideal one. */
const MISFIT = 1.8;
/** A store that is not worth giving back. */
const SMALL = 1024;

/**
 * The default event queue: buckets of equal width, sorted only when their turn comes, so that neither push nor pop
 * depends on how many events are pending.
 *
 *     now         NEAR_END    FINE_END          HORIZON                 COARSE_END
 *      | near      | fine      | ring             | coarse ring           | beyond
 *      | sorted    | the ring  | unsorted lists   | unsorted lists, each  | one unsorted list
 *      | array     | bucket in | by time / width  | a quarter of the ring |
 *      |           | turn, when|                  |                       |
 *      |           | too full  |                  |                       |
 *
 * An event is written once into a 32-byte record and linked into the list of its zone; when the near array is empty
 * the next list is gathered into it and sorted. Events of the present instant pass through a queue of their own.
 * The width follows the observed time between pops. Push and pop O(1) amortised, cancel O(1): a cancelled record
 * stays where it is until met or swept. Ideas: lazy queues (Rönngren 1991), ladder queue (Tang 2005), calendar
 * queue (Brown 1988).
 */
export class BucketEventQueue extends EventZones implements EventQueue {
  private live = 0;
  /** Cancelled records not yet met. */
  private dead = 0;
  private growAt = FEW;
  /** Refills of the near array until the next look; a look also comes when only a quarter is left. */
  private refills = 0;
  private lowWater = 0;
  /** Looks are this many quarters of the pending events apart. */
  private patience = 1;
  /** Present time, and records released, at the last look. */
  private readonly marks = Float64Array.of(NaN, 0);
  /** Pops since the store was last made smaller where possible. */
  private unshrunk = 0;

  constructor() {
    super();
    this.allNear();
    this.lookLater();
  }

  get size(): number {
    return this.live;
  }

  /** Bytes held, records and buckets together. */
  get bytes(): number {
    return this.storeBytes + this.frontBytes + this.zoneBytes;
  }

  push(atNs: number, priority: number, kind: number, a: number, b: number): number {
    this.dueNs = atNs;
    return this.pushDue(priority, kind, a, b);
  }

  pushDue(priority: number, kind: number, a: number, b: number): number {
    const slot = this.take(priority, kind, a, b);
    this.place(slot, priority);
    if (++this.live > this.growAt) this.spread();
    return slot;
  }

  cancel(handle: EventHandle): boolean {
    if (!this.kill(handle)) return false;
    this.live--;
    this.dead++;
    if (this.dead > 1024 && this.dead > this.live * 2) this.spread();
    return true;
  }

  peekNs(): number {
    const slot = this.first();
    return slot === NIL ? Infinity : this.timeOf(slot);
  }

  pop(into: FiredEvent): boolean {
    const last = this.nearCount - 1;
    let slot = this.aside === 0 && last >= 0 ? this.near[last]! : NIL;
    if (slot < 0 || !this.isLive(slot)) {
      slot = this.first();
      if (slot < 0) return false;
    }
    const atNs = this.timeOf(slot);
    if (!(atNs < this.limitNs)) return false;
    if (this.aside === 0) this.nearCount--;
    else this.removeFirst(slot);
    into.atNs = atNs;
    into.kind = this.kindOf(slot);
    into.a = this.aOf(slot);
    into.b = this.bOf(slot);
    this.presentNs = atNs;
    this.release(slot);
    if (--this.live === 0) this.rest();
    return true;
  }

  /** The slot of the first live event, NIL if there is none; dead ones before it are dropped. */
  private first(): number {
    for (;;) {
      if (this.nearCount === 0 && this.aside === 0 && !this.next()) return NIL;
      const slot = this.candidate();
      if (this.isLive(slot)) return slot;
      this.removeFirst(slot);
      this.release(slot);
      this.dead--;
    }
  }

  /** Bring the next events to the front; false when nothing is pending. */
  private next(): boolean {
    if (--this.refills < 0 || this.live < this.lowWater) {
      this.look();
      if (this.nearCount > 0 || this.aside > 0) return true;
    }
    return this.refill();
  }

  /** Events that a bucket should hold when its turn comes. */
  private get perBucket(): number {
    return this.capacity > CACHED ? 8 : 4;
  }

  private get bucketsWanted(): number {
    const spread = this.capacity > CACHED ? this.live >> 2 : this.live;
    let buckets = BUCKETS_MIN;
    while (buckets < spread && buckets < BUCKETS_MAX) buckets *= 2;
    return buckets;
  }

  private get released(): number {
    return this.sequence - this.live - this.dead;
  }

  /** Every so many pops: does the width still fit the time between them, and the store the number of events? */
  private look(): void {
    const since = this.released - this.marks[1]!;
    const gap = since > 0 ? (this.presentNs - this.marks[0]!) / since : 0;
    this.unshrunk += since;
    if (this.unshrunk * 4 >= this.capacity) {
      this.shrink(this.live);
      this.unshrunk = 0;
    }
    // A longer and longer look: a load that comes in waves must not be followed wave by wave.
    this.patience = Math.min(PATIENCE_MAX, this.patience * 2);
    this.lookLater();
    if (this.buckets === 0) return;
    const buckets = this.bucketsWanted;
    if (this.live < FEW >> 2 || buckets * 8 <= this.buckets) return this.spread();
    if (!(gap > 0)) return;
    const ideal = Math.max(1, gap * this.perBucket);
    // Widths are rounded to within 1.5 of the ideal: anything nearer than this would flip between two.
    const misfit = ideal > this.width * MISFIT || ideal * MISFIT < this.width;
    if (misfit || buckets >= this.buckets * 4) this.rebuild(powerOfTwo(ideal));
  }

  private lookLater(): void {
    this.marks[0] = this.presentNs;
    this.marks[1] = this.released;
    this.refills = Math.max(1024, (this.live >> 2) * this.patience) / this.perBucket;
    this.lowWater = this.live >> 2;
  }

  /** Many more events than before, or many dead ones: choose the width from a sample of those pending. */
  private spread(): void {
    this.patience = 1;
    this.rebuild(this.sampledWidth());
  }

  private rebuild(width: number): void {
    const buckets = this.live <= FEW ? 0 : this.bucketsWanted;
    this.rearrange(width, buckets);
    this.dead = 0;
    this.growAt = buckets === 0 ? FEW : Math.max(this.live * 2, buckets * 8);
    this.lookLater();
  }

  /** Time among 256 pending events that a bucket should span, judged by the earliest quarter. */
  private sampledWidth(): number {
    const sample = this.sampleTimes(256);
    const quarter = sample.length >> 2;
    const span = sample[quarter]! - sample[0]!;
    if (!(span > 0)) return Math.max(1, this.width);
    return powerOfTwo((span / quarter / (this.live / sample.length)) * this.perBucket);
  }

  /** Nothing pending: large structures are given back. */
  private rest(): void {
    if (this.dead > 0 || (this.buckets === 0 && this.capacity <= SMALL)) return;
    this.reset();
    this.restZones();
    this.growAt = FEW;
  }
}

/** The power of two nearest to x, at least 1. */
function powerOfTwo(x: number): number {
  let power = 1;
  while (power * 1.5 < x) power *= 2;
  return power;
}
