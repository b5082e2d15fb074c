import { longer } from '@vipsim/sim-core';
import type { VirtualServers } from './virtual-servers.ts';

const NONE = -1;

/**
 * Real servers, each in the list of its virtual server. A new server goes to the head:
 *
 *     add 1, 2, 3:   head → 3 → 2 → 1
 *
 * so every scheduler, which walks from the head, meets the newest first.
 * Source: ip_vs_add_dest, net/netfilter/ipvs/ip_vs_ctl.c.
 */
export class RealServers {
  /** In some list now. */
  count = 0;
  /** Index into the virtual servers. */
  service: Uint32Array = new Uint32Array(16);
  address: Uint32Array = new Uint32Array(16);
  port: Uint16Array = new Uint16Array(16);
  weight: Int32Array = new Int32Array(16);
  /** Connections in SYN_RECV or ESTABLISHED. */
  active: Int32Array = new Int32Array(16);
  /** All other connections that still have an entry; every UDP flow. */
  inactive: Int32Array = new Int32Array(16);
  next: Int32Array = new Int32Array(16);
  previous: Int32Array = new Int32Array(16);
  /** The endpoint row that it stands for, -1 if none. */
  endpoint: Int32Array = new Int32Array(16);
  /** 1 while in a list; a removed server that still has connections is kept at 0. */
  available: Uint8Array = new Uint8Array(16);
  readonly #services: VirtualServers;
  readonly #free: number[] = [];
  #rows = 0;

  constructor(services: VirtualServers) {
    this.#services = services;
  }

  /** A row without a list and without connections. */
  create(service: number, address: number, port: number): number {
    const at = this.#free.pop() ?? this.#rows++;
    if (at === this.address.length) this.#grow(at * 2);
    this.service[at] = service;
    this.address[at] = address;
    this.port[at] = port;
    this.active[at] = 0;
    this.inactive[at] = 0;
    this.available[at] = 0;
    return at;
  }

  /** Put a row at the head of its virtual server's list. */
  link(server: number): void {
    const service = this.service[server]!;
    const first = this.#services.head[service]!;
    this.next[server] = first;
    this.previous[server] = NONE;
    if (first !== NONE) this.previous[first] = server;
    this.#services.head[service] = server;
    this.#services.servers[service]!++;
    this.available[server] = 1;
    this.count++;
  }

  /** Take a row out of its list; returns its predecessor there, -1 for the head. */
  unlink(server: number): number {
    const service = this.service[server]!;
    const next = this.next[server]!;
    const previous = this.previous[server]!;
    if (previous === NONE) this.#services.head[service] = next;
    else this.next[previous] = next;
    if (next !== NONE) this.previous[next] = previous;
    this.#services.servers[service]!--;
    this.available[server] = 0;
    this.count--;
    return previous;
  }

  /** Give an unlinked row without connections back. */
  free(server: number): void {
    this.#free.push(server);
  }

  /** The server in the list of `service`, -1 if it is not there. Walks the list. */
  find(service: number, address: number, port: number): number {
    let at = this.#services.head[service]!;
    while (at !== NONE && (this.address[at] !== address || this.port[at] !== port)) at = this.next[at]!;
    return at;
  }

  connections(server: number): number {
    return this.active[server]! + this.inactive[server]!;
  }

  #grow(capacity: number): void {
    this.service = longer(this.service, capacity);
    this.address = longer(this.address, capacity);
    this.port = longer(this.port, capacity);
    this.weight = longer(this.weight, capacity);
    this.active = longer(this.active, capacity);
    this.inactive = longer(this.inactive, capacity);
    this.next = longer(this.next, capacity);
    this.previous = longer(this.previous, capacity);
    this.endpoint = longer(this.endpoint, capacity);
    this.available = longer(this.available, capacity);
  }
}
