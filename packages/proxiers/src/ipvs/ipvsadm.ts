import { formatIpv4, netmask } from '@vipsim/sim-core';
import type { Director } from './director.ts';
import { listedServices } from './director-listing.ts';
import {
  placeText,
  protocolText,
  type Forward,
  type ListedConnection,
  type ListedServer,
  type ListedService,
  type Selected,
  type Traffic,
} from './listing.ts';
import type { Timeouts } from './start-up.ts';

/**
 * What `ipvsadm` 1.31 prints, line by line. It sorts by protocol, address and port, so not as the kernel keeps its
 * lists. Source: print_title, print_service_entry, print_conn and print_largenum, ipvsadm.c.
 * Not modelled: names in place of numbers (without -n), --tun-info, connections with a persistence engine.
 */

const RULE_SWITCHES: Readonly<Record<Forward, string>> = {
  Masq: '-m',
  Tunnel: '-i',
  Route: '-g',
  // A server that is the node itself is restored as a route, which the kernel makes local again.
  Local: '-g',
};

/** `ipvsadm -Ln`. */
export function list(director: Director): Generator<string> {
  return serviceList(listedServices(director), director.connections.buckets);
}

/** `ipvsadm -Sn`: what `ipvsadm -R` restores. */
export function save(director: Director): Generator<string> {
  return savedLines(listedServices(director));
}

export function* serviceList(services: Iterable<ListedService>, buckets: number): Generator<string> {
  yield versionLine(buckets);
  yield 'Prot LocalAddress:Port Scheduler Flags';
  yield '  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn';
  for (const service of services) {
    yield serviceLine(service);
    for (const server of service.servers) {
      const { forward, weight, active, inactive } = server;
      yield `${serverName(server)} ${forward.padEnd(7)} ${wide(weight, 6)} ${wide(active, 10)} ${wide(inactive, 10)}`;
    }
  }
}

/** `ipvsadm -Ln --stats`; `exact` as with `--exact`. */
export function statisticsList(
  services: Iterable<ListedService>,
  buckets: number,
  exact = false,
): Generator<string> {
  return trafficList(services, buckets, exact, ['Conns', 'InPkts', 'OutPkts', 'InBytes', 'OutBytes']);
}

/** `ipvsadm -Ln --rate`: services and servers with their rates for traffic. */
export function rateList(
  services: Iterable<ListedService>,
  buckets: number,
  exact = false,
): Generator<string> {
  return trafficList(services, buckets, exact, ['CPS', 'InPPS', 'OutPPS', 'InBPS', 'OutBPS']);
}

/** `ipvsadm -Ln --thresholds`. */
export function* thresholdList(services: Iterable<ListedService>, buckets: number): Generator<string> {
  yield versionLine(buckets);
  yield `${'Prot LocalAddress:Port'.padEnd(33)} Uthreshold Lthreshold ActiveConn InActConn `;
  yield '  -> RemoteAddress:Port';
  for (const service of services) {
    yield serviceLine(service);
    for (const server of service.servers) {
      const { upperThreshold, lowerThreshold, active, inactive } = server;
      const figures = [upperThreshold, lowerThreshold, active, inactive].map((value) => wide(value, 10));
      yield `${serverName(server)} ${figures.join(' ')}`;
    }
  }
}

/** `ipvsadm -Ln --persistent-conn`. */
export function* persistentList(services: Iterable<ListedService>, buckets: number): Generator<string> {
  yield versionLine(buckets);
  yield `${'Prot LocalAddress:Port'.padEnd(33)} Weight    PersistConn ActiveConn InActConn `;
  yield '  -> RemoteAddress:Port';
  for (const service of services) {
    yield serviceLine(service);
    for (const server of service.servers) {
      const { weight, persistent, active, inactive } = server;
      yield `${serverName(server)} ${wide(weight, 9)} ${wide(persistent, 11)} ${wide(active, 10)} ${wide(inactive, 10)}`;
    }
  }
}

/** `ipvsadm -Lnc`. */
export function* connectionList(connections: Iterable<ListedConnection>): Generator<string> {
  yield 'IPVS connection entries';
  yield `pro expire ${'state'.padEnd(11)} ${'source'.padEnd(18)} ${'virtual'.padEnd(18)} destination`;
  for (const { protocol, expiresS, state, client, virtual, server } of connections) {
    const minutes = String(Math.floor(expiresS / 60)).padStart(2, '0');
    const expires = `${minutes}:${String(expiresS % 60).padStart(2, '0')}`;
    const [from, to] = [placeText(client).padEnd(18), placeText(virtual).padEnd(18)];
    yield `${protocolText(protocol).padEnd(3)} ${expires.padEnd(6)} ${state.padEnd(11)} ${from} ${to} ${placeText(server)}`;
  }
}

