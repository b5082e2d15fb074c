import type { EventHandle, EventQueue } from './event-queue.ts';
import { BUCKETS_MAX, BUCKETS_MIN, checkPriority } from './event-store.ts';
import { EventZones } from './event-zones.ts';

/** Ring buckets for the time between two events. */
const PER_EVENT = 4;
/** Events that the ring spans at most: such that it and their records stay in the processor's caches. */
const SPAN_MAX = BUCKETS_MAX / PER_EVENT;
const SPAN_MIN = 64;
/** Far lists; together they span 16 times the pending events, at the pace of the next ones. */
const LISTS_MIN = 64;
const LISTS_MAX = 1 << 16;
/** How far the width may be from the ideal one. */
const MISFIT = 1.8;
const PATIENCE_MAX = 16;
/** Up to so many events are few: all in front. */
const FEW = 4;
/** Up to so many, one layout is as good as another. */
const GROWTH_MIN = 32;
/** Bytes that are not worth giving back. */
const RESTING = 40_000;
/** Steps in vain after which a look is due. */
const TIRED = 4096;

/**
 * The default event queue: buckets of less than one event each, found by a bit, so that neither push nor pop depends
 * on how many events are pending, and mostly nothing is sorted.
 *
 *     now         START            HORIZON                   FAR_END
 *      | front     | ring           | far lists               | beyond
 *      | sorted, in| lists of slots,| lists of records, each  | one list of
 *      | slots     | by time / width| spans a quarter ring    | records
 *
 * The ring spans some thousand events, which caches hold. An event after it is written at the end of a far list, and
 * moves into a slot when that list is read, in a row: nothing ever waits for a record somewhere in memory. A bucket of
 * many events is gathered into the front and sorted there; while there are no more than four, all are in front. Events
 * of the present instant pass through a queue of their own. The width follows the observed time between pops. Push and
 * pop O(1) amortised, cancel O(1): a cancelled record stays where it is until met or swept. Ideas: timing wheels
 * (Varghese and Lauck 1987), calendar queue (Brown 1988), lazy queue (Rönngren 1991), ladder queue (Tang 2005), radix
 * partitioning.
 */
export class BucketEventQueue extends EventZones implements EventQueue {
  /** Present time, and events released, at the last look; events released at the next. */
  private readonly marks = new Float64Array(3);
  /** With fewer events than that it is time for a look, too. */
  private lowWater = 0;
  /** Looks are this many quarters of the pending events apart. */
  private patience = 1;

  constructor() {
    super();
    this.placeInFront();
  }

  get size(): number {
    return this.stored - this.dead;
  }

  /** Bytes held: records, buckets, handles. */
  get bytes(): number {
    return this.storeBytes + this.frontBytes + this.zoneBytes;
  }

  push(atNs: number, priority: number, kind: number, a: number, b: number): void {
    this.dueNs = atNs;
    this.pushDue(priority, kind, a, b);
  }

  pushNamed(priority: number, kind: number, a: number, b: number): EventHandle {
    if (priority !== 0) checkPriority(priority);
    const handle = this.nameNext();
    this.pushDue(priority, ~kind, a, b);
    return handle;
  }

  cancel(handle: EventHandle): boolean {
    if (!this.forget(handle)) return false;
    this.dead++;
    if (this.dead > 1024 && this.dead * 3 > this.stored * 2) this.respread();
    return true;
  }

  protected override tend(): void {
    if (this.spread) this.advance();
    const { marks, released } = this;
    const tired = this.effort > TIRED + this.stored + 4 * (released - marks[1]!);
    if (tired || released >= marks[2]! || this.stored < this.lowWater) this.look();
  }

  private get released(): number {
    return this.sequence - this.stored;
  }

  /** Every so many pops: does the width still fit the time between them, and the store the number of events? */
  private look(): void {
    const since = this.released - this.marks[1]!;
    const gap = since > 0 ? (this.nowNs - this.marks[0]!) / since : 0;
    // A longer and longer look: a load that comes in waves must not be followed wave by wave.
    this.patience = Math.min(PATIENCE_MAX, this.patience * 2);
    this.lookLater();
    if (!this.spread) return;
    const ideal = Math.max(1, gap / PER_EVENT);
    // Widths are rounded to within 1.5 of the ideal: anything nearer than this would flip between two.
    const misfit = gap > 0 && (ideal > this.width * MISFIT || ideal * MISFIT < this.width);
    // Never more than few since the last look.
    if (this.growAt === FEW) this.bringInFront();
    else if (misfit || this.isRoomy) this.rebuild(gap > 0 ? gap : this.width * PER_EVENT);
    else if (this.size <= FEW) this.growAt = FEW;
  }

  private lookLater(): void {
    this.effort = 0;
    this.marks[0] = this.nowNs;
    this.marks[1] = this.released;
    this.marks[2] = this.released + Math.max(1024, (this.stored >> 2) * this.patience);
    this.lowWater = this.stored >> 2;
  }

  protected override outgrown(): void {
    if (!this.spread) this.sweepNear();
    else if (this.growAt === FEW || this.dead * 2 > this.stored) this.growAt = this.grown;
    if (this.stored > this.growAt) this.respread();
  }

  /** So many more events than now are many more. */
  private get grown(): number {
    return Math.max(GROWTH_MIN, this.stored * 2);
  }

  /** Many more events than before, or many dead ones: a sample of those pending tells the time between two. */
  private respread(): void {
    this.patience = 1;
    this.gatherAll();
    this.spreadFor(this.sampledGap());
  }

  private rebuild(gap: number): void {
    this.gatherAll();
    this.spreadFor(gap);
  }

  /** Lay everything out anew for so many ns between two events. */
  private spreadFor(gap: number): void {
    const width = nearestPower(gap / PER_EVENT);
    const span = powerWithin(SPAN_MIN, SPAN_MAX, 4 * this.size);
    const buckets = powerWithin(BUCKETS_MIN, BUCKETS_MAX, (span * gap) / width);
    this.spreadOver(width, buckets, powerWithin(LISTS_MIN, LISTS_MAX, (64 * this.size) / span));
    this.growAt = this.grown;
    this.lookLater();
  }

  private bringInFront(): void {
    this.gatherAll();
    this.placeInFront();
  }

  private placeInFront(): void {
    this.spreadOver(1, 0, 0);
    this.growAt = FEW;
    this.lookLater();
  }

  /** Time between two events as judged by the earliest quarter of 256 of those pending. */
  private sampledGap(): number {
    const sample = this.sampleTimes(256);
    const quarter = sample.length >> 2;
    const time = sample[quarter]! - sample[0]!;
    return time > 0 ? (time / quarter) * (sample.length / this.size) : this.width * PER_EVENT;
  }

  /** Nothing is pending: large structures are given back. */
  protected override rest(): void {
    if (this.bytes > RESTING) this.bringInFront();
  }
}

/** The power of two nearest to x, at least 1. */
function nearestPower(x: number): number {
  let power = 1;
  while (power * 1.5 < x) power *= 2;
  return power;
}

/** The least power of two that is not below x, within bounds that are powers of two. */
function powerWithin(min: number, max: number, x: number): number {
  let power = min;
  while (power < x && power < max) power *= 2;
  return power;
}
