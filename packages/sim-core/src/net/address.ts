/** IPv4 addresses as unsigned 32-bit integers in host order: 10.0.0.1 is 0x0a000001. */

export const TCP = 6;
export const UDP = 17;
export const SCTP = 132;

export interface Cidr {
  /** Network address, host bits zero. */
  readonly address: number;
  readonly prefix: number;
}

/** The address in dotted form, or undefined if the text is not exactly four decimal octets. */
export function parseIpv4(text: string): number | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (!match) return undefined;
  let address = 0;
  for (let i = 1; i <= 4; i++) {
    const digits = match[i]!;
    const octet = Number(digits);
    if (octet > 255 || (digits.length > 1 && digits.startsWith('0'))) return undefined;
    address = address * 256 + octet;
  }
  return address;
}

export function formatIpv4(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** `10.0.0.0/8`; host bits are cleared, as the kernel does. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf('/');
  if (slash < 0) return undefined;
  const address = parseIpv4(text.slice(0, slash));
  const digits = text.slice(slash + 1);
  if (address === undefined || !/^\d{1,2}$/.test(digits)) return undefined;
  const prefix = Number(digits);
  if (prefix > 32) return undefined;
  return { address: (address & netmask(prefix)) >>> 0, prefix };
}

export function formatCidr(cidr: Cidr): string {
  return `${formatIpv4(cidr.address)}/${cidr.prefix}`;
}

/** The mask of a prefix length: 8 → 0xff000000. */
export function netmask(prefix: number): number {
  return prefix === 0 ? 0 : (0xffffffff << (32 - prefix)) >>> 0;
}

export function contains(cidr: Cidr, address: number): boolean {
  return ((address ^ cidr.address) & netmask(cidr.prefix)) === 0;
}

/** How many addresses a CIDR spans. */
export function sizeOf(cidr: Cidr): number {
  return (~netmask(cidr.prefix) >>> 0) + 1;
}

/** An address in memory order read as a little-endian word, as the kernel hashes it: 10.0.0.1 → 0x0100000a. */
export function swap32(word: number): number {
  return ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
}

/** A port in memory order read as a little-endian half word: 80 → 0x5000. */
export function swap16(half: number): number {
  return ((half & 0xff) << 8) | (half >>> 8);
}
