import { RST, SYN, TCP, UDP, type Packet } from '@vipsim/sim-core';
import type { Counts } from '../cost/operations.ts';
import {
  CLOSE,
  ESTABLISHED,
  IN,
  NONE,
  OUT,
  TIME_WAIT,
  isActive,
  nextConnectionState,
} from './connection-states.ts';
import { ASSURED, CONNTRACK } from './connections.ts';
import type { DirectorOptions } from './director-options.ts';
import { DirectorTables } from './director-tables.ts';
import {
  CREATE,
  LOOKUP,
  PROBE,
  SCHEDULE,
  SCHEDULE_STEP,
  SERVICE_LOOKUP,
  SERVICE_PROBE,
  TRANSMIT,
} from './operations.ts';
import { NO_SERVER } from './schedulers/scheduler.ts';

export type { DirectorOptions } from './director-options.ts';

const FTP = 21;

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

/**
 * IPVS in the kernel: virtual servers, real servers, schedulers, connections, templates, timers.
 * Models: NAT forwarding, scheduling, persistence, firewall marks, one-packet scheduling, TCP states and counters,
 * thresholds, quiesced and removed servers, port reuse, the timer wheel, drop_packet and drop_entry.
 * Source: net/netfilter/ipvs/ip_vs_core.c, ip_vs_conn.c, ip_vs_ctl.c (Linux 6.1 to 6.12).
 * Not modelled: tunnel and direct routing, FTP's data connections, SCTP's states, secure_tcp,
 * memory, on which drop_packet and drop_entry may be told to depend, estimators, cache_bypass, IPv4 and IPv6 in the same chains.
 */
export class Director extends DirectorTables {
  /** The firewall mark of the packet that `request` is given; 0 without. */
  mark = 0;
  /** The entry that the last `request` found or opened; -1 for a packet that is scheduled by itself. */
  connection = -1;
  /** The server that it goes to, and the port there. */
  server = NO_SERVER;
  serverPort = 0;
  /** Chain entries that the last `seek` compared. */
  soughtProbes = 0;
  #untilDrop: number;

  constructor(options: DirectorOptions) {
    super(options);
    this.#untilDrop = options.dropEach ?? 0;
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
    this.soughtProbes = connections.probes;
    return found;
  }

  countSeek(counts: Counts): void {
    counts[LOOKUP]! += 1;
    counts[PROBE]! += this.soughtProbes;
  }

  /**
   * A packet from a client, of the entry that `seek` gave. `tracked`: its conntrack entry is an old one, not
   * made for this packet.
   */
  request(found: number, packet: Packet, tracked: boolean, nowNs: number, counts: Counts): Outcome {
    const { connections, servers } = this;
    this.nowNs = nowNs;
    if (found >= 0) {
      const server = connections.server[found]!;
      const available = servers.available[server] === 1;
      if (available && !this.#renewable(found, packet)) {
        this.connection = found;
        this.server = server;
        this.serverPort = connections.realPort[found]!;
        this.advance(found, IN, packet.flags, nowNs, counts);
        return FOUND;
      }
      if (!available && !this.options.expireNodest && !this.#renewable(found, packet)) return DROPPED;
      // A conntrack entry made for this packet is to serve the connection that it opens now.
      if (!tracked) connections.flags[found]! &= ~CONNTRACK;
      this.timers.startLast(found, nowNs);
      if (tracked) return DROPPED;
    }
    if (packet.protocol === TCP && !this.#opens(packet.flags)) return PASS;
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
    const protocol = connections.protocol[connection]!;
    const state = nextConnectionState(protocol, old, direction, flags);
    if (state !== old) {
      const server = connections.server[connection]!;
      const gained = (isActive(state) ? 1 : 0) - (isActive(old) ? 1 : 0);
      servers.active[server]! += gained;
      servers.inactive[server]! -= gained;
      connections.state[connection] = state;
    }
    const control = connections.control[connection]!;
    if (control >= 0 && (protocol === TCP ? state === ESTABLISHED : direction === OUT)) {
      connections.flags[control]! |= ASSURED;
    }
    if (direction === IN) this.#countIn(connection);
    connections.timeout[connection] = this.timeouts[state]!;
    this.timers.start(connection, nowNs);
    counts[TRANSMIT]! += 1;
  }

  /** Whether TCP flags can open a connection. */
  #opens(flags: number): boolean {
    return (flags & RST) === 0 && ((flags & SYN) !== 0 || this.options.sloppyTcp === true);
  }

  #open(packet: Packet, nowNs: number, counts: Counts): Outcome {
    const { services, servers } = this;
    services.probes = 0;
    services.lookups = 0;
    const service = services.lookup(this.mark, packet.protocol, packet.destination, packet.destinationPort);
    counts[SERVICE_LOOKUP]! += services.lookups;
    counts[SERVICE_PROBE]! += services.probes;
    if (service < 0) return PASS;
    if (this.#untilDrop > 0 && --this.#untilDrop === 0) {
      this.#untilDrop = this.options.dropEach!;
      return DROPPED;
    }
    if (services.persistenceS[service]! > 0) return this.#openPersistent(service, packet, nowNs, counts);
    const anyPort = services.mark[service] !== 0 || services.port[service] === packet.destinationPort;
    // The port of an FTP service serves its own connections; others that might be its data are not ours.
    if (!anyPort) return services.port[service] === FTP ? PASS : REFUSED;
    const server = this.#schedule(service, packet, nowNs, counts);
    if (server === NO_SERVER) return REFUSED;
    const port = servers.port[server]! || packet.destinationPort;
    return this.#bind(service, packet, server, port, -1, nowNs, counts);
  }

