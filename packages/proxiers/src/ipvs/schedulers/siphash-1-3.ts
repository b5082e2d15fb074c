/**
 * SipHash with one round for the block and three at the end, of four bytes: the low 32 bits. Both halves of the
 * key's 128 bits are the number `key`. 64-bit words are kept as pairs of 32 bits; what a sum of low halves
 * carries is had without a branch, which nobody could predict.
 * Source: hsiphash on 64-bit machines, lib/siphash.c; Aumasson and Bernstein, "SipHash: a fast short-input PRF".
 * @param value the bytes as a little-endian number
 */
export function sipHash13(value: number, key: number): number {
  const blockHigh = 4 << 24;
  let h0 = 0x736f6d65;
  let l0 = 0x70736575 ^ key;
  let h1 = 0x646f7261;
  let l1 = 0x6e646f6d ^ key;
  let h2 = 0x6c796765;
  let l2 = 0x6e657261 ^ key;
  let h3 = 0x74656462 ^ blockHigh;
  let l3 = 0x79746573 ^ key ^ value;
  for (let round = 0; round < 4; round++) {
    // v0 += v1; v1 = rol(v1, 13) ^ v0; v0 = rol(v0, 32)
    let low = (l0 + l1) | 0;
    let high = (h0 + h1 + (((l0 & l1) | ((l0 | l1) & ~low)) >>> 31)) | 0;
    let turned = ((h1 << 13) | (l1 >>> 19)) ^ high;
    l1 = ((l1 << 13) | (h1 >>> 19)) ^ low;
    h1 = turned;
    l0 = high;
    h0 = low;
    // v2 += v3; v3 = rol(v3, 16) ^ v2
    low = (l2 + l3) | 0;
    high = (h2 + h3 + (((l2 & l3) | ((l2 | l3) & ~low)) >>> 31)) | 0;
    turned = ((h3 << 16) | (l3 >>> 16)) ^ high;
    l3 = ((l3 << 16) | (h3 >>> 16)) ^ low;
    h3 = turned;
    l2 = low;
    h2 = high;
    // v0 += v3; v3 = rol(v3, 21) ^ v0
    low = (l0 + l3) | 0;
    high = (h0 + h3 + (((l0 & l3) | ((l0 | l3) & ~low)) >>> 31)) | 0;
    turned = ((h3 << 21) | (l3 >>> 11)) ^ high;
    l3 = ((l3 << 21) | (h3 >>> 11)) ^ low;
    h3 = turned;
    l0 = low;
    h0 = high;
    // v2 += v1; v1 = rol(v1, 17) ^ v2; v2 = rol(v2, 32)
    low = (l2 + l1) | 0;
    high = (h2 + h1 + (((l2 & l1) | ((l2 | l1) & ~low)) >>> 31)) | 0;
    turned = ((h1 << 17) | (l1 >>> 15)) ^ high;
    l1 = ((l1 << 17) | (h1 >>> 15)) ^ low;
    h1 = turned;
    l2 = high;
    h2 = low;
    if (round === 0) {
      l0 ^= value;
      h0 ^= blockHigh;
      l2 ^= 0xff;
    }
  }
  return (l0 ^ l1 ^ l2 ^ l3) >>> 0;
}
