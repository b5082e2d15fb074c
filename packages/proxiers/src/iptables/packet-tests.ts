import type { Stream } from '@vipsim/sim-core';
import type { Counts } from '../cost/operations.ts';
import type { Recorder } from '../proxier.ts';
import { OPERATION } from './operations.ts';
import type { RecentLists } from './recent-lists.ts';
import { listOf } from './recent-rules.ts';
import * as bits from './rule.ts';
import type { RuleTable } from './rule-table.ts';
import { needsBitwise } from './rule-sizes.ts';

// Constants of this module: those of others are read again at every use in optimised code.
const { COMMENT, TO_LOCAL, FROM_LOCAL, PROTOCOL, PORT, DESTINATION, DESTINATION_NOT } = bits;
const { SOURCE, SOURCE_NOT, MARK, MARK_NOT, STATE, STATE_NOT, STATE_FIRST, STATISTIC } = bits;
const { RECENT_CHECK, RECENT_SET, FROM_LINK, FROM_LINK_NOT, NFACCT } = bits;
const SKIPPED = OPERATION['iptables.legacy.skipped'];
const SELECTED = OPERATION['iptables.legacy.selected'];
const NFT_RULE = OPERATION['iptables.nft.rule'];
const NFT_META = OPERATION['iptables.nft.meta'];
const NFT_PAYLOAD = OPERATION['iptables.nft.payload'];
const NFT_BITWISE = OPERATION['iptables.nft.bitwise'];
const NFT_CMP = OPERATION['iptables.nft.cmp'];
const XT_COMMENT = OPERATION['iptables.match.comment'];
const XT_TRANSPORT = OPERATION['iptables.match.transport'];
const XT_STATISTIC = OPERATION['iptables.match.statistic'];
const XT_ADDRTYPE = OPERATION['iptables.match.addrtype'];
const XT_MARK = OPERATION['iptables.match.mark'];
const XT_CONNTRACK = OPERATION['iptables.match.conntrack'];
const XT_NFACCT = OPERATION['iptables.match.nfacct'];

const LOOPBACK = 127;
/** The value column of a rule that asks for states may name an nfacct counter as well, in higher bits. */
const STATES = 31;

/** What both halves of a walk stand on. */
export interface WalkContext {
  /** iptables-nft rather than x_tables. */
  readonly nft: boolean;
  readonly nodeAddress: number;
  readonly statistic: Stream;
  readonly recent: RecentLists;
}

/**
 * A packet, and whether it fits a rule: the rule's selector, then its extension matches, with what each backend
 * evaluates on the way up to the first difference. x_tables tests source, destination, interface, protocol in one
 * go; iptables-nft writes interface, protocol, source, destination as expressions, then the matches.
 *
 * Source: ip_packet_match and ipt_do_table in net/ipv4/netfilter/ip_tables.c; the expressions that iptables-nft
 * 1.8.9 loads, as `nft --debug=netlink` lists them; xt_statistic.c, xt_recent.c, xt_conntrack.c, xt_nfacct.c.
 * Not modelled: fragments, interfaces other than those of pods, counters' values.
 */
export abstract class PacketTests {
  source = 0;
  destination = 0;
  destinationPort = 0;
  protocol = 0;
  /** As `--ctstate` sees it: bits of rule.ts. */
  state = 0;
  mark = 0;
  /** Came in through the interface by which the local detector tells pods. */
  fromPod = false;
  nowNs = 0;
  recorder: Recorder | undefined = undefined;

  protected readonly nft: boolean;
  protected readonly statistic: Stream;
  protected readonly recent: RecentLists;
  readonly #nodeAddress: number;

  constructor({ nft, nodeAddress, statistic, recent }: WalkContext) {
    this.nft = nft;
    this.#nodeAddress = nodeAddress;
    this.statistic = statistic;
    this.recent = recent;
  }

  /** Whether an address is this node's own: what `addrtype LOCAL` looks up in the local routing table. */
  isLocal(address: number): boolean {
    return address === this.#nodeAddress || address >>> 24 === LOOPBACK;
  }

  protected fits(table: RuleTable, chain: number, row: number, counts: Counts): boolean {
    const match = table.rules.match[row]!;
    if (this.nft) {
      if (!this.#nftSelects(table, row, match, counts)) return false;
    } else if (this.#selects(table, row, match)) {
      counts[SELECTED]! += 1;
    } else {
      counts[SKIPPED]! += 1;
      return false;
    }
    return this.#extensionsFit(table, chain, row, match, counts);
  }

  /** One draw: the low 31 bits against the threshold. */
  protected drawBelow(threshold: number): boolean {
    const drawn = this.statistic.uint32() & 0x7fffffff;
    const hit = drawn < threshold;
    if (this.recorder !== undefined) {
      this.recorder.step('statistic', `drew ${drawn}, ${hit ? 'below' : 'not below'} ${threshold}`);
    }
    return hit;
  }

  /** `--rcheck` of the list of `chain`. */
  protected remembers(chain: number, seconds: number, counts: Counts): boolean {
    const hit = this.recent.check(chain, this.source, seconds, this.nowNs, counts);
    if (this.recorder !== undefined) {
      const place = `list ${this.recent.position(chain)} of ${this.recent.lists}`;
      const said = hit
        ? `has the address, set within ${seconds} s`
        : `has no address set within ${seconds} s`;
      this.recorder.step('recent', `${place} ${said}`);
    }
    return hit;
  }

  #selects(table: RuleTable, row: number, match: number): boolean {
    if ((match & PROTOCOL) !== 0 && table.rules.protocol[row] !== this.protocol) return false;
    return (
      this.#sourceFits(table, row, match) && this.#destinationFits(table, row, match) && this.#linkFits(match)
    );
  }

