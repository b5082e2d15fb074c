import type { SchedulerOptions } from './options.ts';
import { NO_SERVER, type Lists, type Scheduler } from './scheduler.ts';
import { sipHash13 } from './siphash-1-3.ts';

/** Table sizes by CONFIG_IP_VS_MH_TAB_INDEX, from 8 on. */
const SIZES = [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071] as const;
const FIRST_INDEX = 8;
const OFFSET_KEY = 2654435761;
const SKIP_KEY = 2654446892;

interface Table {
  /** Position in `members` plus one; 0 for nobody. */
  readonly slots: Uint16Array | Uint32Array;
  /** Rows of real servers, in list order when the table was filled. */
  members: Int32Array;
  /** There were changes since; it is filled at the next pick. */
  stale: boolean;
  /** There are more servers than slots: it stays as it is, and holds its members. */
  frozen: boolean;
  /** Slots that the last filling looked at, taken ones too. */
  probes: number;
}

/**
 * Maglev hashing: every server steps through the slots in an order of its own, from an offset by a skip, and
 * takes free ones in turn, as many a turn as its weight by the common divisor (shifted right where weights are
 * large), until all are taken. A client's address, with mh-port plus its port, selects the slot. A server that
 * is set to weight 0 keeps its slots; they have no server then, or with mh-fallback that of another slot.
 * With more servers than slots the kernel leaves the table as it was: the only scheduler that then chooses
 * servers that are removed already.
 * The kernel fills the table at each change; here that waits for the next pick, which sees the same.
 * Source: net/netfilter/ipvs/ip_vs_mh.c, on 64-bit machines; Eisenbud et al., "Maglev", NSDI 2016.
 */
export class MaglevHashing implements Scheduler {
  readonly name = 'mh';
  steps = 0;
  readonly size: number;
  readonly #lists: Lists;
  readonly #port: boolean;
  readonly #fallback: boolean;
  readonly #fold: ((address: number) => number) | undefined;
  /** A turn has fewer than 2 to this many slots. */
  readonly #turnBits: number;
  readonly #tables: (Table | undefined)[] = [];

  /** @throws RangeError for an index outside of 8 to 17. */
  constructor(lists: Lists, { port, fallback, fold, mhTableIndex: index = 12 }: SchedulerOptions = {}) {
    const size = SIZES[index - FIRST_INDEX];
    if (size === undefined) throw new RangeError(`mh table index ${index}: wanted 8 to 17`);
    this.size = size;
    this.#turnBits = index >> 1;
    this.#lists = lists;
    this.#port = port ?? false;
    this.#fallback = fallback ?? false;
    this.#fold = fold;
  }

  pick(service: number, client: number, clientPort: number): number {
    const table = this.#tables[service];
    this.steps++;
    if (table === undefined) return NO_SERVER;
    if (table.stale) this.#fill(table, this.#lists.services.head[service]!);
    const { weight, overloaded } = this.#lists.servers;
    const address = this.#fold === undefined ? client : this.#fold(client);
    const key = this.#port ? address + clientPort : address;
    const slot = sipHash13(key, OFFSET_KEY) % this.size;
    const holder = table.slots[slot]!;
    if (holder === 0) return NO_SERVER;
    const server = table.members[holder - 1]!;
    if (weight[server]! > 0 && overloaded[server] === 0) return server;
    return this.#fallback ? this.#otherThan(slot, key, table) : NO_SERVER;
  }

  started(service: number): void {
    this.stopped(service);
    this.#change(service, this.#lists.services.head[service]!);
  }

  stopped(service: number): void {
    const table = this.#tables[service];
    if (table?.frozen === true) this.#thaw(table);
    this.#tables[service] = undefined;
  }

  added(service: number, server: number): void {
    // Without the new one, at the head, the list is as it was before.
    this.#change(service, this.#lists.servers.next[server]!);
  }

  removed(service: number): void {
    this.#change(service, NO_SERVER);
  }

  updated(service: number): void {
    this.#change(service, NO_SERVER);
  }

