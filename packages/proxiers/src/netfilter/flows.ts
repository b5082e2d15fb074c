import { ACK, FIN, RST, SYN, TCP, UDP } from '@vipsim/sim-core';
import { formatAddress, sameAddress, type Address } from './address.ts';

/** One direction of a connection. */
export interface Tuple {
  readonly source: Address;
  readonly sourcePort: number;
  readonly destination: Address;
  readonly destinationPort: number;
}

export interface Flow {
  readonly protocol: number;
  readonly original: Tuple;
  /** As answers come: the inverse of the original until NAT edits it. */
  reply: Tuple;
  /** Of TCP: the tracker's state. */
  state: string;
  replySeen: boolean;
  assured: boolean;
  readonly openedNs: number;
  /** When it is gone unless a packet comes. */
  untilNs: number;
}

export interface Found {
  readonly flow: Flow;
  readonly isReply: boolean;
}

const S = 1_000_000_000;

/** Seconds that an entry outlives its last packet: nf_conntrack_proto_tcp.c, nf_conntrack_proto_udp.c. */
const TCP_S: Readonly<Record<string, number>> = {
  SYN_SENT: 120,
  SYN_RECV: 60,
  ESTABLISHED: 432_000,
  FIN_WAIT: 120,
  CLOSE_WAIT: 60,
  LAST_ACK: 30,
  TIME_WAIT: 120,
  CLOSE: 10,
};
const UDP_S = 30;
const UDP_STREAM_S = 120;
/** A UDP flow is a stream, and assured, once it was answered this long after it began. */
const UDP_STREAM_AFTER_NS = 2 * S;

/** From state to state by what a packet carries; where nothing is said the state stays. */
const NEXT: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  SYN_SENT: { synack: 'SYN_RECV', rst: 'CLOSE' },
  SYN_RECV: { ack: 'ESTABLISHED', fin: 'FIN_WAIT', rst: 'CLOSE' },
  ESTABLISHED: { fin: 'FIN_WAIT', rst: 'CLOSE' },
  FIN_WAIT: { fin: 'LAST_ACK', ack: 'CLOSE_WAIT', rst: 'CLOSE' },
  CLOSE_WAIT: { fin: 'LAST_ACK', rst: 'CLOSE' },
  LAST_ACK: { ack: 'TIME_WAIT', rst: 'CLOSE' },
  TIME_WAIT: { rst: 'CLOSE' },
  CLOSE: {},
};

/**
 * The connections of a node, by both tuples: a plain map, written to be read.
 *
 * Models: which packets open a flow, TCP states and timeouts of well-behaved connections, ASSURED, port reuse
 * after TIME_WAIT. Source: net/netfilter/nf_conntrack_core.c, nf_conntrack_proto_tcp.c.
 * Not modelled: hashing, a full table, windows, simultaneous open (sim-core's table has those for IPv4).
 */
export class Flows {
  readonly #byTuple = new Map<string, Found>();

  find(protocol: number, tuple: Tuple, nowNs: number): Found | undefined {
    const found = this.#byTuple.get(key(protocol, tuple));
    if (found === undefined || found.flow.untilNs > nowNs) return found;
    this.remove(found.flow);
    return undefined;
  }

  /** Whether answers to this tuple would be taken for those of another flow. */
  isTaken(protocol: number, reply: Tuple, nowNs: number): boolean {
    return this.find(protocol, reply, nowNs) !== undefined;
  }

  add(flow: Flow): void {
    this.#byTuple.set(key(flow.protocol, flow.original), { flow, isReply: false });
    this.#byTuple.set(key(flow.protocol, flow.reply), { flow, isReply: true });
  }

  remove(flow: Flow): void {
    this.#byTuple.delete(key(flow.protocol, flow.original));
    this.#byTuple.delete(key(flow.protocol, flow.reply));
  }

  /** In the order in which they were opened. */
  list(nowNs: number): Flow[] {
    const founds = [...this.#byTuple.values()].filter(({ isReply }) => !isReply);
    return founds.map(({ flow }) => flow).filter(({ untilNs }) => untilNs > nowNs);
  }
}

/** A flow for a packet that is part of none; undefined if no packet of this kind opens one. */
export function openFlow(protocol: number, tuple: Tuple, flags: number, nowNs: number): Flow | undefined {
  const event = eventOf(flags);
  if (protocol === TCP && event !== 'syn' && event !== 'ack') return undefined;
  const state = protocol !== TCP ? '' : event === 'syn' ? 'SYN_SENT' : 'ESTABLISHED';
  // A connection met in its middle (tcp_loose) is kept for five minutes until it is answered.
  const seconds = protocol !== TCP ? UDP_S : Math.min(TCP_S[state]!, 300);
  return {
    protocol,
    original: tuple,
    reply: inverse(tuple),
    state,
    replySeen: false,
    assured: false,
    openedNs: nowNs,
    untilNs: nowNs + seconds * S,
  };
}

/** Let a packet of a known flow advance it. False: the packet is invalid. */
export function advance(found: Found, flags: number, nowNs: number): boolean {
  const { flow, isReply } = found;
  if (flow.protocol === TCP) {
    const event = eventOf(flags);
    if (event === 'none') return false;
    flow.state = NEXT[flow.state]![event] ?? flow.state;
    if (flow.state === 'ESTABLISHED' && flow.replySeen) flow.assured = true;
    flow.untilNs = nowNs + TCP_S[flow.state]! * S;
  } else if (flow.protocol === UDP) {
    const isStream = flow.replySeen && nowNs - flow.openedNs > UDP_STREAM_AFTER_NS;
    if (isStream) flow.assured = true;
    flow.untilNs = nowNs + (isStream ? UDP_STREAM_S : UDP_S) * S;
  }
  if (isReply) flow.replySeen = true;
  return true;
}

/** A SYN that reuses the ports of a finished connection begins a new one. */
export function reopens(found: Found, flags: number): boolean {
  const { flow } = found;
  return (
    flow.protocol === TCP &&
    eventOf(flags) === 'syn' &&
    (flow.state === 'TIME_WAIT' || flow.state === 'CLOSE')
  );
}

export function inverse(tuple: Tuple): Tuple {
  return {
    source: tuple.destination,
    sourcePort: tuple.destinationPort,
    destination: tuple.source,
    destinationPort: tuple.sourcePort,
  };
}

export function isDestinationTranslated(flow: Flow): boolean {
  const { original, reply } = flow;
  return reply.sourcePort !== original.destinationPort || !sameAddress(reply.source, original.destination);
}

export function isSourceTranslated(flow: Flow): boolean {
  const { original, reply } = flow;
  return reply.destinationPort !== original.sourcePort || !sameAddress(reply.destination, original.source);
}

function eventOf(flags: number): string {
  if ((flags & RST) !== 0) return 'rst';
  if ((flags & SYN) !== 0) return (flags & ACK) !== 0 ? 'synack' : 'syn';
  if ((flags & FIN) !== 0) return 'fin';
  return (flags & ACK) !== 0 ? 'ack' : 'none';
}

function key(protocol: number, tuple: Tuple): string {
  const { source, sourcePort, destination, destinationPort } = tuple;
  return `${protocol} ${formatAddress(source)} ${sourcePort} ${formatAddress(destination)} ${destinationPort}`;
}
