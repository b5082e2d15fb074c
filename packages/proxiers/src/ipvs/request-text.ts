import type { AddressFamily, Packet } from '@vipsim/sim-core';
import { CONNECTION_STATES } from './connection-states.ts';
import { DROPPED, FOUND, PASS, REFUSED, type Director, type Outcome } from './director.ts';

/** What a director has just made of a client's packet, in words. Reads what `request` left; changes nothing. */
export function requestText(
  director: Director,
  family: AddressFamily,
  packet: Packet,
  outcome: Outcome,
): string {
  const { connections, services, servers, connection, server } = director;
  if (outcome === PASS) return 'no virtual server for it, or no SYN: not for IPVS';
  if (outcome === DROPPED) return 'the entry was of no use any more: dropped';
  const bucket = services.bucketFor(packet.protocol, packet.destination, packet.destinationPort);
  if (outcome === REFUSED) return `virtual server in bucket ${bucket}: no server to choose, port unreachable`;
  const real = family.hostPort(servers.address[server]!, director.serverPort);
  const chain = connections.bucketOf(packet.source, packet.sourcePort, packet.protocol);
  const entry = `connection bucket ${chain}, ${director.soughtProbes} compared`;
  const state = connection < 0 ? 'one packet' : CONNECTION_STATES[connections.state[connection]!];
  if (outcome === FOUND) return `${entry}: known connection to ${real}, ${state}`;
  const service = servers.service[server]!;
  let position = 1;
  for (let at = services.head[service]!; at >= 0 && at !== server; at = servers.next[at]!) position++;
  return (
    `${entry}: none; virtual server in bucket ${bucket}, ${services.probes} compared; ` +
    `${director.schedulers.of(service).name} chose ${real}, ${position} of ${services.servers[service]!} in the list; ${state}`
  );
}
