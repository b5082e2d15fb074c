import { jhash2 } from '@vipsim/sim-core';
import { portsWord, swapped } from './maglev-index.ts';
import { modulo64, murmur3 } from './murmur3.ts';

/**
 * Katran's ring, second version. A real is known by a 64-bit hash (of its address, made by whoever adds it); from
 * that come a place and a step on the ring. Rounds go over the reals in the order of their hashes; each adds its
 * weight to a sum of its own, and takes a position when that has come to the highest weight of all. Reals of weight
 * 0 are left out; a single real has the whole ring. Only place and step are stored, no permutations.
 * Source: katran/lib/MaglevHashV2.cpp, MaglevBase.cpp, MurmurHash3.cpp, Vip.cpp; get_packet_hash in
 * katran/lib/bpf/balancer.bpf.c.
 * Assumed: equal hashes keep the order in which they are given (Katran's sort leaves it open).
 * Not modelled: the first version, whose reals take as many positions in a row as their weight.
 */
export interface KatranReal {
  /** What positions hold: the index into the array of reals. */
  readonly number: number;
  readonly weight: number;
  /** Halves of the 64-bit hash. */
  readonly hashUpper: number;
  readonly hashLower: number;
}

export const KATRAN_RING_SIZE = 65_537;
export const KATRAN_VIPS_MAX = 512;

const OFFSET = { word: 42, seed: 0 };
const SKIP = { word: 2_718_281_828, seed: 2307 };

/** The number of a real for each position; -1 everywhere if there is none of any weight. */
export function katranRing(reals: readonly KatranReal[], size: number = KATRAN_RING_SIZE): Int32Array {
  const ring = new Int32Array(size).fill(-1);
  const sorted = reals
    .filter(({ weight }) => weight > 0)
    .sort((one, other) => one.hashUpper - other.hashUpper || one.hashLower - other.hashLower);
  if (sorted.length === 1) ring.fill(sorted[0]!.number);
  if (sorted.length > 1) fillRing(sorted, ring);
  return ring;
}

/** The position of a ring that an IPv4 packet selects; a virtual address may leave the source port out, as 0. */
export function katranIndex(
  source: number,
  sourcePort: number,
  destinationPort: number,
  size: number = KATRAN_RING_SIZE,
): number {
  return katranHash(source, sourcePort, destinationPort, KATRAN_VIPS_MAX * size) % size;
}

export function katranHash(
  source: number,
  sourcePort: number,
  destinationPort: number,
  seed: number,
): number {
  return jhash2(swapped(source), portsWord(sourcePort, destinationPort), seed);
}

function fillRing(reals: readonly KatranReal[], ring: Int32Array): void {
  const size = ring.length;
  const offsets = Uint32Array.from(reals, (real) => modulo(real, OFFSET, size));
  const skips = Uint32Array.from(reals, (real) => modulo(real, SKIP, size - 1) + 1);
  const numbers = Int32Array.from(reals, ({ number }) => number);
  const weights = Uint32Array.from(reals, ({ weight }) => weight);
  const sums = new Uint32Array(reals.length);
  const next = new Uint32Array(reals.length);
  const highest = weights.reduce((most, weight) => Math.max(most, weight), 0);
  for (let taken = 0; ;) {
    for (let i = 0; i < weights.length; i++) {
      sums[i]! += weights[i]!;
      if (sums[i]! < highest) continue;
      sums[i]! -= highest;
      let position: number;
      do {
        // 32 bits wide, as there: the product may wrap around.
        position = ((offsets[i]! + Math.imul(next[i]!, skips[i]!)) >>> 0) % size;
        next[i]!++;
      } while (ring[position]! >= 0);
      ring[position] = numbers[i]!;
      if (++taken === size) return;
    }
  }
}

const bytes = new Uint8Array(16);
const hash = new Uint32Array(4);

/** The first lane of MurmurHash3 over the real's hash and a constant. */
function modulo(real: KatranReal, { word, seed }: typeof OFFSET, m: number): number {
  for (let i = 0; i < 4; i++) {
    bytes[i] = real.hashLower >>> (8 * i);
    bytes[4 + i] = real.hashUpper >>> (8 * i);
    bytes[8 + i] = word >>> (8 * i);
  }
  murmur3(bytes, 0, 16, seed, hash);
  return modulo64(hash[0]!, hash[1]!, m);
}
