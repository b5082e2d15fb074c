import { TCP, jhash3, longer } from '@vipsim/sim-core';
import { AddressHashes } from './address-hashes.ts';

const NONE = -1;
const BUCKETS = 256;
/** Of the growing table: at least, at most, and buckets for each service (svc_lfactor -3 of the first namespace). */
const GROWING_MIN = 16;
const GROWING_MAX = 1 << 20;
const GROWING_SHARE = 8;
const FTP = 21;
const FTP_DATA = 20;
/** Ports from here on need no privilege (net/ipv4/ip_unprivileged_port_start). */
const UNPRIVILEGED = 1024;
const ALL_BITS = 0xffffffff;

/**
 * Bucket of a virtual server: only eight bits survive, so that of addresses just the last octet counts.
 * Source: ip_vs_svc_hashkey, net/netfilter/ipvs/ip_vs_ctl.c.
 * @param fold the address in host order, of IPv6 its four words xored.
 * @param mix the constant that each network namespace adds, the low bits of where its record lies.
 */
export function serviceBucket(protocol: number, fold: number, port: number, mix = 0): number {
  return (protocol ^ fold ^ mix ^ (port >>> 8) ^ port) & (BUCKETS - 1);
}

/** Bucket of a virtual server by firewall mark, in a table of its own (ip_vs_svc_fwm_hashkey). */
export function markBucket(mark: number, mix = 0): number {
  return (mark ^ mix) & (BUCKETS - 1);
}

/**
 * How virtual servers are hashed: `fixed`, 256 chains up to Linux 7.0; `growing`, from 7.1 on, where each network
 * namespace has a table of its own, with eight buckets or more for each service, and a key drawn for it.
 */
export type ServiceTable = 'fixed' | 'growing';

/** Buckets of the growing table after it held `size` and now holds `services`. */
export function growingBuckets(size: number, services: number): number {
  let wanted = GROWING_SHARE;
  while (wanted < services * GROWING_SHARE) wanted *= 2;
  wanted = Math.min(GROWING_MAX, Math.max(GROWING_MIN, wanted));
  if (wanted > size) return wanted;
  // Kept as long as a sixteenth would be too small; else shrunk to twice what is wanted.
  return wanted > size / 16 ? size : Math.max(GROWING_MIN, wanted * 2);
}

/**
 * Virtual servers: 256 hash chains for the whole host, a new one at the head of its chain, and as many for those
 * by firewall mark. With V servers a search compares about V/512 of them on a hit and V/256 on a miss: not
 * constant.
 * The growing table of Linux 7.1 needs about one comparison.
 * Source: net/netfilter/ipvs/ip_vs_ctl.c, Linux up to 7.0; of the growing table the patches merged for 7.1, whose
 * order of words in the hash is not known here: with a key drawn at random nobody could tell.
 * Not modelled: chains that IPv4 and IPv6 servers share; readers that look in both tables while one grows.
 */
export class VirtualServers {
  /** In the tables now. */
  count = 0;
  /** Rows in use lie below this. A row is never used again for another virtual server. */
  rows = 0;
  /** Chain entries compared, and tables searched, since the caller last set them to zero. */
  probes = 0;
  lookups = 0;
  /** 1 until it is removed. */
  live: Uint8Array = new Uint8Array(16);
  address: Uint32Array = new Uint32Array(16);
  port: Uint16Array = new Uint16Array(16);
  protocol: Uint8Array = new Uint8Array(16);
  /** The firewall mark that it serves; 0 for one with an address. */
  mark: Uint32Array = new Uint32Array(16);
  /** Session affinity in seconds; 0 without. */
  persistenceS: Uint32Array = new Uint32Array(16);
  /** What of a client's address selects its template, as the family's mask columns have it. */
  netmask: Uint32Array = new Uint32Array(16);
  /** 1: each datagram is scheduled by itself. */
  onePacket: Uint8Array = new Uint8Array(16);
  /** Index into the director's schedulers. */
  scheduler: Uint8Array = new Uint8Array(16);
  /** First of the list of real servers, the newest; -1 when empty. */
  head: Int32Array = new Int32Array(16);
  /** Length of that list. */
  servers: Uint32Array = new Uint32Array(16);
  readonly #hashes: AddressHashes;
  readonly #growing: boolean;
  readonly #key: number;
  #chains = new Int32Array(BUCKETS).fill(NONE);
  readonly #marks = new Int32Array(BUCKETS).fill(NONE);
  #next = new Int32Array(16);
  #ftp = 0;
  #anyPort = 0;

