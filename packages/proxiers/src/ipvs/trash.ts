import type { RealServers } from './real-servers.ts';
import { wheelExpiry, wheelLevel, type Jiffies } from './timer-wheel.ts';
import type { VirtualServers } from './virtual-servers.ts';

const PERIOD_S = 60;
const IDLE_S = 120;
const NEVER = Infinity;

interface Removed {
  readonly server: number;
  /** The tick at which it was first seen without anything that points to it; -1 before. */
  idleSince: number;
}

/**
 * Removed real servers, which connections may still point to. Added again in time, to a virtual server of the same
 * protocol, address and port, a server comes back with its counts. A timer looks every 60 s while there are any,
 * and frees those that have been idle for 120 s.
 * Source: ip_vs_trash_get_dest and ip_vs_dest_trash_expire, net/netfilter/ipvs/ip_vs_ctl.c.
 */
export class Trash {
  /** Virtual time at which the timer runs next; Infinity while there is nothing. */
  dueNs = NEVER;
  readonly #services: VirtualServers;
  readonly #servers: RealServers;
  readonly #jiffies: Jiffies;
  readonly #removed = new Map<string, Removed>();

  constructor(services: VirtualServers, servers: RealServers, jiffies: Jiffies) {
    this.#services = services;
    this.#servers = servers;
    this.#jiffies = jiffies;
  }

  get size(): number {
    return this.#removed.size;
  }

  put(server: number, nowNs: number): void {
    const { service, address, port } = this.#servers;
    if (this.#removed.size === 0) this.#start(nowNs);
    const key = this.#key(service[server]!, address[server]!, port[server]!);
    this.#removed.set(key, { server, idleSince: -1 });
  }

  /** Take back the server that `service` had at this address and port; -1 if it is not here. */
  take(service: number, address: number, port: number): number {
    if (this.#removed.size === 0) return -1;
    const key = this.#key(service, address, port);
    const found = this.#removed.get(key);
    this.#removed.delete(key);
    return found === undefined ? -1 : found.server;
  }

  /** Let the timer run if it is time. */
  expire(nowNs: number): void {
    if (nowNs < this.dueNs) return;
    const tick = this.#jiffies.at(nowNs);
    for (const [key, removed] of this.#removed) {
      if (this.#servers.inUse(removed.server)) continue;
      if (removed.idleSince < 0) {
        removed.idleSince = tick;
      } else if (tick - removed.idleSince >= IDLE_S * this.#jiffies.hz) {
        this.#removed.delete(key);
        this.#servers.free(removed.server);
      }
    }
    if (this.#removed.size > 0) this.#start(nowNs);
    else this.dueNs = NEVER;
  }

  #start(nowNs: number): void {
    const { hz, first, tickNs } = this.#jiffies;
    const ticks = PERIOD_S * hz;
    const runs = wheelExpiry(this.#jiffies.at(nowNs) + ticks, wheelLevel(ticks));
    this.dueNs = (runs - first) * tickNs;
  }

  #key(service: number, address: number, port: number): string {
    const { mark, protocol, address: virtual, port: virtualPort } = this.#services;
    return `${mark[service]!} ${protocol[service]!} ${virtual[service]!}:${virtualPort[service]!}/${address}:${port}`;
  }
}
