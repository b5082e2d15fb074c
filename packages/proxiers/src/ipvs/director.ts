import { RST, SYN, TCP, type Packet } from '@vipsim/sim-core';
import type { Counts } from '../cost/operations.ts';
import {
  CONNECTION_TIMEOUTS_S,
  CLOSE,
  IN,
  NONE,
  TIME_WAIT,
  isActive,
  nextConnectionState,
} from './connection-states.ts';
import { Connections } from './connections.ts';
import {
  CREATE,
  EXPIRE,
  FLUSH_STEP,
  LOOKUP,
  PROBE,
  SCHEDULE,
  SCHEDULE_STEP,
  SERVICE_LOOKUP,
  SERVICE_PROBE,
  TRANSMIT,
} from './operations.ts';
import { RealServers } from './real-servers.ts';
import { createScheduler, type SchedulerName } from './schedulers/create.ts';
import type { LoadFormula } from './schedulers/least.ts';
import { NO_SERVER, type Scheduler } from './schedulers/scheduler.ts';
import { Trash } from './trash.ts';
import { VirtualServers } from './virtual-servers.ts';

const SECOND = 1_000_000_000;
const TIMEOUT_NS = Float64Array.from(CONNECTION_TIMEOUTS_S, (seconds) => seconds * SECOND);

/** Not IPVS's: no entry, and no virtual server or a TCP packet that cannot open a connection. */
export const PASS = 0;
/** An entry exists: `connection`. */
export const FOUND = 1;
/** A server was chosen and an entry made: `connection`. */
export const OPENED = 2;
/** A virtual server without a server to choose: ICMP port unreachable. */
export const REFUSED = 3;
/** Its entry is of no use any more: dropped, a retransmission will open a new one. */
export const DROPPED = 4;
export type Outcome = typeof PASS | typeof FOUND | typeof OPENED | typeof REFUSED | typeof DROPPED;

export interface DirectorOptions {
  readonly scheduler: SchedulerName;
  readonly connTabBits: number;
  /** The hash seed that the kernel draws at boot. */
  readonly seed: number;
  /** net/ipv4/vs/expire_nodest_conn: entries of a removed server go with it. */
  readonly expireNodest: boolean;
  /** net/ipv4/vs/conn_reuse_mode. */
  readonly reuseMode: 0 | 1;
  readonly loadFormula?: LoadFormula;
}

/**
 * IPVS in the kernel: virtual servers, real servers, scheduler, connections.
 * Models: NAT forwarding, scheduling, TCP states and counters, quiesced and removed servers, port reuse.
 * Source: net/netfilter/ipvs/ip_vs_core.c, ip_vs_conn.c, ip_vs_ctl.c (Linux 6.1 to 6.12).
 * Not modelled: persistence, thresholds, fwmarks, tunnel and direct routing, estimators, defence levels, IPv6.
 */
export class Director {
  readonly options: DirectorOptions;
  readonly services = new VirtualServers();
  readonly servers = new RealServers(this.services);
  readonly connections: Connections;
  readonly scheduler: Scheduler;
  readonly trash = new Trash(this.servers);
  /** The entry that the last `request` found or opened. */
  connection = -1;
  /** Told of each entry that goes, so that its conntrack entry can go too (net/ipv4/vs/conntrack=1). */
  onExpire: ((connection: number) => void) | undefined;
  #soughtProbes = 0;
  #flushDue = false;
  /** Whether that worker will find anything. */
  #orphans = false;

  constructor(options: DirectorOptions) {
    this.options = options;
    this.connections = new Connections(options.connTabBits, options.seed);
    this.scheduler = createScheduler(options.scheduler, this, options.loadFormula);
  }

  /** Add a real server that its virtual server does not have; one that was removed lately comes back with its counts. */
  addServer(service: number, address: number, port: number, weight: number, endpoint: number): number {
    const { servers } = this;
    let server = this.trash.take(service, address, port);
    if (server < 0) server = servers.create(service, address, port);
    servers.weight[server] = weight;
    servers.endpoint[server] = endpoint;
    servers.link(server);
    this.scheduler.added(service, server);
    return server;
  }

  setWeight(server: number, weight: number): void {
    this.servers.weight[server] = weight;
    this.scheduler.updated(this.servers.service[server]!, server);
  }

  removeServer(server: number): void {
    const service = this.servers.service[server]!;
    const predecessor = this.servers.unlink(server);
    this.scheduler.removed(service, server, predecessor);
    this.trash.put(server);
    if (!this.options.expireNodest) return;
    this.#flushDue = true;
    if (this.servers.connections(server) > 0) this.#orphans = true;
  }

