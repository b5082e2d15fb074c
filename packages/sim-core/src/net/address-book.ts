import { longer } from '../columns/longer.ts';
import type { Ipv6 } from './ipv6.ts';

/**
 * IPv6 addresses by small numbers, so that columns stay 32 bits wide: equal addresses have equal numbers, and the
 * unspecified address is 0, as 0.0.0.0 is among IPv4 ones. Nothing is ever struck out.
 *
 *     #slots  open addressing, at most half full: number, or 0 for none
 *     #words  by number: four words
 */
export class AddressBook {
  /** Addresses known, `::` among them. */
  count = 1;
  #words: Uint32Array = new Uint32Array(4 * 64);
  #slots: Uint32Array = new Uint32Array(128);

  /** The number of an address, given to it when it is first asked for. */
  intern([a, b, c, d]: Ipv6): number {
    if ((a | b | c | d) === 0) return 0;
    const mask = this.#slots.length - 1;
    let slot = hash(a, b, c, d) & mask;
    for (; this.#slots[slot] !== 0; slot = (slot + 1) & mask) {
      const known = this.#slots[slot]!;
      const at = known * 4;
      const words = this.#words;
      if (words[at] === a && words[at + 1] === b && words[at + 2] === c && words[at + 3] === d) return known;
    }
    const number = this.count++;
    this.#slots[slot] = number;
    if (number * 4 === this.#words.length) this.#words = longer(this.#words, number * 8);
    this.#words[number * 4] = a;
    this.#words[number * 4 + 1] = b;
    this.#words[number * 4 + 2] = c;
    this.#words[number * 4 + 3] = d;
    if (this.count * 2 > this.#slots.length) this.#widen();
    return number;
  }

  /** Throws RangeError for a number that the book did not give. */
  words(number: number): Ipv6 {
    if (!(number >= 0 && number < this.count)) {
      throw new RangeError(`address ${number}: the book has ${this.count}`);
    }
    const at = number * 4;
    const words = this.#words;
    return [words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!];
  }

  #widen(): void {
    const slots = new Uint32Array(this.#slots.length * 2);
    const mask = slots.length - 1;
    for (let number = 1; number < this.count; number++) {
      const [a, b, c, d] = this.words(number);
      let slot = hash(a, b, c, d) & mask;
      while (slots[slot] !== 0) slot = (slot + 1) & mask;
      slots[slot] = number;
    }
    this.#slots = slots;
  }
}

/** Spreads the low bits, in which addresses of one network differ. Only the book's speed depends on it. */
function hash(a: number, b: number, c: number, d: number): number {
  let mixed = Math.imul(a ^ Math.imul(b, 0x9e3779b1), 0x85ebca6b) ^ Math.imul(c, 0xc2b2ae35) ^ d;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
