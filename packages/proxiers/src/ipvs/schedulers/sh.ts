import { NO_SERVER, type Lists, type Scheduler } from './scheduler.ts';

const SLOTS = 256;

/** The top eight bits of the product with 2^32 divided by the golden ratio (hash_32, include/linux/hash.h). */
export function slotOf(key: number): number {
  return Math.imul(key, 0x61c88647) >>> 24;
}

/**
 * Source hashing: 256 slots that the servers fill in list order, each as many in a row as its weight (a server
 * of weight 0 still one), over and over. A client's address selects the slot.
 * Source: net/netfilter/ipvs/ip_vs_sh.c, without the flags sh-port and sh-fallback, which kube-proxy never sets.
 */
export class SourceHashing implements Scheduler {
  readonly name = 'sh';
  steps = 0;
  readonly #lists: Lists;
  readonly #slots: (Int32Array | undefined)[] = [];

  constructor(lists: Lists) {
    this.#lists = lists;
  }

  pick(service: number, client: number): number {
    this.steps++;
    const server = this.#slots[service]?.[slotOf(client)] ?? NO_SERVER;
    return server !== NO_SERVER && this.#lists.servers.weight[server]! > 0 ? server : NO_SERVER;
  }

  added(service: number): void {
    this.#fill(service);
  }

  removed(service: number): void {
    this.#fill(service);
  }

  updated(service: number): void {
    this.#fill(service);
  }

  changeSteps(): number {
    return SLOTS;
  }

  #fill(service: number): void {
    const { next, weight } = this.#lists.servers;
    const first = this.#lists.services.head[service]!;
    const slots = (this.#slots[service] ??= new Int32Array(SLOTS));
    slots.fill(NO_SERVER);
    if (first < 0) return;
    let at = first;
    for (let slot = 0, held = 0; slot < SLOTS; slot++) {
      slots[slot] = at;
      if (++held < weight[at]!) continue;
      held = 0;
      at = next[at]! < 0 ? first : next[at]!;
    }
  }
}
