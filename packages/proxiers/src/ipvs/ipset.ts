import {
  IPV4,
  TCP,
  jhash1,
  jhash2,
  jhash3,
  netmask,
  swap16,
  swap32,
  type AddressFamily,
  type Cidr,
} from '@vipsim/sim-core';
import { protocolName } from '../kubernetes/cluster.ts';

export const HASH_IP = 'hash:ip';
export const HASH_IP_PORT = 'hash:ip,port';
export const HASH_IP_PORT_IP = 'hash:ip,port,ip';
export const HASH_IP_PORT_NET = 'hash:ip,port,net';
export const BITMAP_PORT = 'bitmap:port';
export type SetType =
  | typeof HASH_IP
  | typeof HASH_IP_PORT
  | typeof HASH_IP_PORT_IP
  | typeof HASH_IP_PORT_NET
  | typeof BITMAP_PORT;

/** What kube-proxy creates hash sets with. */
const ELEMENTS_MAX = 65_536;
const BUCKETS = 1024;
const PORTS = '0-65535';
const BUCKET_SIZE = 12;
const WORDS = 3;
const WIDTHS: Readonly<Record<SetType, number>> = {
  [HASH_IP]: 4,
  [HASH_IP_PORT]: 8,
  [HASH_IP_PORT_IP]: 12,
  [HASH_IP_PORT_NET]: 12,
  [BITMAP_PORT]: 0,
};
/** A bitmap over all ports, as `ipset list` reports it. */
const BITMAP_BYTES = 8264;

/** An element: fields that a set's type does not have are zero. */
export interface Entry {
  readonly address: number;
  readonly port: number;
  readonly protocol: number;
  /** The third part: an address with prefix 32, or a network. */
  readonly other: Cidr;
}

const NOTHING: Cidr = { address: 0, prefix: 32 };

export function entryOf(address: number, port = 0, protocol: number = TCP, other: Cidr = NOTHING): Entry {
  return { address, port, protocol, other };
}

/**
 * One ipset. Hash types: 1,024 buckets of up to 12 elements that are searched in order; the table doubles when
 * a bucket would overflow; no more than 65,536 elements. bitmap:port: one bit a port.
 * Source: net/netfilter/ipset/ip_set_hash_gen.h, ip_set_hash_ip*.c, ip_set_bitmap_port.c.
 * Not modelled: counters, timeouts, the second table while resizing. A removed element's place is taken by the
 * last of its bucket; the kernel leaves it open until the next add.
 */
export class IpSet {
  readonly name: string;
  readonly type: SetType;
  readonly comment: string;
  readonly elementsMax: number;
  readonly family: AddressFamily;
  count = 0;
  /** Elements that kube-proxy wants in it, whether the kernel took them or not. */
  wanted = 0;
  /** Elements compared since the caller last set it to zero. */
  compares = 0;
  readonly #seed: number;
  #buckets = 0;
  #fill = new Uint8Array(0);
  #slots = new Uint32Array(0);
  readonly #bits: Uint8Array;
  /** How many elements have each prefix length; a search tries those in use, longest first. */
  readonly #prefixes = new Uint32Array(33);
  readonly #key = new Uint32Array(WORDS);

  constructor(
    name: string,
    type: SetType,
    comment: string,
    seed: number,
    elementsMax = ELEMENTS_MAX,
    family: AddressFamily = IPV4,
  ) {
    this.name = name;
    this.type = type;
    this.comment = comment;
    this.elementsMax = elementsMax;
    this.family = family;
    this.#seed = seed;
    this.#bits = new Uint8Array(type === BITMAP_PORT ? 65_536 : 0);
    if (type !== BITMAP_PORT) this.#resize(BUCKETS);
  }

