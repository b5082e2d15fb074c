import { SCTP, TCP, UDP, formatCidr, type Cidr } from '@vipsim/sim-core';
import { protocolName } from '../kubernetes/cluster.ts';
import type { SetName } from './sets.ts';

/** Bit 14, kube-proxy's default --iptables-masquerade-bit. */
export const MASQUERADE_MARK = 0x4000;
const MARK_TEXT = '0x00004000';

export type Target =
  | 'RETURN'
  | 'ACCEPT'
  | 'REJECT'
  | 'DROP'
  | 'MASQUERADE'
  | 'MASQUERADE-RANDOM'
  | 'MARK-OR'
  | 'MARK-XOR'
  | { readonly jump: string };

/** One rule of kube-proxy, with its matches in the order in which the kernel tests them. */
export interface Rule {
  readonly chain: string;
  // Tested in the rule's own header, before any match.
  readonly protocol?: number;
  readonly source?: Cidr;
  readonly notSource?: Cidr;
  // Matches.
  readonly comment?: string;
  /** The set, and the packet's parts that are looked up in it. Its comment is the rule's unless `plain`. */
  readonly set?: { readonly name: SetName; readonly parts: 'dst' | 'dst,dst' | 'dst,dst,src' };
  readonly notBridged?: boolean;
  readonly sourceNotLocal?: boolean;
  readonly destinationLocal?: boolean;
  readonly mark?: boolean;
  readonly state?: 'NEW' | 'RELATED,ESTABLISHED';
  readonly target: Target;
  /** Written also when its set is to stay empty. */
  readonly always?: boolean;
  /** Without the set's comment. */
  readonly plain?: boolean;
}

export interface Table {
  readonly name: 'nat' | 'filter';
  /** kube-proxy's own chains, as its restore input declares them. */
  readonly chains: readonly string[];
  /** Jumps from built-in chains, in the order in which packets meet them. */
  readonly jumps: readonly Rule[];
  readonly rules: readonly Rule[];
}

const PORTALS = 'kubernetes service portals';
const FIREWALL = 'kube-proxy firewall rules';
const ACCESS = 'kubernetes ipvs access filter';

function jump(from: string, chain: string, comment: string): Rule {
  return { chain: from, comment, target: { jump: chain }, always: true };
}

function dst(name: SetName): NonNullable<Rule['set']> {
  return { name, parts: 'dst' };
}

function dstDst(name: SetName): NonNullable<Rule['set']> {
  return { name, parts: 'dst,dst' };
}

function dstDstSrc(name: SetName): NonNullable<Rule['set']> {
  return { name, parts: 'dst,dst,src' };
}

const MARK_MASQ: Target = { jump: 'KUBE-MARK-MASQ' };

/**
 * The nat table. How many rules there are does not depend on Services: those are in the sets.
 * Source: writeIptablesRules, pkg/proxy/ipvs/proxier.go.
 */
