import type { Counts } from '../cost/operations.ts';
import { legacyEntries } from './dataplane.ts';
import { IPTABLES_OPERATIONS, OPERATION } from './operations.ts';
import type { Holding } from './rule-table.ts';

const PROCESS = OPERATION['process.launch'];
const SERVICE = OPERATION['iptables.sync.service'];
const ENDPOINT = OPERATION['iptables.sync.endpoint'];
const LINE_LEGACY = OPERATION['iptables.sync.line-legacy'];
const LINE_NFT = OPERATION['iptables.sync.line-nft'];
const SAVED = OPERATION['iptables.sync.saved'];
const PACKED = OPERATION['iptables.sync.packed'];
const READ = OPERATION['iptables.kernel.read'];
const REPLACED = OPERATION['iptables.kernel.replaced'];
const WRITTEN = OPERATION['iptables.kernel.written'];
const VALIDATED = OPERATION['iptables.kernel.validated'];

/**
 * What the parts of a sync cost, in operations.
 *
 * Models: generation over all service ports and endpoints, whatever is written (KEP-3453); iptables-save of nat
 * where leftover chains are looked for; the lines of a table and what its COMMIT makes the kernel do. x_tables: the
 * whole table copied out, packed anew by libiptc, checked and swapped in, even for one rule (do_replace in
 * net/ipv4/netfilter/ip_tables.c). nf_tables: rules and chains of the text, and a validation of the whole table
 * (nf_tables_validate in net/netfilter/nf_tables_api.c).
 */
export class SyncCounts {
  readonly #nft: boolean;

  constructor(nft: boolean) {
    this.#nft = nft;
  }

  /** Generation, and the start of the one iptables-restore. */
  generation(servicePorts: number, endpoints: number): Counts {
    const counts = new Float64Array(IPTABLES_OPERATIONS.length);
    counts[SERVICE] = servicePorts;
    counts[ENDPOINT] = endpoints;
    counts[PROCESS] = 1;
    return counts;
  }

  /** `iptables-save -t nat`; `entries` as x_tables counts them. */
  listing(nat: Holding, entries: number): Counts {
    const counts = new Float64Array(IPTABLES_OPERATIONS.length);
    counts[PROCESS] = 1;
    counts[SAVED] = nat.rules + nat.chains + nat.builtIns;
    if (!this.#nft) counts[READ] = entries;
    return counts;
  }

  /**
   * From a table's `*` line to its COMMIT: `lines` with these two, the legacy entries before, what the table holds
   * after. A table that is too large is refused before it is copied in.
   */
  table(table: {
    readonly lines: number;
    readonly entriesBefore: number;
    readonly after: Holding;
    readonly refused?: boolean;
  }): Counts {
    const counts = new Float64Array(IPTABLES_OPERATIONS.length);
    if (this.#nft) {
      counts[LINE_NFT] = table.lines;
      counts[WRITTEN] = table.lines - 2;
      counts[VALIDATED] = table.after.rules;
    } else {
      const entries = legacyEntries(table.after);
      counts[LINE_LEGACY] = table.lines;
      counts[READ] = table.entriesBefore;
      counts[PACKED] = entries;
      counts[REPLACED] = table.refused === true ? 0 : entries;
    }
    return counts;
  }
}
