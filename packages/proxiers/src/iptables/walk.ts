import type { Stream } from '@vipsim/sim-core';
import type { Counts } from '../cost/operations.ts';
import type { Recorder } from '../proxier.ts';
import { OPERATION } from './operations.ts';
import { needsBitwise } from './rule-sizes.ts';
import { KUBE_SERVICES } from './chains.ts';
import {
  ACCEPT,
  COMMENT,
  DESTINATION,
  DNAT,
  FROM_LOCAL,
  JUMP,
  MARK,
  MARK_NOT,
  MARK_OR,
  MARK_XOR,
  MASQUERADE,
  NOTHING,
  PORT,
  PROTOCOL,
  REJECT_PACKET,
  RETURN,
  SOURCE,
  SOURCE_NOT,
  STATE,
  STATE_FIRST,
  STATE_NOT,
  STATISTIC,
  TO_LOCAL,
} from './rule.ts';
import type { RuleText } from './rule-text.ts';
import type { RuleTable } from './rule-table.ts';

const HOOK = OPERATION['iptables.hook'];
const SKIPPED = OPERATION['iptables.legacy.skipped'];
const SELECTED = OPERATION['iptables.legacy.selected'];
const MATCHED = OPERATION['iptables.legacy.matched'];
const NFT_RULE = OPERATION['iptables.nft.rule'];
const NFT_META = OPERATION['iptables.nft.meta'];
const NFT_PAYLOAD = OPERATION['iptables.nft.payload'];
const NFT_BITWISE = OPERATION['iptables.nft.bitwise'];
const NFT_CMP = OPERATION['iptables.nft.cmp'];
const NFT_COUNTER = OPERATION['iptables.nft.counter'];
const NFT_VERDICT = OPERATION['iptables.nft.verdict'];
const XT_COMMENT = OPERATION['iptables.match.comment'];
const XT_TRANSPORT = OPERATION['iptables.match.transport'];
const XT_STATISTIC = OPERATION['iptables.match.statistic'];
const XT_ADDRTYPE = OPERATION['iptables.match.addrtype'];
const XT_MARK = OPERATION['iptables.match.mark'];
const XT_CONNTRACK = OPERATION['iptables.match.conntrack'];
const XT_TARGET = OPERATION['iptables.target'];
const XT_JUMP = OPERATION['iptables.jump'];

const DEPTH = 16;
const LOOPBACK = 127;

/**
 * One packet on its way through the rules of a table, rule by rule.
 *
 * Models: selectors, extension matches in their order, targets, the jump stack, and what each backend evaluates
 * on the way: x_tables tests source, destination, protocol and skips a rule at the first difference; iptables-nft
 * writes protocol, source, destination as expressions, then matches in their order, a counter, the verdict.
 * Source: ipt_do_table in net/ipv4/netfilter/ip_tables.c; nft_do_chain in net/netfilter/nf_tables_core.c and the
 * expressions that iptables-nft 1.8.9 loads, as `nft --debug=netlink` lists them; xt_statistic.c.
 * Not modelled: fragments, interfaces, counters' values.
 */
export class Walk {
  // The packet.
  source = 0;
  destination = 0;
  destinationPort = 0;
  protocol = 0;
  /** As `--ctstate` sees it: bits of rule.ts. */
  state = 0;
  mark = 0;
  // What came of it.
  /** ACCEPT, DROP_PACKET, REJECT_PACKET, DNAT or MASQUERADE; ACCEPT also when no rule decided. */
  fate: number = ACCEPT;
  /** The endpoint row of a DNAT, or -1. */
  endpoint = -1;
  recorder: Recorder | undefined = undefined;

  readonly #nft: boolean;
  readonly #nodeAddress: number;
  readonly #statistic: Stream;
  readonly #text: RuleText;
  // Where the walk is.
  #chain = 0;
  #row = 0;
  #end = 0;
  #depth = 0;
  readonly #returnRow = new Int32Array(DEPTH);
  readonly #returnChain = new Int32Array(DEPTH);

  constructor(options: {
    readonly nft: boolean;
    readonly nodeAddress: number;
    readonly statistic: Stream;
    readonly text: RuleText;
  }) {
    this.#nft = options.nft;
    this.#nodeAddress = options.nodeAddress;
    this.#statistic = options.statistic;
    this.#text = options.text;
  }

  /** Whether an address is this node's own: what `addrtype LOCAL` looks up in the local routing table. */
  isLocal(address: number): boolean {
    return address === this.#nodeAddress || address >>> 24 === LOOPBACK;
  }