  /** False when the set is full; true also when the element is there already. */
  add(entry: Entry): boolean {
    if (this.type === BITMAP_PORT) return this.#setBit(entry.port, 1);
    if (this.type === HASH_IP_PORT_NET && entry.other.prefix === 0) return false;
    this.#encodeEntry(entry);
    if (this.#search() >= 0) return true;
    if (this.count >= this.elementsMax) return false;
    while (this.#fill[this.#bucket()] === BUCKET_SIZE) this.#resize(this.#buckets * 2);
    const bucket = this.#bucket();
    this.#slots.set(this.#key, (bucket * BUCKET_SIZE + this.#fill[bucket]!++) * WORDS);
    this.#prefixes[entry.other.prefix]!++;
    this.count++;
    return true;
  }

  remove(entry: Entry): void {
    if (this.type === BITMAP_PORT) {
      this.#setBit(entry.port, 0);
      return;
    }
    this.#encodeEntry(entry);
    const at = this.#search();
    if (at < 0) return;
    const bucket = this.#bucket();
    const last = bucket * BUCKET_SIZE + --this.#fill[bucket]!;
    this.#slots.copyWithin(at * WORDS, last * WORDS, (last + 1) * WORDS);
    this.#prefixes[entry.other.prefix]!--;
    this.count--;
  }

  /** Whether the packet's address, port and protocol, and `other` for the three-part types, are in the set. */
  has(address: number, port: number, protocol: number, other: number): boolean {
    if (this.type === BITMAP_PORT) return this.#bits[port] === 1;
    if (this.type !== HASH_IP_PORT_NET) {
      this.#encode(address, port, protocol, other, 32);
      return this.#search() >= 0;
    }
    for (let prefix = 32; prefix > 0; prefix--) {
      if (this.#prefixes[prefix] === 0) continue;
      this.#encode(address, port, protocol, (other & netmask(prefix)) >>> 0, prefix);
      if (this.#search() >= 0) return true;
    }
    return false;
  }

  /** Bytes in the kernel: bucket pointers, and elements in the steps of two that buckets grow by. */
  memory(): number {
    if (this.type === BITMAP_PORT) return BITMAP_BYTES;
    let slots = 0;
    for (let bucket = 0; bucket < this.#buckets; bucket++) slots += (this.#fill[bucket]! + 1) & ~1;
    return this.#buckets * 8 + slots * WIDTHS[this.type];
  }

  /** The command that makes it, as kube-proxy gives it to `ipset`. */
  createText(): string {
    if (this.type === BITMAP_PORT) return `create ${this.name} ${this.type} range ${PORTS} -exist`;
    const family = this.family.name === 'ipv4' ? 'inet' : 'inet6';
    return `create ${this.name} ${this.type} family ${family} hashsize ${BUCKETS} maxelem ${this.elementsMax} -exist`;
  }

  /** Elements as `ipset add` takes them, in the order of their text. */
  texts(): string[] {
    if (this.type === BITMAP_PORT) {
      return Array.from(this.#bits.keys(), String)
        .filter((_, port) => this.#bits[port] === 1)
        .sort();
    }
    const texts: string[] = [];
    for (let bucket = 0; bucket < this.#buckets; bucket++) {
      for (let i = 0; i < this.#fill[bucket]!; i++) {
        texts.push(this.text(this.#decode((bucket * BUCKET_SIZE + i) * WORDS)));
      }
    }
    return texts.sort();
  }

  /** The element as `ipset add` takes it. */
  text(entry: Entry): string {
    if (this.type === BITMAP_PORT) return String(entry.port);
    const { family } = this;
    const address = family.text(entry.address);
    if (this.type === HASH_IP) return address;
    const place = `${address},${protocolName(entry.protocol)}:${entry.port}`;
    if (this.type === HASH_IP_PORT) return place;
    if (this.type === HASH_IP_PORT_IP) return `${place},${family.text(entry.other.address)}`;
    return `${place},${family.cidrText(entry.other)}`;
  }

  #setBit(port: number, value: 0 | 1): boolean {
    this.count += value - this.#bits[port]!;
    this.#bits[port] = value;
    return true;
  }

  #encodeEntry({ address, port, protocol, other }: Entry): void {
    this.#encode(address, port, protocol, other.address, other.prefix);
  }

  #decode(word: number): Entry {
    const [first, second, third] = this.#slots.subarray(word, word + WORDS);
    const place = this.type === HASH_IP_PORT ? second! : third!;
    const net = this.type === HASH_IP_PORT_NET;
    return {
      address: swap32(first!),
      port: swap16(place & 0xffff),
      protocol: net ? place >>> 24 : (place >>> 16) & 0xff,
      other: { address: swap32(second!), prefix: net ? ((place >>> 16) & 0xff) + 1 : this.family.bits },
    };
  }

  /** The element's bytes as the kernel lays them out, read as little-endian words. */
  #encode(address: number, port: number, protocol: number, other: number, prefix: number): void {
    const key = this.#key;
    const place = swap16(port) | (protocol << 16);
    key[0] = swap32(address);
    key[1] = 0;
    key[2] = 0;
    if (this.type === HASH_IP_PORT) key[1] = place;
    if (this.type === HASH_IP_PORT_IP) {
      key[1] = swap32(other);
      key[2] = place;
    }
    if (this.type === HASH_IP_PORT_NET) {
      key[1] = swap32(other);
      key[2] = swap16(port) | ((prefix - 1) << 16) | (protocol << 24);
    }
  }

  #bucket(): number {
    const key = this.#key;
    const mask = this.#buckets - 1;
    if (this.type === HASH_IP) return jhash1(key[0]!, this.#seed) & mask;
    if (this.type === HASH_IP_PORT) return jhash2(key[0]!, key[1]!, this.#seed) & mask;
    return jhash3(key[0]!, key[1]!, key[2]!, this.#seed) & mask;
  }

  /** The slot that holds the encoded element, -1 without. */
  #search(): number {
    const slots = this.#slots;
    const key = this.#key;
    const bucket = this.#bucket();
    const end = bucket * BUCKET_SIZE + this.#fill[bucket]!;
    for (let at = bucket * BUCKET_SIZE; at < end; at++) {
      this.compares++;
      const word = at * WORDS;
      if (slots[word] === key[0] && slots[word + 1] === key[1] && slots[word + 2] === key[2]) return at;
    }
    return -1;
  }

  #resize(buckets: number): void {
    const [fill, slots, held] = [this.#fill, this.#slots, this.#buckets];
    const wanted = this.#key.slice();
    this.#buckets = buckets;
    this.#fill = new Uint8Array(buckets);
    this.#slots = new Uint32Array(buckets * BUCKET_SIZE * WORDS);
    for (let bucket = 0; bucket < held; bucket++) {
      for (let i = 0; i < fill[bucket]!; i++) {
        const word = (bucket * BUCKET_SIZE + i) * WORDS;
        this.#key.set(slots.subarray(word, word + WORDS));
        const to = this.#bucket();
        this.#slots.set(this.#key, (to * BUCKET_SIZE + this.#fill[to]!++) * WORDS);
      }
    }
    this.#key.set(wanted);
  }
}
