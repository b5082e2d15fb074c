import { formatIpv4 } from '@vipsim/sim-core';
import { protocolName } from '../kubernetes/cluster.ts';
import { BUILT_IN_CHAINS } from './chains.ts';
import type { Programmed } from './restore-text.ts';
import {
  COMMENT,
  DESTINATION,
  FROM_LOCAL,
  MARK,
  MARK_NOT,
  MARK_OR,
  MARK_XOR,
  PORT,
  PROTOCOL,
  REJECT_PACKET,
  SOURCE,
  SOURCE_NOT,
  STATE_FIRST,
  STATISTIC,
  TO_LOCAL,
} from './rule.ts';
import { RuleText, stateText, type TextStyle } from './rule-text.ts';
import type { RuleTable } from './rule-table.ts';

/** The kernel's mark, without kube-proxy's padding. */
const SAVE_STYLE: TextStyle = { mark: '0x4000', randomFully: true };

/**
 * The tables as iptables-save 1.8.9 prints them, without its dated comment lines and with counters at zero:
 * built-in chains in hook order, user chains by name, the selector before the matches.
 * Source: extensions/libxt_*.c (their save functions), iptables/iptables-save.c.
 */
export function* saveLines(programmed: Programmed): Generator<string> {
  const text = new RuleText(programmed.cluster, SAVE_STYLE);
  for (const table of [programmed.filter, programmed.nat]) {
    yield* tableLines(table, text);
    text.forget();
  }
}

function* tableLines(table: RuleTable, text: RuleText): Generator<string> {
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
    for (let i = 0; i < table.count[chain]!; i++) yield savedRule(table, chain, first + i, text);
  }
  yield 'COMMIT';
}

function savedRule(table: RuleTable, chain: number, row: number, text: RuleText): string {
  const { rules } = table;
  const match = rules.match[row]!;
  const protocol = (match & PROTOCOL) === 0 ? '' : protocolName(rules.protocol[row]!);
  let line = `-A ${text.chain(table, chain)}`;
  // An address with a mask of 0 is no test at all.
  if ((match & (SOURCE | SOURCE_NOT)) !== 0 && rules.sourceMask[row] !== 0) {
    line += `${(match & SOURCE_NOT) === 0 ? '' : ' !'} -s ${network(rules.source[row]!, rules.sourceMask[row]!)}`;
  }
  if ((match & DESTINATION) !== 0) {
    line += ` -d ${network(rules.destination[row]!, rules.destinationMask[row]!)}`;
  }
  if (protocol !== '') line += ` -p ${protocol}`;
  if ((match & STATE_FIRST) !== 0) line += stateText(match, rules.value[row]!);
  if ((match & COMMENT) !== 0) line += ` -m comment --comment ${quoted(text.comment(table, chain, row))}`;
  if ((match & TO_LOCAL) !== 0) line += ' -m addrtype --dst-type LOCAL';
  if ((match & FROM_LOCAL) !== 0) line += ' -m addrtype --src-type LOCAL';
  if (protocol !== '') line += ` -m ${protocol}`;
  if ((match & PORT) !== 0) line += ` --dport ${rules.port[row]!}`;
  if ((match & (MARK | MARK_NOT)) !== 0) {
    line += `${(match & MARK_NOT) === 0 ? ' -m mark' : ' -m mark !'} --mark 0x4000/0x4000`;
  }
  if ((match & STATE_FIRST) === 0) line += stateText(match, rules.value[row]!);
  if ((match & STATISTIC) !== 0) {
    const probability = (rules.value[row]! / 2147483648).toFixed(11);
    line += ` -m statistic --mode random --probability ${probability}`;
  }
  return line + target(table, row, text);
}

function target(table: RuleTable, row: number, text: RuleText): string {
  switch (table.rules.target[row]) {
    case MARK_OR:
      return ' -j MARK --set-xmark 0x4000/0x4000';
    case MARK_XOR:
      return ' -j MARK --set-xmark 0x4000/0x0';
    case REJECT_PACKET:
      return ' -j REJECT --reject-with icmp-port-unreachable';
    default:
      return text.target(table, row);
  }
}

function quoted(comment: string): string {
  return comment.startsWith('"') ? comment : `"${comment}"`;
}

function network(address: number, mask: number): string {
  return `${formatIpv4(address)}/${Math.clz32(~mask)}`;
}
