import { longer } from '@vipsim/sim-core';
import { isBusy, walkToIdle } from './busy.ts';
import { DestinationCache } from './destination-cache.ts';
import { leastByWeight, type LoadFormula } from './least.ts';
import type { SchedulerOptions } from './options.ts';
import { NO_SERVER, type Lists, type Scheduler } from './scheduler.ts';

/**
 * Locality-based least connections: the server chosen by wlc for a destination address stays its server while it
 * is there, has weight and is not too busy: more active connections than weight, while another has fewer than
 * half its weight. Thresholds count when wlc chooses, not for a server that is remembered.
 * Source: net/netfilter/ipvs/ip_vs_lblc.c.
 */
export class LocalityBased implements Scheduler {
  readonly name = 'lblc';
  steps = 0;
  readonly #lists: Lists;
  readonly #formula: LoadFormula;
  readonly #cache: DestinationCache;
  /** By entry of the cache. */
  #server: Int32Array = new Int32Array(16);

  constructor(lists: Lists, formula: LoadFormula = 257, { cacheExpirationNs, fold }: SchedulerOptions = {}) {
    this.#lists = lists;
    this.#formula = formula;
    const forget = (entry: number): void => lists.servers.release(this.#server[entry]!);
    this.#cache = new DestinationCache(forget, cacheExpirationNs, fold);
  }

  pick(
    service: number,
    _client: number,
    _clientPort: number,
    destination: number = this.#lists.services.address[service]!,
    nowNs = 0,
  ): number {
    const { services, servers } = this.#lists;
    this.#cache.probes = 0;
    const entry = this.#cache.find(service, destination, nowNs);
    this.steps += this.#cache.probes;
    if (entry >= 0) {
      const server = this.#server[entry]!;
      if (servers.available[server] === 1 && servers.weight[server]! > 0 && !this.#tooBusy(service, server))
        return server;
    }
    this.steps += services.servers[service]!;
    const server = leastByWeight(this.#lists, service, this.#formula);
    if (server !== NO_SERVER) this.#remember(entry, service, destination, nowNs, server);
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

  #remember(entry: number, service: number, destination: number, nowNs: number, server: number): void {
    const { servers } = this.#lists;
    if (entry >= 0) {
      const before = this.#server[entry]!;
      if (before === server) return;
      servers.release(before);
      this.#cache.toFront(service, entry);
    } else {
      entry = this.#cache.add(service, destination, nowNs);
      if (entry < 0) return;
      if (entry >= this.#server.length) this.#server = longer(this.#server, entry * 2);
    }
    servers.hold(server);
    this.#server[entry] = server;
  }

  #tooBusy(service: number, server: number): boolean {
    if (!isBusy(this.#lists, server)) return false;
    const examined = walkToIdle(this.#lists, service);
    this.steps += Math.abs(examined);
    return examined > 0;
  }
}
