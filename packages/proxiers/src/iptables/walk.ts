import { longer } from '@vipsim/sim-core';
import type { Counts } from '../cost/operations.ts';
import { INDEXED_FROM, type CandidateIndex } from './candidate-index.ts';
import * as chains from './chains.ts';
import { OPERATION } from './operations.ts';
import { PacketTests, type WalkContext } from './packet-tests.ts';
import { listOf } from './recent-rules.ts';
import * as bits from './rule.ts';
import type { RuleText } from './rule-text.ts';
import type { RuleTable } from './rule-table.ts';
import { WalkRecord } from './walk-record.ts';

// Constants of this module: those of others are read again at every use in optimised code.
const { ACCEPT, COMMENT, DNAT, JUMP, MARK_OR, MARK_XOR, MASQUERADE, NOTHING } = bits;
const { RECENT_CHECK, REJECT_PACKET, RETURN, SNAT, STATISTIC } = bits;
const { KUBE_SERVICES } = chains;
const LONG = INDEXED_FROM;
const HOOK = OPERATION['iptables.hook'];
const SKIPPED = OPERATION['iptables.legacy.skipped'];
const SELECTED = OPERATION['iptables.legacy.selected'];
const MATCHED = OPERATION['iptables.legacy.matched'];
const NFT_RULE = OPERATION['iptables.nft.rule'];
const NFT_META = OPERATION['iptables.nft.meta'];
const NFT_PAYLOAD = OPERATION['iptables.nft.payload'];
const NFT_CMP = OPERATION['iptables.nft.cmp'];
const NFT_COUNTER = OPERATION['iptables.nft.counter'];
const NFT_VERDICT = OPERATION['iptables.nft.verdict'];
const XT_COMMENT = OPERATION['iptables.match.comment'];
const XT_STATISTIC = OPERATION['iptables.match.statistic'];
const XT_TARGET = OPERATION['iptables.target'];
const XT_JUMP = OPERATION['iptables.jump'];

/**
 * One packet on its way through the rules of a table.
 *
 * Models: the order of rules, targets, the jump stack, RETURN and policies. The *literal* walk visits every rule,
 * as kernels do; otherwise an index finds the rules of long chains that the packet could fit, with equal verdicts,
 * counts and draws (candidate-index.ts). Rules that draw or ask recent lists are evaluated one by one in both.
 * Source: ipt_do_table in net/ipv4/netfilter/ip_tables.c; nft_do_chain in net/netfilter/nf_tables_core.c.
 * Not modelled: --goto, counters' values, policies other than ACCEPT.
 */
export class Walk extends PacketTests {
  /** ACCEPT, DROP_PACKET, REJECT_PACKET, DNAT, MASQUERADE or SNAT; ACCEPT also when no rule decided. */
  fate: number = ACCEPT;
  /** The endpoint row of a DNAT, or -1. */
  endpoint = -1;
  literal: boolean;

  readonly #record: WalkRecord;
  // Where the walk is.
  #chain = 0;
  #row = 0;
  #end = 0;
  #index: CandidateIndex | undefined = undefined;
  // What is over: pairs of a chain that returned and the row behind the last one evaluated there; chains walked to
  // the end. What is not is on the jump stack.
  #left: Int32Array = new Int32Array(32);
  #leftLength = 0;
  #ends = 0;
  #depth = 0;
  #returnRow: Int32Array = new Int32Array(16);
  #returnChain: Int32Array = new Int32Array(16);

  constructor(context: WalkContext & { readonly text: RuleText; readonly literal?: boolean }) {
    super(context);
    this.#record = new WalkRecord(context.text, context.nft);
    this.literal = context.literal ?? false;
  }

  /** Walk `table` from a built-in chain. Counts are added; `fate`, `endpoint` and `mark` tell the outcome. */
  run(table: RuleTable, hook: number, counts: Counts): void {
    counts[HOOK]! += 1;
    this.fate = ACCEPT;
    this.endpoint = -1;
    this.#depth = 0;
    this.#leftLength = 0;
    this.#ends = 0;
    this.#enter(table, hook);
    if (!table.isLive(hook)) return;
    if (this.recorder === undefined) {
      this.#traverse(table, counts);
      return;
    }
    const before = counts.slice();
    this.#traverse(table, counts);
    this.#record.sum(this.recorder, table, hook, before, counts, this.bytes(table));
  }

