import { TCP, UDP } from '@vipsim/sim-core';
import { ACK_SEEN, FIN_SEEN, RST_SEEN_BIT, SYN_SEEN, type Conntrack } from './conntrack.ts';

const SECOND = 1_000_000_000;
/** No entry is judged in its first seconds. */
const CREATION_GRACE = 10 * SECOND;
const TCP_SYN_SENT = 20 * SECOND;
const TCP_ESTABLISHED = 3600 * SECOND;
const TCP_FINS_SEEN = 30 * SECOND;
const TCP_RESET_SEEN = 40 * SECOND;
const UDP_TIMEOUT = 60 * SECOND;
const ICMP_TIMEOUT = 5 * SECOND;
const GENERIC_TIMEOUT = 600 * SECOND;
const ICMP = 1;

/**
 * Whether a normal or reverse entry has been silent for longer than its state allows.
 * Source: EntryExpired, felix/bpf/conntrack/timeouts.go.
 */
export function isExpired(conntrack: Conntrack, element: number, nowNs: number): boolean {
  if (isNew(conntrack, element, nowNs)) return false;
  const age = nowNs - conntrack.lastSeenNs(element);
  const protocol = conntrack.map.keyWord(element, 0);
  if (protocol === UDP) return age > UDP_TIMEOUT;
  if (protocol === ICMP) return age > ICMP_TIMEOUT;
  if (protocol !== TCP) return age > GENERIC_TIMEOUT;
  const legs = conntrack.legs(element);
  const both = legs & (legs >>> 8);
  if (((legs | (legs >>> 8)) & RST_SEEN_BIT) !== 0 && age > TCP_RESET_SEEN) return true;
  if ((both & FIN_SEEN) !== 0 && age > TCP_FINS_SEEN) return true;
  const established = (both & (SYN_SEEN | ACK_SEEN)) === (SYN_SEEN | ACK_SEEN);
  return age > (established ? TCP_ESTABLISHED : TCP_SYN_SENT);
}

export function isNew(conntrack: Conntrack, element: number, nowNs: number): boolean {
  return nowNs - conntrack.createdNs(element) < CREATION_GRACE;
}