export function natTable(podCidr: Cidr): Table {
  return {
    name: 'nat',
    chains: ['KUBE-SERVICES', 'KUBE-POSTROUTING', 'KUBE-NODE-PORT', 'KUBE-LOAD-BALANCER', 'KUBE-MARK-MASQ'],
    jumps: [
      jump('OUTPUT', 'KUBE-SERVICES', PORTALS),
      jump('PREROUTING', 'KUBE-SERVICES', PORTALS),
      jump('POSTROUTING', 'KUBE-POSTROUTING', 'kubernetes postrouting rules'),
    ],
    rules: [
      { chain: 'KUBE-SERVICES', source: { address: 0x7f000000, prefix: 8 }, target: 'RETURN', always: true },
      { chain: 'KUBE-POSTROUTING', set: dstDstSrc('KUBE-LOOP-BACK'), target: 'MASQUERADE' },
      { chain: 'KUBE-SERVICES', set: dstDst('KUBE-LOAD-BALANCER'), target: { jump: 'KUBE-LOAD-BALANCER' } },
      { chain: 'KUBE-LOAD-BALANCER', set: dstDst('KUBE-LOAD-BALANCER-LOCAL'), target: 'RETURN' },
      { chain: 'KUBE-NODE-PORT', protocol: TCP, set: dst('KUBE-NODE-PORT-LOCAL-TCP'), target: 'RETURN' },
      { chain: 'KUBE-NODE-PORT', protocol: TCP, set: dst('KUBE-NODE-PORT-TCP'), target: MARK_MASQ },
      { chain: 'KUBE-NODE-PORT', protocol: UDP, set: dst('KUBE-NODE-PORT-LOCAL-UDP'), target: 'RETURN' },
      { chain: 'KUBE-NODE-PORT', protocol: UDP, set: dst('KUBE-NODE-PORT-UDP'), target: MARK_MASQ },
      {
        chain: 'KUBE-NODE-PORT',
        protocol: SCTP,
        set: dstDst('KUBE-NODE-PORT-LOCAL-SCTP-HASH'),
        target: 'RETURN',
      },
      { chain: 'KUBE-NODE-PORT', protocol: SCTP, set: dstDst('KUBE-NODE-PORT-SCTP-HASH'), target: MARK_MASQ },
      { chain: 'KUBE-SERVICES', set: dstDst('KUBE-CLUSTER-IP'), notSource: podCidr, target: MARK_MASQ },
      ...externalIpRules(),
      { chain: 'KUBE-SERVICES', destinationLocal: true, target: { jump: 'KUBE-NODE-PORT' }, always: true },
      { chain: 'KUBE-LOAD-BALANCER', target: MARK_MASQ, always: true },
      { chain: 'KUBE-SERVICES', set: dstDst('KUBE-CLUSTER-IP'), target: 'ACCEPT', plain: true },
      { chain: 'KUBE-SERVICES', set: dstDst('KUBE-LOAD-BALANCER'), target: 'ACCEPT', plain: true },
      { chain: 'KUBE-POSTROUTING', mark: false, target: 'RETURN', always: true },
      { chain: 'KUBE-POSTROUTING', target: 'MARK-XOR', always: true },
      {
        chain: 'KUBE-POSTROUTING',
        comment: 'kubernetes service traffic requiring SNAT',
        target: 'MASQUERADE-RANDOM',
        always: true,
      },
      { chain: 'KUBE-MARK-MASQ', target: 'MARK-OR', always: true },
    ],
  };
}

function externalIpRules(): readonly Rule[] {
  const chain = 'KUBE-SERVICES';
  const external = dstDst('KUBE-EXTERNAL-IP');
  const local = dstDst('KUBE-EXTERNAL-IP-LOCAL');
  return [
    { chain, set: external, target: MARK_MASQ },
    { chain, set: external, notBridged: true, sourceNotLocal: true, target: 'ACCEPT' },
    { chain, set: external, destinationLocal: true, target: 'ACCEPT' },
    { chain, set: local, notBridged: true, sourceNotLocal: true, target: 'ACCEPT' },
    { chain, set: local, destinationLocal: true, target: 'ACCEPT' },
  ];
}

