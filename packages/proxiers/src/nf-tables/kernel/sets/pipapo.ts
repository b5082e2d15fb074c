import { longer } from '@vipsim/sim-core';
import {
  INSERT_CLASH,
  INSERT_EXISTS,
  type ElementWords,
  type NfSet,
  type SetDescription,
} from '../set-backend.ts';
import { LEAVING, PENDING } from './links.ts';
import { PipapoField, compareBytes } from './pipapo-field.ts';

/**
 * Sets of concatenations with ranges: Pile Packet Policies.
 * Models: per field the bitmaps that a key's bits select, ANDed, and the mapping to the next field's rules; changes
 * made to a copy that the commit puts in place.
 * Source: net/netfilter/nft_set_pipapo.c.
 * Steps are ANDs of 64-bit words; with AVX2 the kernel does four in one instruction.
 *
 * Element: state | key words | end words | data words.
 */

/** Bytes of struct nft_pipapo_elem (key, end and data follow) and nft_pipapo_field: BTF of Linux 6.18, x86-64. */
const ELEMENT_BYTES = 16;
const FIELD_BYTES = 32;

export class Pipapo implements NfSet {
  readonly backend = 'pipapo';
  readonly description: SetDescription;
  readonly keyWords: number;
  readonly dataWords: number;
  count = 0;
  steps = 0;
  /** Bytes of tables that transactions copied. */
  copiedBytes = 0;
  #fields: PipapoField[];
  #clone: PipapoField[] | undefined;
  /** Word of the key where each field begins. */
  readonly #offsets: number[] = [];
  readonly #stride: number;
  #words: Int32Array;
  #expiry: Float64Array | undefined;
  readonly #free: number[] = [];
  #used = 0;
  #map = new Int32Array(0);
  #fill = new Int32Array(0);

  constructor(description: SetDescription) {
    this.description = description;
    this.#fields = description.fields.map((bytes) => new PipapoField(bytes));
    let words = 0;
    for (const bytes of description.fields) {
      this.#offsets.push(words);
      words += (bytes + 3) >> 2;
    }
    this.keyWords = words;
    this.dataWords = description.dataWords;
    this.#stride = 1 + 2 * words + this.dataWords;
    this.#words = new Int32Array(4 * this.#stride);
  }

  lookup(registers: Uint32Array, at: number, nowMs: number): number {
    return this.#match(this.#fields, registers, at, nowMs, PENDING);
  }