export function* savedLines(services: Iterable<ListedService>): Generator<string> {
  for (const service of services) {
    const selector = selectorText(service);
    yield `-A ${selector} -s ${service.scheduler}${persistenceText(service, ' -p ', ' -M ', ' --pe ')}${
      service.onePacket ? ' -o' : ''
    }${service.flags === '' ? '' : ` -b ${service.flags}`}`;
    for (const { forward, weight, tunnel, address, port } of service.servers) {
      const place = placeText({ address, port });
      const type = forward === 'Tunnel' && tunnel !== '' ? ` --tun-type ${tunnel}` : '';
      yield `-a ${selector} -r ${place} ${RULE_SWITCHES[forward]} -w ${weight}${type}`;
    }
  }
}

/** `-t 10.96.0.1:80`, `-f 1 -6`: how commands name a virtual server. */
export function selectorText(selected: Selected): string {
  const { protocol, mark, address } = selected;
  if (mark !== 0) return `-f ${mark}${address.length === 1 ? '' : ' -6'}`;
  const name = protocolText(protocol);
  const option = name === 'TCP' ? '-t' : name === 'UDP' ? '-u' : '--sctp-service';
  return `${option} ${placeText(selected)}`;
}

/** `ipvsadm -L --timeout`. */
export function timeoutLine({ tcpS, tcpFinS, udpS }: Timeouts): string {
  return `Timeout (tcp tcpfin udp): ${tcpS} ${tcpFinS} ${udpS}`;
}

function* trafficList(
  services: Iterable<ListedService>,
  buckets: number,
  exact: boolean,
  titles: readonly string[],
): Generator<string> {
  yield versionLine(buckets);
  yield `${'Prot LocalAddress:Port'.padEnd(33)} ${titles.map((title) => title.padStart(8)).join(' ')}`;
  yield '  -> RemoteAddress:Port';
  for (const service of services) {
    yield `${serviceName(service).padEnd(33)}${trafficText(service.traffic, exact)}`;
    for (const server of service.servers) yield `${serverName(server)}${trafficText(server.traffic, exact)}`;
  }
}

function trafficText(traffic: Traffic, exact: boolean): string {
  const { connections, packetsIn, packetsOut, bytesIn, bytesOut } = traffic;
  return [connections, packetsIn, packetsOut, bytesIn, bytesOut]
    .map((value) => (exact ? exactNumber(value) : largeNumber(value)))
    .join('');
}

function largeNumber(value: number): string {
  if (value < 100_000_000) return String(value).padStart(9);
  if (value < 1_000_000_000) return scaled(value, 1_000, 'K');
  if (value < 100_000_000_000) return scaled(value, 1_000_000, 'M');
  if (value < 100_000_000_000_000) return scaled(value, 1_000_000_000, 'G');
  return scaled(value, 1_000_000_000_000, 'T');
}

function scaled(value: number, unit: number, letter: string): string {
  return `${String(Math.floor(value / unit)).padStart(8)}${letter}`;
}

function exactNumber(value: number): string {
  const text = String(value);
  return text.padStart(text.length <= 8 ? 9 : text.length + 1);
}

function versionLine(buckets: number): string {
  return `IP Virtual Server version 1.2.1 (size=${buckets})`;
}

function serviceName(service: ListedService): string {
  const { mark, protocol, address } = service;
  if (mark !== 0) return `FWM  ${mark}${address.length === 1 ? '' : ' IPv6'}`;
  return `${protocolText(protocol).padEnd(4)} ${placeText(service)}`;
}

function serviceLine(service: ListedService): string {
  const { scheduler, onePacket, flags } = service;
  const persistence = persistenceText(service, ' persistent ', ' mask ', ' pe ');
  return `${serviceName(service)} ${scheduler}${persistence}${onePacket ? ' ops' : ''}${flags === '' ? '' : ` (${flags})`}`;
}

function persistenceText(service: ListedService, time: string, mask: string, engine: string): string {
  const { persistentS, clientPrefix, address } = service;
  if (persistentS === 0) return '';
  const isIpv4 = address.length === 1;
  const shared = clientPrefix < (isIpv4 ? 32 : 128);
  const maskText = isIpv4 ? formatIpv4(netmask(clientPrefix)) : String(clientPrefix);
  return `${time}${persistentS}${shared ? mask + maskText : ''}${service.engine === '' ? '' : engine + service.engine}`;
}

function serverName(server: ListedServer): string {
  return `  -> ${placeText(server).padEnd(28)}`;
}

function wide(value: number, width: number): string {
  return String(value).padEnd(width);
}
