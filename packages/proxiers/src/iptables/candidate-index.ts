import type { Counts } from '../cost/operations.ts';
import { OPERATION } from './operations.ts';
import { PositionGroups, lowerBound } from './position-groups.ts';
import {
  COMMENT,
  DESTINATION,
  DESTINATION_NOT,
  FROM_LINK,
  FROM_LINK_NOT,
  FROM_LOCAL,
  PORT,
  PROTOCOL,
  RECENT_CHECK,
  RECENT_SET,
  SOURCE,
  SOURCE_NOT,
  STATE_FIRST,
  TO_LOCAL,
} from './rule.ts';
import type { RuleColumns } from './rule-columns.ts';

const SKIPPED = OPERATION['iptables.legacy.skipped'];
const SELECTED = OPERATION['iptables.legacy.selected'];
const NFT_RULE = OPERATION['iptables.nft.rule'];
const NFT_META = OPERATION['iptables.nft.meta'];
const NFT_PAYLOAD = OPERATION['iptables.nft.payload'];
const NFT_CMP = OPERATION['iptables.nft.cmp'];
const XT_COMMENT = OPERATION['iptables.match.comment'];
const XT_TRANSPORT = OPERATION['iptables.match.transport'];

/** Shorter chains are walked faster than looked up. */
export const INDEXED_FROM = 24;

/** A rule that every packet has to meet. */
const ALWAYS = 0;
/** Fails on any other destination, before or right after its protocol. */
const BY_DESTINATION = 1;
/** Fails on any other destination port, unless on its protocol before. */
const BY_PORT = 2;

const BEFORE_DESTINATION = SOURCE | SOURCE_NOT | FROM_LINK | FROM_LINK_NOT | DESTINATION_NOT;
const BEFORE_PORT =
  BEFORE_DESTINATION | DESTINATION | TO_LOCAL | FROM_LOCAL | RECENT_CHECK | RECENT_SET | STATE_FIRST;
const ASKS_PORT = PROTOCOL | PORT;

/** Rules that cost a packet the same when they do not fit it. */
interface Kind {
  readonly way: typeof BY_DESTINATION | typeof BY_PORT;
  readonly comment: boolean;
  /** The protocol that they ask for; -1 for any. */
  readonly protocol: number;
  /** Where they are; empty when all rules that can be passed are of this kind. */
  positions: Int32Array;
}

/**
 * Finds the rules of a long chain that a packet could fit, and counts what the others on the way would have cost.
 * Nearly every rule of a long chain asks for one destination address (KUBE-SERVICES) or one port (KUBE-NODEPORTS).
 * Such a rule, met by a packet with another, always fails after the same tests, so that what a stretch of them
 * costs follows from how many of each kind it has. Positions are relative to the chain's first rule: they stay
 * right when the table moves its rows.
 *
 * Source: none in the kernel, which evaluates every rule; equal to that evaluation in verdicts and counts.
 */
export class CandidateIndex {
  /** Rules of the chain. */
  readonly length: number;
  readonly #always: Int32Array;
  readonly #byDestination: PositionGroups | undefined;
  readonly #byPort: PositionGroups | undefined;
  readonly #kinds: readonly Kind[];

  private constructor(rules: RuleColumns, first: number, ways: Uint8Array) {
    this.length = ways.length;
    this.#always = positionsOf(ways, ALWAYS);
    const destinations = positionsOf(ways, BY_DESTINATION);
    const ports = positionsOf(ways, BY_PORT);
    this.#byDestination =
      destinations.length === 0
        ? undefined
        : new PositionGroups((at) => rules.destination[first + at]!, destinations);
    this.#byPort =
      ports.length === 0 ? undefined : new PositionGroups((at) => rules.port[first + at]!, ports);
    this.#kinds = kindsOf(rules, first, ways);
  }

  /** The index over `count` rows from `first`; undefined if the chain is short or most rules must be met anyway. */
  static over(rules: RuleColumns, first: number, count: number): CandidateIndex | undefined {
    if (count < INDEXED_FROM) return undefined;
    const ways = new Uint8Array(count);
    let always = 0;
    for (let at = 0; at < count; at++) {
      ways[at] = wayOf(rules, first + at);
      if (ways[at] === ALWAYS) always++;
    }
    return always * 2 > count ? undefined : new CandidateIndex(rules, first, ways);
  }

