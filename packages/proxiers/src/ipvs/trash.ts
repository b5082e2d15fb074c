import type { RealServers } from './real-servers.ts';

const SECOND = 1_000_000_000;
const PERIOD_NS = 60 * SECOND;
const IDLE_NS = 120 * SECOND;

interface Removed {
  readonly server: number;
  /** Since when it was seen without connections; -1 while it has some. */
  idleSinceNs: number;
}

/**
 * Removed real servers, which connections may still point to. Added again in time, a server comes back with
 * its counts. A timer looks every 60 s while there are any, and frees those that have been idle for 120 s.
 * Source: ip_vs_trash_get_dest and ip_vs_dest_trash_expire, net/netfilter/ipvs/ip_vs_ctl.c.
 */
export class Trash {
  readonly #servers: RealServers;
  readonly #removed = new Map<string, Removed>();
  #nextNs = -1;

  constructor(servers: RealServers) {
    this.#servers = servers;
  }

  get size(): number {
    return this.#removed.size;
  }

  put(server: number): void {
    const { service, address, port } = this.#servers;
    this.#removed.set(keyOf(service[server]!, address[server]!, port[server]!), { server, idleSinceNs: -1 });
  }

  /** Take back the server that `service` had at this address and port; -1 if it is not here. */
  take(service: number, address: number, port: number): number {
    if (this.#removed.size === 0) return -1;
    const key = keyOf(service, address, port);
    const found = this.#removed.get(key);
    this.#removed.delete(key);
    return found === undefined ? -1 : found.server;
  }

  expire(nowNs: number): void {
    if (this.#removed.size === 0) {
      this.#nextNs = -1;
      return;
    }
    if (this.#nextNs < 0) this.#nextNs = nowNs + PERIOD_NS;
    if (nowNs < this.#nextNs) return;
    this.#nextNs = nowNs + PERIOD_NS;
    for (const [key, removed] of this.#removed) {
      if (this.#servers.connections(removed.server) > 0) {
        removed.idleSinceNs = -1;
      } else if (removed.idleSinceNs < 0) {
        removed.idleSinceNs = nowNs;
      } else if (nowNs - removed.idleSinceNs >= IDLE_NS) {
        this.#removed.delete(key);
        this.#servers.free(removed.server);
      }
    }
  }
}

function keyOf(service: number, address: number, port: number): string {
  return `${service}/${address}:${port}`;
}
