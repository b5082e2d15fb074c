import { longer } from '../columns/longer.ts';

const NIL = -1;
/** Numbers in a page, as a power of two. */
const PAGE_BITS = 12;
const PER_PAGE = 1 / (1 << PAGE_BITS);
/** Words of a frame: the bits of a page, then how many are set. */
const COUNT = 128;
const FRAME = COUNT + 1;
const FRAMES_MIN = 2;

/**
 * Which numbered events are still to come: a bit for each, in pages that are there only while a bit in them is set.
 * Numbers are added in rising order and never twice, so a number that is gone is gone for good. Add, remove and look
 * up O(1); an eighth of a byte each where numbers lie close.
 */
export class PendingHandles {
  /** Frames, each with room for a page. */
  private words: Int32Array = new Int32Array(FRAMES_MIN * FRAME);
  /** The page that each frame holds. */
  private pageOf: Int32Array = new Int32Array(FRAMES_MIN).fill(NIL);
  /** The frame that holds a page, at the page's number modulo the length: a power of two. */
  private frames: Int32Array = new Int32Array(16).fill(NIL);
  private readonly free: number[] = [1, 0];
  private newestPage = NIL;
  private newestFrame = NIL;

  get bytes(): number {
    return this.words.byteLength + this.pageOf.byteLength + this.frames.byteLength;
  }

  /** Whether memory is held for many, and none is left. */
  get isRoomy(): boolean {
    const frames = this.pageOf.length;
    if (frames <= 16 || this.free.length < frames - 1) return false;
    return this.free.length === frames || this.words[this.newestFrame * FRAME + COUNT] === 0;
  }

  add(number: number): void {
    const page = (number * PER_PAGE) | 0;
    if (page !== this.newestPage) this.open(page);
    const { words } = this;
    const base = this.newestFrame * FRAME;
    words[base + ((number >>> 5) & 127)]! |= 1 << number;
    words[base + COUNT]!++;
  }

  has(number: number): boolean {
    const frame = this.frameOf((number * PER_PAGE) | 0);
    return frame >= 0 && (this.words[frame * FRAME + ((number >>> 5) & 127)]! & (1 << number)) !== 0;
  }

  /** False if it was not there. */
  remove(number: number): boolean {
    const page = (number * PER_PAGE) | 0;
    const frame = this.frameOf(page);
    if (frame < 0) return false;
    const { words } = this;
    const base = frame * FRAME;
    const at = base + ((number >>> 5) & 127);
    const rest = words[at]! & ~(1 << number);
    if (rest === words[at]) return false;
    words[at] = rest;
    const count = words[base + COUNT]! - 1;
    words[base + COUNT] = count;
    if (count === 0 && page !== this.newestPage) this.close(page, frame);
    return true;
  }

  private frameOf(page: number): number {
    const frame = this.frames[page & (this.frames.length - 1)]!;
    return frame >= 0 && this.pageOf[frame] === page ? frame : NIL;
  }

  private open(page: number): void {
    if (this.newestPage >= 0 && this.words[this.newestFrame * FRAME + COUNT] === 0) {
      this.close(this.newestPage, this.newestFrame);
    }
    while (this.frames[page & (this.frames.length - 1)]! >= 0) this.widen();
    if (this.free.length === 0) this.grow();
    const frame = this.free.pop()!;
    this.newestPage = page;
    this.newestFrame = frame;
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
    const frames = this.pageOf.length;
    this.pageOf = longer(this.pageOf, frames * 2);
    this.words = longer(this.words, frames * 2 * FRAME);
    for (let frame = frames * 2 - 1; frame >= frames; frame--) this.free.push(frame);
  }
}