  /** The first position from `from` on whose rule the packet could fit; the length of the chain if there is none. */
  next(from: number, destination: number, port: number): number {
    const always = this.#always;
    const at = lowerBound(always, 0, always.length, from);
    let next = at < always.length ? always[at]! : this.length;
    if (this.#byDestination !== undefined) {
      const candidate = this.#byDestination.next(destination, from);
      if (candidate < next) next = candidate;
    }
    if (this.#byPort !== undefined) {
      const candidate = this.#byPort.next(port, from);
      if (candidate < next) next = candidate;
    }
    return next;
  }

  /** Count what the rules of [from, to), which the packet does not fit, cost it. */
  pass(from: number, to: number, protocol: number, nft: boolean, counts: Counts): void {
    for (let i = 0; i < this.#kinds.length; i++) {
      const kind = this.#kinds[i]!;
      const { positions } = kind;
      const passed =
        positions.length === 0
          ? to - from
          : lowerBound(positions, 0, positions.length, to) - lowerBound(positions, 0, positions.length, from);
      if (passed > 0) countPassed(kind, passed, protocol, nft, counts);
    }
  }
}

function countPassed(kind: Kind, passed: number, protocol: number, nft: boolean, counts: Counts): void {
  const asks = kind.protocol >= 0;
  const reached = !asks || kind.protocol === protocol;
  if (nft) {
    counts[NFT_RULE]! += passed;
    if (asks) {
      counts[NFT_META]! += passed;
      counts[NFT_CMP]! += passed;
    }
    if (!reached) return;
    if (kind.comment) counts[XT_COMMENT]! += passed;
    counts[NFT_PAYLOAD]! += passed;
    counts[NFT_CMP]! += passed;
  } else if (kind.way === BY_DESTINATION || !reached) {
    counts[SKIPPED]! += passed;
  } else {
    counts[SELECTED]! += passed;
    if (kind.comment) counts[XT_COMMENT]! += passed;
    counts[XT_TRANSPORT]! += passed;
  }
}

function wayOf(rules: RuleColumns, row: number): number {
  const match = rules.match[row]!;
  if ((match & DESTINATION) !== 0) {
    const exact = rules.destinationMask[row] === 0xffffffff;
    return exact && (match & BEFORE_DESTINATION) === 0 ? BY_DESTINATION : ALWAYS;
  }
  const plain = (match & ASKS_PORT) === ASKS_PORT && (match & BEFORE_PORT) === 0;
  return plain ? BY_PORT : ALWAYS;
}

function positionsOf(column: Uint8Array | Uint16Array, wanted: number): Int32Array {
  let count = 0;
  for (let at = 0; at < column.length; at++) if (column[at] === wanted) count++;
  const positions = new Int32Array(count);
  let to = 0;
  for (let at = 0; at < column.length; at++) if (column[at] === wanted) positions[to++] = at;
  return positions;
}

/** Kinds in order of appearance. */
function kindsOf(rules: RuleColumns, first: number, ways: Uint8Array): Kind[] {
  const kinds = new Map<number, Kind>();
  const keys = new Uint16Array(ways.length);
  for (let at = 0; at < ways.length; at++) {
    const way = ways[at]!;
    if (way === ALWAYS) continue;
    const match = rules.match[first + at]!;
    const protocol = (match & PROTOCOL) !== 0 ? rules.protocol[first + at]! : -1;
    // A destination is tested before the comment is called.
    const comment = way === BY_PORT && (match & COMMENT) !== 0;
    const key = ((protocol + 1) << 3) | (comment ? 4 : 0) | way;
    keys[at] = key;
    if (!kinds.has(key)) {
      kinds.set(key, { way: way as Kind['way'], comment, protocol, positions: new Int32Array(0) });
    }
  }
  if (kinds.size > 1) {
    for (const [key, kind] of kinds) {
      kind.positions = positionsOf(keys, key);
    }
  }
  return [...kinds.values()];
}
