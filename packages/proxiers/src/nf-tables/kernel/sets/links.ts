/**
 * Links of hash chains. A link is one word: the element's number plus one (0 ends a chain), and two bits of the
 * element's state. Only an element's own first word carries its state; links to it are plain.
 */

/** Within an uncommitted transaction: packets do not see the element yet. */
export const PENDING = 1 << 30;
/** Within an uncommitted transaction: it is deleted there, and packets still see it. */
export const LEAVING = 1 << 31;
export const LINK = PENDING - 1;

/** The smallest power of two that is at least `n`; 1 for 0. */
export function roundUpToPowerOfTwo(n: number): number {
  return n <= 1 ? 1 : 2 * (1 << (31 - Math.clz32(n - 1)));
}

/** (a * b) >> 32 for unsigned 32-bit integers, exactly: reciprocal_scale(). */
export function scaled(a: number, b: number): number {
  return Math.floor(((a >>> 16) * b + Math.floor(((a & 0xffff) * b) / 65536)) / 65536);
}
