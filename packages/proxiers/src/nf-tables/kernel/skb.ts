/**
 * A packet as nf_tables expressions see it: the fields that they load, and the mark that they set.
 * Models: network header up to the addresses, the two ports of the transport header, marks, links, conntrack bits.
 * Source: include/net/netfilter/nf_tables_ipv4.h, nf_tables_ipv6.h; ct bits net/netfilter/nft_ct.c.
 * Not modelled: other header fields, which read as zero; fragments; extension headers.
 */

// Bits of `ct state`, NF_CT_STATE_BIT.
export const CT_INVALID = 1;
export const CT_ESTABLISHED = 2;
export const CT_RELATED = 4;
export const CT_NEW = 8;
export const CT_UNTRACKED = 64;

// Bits of `ct status`, enum ip_conntrack_status.
export const STATUS_SNAT = 0x10;
export const STATUS_DNAT = 0x20;

/** Words of an interface name: 16 bytes. */
const NAME_WORDS = 4;

/** A network link: its index, and its name as 16 bytes in memory. */
export class Link {
  readonly index: number;
  readonly name: Int32Array;

  constructor(index: number, name: string) {
    this.index = index;
    this.name = new Int32Array(NAME_WORDS);
    for (let i = 0; i < name.length && i < 15; i++) {
      this.name[i >> 2]! |= (name.charCodeAt(i) & 255) << (8 * (i & 3));
    }
  }
}

/** No link: what a hook knows nothing of. Index 0, empty name. */
export const NO_LINK = new Link(0, '');

export class Skb {
  ipv6 = false;
  protocol = 0;
  /** As in memory: IPv4 in word 0, read little-endian; IPv6 in four such words. */
  readonly source = new Uint32Array(4);
  readonly destination = new Uint32Array(4);
  /** Host order. */
  sourcePort = 0;
  destinationPort = 0;
  mark = 0;
  ctState = CT_NEW;
  ctStatus = 0;
  ctMark = 0;
  /** Links of the hook at hand: prerouting and input know no outgoing one, output no incoming one. */
  inLink: Link = NO_LINK;
  outLink: Link = NO_LINK;
  /** Whether an address (words as above) is of this node: `fib ... type local`. */
  isLocal: (address: Uint32Array) => boolean = () => false;

  /** The four bytes from `offset` (a multiple of 4) of the network header. */
  networkWord(offset: number): number {
    if (this.ipv6) {
      if (offset >= 24) return offset < 40 ? this.destination[(offset - 24) >> 2]! | 0 : 0;
      if (offset >= 8) return this.source[(offset - 8) >> 2]! | 0;
      return offset === 4 ? this.protocol << 16 : 0x60;
    }
    if (offset === 16) return this.destination[0]! | 0;
    if (offset === 12) return this.source[0]! | 0;
    return offset === 8 ? this.protocol << 8 : offset === 0 ? 0x45 : 0;
  }

  /** The same of the transport header: both ports, in network order. */
  transportWord(offset: number): number {
    if (offset !== 0) return 0;
    return networkOrder(this.sourcePort) | (networkOrder(this.destinationPort) << 16);
  }
}

/** A 16-bit number in the other byte order: port 80 is 0x5000. */
export function networkOrder(port: number): number {
  return ((port & 255) << 8) | (port >>> 8);
}
