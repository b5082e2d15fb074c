import { TCP } from '@vipsim/sim-core';
import type { Counts } from '../cost/operations.ts';
import type { Director } from './director.ts';
import { LIST_STEP, NETLINK, NETLINK_RECORD } from './operations.ts';

const MINUTE_NS = 60_000_000_000;

/**
 * kube-proxy's list of real servers that wait for their connections to end. A TCP server that still has entries
 * gets weight 0 and is looked at every minute; UDP and SCTP servers go at once. There is no limit of time.
 * Source: pkg/proxy/ipvs/graceful_termination.go.
 */
export class GracefulTermination {
  readonly #director: Director;
  readonly #onRemove: (service: number) => void;
  readonly #draining = new Set<number>();
  #minute = 0;

  /** @param onRemove told which virtual server has lost a real server. */
  constructor(director: Director, onRemove: (service: number) => void) {
    this.#director = director;
    this.#onRemove = onRemove;
  }

  get size(): number {
    return this.#draining.size;
  }

  has(server: number): boolean {
    return this.#draining.has(server);
  }

  /** Whether a server that is no longer wanted may be deleted now. */
  isDeletable(server: number): boolean {
    const { servers, services } = this.#director;
    return services.protocol[servers.service[server]!] !== TCP || servers.connections(server) === 0;
  }

  /** A server is no longer wanted. */
  retire(server: number): void {
    if (this.isDeletable(server)) {
      this.#remove(server);
      return;
    }
    this.#director.setWeight(server, 0);
    this.#draining.add(server);
  }

  /** A draining server is wanted again: it is deleted at once, and the caller adds it anew. */
  recall(server: number): void {
    this.#remove(server);
  }

  /** The minutely look at all draining servers; each takes a dump of its virtual server's list. */
  check(nowNs: number, counts: Counts): void {
    const minute = Math.floor(nowNs / MINUTE_NS);
    if (minute === this.#minute) return;
    this.#minute = minute;
    const { servers, services } = this.#director;
    for (const server of this.#draining) {
      const listed = services.servers[servers.service[server]!]!;
      counts[NETLINK]! += 1;
      counts[NETLINK_RECORD]! += listed;
      if (!this.isDeletable(server)) continue;
      counts[NETLINK]! += 1;
      counts[LIST_STEP]! += listed;
      this.#remove(server);
    }
  }

  #remove(server: number): void {
    this.#draining.delete(server);
    this.#onRemove(this.#director.servers.service[server]!);
    this.#director.removeServer(server);
  }
}
