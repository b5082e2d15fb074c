import { NFT_SIZES, nftBlobBytes, type RuleSizes } from './rule-sizes.ts';

/** Bytes of what a packet meets on its walk, and of what lies between. */
export interface EntryBytes {
  /** A rule, by its tests and its target. */
  rule(match: number, target: number): number;
  /** x_tables: the entry that ends a chain, RETURN or policy. 0 in nf_tables, where chains end without one. */
  readonly end: number;
  /** x_tables: the ERROR entry before a user chain and at the end of the table, which no packet meets. Else 0. */
  readonly head: number;
}

/**
 * x_tables: entries as they lie in the table's blob. nf_tables: rules as they lie in their chain's blob.
 * Source: struct ipt_entry and ip6t_entry; struct nft_rule_dp in include/net/netfilter/nf_tables.h.
 */
export function entryBytesOf(sizes: RuleSizes): EntryBytes {
  if (isOneBlob(sizes)) {
    return { rule: (match, target) => sizes.rule(match, target), end: sizes.builtIn, head: sizes.table };
  }
  // What another family adds to an expression it adds to both copies, of which packets read one.
  const wider = (match: number, target: number): number =>
    (sizes.rule(match, target) - NFT_SIZES.rule(match, target)) / 2;
  return { rule: (match, target) => nftBlobBytes(match, target) + wider(match, target), end: 0, head: 0 };
}

/** In x_tables a user chain begins with an ERROR entry like the table's last, and ends with one like a policy. */
function isOneBlob({ chain, builtIn, table }: RuleSizes): boolean {
  return chain === table + builtIn;
}
