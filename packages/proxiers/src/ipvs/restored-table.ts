import { IPV4, Ipv6Family, Packet, type AddressFamily, type Ipv6 } from '@vipsim/sim-core';
import { DROPPED, Director, PASS, REFUSED } from './director.ts';
import type { ListedServer, ListedService, Place } from './listing.ts';
import { IPVS_OPERATIONS, SCHEDULE_STEP, SERVICE_LOOKUP, SERVICE_PROBE } from './operations.ts';
import type { SchedulerName } from './schedulers/create.ts';
import type { Draws } from './schedulers/options.ts';
import { serviceBucket } from './virtual-servers.ts';

/** What a packet may look like to virtual servers of a listing. */
export interface AddressedPacket {
  readonly protocol: number;
  /** One word (IPv4) or four (IPv6), as in the table. */
  readonly source: readonly number[];
  readonly sourcePort: number;
  readonly destination: readonly number[];
  readonly destinationPort: number;
  readonly flags: number;
}

export type Scheduled =
  /** Not for IPVS: no virtual server takes it, or it cannot open a connection. */
  | { readonly fate: 'passed'; readonly search: ServiceSearch }
  /** No server to choose: the sender gets ICMP port unreachable. */
  | {
      readonly fate: 'refused';
      readonly search: ServiceSearch;
      readonly service: ListedService;
      readonly steps: number;
    }
  | { readonly fate: 'dropped' }
  | {
      readonly fate: 'sent';
      readonly search: ServiceSearch;
      readonly service: ListedService;
      readonly server: ListedServer;
      /** Where it goes: the server, with the packet's own port if the server has none. */
      readonly place: Place;
      /** Servers, slots and cache entries that the scheduler looked at. */
      readonly steps: number;
    };

export interface ServiceSearch {
  readonly bucket: number;
  /** Hash tables searched, and chain entries compared. */
  readonly lookups: number;
  readonly compared: number;
}

/**
 * The virtual servers of a listing in a director, added in its order: what `ipvsadm -R` makes of it. The listing of
 * ipvsadm is sorted, so the order in which its servers were added first is lost: the last of them is the newest
 * here, and schedulers begin with it.
 * Not modelled: persistence engines; what a tunnel or a route does to a packet on its way.
 */
export class RestoredTable {
  readonly director: Director;
  readonly #family: AddressFamily;
  readonly #services: (ListedService | undefined)[] = [];
  readonly #servers = new Map<number, ListedServer>();
  readonly #packet = new Packet();
  readonly #counts = new Float64Array(IPVS_OPERATIONS.length);

  /** @param family 4 or 6: services of the other are left out. */
  constructor(services: readonly ListedService[], family: 4 | 6, draws: Draws) {
    this.#family = family === 4 ? IPV4 : new Ipv6Family();
    this.director = new Director({
      scheduler: 'rr',
      connTabBits: 12,
      seed: 0,
      expireNodest: false,
      reuseMode: 1,
      family: this.#family,
      draws,
    });
    for (const service of services) {
      if (service.address.length === (family === 4 ? 1 : 4)) this.#add(service);
    }
  }

  /** @param mark the packet's firewall mark, 0 without. */
  send(packet: AddressedPacket, nowNs: number, mark = 0): Scheduled {
    const { director } = this;
    const sent = this.#packet;
    sent.protocol = packet.protocol;
    sent.source = this.#column(packet.source);
    sent.sourcePort = packet.sourcePort;
    sent.destination = this.#column(packet.destination);
    sent.destinationPort = packet.destinationPort;
    sent.flags = packet.flags;
    const counts = this.#counts.fill(0);
    director.mark = mark;
    const outcome = director.request(director.seek(sent), sent, false, nowNs, counts);
    const fold = packet.destination.reduce((folded, word) => folded ^ word, 0);
    const search = {
      bucket: serviceBucket(sent.protocol, fold, sent.destinationPort),
      lookups: counts[SERVICE_LOOKUP]!,
      compared: counts[SERVICE_PROBE]!,
    };
    const steps = counts[SCHEDULE_STEP]!;
    if (outcome === DROPPED) return { fate: 'dropped' };
    if (outcome === PASS) return { fate: 'passed', search };
    if (outcome === REFUSED) {
      const row = director.services.lookup(mark, sent.protocol, sent.destination, sent.destinationPort);
      return { fate: 'refused', search, service: this.#services[row]!, steps };
    }
    const server = this.#servers.get(director.server)!;
    const service = this.#services[director.servers.service[director.server]!]!;
    const place = { address: server.address, port: director.serverPort };
    return { fate: 'sent', search, service, server, place, steps };
  }

  #add(service: ListedService): void {
    const { director } = this;
    const { mark, persistentS, onePacket, flags } = service;
    const settings = {
      scheduler: service.scheduler as SchedulerName,
      port: flags.includes('-port'),
      fallback: flags.includes('-fallback'),
      persistenceS: persistentS,
      netmask: this.#family.mask(service.clientPrefix),
      onePacket,
    };
    const row =
      mark === 0
        ? director.addService(service.protocol, this.#column(service.address), service.port, settings)
        : director.addMarkService(mark, settings);
    this.#services[row] = service;
    for (const server of service.servers) {
      const { weight, upperThreshold: upper, lowerThreshold: lower } = server;
      const added = director.addServer(row, this.#column(server.address), server.port, weight, -1, {
        upper,
        lower,
      });
      this.#servers.set(added, server);
    }
  }

  /** An address as the director's columns have it. */
  #column(address: readonly number[]): number {
    const family = this.#family;
    if (family instanceof Ipv6Family) return family.book.intern(address as Ipv6);
    return address[0]!;
  }
}
