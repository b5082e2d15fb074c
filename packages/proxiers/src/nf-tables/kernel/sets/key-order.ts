/** memcmp of two keys given as little-endian words: negative, zero or positive. */
export function compareKeys(
  a: ArrayLike<number>,
  aAt: number,
  b: ArrayLike<number>,
  bAt: number,
  words: number,
): number {
  for (let i = 0; i < words; i++) {
    const difference = bigEndian(a[aAt + i]!) - bigEndian(b[bAt + i]!);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The four bytes of a word, first byte most significant. */
export function bigEndian(word: number): number {
  return (((word & 255) << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
}
