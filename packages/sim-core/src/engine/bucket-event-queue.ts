import { DUE, LIMIT, type EventHandle, type EventQueue, type FiredEvent } from './event-queue.ts';
import { A, B, DOUBLES, INTS, KIND, KIND_MASK, NEXT, NIL, TIME } from './event-store.ts';
import { NEAR_MAX } from './event-front.ts';
import { BUCKETS_MIN, EventZones, NEAR_END, WIDTH } from './event-zones.ts';

const BUCKETS_MAX = 1 << 22;
/** Events that a bucket should hold when its turn comes. */
const PER_BUCKET = 4;
const PATIENCE_MAX = 16;
/** How far the width may be from the ideal one. */
const MISFIT = 1.8;
/** A store that is not worth giving back. */
const SMALL = 1024;

// Doubles that change often live in a typed array: a class field would box them anew each time.
const LAST = 0; // time of the event popped last
const MARK = 1; // LAST, and
const RELEASED = 2; // records released, when the width was last looked at
const LOOK_AT = 3; // look again when so many have been released

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
  private readonly state = new Float64Array(4);
  private live = 0;
  /** Cancelled records not yet met. */
  private dead = 0;
  private growAt = NEAR_MAX;
  /** Looks are this many quarters of the pending events apart, or come when only a quarter is left. */
  private patience = 1;
  private lowWater = 0;
  /** Pops since the store was last made smaller where possible. */
  private unshrunk = 0;

  constructor() {
    super();
    this.turn = 0;
    this.allNear();
    this.state[LAST] = NaN;
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
    this.times[DUE] = atNs;
    return this.pushDue(priority, kind, a, b);
  }

  pushDue(priority: number, kind: number, a: number, b: number): number {
    const slot = this.take(priority, kind, a, b);
    const { state } = this;
    const atNs = this.times[DUE]!;
    if (atNs === state[LAST] && priority === 0 && atNs < this.zones[NEAR_END]! && this.joinsPassing()) {
      this.pass(slot);
    } else {
      this.insert(slot);
    }
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
    return slot === NIL ? Infinity : this.doubles[slot * DOUBLES + TIME]!;
  }

  pop(into: FiredEvent): boolean {
    const last = this.nearCount - 1;
    let slot = this.aside === 0 && last >= 0 ? this.nearSlots[last]! : NIL;
    if (slot === NIL || !this.isLive(slot)) {
      slot = this.first();
      if (slot === NIL) return false;
    }
    const { ints } = this;
    const row = slot * INTS;
    const atNs = this.doubles[slot * DOUBLES + TIME]!;
    if (!(atNs < this.times[LIMIT]!)) return false;
    if (this.aside === 0) this.nearCount--;
    else this.removeFirst(slot);
    into.atNs = atNs;
    into.kind = ints[row + KIND]! & KIND_MASK;
    into.a = ints[row + A]!;
    into.b = ints[row + B]!;
    this.state[LAST] = atNs;
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
    const released = this.sequence[0]! - this.live - this.dead;
    if (released >= this.state[LOOK_AT]! || this.live < this.lowWater) {
      this.look(released);
      if (this.nearCount > 0 || this.aside > 0) return true;
    }
    return this.refill();
  }

  /** Every so many pops: does the width still fit the time between them, and the store the number of events? */
  private look(released: number): void {
    const state = this.state;
    const since = released - state[RELEASED]!;
    const gap = since > 0 ? (state[LAST]! - state[MARK]!) / since : 0;
    this.unshrunk += since;
    if (this.unshrunk * 4 >= this.capacity) {
      this.shrink(this.live);
      this.unshrunk = 0;
    }
    // A longer and longer look: a load that comes in waves must not be followed wave by wave.
    this.patience = Math.min(PATIENCE_MAX, this.patience * 2);
    this.lookLater();
    if (this.ring.length === 0) return;
    const buckets = bucketsFor(this.live);
    if (this.live < NEAR_MAX >> 2 || buckets * 8 <= this.ring.length) return this.spread();
    if (!(gap > 0)) return;
    const ideal = Math.max(1, gap * PER_BUCKET);
    // Widths are rounded to within 1.5 of the ideal: anything nearer than this would flip between two.
    const misfit = ideal > this.zones[WIDTH]! * MISFIT || ideal * MISFIT < this.zones[WIDTH]!;
    if (misfit || buckets >= this.ring.length * 4) this.rebuild(powerOfTwo(ideal), buckets);
  }

  /** Many more events than before, or many dead ones: choose the width from a sample of those pending. */
  private spread(): void {
    this.patience = 1;
    this.rebuild(this.sampledWidth(), bucketsFor(this.live));
  }

  private rebuild(width: number, buckets: number): void {
    const { doubles, ints } = this;
    let chain = this.collect();
    this.dead = 0;
    let low = Infinity;
    for (let slot = chain; slot !== NIL; slot = ints[slot * INTS + NEXT]!) {
      const time = doubles[slot * DOUBLES + TIME]!;
      if (time < low) low = time;
    }
    if (this.live <= NEAR_MAX) {
      this.allNear();
      this.growAt = NEAR_MAX;
    } else {
      this.layOut(width, buckets, low);
      this.growAt = Math.max(this.live * 2, buckets * 8);
    }
    while (chain !== NIL) {
      const next = ints[chain * INTS + NEXT]!;
      this.insert(chain);
      chain = next;
    }
    this.lookLater();
  }

  private lookLater(): void {
    const state = this.state;
    const released = this.sequence[0]! - this.live - this.dead;
    state[MARK] = state[LAST]!;
    state[RELEASED] = released;
    state[LOOK_AT] = released + Math.max(1024, (this.live >> 2) * this.patience);
    this.lowWater = this.live >> 2;
  }

  /** Time among 256 pending events that a bucket should span, judged by the earliest quarter. */
  private sampledWidth(): number {
    const sample = this.sampleTimes(256);
    const quarter = sample.length >> 2;
    const span = sample[quarter]! - sample[0]!;
    if (!(span > 0)) return Math.max(1, this.zones[WIDTH]!);
    return powerOfTwo((span / quarter / (this.live / sample.length)) * PER_BUCKET);
  }

  /** Nothing pending: large structures are given back. */
  private rest(): void {
    if (this.dead > 0 || (this.ring.length === 0 && this.capacity <= SMALL)) return;
    this.reset();
    this.fine = new Int32Array(BUCKETS_MIN).fill(NIL);
    this.fineBuckets = 0;
    this.narrowNear();
    this.allNear();
    this.growAt = NEAR_MAX;
  }
}

/** The power of two nearest to x, at least 1. */
function powerOfTwo(x: number): number {
  let power = 1;
  while (power * 1.5 < x) power *= 2;
  return power;
}

function bucketsFor(size: number): number {
  let buckets = BUCKETS_MIN;
  while (buckets * 2 < size && buckets < BUCKETS_MAX) buckets *= 2;
  return buckets;
}
