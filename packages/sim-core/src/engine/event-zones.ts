import { EventLists } from './event-lists.ts';
import { EventRing } from './event-ring.ts';
import { BUCKETS_MIN } from './event-store.ts';

// Constants of this very module: V8 does not fold imported ones. Places in `doubles`:
const START = 5; // events before this are in front
const HORIZON = 6; // events before this, and not before, are in the ring
const ADVANCE_AT = 7; // once START is here, the ring reaches further
const FAR_END = 9; // events before this, and not before, are in the far lists; all others are beyond
const FAR_INVERSE = 10; // 1 / the time that a far list spans
const FAR_WIDTH = 15;
const FAR_ADVANCE_AT = 16; // once HORIZON is here, the far lists reach further
const BEYOND_MIN = 17; // the earliest of those beyond

/**
 * The zones after the ring: far lists, each as long in time as a quarter of the ring, and one list of everything beyond
 * them. Places events, moves them nearer as time goes on, and lays everything out anew.
 */
export abstract class EventZones extends EventRing {
  /** With more events than that, `outgrown` is called. */
  protected growAt = Infinity;
  /** Those far off; in the last list those beyond. */
  private far = new EventLists();
  private farMask = 0;
  private beyondCount = 0;

  /** There are many more events than before. */
  protected abstract outgrown(): void;

  /** Whether much more memory is held than the events need. */
  protected get isRoomy(): boolean {
    return (
      this.far.isRoomy ||
      this.isStoreRoomyFor(this.stored) ||
      (this.buckets > 4096 && this.buckets > this.stored * 256)
    );
  }

  protected get zoneBytes(): number {
    return this.far.bytes + this.fineBytes;
  }

  pushDue(priority: number, kind: number, a: number, b: number): void {
    const { doubles } = this;
    const order = doubles[2]!;
    doubles[4] = order;
    doubles[2] = order + 1;
    if (priority !== 0) this.prioritise(priority);
    this.insert(kind, a, b);
  }

  /** Place the event that is due. */
  private insert(word: number, a: number, b: number): void {
    const { doubles, ints, free: slot } = this;
    const atNs = doubles[0]!;
    if (!(atNs < doubles[6]!)) {
      this.insertFar(word, a, b);
    } else if (atNs >= doubles[5]!) {
      if (slot < 0) return this.insertAfterGrowth(word, a, b);
      const row = slot << 3;
      const bucket = ((atNs * doubles[8]!) | 0) & this.ringMask;
      this.free = ints[row | 4]!;
      doubles[slot << 2] = atNs;
      doubles[(slot << 2) | 1] = doubles[4]!;
      ints[row | 4] = ints[bucket + 576]!;
      ints[row | 5] = word;
      ints[row | 6] = a;
      ints[row | 7] = b;
      ints[bucket + 576] = slot;
      ints[(bucket >> 5) + 64]! |= 1 << bucket;
    } else {
      this.insertEarly(word, a, b);
    }
    if (++this.stored > this.growAt) this.outgrown();
  }

  private insertAfterGrowth(word: number, a: number, b: number): void {
    this.grow();
    this.insert(word, a, b);
  }

  private insertFar(word: number, a: number, b: number): void {
    const { far, doubles: due } = this;
    const atNs = due[0]!;
    const list = atNs < due[9]! ? ((atNs * due[10]!) | 0) & this.farMask : this.beyondListFor(atNs);
    const at = far.add(list);
    const { doubles, ints } = far;
    doubles[at << 2] = atNs;
    doubles[(at << 2) | 1] = due[4]!;
    ints[(at << 3) | 5] = word;
    ints[(at << 3) | 6] = a;
    ints[(at << 3) | 7] = b;
  }

  private beyondListFor(atNs: number): number {
    const { doubles } = this;
    if (atNs < doubles[BEYOND_MIN]!) doubles[BEYOND_MIN] = atNs;
    this.beyondCount++;
    return this.farMask + 1;
  }

  protected override enterNext(): boolean {
    const { doubles, far } = this;
    if (this.stored === 0) return false;
    if (this.stored === this.beyondCount) {
      // Everything left lies beyond: lay the zones out anew from its first event.
      this.layOut(doubles[BEYOND_MIN]!);
      this.scatterBeyond();
    } else {
      for (; far.heads[this.farAt]! < 0; this.effort++) this.moveHorizon();
      this.startAt(doubles[HORIZON]!);
      this.advance();
    }
    return true;
  }

  /** The far list at the horizon. */
  private get farAt(): number {
    return ((this.doubles[HORIZON]! * this.doubles[FAR_INVERSE]!) | 0) & this.farMask;
  }

  private moveHorizon(): void {
    const { doubles } = this;
    doubles[HORIZON]! += doubles[FAR_WIDTH]!;
    doubles[ADVANCE_AT]! += doubles[FAR_WIDTH]!;
  }

  /** Let the ring reach as far as it can, a quarter at a time. */
  protected advance(): void {
    const { far } = this;
    while (this.doubles[START]! >= this.doubles[ADVANCE_AT]!) {
      const list = this.farAt;
      this.moveHorizon();
      if (far.heads[list]! >= 0) this.bringNear(list);
    }
    if (this.doubles[HORIZON]! >= this.doubles[FAR_ADVANCE_AT]!) this.advanceFar();
  }

