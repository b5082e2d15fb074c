import { netmask, type AddressFamily } from '@vipsim/sim-core';
import {
  COMMENT,
  DESTINATION,
  DNAT,
  DESTINATION_NOT,
  FROM_LINK,
  FROM_LINK_NOT,
  FROM_LOCAL,
  MARK,
  MARK_NOT,
  MARK_OR,
  MARK_XOR,
  MASQUERADE,
  NFACCT,
  NOTHING,
  PORT,
  PROTOCOL,
  RECENT_CHECK,
  RECENT_SET,
  REJECT_PACKET,
  SNAT,
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

/** The sizes of the backend that `ipv4` stands for in another family. */
export function sizesIn(family: AddressFamily, ipv4: RuleSizes): RuleSizes {
  if (family.name === 'ipv4') return ipv4;
  return ipv4 === LEGACY_SIZES ? LEGACY_SIZES_IPV6 : NFT_SIZES_IPV6;
}

/** Kernel entries beyond the rules themselves, in the same terms; nf_tables has none. */
export const LEGACY_ENTRIES = { chain: 2, builtIn: 1, table: 1 } as const;

const TESTS_STATE = STATE | STATE_NOT;
const TESTS_MARK = MARK | MARK_NOT;
const TESTS_RECENT = RECENT_CHECK | RECENT_SET;

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
    if ((match & TESTS_RECENT) !== 0) bytes += 264;
    if ((match & NFACCT) !== 0) bytes += 72;
    if (target === DNAT) return bytes + 80;
    // SNAT of IPv4 is still of revision 0, whose range is as small as MASQUERADE's.
    if (target === MASQUERADE || target === SNAT) return bytes + 56;
    return bytes + 40;
  },
  // An ERROR entry that carries the name, and the RETURN at the end.
  chain: 176 + 152,
  // The policy.
  builtIn: 152,
  table: 176,
};

/** ip6_tables: a head of 168 bytes, and the ranges of MASQUERADE and SNAT hold addresses of 16. */
const LEGACY_SIZES_IPV6: RuleSizes = {
  rule(match, target) {
    const wider = target === MASQUERADE || target === SNAT ? 16 : 0;
    return LEGACY_SIZES.rule(match, target) + 56 + wider;
  },
  chain: LEGACY_SIZES.chain + 2 * 56,
  builtIn: LEGACY_SIZES.builtIn + 56,
  table: LEGACY_SIZES.table + 56,
};

/**
 * nf_tables: an estimate. The rule's expressions lie twice in memory, in the rule object and in its chain's blob
 * (net/netfilter/nf_tables_api.c, nf_tables_commit_chain_prepare), each expression with its 8-byte ops pointer;
 * a comment's 256 and recent's 232 bytes are allocated beside (nft_compat.c, matches above 192 bytes). Not in it:
 * slab rounding, per-CPU counters, netlink user data, the address lists of recent.
 */
export const NFT_SIZES: RuleSizes = {
  rule(match, target) {
    const expressions = nftExpressionBytes(match, target);
    const beside = ((match & COMMENT) !== 0 ? 256 : 0) + ((match & TESTS_RECENT) !== 0 ? 232 : 0);
    return 24 + expressions + 8 + expressions + beside;
  },
  chain: 256,
  builtIn: 384,
  table: 512,
};

/** Addresses are compared by cmp16, 48 bytes in place of 24; ranges are wider as in x_tables. */
const NFT_SIZES_IPV6: RuleSizes = {
  rule(match, target) {
    let wider = 0;
    if ((match & (SOURCE | SOURCE_NOT)) !== 0) wider += 24;
    if ((match & (DESTINATION | DESTINATION_NOT)) !== 0) wider += 24;
    if (target === MASQUERADE || target === SNAT) wider += 16;
    return NFT_SIZES.rule(match, target) + 2 * wider;
  },
  chain: NFT_SIZES.chain,
  builtIn: NFT_SIZES.builtIn,
  table: NFT_SIZES.table,
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
  if ((match & (DESTINATION | DESTINATION_NOT)) !== 0) bytes += payload + compare;
  // A name is 16 bytes of data, compared by two registers.
  if ((match & (FROM_LINK | FROM_LINK_NOT)) !== 0) bytes += meta + compare + 16;
  if ((match & TESTS_RECENT) !== 0) bytes += 16;
  if ((match & NFACCT) !== 0) bytes += 48;
  if ((match & COMMENT) !== 0) bytes += 16;
  if ((match & (TO_LOCAL | FROM_LOCAL)) !== 0) bytes += 16;
  if ((match & PORT) !== 0) bytes += payload + compare;
  else if ((match & PROTOCOL) !== 0) bytes += 24;
  if ((match & TESTS_MARK) !== 0) bytes += meta + bitwise + compare;
  if ((match & TESTS_STATE) !== 0) bytes += 176;
  if ((match & STATISTIC) !== 0) bytes += 32;
  if (target === NOTHING) return bytes;
  if (target === DNAT) return bytes + 56;
  if (target === MASQUERADE || target === SNAT) return bytes + 32;
  if (target === MARK_OR || target === MARK_XOR || target === REJECT_PACKET) return bytes + 16;
  return bytes + 32;
}

/** iptables-nft loads whole bytes where the mask allows; any other mask costs a bitwise expression. */
export function needsBitwise(mask: number): boolean {
  return mask !== 0xffffffff && mask !== netmask(24) && mask !== netmask(16) && mask !== netmask(8);
}
