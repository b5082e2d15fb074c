import { TCP, UDP, formatIpv4 } from '@vipsim/sim-core';
import type { Director } from './director.ts';

/**
 * What `ipvsadm` 1.31 prints: sorted by protocol, address and port, so not in the order in which the kernel
 * keeps its lists.
 */

/** `ipvsadm -Ln`. */
export function* list(director: Director): Generator<string> {
  const { services, servers, connections } = director;
  yield `IP Virtual Server version 1.2.1 (size=${connections.buckets})`;
  yield 'Prot LocalAddress:Port Scheduler Flags';
  yield '  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn';
  for (const service of sortedServices(director)) {
    const protocol = services.protocol[service]!;
    const name = protocol === TCP ? 'TCP' : protocol === UDP ? 'UDP' : 'SCTP';
    const persistence = services.persistenceS[service]!;
    const flags = persistence === 0 ? '' : ` persistent ${persistence}`;
    yield `${name.padEnd(4)} ${serviceText(director, service)} ${director.scheduler.name}${flags}`;
    for (const server of sortedServers(director, service)) {
      const weight = String(servers.weight[server]!).padEnd(6);
      const active = String(servers.active[server]!).padEnd(10);
      const inactive = String(servers.inactive[server]!).padEnd(10);
      yield `  -> ${serverText(director, server).padEnd(28)} Masq    ${weight} ${active} ${inactive}`;
    }
  }
}

/** `ipvsadm -Sn`: what `ipvsadm -R` restores. */
export function* save(director: Director): Generator<string> {
  const { services, servers } = director;
  for (const service of sortedServices(director)) {
    const protocol = services.protocol[service]!;
    const selector = protocol === TCP ? '-t' : protocol === UDP ? '-u' : '--sctp-service';
    const place = `${selector} ${serviceText(director, service)}`;
    const persistence = services.persistenceS[service]!;
    yield `-A ${place} -s ${director.scheduler.name}${persistence === 0 ? '' : ` -p ${persistence}`}`;
    for (const server of sortedServers(director, service)) {
      yield `-a ${place} -r ${serverText(director, server)} -m -w ${servers.weight[server]!}`;
    }
  }
}

function sortedServices({ services }: Director): Uint32Array {
  const { protocol, address, port } = services;
  return Uint32Array.from({ length: services.count }, (_, service) => service).sort(
    (a, b) => protocol[a]! - protocol[b]! || address[a]! - address[b]! || port[a]! - port[b]!,
  );
}

function sortedServers({ services, servers }: Director, service: number): number[] {
  const listed: number[] = [];
  for (let at = services.head[service]!; at >= 0; at = servers.next[at]!) listed.push(at);
  return listed.sort(
    (a, b) => servers.address[a]! - servers.address[b]! || servers.port[a]! - servers.port[b]!,
  );
}

function serviceText({ services }: Director, service: number): string {
  return `${formatIpv4(services.address[service]!)}:${services.port[service]!}`;
}

function serverText({ servers }: Director, server: number): string {
  return `${formatIpv4(servers.address[server]!)}:${servers.port[server]!}`;
}
