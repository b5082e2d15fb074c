/**
 * Bob Jenkins' lookup3 as Linux uses it (include/linux/jhash.h): the hash of eBPF maps, IPVS connections,
 * nftables sets and ipsets. Words are the little-endian reading of the key's bytes in memory.
 */

const INIT = 0xdeadbeef;

function rol(x: number, k: number): number {
  return (x << k) | (x >>> (32 - k));
}

function final(a: number, b: number, c: number): number {
  c = ((c ^ b) - rol(b, 14)) | 0;
  a = ((a ^ c) - rol(c, 11)) | 0;
  b = ((b ^ a) - rol(a, 25)) | 0;
  c = ((c ^ b) - rol(b, 16)) | 0;
  a = ((a ^ c) - rol(c, 4)) | 0;
  b = ((b ^ a) - rol(a, 14)) | 0;
  return ((c ^ b) - rol(b, 24)) >>> 0;
}

/** Hash of one, two or three 32-bit words (jhash_1word, jhash_2words, jhash_3words). */
export function jhash1(w1: number, seed: number): number {
  const s = (INIT + 4 + seed) | 0;
  return final((w1 + s) | 0, s, s);
}

export function jhash2(w1: number, w2: number, seed: number): number {
  const s = (INIT + 8 + seed) | 0;
  return final((w1 + s) | 0, (w2 + s) | 0, s);
}

export function jhash3(w1: number, w2: number, w3: number, seed: number): number {
  const s = (INIT + 12 + seed) | 0;
  return final((w1 + s) | 0, (w2 + s) | 0, (w3 + s) | 0);
}

/** jhash(key, length, seed) over `length` bytes, given as little-endian words with zero padding in the last. */
export function jhash(words: Uint32Array | Int32Array, length: number, seed: number, offset = 0): number {
  let a = (INIT + length + seed) | 0;
  let b = a;
  let c = a;
  let at = offset;
  let left = length;
  while (left > 12) {
    a = (a + words[at]!) | 0;
    b = (b + words[at + 1]!) | 0;
    c = (c + words[at + 2]!) | 0;
    a = ((a - c) ^ rol(c, 4)) | 0;
    c = (c + b) | 0;
    b = ((b - a) ^ rol(a, 6)) | 0;
    a = (a + c) | 0;
    c = ((c - b) ^ rol(b, 8)) | 0;
    b = (b + a) | 0;
    a = ((a - c) ^ rol(c, 16)) | 0;
    c = (c + b) | 0;
    b = ((b - a) ^ rol(a, 19)) | 0;
    a = (a + c) | 0;
    c = ((c - b) ^ rol(b, 4)) | 0;
    b = (b + a) | 0;
    at += 3;
    left -= 12;
  }
  if (left === 0) return c >>> 0;
  a = (a + words[at]!) | 0;
  if (left > 4) b = (b + words[at + 1]!) | 0;
  if (left > 8) c = (c + words[at + 2]!) | 0;
  return final(a, b, c);
}
