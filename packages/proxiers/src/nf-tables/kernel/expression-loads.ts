import { compareKeys } from './sets/key-order.ts';
import type { Skb } from './skb.ts';

/**
 * What expressions read of a packet, and how they compare it.
 * Source: net/netfilter/nft_payload.c, nft_cmp.c, nft_range.c, nft_meta.c, net/ipv4/netfilter/nft_fib_ipv4.c.
 */

// Constants of this module: an imported one is loaded anew at each use in optimised code.
const EQ = 0;
const FIB_SADDR = 1;
const GT = 4;
const LT = 2;
const LTE = 3;
const META_IIF = 4;
const META_IIFNAME = 6;
const META_L4PROTO = 16;
const META_MARK = 3;
const META_NFPROTO = 15;
const META_OIF = 5;
const META_OIFNAME = 7;
const NEQ = 1;
const NETWORK = 1;
const NFPROTO_IPV4 = 2;
const NFPROTO_IPV6 = 10;

/** Bytes of a header, the rest of the last word zero. */
export function loadPayload(
  registers: Uint32Array,
  skb: Skb,
  dreg: number,
  offset: number,
  length: number,
  base: number,
): void {
  const shift = 8 * (offset & 3);
  const count = (length + 3) >> 2;
  for (let i = 0; i < count; i++) {
    const from = (offset & ~3) + 4 * i;
    let word = base === NETWORK ? skb.networkWord(from) : skb.transportWord(from);
    if (shift !== 0) {
      const next = base === NETWORK ? skb.networkWord(from + 4) : skb.transportWord(from + 4);
      word = (word >>> shift) | (next << (32 - shift));
    }
    registers[dreg + i] = word;
  }
  // The rest of the last word reads as zero.
  if ((length & 3) !== 0) registers[dreg + count - 1]! &= (1 << (8 * (length & 3))) - 1;
}

/** Registers from `sreg` against words, byte by byte. */
export function compareRegisters(
  registers: Uint32Array,
  words: Int32Array,
  at: number,
  sreg: number,
  op: number,
  length: number,
): boolean {
  if (op <= NEQ) {
    let same = true;
    for (let i = 0; 4 * i < length; i++) {
      const left = length - 4 * i;
      const mask = left >= 4 ? -1 : (1 << (8 * left)) - 1;
      if ((((registers[sreg + i]! | 0) ^ words[at + i]!) & mask) !== 0) same = false;
    }
    return same === (op === EQ);
  }
  const difference = compareKeys(registers, sreg, words, at, (length + 3) >> 2);
  if (op === LT) return difference < 0;
  if (op === LTE) return difference <= 0;
  return op === GT ? difference > 0 : difference >= 0;
}

export function inRange(
  registers: Uint32Array,
  words: Int32Array,
  at: number,
  sreg: number,
  length: number,
): boolean {
  const count = (length + 3) >> 2;
  return (
    compareKeys(registers, sreg, words, at, count) >= 0 &&
    compareKeys(registers, sreg, words, at + count, count) <= 0
  );
}

export function loadMeta(registers: Uint32Array, skb: Skb, key: number, dreg: number): void {
  switch (key) {
    case META_L4PROTO:
      registers[dreg] = skb.protocol;
      return;
    case META_MARK:
      registers[dreg] = skb.mark;
      return;
    case META_NFPROTO:
      registers[dreg] = skb.ipv6 ? NFPROTO_IPV6 : NFPROTO_IPV4;
      return;
    case META_IIF:
      registers[dreg] = skb.inLink.index;
      return;
    case META_OIF:
      registers[dreg] = skb.outLink.index;
      return;
    case META_IIFNAME:
      registers.set(skb.inLink.name, dreg);
      return;
    case META_OIFNAME:
      registers.set(skb.outLink.name, dreg);
      return;
    default:
      throw new Error(`meta key ${key} is not modelled`);
  }
}

/** Type of the route to an address of the packet: local 2, unicast 1. */
export function fibType(skb: Skb, flags: number): number {
  const address = (flags & FIB_SADDR) !== 0 ? skb.source : skb.destination;
  return skb.isLocal(address) ? 2 : 1;
}
