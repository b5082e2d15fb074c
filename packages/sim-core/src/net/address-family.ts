import { AddressBook } from './address-book.ts';
import {
  contains,
  formatCidr,
  formatIpv4,
  netmask,
  parseCidr,
  parseIpv4,
  sizeOf,
  type Cidr,
} from './address.ts';
import { addToWord, commonBits, formatIpv6, isIpv4Mapped, networkOf, parseIpv6 } from './ipv6.ts';

/**
 * What the numbers in 32-bit address columns stand for: an IPv4 address itself, or the number of an IPv6 address in
 * a book. 0 is 0.0.0.0 or `::` in either case. Numbers of different books must not meet.
 */
export interface AddressFamily {
  readonly name: 'ipv4' | 'ipv6';
  /** As text and people spell it. */
  readonly title: 'IPv4' | 'IPv6';
  /** Bits of an address. */
  readonly bits: 32 | 128;
  /** undefined if the text is not an address of this family; an IPv4-mapped one is none of IPv6. */
  parse(text: string): number | undefined;
  text(address: number): string;
  /** With its port, as URLs have it: `10.0.0.1:80`, `[fd00::1]:80`. */
  hostPort(address: number, port: number): string;
  /** Host bits are cleared; undefined if the text is not a CIDR of this family. */
  parseCidr(text: string): Cidr | undefined;
  cidrText(cidr: Cidr): string;
  contains(cidr: Cidr, address: number): boolean;
  /** The network of that prefix length around an address. */
  network(address: number, prefix: number): Cidr;
  /** How many leading bits two addresses share. */
  commonBits(one: number, other: number): number;
  /** The address `offset`, less than 2^32, behind the first one of the network. */
  nth(cidr: Cidr, offset: number): number;
  /** How many addresses a network spans; 2^32 at most is told. */
  size(cidr: Cidr): number;
  /** A prefix length as 32-bit mask columns hold it: 0 for none of the bits, 0xffffffff for all of them. */
  mask(prefix: number): number;
  prefixOf(mask: number): number;
}

export const IPV4: AddressFamily = {
  name: 'ipv4',
  title: 'IPv4',
  bits: 32,
  parse: parseIpv4,
  text: formatIpv4,
  hostPort: (address, port) => `${formatIpv4(address)}:${port}`,
  parseCidr,
  cidrText: formatCidr,
  contains,
  network: (address, prefix) => ({ address: (address & netmask(prefix)) >>> 0, prefix }),
  commonBits: (one, other) => Math.clz32(one ^ other),
  nth: (cidr, offset) => cidr.address + offset,
  size: sizeOf,
  mask: netmask,
  prefixOf: (mask) => Math.clz32(~mask),
};

/** IPv6 with a book of its own: one for each cluster. */
export class Ipv6Family implements AddressFamily {
  readonly name = 'ipv6';
  readonly title = 'IPv6';
  readonly bits = 128;
  readonly book = new AddressBook();

  parse(text: string): number | undefined {
    const words = parseIpv6(text);
    return words === undefined || isIpv4Mapped(words) ? undefined : this.book.intern(words);
  }

  text(address: number): string {
    return formatIpv6(this.book.words(address));
  }

  hostPort(address: number, port: number): string {
    return `[${this.text(address)}]:${port}`;
  }

  parseCidr(text: string): Cidr | undefined {
    const slash = text.indexOf('/');
    const digits = text.slice(slash + 1);
    if (slash < 0 || !/^\d{1,3}$/.test(digits) || Number(digits) > 128) return undefined;
    const words = parseIpv6(text.slice(0, slash));
    if (words === undefined || isIpv4Mapped(words)) return undefined;
    const prefix = Number(digits);
    return { address: this.book.intern(networkOf(words, prefix)), prefix };
  }

  cidrText(cidr: Cidr): string {
    return `${this.text(cidr.address)}/${cidr.prefix}`;
  }

  contains(cidr: Cidr, address: number): boolean {
    return this.commonBits(cidr.address, address) >= cidr.prefix;
  }

  network(address: number, prefix: number): Cidr {
    return { address: this.book.intern(networkOf(this.book.words(address), prefix)), prefix };
  }

  commonBits(one: number, other: number): number {
    return commonBits(this.book.words(one), this.book.words(other));
  }

  nth(cidr: Cidr, offset: number): number {
    return this.book.intern(addToWord(this.book.words(cidr.address), 3, offset));
  }

  /** The `index`-th /64 of a network: what a node or a link is given. */
  subnet(cidr: Cidr, index: number): Cidr {
    return { address: this.book.intern(addToWord(this.book.words(cidr.address), 1, index)), prefix: 64 };
  }

  size(cidr: Cidr): number {
    return cidr.prefix <= 96 ? 4294967296 : (1 << (128 - cidr.prefix)) >>> 0;
  }

  mask(prefix: number): number {
    return prefix === 128 ? 0xffffffff : prefix;
  }

  prefixOf(mask: number): number {
    return mask === 0xffffffff ? 128 : mask;
  }
}
