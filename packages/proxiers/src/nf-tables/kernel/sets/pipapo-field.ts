import { longer } from '@vipsim/sim-core';

/**
 * One field of a pipapo set: for each group of bits of the key a row of bitmaps, one for each value of the group,
 * with one bit for each rule; and for each rule the rules of the next field that it leads to.
 * Source: net/netfilter/nft_set_pipapo.c.
 */

/** A table above this gets groups of 4 bits, one below the other limit groups of 8 (NFT_PIPAPO_LT_SIZE_*). */
const TABLE_MAX = 2 * 1024 * 1024;
const TABLE_MIN = TABLE_MAX - 64 * 1024;

export class PipapoField {
  readonly bytes: number;
  bits = 8;
  groups: number;
  rules = 0;
  /** Length of a bitmap in 64-bit words, as the kernel counts; the table here has two words for each. */
  longs = 0;
  table = new Int32Array(0);
  /** Of each rule: the first rule of the next field and how many; in the last field, the element. */
  to = new Int32Array(4);
  n = new Int32Array(4);

  constructor(bytes: number) {
    this.bytes = bytes;
    this.groups = bytes;
  }

  copy(): PipapoField {
    const copy = new PipapoField(this.bytes);
    copy.bits = this.bits;
    copy.groups = this.groups;
    copy.rules = this.rules;
    copy.longs = this.longs;
    copy.table = this.table.slice();
    copy.to = this.to.slice();
    copy.n = this.n.slice();
    return copy;
  }

  /** Bytes that the kernel's tables take. */
  get kernelBytes(): number {
    return this.groups * (1 << this.bits) * this.longs * 8 + this.rules * 8;
  }

  /** AND the bitmaps that the key selects into `map`. */
  select(map: Int32Array, words: ArrayLike<number>, at: number): void {
    const width = 2 * this.longs;
    for (let group = 0; group < this.groups; group++) {
      const base = ((group << this.bits) + this.value(words, at, group)) * width;
      for (let i = 0; i < width; i++) map[i]! &= this.table[base + i]!;
    }
  }

  /** The value of a group of bits of a key. */
  value(words: ArrayLike<number>, at: number, group: number): number {
    const byte = this.bits === 8 ? group : group >> 1;
    const value = (words[at + (byte >> 2)]! >>> (8 * (byte & 3))) & 255;
    if (this.bits === 8) return value;
    return (group & 1) === 0 ? value >> 4 : value & 15;
  }

  /** A new rule for keys whose first `maskBits` bits are those of `key`. */
  insert(key: ArrayLike<number>, at: number, maskBits: number): void {
    const rule = this.rules++;
    this.#resize();
    const buckets = 1 << this.bits;
    for (let group = 0; group < this.groups; group++) {
      const value = this.value(key, at, group);
      const fixed = Math.min(Math.max(maskBits - group * this.bits, 0), this.bits);
      const open = this.bits - fixed;
      for (let bucket = 0; bucket < buckets; bucket++) {
        if (bucket >> open === value >> open) this.#setBit(group, bucket, rule);
      }
    }
    this.#adjust();
  }

  /** Rules for the keys from `start` to `end`, as few prefixes as it takes; how many. */
  expand(start: Uint8Array, end: Uint8Array): number {
    const bits = 8 * this.bytes;
    const base = start.slice();
    const key = new Int32Array((this.bytes + 3) >> 2);
    let masks = 0;
    while (compareBytes(base, end) <= 0) {
      let step = 0;
      while (step < bits && (base[this.bytes - 1 - (step >> 3)]! & (1 << (step & 7))) === 0) {
        if (compareBytes(filled(base, step), end) > 0) break;
        step++;
      }
      key.fill(0);
      for (let i = 0; i < this.bytes; i++) key[i >> 2]! |= base[i]! << (8 * (i & 3));
      this.insert(key, 0, bits - step);
      masks++;
      if (step === bits || !addBit(base, step)) break;
    }
    return masks;
  }