  /** Walks for divisor, maximum and permutations, and the slots looked at. */
  changeSteps(servers: number, service?: number): number {
    if (servers > this.size) return 2 * servers;
    const table = service === undefined ? undefined : this.#tables[service];
    if (table === undefined) return 3 * servers + this.size;
    if (table.stale) this.#fill(table, this.#lists.services.head[service!]!);
    return 3 * servers + table.probes;
  }

  /** `before`: head of the list as it was before the change, where the change may be one server too many. */
  #change(service: number, before: number): void {
    const fits = this.#lists.services.servers[service]! <= this.size;
    let table = this.#tables[service];
    if (table === undefined) {
      const slots = this.size > 65_535 ? new Uint32Array(this.size) : new Uint16Array(this.size);
      table = { slots, members: new Int32Array(0), stale: false, frozen: false, probes: this.size };
      this.#tables[service] = table;
      if (!fits) return;
    }
    if (fits) {
      if (table.frozen) this.#thaw(table);
      table.stale = true;
    } else if (!table.frozen) {
      if (table.stale) this.#fill(table, before);
      table.frozen = true;
      for (const member of table.members) this.#lists.servers.hold(member);
    }
  }

  #thaw(table: Table): void {
    table.frozen = false;
    for (const member of table.members) this.#lists.servers.release(member);
  }

  /** Another client key with each probe: the slot is added to it. */
  #otherThan(slot: number, key: number, table: Table): number {
    const { weight, overloaded } = this.#lists.servers;
    const { size } = this;
    for (let probe = 0; probe < size; probe++) {
      this.steps++;
      const holder = table.slots[sipHash13(key + ((probe + slot) % size), OFFSET_KEY) % size]!;
      if (holder === 0) return NO_SERVER;
      const server = table.members[holder - 1]!;
      if (weight[server]! > 0 && overloaded[server] === 0) return server;
    }
    return NO_SERVER;
  }

  #fill(table: Table, first: number): void {
    const { next, lastWeight } = this.#lists.servers;
    const rows: number[] = [];
    let divisor = 0;
    let highest = 0;
    for (let at = first; at >= 0; at = next[at]!) {
      rows.push(at);
      divisor = gcd(lastWeight[at]!, divisor);
      highest = Math.max(highest, lastWeight[at]!);
    }
    table.members = Int32Array.from(rows);
    table.slots.fill(0);
    table.stale = false;
    table.probes = this.size;
    if (divisor > 0) table.probes = this.#take(table, divisor, highest);
  }

  /** Let the members take slots in turn; returns how many slots they looked at. */
  #take({ slots, members }: Table, divisor: number, highest: number): number {
    const { address, port, lastWeight } = this.#lists.servers;
    const { size } = this;
    const bits = 32 - Math.clz32(Math.floor(highest / divisor));
    const shift = Math.max(0, bits - this.#turnBits);
    const place = new Int32Array(members.length);
    const skip = new Int32Array(members.length);
    const turns = new Int32Array(members.length);
    for (const [i, server] of members.entries()) {
      const own = address[server]!;
      const key = (this.#fold === undefined ? own : this.#fold(own)) + port[server]!;
      place[i] = sipHash13(key, OFFSET_KEY) % size;
      skip[i] = (sipHash13(key, SKIP_KEY) % (size - 1)) + 1;
      const last = lastWeight[server]!;
      turns[i] = (last / divisor) >> shift || (last === 0 ? 0 : 1);
    }
    let probes = 0;
    for (let taken = 0; ;) {
      for (let i = 0; i < turns.length; i++) {
        for (let turn = turns[i]!; turn > 0; turn--) {
          let slot = place[i]!;
          for (probes++; slots[slot] !== 0; probes++) {
            slot += skip[i]!;
            if (slot >= size) slot -= size;
          }
          place[i] = slot;
          slots[slot] = i + 1;
          if (++taken === size) return probes;
        }
      }
    }
  }
}

function gcd(a: number, b: number): number {
  while (b !== 0) {
    const rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}
