import type { Address } from '../../netfilter/address.ts';

/** Addresses as netfilter's code here has them, and as nf_tables' registers hold them: the bytes of each word turned. */
export function wordsInto(words: Uint32Array, address: Address): void {
  for (let i = 0; i < 4; i++) words[i] = turned(address[i] ?? 0);
}

export function addressOf(words: ArrayLike<number>, length: number): Address {
  return Array.from({ length }, (_, i) => turned(words[i]!));
}

/** The same four bytes in the other order. */
function turned(word: number): number {
  return ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | ((word >>> 24) & 0xff)) >>> 0;
}