  /** @param key of the growing table, 32 bits. */
  constructor(hashes = new AddressHashes(), table: ServiceTable = 'fixed', key = 0) {
    this.#hashes = hashes;
    this.#growing = table === 'growing';
    this.#key = key;
    if (this.#growing) this.#chains = new Int32Array(GROWING_MIN).fill(NONE);
  }

  /** Chains of the table by address. */
  get buckets(): number {
    return this.#chains.length;
  }

  add(protocol: number, address: number, port: number, persistenceS: number): number {
    const at = this.#append(persistenceS);
    this.address[at] = address;
    this.port[at] = port;
    this.protocol[at] = protocol;
    if (protocol === TCP && port === FTP) this.#ftp++;
    if (port === 0) this.#anyPort++;
    this.#chain(this.#chains, this.#bucketOf(at), at);
    this.#resize();
    return at;
  }

  /** A virtual server for whatever carries a firewall mark, 1 to 2^32 - 1. */
  addMark(mark: number, persistenceS: number): number {
    const at = this.#append(persistenceS);
    this.mark[at] = mark;
    this.#chain(this.#marks, markBucket(mark), at);
    return at;
  }

  /** Take one that has no real servers out of its table. */
  remove(service: number): void {
    const chains = this.mark[service] === 0 ? this.#chains : this.#marks;
    const bucket = this.mark[service] === 0 ? this.#bucketOf(service) : markBucket(this.mark[service]!);
    let before = NONE;
    for (let at = chains[bucket]!; at !== service; at = this.#next[at]!) before = at;
    if (before === NONE) chains[bucket] = this.#next[service]!;
    else this.#next[before] = this.#next[service]!;
    if (this.mark[service] === 0) {
      if (this.protocol[service] === TCP && this.port[service] === FTP) this.#ftp--;
      if (this.port[service] === 0) this.#anyPort--;
    }
    this.live[service] = 0;
    this.count--;
    this.#resize();
  }

  /** The virtual server of exactly this protocol, address and port; -1 if there is none. */
  find(protocol: number, address: number, port: number): number {
    this.lookups++;
    let at = this.#chains[this.bucketFor(protocol, address, port)]!;
    while (at !== NONE) {
      this.probes++;
      if (this.address[at] === address && this.port[at] === port && this.protocol[at] === protocol) return at;
      at = this.#next[at]!;
    }
    return NONE;
  }

  findMark(mark: number): number {
    this.lookups++;
    let at = this.#marks[markBucket(mark)]!;
    while (at !== NONE) {
      this.probes++;
      if (this.mark[at] === mark) return at;
      at = this.#next[at]!;
    }
    return NONE;
  }

  /**
   * The virtual server that a packet is for, -1 without. By mark, if it has one; by address and port; where there
   * is an FTP service, by its port for what may be a data connection; where there are services of any port, by
   * port 0. Source: ip_vs_service_find.
   */
  lookup(mark: number, protocol: number, address: number, port: number): number {
    let at = mark === 0 ? NONE : this.findMark(mark);
    if (at === NONE) at = this.find(protocol, address, port);
    if (at === NONE && this.#ftp > 0 && protocol === TCP && (port === FTP_DATA || port >= UNPRIVILEGED)) {
      at = this.find(protocol, address, FTP);
    }
    if (at === NONE && this.#anyPort > 0) at = this.find(protocol, address, 0);
    return at;
  }

  /** The chain where a virtual server of this place is, or would be. */
  bucketFor(protocol: number, address: number, port: number): number {
    const fold = this.#hashes.isPlain ? address : this.#hashes.fold(address);
    if (!this.#growing) return serviceBucket(protocol, fold, port);
    return jhash3(protocol, port, fold, this.#key) & (this.#chains.length - 1);
  }

  #append(persistenceS: number): number {
    const at = this.rows++;
    if (at === this.address.length) this.#grow(at * 2);
    this.persistenceS[at] = persistenceS;
    this.netmask[at] = ALL_BITS;
    this.head[at] = NONE;
    this.live[at] = 1;
    this.count++;
    return at;
  }

  #bucketOf(service: number): number {
    return this.bucketFor(this.protocol[service]!, this.address[service]!, this.port[service]!);
  }

  /** Another table, where the number of services asks for it; those in a chain stay in their order. */
  #resize(): void {
    const size = this.#growing ? growingBuckets(this.#chains.length, this.count) : BUCKETS;
    if (size === this.#chains.length) return;
    this.#chains = new Int32Array(size).fill(NONE);
    for (let at = 0; at < this.rows; at++) {
      if (this.live[at] === 1 && this.mark[at] === 0) this.#chain(this.#chains, this.#bucketOf(at), at);
    }
  }

  #chain(chains: Int32Array, bucket: number, service: number): void {
    this.#next[service] = chains[bucket]!;
    chains[bucket] = service;
  }

  #grow(capacity: number): void {
    this.live = longer(this.live, capacity);
    this.address = longer(this.address, capacity);
    this.port = longer(this.port, capacity);
    this.protocol = longer(this.protocol, capacity);
    this.mark = longer(this.mark, capacity);
    this.persistenceS = longer(this.persistenceS, capacity);
    this.netmask = longer(this.netmask, capacity);
    this.onePacket = longer(this.onePacket, capacity);
    this.scheduler = longer(this.scheduler, capacity);
    this.head = longer(this.head, capacity);
    this.servers = longer(this.servers, capacity);
    this.#next = longer(this.#next, capacity);
  }
}
