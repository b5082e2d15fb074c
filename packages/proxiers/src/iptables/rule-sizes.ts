import { netmask } from '@vipsim/sim-core';
import {
  COMMENT,
  DESTINATION,
  DNAT,
  FROM_LOCAL,
  MARK,
  MARK_NOT,
  MARK_OR,
  MARK_XOR,
  MASQUERADE,
  NOTHING,
  PORT,
  PROTOCOL,
  REJECT_PACKET,
  SOURCE,
  SOURCE_NOT,
  STATE,
  STATE_NOT,
  STATISTIC,
  TO_LOCAL,
} from './rule.ts';

/** Bytes that the kernel holds for a table's parts. */
export interface RuleSizes {
  /** One rule, by its tests and its target. */
  rule(match: number, target: number): number;
  /** A user chain without its rules. */
  readonly chain: number;
  /** A built-in chain without its rules. */
  readonly builtIn: number;
  /** The table itself. */
  readonly table: number;
}

/** Kernel entries beyond the rules themselves, in the same terms; nf_tables has none. */
export const LEGACY_ENTRIES = { chain: 2, builtIn: 1, table: 1 } as const;

const TESTS_STATE = STATE | STATE_NOT;
const TESTS_MARK = MARK | MARK_NOT;

/**
 * x_tables: a rule is a 112-byte head, its match records and one target record, all in one blob.
 * Sizes of include/uapi/linux/netfilter*, read back from a running kernel (x86-64, iptables 1.8.9).
 */
export const LEGACY_SIZES: RuleSizes = {
  rule(match, target) {
    let bytes = 112;
    if ((match & COMMENT) !== 0) bytes += 288;
    if ((match & PROTOCOL) !== 0) bytes += 48;
    if ((match & STATISTIC) !== 0) bytes += 56;
    if ((match & TESTS_STATE) !== 0) bytes += 200;
    if ((match & TESTS_MARK) !== 0) bytes += 48;
    if ((match & (TO_LOCAL | FROM_LOCAL)) !== 0) bytes += 40;
    if (target === DNAT) return bytes + 80;
    if (target === MASQUERADE) return bytes + 56;
    return bytes + 40;
  },
  // An ERROR entry that carries the name, and the RETURN at the end.
  chain: 176 + 152,
  // The policy.
  builtIn: 152,
  table: 176,
};

/**
 * nf_tables: an estimate. The rule's expressions lie twice in memory, in the rule object and in its chain's blob
 * (net/netfilter/nf_tables_api.c, nf_tables_commit_chain_prepare), each expression with its 8-byte ops pointer;
 * a comment's 256 bytes are allocated beside (nft_compat.c, matches above 192 bytes). Not in it: slab rounding,
 * per-CPU counters, netlink user data.
 */
export const NFT_SIZES: RuleSizes = {
  rule(match, target) {
    const expressions = nftExpressionBytes(match, target);
    return 24 + expressions + 8 + expressions + ((match & COMMENT) !== 0 ? 256 : 0);
  },
  chain: 256,
  builtIn: 384,
  table: 512,
};

/** Bytes of a rule in its chain's blob: what a packet walks over. Struct sizes by BTF of Linux 6.18. */
export function nftBlobBytes(match: number, target: number): number {
  return 8 + nftExpressionBytes(match, target);
}

function nftExpressionBytes(match: number, target: number): number {
  const payload = 16;
  const meta = 16;
  const compare = 24;
  const bitwise = 24;
  let bytes = 16;
  if ((match & PROTOCOL) !== 0) bytes += meta + compare;
  if ((match & (SOURCE | SOURCE_NOT)) !== 0) bytes += payload + compare;
  if ((match & DESTINATION) !== 0) bytes += payload + compare;
  if ((match & COMMENT) !== 0) bytes += 16;
  if ((match & (TO_LOCAL | FROM_LOCAL)) !== 0) bytes += 16;
  if ((match & PORT) !== 0) bytes += payload + compare;
  else if ((match & PROTOCOL) !== 0) bytes += 24;
  if ((match & TESTS_MARK) !== 0) bytes += meta + bitwise + compare;
  if ((match & TESTS_STATE) !== 0) bytes += 176;
  if ((match & STATISTIC) !== 0) bytes += 32;
  if (target === NOTHING) return bytes;
  if (target === DNAT) return bytes + 56;
  if (target === MASQUERADE) return bytes + 32;
  if (target === MARK_OR || target === MARK_XOR || target === REJECT_PACKET) return bytes + 16;
  return bytes + 32;
}

/** iptables-nft loads whole bytes where the mask allows; any other mask costs a bitwise expression. */
export function needsBitwise(mask: number): boolean {
  return mask !== 0xffffffff && mask !== netmask(24) && mask !== netmask(16) && mask !== netmask(8);
}
