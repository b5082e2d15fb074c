import { EventFront } from './event-front.ts';

// Constants of this very module: V8 does not fold imported ones.
const NIL = -1;
/** Up to so many events of a list are sorted as they come. */
const NEAR_MAX = 64;
const COARSE = 1024;
const COARSE_MASK = COARSE - 1;
const BEYOND = COARSE;
const FINE_MIN = 64;
const FINE_MAX = 1 << 16;
/** Ring buckets whose lists are looked at ahead of their turn, when there are so many that caches do not hold them. */
const AHEAD = 8;
const LARGE_RING = 1 << 15;

// Places in `zones`: a class field that is a double would be boxed anew at each change.
const NEAR_END = 0; // events before this are near
const FINE_END = 1; // events before this, and not near, are in the fine buckets
const HORIZON = 2; // events before this, and not before, are in the ring
const COARSE_END = 3; // events before this, and not before, are in the coarse ring; all others are beyond
const ADVANCE_AT = 4; // once NEAR_END is here, the ring reaches further
const WIDTH = 5; // of a ring bucket, ns: a power of two, so that times are divided exactly
const INVERSE = 6; // 1 / width
const FINE_START = 7;
const FINE_INVERSE = 8;
const COARSE_WIDTH = 9;
const COARSE_INVERSE = 10;
const BEYOND_MIN = 11; // the earliest of those beyond
const ZONES = 12;

/**
 * Where pending events lie, by their time:
 *
 *             NEAR_END    FINE_END          HORIZON                 COARSE_END
 *      | front     | fine      | ring             | coarse ring           | beyond
 *      | sorted    | the ring  | unsorted lists   | unsorted lists, each  | one unsorted list
 *      |           | bucket in | by time / width  | a quarter of the ring |
 *      |           | turn, when|                  |                       |
 *      |           | too full  |                  |                       |
 */
export abstract class EventZones extends EventFront {
  private readonly zones = new Float64Array(ZONES);
  private ring = new Int32Array(0);
  private ringMask = 0;
  private ringCount = 0;
  /** The ring bucket whose turn is next. */
  private ringAt = 0;
  /** How far `lookAhead` has come in the lists of the next ring buckets. */
  private readonly ahead = new Int32Array(AHEAD).fill(NIL);
  private fine = new Int32Array(FINE_MIN).fill(NIL);
  private fineAt = 0;
  private fineBuckets = 0;
  /** First and last of each coarse list, and of those beyond. */
  private readonly coarse = new Int32Array(COARSE + 1).fill(NIL);
  private readonly coarseLast = new Int32Array(COARSE + 1);
  private coarseCount = 0;
  private beyondCount = 0;

  protected get width(): number {
    return this.zones[WIDTH]!;
  }

  protected get buckets(): number {
    return this.ring.length;
  }

  protected get zoneBytes(): number {
    return this.fine.byteLength + this.ring.byteLength + 2 * this.coarse.byteLength;
  }

  /** Place an event that was just scheduled. */
  protected place(slot: number, priority: number): void {
    const { zones } = this;
    const atNs = this.timeOf(slot);
    if (atNs >= zones[FINE_END]! && atNs < zones[HORIZON]!) this.insertRing(slot);
    else if (atNs !== this.presentNs || priority !== 0 || atNs >= zones[NEAR_END]! || !this.pass(slot)) {
      this.insert(slot);
    }
  }

  private insertRing(slot: number): void {
    const { ring } = this;
    const bucket = ((this.timeOf(slot) * this.zones[INVERSE]!) | 0) & this.ringMask;
    this.setNext(slot, ring[bucket]!);
    ring[bucket] = slot;
    this.ringCount++;
  }

  private insert(slot: number): void {
    const { zones } = this;
    const atNs = this.timeOf(slot);
    if (atNs < zones[FINE_END]!) {
      if (atNs < zones[NEAR_END]!) this.insertNear(slot);
      else this.link(this.fine, ((atNs - zones[FINE_START]!) * zones[FINE_INVERSE]!) | 0, slot);
    } else if (atNs < zones[HORIZON]!) {
      this.insertRing(slot);
    } else if (atNs < zones[COARSE_END]!) {
      this.coarseCount++;
      this.append(((atNs * zones[COARSE_INVERSE]!) | 0) & COARSE_MASK, slot);
    } else {
      this.beyondCount++;
      if (atNs < zones[BEYOND_MIN]!) zones[BEYOND_MIN] = atNs;
      this.append(BEYOND, slot);
    }
  }

  private link(heads: Int32Array, bucket: number, slot: number): void {
    this.setNext(slot, heads[bucket]!);
    heads[bucket] = slot;
  }

  /**
   * To the end of a coarse list, so that events of one instant enter their ring bucket in the order of scheduling, and
   * need no sorting there.
   */
  private append(list: number, slot: number): void {
    const { coarse, coarseLast } = this;
    this.setNext(slot, NIL);
    if (coarse[list]! < 0) coarse[list] = slot;
    else this.setNext(coarseLast[list]!, slot);
    coarseLast[list] = slot;
  }

