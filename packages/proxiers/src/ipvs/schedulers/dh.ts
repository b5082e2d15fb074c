import { hash32 } from './hash-32.ts';
import type { SchedulerOptions } from './options.ts';
import { NO_SERVER, type Lists, type Scheduler } from './scheduler.ts';

const BITS = 8;
const SLOTS = 256;

/**
 * Destination hashing: 256 slots (CONFIG_IP_VS_DH_TAB_BITS=8) that the servers fill in list order, one each,
 * over and over; weights do not matter there, and setting one does not fill anew. The packet's destination
 * selects the slot, so that a virtual server of one address uses one server. If that has weight 0 or is
 * overloaded there is none.
 * Source: net/netfilter/ipvs/ip_vs_dh.c.
 */
export class DestinationHashing implements Scheduler {
  readonly name = 'dh';
  steps = 0;
  readonly #lists: Lists;
  readonly #fold: ((address: number) => number) | undefined;
  /** By service; undefined where they are yet to be filled. */
  readonly #slots: (Int32Array | undefined)[] = [];

  constructor(lists: Lists, { fold }: SchedulerOptions = {}) {
    this.#lists = lists;
    this.#fold = fold;
  }

  pick(
    service: number,
    _client: number,
    _clientPort: number,
    destination: number = this.#lists.services.address[service]!,
  ): number {
    const slots = this.#slots[service] ?? this.#fill(service);
    const { weight, overloaded } = this.#lists.servers;
    const server = slots[hash32(this.#fold === undefined ? destination : this.#fold(destination), BITS)]!;
    this.steps++;
    if (server === NO_SERVER) return NO_SERVER;
    return weight[server]! > 0 && overloaded[server] === 0 ? server : NO_SERVER;
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

  updated(): void {}

  changeSteps(): number {
    return SLOTS;
  }

  #fill(service: number): Int32Array {
    const { next } = this.#lists.servers;
    const first = this.#lists.services.head[service]!;
    const slots = new Int32Array(SLOTS).fill(NO_SERVER);
    this.#slots[service] = slots;
    if (first < 0) return slots;
    for (let slot = 0, at = first; slot < SLOTS; slot++) {
      slots[slot] = at;
      at = next[at]! < 0 ? first : next[at]!;
    }
    return slots;
  }
}
