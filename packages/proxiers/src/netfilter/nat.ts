import { sameAddress, type Address } from './address.ts';
import { inverse, type Flow, type Flows, type Tuple } from './flows.ts';

/** Rounds of 128, 64, 32, 16 and 8 ports are tried before the kernel gives up. */
const ATTEMPTS_FIRST = 128;
const ATTEMPTS_LAST = 16;

/** What a rule asks of NAT. */
export interface NatTarget {
  readonly kind: 'nat';
  readonly name: 'DNAT' | 'SNAT' | 'MASQUERADE' | 'REDIRECT';
  /** First and last address; absent where the node's own is meant or the address stays. */
  readonly addresses?: readonly [Address, Address];
  readonly ports?: readonly [number, number];
  /** `--to-destination …:1000-2000/3000`: ports are counted from here. */
  readonly basePort?: number;
  readonly random: boolean;
  readonly randomFully: boolean;
  readonly persistent: boolean;
}

/** What the binding of a source or a destination may ask. */
export interface Binding {
  readonly flows: Flows;
  readonly nowNs: number;
  /** A whole number below `bound`, at random. */
  below(bound: number): number;
}

/**
 * The address and port that DNAT or REDIRECT gives a new flow's packets.
 *
 * Models: one address, or one of a range; one port, a range, ports counted from a base; the search for a free port
 * only where the target gives a range. Source: net/netfilter/nf_nat_core.c (6.12).
 * Not modelled: the hash of the client's address by which the kernel picks from a range of addresses: it is drawn.
 */
export function destinationOf(
  target: NatTarget,
  protocol: number,
  tuple: Tuple,
  own: Address,
  binding: Binding,
): Pick<Tuple, 'destination' | 'destinationPort'> {
  const destination = target.name === 'REDIRECT' ? own : pick(target.addresses, tuple.destination, binding);
  const { ports } = target;
  if (ports === undefined) return { destination, destinationPort: tuple.destinationPort };
  const [low, high] = ports;
  const isFree = (destinationPort: number): boolean =>
    !binding.flows.isTaken(protocol, inverse({ ...tuple, destination, destinationPort }), binding.nowNs);
  if (low === high) return { destination, destinationPort: low };
  const asked = tuple.destinationPort;
  if (!target.random && target.basePort === undefined && asked >= low && asked <= high && isFree(asked)) {
    return { destination, destinationPort: asked };
  }
  const size = high - low + 1;
  const start = target.random ? binding.below(size) : Math.max(0, asked - (target.basePort ?? asked));
  const destinationPort = search(low, size, () => start, isFree);
  return { destination, destinationPort };
}

/**
 * The source that a new flow's packets leave with: SNAT's or MASQUERADE's, or its own where no rule decided.
 *
 * Models: the original port kept while the answers' tuple is free, the ranges 1-511, 600-1023 and 1024-65535, the
 * search from a random port in rounds. `undefined` target: a null binding, which changes the port only if another
 * flow has the tuple. Source: get_unique_tuple and nf_nat_l4proto_unique_tuple in net/netfilter/nf_nat_core.c.
 */
export function sourceOf(
  target: NatTarget | undefined,
  protocol: number,
  tuple: Tuple,
  own: Address,
  binding: Binding,
): Pick<Tuple, 'source' | 'sourcePort'> {
  const source =
    target === undefined
      ? tuple.source
      : target.name === 'MASQUERADE'
        ? own
        : pick(target.addresses, tuple.source, binding);
  const isFree = (sourcePort: number): boolean =>
    !binding.flows.isTaken(protocol, inverse({ ...tuple, source, sourcePort }), binding.nowNs);
  const port = tuple.sourcePort;
  const [low, high] = target?.ports ?? usualRange(port);
  const keeps = target?.ports === undefined || (port >= low && port <= high);
  const isRandom = target?.random === true || target?.randomFully === true;
  if (!isRandom && keeps && isFree(port)) return { source, sourcePort: port };
  const size = high - low + 1;
  return { source, sourcePort: search(low, size, () => binding.below(65_536), isFree) };
}

/** Set what answers to a flow look like. */
export function bind(flow: Flow, leaves: Tuple): void {
  flow.reply = inverse(leaves);
}

function pick(range: readonly [Address, Address] | undefined, own: Address, binding: Binding): Address {
  if (range === undefined) return own;
  const [first, last] = range;
  if (sameAddress(first, last)) return first;
  // Only the last word varies in the ranges that people write; wider ones are drawn from by their last word.
  const at = first.length - 1;
  const span = last[at]! - first[at]! + 1;
  return [...first.slice(0, at), first[at]! + binding.below(Math.max(1, span))];
}

function usualRange(port: number): readonly [number, number] {
  if (port < 512) return [1, 511];
  return port < 1024 ? [600, 1023] : [1024, 65_535];
}

/** Where nothing is free the last port tried is taken, and the flow fails when it is confirmed. */
function search(low: number, size: number, start: () => number, isFree: (port: number) => boolean): number {
  let port = low;
  let attempts = Math.min(size, ATTEMPTS_FIRST);
  for (;;) {
    const offset = start();
    for (let i = 0; i < attempts; i++) {
      port = low + ((offset + i) % size);
      if (isFree(port)) return port;
    }
    if (attempts >= size || attempts < ATTEMPTS_LAST) return port;
    attempts = Math.floor(attempts / 2);
  }
}
