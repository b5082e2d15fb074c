import { longer } from '../columns/longer.ts';

const NIL = -1;
const DOUBLES = 4;
const INTS = 8;
/** Records in a block. */
const RECORDS = 16;
const BLOCKS_MIN = 16;
/** From so many blocks on, the store grows by a sixteenth instead of twofold. */
const LARGE = 4096;

/**
 * Lists of event records by value, for events whose turn is far off. A record is written at the end of its list, and
 * read when the whole list is, in a row: a push touches one place in memory, which the last push to that list has left
 * in the processor's caches, and nothing ever waits for a record somewhere in memory. (Radix partitioning does the
 * same.) The price: no record can be found again by a handle.
 *
 * A list is a chain of blocks of 16 records, each of 32 bytes:
 *
 *      doubles   0: time          1: order
 *      ints                                        4: –   5: kind   6: a   7: b
 */
export class EventLists {
  doubles: Float64Array = new Float64Array(BLOCKS_MIN * RECORDS * DOUBLES);
  ints: Int32Array = new Int32Array(this.doubles.buffer);
  /** First block of each list. */
  heads: Int32Array = new Int32Array(0);
  /** Where the next record of each list goes; at a multiple of 16 it needs a new block. */
  ends: Int32Array = new Int32Array(0);
  /** The block after each, in its list or among the free ones. */
  private nexts: Int32Array = new Int32Array(BLOCKS_MIN);
  private free = NIL;
  /** Blocks from here on were never used. */
  private fresh = 0;
  /** Blocks that are in lists. */
  private used = 0;

  get bytes(): number {
    return this.doubles.byteLength + this.nexts.byteLength + this.heads.byteLength + this.ends.byteLength;
  }

  /** Forget all lists, whose blocks are still to be left, and begin as many as are wanted. */
  begin(lists: number): void {
    this.heads = new Int32Array(lists).fill(NIL);
    this.ends = new Int32Array(lists);
  }

  /** Place for one more record, at the end of a list. */
  add(list: number): number {
    const end = this.ends[list]!;
    const at = (end & 15) === 0 ? this.addBlock(list, end) : end;
    this.ends[list] = at + 1;
    return at;
  }

  /** Take a list away, whose blocks are still to be left. */
  cut(list: number): void {
    this.heads[list] = NIL;
    this.ends[list] = 0;
  }

  /** Place of the first record of a block. */
  startOf(block: number): number {
    return block << 4;
  }

  /** Place after the last record of a block, in a list that ends at `end`. */
  stopOf(block: number, end: number): number {
    return this.nexts[block]! < 0 ? end : (block + 1) << 4;
  }

  /** Free a block that was read; returns the next of its list. */
  leave(block: number): number {
    const next = this.nexts[block]!;
    this.nexts[block] = this.free;
    this.free = block;
    this.used--;
    return next;
  }

  /** Whether `compacted` would be much smaller. */
  get isRoomy(): boolean {
    return this.nexts.length > BLOCKS_MIN + 2 * this.heads.length + 4 * this.used;
  }

  /** The same lists in no more room than they need. */
  compacted(): EventLists {
    const lists = new EventLists();
    lists.begin(this.heads.length);
    for (let list = 0; list < this.heads.length; list++) {
      for (let block = this.heads[list]!; block >= 0; block = this.nexts[block]!) {
        const from = this.startOf(block);
        const stop = this.stopOf(block, this.ends[list]!);
        const to = lists.addBlock(list, lists.ends[list]!);
        lists.ints.set(this.ints.subarray(from * INTS, stop * INTS), to * INTS);
        lists.ends[list] = to + stop - from;
      }
    }
    return lists;
  }

  /** Times of up to `count` records, evenly spaced over all, which are `size`. */
  sampleTimes(size: number, count: number): Float64Array {
    const sample = new Float64Array(Math.min(count, size));
    const stride = size / sample.length;
    let taken = 0;
    let passed = 0;
    for (let list = 0; list < this.heads.length; list++) {
      for (let block = this.heads[list]!; block >= 0; block = this.nexts[block]!) {
        const records = this.stopOf(block, this.ends[list]!) - this.startOf(block);
        while (taken < sample.length && taken * stride < passed + records) {
          sample[taken] = this.doubles[(this.startOf(block) + Math.floor(taken * stride - passed)) << 2]!;
          taken++;
        }
        passed += records;
      }
    }
    return sample;
  }

  private addBlock(list: number, end: number): number {
    const block = this.free >= 0 ? this.free : this.freshBlock();
    this.free = this.nexts[block]!;
    this.used++;
    this.nexts[block] = NIL;
    if (this.heads[list]! < 0) this.heads[list] = block;
    else this.nexts[(end - 1) >> 4] = block;
    return block << 4;
  }

  private freshBlock(): number {
    if (this.fresh === this.nexts.length) {
      const blocks = this.fresh < LARGE ? this.fresh * 2 : this.fresh + (this.fresh >> 4);
      this.doubles = longer(this.doubles, blocks * RECORDS * DOUBLES);
      this.ints = new Int32Array(this.doubles.buffer);
      this.nexts = longer(this.nexts, blocks);
    }
    this.nexts[this.fresh] = NIL;
    return this.fresh++;
  }
}