  #openPersistent(service: number, packet: Packet, nowNs: number, counts: Counts): Outcome {
    const { connections, services, servers, templates } = this;
    connections.probes = 0;
    let template = templates.find(service, packet, this.options.expireQuiescentTemplate === true);
    counts[LOOKUP]! += 1;
    counts[PROBE]! += connections.probes;
    if (template < 0) {
      const chosen = this.#schedule(service, packet, nowNs, counts);
      if (chosen === NO_SERVER) return REFUSED;
      template = templates.create(service, packet, chosen);
      connections.timeout[template] = services.persistenceS[service]! * this.jiffies.hz;
      counts[CREATE]! += 1;
    }
    const server = connections.server[template]!;
    this.timers.start(template, nowNs);
    let port = packet.destinationPort;
    if (port === services.port[service] && servers.port[server] !== 0) port = servers.port[server]!;
    return this.#bind(service, packet, server, port, template, nowNs, counts);
  }

  #schedule(service: number, packet: Packet, nowNs: number, counts: Counts): number {
    const scheduler = this.schedulers.of(service);
    scheduler.steps = 0;
    const server = scheduler.pick(service, packet.source, packet.sourcePort, packet.destination, nowNs);
    counts[SCHEDULE]! += 1;
    counts[SCHEDULE_STEP]! += scheduler.steps;
    return server;
  }

  /** The connection gets its server, and an entry unless it is of one packet. */
  #bind(
    service: number,
    packet: Packet,
    server: number,
    port: number,
    template: number,
    nowNs: number,
    counts: Counts,
  ): Outcome {
    const { connections, servers } = this;
    this.server = server;
    this.serverPort = port;
    counts[CREATE]! += 1;
    if (this.services.onePacket[service] === 1 && packet.protocol === UDP) {
      this.connection = -1;
      servers.bind(server);
      servers.unbind(server, false);
      if (template >= 0) this.#countIn(template);
      counts[TRANSMIT]! += 1;
      return OPENED;
    }
    const at = connections.add(
      packet.source,
      packet.sourcePort,
      packet.destination,
      packet.destinationPort,
      packet.protocol,
    );
    connections.server[at] = server;
    connections.real[at] = servers.address[server]!;
    connections.realPort[at] = port;
    connections.state[at] = NONE;
    connections.flags[at] = CONNTRACK;
    servers.bind(server);
    if (template >= 0) {
      connections.control[at] = template;
      connections.controlled[template]! += 1;
    }
    this.connection = at;
    this.advance(at, IN, packet.flags, nowNs, counts);
    return OPENED;
  }

  #countIn(connection: number): void {
    const { packetsIn } = this.connections;
    if (packetsIn[connection]! < 9) packetsIn[connection]! += 1;
  }

  /** Whether a SYN that hits this entry opens a new connection in its place. */
  #renewable(connection: number, packet: Packet): boolean {
    if (packet.protocol !== TCP || (packet.flags & SYN) === 0) return false;
    const { connections, servers, options } = this;
    if (options.expireNodest && servers.weight[connections.server[connection]!] === 0) return true;
    if (options.reuseMode === 0 || connections.control[connection]! >= 0) return false;
    const state = connections.state[connection]!;
    return state === TIME_WAIT || state === CLOSE;
  }
}
