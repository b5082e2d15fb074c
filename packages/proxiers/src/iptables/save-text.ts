import type { AddressFamily } from '@vipsim/sim-core';
import { familyOf, protocolName } from '../kubernetes/cluster.ts';
import { BUILT_IN_CHAINS } from './chains.ts';
import type { Programmed } from './restore-text.ts';
import {
  COMMENT,
  DESTINATION,
  DESTINATION_NOT,
  FROM_LOCAL,
  MARK,
  MARK_NOT,
  MARK_OR,
  MARK_XOR,
  NFACCT,
  PORT,
  PROTOCOL,
  RECENT_CHECK,
  RECENT_SET,
  REJECT_PACKET,
  SOURCE,
  SOURCE_NOT,
  STATE_FIRST,
  STATISTIC,
  TO_LOCAL,
} from './rule.ts';
import { NFACCT_NAMES, RuleText, stateText } from './rule-text.ts';
import type { RuleTable } from './rule-table.ts';

/** How ip6tables-save and iptables-save differ where they print no address of a rule. */
const FAMILY_WORDS = {
  ipv4: { recentMask: '255.255.255.255', refusal: 'icmp-port-unreachable' },
  ipv6: { recentMask: 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', refusal: 'icmp6-port-unreachable' },
} as const;

/**
 * The tables as iptables-save 1.8.9 prints them, without its dated comment lines and with counters at zero:
 * built-in chains in hook order, user chains by name, the selector before the matches.
 * Source: extensions/libxt_*.c (their save functions), iptables/iptables-save.c.
 */
export function* saveLines(programmed: Programmed): Generator<string> {
  const text = new RuleText(programmed.cluster, programmed.style);
  for (const table of [programmed.filter, programmed.nat]) {
    yield* tableLines(table, text, familyOf(programmed.cluster));
    text.forget();
  }
}

function* tableLines(table: RuleTable, text: RuleText, family: AddressFamily): Generator<string> {
  const live = table.liveChains();
  const builtIn = live.filter((chain) => chain < BUILT_IN_CHAINS);
  if (builtIn.length === 0) return;
  const named = live
    .filter((chain) => chain >= BUILT_IN_CHAINS)
    .map((chain) => ({ chain, name: text.chain(table, chain) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  yield `*${table.name}`;
  for (const chain of builtIn) yield `:${text.chain(table, chain)} ACCEPT [0:0]`;
  for (const { name } of named) yield `:${name} - [0:0]`;
  for (const chain of [...builtIn, ...named.map((entry) => entry.chain)]) {
    const first = table.first[chain]!;
    for (let i = 0; i < table.count[chain]!; i++) yield savedRule(table, chain, first + i, text, family);
  }
  yield 'COMMIT';
}

function savedRule(
  table: RuleTable,
  chain: number,
  row: number,
  text: RuleText,
  family: AddressFamily,
): string {
  const { rules } = table;
  const match = rules.match[row]!;
  const protocol = (match & PROTOCOL) === 0 ? '' : protocolName(rules.protocol[row]!);
  let line = `-A ${text.chain(table, chain)}`;
  // An address with a mask of 0 is no test at all.
  if ((match & (SOURCE | SOURCE_NOT)) !== 0 && rules.sourceMask[row] !== 0) {
    line += `${(match & SOURCE_NOT) === 0 ? '' : ' !'} -s ${text.network(rules.source[row]!, rules.sourceMask[row]!, true)}`;
  }
  if ((match & (DESTINATION | DESTINATION_NOT)) !== 0) {
    line += `${(match & DESTINATION_NOT) === 0 ? '' : ' !'} -d ${text.network(rules.destination[row]!, rules.destinationMask[row]!, true)}`;
  }
  line += text.link(match);
  if (protocol !== '') line += ` -p ${protocol}`;
  if ((match & STATE_FIRST) !== 0) line += stateText(match, rules.value[row]!);
  if ((match & COMMENT) !== 0) line += ` -m comment --comment ${quoted(text.comment(table, chain, row))}`;
  line += recent(table, chain, row, text, family);
  if ((match & TO_LOCAL) !== 0) line += ' -m addrtype --dst-type LOCAL';
  if ((match & FROM_LOCAL) !== 0) line += ' -m addrtype --src-type LOCAL';
  if (protocol !== '') line += ` -m ${protocol}`;
  if ((match & PORT) !== 0) line += ` --dport ${rules.port[row]!}`;
  if ((match & (MARK | MARK_NOT)) !== 0) {
    const mark = hex(rules.value[row]!);
    line += `${(match & MARK_NOT) === 0 ? ' -m mark' : ' -m mark !'} --mark ${mark}/${mark}`;
  }
  if ((match & STATE_FIRST) === 0) line += stateText(match, rules.value[row]!);
  if ((match & STATISTIC) !== 0) {
    const probability = (rules.value[row]! / 2147483648).toFixed(11);
    line += ` -m statistic --mode random --probability ${probability}`;
  }
  // Two spaces: libxt_nfacct.c prints one, and xtables_save_string another.
  if ((match & NFACCT) !== 0) line += ` -m nfacct --nfacct-name  ${NFACCT_NAMES[rules.value[row]!]!}`;
  return line + target(table, row, text, family);
}

function recent(table: RuleTable, chain: number, row: number, text: RuleText, family: AddressFamily): string {
  const match = table.rules.match[row]!;
  if ((match & (RECENT_CHECK | RECENT_SET)) === 0) return '';
  const test = (match & RECENT_SET) !== 0 ? '--set' : `--rcheck --seconds ${table.rules.value[row]!} --reap`;
  return ` -m recent ${test} --name ${text.recentList(table, chain, row)} --mask ${FAMILY_WORDS[family.name].recentMask} --rsource`;
}

function target(table: RuleTable, row: number, text: RuleText, family: AddressFamily): string {
  const mark = hex(table.rules.value[row]!);
  switch (table.rules.target[row]) {
    case MARK_OR:
      return ` -j MARK --set-xmark ${mark}/${mark}`;
    case MARK_XOR:
      return ` -j MARK --set-xmark ${mark}/0x0`;
    case REJECT_PACKET:
      return ` -j REJECT --reject-with ${FAMILY_WORDS[family.name].refusal}`;
    default:
      return text.target(table, row);
  }
}

/** The kernel's mark, without kube-proxy's padding. */
function hex(mark: number): string {
  return `0x${mark.toString(16)}`;
}

function quoted(comment: string): string {
  return comment.startsWith('"') ? comment : `"${comment}"`;
}
