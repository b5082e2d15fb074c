import { formatAddress, type Address } from '../netfilter/address.ts';

/** Addresses that a list holds: xt_recent's module parameter ip_list_tot. */
const LIST_MAX = 100;
/** Visits that an entry remembers unless a rule asks for more. */
const STAMPS_DEFAULT = 32;

export interface RecentEntry {
  readonly address: Address;
  /** Ticks, in a ring. */
  readonly stamps: number[];
  /** Where in the ring the next stamp goes. */
  index: number;
}

/**
 * One named list of xt_recent, least recently updated first.
 *
 * Models: 100 addresses per list, eviction of the least recently updated one, the ring of stamps, `--reap`'s look
 * at the single oldest entry. Source: net/netfilter/xt_recent.c.
 * Not modelled: the hash buckets (they decide the order of /proc/net/xt_recent only), TTLs of `--rttl`.
 */
export class RecentList {
  readonly #entries = new Map<string, RecentEntry>();
  #stampsMax = 1;

  /** A rule with `--hitcount` needs a ring of the next power of two, one without it has the usual ring. */
  reserve(hits: number): void {
    const needed = hits > 0 ? hits : STAMPS_DEFAULT;
    while (this.#stampsMax < needed) this.#stampsMax *= 2;
  }

  find(address: Address): RecentEntry | undefined {
    return this.#entries.get(formatAddress(address));
  }

  add(address: Address, now: number): void {
    if (this.#entries.size >= LIST_MAX) this.#entries.delete(this.#entries.keys().next().value!);
    this.#entries.set(formatAddress(address), { address, stamps: [now], index: 1 });
  }

  touch(entry: RecentEntry, now: number): void {
    entry.index %= this.#stampsMax;
    entry.stamps[entry.index++] = now;
    const key = formatAddress(entry.address);
    this.#entries.delete(key);
    this.#entries.set(key, entry);
  }

  remove(entry: RecentEntry): void {
    this.#entries.delete(formatAddress(entry.address));
  }

  /** Remove the least recently updated entry if its newest stamp is before `since`. */
  reap(since: number): void {
    for (const entry of this.#entries.values()) {
      if (entry.stamps[entry.index - 1]! < since) this.remove(entry);
      return;
    }
  }

  /** Least recently updated first. */
  entries(): readonly RecentEntry[] {
    return [...this.#entries.values()];
  }
}

/** The lists of a network namespace: they exist as long as a rule names them. */
export class RecentTables {
  readonly #lists = new Map<string, RecentList>();

  /** Keep exactly the lists that rules name now; the contents of those that stay are untouched. */
  keep(names: ReadonlyMap<string, number>): void {
    for (const name of this.#lists.keys()) if (!names.has(name)) this.#lists.delete(name);
    for (const [name, hits] of names) {
      if (!this.#lists.has(name)) this.#lists.set(name, new RecentList());
      this.#lists.get(name)!.reserve(hits);
    }
  }

  get(name: string): RecentList {
    return this.#lists.get(name)!;
  }

  names(): readonly string[] {
    return [...this.#lists.keys()];
  }
}