  /**
   * Bytes of the entries (nf_tables: rules) that the last run, which was of `table`, evaluated up to the one that
   * ended it; to be asked before the table changes. Not an operation: what reading them costs is in the prices of
   * rules, which rise with the bytes of the table.
   */
  bytes(table: RuleTable): number {
    let bytes = this.#ends * table.entryBytes.end;
    for (let i = 0; i < this.#leftLength; i += 2) {
      bytes += table.bytesPassed(table.first[this.#left[i]!]!, this.#left[i + 1]!);
    }
    for (let i = 0; i < this.#depth; i++) {
      bytes += table.bytesPassed(table.first[this.#returnChain[i]!]!, this.#returnRow[i]!);
    }
    const decided = this.#row < this.#end ? 1 : 0;
    return bytes + table.bytesPassed(table.first[this.#chain]!, this.#row + decided);
  }

  #traverse(table: RuleTable, counts: Counts): void {
    for (;;) {
      this.#pass(table, counts);
      if (this.#row < this.#end) {
        if (!this.#meet(table, counts)) continue;
        if (this.recorder !== undefined) this.#record.match(this.recorder, table, this.#chain, this.#row);
        this.#countMatch(table.rules.target[this.#row]!, counts);
        if (!this.#act(table, this.#row)) return;
      } else {
        this.#ends++;
        // A user chain ends in a RETURN entry, a built-in one in its policy: an entry each in x_tables.
        if (!this.nft) {
          counts[SELECTED]! += 1;
          counts[MATCHED]! += 1;
        }
        if (this.recorder !== undefined)
          this.#record.end(this.recorder, table, this.#chain, this.#depth === 0);
        if (this.#depth === 0) return;
        this.#leave(table, this.#end);
      }
    }
  }

  /** Pass rules that the packet differs from in protocol, address or port, where that can be told at once. */
  #pass(table: RuleTable, counts: Counts): void {
    if (this.#index !== undefined) {
      const first = table.first[this.#chain]!;
      const from = this.#row - first;
      const to = this.#index.next(from, this.destination, this.destinationPort);
      if (to === from) return;
      this.#index.pass(from, to, this.protocol, this.nft, counts);
      this.#row = first + to;
    } else if (this.#chain === KUBE_SERVICES && this.#row < table.servicesEnd) {
      this.#scanServices(table, counts);
    }
  }

  /** Evaluate the rule at hand, or a run of such that draw or ask: true with the row of one that fits, else behind. */
  #meet(table: RuleTable, counts: Counts): boolean {
    const tests = table.rules.match[this.#row]! & ~COMMENT;
    if (tests === STATISTIC) return this.#dispatch(table, counts);
    if (tests === RECENT_CHECK) return this.#recall(table, counts);
    if (this.fits(table, this.#chain, this.#row, counts)) return true;
    this.#row++;
    return false;
  }

  /** Do what the rule's target says; false when the packet's way through the table ends. */
  #act(table: RuleTable, row: number): boolean {
    const { target, argument, value } = table.rules;
    switch (target[row]) {
      case JUMP:
        this.#jump(table, argument[row]!);
        return true;
      case RETURN:
        // From a built-in chain to its policy, as if the rules behind were none.
        if (this.#depth === 0) {
          this.#row = row + 1;
          this.#end = row + 1;
          this.#index = undefined;
          return true;
        }
        this.#leave(table, row + 1);
        return true;
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

  #jump(table: RuleTable, chain: number): void {
    if (this.#depth === this.#returnRow.length) {
      this.#returnRow = longer(this.#returnRow, this.#depth * 2);
      this.#returnChain = longer(this.#returnChain, this.#depth * 2);
    }
    this.#returnChain[this.#depth] = this.#chain;
    this.#returnRow[this.#depth] = this.#row + 1;
    this.#depth++;
    this.#enter(table, chain);
  }

  #enter(table: RuleTable, chain: number): void {
    const count = table.count[chain]!;
    this.#chain = chain;
    this.#row = table.first[chain]!;
    this.#end = this.#row + count;
    this.#index = count < LONG || this.literal ? undefined : table.candidates(chain);
  }

  /** Go on after the rule that jumped here. `end` is behind the last row that was evaluated in this chain. */
  #leave(table: RuleTable, end: number): void {
    const left = this.#leftLength;
    if (left === this.#left.length) this.#left = longer(this.#left, left * 2);
    this.#left[left] = this.#chain;
    this.#left[left + 1] = end;
    this.#leftLength = left + 2;
    this.#depth--;
    this.#enter(table, this.#returnChain[this.#depth]!);
    this.#row = this.#returnRow[this.#depth]!;
  }

  /** The literal way past rules of KUBE-SERVICES: compare each one's destination, and protocols where they differ. */
  #scanServices(table: RuleTable, counts: Counts): void {
    const from = this.#row;
    const end = table.servicesEnd;
    const only = table.servicesProtocol;
    const { protocol } = table.rules;
    const destination = table.rules.destinationBits;
    const wanted = this.destination | 0;
    let row = from;
    // Rules of another protocol: they fail one expression pair earlier in nf_tables.
    let others = 0;
    if (only === this.protocol) {
      row = firstEqual(destination, from, end, wanted);
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
    if (this.nft) {
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
  #dispatch(table: RuleTable, counts: Counts): boolean {
    const { match, value } = table.rules;
    const end = this.#end;
    const from = this.#row;
    let row = from;
    let comments = 0;
    let hit = false;
    for (; row < end; row++) {
      const tests = match[row]!;
      if ((tests & ~COMMENT) !== STATISTIC) break;
      comments += tests & COMMENT;
      hit = this.drawBelow(value[row]!);
      if (hit) break;
    }
    const evaluated = hit ? row + 1 - from : row - from;
    counts[this.nft ? NFT_RULE : SELECTED]! += evaluated;
    counts[XT_COMMENT]! += comments;
    counts[XT_STATISTIC]! += evaluated;
    this.#row = row;
    return hit;
  }

  /** Evaluate affinity rules, one list each, up to the one that remembers the client or past the last. */
  #recall(table: RuleTable, counts: Counts): boolean {
    const { match, value } = table.rules;
    const end = this.#end;
    const from = this.#row;
    let row = from;
    let comments = 0;
    let hit = false;
    for (; row < end; row++) {
      const tests = match[row]!;
      if ((tests & ~COMMENT) !== RECENT_CHECK) break;
      comments += tests & COMMENT;
      hit = this.remembers(listOf(table, this.#chain, row), value[row]!, counts);
      if (hit) break;
    }
    counts[this.nft ? NFT_RULE : SELECTED]! += hit ? row + 1 - from : row - from;
    counts[XT_COMMENT]! += comments;
    this.#row = row;
    return hit;
  }

  #countMatch(target: number, counts: Counts): void {
    const isCall =
      target === DNAT ||
      target === MASQUERADE ||
      target === SNAT ||
      target === MARK_OR ||
      target === MARK_XOR ||
      target === REJECT_PACKET;
    if (isCall) counts[XT_TARGET]! += 1;
    if (target === JUMP) counts[XT_JUMP]! += 1;
    if (!this.nft) {
      counts[MATCHED]! += 1;
      return;
    }
    counts[NFT_COUNTER]! += 1;
    if (!isCall && target !== NOTHING) counts[NFT_VERDICT]! += 1;
  }
}

/** The first row in [from, end) that holds `wanted`, or `end`. */
function firstEqual(column: Int32Array, from: number, end: number, wanted: number): number {
  let row = from;
  const last = end - 3;
  while (row < last) {
    if (column[row] === wanted) return row;
    if (column[row + 1] === wanted) return row + 1;
    if (column[row + 2] === wanted) return row + 2;
    if (column[row + 3] === wanted) return row + 3;
    row += 4;
  }
  while (row < end && column[row] !== wanted) row++;
  return row;
}
