import { longer, type AddressFamily, type Packet } from '@vipsim/sim-core';
import { TEMPLATE, type Connections } from './connections.ts';
import type { RealServers } from './real-servers.ts';
import type { VirtualServers } from './virtual-servers.ts';

const FTP = 21;
const ALL_BITS = 0xffffffff;
/** The ports of a template that is of no use any more and only waits to run out. */
const IMPOSSIBLE_PORT = 0xffff;
/** A template starts as NONE. */
const NONE = 0;

/**
 * Persistence templates: which server a client of a persistent virtual server has. Clients are told apart by
 * address and netmask, without their port:
 *
 *     a port's virtual server    <protocol, client, 0, virtual address, virtual port>
 *     one of any port, or FTP    <protocol, client, 0, virtual address, 0>
 *     one by firewall mark       <0, client, 0, mark, 0>
 *
 * Source: ip_vs_sched_persist, ip_vs_core.c; ip_vs_ct_in_get, ip_vs_check_template, ip_vs_conn.c.
 * Not modelled: persistence engines (SIP).
 */
export class Templates {
  /** By real server: how many templates point to it. */
  perServer: Uint32Array = new Uint32Array(16);
  readonly #connections: Connections;
  readonly #services: VirtualServers;
  readonly #servers: RealServers;
  readonly #family: AddressFamily;
  // The key that `find` looked for, and `create` makes a template with.
  #client = 0;
  #virtual = 0;
  #port = 0;
  #protocol = 0;

  constructor(
    connections: Connections,
    services: VirtualServers,
    servers: RealServers,
    family: AddressFamily,
  ) {
    this.#connections = connections;
    this.#services = services;
    this.#servers = servers;
    this.#family = family;
  }

  /**
   * The template of the packet's client, -1 if it has none that is of use. One whose server is gone, or with
   * `quiescentEnds` has weight 0, is put where nobody finds it; it runs out there.
   */
  find(service: number, packet: Packet, quiescentEnds: boolean): number {
    this.#key(service, packet);
    const connections = this.#connections;
    const at = connections.findIn(this.#client, 0, this.#virtual, this.#port, this.#protocol);
    if (at < 0) return -1;
    const server = connections.server[at]!;
    const servers = this.#servers;
    if (servers.available[server] === 1 && !(quiescentEnds && servers.weight[server] === 0)) return at;
    if (this.#port !== IMPOSSIBLE_PORT) connections.rehash(at, IMPOSSIBLE_PORT, IMPOSSIBLE_PORT);
    return -1;
  }

  /** A template for the client that `find` has just found without one. */
  create(service: number, packet: Packet, server: number): number {
    const connections = this.#connections;
    const servers = this.#servers;
    const at = connections.add(this.#client, 0, this.#virtual, this.#port, this.#protocol);
    const port = this.#services.port[service]!;
    connections.flags[at] = TEMPLATE;
    connections.server[at] = server;
    connections.real[at] = servers.address[server]!;
    connections.realPort[at] = packet.destinationPort === port && port !== FTP ? servers.port[server]! : 0;
    connections.state[at] = NONE;
    if (server >= this.perServer.length) this.perServer = longer(this.perServer, server * 2);
    this.perServer[server]! += 1;
    servers.hold(server);
    servers.bound(server);
    return at;
  }

  /** A template goes; the caller takes it out of the table. */
  gone(server: number): void {
    this.perServer[server]! -= 1;
    this.#servers.unbound(server);
    this.#servers.release(server);
  }

  #key(service: number, packet: Packet): void {
    const { mark, netmask, port } = this.#services;
    const mask = netmask[service]!;
    this.#client = packet.source;
    if (mask !== ALL_BITS) {
      this.#client = this.#family.network(packet.source, this.#family.prefixOf(mask)).address;
    }
    this.#protocol = packet.protocol;
    this.#virtual = packet.destination;
    this.#port = 0;
    if (packet.destinationPort === port[service]) {
      if (packet.destinationPort !== FTP) this.#port = packet.destinationPort;
    } else if (mark[service] !== 0) {
      this.#protocol = 0;
      this.#virtual = mark[service]!;
    }
  }
}