  /**
   * Let the worker run that a removal queued: it walks the connection table and deletes the entries of servers
   * that are gone. The kernel starts it a jiffy later, so that a server added back at once keeps its entries.
   */
  settle(counts: Counts): void {
    if (!this.#flushDue) return;
    this.#flushDue = false;
    const { connections, servers } = this;
    counts[FLUSH_STEP]! += connections.buckets + connections.count;
    if (!this.#orphans) return;
    this.#orphans = false;
    for (let at = 0; at < connections.rows; at++) {
      const server = connections.server[at]!;
      if (server >= 0 && servers.available[server] === 0) this.#release(at, true);
    }
  }

  /** The entry of a packet from client to virtual server, -1 without; not counted until `countSeek`. */
  seek(packet: Packet): number {
    const { connections } = this;
    connections.probes = 0;
    const found = connections.findIn(
      packet.source,
      packet.sourcePort,
      packet.destination,
      packet.destinationPort,
      packet.protocol,
    );
    this.#soughtProbes = connections.probes;
    return found;
  }

  countSeek(counts: Counts): void {
    counts[LOOKUP]! += 1;
    counts[PROBE]! += this.#soughtProbes;
  }

  /**
   * A packet from a client, of the entry that `seek` gave. `tracked`: its conntrack entry is an old one, not
   * made for this packet.
   */
  request(found: number, packet: Packet, tracked: boolean, nowNs: number, counts: Counts): Outcome {
    const { connections, servers } = this;
    if (found >= 0) {
      const available = servers.available[connections.server[found]!] === 1;
      if (available && !this.#renewable(found, packet)) {
        this.connection = found;
        this.advance(found, IN, packet.flags, nowNs, counts);
        return FOUND;
      }
      if (!available && !this.options.expireNodest) return DROPPED;
      this.#release(found, tracked);
      if (tracked) return DROPPED;
    }
    if (packet.protocol === TCP && (packet.flags & (SYN | RST)) !== SYN) return PASS;
    return this.#open(packet, nowNs, counts);
  }

  /** The entry of a packet from a real server to `client`:`clientPort`, -1 without. */
  findReply(packet: Packet, client: number, clientPort: number, counts: Counts): number {
    const { connections } = this;
    connections.probes = 0;
    const found = connections.findOut(client, clientPort, packet.source, packet.sourcePort, packet.protocol);
    counts[LOOKUP]! += 1;
    counts[PROBE]! += connections.probes;
    return found;
  }

  /** A packet of an entry passes, from the client (IN) or from the server (OUT): state, counters, timer. */
  advance(connection: number, direction: number, flags: number, nowNs: number, counts: Counts): void {
    const { connections, servers } = this;
    const old = connections.state[connection]!;
    const state = nextConnectionState(connections.protocol[connection]!, old, direction, flags);
    if (state !== old) {
      const server = connections.server[connection]!;
      const gained = (isActive(state) ? 1 : 0) - (isActive(old) ? 1 : 0);
      servers.active[server]! += gained;
      servers.inactive[server]! -= gained;
      connections.state[connection] = state;
    }
    connections.deadlineNs[connection] = nowNs + TIMEOUT_NS[state]!;
    counts[TRANSMIT]! += 1;
  }

  /** Remove entries whose time is over, and removed servers that nothing points to any more. */
  expire(nowNs: number, counts: Counts): void {
    this.settle(counts);
    const { connections } = this;
    const { server, deadlineNs, rows } = connections;
    for (let at = 0; at < rows; at++) {
      if (server[at]! < 0 || deadlineNs[at]! > nowNs) continue;
      counts[EXPIRE]! += 1;
      this.#release(at, true);
    }
    this.trash.expire(nowNs);
  }

  #open(packet: Packet, nowNs: number, counts: Counts): Outcome {
    const { connections, services, servers, scheduler } = this;
    services.probes = 0;
    const service = services.find(packet.protocol, packet.destination, packet.destinationPort);
    counts[SERVICE_LOOKUP]! += 1;
    counts[SERVICE_PROBE]! += services.probes;
    if (service < 0) return PASS;
    scheduler.steps = 0;
    const server = scheduler.pick(service, packet.source, packet.sourcePort);
    counts[SCHEDULE]! += 1;
    counts[SCHEDULE_STEP]! += scheduler.steps;
    if (server === NO_SERVER) return REFUSED;
    const at = connections.add(
      packet.source,
      packet.sourcePort,
      packet.destination,
      packet.destinationPort,
      packet.protocol,
    );
    connections.server[at] = server;
    connections.real[at] = servers.address[server]!;
    connections.realPort[at] = servers.port[server]!;
    connections.state[at] = NONE;
    servers.inactive[server]! += 1;
    counts[CREATE]! += 1;
    this.connection = at;
    this.advance(at, IN, packet.flags, nowNs, counts);
    return OPENED;
  }

  /** Whether a SYN that hits this entry opens a new connection in its place. */
  #renewable(connection: number, packet: Packet): boolean {
    if (packet.protocol !== TCP || (packet.flags & SYN) === 0) return false;
    const { connections, servers, options } = this;
    if (options.expireNodest && servers.weight[connections.server[connection]!] === 0) return true;
    const state = connections.state[connection]!;
    return options.reuseMode !== 0 && (state === TIME_WAIT || state === CLOSE);
  }

  #release(connection: number, conntrackToo: boolean): void {
    const { connections, servers } = this;
    const server = connections.server[connection]!;
    if (conntrackToo) this.onExpire?.(connection);
    if (isActive(connections.state[connection]!)) servers.active[server]! -= 1;
    else servers.inactive[server]! -= 1;
    connections.remove(connection);
  }
}