  insert(element: ElementWords, nowMs: number): number {
    const fields = this.#copy();
    const { words, at } = element;
    const found = this.#match(fields, words, at, nowMs, LEAVING);
    if (found >= 0) return this.#same(found, element) ? INSERT_EXISTS - found : INSERT_CLASH;
    if (this.#match(fields, words, at + this.keyWords, nowMs, LEAVING) >= 0) return INSERT_CLASH;
    const ranges = fields.map((field, i) => [
      bytesOf(words, at + this.#offsets[i]!, field.bytes),
      bytesOf(words, at + this.keyWords + this.#offsets[i]!, field.bytes),
    ]);
    if (ranges.some(([start, end]) => compareBytes(start!, end!) > 0)) return INSERT_CLASH;
    const number = this.#store(element);
    const first = fields.map((field) => field.rules);
    const counts = fields.map((field, i) => {
      const [start, end] = ranges[i]!;
      if (compareBytes(start!, end!) !== 0) return field.expand(start!, end!);
      field.insert(words, at + this.#offsets[i]!, 8 * field.bytes);
      return 1;
    });
    for (let i = 0; i < fields.length; i++) {
      const last = i === fields.length - 1;
      fields[i]!.to.fill(last ? number : first[i + 1]!, first[i]!, first[i]! + counts[i]!);
      fields[i]!.n.fill(last ? 0 : counts[i + 1]!, first[i]!, first[i]! + counts[i]!);
    }
    this.count++;
    if (!element.pending) this.commit();
    return number;
  }

  find(element: ElementWords, nowMs: number): number {
    const found = this.#match(this.#clone ?? this.#fields, element.words, element.at, nowMs, LEAVING);
    return found >= 0 && this.#same(found, element) ? found : -1;
  }

  remove(element: number): void {
    const fields = this.#copy();
    // The rules of an element are next to each other in each field, in the order of insertion of elements.
    const firsts: number[] = [];
    const counts: number[] = [];
    let wanted = (field: PipapoField, rule: number): boolean => field.to[rule] === element;
    for (let i = fields.length - 1; i >= 0; i--) {
      const field = fields[i]!;
      let first = 0;
      while (!wanted(field, first)) first++;
      let count = 1;
      while (first + count < field.rules && wanted(field, first + count)) count++;
      firsts.unshift(first);
      counts.unshift(count);
      wanted = (above, rule) => above.to[rule] === first;
    }
    for (let i = 0; i < fields.length; i++) {
      const field = fields[i]!;
      field.drop(firsts[i]!, counts[i]!);
      if (i === fields.length - 1) continue;
      for (let rule = 0; rule < field.rules; rule++) {
        if (field.to[rule]! > firsts[i + 1]!) field.to[rule]! -= counts[i + 1]!;
      }
    }
    this.#free.push(element);
    this.count--;
  }

  commit(): void {
    if (this.#clone !== undefined) this.#fields = this.#clone;
    this.#clone = undefined;
  }

  abort(): void {
    this.#clone = undefined;
  }

  setPending(element: number, pending: boolean): void {
    this.#set(element, PENDING, pending);
  }

  setLeaving(element: number, leaving: boolean): void {
    this.#set(element, LEAVING, leaving);
  }

  isPending(element: number): boolean {
    return (this.#words[element * this.#stride]! & PENDING) !== 0;
  }

  isLeaving(element: number): boolean {
    return (this.#words[element * this.#stride]! & LEAVING) !== 0;
  }

  key(element: number, word: number): number {
    return this.#words[element * this.#stride + 1 + word]!;
  }

  keyEnd(element: number, word: number): number {
    return this.#words[element * this.#stride + 1 + this.keyWords + word]!;
  }

  isIntervalEnd(): boolean {
    return false;
  }

  data(element: number, word: number): number {
    return this.#words[element * this.#stride + 1 + 2 * this.keyWords + word]!;
  }

  expiresMs(element: number): number {
    return this.#expiry === undefined ? Infinity : this.#expiry[element]!;
  }

  /** In the order of the last field's rules. */
  forEach(visit: (element: number) => void): void {
    const field = (this.#clone ?? this.#fields).at(-1)!;
    for (let rule = 0; rule < field.rules; rule++) {
      if (rule === 0 || field.to[rule] !== field.to[rule - 1]) visit(field.to[rule]!);
    }
  }

  kernelBytes(): number {
    const data = this.description.verdicts ? 16 : 4 * this.dataWords;
    let bytes = this.count * (ELEMENT_BYTES + 8 * this.keyWords + data);
    for (const field of this.#fields) bytes += FIELD_BYTES + field.kernelBytes;
    return bytes;
  }

  #match(
    fields: readonly PipapoField[],
    words: ArrayLike<number>,
    at: number,
    nowMs: number,
    hidden: number,
  ): number {
    this.steps = 0;
    if (fields[0]!.rules === 0) return -1;
    this.#widenMaps(fields);
    let map = this.#map;
    let fill = this.#fill;
    map.fill(-1, 0, 2 * fields[0]!.longs);
    for (let i = 0; ; i++) {
      const field = fields[i]!;
      this.steps += field.groups * field.longs;
      field.select(map, words, at + this.#offsets[i]!);
      if (i === fields.length - 1) return this.#firstOf(field, map, nowMs, hidden);
      fill.fill(0, 0, 2 * fields[i + 1]!.longs);
      if (!refill(field, map, fill)) return -1;
      [map, fill] = [fill, map];
    }
  }

  #firstOf(field: PipapoField, map: Int32Array, nowMs: number, hidden: number): number {
    for (let word = 0; word < 2 * field.longs; word++) {
      for (let bits = map[word]!; bits !== 0; bits &= bits - 1) {
        const rule = 32 * word + 31 - Math.clz32(bits & -bits);
        if (rule >= field.rules) return -1;
        const element = field.to[rule]!;
        const state = this.#words[element * this.#stride]!;
        if ((state & hidden) === 0 && this.expiresMs(element) > nowMs) return element;
      }
    }
    return -1;
  }

  #copy(): PipapoField[] {
    if (this.#clone === undefined) {
      this.#clone = this.#fields.map((field) => field.copy());
      for (const field of this.#clone) this.copiedBytes += field.kernelBytes;
    }
    return this.#clone;
  }

  #widenMaps(fields: readonly PipapoField[]): void {
    for (const field of fields) {
      if (2 * field.longs <= this.#map.length) continue;
      this.#map = new Int32Array(4 * field.longs);
      this.#fill = new Int32Array(4 * field.longs);
    }
  }

  #store(element: ElementWords): number {
    const number = this.#free.pop() ?? this.#used++;
    const base = number * this.#stride;
    if (base + this.#stride > this.#words.length) this.#words = longer(this.#words, 2 * this.#words.length);
    this.#words[base] = element.pending ? PENDING : 0;
    for (let i = 0; i < this.#stride - 1; i++) this.#words[base + 1 + i] = element.words[element.at + i]!;
    if (this.description.timeout) {
      const capacity = this.#words.length / this.#stride;
      if (this.#expiry === undefined || this.#expiry.length < capacity) {
        this.#expiry = longer(this.#expiry ?? new Float64Array(0), capacity);
      }
      this.#expiry[number] = element.expiresMs;
    }
    return number;
  }

  #same(number: number, element: ElementWords): boolean {
    for (let i = 0; i < 2 * this.keyWords; i++) {
      if (this.#words[number * this.#stride + 1 + i] !== element.words[element.at + i]) return false;
    }
    return true;
  }

  #set(element: number, bit: number, on: boolean): void {
    const base = element * this.#stride;
    this.#words[base] = on ? this.#words[base]! | bit : this.#words[base]! & ~bit;
  }
}

function refill(field: PipapoField, map: Int32Array, fill: Int32Array): boolean {
  let any = false;
  for (let word = 0; word < 2 * field.longs; word++) {
    for (let bits = map[word]!; bits !== 0; bits &= bits - 1) {
      const rule = 32 * word + 31 - Math.clz32(bits & -bits);
      if (rule >= field.rules) break;
      any = true;
      const end = field.to[rule]! + field.n[rule]!;
      for (let next = field.to[rule]!; next < end; next++) fill[next >> 5]! |= 1 << (next & 31);
    }
  }
  return any;
}

function bytesOf(words: ArrayLike<number>, at: number, count: number): Uint8Array {
  const bytes = new Uint8Array(count);
  for (let i = 0; i < count; i++) bytes[i] = (words[at + (i >> 2)]! >>> (8 * (i & 3))) & 255;
  return bytes;
}
