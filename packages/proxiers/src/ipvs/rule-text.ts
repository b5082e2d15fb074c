import type { AddressFamily } from '@vipsim/sim-core';
import { protocolName } from '../kubernetes/cluster.ts';
import type { Rule, Table, Target, VirtualPlace } from './rules.ts';
import type { Sets } from './sets.ts';

/** The rule as kube-proxy writes it for iptables-restore. */
export function ruleText(rule: Rule, table: Table, sets: Sets): string {
  const { family } = table;
  const mark = markText(table.mark);
  const set = rule.set === undefined ? undefined : sets[rule.set.name];
  const parts = [`-A ${rule.chain}`];
  if (rule.protocol !== undefined) parts.push(`-p ${protocolName(rule.protocol)}`);
  if (rule.source !== undefined) parts.push(`-s ${sourceText(rule, family)}`);
  const comment = rule.comment ?? (rule.plain === true ? undefined : set?.comment);
  if (comment !== undefined) parts.push(`-m comment --comment "${comment}"`);
  if (rule.virtual !== undefined) parts.push(virtualText(rule.virtual, family));
  if (rule.state === 'NEW') parts.push('-m conntrack --ctstate NEW');
  if (set !== undefined) parts.push(`-m set --match-set ${set.name} ${rule.set!.parts}`);
  if (rule.notSource !== undefined) parts.push(`! -s ${family.cidrText(rule.notSource)}`);
  if (rule.notLink !== undefined) parts.push(`! -i ${rule.notLink}`);
  if (rule.notBridged === true) parts.push('-m physdev ! --physdev-is-in');
  if (rule.sourceNotLocal === true) parts.push('-m addrtype ! --src-type LOCAL');
  if (rule.destinationLocal === true) parts.push('-m addrtype --dst-type LOCAL');
  if (rule.mark !== undefined) parts.push(`-m mark${rule.mark ? '' : ' !'} --mark ${mark}/${mark}`);
  if (rule.state === 'RELATED,ESTABLISHED') parts.push(`-m conntrack --ctstate ${rule.state}`);
  parts.push(`-j ${targetText(rule.target, mark)}`);
  return parts.join(' ');
}

function sourceText({ source, virtual }: Rule, family: AddressFamily): string {
  return virtual === undefined ? family.cidrText(source!) : family.text(virtual.address);
}

function virtualText({ address, port, protocol }: VirtualPlace, family: AddressFamily): string {
  return `-m ipvs --vaddr ${family.text(address)} --vproto ${protocolName(protocol)} --vport ${port}`;
}

function markText(mark: number): string {
  return `0x${mark.toString(16).padStart(8, '0')}`;
}

function targetText(target: Target, mark: string): string {
  if (typeof target === 'object') return target.jump;
  if (target === 'MASQUERADE-RANDOM') return 'MASQUERADE --random-fully';
  if (target === 'MARK-OR') return `MARK --or-mark ${mark}`;
  return target === 'MARK-XOR' ? `MARK --xor-mark ${mark}` : target;
}
