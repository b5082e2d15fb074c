/**
 * The TCP tracker's transition table and default timeouts.
 * Source: net/netfilter/nf_conntrack_proto_tcp.c (Linux 6.1 to 6.12).
 */

export const NONE = 0;
export const SYN_SENT = 1;
export const SYN_RECV = 2;
export const ESTABLISHED = 3;
export const FIN_WAIT = 4;
export const CLOSE_WAIT = 5;
export const LAST_ACK = 6;
export const TIME_WAIT = 7;
export const CLOSE = 8;
export const SYN_SENT2 = 9;
/** The packet passes and changes nothing. */
export const IGNORE = 10;
/** The packet belongs to no connection: it passes without an entry, and without translation. */
export const INVALID = 11;

export const TCP_STATE_NAMES = [
  'NONE',
  'SYN_SENT',
  'SYN_RECV',
  'ESTABLISHED',
  'FIN_WAIT',
  'CLOSE_WAIT',
  'LAST_ACK',
  'TIME_WAIT',
  'CLOSE',
  'SYN_SENT2',
] as const;

/** Seconds an entry outlives its last packet, by state. kube-proxy sets ESTABLISHED to 86,400 and CLOSE_WAIT to 3,600. */
export const TCP_TIMEOUTS_S: readonly number[] = [10, 120, 60, 432_000, 120, 60, 30, 120, 10, 120];

const CODES: Readonly<Record<string, number>> = {
  SS: SYN_SENT,
  SR: SYN_RECV,
  ES: ESTABLISHED,
  FW: FIN_WAIT,
  CW: CLOSE_WAIT,
  LA: LAST_ACK,
  TW: TIME_WAIT,
  CL: CLOSE,
  S2: SYN_SENT2,
  IG: IGNORE,
  IV: INVALID,
};

/** Rows by state, columns by event: syn, synack, fin, ack, rst of the original direction, then of the reply. */
const ROWS = [
  'SS IV IV ES IV  IV IV IV IV IV',
  'SS IV IV IV CL  S2 SR IV IG CL',
  'IG SR FW ES CL  IV IG FW SR CL',
  'IG IV FW ES CL  IV IG FW ES CL',
  'IG IV LA CW CL  IV IG LA CW CL',
  'IG IV LA CW CL  IV IG LA CW CL',
  'IG IV LA TW CL  IV IG LA TW CL',
  'SS IV TW TW CL  SS IG TW TW CL',
  'SS IV CL CL CL  IV IG CL CL CL',
  'S2 SR IV IV CL  S2 SR IV IG CL',
];

const EVENTS = 5;
const TABLE = Uint8Array.from(ROWS.flatMap((row) => row.split(/ +/).map((code) => CODES[code]!)));

export const EVENT_SYN = 0;
export const EVENT_SYNACK = 1;
export const EVENT_FIN = 2;
export const EVENT_ACK = 3;
export const EVENT_RST = 4;

/** The state after `event` of `direction` (0 original, 1 reply) met an entry in `state`. */
export function nextTcpState(state: number, direction: number, event: number): number {
  return TABLE[(state * 2 + direction) * EVENTS + event]!;
}