  /** Gather the next bucket into the near array. False when nothing is pending anywhere. */
  protected refill(): boolean {
    if (this.fineBuckets > 0 && this.refillFine()) return true;
    while (this.ringCount > 0 || this.enterNext()) {
      const { ring, ringMask, zones } = this;
      let bucket = this.ringAt;
      let steps = 1;
      for (; ring[bucket]! < 0; steps++) bucket = (bucket + 1) & ringMask;
      const head = ring[bucket]!;
      ring[bucket] = NIL;
      if (ringMask >= LARGE_RING) this.lookAhead(bucket, steps);
      this.ringAt = (bucket + 1) & ringMask;
      const end = zones[NEAR_END]! + steps * zones[WIDTH]!;
      zones[NEAR_END] = end;
      zones[FINE_END] = end;
      if (end >= zones[ADVANCE_AT]!) this.advanceHorizon();
      if (this.gather(head) || this.refillFine()) return true;
    }
    return false;
  }

  /**
   * Bring records into the processor's caches before their turn comes. To follow one list is to wait for memory at
   * each record; a step in each of the next lists waits for all of them at once. The records so visited may long be
   * in use for others: nothing is done with them.
   */
  private lookAhead(bucket: number, steps: number): void {
    const { ahead, ring, ringMask } = this;
    for (let list = 0; list < AHEAD; list++) {
      const slot = ahead[list]!;
      if (slot >= 0) ahead[list] = this.nextOf(slot);
    }
    for (let step = Math.min(steps, AHEAD) - 1; step >= 0; step--) {
      const entering = bucket - step + AHEAD;
      ahead[entering & (AHEAD - 1)] = ring[entering & ringMask]!;
    }
  }

  /** The ring is empty: go on where there is something. False when nothing is pending. */
  private enterNext(): boolean {
    if (this.coarseCount > 0) this.enterCoarse();
    else if (this.beyondCount > 0) this.enterBeyond();
    else return false;
    return true;
  }

  /**
   * Move a list into the empty near array and sort it; a long one goes into fine buckets first, unless all its
   * events are of one instant. False when it went into fine buckets.
   */
  private gather(head: number): boolean {
    let count = 0;
    let slot = head;
    do {
      this.insertSorted(slot, count++);
      slot = this.nextOf(slot);
    } while (slot >= 0 && count < NEAR_MAX);
    if (slot >= 0) return this.gatherMany(slot, count);
    if (this.fineBuckets === 0) this.ringCount -= count;
    this.nearCount = count;
    return true;
  }

  /** The rest of a list of which `count` are in the near array already. */
  private gatherMany(head: number, count: number): boolean {
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
    if (this.fineBuckets === 0) {
      this.ringCount -= count;
      if (low < high) {
        this.refine(count);
        return false;
      }
    }
    this.nearCount = count;
    if (!sorted) this.sortMany(count);
    return true;
  }

  /** Spread the ring bucket that was just gathered over buckets of its own. */
  private refine(count: number): void {
    const { zones } = this;
    const width = zones[WIDTH]!;
    let buckets = FINE_MIN;
    while (buckets * 2 < count && buckets < FINE_MAX && buckets < width) buckets *= 2;
    if (buckets > width) buckets = width;
    if (buckets > this.fine.length) this.fine = new Int32Array(buckets).fill(NIL);
    this.fineBuckets = buckets;
    this.fineAt = 0;
    zones[FINE_INVERSE] = buckets / width;
    zones[FINE_START] = zones[NEAR_END]! - width;
    // A bucket partly near already keeps what is left of it: nothing before the old end was in its list.
    zones[NEAR_END] = zones[FINE_START]!;
    for (let i = count - 1; i >= 0; i--) {
      const slot = this.near[i]!;
      this.link(this.fine, ((this.timeOf(slot) - zones[FINE_START]!) * zones[FINE_INVERSE]!) | 0, slot);
    }
    if (this.near.length > 4096) this.narrowNear();
  }

  private refillFine(): boolean {
    const { fine, zones } = this;
    while (this.fineAt < this.fineBuckets) {
      const bucket = this.fineAt++;
      const head = fine[bucket]!;
      if (head === NIL) continue;
      fine[bucket] = NIL;
      zones[NEAR_END] = zones[FINE_START]! + this.fineAt / zones[FINE_INVERSE]!;
      return this.gather(head);
    }
    this.fineBuckets = 0;
    zones[NEAR_END] = zones[FINE_END]!;
    return false;
  }

  /** Let the ring reach as far as it can: a quarter at a time, from the coarse ring. */
  private advanceHorizon(): void {
    const { zones } = this;
    while (zones[NEAR_END]! >= zones[ADVANCE_AT]!) this.coarseCount -= this.scatter(this.takeCoarse());
    if (this.beyondCount > 0 && zones[BEYOND_MIN]! < zones[COARSE_END]!) this.scatterBeyond();
  }

  /** The list of the coarse bucket at the horizon, which moves past it. */
  private takeCoarse(): number {
    const { coarse, zones } = this;
    const bucket = ((zones[HORIZON]! * zones[COARSE_INVERSE]!) | 0) & COARSE_MASK;
    const head = coarse[bucket]!;
    coarse[bucket] = NIL;
    zones[ADVANCE_AT]! += zones[COARSE_WIDTH]!;
    zones[HORIZON]! += zones[COARSE_WIDTH]!;
    zones[COARSE_END]! += zones[COARSE_WIDTH]!;
    return head;
  }

