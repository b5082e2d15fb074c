import { SYN, TCP, UDP, type Packet } from '@vipsim/sim-core';
import type { Counts } from '../cost/operations.ts';
import { OUT } from './connection-states.ts';
import type { ServerSettings } from './director-options.ts';
import { Director, FOUND, OPENED, type Outcome } from './director.ts';
import { TrafficTable } from './traffic-table.ts';

const ESTIMATE_NS = 2_000_000_000;
/** TCP as Linux sends it, with options: a SYN 40 bytes, others with a timestamp 32. */
const SYN_BYTES = 40;
const SEGMENT_BYTES = 32;
const UDP_BYTES = 8;
const SCTP_BYTES = 12;

/**
 * A director that keeps what `ipvsadm --stats` and `--rate` show: connections, packets and bytes of virtual and
 * real servers. Packets here have no length: their bytes are those of their headers, without payload.
 * Source: ip_vs_core.c, ip_vs_est.c.
 */
export class MeteredDirector extends Director {
  readonly serviceTraffic = new TrafficTable();
  readonly serverTraffic = new TrafficTable();
  #estimatedNs = 0;

  override request(found: number, packet: Packet, tracked: boolean, nowNs: number, counts: Counts): Outcome {
    const outcome = super.request(found, packet, tracked, nowNs, counts);
    if (outcome !== FOUND && outcome !== OPENED) return outcome;
    const { server } = this;
    const service = this.servers.service[server]!;
    const bytes = this.#bytesOf(packet.protocol, packet.flags);
    if (outcome === OPENED) {
      this.serviceTraffic.opened(service);
      this.serverTraffic.opened(server);
    }
    this.serviceTraffic.packetIn(service, bytes);
    this.serverTraffic.packetIn(server, bytes);
    return outcome;
  }

  override advance(
    connection: number,
    direction: number,
    flags: number,
    nowNs: number,
    counts: Counts,
  ): void {
    super.advance(connection, direction, flags, nowNs, counts);
    if (direction !== OUT) return;
    const server = this.connections.server[connection]!;
    const bytes = this.#bytesOf(this.connections.protocol[connection]!, flags);
    this.serviceTraffic.packetOut(this.servers.service[server]!, bytes);
    this.serverTraffic.packetOut(server, bytes);
  }

  override expire(nowNs: number, counts: Counts): void {
    super.expire(nowNs, counts);
    for (; this.#estimatedNs + ESTIMATE_NS <= nowNs; this.#estimatedNs += ESTIMATE_NS) {
      this.serviceTraffic.estimate();
      this.serverTraffic.estimate();
    }
  }

  override addServer(
    service: number,
    address: number,
    port: number,
    weight: number,
    endpoint: number,
    thresholds: Omit<ServerSettings, 'weight'> = {},
  ): number {
    const removed = this.trash.size;
    const server = super.addServer(service, address, port, weight, endpoint, thresholds);
    // One that comes back from the trash has its figures still.
    if (this.trash.size === removed) this.serverTraffic.clear(server);
    return server;
  }

  #bytesOf(protocol: number, flags: number): number {
    const ip = this.options.family?.name === 'ipv6' ? 40 : 20;
    if (protocol === TCP) return ip + ((flags & SYN) !== 0 ? SYN_BYTES : SEGMENT_BYTES);
    return ip + (protocol === UDP ? UDP_BYTES : SCTP_BYTES);
  }
}
