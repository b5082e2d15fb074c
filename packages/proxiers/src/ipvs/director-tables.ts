import { IPV4 } from '@vipsim/sim-core';
import type { Counts } from '../cost/operations.ts';
import { AddressHashes } from './address-hashes.ts';
import { CONNECTION_TIMEOUTS_S, DATAGRAMS, ESTABLISHED, FIN_WAIT, isActive } from './connection-states.ts';
import { ConnectionTimers } from './connection-timers.ts';
import { ASSURED, CONNTRACK, Connections, TEMPLATE } from './connections.ts';
import type { DirectorOptions, ServerSettings, ServiceSettings, Timeouts } from './director-options.ts';
import { DropEntry } from './drop-entry.ts';
import { EXPIRE, FLUSH_STEP } from './operations.ts';
import { RealServers } from './real-servers.ts';
import type { Scheduler } from './schedulers/scheduler.ts';
import { ServiceSchedulers } from './service-schedulers.ts';
import { Templates } from './templates.ts';
import { Jiffies } from './timer-wheel.ts';
import { Trash } from './trash.ts';
import { VirtualServers } from './virtual-servers.ts';

/** A template that runs out while connections hold it stays for so long more, and keeps that as its timeout. */
const EXTENSION_S = 60;
const EXTENSION_NS = EXTENSION_S * 1_000_000_000;
const ALL_BITS = 0xffffffff;
/** How often drop_entry looks (DEFENSE_TIMER_PERIOD). */
const DEFENCE_NS = 1_000_000_000;

/**
 * The tables of IPVS, what `ipvsadm` does to them, and what time does: entries and removed servers run out.
 * Source: net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_conn.c (Linux 6.1 to 6.12).
 * Not modelled: estimators.
 */
export class DirectorTables {
  /** Sysctls may be changed at any time by another record of options. */
  options: DirectorOptions;
  readonly jiffies: Jiffies;
  readonly services: VirtualServers;
  readonly servers: RealServers;
  readonly connections: Connections;
  readonly templates: Templates;
  readonly timers: ConnectionTimers;
  readonly schedulers: ServiceSchedulers;
  readonly trash: Trash;
  /** Told of each entry that goes, so that its conntrack entry can go too (net/ipv4/vs/conntrack=1). */
  onExpire: ((connection: number) => void) | undefined;
  /** Ticks that an entry outlives its last packet, by state. */
  protected readonly timeouts: Uint32Array;
  /** The last virtual time that is known. */
  nowNs = 0;
  /** Up to when timers have run. */
  #expiredNs = 0;
  readonly #dropEntry: DropEntry;
  #flushDue = false;
  /** Whether that worker will find anything. */
  #orphans = false;

  constructor(options: DirectorOptions) {
    this.options = options;
    const family = options.family ?? IPV4;
    const hashes = new AddressHashes(family, options.seed);
    this.jiffies = new Jiffies(options.hz ?? 250, options.jiffies);
    this.services = new VirtualServers(hashes, options.serviceTable, options.seed);
    this.servers = new RealServers(this.services);
    if (options.overloadRule !== undefined) this.servers.overloadRule = options.overloadRule;
    this.connections = new Connections(options.connTabBits, options.seed, hashes);
    this.templates = new Templates(this.connections, this.services, this.servers, family);
    this.timers = new ConnectionTimers(this.connections, this.jiffies);
    this.schedulers = new ServiceSchedulers(this, options, hashes);
    this.#dropEntry = new DropEntry(this);
    this.trash = new Trash(this.services, this.servers, this.jiffies);
    this.timeouts = Uint32Array.from(CONNECTION_TIMEOUTS_S, (seconds) => seconds * this.jiffies.hz);
  }

  /** The scheduler of virtual servers that name none. */
  get scheduler(): Scheduler {
    return this.schedulers.standard;
  }

  /** `ipvsadm -A`: a virtual server that there is not yet. Returns its index. */
  addService(protocol: number, address: number, port: number, settings: ServiceSettings = {}): number {
    const service = this.services.add(protocol, address, port, settings.persistenceS ?? 0);
    return this.#set(service, settings);
  }

  /** One for packets that carry a firewall mark. */
  addMarkService(mark: number, settings: ServiceSettings = {}): number {
    return this.#set(this.services.addMark(mark, settings.persistenceS ?? 0), settings);
  }

  /** `ipvsadm -E`: all settings anew; servers and connections stay. */
  editService(service: number, settings: ServiceSettings): void {
    this.services.persistenceS[service] = settings.persistenceS ?? 0;
    this.#set(service, settings);
  }

  /** `ipvsadm -D`: with its real servers, whose connections stay until they run out. */
  removeService(service: number): void {
    for (let at = this.services.head[service]!; at >= 0; at = this.services.head[service]!)
      this.removeServer(at);
    this.schedulers.of(service).stopped(service);
    this.services.remove(service);
  }

  /** Add a real server that its virtual server does not have; one that was removed lately comes back with its counts. */
  addServer(
    service: number,
    address: number,
    port: number,
    weight: number,
    endpoint: number,
    { upper = 0, lower = 0 }: Omit<ServerSettings, 'weight'> = {},
  ): number {
    const { servers } = this;
    let server = this.trash.take(service, address, port);
    if (server < 0) server = servers.create(service, address, port);
    servers.service[server] = service;
    servers.weight[server] = weight;
    servers.endpoint[server] = endpoint;
    servers.setThresholds(server, upper, lower);
    servers.link(server);
    this.schedulers.of(service).added(service, server);
    return server;
  }

