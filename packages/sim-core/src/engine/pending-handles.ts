import { longer } from '../columns/longer.ts';

const NIL = -1;
/** Bits in a page, as a power of two; and the words that they fill. */
const PAGE_BITS = 12;
const WORD_BITS = PAGE_BITS - 5;
const WORDS = 1 << WORD_BITS;
const PER_PAGE = 1 / (1 << PAGE_BITS);

/**
 * Which numbered events are still to come: a bit for each, in pages that are there only while a bit in them is set.
 * Numbers are added in rising order and never twice, so a number that is gone is gone for good. Add, remove and look
 * up O(1); an eighth of a byte each where numbers lie close.
 */
export class PendingHandles {
  /** The frame that holds a page, at the page's number modulo the length: a power of two. */
  private frames: Int32Array = new Int32Array(16).fill(NIL);
  private pageOf: Int32Array = new Int32Array(2).fill(NIL);
  private counts: Int32Array = new Int32Array(2);
  private bits: Int32Array = new Int32Array(2 * WORDS);
  private readonly free: number[] = [1, 0];
  private newestPage = NIL;
  private pending = 0;

  /** Whether memory is held for many, and none is left. */
  get isRoomy(): boolean {
    return this.pending === 0 && this.counts.length > 16;
  }

  get bytes(): number {
    return this.frames.byteLength + this.pageOf.byteLength + this.counts.byteLength + this.bits.byteLength;
  }

  add(number: number): void {
    const page = (number * PER_PAGE) | 0;
    if (page !== this.newestPage) this.open(page);
    const frame = this.frames[page & (this.frames.length - 1)]!;
    this.bits[(frame << WORD_BITS) | ((number >>> 5) & (WORDS - 1))]! |= 1 << number;
    this.counts[frame]!++;
    this.pending++;
  }

  has(number: number): boolean {
    const frame = this.frameOf((number * PER_PAGE) | 0);
    return frame >= 0 && (this.bits[wordOf(frame, number)]! & (1 << number)) !== 0;
  }

  /** False if it was not there. */
  remove(number: number): boolean {
    const page = (number * PER_PAGE) | 0;
    const frame = this.frameOf(page);
    if (frame < 0) return false;
    const word = wordOf(frame, number);
    const bit = 1 << number;
    if ((this.bits[word]! & bit) === 0) return false;
    this.bits[word]! ^= bit;
    this.pending--;
    if (--this.counts[frame]! === 0 && page !== this.newestPage) this.close(page, frame);
    return true;
  }

  private frameOf(page: number): number {
    const frame = this.frames[page & (this.frames.length - 1)]!;
    return frame >= 0 && this.pageOf[frame] === page ? frame : NIL;
  }

  private open(page: number): void {
    const newest = this.newestPage;
    this.newestPage = page;
    const before = newest < 0 ? NIL : this.frameOf(newest);
    if (before >= 0 && this.counts[before] === 0) this.close(newest, before);
    while (this.frames[page & (this.frames.length - 1)]! >= 0) this.widen();
    if (this.free.length === 0) this.grow();
    const frame = this.free.pop()!;
    this.frames[page & (this.frames.length - 1)] = frame;
    this.pageOf[frame] = page;
  }

  private close(page: number, frame: number): void {
    this.frames[page & (this.frames.length - 1)] = NIL;
    this.pageOf[frame] = NIL;
    this.free.push(frame);
  }

  /** An old page stands where a new one should: longer, until they stand apart. */
  private widen(): void {
    const wider = new Int32Array(this.frames.length * 2).fill(NIL);
    for (const frame of this.frames) {
      if (frame >= 0) wider[this.pageOf[frame]! & (wider.length - 1)] = frame;
    }
    this.frames = wider;
  }

  private grow(): void {
    const frames = this.counts.length;
    this.pageOf = longer(this.pageOf, frames * 2);
    this.counts = longer(this.counts, frames * 2);
    this.bits = longer(this.bits, frames * 2 * WORDS);
    for (let frame = frames * 2 - 1; frame >= frames; frame--) this.free.push(frame);
  }
}

function wordOf(frame: number, number: number): number {
  return (frame << WORD_BITS) | ((number >>> 5) & (WORDS - 1));
}
