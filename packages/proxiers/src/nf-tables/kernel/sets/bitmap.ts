import { INSERT_EXISTS, type ElementWords, type NfSet, type SetDescription } from '../set-backend.ts';

/**
 * Sets of keys of one or two bytes without data: two bits for each key that could be.
 * Models: the test of one byte at lookup; the list of elements that is walked when one is inserted or found.
 * Source: net/netfilter/nft_set_bitmap.c.
 */

/** Bytes of struct nft_bitmap_elem and its key: BTF of Linux 6.18, x86-64. */
const ELEMENT_BYTES = 36;
/** A key's two bits: in force now, and in the next generation. */
const NOW_BIT = 1;
const NEXT_BIT = 2;

export class BitmapSet implements NfSet {
  readonly backend = 'bitmap';
  readonly description: SetDescription;
  readonly keyWords = 1;
  readonly dataWords = 0;
  steps = 0;
  readonly #mask: number;
  /** Both bits of each key, a byte each. The kernel packs four keys into a byte. */
  readonly #bits: Uint8Array;
  /** Keys in the order of their insertion. An element's number is its key. */
  readonly #keys: number[] = [];
  /** Keys that one transaction deleted and added again: they stay, whatever becomes of it. */
  readonly #back = new Set<number>();

  constructor(description: SetDescription) {
    this.description = description;
    this.#mask = description.keyBytes === 1 ? 0xff : 0xffff;
    this.#bits = new Uint8Array(this.#mask + 1);
  }

  get count(): number {
    return this.#keys.length + this.#back.size;
  }

  lookup(registers: Uint32Array, at: number): number {
    this.steps = 1;
    const key = registers[at]! & this.#mask;
    return (this.#bits[key]! & NOW_BIT) !== 0 ? key : -1;
  }

  insert(element: ElementWords): number {
    const key = element.words[element.at]! & this.#mask;
    if (this.find(element) >= 0) return INSERT_EXISTS - key;
    if (this.#bits[key] === 0) this.#keys.push(key);
    else this.#back.add(key);
    this.#bits[key]! |= element.pending ? NEXT_BIT : NOW_BIT | NEXT_BIT;
    return key;
  }

  find(element: ElementWords): number {
    const key = element.words[element.at]! & this.#mask;
    const place = this.#keys.indexOf(key);
    this.steps = place < 0 ? this.#keys.length : place + 1;
    return (this.#bits[key]! & NEXT_BIT) === 0 ? -1 : key;
  }

  remove(key: number): void {
    if (this.#back.delete(key)) return;
    this.#keys.splice(this.#keys.indexOf(key), 1);
    this.#bits[key] = 0;
  }

  setPending(element: number, pending: boolean): void {
    this.#set(element, NOW_BIT, !pending);
  }

  setLeaving(element: number, leaving: boolean): void {
    this.#set(element, NEXT_BIT, !leaving);
  }

  isPending(element: number): boolean {
    return (this.#bits[element]! & NOW_BIT) === 0;
  }

  isLeaving(element: number): boolean {
    return (this.#bits[element]! & NEXT_BIT) === 0;
  }

  key(element: number): number {
    return element;
  }

  keyEnd(element: number): number {
    return element;
  }

  isIntervalEnd(): boolean {
    return false;
  }

  data(): number {
    return 0;
  }

  expiresMs(): number {
    return Infinity;
  }

  forEach(visit: (element: number) => void): void {
    for (const key of this.#keys.slice()) visit(key);
  }

  kernelBytes(): number {
    return (this.#mask + 1) / 4 + this.count * ELEMENT_BYTES;
  }

  #set(key: number, bit: number, on: boolean): void {
    this.#bits[key] = on ? this.#bits[key]! | bit : this.#bits[key]! & ~bit;
  }
}
