import { formatNetwork } from '../netfilter/address.ts';
import { protocolText } from './protocol.ts';
import type { AddressTest, LinkTest, Rule, Selector, Table } from './rule.ts';
import { printedChains, type Ruleset } from './ruleset.ts';
import { targetText } from './targets/extensions.ts';

export interface SaveOptions {
  /** `iptables-save -c`: each rule with its packets and bytes. */
  readonly counters: boolean;
}

/**
 * The rules as iptables-save prints them, line by line without line ends: selector before matches, matches in
 * their order, numbers and masks spelled out. Source: iptables/iptables-save.c and the save functions (1.8.9).
 * Comment lines come where they were read.
 */
export function* saveLines(rules: Ruleset, options: SaveOptions): Generator<string> {
  for (const table of rules.tables.values()) {
    yield* table.remarks;
    yield* tableLines(table, options);
  }
  yield* rules.trailer;
}

export function* tableLines(table: Table, { counters }: SaveOptions): Generator<string> {
  const chains = printedChains(table);
  yield `*${table.name}`;
  for (const { name, policy, packets, bytes } of chains)
    yield `:${name} ${policy ?? '-'} [${packets}:${bytes}]`;
  for (const { name, rules } of chains) {
    for (const rule of rules) {
      yield (counters ? `[${rule.packets}:${rule.bytes}] ` : '') + ruleText(name, rule);
    }
  }
  yield 'COMMIT';
}

/** `-A CHAIN …` */
export function ruleText(chain: string, rule: Rule): string {
  const matches = rule.matches.map((match) => ` -m ${match.name}${match.save()}`).join('');
  const target = rule.target === undefined ? '' : targetText(rule.target);
  return `-A ${chain}${selectorText(rule.selector)}${matches}${target}`;
}

function selectorText(selector: Selector): string {
  const { source, destination, inLink, outLink, protocol, fragment } = selector;
  let text = addressText('-s', source) + addressText('-d', destination);
  text += linkText('-i', inLink) + linkText('-o', outLink);
  if (protocol !== undefined) text += `${protocol.not ? ' !' : ''} -p ${protocolText(protocol.value)}`;
  if (fragment !== undefined) text += `${fragment.not ? ' !' : ''} -f`;
  return text;
}

function addressText(option: string, test: AddressTest | undefined): string {
  if (test === undefined) return '';
  return `${test.not ? ' !' : ''} ${option} ${formatNetwork(test.network)}`;
}

function linkText(option: string, test: LinkTest | undefined): string {
  return test === undefined ? '' : `${test.not ? ' !' : ''} ${option} ${test.name}`;
}
