import { TCP, UDP } from '../net/address.ts';
import { ACK, FIN, RST, SYN } from '../net/packet.ts';

/**
 * A simulated packet's headers as they would be on the wire: IPv4 (RFC 791) with TCP (RFC 9293) or UDP (RFC 768),
 * checksums right for a payload of zeros. The payload itself is left out: captures state its length.
 * Not modelled: IP options and fragments; of the TCP options only MSS and window scale, on SYNs.
 */
export class WirePacket {
  source = 0;
  sourcePort = 0;
  destination = 0;
  destinationPort = 0;
  protocol = TCP;
  /** SYN, ACK, FIN, RST of `Packet`. */
  flags = 0;
  sequence = 0;
  acknowledgement = 0;
  payloadBytes = 0;
  identification = 0;
  ttl = 64;
}

export const IPV4_BYTES = 20;
const UDP_BYTES = 8;
const TCP_BYTES = 20;
const DONT_FRAGMENT = 0x4000;
/** A full segment of an Ethernet of 1500 bytes. */
export const MSS = 1_460;
/** Receivers offer 64,240 × 2^7 bytes, as Linux does by default for a receive buffer that has grown to 8 MB. */
const WINDOW = 64_240;
const WINDOW_SCALE = 7;
const TCP_OPTIONS = [2, 4, MSS >>> 8, MSS & 255, 1, 3, 3, WINDOW_SCALE] as const;

/**
 * The headers; the packet is these and `payloadBytes` of zeros.
 * @throws RangeError for another protocol than TCP and UDP, or a packet that IPv4 cannot carry.
 */
export function headersOf(packet: WirePacket): Uint8Array {
  const { protocol } = packet;
  if (protocol !== TCP && protocol !== UDP) throw new RangeError(`no headers for protocol ${protocol}`);
  const options = protocol === TCP && (packet.flags & SYN) !== 0 ? TCP_OPTIONS : [];
  const transportBytes = protocol === UDP ? UDP_BYTES : TCP_BYTES + options.length;
  const totalBytes = IPV4_BYTES + transportBytes + packet.payloadBytes;
  if (totalBytes > 65_535) throw new RangeError(`an IPv4 packet cannot have ${totalBytes} bytes`);
  const bytes = new Uint8Array(IPV4_BYTES + transportBytes);
  const view = new DataView(bytes.buffer);
  writeIpv4(view, packet, totalBytes);
  if (protocol === UDP) writeUdp(view, packet);
  else writeTcp(view, packet, options);
  const checksumAt = IPV4_BYTES + (protocol === UDP ? 6 : 16);
  const pseudoHeader = addressesSum(view) + protocol + transportBytes + packet.payloadBytes;
  const checksum = complement(sumOf(view, IPV4_BYTES, bytes.length) + pseudoHeader);
  // Zero in a UDP header would say that there is no checksum.
  view.setUint16(checksumAt, protocol === UDP && checksum === 0 ? 0xffff : checksum);
  return bytes;
}

function writeIpv4(view: DataView, packet: WirePacket, totalBytes: number): void {
  view.setUint8(0, 0x45);
  view.setUint16(2, totalBytes);
  view.setUint16(4, packet.identification);
  view.setUint16(6, DONT_FRAGMENT);
  view.setUint8(8, packet.ttl);
  view.setUint8(9, packet.protocol);
  view.setUint32(12, packet.source);
  view.setUint32(16, packet.destination);
  view.setUint16(10, complement(sumOf(view, 0, IPV4_BYTES)));
}

function writeUdp(view: DataView, packet: WirePacket): void {
  view.setUint16(IPV4_BYTES, packet.sourcePort);
  view.setUint16(IPV4_BYTES + 2, packet.destinationPort);
  view.setUint16(IPV4_BYTES + 4, UDP_BYTES + packet.payloadBytes);
}

function writeTcp(view: DataView, packet: WirePacket, options: readonly number[]): void {
  const at = IPV4_BYTES;
  view.setUint16(at, packet.sourcePort);
  view.setUint16(at + 2, packet.destinationPort);
  view.setUint32(at + 4, packet.sequence);
  view.setUint32(at + 8, (packet.flags & ACK) === 0 ? 0 : packet.acknowledgement);
  view.setUint8(at + 12, ((TCP_BYTES + options.length) / 4) << 4);
  view.setUint8(at + 13, wireFlags(packet));
  view.setUint16(at + 14, (packet.flags & RST) === 0 ? WINDOW : 0);
  options.forEach((option, i) => view.setUint8(at + TCP_BYTES + i, option));
}

/** FIN 1, SYN 2, RST 4, PSH 8, ACK 16. */
function wireFlags({ flags, payloadBytes }: WirePacket): number {
  return (
    ((flags & FIN) === 0 ? 0 : 1) |
    ((flags & SYN) === 0 ? 0 : 2) |
    ((flags & RST) === 0 ? 0 : 4) |
    (payloadBytes === 0 ? 0 : 8) |
    ((flags & ACK) === 0 ? 0 : 16)
  );
}

function addressesSum(view: DataView): number {
  return sumOf(view, 12, 20);
}

/** The sum of the 16-bit words from `start` to `end`, an even number of bytes. */
function sumOf(view: DataView, start: number, end: number): number {
  let sum = 0;
  for (let at = start; at < end; at += 2) sum += view.getUint16(at);
  return sum;
}

function complement(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16);
  return ~folded & 0xffff;
}
