import { longer } from '@vipsim/sim-core';
import type { VirtualServers } from './virtual-servers.ts';

const NONE = -1;

/** When the kernel looks whether a server's connections have reached or left its thresholds. */
export type OverloadRule =
  /** When a connection comes or goes; an edit only clears the flag, if it raises or removes the upper one: Linux until mid 2026. */
  | 'by-connection'
  /** When a threshold is set, too: 6.1.192, 6.12.117 and later. */
  | 'by-edit-too';

/**
 * Real servers, each in the list of its virtual server. A new server goes to the head:
 *
 *     add 1, 2, 3:   head → 3 → 2 → 1
 *
 * so every scheduler, which walks from the head, meets the newest first.
 *
 * A server with an upper threshold is overloaded from the connection, active or not, that reaches it until they
 * are fewer than the lower one, or than three quarters of the upper one; schedulers pass it over meanwhile.
 * Source: ip_vs_add_dest, __ip_vs_update_dest, net/netfilter/ipvs/ip_vs_ctl.c; ip_vs_bind_dest, ip_vs_unbind_dest,
 * ip_vs_conn.c.
 */
export class RealServers {
  /** In some list now. */
  count = 0;
  overloadRule: OverloadRule = 'by-edit-too';
  /** Index into the virtual servers. */
  service: Uint32Array = new Uint32Array(16);
  address: Uint32Array = new Uint32Array(16);
  port: Uint16Array = new Uint16Array(16);
  weight: Int32Array = new Int32Array(16);
  /** The weight that it had last when it had one; since it was added. */
  lastWeight: Int32Array = new Int32Array(16);
  /** Connections in SYN_RECV or ESTABLISHED. */
  active: Int32Array = new Int32Array(16);
  /** All other connections that still have an entry; every UDP flow. */
  inactive: Int32Array = new Int32Array(16);
  /** Thresholds of connections; 0 without. Set them by `setThresholds`. */
  upper: Uint32Array = new Uint32Array(16);
  lower: Uint32Array = new Uint32Array(16);
  /** 1 while schedulers pass it over. */
  overloaded: Uint8Array = new Uint8Array(16);
  next: Int32Array = new Int32Array(16);
  previous: Int32Array = new Int32Array(16);
  /** The endpoint row that it stands for, -1 if none. */
  endpoint: Int32Array = new Int32Array(16);
  /** 1 while in a list; a removed server that still has connections is kept at 0. */
  available: Uint8Array = new Uint8Array(16);
  /** How often schedulers point to it from where a removal does not reach: the caches of lblc and lblcr. */
  held: Uint32Array = new Uint32Array(16);
  readonly #services: VirtualServers;
  readonly #free: number[] = [];
  /** Given back, but still held. */
  readonly #leaving = new Set<number>();
  #rows = 0;

  constructor(services: VirtualServers) {
    this.#services = services;
  }

  /** A row without a list, thresholds and connections. */
  create(service: number, address: number, port: number): number {
    const at = this.#free.pop() ?? this.#rows++;
    if (at === this.address.length) this.#grow(at * 2);
    this.service[at] = service;
    this.address[at] = address;
    this.port[at] = port;
    this.active[at] = 0;
    this.inactive[at] = 0;
    this.upper[at] = 0;
    this.lower[at] = 0;
    this.overloaded[at] = 0;
    this.available[at] = 0;
    return at;
  }

  /** Put a row, its weight set, at the head of its virtual server's list. */
  link(server: number): void {
    const service = this.service[server]!;
    const first = this.#services.head[service]!;
    this.next[server] = first;
    this.previous[server] = NONE;
    if (first !== NONE) this.previous[first] = server;
    this.#services.head[service] = server;
    this.#services.servers[service]!++;
    this.lastWeight[server] = this.weight[server]!;
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

  /** Give a server in a list another weight. */
  weigh(server: number, weight: number): void {
    this.weight[server] = weight;
    if (weight !== 0) this.lastWeight[server] = weight;
  }

  /**
   * @param upper overloaded from so many connections on; 0 for never
   * @param lower no longer from fewer than so many; 0 for three quarters of `upper`
   */
  setThresholds(server: number, upper: number, lower: number): void {
    const raised = upper === 0 || upper > this.upper[server]!;
    this.upper[server] = upper;
    this.lower[server] = lower;
    if (this.overloadRule === 'by-edit-too') this.#judge(server);
    else if (raised) this.overloaded[server] = 0;
  }

  /** A connection comes, inactive yet. */
  bind(server: number): void {
    this.inactive[server]! += 1;
    this.bound(server);
  }

  /** A connection goes. */
  unbind(server: number, wasActive: boolean): void {
    if (wasActive) this.active[server]! -= 1;
    else this.inactive[server]! -= 1;
    this.unbound(server);
  }

  /** Something was bound that may have overloaded it: a connection or, uncounted, a template. */
  bound(server: number): void {
    const upper = this.upper[server]!;
    if (upper !== 0 && this.connections(server) >= upper) this.overloaded[server] = 1;
  }

  /** Something was unbound. */
  unbound(server: number): void {
    if (this.overloaded[server] === 0) return;
    if (this.overloadRule === 'by-edit-too') this.#judge(server);
    else this.#clear(server);
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

  /** Whether anything points to it: then it is not idle, and the trash keeps it. */
  inUse(server: number): boolean {
    return this.connections(server) > 0 || this.held[server] !== 0;
  }

  /** A cache points to it. */
  hold(server: number): void {
    this.held[server]! += 1;
  }

  release(server: number): void {
    this.held[server]! -= 1;
    if (this.held[server] === 0 && this.#leaving.delete(server)) this.#free.push(server);
  }

  /** Give an unlinked row without connections back. It is used again once no cache points to it. */
  free(server: number): void {
    if (this.held[server] === 0) this.#free.push(server);
    else this.#leaving.add(server);
  }

  /** Set or clear the flag by the connections that there are; between the thresholds it stays. */
  #judge(server: number): void {
    const upper = this.upper[server]!;
    const connections = this.connections(server);
    if (upper === 0) this.overloaded[server] = 0;
    else if (connections >= upper) this.overloaded[server] = 1;
    else if (connections < (this.lower[server]! || upper - (upper >>> 2))) this.overloaded[server] = 0;
  }

  /** As `#judge`, but a lower threshold decides alone, whatever the upper one is. */
  #clear(server: number): void {
    const lower = this.lower[server]!;
    const connections = this.connections(server);
    const upper = this.upper[server]!;
    const stays = lower !== 0 ? connections >= lower : upper !== 0 && connections * 4 >= upper * 3;
    if (!stays) this.overloaded[server] = 0;
  }

  #grow(capacity: number): void {
    this.service = longer(this.service, capacity);
    this.address = longer(this.address, capacity);
    this.port = longer(this.port, capacity);
    this.weight = longer(this.weight, capacity);
    this.lastWeight = longer(this.lastWeight, capacity);
    this.active = longer(this.active, capacity);
    this.inactive = longer(this.inactive, capacity);
    this.upper = longer(this.upper, capacity);
    this.lower = longer(this.lower, capacity);
    this.overloaded = longer(this.overloaded, capacity);
    this.next = longer(this.next, capacity);
    this.previous = longer(this.previous, capacity);
    this.endpoint = longer(this.endpoint, capacity);
    this.available = longer(this.available, capacity);
    this.held = longer(this.held, capacity);
  }
}
