import type { SyncFailure } from '../proxier.ts';
import { legacyEntries } from './dataplane.ts';
import type { Holding } from './rule-table.ts';

/**
 * x_tables allocates a table and its header in one piece, which must stay below 512 MiB.
 * Source: xt_alloc_table_info in net/netfilter/x_tables.c; XT_MAX_TABLE_SIZE.
 */
export const LEGACY_TABLE_LIMIT = 536_870_912;
const HEADER = 64;

export function fitsLegacy(bytes: number): boolean {
  return bytes + HEADER < LEGACY_TABLE_LIMIT;
}

/** What comes of a nat table that is too large; undefined if it is not. */
export function refusalOf(nat: Holding): SyncFailure | undefined {
  if (fitsLegacy(nat.bytes)) return undefined;
  return {
    error: 'ENOMEM',
    message:
      `the nat table would take ${nat.bytes} bytes for ${legacyEntries(nat)} entries and x_tables refuses ` +
      `tables of ${LEGACY_TABLE_LIMIT} bytes or more: the rules of before stay; the nft backend has no such limit`,
  };
}
