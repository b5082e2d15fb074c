const MULTIPLIER = 0x9ddfea08eb382d69n;
const AF_INET = 2n;
const LOW = 0xffffffffn;

export interface RealHash {
  readonly hashUpper: number;
  readonly hashLower: number;
}

/**
 * The 64-bit hash by which a real is placed on rings: FNV-1 over the address' bytes, mixed with the address family.
 * Some addresses collide, for the bytes are taken with their sign; such reals want the same positions in the same order
 * and share them all the same.
 * Source: folly's IPAddressV4::hash and hash_128_to_64, which KatranLb.cpp calls.
 */
export function realHash(address: number): RealHash {
  const bytes = [address >>> 24, address >>> 16, address >>> 8, address];
  const mixed = mix(AF_INET, BigInt(fnv32(bytes)));
  return { hashUpper: Number(mixed >> 32n), hashLower: Number(mixed & LOW) };
}

/** folly's fnv32_buf, whose later name is fnv32_buf_BROKEN: each byte is widened with its sign. */
export function fnv32(bytes: readonly number[], start = 0x811c9dc5): number {
  let hash = start;
  for (const byte of bytes) hash = Math.imul(hash, 0x01000193) ^ ((byte << 24) >> 24);
  return hash >>> 0;
}

function mix(upper: bigint, lower: bigint): bigint {
  let a = BigInt.asUintN(64, (lower ^ upper) * MULTIPLIER);
  a ^= a >> 47n;
  let b = BigInt.asUintN(64, (upper ^ a) * MULTIPLIER);
  b ^= b >> 47n;
  return BigInt.asUintN(64, b * MULTIPLIER);
}
