import { formatIpv4, parseIpv4 } from './address.ts';

/** Four words of 32 bits, unsigned, most significant first: fd00::1 is [0xfd000000, 0, 0, 1]. */
export type Ipv6 = readonly [number, number, number, number];

/**
 * An address in any form of RFC 4291 section 2.2, or undefined. `::` stands for one group at least, as in Go and
 * inet_pton; there are no zones (`%eth0`).
 */
export function parseIpv6(text: string): Ipv6 | undefined {
  const halves = withoutDots(text)?.split('::');
  if (halves === undefined || halves.length > 2) return undefined;
  const [head, tail] = halves.map((half) => (half === '' ? [] : half.split(':')));
  const given = head!.length + (tail?.length ?? 0);
  if (tail === undefined ? given !== 8 : given > 7) return undefined;
  const groups = [...head!, ...Array.from({ length: 8 - given }, () => '0'), ...(tail ?? [])];
  if (!groups.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group))) return undefined;
  const word = (at: number): number => parseInt(groups[at]!, 16) * 65536 + parseInt(groups[at + 1]!, 16);
  return [word(0), word(2), word(4), word(6)];
}

/** The one canonical text of RFC 5952: lower case, the first of the longest runs of zero groups shortened. */
export function formatIpv6(address: Ipv6): string {
  if (isIpv4Mapped(address)) return `::ffff:${formatIpv4(address[3])}`;
  const groups = address.flatMap((word) => [word >>> 16, word & 0xffff]);
  const zeros = longestZeros(groups);
  const text = groups.map((group) => group.toString(16));
  // A single zero group is not shortened (section 4.2.2).
  if (zeros.length < 2) return text.join(':');
  return `${text.slice(0, zeros.from).join(':')}::${text.slice(zeros.from + zeros.length).join(':')}`;
}

/** ::ffff:0:0/96, which stands for IPv4 addresses. */
export function isIpv4Mapped([first, second, third]: Ipv6): boolean {
  return first === 0 && second === 0 && third === 0xffff;
}

/** How many leading bits are the same. */
export function commonBits(one: Ipv6, other: Ipv6): number {
  const at = one.findIndex((word, i) => word !== other[i]);
  return at < 0 ? 128 : at * 32 + Math.clz32(one[at]! ^ other[at]!);
}

/** The address with all bits behind the prefix cleared. */
export function networkOf(address: Ipv6, prefix: number): Ipv6 {
  const masked = (at: number): number => {
    const bits = Math.min(32, Math.max(0, prefix - 32 * at));
    return bits === 0 ? 0 : (address[at]! & (0xffffffff << (32 - bits))) >>> 0;
  };
  return [masked(0), masked(1), masked(2), masked(3)];
}

/** The address plus `offset` × 2^(32 × (3 − word)), the offset less than 2^32; wraps around at the end. */
export function addToWord(address: Ipv6, word: 0 | 1 | 2 | 3, offset: number): Ipv6 {
  const sum: [number, number, number, number] = [...address];
  let carry = offset;
  for (let at: number = word; at >= 0 && carry > 0; at--) {
    const total = sum[at]! + carry;
    sum[at] = total >>> 0;
    carry = total > 0xffffffff ? 1 : 0;
  }
  return sum;
}

/** The last 32 bits may be written as an IPv4 address. */
function withoutDots(text: string): string | undefined {
  if (!text.includes('.')) return text;
  const colon = text.lastIndexOf(':') + 1;
  const tail = parseIpv4(text.slice(colon));
  if (colon === 0 || tail === undefined) return undefined;
  return `${text.slice(0, colon)}${(tail >>> 16).toString(16)}:${(tail & 0xffff).toString(16)}`;
}

function longestZeros(groups: readonly number[]): { readonly from: number; readonly length: number } {
  let best = { from: 0, length: 0 };
  for (let from = 0; from < groups.length; from++) {
    let length = 0;
    while (groups[from + length] === 0) length++;
    if (length > best.length) best = { from, length };
  }
  return best;
}
