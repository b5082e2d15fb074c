import { longer } from '@vipsim/sim-core';
import { isBusy, walkToIdle } from './busy.ts';
import { CACHE_EXPIRATION_NS, DestinationCache } from './destination-cache.ts';
import { leastByWeight, type LoadFormula } from './least.ts';
import type { SchedulerOptions } from './options.ts';
import { NO_SERVER, type Lists, type Scheduler } from './scheduler.ts';

const NONE = -1;

/**
 * Locality-based least connections with replication: a destination address has a set of servers, of which the
 * least loaded is chosen. If that is too busy, or none of the set can be chosen, wlc's choice among all servers
 * joins the set. A set of several that has been the same for a day loses its most loaded member at a pick.
 * Source: net/netfilter/ipvs/ip_vs_lblcr.c.
 */
export class ReplicatedLocality implements Scheduler {
  readonly name = 'lblcr';
  steps = 0;
  readonly #lists: Lists;
  readonly #formula: LoadFormula;
  readonly #expirationNs: number;
  readonly #cache: DestinationCache;
  /** By entry of the cache: its set as a chain of members, the newest first. */
  #first: Int32Array = new Int32Array(16);
  #size: Int32Array = new Int32Array(16);
  #changedNs: Float64Array = new Float64Array(16);
  /** By member. */
  #server: Int32Array = new Int32Array(16);
  #next: Int32Array = new Int32Array(16);
  readonly #free: number[] = [];
  #members = 0;

  constructor(lists: Lists, formula: LoadFormula = 257, { cacheExpirationNs, fold }: SchedulerOptions = {}) {
    this.#lists = lists;
    this.#formula = formula;
    this.#expirationNs = cacheExpirationNs ?? CACHE_EXPIRATION_NS;
    this.#cache = new DestinationCache((entry) => this.#clear(entry), this.#expirationNs, fold);
  }

  pick(
    service: number,
    _client: number,
    _clientPort: number,
    destination: number = this.#lists.services.address[service]!,
    nowNs = 0,
  ): number {
    this.#cache.probes = 0;
    const entry = this.#cache.find(service, destination, nowNs);
    this.steps += this.#cache.probes;
    if (entry >= 0) {
      const server = this.#leastLoaded(entry);
      if (this.#size[entry]! > 1 && nowNs > this.#changedNs[entry]! + this.#expirationNs)
        this.#shrink(entry, nowNs);
      if (server !== NO_SERVER && !this.#tooBusy(service, server)) return server;
    }
    this.steps += this.#lists.services.servers[service]!;
    const server = leastByWeight(this.#lists, service, this.#formula);
    if (server === NO_SERVER) return NO_SERVER;
    const at = entry >= 0 ? entry : this.#newEntry(service, destination, nowNs);
    if (at >= 0) this.#join(at, server, nowNs);
    return server;
  }

  started(service: number, nowNs: number): void {
    this.#cache.started(service, nowNs);
  }

  stopped(service: number): void {
    this.#cache.stopped(service);
  }

  added(): void {}

  removed(): void {}

  updated(): void {}

  changeSteps(): number {
    return 0;
  }

  #tooBusy(service: number, server: number): boolean {
    if (!isBusy(this.#lists, server)) return false;
    const examined = walkToIdle(this.#lists, service);
    this.steps += Math.abs(examined);
    return examined > 0;
  }

  #leastLoaded(entry: number): number {
    const { weight, available, overloaded } = this.#lists.servers;
    let best = NO_SERVER;
    let bestLoad = 0;
    for (let member = this.#first[entry]!; member !== NONE; member = this.#next[member]!) {
      this.steps++;
      const server = this.#server[member]!;
      if (overloaded[server] !== 0 || available[server] === 0 || weight[server]! <= 0) continue;
      const load = this.#load(server);
      if (best === NO_SERVER || bestLoad * weight[server]! > load * weight[best]!) {
        best = server;
        bestLoad = load;
      }
    }
    return best;
  }

  /** Take the most loaded member of weight out of a set, removed and overloaded servers too. */
  #shrink(entry: number, nowNs: number): void {
    const { weight } = this.#lists.servers;
    let most = NONE;
    let mostLoad = 0;
    let mostWeight = 0;
    let beforeMost = NONE;
    let before = NONE;
    for (let member = this.#first[entry]!; member !== NONE; member = this.#next[member]!) {
      this.steps++;
      const server = this.#server[member]!;
      const own = weight[server]!;
      const load = this.#load(server);
      if (own > 0 && (most === NONE || mostLoad * own < load * mostWeight)) {
        most = member;
        mostLoad = load;
        mostWeight = own;
        beforeMost = before;
      }
      before = member;
    }
    if (most === NONE) return;
    if (beforeMost === NONE) this.#first[entry] = this.#next[most]!;
    else this.#next[beforeMost] = this.#next[most]!;
    this.#lists.servers.release(this.#server[most]!);
    this.#free.push(most);
    this.#size[entry]! -= 1;
    this.#changedNs[entry] = nowNs;
  }

  #load(server: number): number {
    const { active, inactive } = this.#lists.servers;
    return this.#formula * active[server]! + inactive[server]!;
  }

  #newEntry(service: number, destination: number, nowNs: number): number {
    const entry = this.#cache.add(service, destination, nowNs);
    if (entry < 0) return entry;
    if (entry >= this.#first.length) {
      this.#first = longer(this.#first, entry * 2);
      this.#size = longer(this.#size, entry * 2);
      this.#changedNs = longer(this.#changedNs, entry * 2);
    }
    this.#first[entry] = NONE;
    this.#size[entry] = 0;
    return entry;
  }

  /** Put a server at the head of a set, unless it is in it. */
  #join(entry: number, server: number, nowNs: number): void {
    for (let member = this.#first[entry]!; member !== NONE; member = this.#next[member]!) {
      if (this.#server[member] === server) return;
    }
    const member = this.#free.pop() ?? this.#members++;
    if (member === this.#server.length) {
      this.#server = longer(this.#server, member * 2);
      this.#next = longer(this.#next, member * 2);
    }
    this.#server[member] = server;
    this.#next[member] = this.#first[entry]!;
    this.#first[entry] = member;
    this.#size[entry]! += 1;
    this.#changedNs[entry] = nowNs;
    this.#lists.servers.hold(server);
  }

  #clear(entry: number): void {
    for (let member = this.#first[entry]!; member !== NONE; member = this.#next[member]!) {
      this.#lists.servers.release(this.#server[member]!);
      this.#free.push(member);
    }
  }
}
