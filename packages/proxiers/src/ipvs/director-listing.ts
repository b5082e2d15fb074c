import { Ipv6Family, IPV4, type AddressFamily } from '@vipsim/sim-core';
import { CONNECTION_STATES } from './connection-states.ts';
import { ASSURED, TEMPLATE } from './connections.ts';
import type { Director } from './director.ts';
import {
  NO_TRAFFIC,
  comparePlaces,
  compareServices,
  mergeSorted,
  type ListedConnection,
  type ListedServer,
  type ListedService,
  type Place,
  type Traffic,
} from './listing.ts';

/** What is told of a virtual and of a real server's traffic, by row. */
export interface TrafficView {
  service(row: number): Traffic;
  server(row: number): Traffic;
}

const UNSEEN: TrafficView = { service: () => NO_TRAFFIC, server: () => NO_TRAFFIC };

/** A director's virtual servers with their real servers, in ipvsadm's order. */
export function* listedServices(director: Director, traffic = UNSEEN): Generator<ListedService> {
  const rows: (ListedService & { readonly service: number })[] = [];
  for (let service = 0; service < director.services.rows; service++) {
    if (director.services.live[service] === 1)
      rows.push({ service, ...listedService(director, service, traffic) });
  }
  for (const { service, ...row } of mergeSorted(rows, compareServices)) {
    yield { ...row, servers: mergeSorted(listedServers(director, service, traffic), comparePlaces) };
  }
}

/**
 * A director's connections and templates by hash chain, which is the kernel's order but for the order within a
 * chain; a chain depends on a seed that the kernel draws at boot.
 */
export function listedConnections(director: Director, nowNs = director.nowNs): ListedConnection[] {
  const { connections } = director;
  const rows: { readonly row: number; readonly bucket: number }[] = [];
  for (let row = 0; row < connections.rows; row++) {
    if (connections.server[row]! < 0) continue;
    const { client, clientPort, protocol } = connections;
    rows.push({ row, bucket: connections.bucketOf(client[row]!, clientPort[row]!, protocol[row]!) });
  }
  rows.sort((a, b) => a.bucket - b.bucket || b.row - a.row);
  return rows.map(({ row }) => listedConnection(director, row, nowNs));
}

/** Without its servers. */
function listedService(director: Director, service: number, traffic: TrafficView): ListedService {
  const { services, schedulers } = director;
  const family = familyOf(director);
  const scheduler = schedulers.of(service).name;
  const mark = services.mark[service]!;
  return {
    protocol: mark === 0 ? services.protocol[service]! : 0,
    mark,
    ...placeOf(family, mark === 0 ? services.address[service]! : 0, services.port[service]!),
    scheduler,
    flags: flagsText(scheduler, schedulers.flags(service)),
    persistentS: services.persistenceS[service]!,
    clientPrefix: family.prefixOf(services.netmask[service]!),
    engine: '',
    onePacket: services.onePacket[service] === 1,
    traffic: traffic.service(service),
    servers: [],
  };
}

function listedServers(director: Director, service: number, traffic: TrafficView): ListedServer[] {
  const { services, servers, templates } = director;
  const family = familyOf(director);
  const listed: ListedServer[] = [];
  for (let at = services.head[service]!; at >= 0; at = servers.next[at]!) {
    listed.push({
      ...placeOf(family, servers.address[at]!, servers.port[at]!),
      forward: 'Masq',
      tunnel: '',
      weight: servers.weight[at]!,
      active: servers.active[at]!,
      inactive: servers.inactive[at]!,
      persistent: templates.perServer[at] ?? 0,
      upperThreshold: servers.upper[at]!,
      lowerThreshold: servers.lower[at]!,
      traffic: traffic.server(at),
    });
  }
  return listed;
}

/** Seconds are cut off, as the kernel's division does it. */
function listedConnection(director: Director, row: number, nowNs: number): ListedConnection {
  const { connections } = director;
  const family = familyOf(director);
  const flags = connections.flags[row]!;
  const template = (flags & ASSURED) !== 0 ? 'ASSURED' : 'NONE';
  const { client, clientPort, virtual, virtualPort, real, realPort } = connections;
  return {
    protocol: connections.protocol[row]!,
    expiresS: Math.max(0, Math.floor((connections.deadlineNs[row]! - nowNs) / 1_000_000_000)),
    state: (flags & TEMPLATE) !== 0 ? template : CONNECTION_STATES[connections.state[row]!]!,
    client: placeOf(family, client[row]!, clientPort[row]!),
    virtual: placeOf(family, virtual[row]!, virtualPort[row]!),
    server: placeOf(family, real[row]!, realPort[row]!),
  };
}

function familyOf({ options }: Director): AddressFamily {
  return options.family ?? IPV4;
}

function placeOf(family: AddressFamily, address: number, port: number): Place {
  return { address: family instanceof Ipv6Family ? family.book.words(address) : [address], port };
}

/** sh and mh have names for their flags. */
function flagsText(scheduler: string, flags: { readonly fallback: boolean; readonly port: boolean }): string {
  const named = scheduler === 'sh' || scheduler === 'mh';
  const fallback = named ? `${scheduler}-fallback` : 'flag-1';
  const port = named ? `${scheduler}-port` : 'flag-2';
  return [...(flags.fallback ? [fallback] : []), ...(flags.port ? [port] : [])].join(',');
}