  /** Place the events of a list anew; returns how many they are. */
  private scatter(head: number): number {
    let count = 0;
    for (let slot = head; slot !== NIL; count++) {
      const next = this.nextOf(slot);
      this.insert(slot);
      slot = next;
    }
    return count;
  }

  private scatterBeyond(): void {
    const head = this.coarse[BEYOND]!;
    this.coarse[BEYOND] = NIL;
    this.beyondCount = 0;
    this.zones[BEYOND_MIN] = Infinity;
    this.scatter(head);
  }

  /** The ring is empty: go on where the coarse ring has something. */
  private enterCoarse(): void {
    const { zones } = this;
    let head = this.takeCoarse();
    while (head === NIL) head = this.takeCoarse();
    this.startNearAt(zones[HORIZON]! - zones[COARSE_WIDTH]!);
    this.coarseCount -= this.scatter(head);
    this.advanceHorizon();
  }

  /** Everything left lies beyond: lay the zones out anew from its first event. */
  private enterBeyond(): void {
    this.layOut(this.zones[WIDTH]!, this.ringMask + 1, this.zones[BEYOND_MIN]!);
    this.scatterBeyond();
  }

  /** Place the zones: what is before `fromNs` is near. */
  private layOut(width: number, buckets: number, fromNs: number): void {
    const { zones } = this;
    if (this.ring.length !== buckets) this.ring = new Int32Array(buckets).fill(NIL);
    this.ringMask = buckets - 1;
    zones[WIDTH] = width;
    zones[INVERSE] = 1 / width;
    const coarseWidth = (buckets / 4) * width;
    zones[COARSE_WIDTH] = coarseWidth;
    zones[COARSE_INVERSE] = 1 / coarseWidth;
    this.startNearAt(Math.floor(fromNs / width) * width);
    const reach = zones[NEAR_END]! + buckets * width;
    zones[HORIZON] = Math.floor(reach / coarseWidth) * coarseWidth;
    zones[ADVANCE_AT] = zones[HORIZON]! + coarseWidth - buckets * width;
    zones[COARSE_END] = zones[HORIZON]! + (COARSE - 1) * coarseWidth;
  }

  /** The ring goes on at a time that is a multiple of the width; whatever comes before it is near. */
  private startNearAt(atNs: number): void {
    const { zones } = this;
    zones[NEAR_END] = atNs;
    zones[FINE_END] = atNs;
    this.ringAt = ((atNs * zones[INVERSE]!) | 0) & this.ringMask;
  }

  /** Few events: all in the sorted array, whatever their time. */
  protected allNear(): void {
    this.ring = new Int32Array(0);
    this.ringMask = 0;
    this.zones.fill(Infinity, NEAR_END, COARSE_END + 1);
    this.zones[BEYOND_MIN] = Infinity;
  }

  /** Place all events anew, the dead ones dropped: in buckets of `width`, or all near if `buckets` is 0. */
  protected rearrange(width: number, buckets: number): void {
    let low = Infinity;
    const chain = this.collect();
    for (let slot = chain; slot !== NIL; slot = this.nextOf(slot)) low = Math.min(low, this.timeOf(slot));
    if (buckets === 0) this.allNear();
    else this.layOut(width, buckets, low);
    this.scatter(chain);
  }

  /** Nothing is pending: small again. */
  protected restZones(): void {
    this.fine = new Int32Array(FINE_MIN).fill(NIL);
    this.fineBuckets = 0;
    this.narrowNear();
    this.allNear();
  }

  /** Empty every zone into one chain, without the dead: events of one instant in the order of scheduling. */
  private collect(): number {
    let chain = NIL;
    const add = (slot: number): void => {
      if (!this.isLive(slot)) {
        this.release(slot);
        return;
      }
      this.setNext(slot, chain);
      chain = slot;
    };
    const addLists = (heads: Int32Array, reversed: boolean): void => {
      for (let list = 0; list < heads.length; list++) {
        if (heads[list] === NIL) continue;
        for (let slot = reversed ? this.reverse(heads[list]!) : heads[list]!; slot !== NIL;) {
          const next = this.nextOf(slot);
          add(slot);
          slot = next;
        }
        heads[list] = NIL;
      }
    };
    addLists(this.fine, false);
    addLists(this.ring, false);
    addLists(this.coarse, true);
    this.emptyFront(add);
    this.fineBuckets = 0;
    this.ringCount = 0;
    this.coarseCount = 0;
    this.beyondCount = 0;
    this.zones[BEYOND_MIN] = Infinity;
    this.narrowNear();
    return chain;
  }

  /** Turn a list round; returns its new head. */
  private reverse(head: number): number {
    let reversed = NIL;
    for (let slot = head; slot !== NIL;) {
      const next = this.nextOf(slot);
      this.setNext(slot, reversed);
      reversed = slot;
      slot = next;
    }
    return reversed;
  }
}
