import { SCTP, TCP, UDP } from '@vipsim/sim-core';
import { parseWhole } from './options.ts';

export const ICMP = 1;
export const ICMPV6 = 58;

/** Names that iptables-save prints; the aliases that it only reads come after. */
const NAMES: readonly (readonly [number, string])[] = [
  [TCP, 'tcp'],
  [UDP, 'udp'],
  [SCTP, 'sctp'],
  [ICMP, 'icmp'],
  [ICMPV6, 'ipv6-icmp'],
  [136, 'udplite'],
  [33, 'dccp'],
  [50, 'esp'],
  [51, 'ah'],
  [2, 'igmp'],
  [4, 'ipencap'],
  [47, 'gre'],
  [112, 'vrrp'],
  [135, 'mobility-header'],
  [ICMPV6, 'icmpv6'],
  [135, 'mh'],
  [135, 'ipv6-mh'],
  [4, 'ipip'],
];

/** The number of a protocol, 0 for `all`; undefined for a name that is not known. */
export function protocolNumber(text: string): number | undefined {
  const name = text.toLowerCase();
  if (name === 'all') return 0;
  const value = NAMES.find(([, known]) => known === name)?.[0] ?? parseWhole(text);
  return value === undefined || value > 255 ? undefined : value;
}

export function protocolText(protocol: number): string {
  return NAMES.find(([value]) => value === protocol)?.[1] ?? String(protocol);
}