  #nftSelects(table: RuleTable, row: number, match: number, counts: Counts): boolean {
    const { rules } = table;
    counts[NFT_RULE]! += 1;
    if ((match & (FROM_LINK | FROM_LINK_NOT)) !== 0) {
      counts[NFT_META]! += 1;
      counts[NFT_CMP]! += 1;
      if (!this.#linkFits(match)) return false;
    }
    if ((match & PROTOCOL) !== 0) {
      counts[NFT_META]! += 1;
      counts[NFT_CMP]! += 1;
      if (rules.protocol[row] !== this.protocol) return false;
    }
    if ((match & (SOURCE | SOURCE_NOT)) !== 0) {
      countAddressTest(rules.sourceMask[row]!, counts);
      if (!this.#sourceFits(table, row, match)) return false;
    }
    if ((match & (DESTINATION | DESTINATION_NOT)) === 0) return true;
    countAddressTest(rules.destinationMask[row]!, counts);
    return this.#destinationFits(table, row, match);
  }

  #linkFits(match: number): boolean {
    if ((match & (FROM_LINK | FROM_LINK_NOT)) === 0) return true;
    return this.fromPod === ((match & FROM_LINK) !== 0);
  }

  #sourceFits(table: RuleTable, row: number, match: number): boolean {
    if ((match & (SOURCE | SOURCE_NOT)) === 0) return true;
    const { source, sourceMask } = table.rules;
    const inside = ((this.source ^ source[row]!) & sourceMask[row]!) === 0;
    return inside !== ((match & SOURCE_NOT) !== 0);
  }

  #destinationFits(table: RuleTable, row: number, match: number): boolean {
    if ((match & (DESTINATION | DESTINATION_NOT)) === 0) return true;
    const { destination, destinationMask } = table.rules;
    const inside = ((this.destination ^ destination[row]!) & destinationMask[row]!) === 0;
    return inside !== ((match & DESTINATION_NOT) !== 0);
  }

  #extensionsFit(table: RuleTable, chain: number, row: number, match: number, counts: Counts): boolean {
    const { rules } = table;
    const value = rules.value[row]!;
    const stateFirst = (match & STATE_FIRST) !== 0;
    if (stateFirst && !this.#stateFits(value, match, counts)) return false;
    if ((match & COMMENT) !== 0) counts[XT_COMMENT]! += 1;
    if ((match & (TO_LOCAL | FROM_LOCAL)) !== 0) {
      counts[XT_ADDRTYPE]! += 1;
      if ((match & TO_LOCAL) !== 0 && !this.isLocal(this.destination)) return false;
      if ((match & FROM_LOCAL) !== 0 && !this.isLocal(this.source)) return false;
    }
    if ((match & RECENT_SET) !== 0) this.recent.set(chain, this.source, this.nowNs, counts);
    else if ((match & RECENT_CHECK) !== 0 && !this.remembers(listOf(table, chain, row), value, counts))
      return false;
    if ((match & PROTOCOL) !== 0 && !this.#transportFits(rules.port[row]!, match, counts)) return false;
    if ((match & (MARK | MARK_NOT)) !== 0 && !this.#markFits(value, match, counts)) return false;
    if (!stateFirst && (match & (STATE | STATE_NOT)) !== 0 && !this.#stateFits(value, match, counts))
      return false;
    if ((match & STATISTIC) !== 0) {
      counts[XT_STATISTIC]! += 1;
      if (!this.drawBelow(value)) return false;
    }
    if ((match & NFACCT) !== 0) counts[XT_NFACCT]! += 1;
    return true;
  }

  #transportFits(port: number, match: number, counts: Counts): boolean {
    // Without ports `-m tcp` has nothing to translate and stays a call in nf_tables as well.
    if (!this.nft || (match & PORT) === 0) {
      counts[XT_TRANSPORT]! += 1;
    } else {
      counts[NFT_PAYLOAD]! += 1;
      counts[NFT_CMP]! += 1;
    }
    return (match & PORT) === 0 || port === this.destinationPort;
  }

  #markFits(value: number, match: number, counts: Counts): boolean {
    if (this.nft) {
      counts[NFT_META]! += 1;
      counts[NFT_BITWISE]! += 1;
      counts[NFT_CMP]! += 1;
    } else {
      counts[XT_MARK]! += 1;
    }
    return (((this.mark & value) ^ value) === 0) !== ((match & MARK_NOT) !== 0);
  }

  #stateFits(states: number, match: number, counts: Counts): boolean {
    counts[XT_CONNTRACK]! += 1;
    return ((this.state & states & STATES) !== 0) !== ((match & STATE_NOT) !== 0);
  }
}

function countAddressTest(mask: number, counts: Counts): void {
  if (mask === 0) return;
  counts[NFT_PAYLOAD]! += 1;
  counts[NFT_CMP]! += 1;
  if (needsBitwise(mask)) counts[NFT_BITWISE]! += 1;
}
