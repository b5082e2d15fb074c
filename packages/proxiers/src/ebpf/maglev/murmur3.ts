/**
 * MurmurHash3 x64, 128 bits, both lanes seeded alike, in 32-bit halves.
 * Source: Austin Appleby's MurmurHash3_x64_128; pkg/murmur3 of Cilium, MurmurHash3_x64_64 of Katran (its first lane).
 */

/** Upper half of what `times` gave last: a pair would be an object per product. */
let high = 0;

/**
 * Hash `bytes[from, to)` with a 32-bit seed; writes h1 and h2 into `out` as four 32-bit words: h1 upper half, h1
 * lower half, h2 upper half, h2 lower half.
 */
export function murmur3(bytes: Uint8Array, from: number, to: number, seed: number, out: Uint32Array): void {
  const length = to - from;
  let h1h = 0;
  let h1l = seed | 0;
  let h2h = 0;
  let h2l = seed | 0;
  for (let at = from; at < to; at += 16) {
    // A tail of fewer than 16 bytes is filled up with zeros; what follows a block is left out.
    const whole = at + 16 <= to;
    let l = firstProduct(wordAt(bytes, at, to), wordAt(bytes, at + 4, to));
    h1h ^= high;
    h1l ^= l;
    if (whole) {
      const h = (h1h << 27) | (h1l >>> 5);
      l = (h1l << 27) | (h1h >>> 5);
      h1l = (l + h2l) | 0;
      h1h = (h + h2h + carry(l, h1l)) | 0;
      l = times(h1h, h1l, 0, 5);
      h1l = (l + 0x52dce729) | 0;
      h1h = (high + carry(l, h1l)) | 0;
    }
    l = secondProduct(wordAt(bytes, at + 8, to), wordAt(bytes, at + 12, to));
    h2h ^= high;
    h2l ^= l;
    if (whole) {
      const h = (h2h << 31) | (h2l >>> 1);
      l = (h2l << 31) | (h2h >>> 1);
      h2l = (l + h1l) | 0;
      h2h = (h + h1h + carry(l, h2l)) | 0;
      l = times(h2h, h2l, 0, 5);
      h2l = (l + 0x38495ab5) | 0;
      h2h = (high + carry(l, h2l)) | 0;
    }
  }
  finish(h1h, h1l ^ length, h2h, h2l ^ length, out);
}

/**
 * A 64-bit number, in halves as above, modulo `m`, exactly: at most 2^21, so that the products stay below 2^53.
 */
export function modulo64(upper: number, lower: number, m: number): number {
  return ((upper % m) * 0x1_0000_0000 + lower) % m;
}

/** k1 * c1, rotated by 31, * c2. */
function firstProduct(lower: number, upper: number): number {
  const l = times(upper, lower, 0x87c37b91, 0x114253d5);
  const h = high;
  return times((h << 31) | (l >>> 1), (l << 31) | (h >>> 1), 0x4cf5ad43, 0x2745937f);
}

/** k2 * c2, rotated by 33, * c1. */
function secondProduct(lower: number, upper: number): number {
  const l = times(upper, lower, 0x4cf5ad43, 0x2745937f);
  const h = high;
  return times((l << 1) | (h >>> 31), (h << 1) | (l >>> 31), 0x87c37b91, 0x114253d5);
}

function finish(h1h: number, h1l: number, h2h: number, h2l: number, out: Uint32Array): void {
  let l = (h1l + h2l) | 0;
  h1h = (h1h + h2h + carry(h1l, l)) | 0;
  h1l = l;
  l = (h2l + h1l) | 0;
  h2h = (h2h + h1h + carry(h2l, l)) | 0;
  h2l = l;
  h1l = mixed(h1h, h1l);
  h1h = high;
  h2l = mixed(h2h, h2l);
  h2h = high;
  l = (h1l + h2l) | 0;
  h1h = (h1h + h2h + carry(h1l, l)) | 0;
  h1l = l;
  l = (h2l + h1l) | 0;
  h2h = (h2h + h1h + carry(h2l, l)) | 0;
  out[0] = h1h;
  out[1] = h1l;
  out[2] = h2h;
  out[3] = l;
}

/** fmix64: lower half returned, upper half in `high`. */
function mixed(h: number, l: number): number {
  // A shift right by 33 leaves the upper half, shifted by one, in the lower.
  l = times(h, l ^ (h >>> 1), 0xff51afd7, 0xed558ccd);
  h = high;
  l = times(h, l ^ (h >>> 1), 0xc4ceb9fe, 0x1a85ec53);
  return l ^ (high >>> 1);
}

/** The product modulo 2^64: lower half returned, upper half in `high`. */
function times(xh: number, xl: number, yh: number, yl: number): number {
  const x0 = xl & 0xffff;
  const x1 = xl >>> 16;
  const y0 = yl & 0xffff;
  const y1 = yl >>> 16;
  const low = Math.imul(x0, y0) >>> 0;
  const one = (Math.imul(x1, y0) >>> 0) + (low >>> 16);
  const other = (Math.imul(x0, y1) >>> 0) + (one & 0xffff);
  high = (Math.imul(x1, y1) + (one >>> 16) + (other >>> 16) + Math.imul(xh, yl) + Math.imul(xl, yh)) | 0;
  return Math.imul(xl, yl);
}

/** 1 if the sum of lower halves wrapped around. */
function carry(addend: number, sum: number): number {
  return sum >>> 0 < addend >>> 0 ? 1 : 0;
}

/** Four bytes, the first one lowest; zeros from `to` on. */
function wordAt(bytes: Uint8Array, at: number, to: number): number {
  if (at + 4 <= to)
    return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
  let word = 0;
  for (let i = to - 1; i >= at; i--) word = (word << 8) | bytes[i]!;
  return word;
}
