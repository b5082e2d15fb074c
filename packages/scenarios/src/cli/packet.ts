import {
  FROM_HOST,
  FROM_OUTSIDE,
  FROM_POD,
  Packet,
  SYN,
  TCP,
  UDP,
  contains,
  parseIpv4,
} from '@vipsim/sim-core';
import type { Cluster } from '@vipsim/proxiers';
import { UsageError } from './usage-error.ts';

const FORM = "wanted a packet such as 'tcp 10.244.1.5:40000 > 10.96.0.10:80'";
const LOOPBACK = 0x7f000000;

/** A first packet, `PROTOCOL SOURCE:PORT > DESTINATION:PORT`; where it enters the node follows from its source. */
export function parsePacket(text: string, cluster: Cluster, node: number): Packet {
  const match = /^\s*(tcp|udp)\s+([\d.]+):(\d+)\s*>\s*([\d.]+):(\d+)\s*$/i.exec(text);
  if (!match) throw new UsageError(`--packet ${JSON.stringify(text)}: ${FORM}`);
  const packet = new Packet();
  packet.protocol = match[1]!.toLowerCase() === 'tcp' ? TCP : UDP;
  packet.flags = packet.protocol === TCP ? SYN : 0;
  packet.source = address(match[2]!);
  packet.sourcePort = port(match[3]!);
  packet.destination = address(match[4]!);
  packet.destinationPort = port(match[5]!);
  const isHost = packet.source === cluster.nodes[node]!.address || packet.source >>> 24 === LOOPBACK >>> 24;
  const isPod =
    contains(cluster.podCidr, packet.source) ||
    cluster.pods.address.subarray(0, cluster.pods.count).includes(packet.source);
  packet.origin = isHost ? FROM_HOST : isPod ? FROM_POD : FROM_OUTSIDE;
  return packet;
}

function address(text: string): number {
  const value = parseIpv4(text);
  if (value === undefined) throw new UsageError(`--packet: ${text} is not an IPv4 address; ${FORM}`);
  return value;
}

function port(text: string): number {
  const value = Number(text);
  if (value < 1 || value > 65535)
    throw new UsageError(`--packet: ${text} is not a port (1 to 65535); ${FORM}`);
  return value;
}