  /** Place the events of a far list in the ring, where all of them belong. */
  private bringNear(list: number): void {
    const { far } = this;
    const end = far.ends[list]!;
    let block = far.heads[list]!;
    far.cut(list);
    for (; block >= 0; block = far.leave(block)) {
      const stop = far.stopOf(block, end);
      for (let at = far.startOf(block); at < stop; at++) {
        if (this.free < 0) this.grow();
        const { doubles, ints, free: slot } = this;
        const row = slot << 3;
        const atNs = far.doubles[at << 2]!;
        const bucket = ((atNs * doubles[8]!) | 0) & this.ringMask;
        this.free = ints[row | 4]!;
        doubles[slot << 2] = atNs;
        doubles[(slot << 2) | 1] = far.doubles[(at << 2) | 1]!;
        ints[row | 4] = ints[bucket + 576]!;
        ints[row | 5] = far.ints[(at << 3) | 5]!;
        ints[row | 6] = far.ints[(at << 3) | 6]!;
        ints[row | 7] = far.ints[(at << 3) | 7]!;
        ints[bucket + 576] = slot;
        ints[(bucket >> 5) + 64]! |= 1 << bucket;
      }
    }
  }

  /** The far lists, too, reach further by a quarter at a time: those beyond are seldom gone through. */
  private advanceFar(): void {
    const { doubles } = this;
    const quarter = ((this.farMask + 1) / 4) * doubles[FAR_WIDTH]!;
    while (doubles[HORIZON]! >= doubles[FAR_ADVANCE_AT]!) {
      doubles[FAR_ADVANCE_AT]! += quarter;
      doubles[FAR_END]! += quarter;
    }
    if (doubles[BEYOND_MIN]! < doubles[FAR_END]!) this.scatterBeyond();
  }

  private scatterBeyond(): void {
    const { far } = this;
    const list = this.farMask + 1;
    const head = far.heads[list]!;
    const end = far.ends[list]!;
    far.cut(list);
    this.effort += this.beyondCount;
    this.beyondCount = 0;
    this.doubles[BEYOND_MIN] = Infinity;
    this.scatter(head, end);
  }

  /** Place the events of a list anew, but for those cancelled. */
  private scatter(head: number, end: number): void {
    const { far } = this;
    for (let block = head; block >= 0; block = far.leave(block)) {
      const stop = far.stopOf(block, end);
      this.stored -= stop - far.startOf(block);
      for (let at = far.startOf(block); at < stop; at++) {
        const word = far.ints[(at << 3) | 5]!;
        this.dueNs = far.doubles[at << 2]!;
        this.dueOrder = far.doubles[(at << 2) | 1]!;
        if (word < 0 && !this.isDueWanted()) this.dead--;
        else this.insert(word, far.ints[(at << 3) | 6]!, far.ints[(at << 3) | 7]!);
      }
    }
  }

  /** Bring all events into the far lists, for `spreadOver` to place them anew. */
  protected gatherAll(): void {
    this.growAt = Infinity;
    // Beyond everything that is far: into the list of those beyond.
    this.doubles[FAR_END] = -Infinity;
    this.emptyRing((slot) => {
      this.dueNs = this.timeOf(slot);
      this.dueOrder = this.orderOf(slot);
      this.insertFar(this.wordOf(slot), this.aOf(slot), this.bOf(slot));
    });
  }

  /** Times of up to `count` events, evenly spaced over all that `gatherAll` has gathered, in rising order. */
  protected sampleTimes(count: number): Float64Array {
    return this.far.sampleTimes(this.stored, count).sort();
  }

  /** Place all events anew: over so many buckets, which are so wide, and far lists; in front if there are none. */
  protected spreadOver(width: number, buckets: number, lists: number): void {
    const { doubles, far } = this;
    const { heads, ends } = far;
    far.begin(lists + 1);
    this.farMask = lists - 1;
    this.beyondCount = 0;
    doubles.fill(Infinity, START, FAR_INVERSE + 1);
    doubles[BEYOND_MIN] = Infinity;
    this.width = width;
    this.beginStore(this.stored, Math.max(BUCKETS_MIN, buckets));
    this.spread = buckets > 0;
    this.ahead = !this.spread;
    if (this.spread) this.layOut(this.nowNs);
    for (let list = 0; list < heads.length; list++) this.scatter(heads[list]!, ends[list]!);
    if (far.isRoomy) this.far = far.compacted();
  }

  /** Place the zones, from a time on. */
  private layOut(fromNs: number): void {
    const { doubles } = this;
    const farWidth = (this.buckets / 4) * this.width;
    const lists = this.farMask + 1;
    this.startAt(fromNs);
    // The ring holds four far widths, of which the first has begun.
    const horizon = (Math.floor(fromNs / farWidth) + 4) * farWidth;
    doubles[HORIZON] = horizon;
    doubles[ADVANCE_AT] = horizon - 3 * farWidth;
    doubles[FAR_WIDTH] = farWidth;
    doubles[FAR_INVERSE] = 1 / farWidth;
    doubles[FAR_END] = horizon + lists * farWidth;
    doubles[FAR_ADVANCE_AT] = horizon + (lists / 4) * farWidth;
  }
}