/** The filter table: what packets meet on their way to IPVS and on their way out. */
export const FILTER_TABLE: Table = {
  name: 'filter',
  chains: [
    'KUBE-FORWARD',
    'KUBE-NODE-PORT',
    'KUBE-PROXY-FIREWALL',
    'KUBE-SOURCE-RANGES-FIREWALL',
    'KUBE-IPVS-FILTER',
    'KUBE-IPVS-OUT-FILTER',
  ],
  // Each was put before those that were there, hence this order.
  jumps: [
    jump('INPUT', 'KUBE-IPVS-FILTER', ACCESS),
    jump('INPUT', 'KUBE-PROXY-FIREWALL', FIREWALL),
    jump('INPUT', 'KUBE-NODE-PORT', 'kubernetes health check rules'),
    jump('FORWARD', 'KUBE-PROXY-FIREWALL', FIREWALL),
    jump('FORWARD', 'KUBE-FORWARD', 'kubernetes forwarding rules'),
    jump('OUTPUT', 'KUBE-IPVS-OUT-FILTER', ACCESS),
  ],
  rules: [
    {
      chain: 'KUBE-PROXY-FIREWALL',
      set: dstDst('KUBE-LOAD-BALANCER-FW'),
      target: { jump: 'KUBE-SOURCE-RANGES-FIREWALL' },
    },
    {
      chain: 'KUBE-SOURCE-RANGES-FIREWALL',
      set: dstDstSrc('KUBE-LOAD-BALANCER-SOURCE-CIDR'),
      target: 'RETURN',
    },
    {
      chain: 'KUBE-SOURCE-RANGES-FIREWALL',
      set: dstDstSrc('KUBE-LOAD-BALANCER-SOURCE-IP'),
      target: 'RETURN',
    },
    { chain: 'KUBE-SOURCE-RANGES-FIREWALL', target: 'DROP', always: true },
    {
      chain: 'KUBE-FORWARD',
      comment: 'kubernetes forwarding rules',
      mark: true,
      target: 'ACCEPT',
      always: true,
    },
    {
      chain: 'KUBE-FORWARD',
      comment: 'kubernetes forwarding conntrack rule',
      state: 'RELATED,ESTABLISHED',
      target: 'ACCEPT',
      always: true,
    },
    { chain: 'KUBE-NODE-PORT', set: dst('KUBE-HEALTH-CHECK-NODE-PORT'), target: 'ACCEPT', always: true },
    ...(['KUBE-LOAD-BALANCER', 'KUBE-CLUSTER-IP', 'KUBE-EXTERNAL-IP', 'KUBE-EXTERNAL-IP-LOCAL'] as const).map(
      (name): Rule => accessRule(dstDst(name)),
    ),
    accessRule(dst('KUBE-HEALTH-CHECK-NODE-PORT')),
    {
      chain: 'KUBE-IPVS-FILTER',
      state: 'NEW',
      set: dst('KUBE-IPVS-IPS'),
      target: 'REJECT',
      always: true,
      plain: true,
    },
  ],
};

function accessRule(set: NonNullable<Rule['set']>): Rule {
  return { chain: 'KUBE-IPVS-FILTER', set, target: 'RETURN', always: true, plain: true };
}

/** The rule as kube-proxy writes it for iptables-restore; `comment` is the set's. */
export function ruleText(rule: Rule, setComment: string | undefined): string {
  const parts = [`-A ${rule.chain}`];
  if (rule.protocol !== undefined) parts.push(`-p ${protocolName(rule.protocol)}`);
  if (rule.source !== undefined) parts.push(`-s ${formatCidr(rule.source)}`);
  const comment = rule.comment ?? (rule.plain === true ? undefined : setComment);
  if (comment !== undefined) parts.push(`-m comment --comment "${comment}"`);
  if (rule.state === 'NEW') parts.push('-m conntrack --ctstate NEW');
  if (rule.set !== undefined) parts.push(`-m set --match-set ${rule.set.name} ${rule.set.parts}`);
  if (rule.notSource !== undefined) parts.push(`! -s ${formatCidr(rule.notSource)}`);
  if (rule.notBridged === true) parts.push('-m physdev ! --physdev-is-in');
  if (rule.sourceNotLocal === true) parts.push('-m addrtype ! --src-type LOCAL');
  if (rule.destinationLocal === true) parts.push('-m addrtype --dst-type LOCAL');
  if (rule.mark !== undefined) parts.push(`-m mark${rule.mark ? '' : ' !'} --mark ${MARK_TEXT}/${MARK_TEXT}`);
  if (rule.state === 'RELATED,ESTABLISHED') parts.push(`-m conntrack --ctstate ${rule.state}`);
  parts.push(`-j ${targetText(rule.target)}`);
  return parts.join(' ');
}

function targetText(target: Target): string {
  if (typeof target === 'object') return target.jump;
  if (target === 'MASQUERADE-RANDOM') return 'MASQUERADE --random-fully';
  if (target === 'MARK-OR') return `MARK --or-mark ${MARK_TEXT}`;
  return target === 'MARK-XOR' ? `MARK --xor-mark ${MARK_TEXT}` : target;
}
