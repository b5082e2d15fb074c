/** Numbers that share a word of bits. */
const PER_WORD = 32;
const WORDS_MIN = 64;

/**
 * Which numbered events are still to come. Numbers are added in rising order and never twice, so a number that is gone
 * is gone for good. The latest have a bit each, in a ring of words; a number that is still to come when the ring has
 * gone round moves into a set, and when many do the ring becomes longer. Add, remove and look up O(1).
 */
export class PendingHandles {
  private words: Int32Array = new Int32Array(WORDS_MIN);
  /** The ring has a bit for each number from here on … */
  private from = 0.5;
  /** … to here. Both are begun with a fraction so that V8 keeps them as doubles. */
  private end = 0.5;
  private readonly old = new Set<number>();

  constructor() {
    this.end = 0;
    this.from = -WORDS_MIN * PER_WORD;
  }

  /** Bytes held, about 40 for each number in the set. */
  get bytes(): number {
    return this.words.byteLength + this.old.size * 40;
  }

  add(number: number): void {
    if (number >= this.end) this.open(number);
    this.words[(number >>> 5) & (this.words.length - 1)]! |= 1 << number;
  }

  has(number: number): boolean {
    if (number < this.from) return this.old.has(number);
    return number < this.end && (this.words[(number >>> 5) & (this.words.length - 1)]! & (1 << number)) !== 0;
  }

  /** False if it was not there. */
  remove(number: number): boolean {
    if (number < this.from) return this.old.delete(number);
    const { words } = this;
    const at = (number >>> 5) & (words.length - 1);
    const rest = words[at]! & ~(1 << number);
    if (rest === words[at] || number >= this.end) return false;
    words[at] = rest;
    return true;
  }

  /** Whether the ring is much longer than so many numbers need. */
  isRoomyFor(numbers: number): boolean {
    return this.words.length > WORDS_MIN && this.words.length > 32 * numbers;
  }

  /** Make the ring as long as so many numbers may need. */
  fit(numbers: number): void {
    let length = WORDS_MIN;
    while (length < 8 * numbers) length *= 2;
    this.resize(length);
  }

  /** Let the ring reach to the word of a number. */
  private open(number: number): void {
    const end = (Math.floor(number / PER_WORD) + 1) * PER_WORD;
    const from = end - this.words.length * PER_WORD;
    for (let start = this.from; start < from && start < this.end; start += PER_WORD) this.retire(start);
    this.from = from;
    this.end = end;
    if (this.old.size > this.words.length >> 1) this.resize(this.words.length * 2);
  }

  /** Move what is left of a word into the set. */
  private retire(start: number): void {
    const at = (start >>> 5) & (this.words.length - 1);
    for (let left = this.words[at]!; left !== 0; left &= left - 1) {
      this.old.add(start + 31 - Math.clz32(left & -left));
    }
    this.words[at] = 0;
  }

  private resize(length: number): void {
    const from = this.end - length * PER_WORD;
    for (let start = this.from; start < from; start += PER_WORD) this.retire(start);
    const { words } = this;
    this.words = new Int32Array(length);
    for (let start = Math.max(this.from, from); start < this.end; start += PER_WORD) {
      this.words[(start >>> 5) & (length - 1)] = words[(start >>> 5) & (words.length - 1)]!;
    }
    this.from = from;
    for (const number of this.old) {
      if (number < from) continue;
      this.old.delete(number);
      this.words[(number >>> 5) & (length - 1)]! |= 1 << number;
    }
  }
}