  /** Walk `table` from a built-in chain. Counts are added; `fate`, `endpoint` and `mark` tell the outcome. */
  run(table: RuleTable, hook: number, counts: Counts): void {
    counts[HOOK]! += 1;
    this.fate = ACCEPT;
    this.endpoint = -1;
    if (!table.isLive(hook)) return;
    this.#depth = 0;
    this.#enter(table, hook);
    const { match } = table.rules;
    for (;;) {
      if (this.#row < this.#end) {
        if (this.#chain === KUBE_SERVICES) this.#scanServices(table, counts);
        else if ((match[this.#row]! & ~COMMENT) === STATISTIC) this.#dispatch(table, counts);
      }
      if (this.#row >= this.#end) {
        // A user chain ends in a RETURN entry, a built-in one in its policy: an entry each in x_tables.
        if (!this.#nft) {
          counts[SELECTED]! += 1;
          counts[MATCHED]! += 1;
        }
        if (this.recorder !== undefined) this.#recordEnd(table);
        if (!this.#leave(table)) return;
      } else if ((match[this.#row]! & ~COMMENT) === STATISTIC || this.#fits(table, this.#row, counts)) {
        if (this.recorder !== undefined) this.#recordMatch(table);
        this.#countMatch(table.rules.target[this.#row]!, counts);
        if (!this.#act(table, this.#row)) return;
      } else {
        this.#row++;
      }
    }
  }

  /** Do what the rule's target says; false when the packet's way through the table ends. */
  #act(table: RuleTable, row: number): boolean {
    const { target, argument, value } = table.rules;
    switch (target[row]) {
      case JUMP:
        this.#returnChain[this.#depth] = this.#chain;
        this.#returnRow[this.#depth] = row + 1;
        this.#depth++;
        this.#enter(table, argument[row]!);
        return true;
      case RETURN:
        return this.#leave(table);
      case MARK_OR:
        this.mark |= value[row]!;
        break;
      case MARK_XOR:
        this.mark ^= value[row]!;
        break;
      case NOTHING:
        break;
      default:
        this.fate = target[row]!;
        if (this.fate === DNAT) this.endpoint = argument[row]!;
        return false;
    }
    this.#row++;
    return true;
  }

  #enter(table: RuleTable, chain: number): void {
    this.#chain = chain;
    this.#row = table.first[chain]!;
    this.#end = this.#row + table.count[chain]!;
  }

  /** Go on after the rule that jumped here; false from a built-in chain. */
  #leave(table: RuleTable): boolean {
    if (this.#depth === 0) return false;
    this.#depth--;
    const chain = this.#returnChain[this.#depth]!;
    this.#enter(table, chain);
    this.#row = this.#returnRow[this.#depth]!;
    return true;
  }

  /** Pass the rules of KUBE-SERVICES whose address or protocol is another. */
  #scanServices(table: RuleTable, counts: Counts): void {
    const end = table.servicesEnd;
    const from = this.#row;
    if (from >= end) return;
    const { destination, protocol } = table.rules;
    const wanted = this.destination;
    const only = table.servicesProtocol;
    let row = from;
    // Rules of another protocol: they fail one expression pair earlier in nf_tables.
    let others = 0;
    if (only === this.protocol) {
      while (row < end && destination[row] !== wanted) row++;
    } else if (only !== 0) {
      row = end;
      others = end - from;
    } else {
      const packetProtocol = this.protocol;
      for (; row < end; row++) {
        if (protocol[row] !== packetProtocol) others++;
        else if (destination[row] === wanted) break;
      }
    }
    const passed = row - from;
    if (this.#nft) {
      counts[NFT_RULE]! += passed;
      counts[NFT_META]! += passed;
      counts[NFT_CMP]! += 2 * passed - others;
      counts[NFT_PAYLOAD]! += passed - others;
    } else {
      counts[SKIPPED]! += passed;
    }
    this.#row = row;
  }

  /** Evaluate statistic rules, one draw each, up to the one that matches or past the last. */
  #dispatch(table: RuleTable, counts: Counts): void {
    const { match, value } = table.rules;
    const stream = this.#statistic;
    const end = this.#end;
    let row = this.#row;
    let comments = 0;
    let evaluated = 0;
    for (; row < end; row++) {
      const tests = match[row]!;
      if ((tests & ~COMMENT) !== STATISTIC) break;
      comments += tests & COMMENT;
      evaluated++;
      const drawn = stream.uint32() & 0x7fffffff;
      const hit = drawn < value[row]!;
      if (this.recorder !== undefined) {
        this.recorder.step('statistic', `drew ${drawn}, ${hit ? 'below' : 'not below'} ${value[row]!}`);
      }
      if (hit) break;
    }
    counts[this.#nft ? NFT_RULE : SELECTED]! += evaluated;
    counts[XT_COMMENT]! += comments;
    counts[XT_STATISTIC]! += evaluated;
    this.#row = row;
  }

  #fits(table: RuleTable, row: number, counts: Counts): boolean {
    const match = table.rules.match[row]!;
    if (this.#nft) {
      if (!this.#nftSelects(table, row, match, counts)) return false;
    } else if (this.#selects(table, row, match)) {
      counts[SELECTED]! += 1;
    } else {
      counts[SKIPPED]! += 1;
      return false;
    }
    return this.#extensionsFit(table, row, match, counts);
  }

  #selects(table: RuleTable, row: number, match: number): boolean {
    const { rules } = table;
    if ((match & PROTOCOL) !== 0 && rules.protocol[row] !== this.protocol) return false;
    return this.#sourceFits(table, row, match) && this.#destinationFits(table, row);
  }

  #nftSelects(table: RuleTable, row: number, match: number, counts: Counts): boolean {
    const { rules } = table;
    counts[NFT_RULE]! += 1;
    if ((match & PROTOCOL) !== 0) {
      counts[NFT_META]! += 1;
      counts[NFT_CMP]! += 1;
      if (rules.protocol[row] !== this.protocol) return false;
    }
    if ((match & (SOURCE | SOURCE_NOT)) !== 0) {
      countAddressTest(rules.sourceMask[row]!, counts);
      if (!this.#sourceFits(table, row, match)) return false;
    }
    if ((match & DESTINATION) === 0) return true;
    countAddressTest(rules.destinationMask[row]!, counts);
    return this.#destinationFits(table, row);
  }

  #sourceFits(table: RuleTable, row: number, match: number): boolean {
    const { source, sourceMask } = table.rules;
    const inside = ((this.source ^ source[row]!) & sourceMask[row]!) === 0;
    return inside !== ((match & SOURCE_NOT) !== 0);
  }

  #destinationFits(table: RuleTable, row: number): boolean {
    const { destination, destinationMask } = table.rules;
    return ((this.destination ^ destination[row]!) & destinationMask[row]!) === 0;
  }

  #extensionsFit(table: RuleTable, row: number, match: number, counts: Counts): boolean {
    const { rules } = table;
    const stateFirst = (match & STATE_FIRST) !== 0;
    if (stateFirst && !this.#stateFits(rules.value[row]!, match, counts)) return false;
    if ((match & COMMENT) !== 0) counts[XT_COMMENT]! += 1;
    if ((match & (TO_LOCAL | FROM_LOCAL)) !== 0) {
      counts[XT_ADDRTYPE]! += 1;
      if (!this.isLocal((match & TO_LOCAL) !== 0 ? this.destination : this.source)) return false;
    }
    if ((match & PROTOCOL) !== 0 && !this.#transportFits(rules.port[row]!, match, counts)) return false;
    if ((match & (MARK | MARK_NOT)) !== 0 && !this.#markFits(rules.value[row]!, match, counts)) return false;
    return stateFirst || (match & (STATE | STATE_NOT)) === 0
      ? true
      : this.#stateFits(rules.value[row]!, match, counts);
  }

  #transportFits(port: number, match: number, counts: Counts): boolean {
    // Without ports `-m tcp` has nothing to translate and stays a call in nf_tables as well.
    if (!this.#nft || (match & PORT) === 0) {
      counts[XT_TRANSPORT]! += 1;
    } else {
      counts[NFT_PAYLOAD]! += 1;
      counts[NFT_CMP]! += 1;
    }
    return (match & PORT) === 0 || port === this.destinationPort;
  }

  #markFits(value: number, match: number, counts: Counts): boolean {
    if (this.#nft) {
      counts[NFT_META]! += 1;
      counts[NFT_BITWISE]! += 1;
      counts[NFT_CMP]! += 1;
    } else {
      counts[XT_MARK]! += 1;
    }
    return ((this.mark & value) === value) !== ((match & MARK_NOT) !== 0);
  }

  #stateFits(states: number, match: number, counts: Counts): boolean {
    counts[XT_CONNTRACK]! += 1;
    return ((this.state & states) !== 0) !== ((match & STATE_NOT) !== 0);
  }

  #countMatch(target: number, counts: Counts): void {
    const isCall =
      target === DNAT ||
      target === MASQUERADE ||
      target === MARK_OR ||
      target === MARK_XOR ||
      target === REJECT_PACKET;
    if (isCall) counts[XT_TARGET]! += 1;
    if (target === JUMP) counts[XT_JUMP]! += 1;
    if (!this.#nft) {
      counts[MATCHED]! += 1;
      return;
    }
    counts[NFT_COUNTER]! += 1;
    if (!isCall && target !== NOTHING) counts[NFT_VERDICT]! += 1;
  }

  #recordMatch(table: RuleTable): void {
    const chain = this.#chain;
    const passed = this.#row - table.first[chain]!;
    const rule = this.#text.rule(table, chain, this.#row);
    const place = `rule ${passed + 1} of ${table.count[chain]!}, the first ${passed} did not end the walk`;
    this.recorder!.step(`${table.name} ${this.#text.chain(table, chain)}`, `${place}: ${rule}`);
    // Names are kept only as long as one step needs them: the chains may change before the next.
    this.#text.forget();
  }

  #recordEnd(table: RuleTable): void {
    const end = this.#depth === 0 ? 'policy ACCEPT' : 'back to the calling chain';
    const name = `${table.name} ${this.#text.chain(table, this.#chain)}`;
    this.recorder!.step(name, `none of ${table.count[this.#chain]!} rules decided: ${end}`);
    this.#text.forget();
  }
}

function countAddressTest(mask: number, counts: Counts): void {
  if (mask === 0) return;
  counts[NFT_PAYLOAD]! += 1;
  counts[NFT_CMP]! += 1;
  if (needsBitwise(mask)) counts[NFT_BITWISE]! += 1;
}
