import { IPV4, Ipv6Family, jhash, longer, swap32, type AddressFamily } from '@vipsim/sim-core';

const scratch = new Uint32Array(4);

/**
 * What IPVS hashes of an address. Of an IPv4 address it is the address; of an IPv6 one, whose number in the book
 * of its family columns hold, it is made from all 128 bits, once, and kept.
 * Source: ip_vs_conn_hashkey (ip_vs_conn.c), ip_vs_svc_hashkey (ip_vs_ctl.c), ip_vs_sh_hashkey (ip_vs_sh.c).
 */
export class AddressHashes {
  /** Whether columns hold IPv4 addresses themselves. */
  readonly isPlain: boolean;
  readonly #family: AddressFamily;
  readonly #seed: number;
  #known: Uint8Array = new Uint8Array(0);
  #words: Uint32Array = new Uint32Array(0);
  #folds: Uint32Array = new Uint32Array(0);

  /** @param seed what connection hashes begin with; the kernel draws it at boot. */
  constructor(family: AddressFamily = IPV4, seed = 0) {
    this.isPlain = !(family instanceof Ipv6Family);
    this.#family = family;
    this.#seed = seed;
  }

  /** The first word of a connection's hash: the address as it lies in memory, or a hash of its 16 bytes. */
  word(address: number): number {
    if (this.isPlain) return swap32(address);
    if (this.#known[address] !== 1) this.#learn(address);
    return this.#words[address]!;
  }

  /** The address in host order, or its four words in host order xored. */
  fold(address: number): number {
    if (this.isPlain) return address;
    if (this.#known[address] !== 1) this.#learn(address);
    return this.#folds[address]!;
  }

  #learn(address: number): void {
    const words = (this.#family as Ipv6Family).book.words(address);
    if (address >= this.#known.length) {
      const capacity = Math.max(64, address * 2);
      this.#known = longer(this.#known, capacity);
      this.#words = longer(this.#words, capacity);
      this.#folds = longer(this.#folds, capacity);
    }
    for (let i = 0; i < 4; i++) scratch[i] = swap32(words[i]!);
    this.#words[address] = jhash(scratch, 16, this.#seed);
    this.#folds[address] = words[0] ^ words[1] ^ words[2] ^ words[3];
    this.#known[address] = 1;
  }
}
