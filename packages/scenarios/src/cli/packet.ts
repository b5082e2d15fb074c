import {
  FROM_HOST,
  FROM_OUTSIDE,
  FROM_POD,
  Packet,
  SCTP,
  SYN,
  TCP,
  UDP,
  contains,
  parseIpv4,
  type Origin,
} from '@vipsim/sim-core';
import { xtables, type Cluster } from '@vipsim/proxiers';
import { UsageError } from './usage-error.ts';

const FORM = "wanted a packet such as 'tcp 10.244.1.5:40000 > 10.96.0.10:80'";
const LOOPBACK = 0x7f000000;
/** Where a packet's own port is left out. */
const SOURCE_PORT = 40_000;
/** A SYN with the options that Linux sends, and a datagram with one byte: what byte counters add up. */
const SYN_BYTES = 60;
const DATAGRAM_BYTES = 29;

/** A first packet, `PROTOCOL SOURCE:PORT > DESTINATION:PORT`; where it enters the node follows from its source. */
export function parsePacket(text: string, cluster: Cluster, node: number): Packet {
  const { protocol, source, sourcePort, destination, destinationPort } = parts(text);
  if (protocol !== 'tcp' && protocol !== 'udp')
    throw new UsageError(`--packet ${JSON.stringify(text)}: ${FORM}`);
  const packet = new Packet();
  packet.protocol = protocol === 'tcp' ? TCP : UDP;
  packet.flags = packet.protocol === TCP ? SYN : 0;
  packet.source = ipv4(source);
  packet.sourcePort = sourcePort;
  packet.destination = ipv4(destination);
  packet.destinationPort = destinationPort;
  const isHost = packet.source === cluster.nodes[node]!.address || packet.source >>> 24 === LOOPBACK >>> 24;
  const isPod =
    contains(cluster.podCidr, packet.source) ||
    cluster.pods.address.subarray(0, cluster.pods.count).includes(packet.source);
  packet.origin = isHost ? FROM_HOST : isPod ? FROM_POD : FROM_OUTSIDE;
  return packet;
}

/** What a trace of rules is told about the packet's node. */
export interface RulesPlace {
  readonly isOwn: (address: xtables.Address) => boolean;
  readonly isPod: (address: xtables.Address) => boolean;
  /** Set when the user says where the packet comes from. */
  readonly from: Origin | undefined;
  readonly inLink: string | undefined;
}

/** The family of the addresses in a packet's text. */
export function familyOf(text: string): xtables.Family {
  return parts(text).destination.includes(':') ? 6 : 4;
}

/** A first packet for rules of any origin: tcp, udp or sctp, either family, IPv6 addresses in brackets. */
export function parseRulesPacket(text: string, place: RulesPlace): xtables.XtPacket {
  const { protocol, source, sourcePort, destination, destinationPort } = parts(text);
  const family = familyOf(text);
  const from = address(source, family);
  const guessed = place.isOwn(from) ? FROM_HOST : place.isPod(from) ? FROM_POD : FROM_OUTSIDE;
  const number = protocol === 'tcp' ? TCP : protocol === 'udp' ? UDP : SCTP;
  return {
    protocol: number,
    source: from,
    sourcePort,
    destination: address(destination, family),
    destinationPort,
    flags: number === TCP ? SYN : 0,
    origin: place.from ?? guessed,
    bytes: number === TCP ? SYN_BYTES : DATAGRAM_BYTES,
    ...(place.inLink === undefined ? {} : { inLink: place.inLink }),
  };
}

interface Parts {
  readonly protocol: string;
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
}

function parts(text: string): Parts {
  const host = String.raw`(?:\[([\da-f:.]+)\]|([\d.]+))`;
  const form = new RegExp(String.raw`^\s*(tcp|udp|sctp)\s+${host}(?::(\d+))?\s*>\s*${host}:(\d+)\s*$`, 'i');
  const match = form.exec(text);
  if (!match) throw new UsageError(`--packet ${JSON.stringify(text)}: ${FORM}`);
  return {
    protocol: match[1]!.toLowerCase(),
    source: match[2] ?? match[3]!,
    sourcePort: match[4] === undefined ? SOURCE_PORT : port(match[4]),
    destination: match[5] ?? match[6]!,
    destinationPort: port(match[7]!),
  };
}

function ipv4(text: string): number {
  const value = parseIpv4(text);
  if (value === undefined) throw new UsageError(`--packet: ${text} is not an IPv4 address; ${FORM}`);
  return value;
}

function address(text: string, family: xtables.Family): xtables.Address {
  const value = xtables.parseAddress(text, family);
  if (value === undefined) throw new UsageError(`--packet: ${text} is not an IPv${family} address; ${FORM}`);
  return value;
}

function port(text: string): number {
  const value = Number(text);
  if (value < 1 || value > 65535)
    throw new UsageError(`--packet: ${text} is not a port (1 to 65535); ${FORM}`);
  return value;
}
