import { TCP, UDP, formatIpv4 } from './address.ts';

/** TCP flags that a packet may carry; a UDP datagram carries none. */
export const SYN = 1;
export const ACK = 2;
export const FIN = 4;
export const RST = 8;

/** Where a packet enters the node. */
export const FROM_POD = 0;
export const FROM_HOST = 1;
export const FROM_OUTSIDE = 2;
export type Origin = typeof FROM_POD | typeof FROM_HOST | typeof FROM_OUTSIDE;

/** One packet's headers as integers. A run reuses a single record: whoever keeps a packet copies the fields. */
export class Packet {
  source = 0;
  destination = 0;
  sourcePort = 0;
  destinationPort = 0;
  protocol = TCP;
  flags = 0;
  origin: Origin = FROM_POD;

  toString(): string {
    const protocol = this.protocol === TCP ? 'tcp' : this.protocol === UDP ? 'udp' : String(this.protocol);
    return `${protocol} ${formatIpv4(this.source)}:${this.sourcePort} > ${formatIpv4(this.destination)}:${this.destinationPort}`;
  }
}
