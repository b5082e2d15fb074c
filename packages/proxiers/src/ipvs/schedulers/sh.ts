import { hash32 } from './hash-32.ts';
import type { SchedulerOptions } from './options.ts';
import { NO_SERVER, type Lists, type Scheduler } from './scheduler.ts';

const BITS = 8;
const SLOTS = 256;

export function slotOf(key: number): number {
  return hash32(key, BITS);
}

/**
 * Source hashing: 256 slots (CONFIG_IP_VS_SH_TAB_BITS=8) that the servers fill in list order, each as many in a
 * row as its weight (a server of weight 0 still one), over and over. A client's address, with sh-port plus its
 * port, selects the slot. If its server has weight 0 or is overloaded there is none; with sh-fallback other
 * slots are tried, from the one at twice the first.
 * The kernel fills the slots at each change; here that waits for the next pick, which sees the same.
 * Source: net/netfilter/ipvs/ip_vs_sh.c.
 */
export class SourceHashing implements Scheduler {
  readonly name = 'sh';
  steps = 0;
  readonly #lists: Lists;
  readonly #port: boolean;
  readonly #fallback: boolean;
  readonly #fold: ((address: number) => number) | undefined;
  /** By service; undefined where they are yet to be filled. */
  readonly #slots: (Int32Array | undefined)[] = [];

  constructor(lists: Lists, { port, fallback, fold }: SchedulerOptions = {}) {
    this.#lists = lists;
    this.#port = port ?? false;
    this.#fallback = fallback ?? false;
    this.#fold = fold;
  }

  pick(service: number, client: number, clientPort: number): number {
    const slots = this.#slots[service] ?? this.#fill(service);
    const { weight, overloaded } = this.#lists.servers;
    const address = this.#fold === undefined ? client : this.#fold(client);
    const slot = slotOf(this.#port ? address + clientPort : address);
    const server = slots[slot]!;
    this.steps++;
    if (server === NO_SERVER) return NO_SERVER;
    if (weight[server]! > 0 && overloaded[server] === 0) return server;
    return this.#fallback ? this.#otherThan(slot, slots) : NO_SERVER;
  }

  started(service: number): void {
    this.#slots[service] = undefined;
  }

  stopped(service: number): void {
    this.#slots[service] = undefined;
  }

  added(service: number): void {
    this.#slots[service] = undefined;
  }

  removed(service: number): void {
    this.#slots[service] = undefined;
  }

  updated(service: number): void {
    this.#slots[service] = undefined;
  }

  changeSteps(): number {
    return SLOTS;
  }

  /** Probe k hashes to k + twice the slot: the offset is added to a hash that is in it already. */
  #otherThan(slot: number, slots: Int32Array): number {
    const { weight, overloaded } = this.#lists.servers;
    for (let probe = 0; probe < SLOTS; probe++) {
      const server = slots[(probe + slot + slot) & (SLOTS - 1)]!;
      this.steps++;
      if (weight[server]! > 0 && overloaded[server] === 0) return server;
    }
    return NO_SERVER;
  }

  #fill(service: number): Int32Array {
    const { next, weight } = this.#lists.servers;
    const first = this.#lists.services.head[service]!;
    const slots = new Int32Array(SLOTS).fill(NO_SERVER);
    this.#slots[service] = slots;
    if (first < 0) return slots;
    let at = first;
    for (let slot = 0, held = 0; slot < SLOTS; slot++) {
      slots[slot] = at;
      if (++held < weight[at]!) continue;
      held = 0;
      at = next[at]! < 0 ? first : next[at]!;
    }
    return slots;
  }
}
