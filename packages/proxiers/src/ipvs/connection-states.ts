import { ACK, FIN, RST, SCTP, SYN, TCP } from '@vipsim/sim-core';

/**
 * The TCP states that IPVS follows for NAT connections, and how long an entry stays in each.
 * Source: net/netfilter/ipvs/ip_vs_proto_tcp.c, ip_vs_proto_udp.c, ip_vs_proto_sctp.c.
 * Not modelled: the stricter table of secure_tcp; the states of SCTP, whose entries have one.
 */
export const CONNECTION_STATES = [
  'NONE',
  'ESTABLISHED',
  'SYN_SENT',
  'SYN_RECV',
  'FIN_WAIT',
  'TIME_WAIT',
  'CLOSE',
  'CLOSE_WAIT',
  'LAST_ACK',
  'LISTEN',
  'SYNACK',
  'UDP',
  'ESTABLISHED',
] as const;

export const NONE = 0;
export const ESTABLISHED = 1;
export const SYN_SENT = 2;
export const SYN_RECV = 3;
export const FIN_WAIT = 4;
export const TIME_WAIT = 5;
export const CLOSE = 6;
export const CLOSE_WAIT = 7;
export const LAST_ACK = 8;
export const LISTEN = 9;
export const SYNACK = 10;
/** The only state of a UDP entry. */
export const DATAGRAMS = 11;
const ASSOCIATION = 12;

/** Seconds an entry outlives its last packet, by state. */
export const CONNECTION_TIMEOUTS_S: readonly number[] = [
  2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120, 300, 900,
];

/** From the client towards the server. */
export const IN = 0;
/** From the server towards the client. */
export const OUT = 1;

const CODES = ['NO', 'ES', 'SS', 'SR', 'FW', 'TW', 'CL', 'CW', 'LA', 'LI', 'SA'];

/** Rows by state; columns syn, fin, ack, rst from the client, then from the server. */
const ROWS = [
  'SR CL ES CL  SS TW ES CL',
  'ES CW ES CL  ES FW ES CL',
  'ES SS SS CL  SS SS SS SS',
  'SR TW ES SR  SR TW ES CL',
  'SR TW FW CL  SS FW FW CL',
  'SR TW TW CL  SS TW TW TW',
  'SR CL CL CL  SS CL CL CL',
  'SR CW CW CL  SS TW CW CL',
  'SR LA CL LA  SS LA LA CL',
  'SR LI LI LI  LI LI ES CL',
  'SR TW ES SR  SR TW ES CL',
];

const NEXT = Uint8Array.from(ROWS.flatMap((row) => row.split(/ +/).map((code) => CODES.indexOf(code))));

/** The state of an entry of `protocol` in `state` after a packet with these TCP flags. */
export function nextConnectionState(
  protocol: number,
  state: number,
  direction: number,
  flags: number,
): number {
  if (protocol !== TCP) return protocol === SCTP ? ASSOCIATION : DATAGRAMS;
  const base = (state * 2 + direction) * 4;
  if ((flags & RST) !== 0) return NEXT[base + 3]!;
  if ((flags & SYN) !== 0) return NEXT[base]!;
  if ((flags & FIN) !== 0) return NEXT[base + 1]!;
  if ((flags & ACK) !== 0) return NEXT[base + 2]!;
  return state;
}

/** Whether a connection in this state counts as active. */
export function isActive(state: number): boolean {
  return state === ESTABLISHED || state === SYN_RECV || state === SYN_SENT || state === SYNACK;
}
