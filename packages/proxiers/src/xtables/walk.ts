import type { Recorder } from '../proxier.ts';
import { isInside } from '../netfilter/address.ts';
import type { AddressTest, Chain, LinkTest, NatTarget, Rule, Table } from './rule.ts';
import { ruleText } from './save.ts';
import type { Skb, World } from './skb.ts';

/** What a table made of a packet. */
export type TableVerdict =
  | { readonly kind: 'accept' }
  | { readonly kind: 'drop' }
  | { readonly kind: 'reject'; readonly answer: string }
  | { readonly kind: 'nat'; readonly target: NatTarget };

export interface WalkOptions {
  /** x_tables counts a built-in chain's policy as a rule; nf_tables, behind iptables-nft, does not. */
  readonly countPolicies: boolean;
  readonly recorder: Recorder | undefined;
}

interface Frame {
  readonly chain: Chain;
  /** The next rule. */
  at: number;
}

const ACCEPTED: TableVerdict = { kind: 'accept' };
const DROPPED: TableVerdict = { kind: 'drop' };

/**
 * One packet through one table from a built-in chain: rule by rule, nothing skipped. This is the literal
 * reference, so it shares no code with the compact walk over kube-proxy's own tables.
 *
 * Models: selectors, matches in their order, counters of rules that match in full, jumps, gotos (which leave no
 * place to return to), RETURN, policies. Source: ipt_do_table in net/ipv4/netfilter/ip_tables.c.
 * Not modelled: fragments other than the first, what LOG and its like do besides going on.
 */
export function walkTable(
  table: Table,
  hook: string,
  skb: Skb,
  world: World,
  options: WalkOptions,
): TableVerdict {
  const chain = table.chains.get(hook)!;
  const stack: Frame[] = [];
  let frame: Frame = { chain, at: 0 };
  for (;;) {
    const rule = frame.chain.rules[frame.at++];
    if (rule === undefined) {
      const back = stack.pop();
      options.recorder?.step(
        `${table.name} ${frame.chain.name}`,
        back === undefined ? `end: policy ${chain.policy}` : `end: back to ${back.chain.name}`,
      );
      if (back === undefined) return policyOf(chain, skb, world, options);
      frame = back;
      continue;
    }
    if (!ruleFits(rule, skb, world)) continue;
    if (!world.dry) {
      rule.packets++;
      rule.bytes += skb.bytes;
    }
    options.recorder?.step(
      `${table.name} ${frame.chain.name}`,
      `rule ${frame.at} of ${frame.chain.rules.length}: ${ruleText(frame.chain.name, rule)}`,
    );
    const { target } = rule;
    switch (target?.kind) {
      case undefined:
        break;
      case 'continue':
        if (target.untracks) skb.untracked = true;
        break;
      case 'mark':
        skb.mark = ((skb.mark & ~target.mask) ^ target.value) >>> 0;
        break;
      case 'chain':
        if (!target.isGoto) stack.push(frame);
        frame = { chain: table.chains.get(target.chain)!, at: 0 };
        break;
      case 'verdict': {
        if (target.name === 'ACCEPT') return ACCEPTED;
        if (target.name === 'DROP') return DROPPED;
        const back = stack.pop();
        if (back === undefined) return policyOf(chain, skb, world, options);
        frame = back;
        break;
      }
      case 'reject':
        return { kind: 'reject', answer: target.answer };
      case 'nat':
        return { kind: 'nat', target };
      case 'unknown':
        throw new Error(`rule of line ${rule.line} matched with unknown target ${target.name}`);
    }
  }
}

function policyOf(chain: Chain, skb: Skb, world: World, options: WalkOptions): TableVerdict {
  if (options.countPolicies && !world.dry) {
    chain.packets++;
    chain.bytes += skb.bytes;
  }
  return chain.policy === 'DROP' ? DROPPED : ACCEPTED;
}

/** A rule that is not modelled in full never matches. */
function ruleFits(rule: Rule, skb: Skb, world: World): boolean {
  const { source, destination, inLink, outLink, protocol, fragment } = rule.selector;
  if (source !== undefined && !addressFits(source, skb.source)) return false;
  if (destination !== undefined && !addressFits(destination, skb.destination)) return false;
  if (inLink !== undefined && !linkFits(inLink, skb.inLink)) return false;
  if (outLink !== undefined && !linkFits(outLink, skb.outLink)) return false;
  if (protocol !== undefined && (protocol.value === skb.protocol) === protocol.not) return false;
  if (fragment !== undefined && !fragment.not) return false;
  if (rule.target?.kind === 'unknown') return false;
  for (const match of rule.matches) if (match.unknown === true) return false;
  for (const match of rule.matches) if (!match.fits(skb, world)) return false;
  return true;
}

function addressFits(test: AddressTest, address: Skb['source']): boolean {
  return isInside(test.network, address) !== test.not;
}

function linkFits(test: LinkTest, link: string): boolean {
  const { name } = test;
  const fits = name.endsWith('+') ? link.startsWith(name.slice(0, -1)) : link === name;
  return fits !== test.not;
}