  /** Take `count` rules from `first` on out; rules behind them move up. */
  drop(first: number, count: number): void {
    const width = 2 * this.longs;
    for (let row = 0; row < this.groups << this.bits; row++) {
      for (let rule = first; rule < this.rules; rule++) {
        const from = rule + count;
        const on = from < this.rules && ((this.table[row * width + (from >> 5)]! >>> (from & 31)) & 1) === 1;
        const word = row * width + (rule >> 5);
        this.table[word] = on
          ? this.table[word]! | (1 << (rule & 31))
          : this.table[word]! & ~(1 << (rule & 31));
      }
    }
    this.to.copyWithin(first, first + count, this.rules);
    this.n.copyWithin(first, first + count, this.rules);
    this.rules -= count;
    this.#resize();
    this.#adjust();
  }

  #setBit(group: number, bucket: number, rule: number): void {
    this.table[((group << this.bits) + bucket) * 2 * this.longs + (rule >> 5)]! |= 1 << (rule & 31);
  }

  #resize(): void {
    if (this.rules > this.to.length) {
      this.to = longer(this.to, 2 * this.rules);
      this.n = longer(this.n, 2 * this.rules);
    }
    const longs = Math.ceil(this.rules / 64);
    if (longs === this.longs) return;
    const rows = this.groups << this.bits;
    const table = new Int32Array(rows * 2 * longs);
    const kept = 2 * Math.min(longs, this.longs);
    for (let row = 0; row < rows; row++) {
      const from = row * 2 * this.longs;
      table.set(this.table.subarray(from, from + kept), row * 2 * longs);
    }
    this.table = table;
    this.longs = longs;
  }

  /** Groups of 4 bits for a large table, of 8 for a small one. */
  #adjust(): void {
    const size = (this.groups << this.bits) * this.longs * 8;
    if (this.bits === 8 && size > TABLE_MAX)
      this.#regroup(4, (row, half) => (half === 0 ? row >> 4 : row & 15));
    else if (this.bits === 4 && size < TABLE_MIN && (this.groups / 2) * 256 * this.longs * 8 <= TABLE_MAX) {
      this.#widen();
    }
  }

  #regroup(bits: number, part: (row: number, half: number) => number): void {
    const width = 2 * this.longs;
    const table = new Int32Array(2 * this.groups * 16 * width);
    for (let group = 0; group < this.groups; group++) {
      for (let half = 0; half < 2; half++) {
        for (let row = 0; row < 256; row++) {
          const from = (group * 256 + row) * width;
          const to = ((2 * group + half) * 16 + part(row, half)) * width;
          for (let i = 0; i < width; i++) table[to + i]! |= this.table[from + i]!;
        }
      }
    }
    this.table = table;
    this.groups *= 2;
    this.bits = bits;
  }

  #widen(): void {
    const width = 2 * this.longs;
    const table = new Int32Array((this.groups / 2) * 256 * width);
    for (let group = 0; group < this.groups / 2; group++) {
      for (let row = 0; row < 256; row++) {
        const high = (2 * group * 16 + (row >> 4)) * width;
        const low = ((2 * group + 1) * 16 + (row & 15)) * width;
        const to = (group * 256 + row) * width;
        for (let i = 0; i < width; i++) table[to + i] = this.table[high + i]! & this.table[low + i]!;
      }
    }
    this.table = table;
    this.groups /= 2;
    this.bits = 8;
  }
}

export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return 0;
}

/** With the lowest bits up to `step` set. */
function filled(base: Uint8Array, step: number): Uint8Array {
  const copy = base.slice();
  for (let bit = 0; bit <= step; bit++) copy[copy.length - 1 - (bit >> 3)]! |= 1 << (bit & 7);
  return copy;
}

/** Add one bit, with carry; false if that was more than the bytes hold. */
function addBit(base: Uint8Array, step: number): boolean {
  let carry = 1 << (step & 7);
  for (let i = base.length - 1 - (step >> 3); i >= 0 && carry > 0; i--) {
    const sum = base[i]! + carry;
    base[i] = sum & 255;
    carry = sum >> 8;
  }
  return carry === 0;
}
