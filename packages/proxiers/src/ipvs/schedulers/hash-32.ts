/**
 * The top `bits` bits of the product with 2^32 divided by the golden ratio: how sh and dh (8 bits), lblc and
 * lblcr (10 bits) choose a slot.
 * Source: hash_32, include/linux/hash.h, since Linux 4.18 in these schedulers; before, they took the low bits.
 */
export function hash32(key: number, bits: number): number {
  return Math.imul(key, 0x61c88647) >>> (32 - bits);
}
