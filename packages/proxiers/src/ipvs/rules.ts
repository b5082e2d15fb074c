import { IPV4, SCTP, TCP, UDP, type AddressFamily, type Cidr } from '@vipsim/sim-core';
import { byCidr, type LocalDetector } from './local-detector.ts';
import type { SetName } from './sets.ts';

/** Bit 14, kube-proxy's default --iptables-masquerade-bit. */
const MASQUERADE_MARK = 0x4000;

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
  /** Not by this interface, as `-i` takes it: `cni0`, or `veth+` for all that begin so. */
  readonly notLink?: string;
  // Matches.
  /** The packet is of an IPVS connection to this virtual server. */
  readonly virtual?: VirtualPlace;
  readonly comment?: string;
  /** The set, and the packet's parts that are looked up in it. Its comment is the rule's unless `plain`. */
  readonly set?: { readonly name: SetName; readonly parts: 'dst' | 'dst,dst' | 'src,dst' | 'dst,dst,src' };
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

export interface VirtualPlace {
  readonly address: number;
  readonly port: number;
  readonly protocol: number;
}

export interface Table {
  readonly name: 'nat' | 'filter';
  readonly family: AddressFamily;
  /** The bit of the packet's mark that asks for masquerading. */
  readonly mark: number;
  /** kube-proxy's own chains, as its restore input declares them. */
  readonly chains: readonly string[];
  /** Jumps from built-in chains in the order of their making: each is put before those that are there. */
  readonly jumps: readonly Rule[];
  readonly rules: readonly Rule[];
}

/** What the configuration says about the rules. */
export interface RuleOptions {
  readonly family: AddressFamily;
  readonly masqueradeAll: boolean;
  readonly mark: number;
  readonly detector: LocalDetector;
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

/** The nat table of a kube-proxy that was told the pods' addresses and nothing else. */
export function natTable(podCidr: Cidr): Table {
  return natTableOf({ family: IPV4, masqueradeAll: false, mark: MASQUERADE_MARK, detector: byCidr(podCidr) });
}

/**
 * The nat table. How many rules there are does not depend on Services: those are in the sets.
 * Source: createAndLinkKubeChain and writeIptablesRules, pkg/proxy/ipvs/proxier.go.
 */
export function natTableOf(options: RuleOptions): Table {
  const { family, mark } = options;
  return {
    name: 'nat',
    family,
    mark,
    chains: ['KUBE-SERVICES', 'KUBE-POSTROUTING', 'KUBE-NODE-PORT', 'KUBE-LOAD-BALANCER', 'KUBE-MARK-MASQ'],
    jumps: [
      jump('OUTPUT', 'KUBE-SERVICES', PORTALS),
      jump('PREROUTING', 'KUBE-SERVICES', PORTALS),
      jump('POSTROUTING', 'KUBE-POSTROUTING', 'kubernetes postrouting rules'),
    ],
    rules: [
      { chain: 'KUBE-SERVICES', source: loopbackOf(family), target: 'RETURN', always: true },
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
      clusterIpRule(options),
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

/**
 * Who is masqueraded on the way to a ClusterIP: everybody; or who is no pod; or, where nothing tells pods from
 * others, the node itself, when it took a virtual address for its own (all of them are on kube-ipvs0).
 */
function clusterIpRule({ masqueradeAll, detector }: RuleOptions): Rule {
  const rule: Rule = { chain: 'KUBE-SERVICES', set: dstDst('KUBE-CLUSTER-IP'), target: MARK_MASQ };
  if (masqueradeAll) return rule;
  if (detector.kind === 'cidr') return { ...rule, notSource: detector.cidr };
  if (detector.kind === 'link') return { ...rule, notLink: detector.link };
  return { ...rule, set: { name: 'KUBE-CLUSTER-IP', parts: 'src,dst' } };
}

function loopbackOf(family: AddressFamily): Cidr {
  return family.parseCidr(family.name === 'ipv4' ? '127.0.0.0/8' : '::1/128')!;
}

/** The filter table where every node may use every load balancer. */
export const FILTER_TABLE: Table = filterTableOf({ family: IPV4, mark: MASQUERADE_MARK }, []);

/**
 * The filter table: what packets meet on their way to IPVS and on their way out.
 * @param barred load balancer addresses whose source ranges leave this node out.
 */
export function filterTableOf(
  { family, mark }: Pick<RuleOptions, 'family' | 'mark'>,
  barred: readonly VirtualPlace[],
): Table {
  return {
    name: 'filter',
    family,
    mark,
    chains: [
      'KUBE-FORWARD',
      'KUBE-NODE-PORT',
      'KUBE-PROXY-FIREWALL',
      'KUBE-SOURCE-RANGES-FIREWALL',
      'KUBE-IPVS-FILTER',
      'KUBE-IPVS-OUT-FILTER',
    ],
    jumps: [
      jump('FORWARD', 'KUBE-FORWARD', 'kubernetes forwarding rules'),
      jump('INPUT', 'KUBE-NODE-PORT', 'kubernetes health check rules'),
      jump('INPUT', 'KUBE-PROXY-FIREWALL', FIREWALL),
      jump('FORWARD', 'KUBE-PROXY-FIREWALL', FIREWALL),
      jump('INPUT', 'KUBE-IPVS-FILTER', ACCESS),
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
      ...barred.map((virtual): Rule => ({
        chain: 'KUBE-IPVS-OUT-FILTER',
        source: { address: virtual.address, prefix: family.bits },
        virtual,
        target: 'DROP',
        always: true,
      })),
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
      ...(
        ['KUBE-LOAD-BALANCER', 'KUBE-CLUSTER-IP', 'KUBE-EXTERNAL-IP', 'KUBE-EXTERNAL-IP-LOCAL'] as const
      ).map((name): Rule => accessRule(dstDst(name))),
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
}

function accessRule(set: NonNullable<Rule['set']>): Rule {
  return { chain: 'KUBE-IPVS-FILTER', set, target: 'RETURN', always: true, plain: true };
}