  setWeight(server: number, weight: number): void {
    this.servers.weigh(server, weight);
    const service = this.servers.service[server]!;
    this.schedulers.of(service).updated(service, server);
  }

  /** `ipvsadm -e`: all settings anew. */
  editServer(server: number, { weight, upper = 0, lower = 0 }: ServerSettings): void {
    this.servers.setThresholds(server, upper, lower);
    this.setWeight(server, weight);
  }

  removeServer(server: number): void {
    const service = this.servers.service[server]!;
    const predecessor = this.servers.unlink(server);
    this.schedulers.of(service).removed(service, server, predecessor);
    this.trash.put(server, this.nowNs);
    if (!this.options.expireNodest) return;
    this.#flushDue = true;
    if (this.servers.inUse(server)) this.#orphans = true;
  }

  /** `ipvsadm --set`: entries follow with their next packet. */
  setTimeouts({ tcpS, tcpFinS, udpS }: Timeouts): void {
    const { hz } = this.jiffies;
    if (tcpS) this.timeouts[ESTABLISHED] = tcpS * hz;
    if (tcpFinS) this.timeouts[FIN_WAIT] = tcpFinS * hz;
    if (udpS) this.timeouts[DATAGRAMS] = udpS * hz;
  }

  /**
   * Let the worker run that a removal queued: it walks the connection table and deletes the entries of servers
   * that are gone. The kernel starts it a jiffy later, so that a server added back at once keeps its entries.
   */
  settle(counts: Counts): void {
    if (!this.#flushDue) return;
    this.#flushDue = false;
    const { connections } = this;
    counts[FLUSH_STEP]! += connections.buckets + connections.count;
    if (!this.#orphans) return;
    this.#orphans = false;
    for (let at = 0; at < connections.rows; at++) {
      if (!this.#isOrphan(at) || connections.controlled[at]! > 0) continue;
      const control = connections.control[at]!;
      this.#release(at);
      if (control >= 0 && connections.controlled[control] === 0) this.#release(control);
    }
  }

  /** Let entries go whose time is over: those that were told to go with the next tick. */
  sweep(nowNs: number): void {
    this.nowNs = nowNs;
    for (let at = this.timers.nextGone(nowNs); at >= 0; at = this.timers.nextGone(nowNs)) this.#release(at);
  }

  /** Let all timers run: those of entries, that of removed servers, and that of drop_entry. */
  expire(nowNs: number, counts: Counts): void {
    this.settle(counts);
    const { dropEntry } = this.options;
    if (dropEntry !== undefined) {
      const first = (Math.floor(this.#expiredNs / DEFENCE_NS) + 1) * DEFENCE_NS;
      for (let atNs = first; atNs <= nowNs; atNs += DEFENCE_NS) {
        this.#expireUntil(atNs, counts);
        for (const connection of this.#dropEntry.chosen(dropEntry, atNs, counts))
          this.#drop(connection, atNs);
      }
    }
    this.#expireUntil(nowNs, counts);
    this.nowNs = nowNs;
  }

  #expireUntil(nowNs: number, counts: Counts): void {
    const { trash } = this;
    while (this.#expiredNs < nowNs) {
      // A template that stays runs out again after EXTENSION_NS at the earliest: not within the same step.
      const to = Math.min(nowNs, this.#expiredNs + EXTENSION_NS, Math.max(this.#expiredNs, trash.dueNs));
      if (this.connections.count > 0) this.#expireTo(to, counts);
      trash.expire(to);
      this.#expiredNs = this.connections.count === 0 && trash.size === 0 ? nowNs : to;
    }
  }

  #expireTo(toNs: number, counts: Counts): void {
    const { connections, timers, jiffies } = this;
    for (const at of timers.due(toNs)) {
      if (connections.controlled[at]! > 0) {
        const ranNs = timers.runsNs(at);
        connections.timeout[at] = EXTENSION_S * jiffies.hz;
        timers.start(at, ranNs);
      } else {
        counts[EXPIRE]! += 1;
        this.#release(at);
      }
    }
  }

  /** An entry is deleted before its time, and its template soon if that never served (ip_vs_conn_del). */
  #drop(connection: number, nowNs: number): void {
    const { control, controlled, flags } = this.connections;
    const template = control[connection]!;
    this.#release(connection);
    if (template < 0 || controlled[template]! > 0 || (flags[template]! & ASSURED) !== 0) return;
    this.timers.startLast(template, nowNs);
  }

  #set(service: number, settings: ServiceSettings): number {
    const { services } = this;
    services.netmask[service] = settings.netmask ?? ALL_BITS;
    services.onePacket[service] = settings.onePacket === true ? 1 : 0;
    this.schedulers.set(service, settings, this.nowNs);
    return service;
  }

  /** Whether a row holds an entry whose server is gone. */
  #isOrphan(at: number): boolean {
    const server = this.connections.server[at]!;
    return server >= 0 && this.servers.available[server] === 0;
  }

  #release(at: number): void {
    const { connections, servers } = this;
    const server = connections.server[at]!;
    const control = connections.control[at]!;
    if ((connections.flags[at]! & CONNTRACK) !== 0) this.onExpire?.(at);
    if ((connections.flags[at]! & TEMPLATE) !== 0) this.templates.gone(server);
    else servers.unbind(server, isActive(connections.state[at]!));
    if (control >= 0) connections.controlled[control]! -= 1;
    this.timers.stop(at);
    connections.remove(at);
  }
}
