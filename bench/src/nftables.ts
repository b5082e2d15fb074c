import { nodeTurn } from './children.ts';
import { contest, type Score } from './contest.ts';
import { inOneTurn } from './ebpf-paths.ts';
import { PARTS, RELEASES, type FirstPacketsContender } from './nftables-turn.ts';
import type { Table } from './report.ts';
import type { TurnResult } from './turn.ts';

export interface NftablesEffort {
  readonly rounds: number;
  readonly services: readonly number[];
  /** Endpoints in all of the largest table. */
  readonly endpoints: number;
  /** New connections of a turn. */
  readonly connections: number;
}

export interface NftablesScore {
  readonly services: number;
  /** Of each Service. */
  readonly endpoints: number;
  readonly contenders: readonly ContenderScore[];
}

export interface ContenderScore {
  readonly contender: FirstPacketsContender;
  /** Operations per first packet, by name. */
  readonly counts: Readonly<Record<string, number>>;
  /** ns per first packet; bytes held, `ownBytes` of the kernel's tables. */
  readonly first: Score;
  readonly later: Score;
  /** ns of the first sync, of one after an endpoint has changed. */
  readonly build: Score;
  readonly change: Score;
  /** ns per first packet that meets conntrack alone. */
  readonly conntrack: Score;
  /** ns per first packet that visits every rule; of iptables alone. */
  readonly literal: Score | undefined;
}

const CONTENDERS: readonly FirstPacketsContender[] = [...RELEASES, 'iptables'];
const LAYOUTS = { '1.35': 'L1', '1.36': 'L2', '1.37': 'L3' };
/** Endpoints of each Service where only the number of Services matters, and in the largest table. */
const FEW = 10;
const MANY = 100;
/** Rules that the literal walks of one turn evaluate, roughly. */
const RULES_A_TURN = 100_000_000;
const LITERAL_MIN = 1000;
const EXPRESSIONS = [
  'payload',
  'cmp',
  'bitwise',
  'meta',
  'ct',
  'fib',
  'numgen',
  'lookup',
  'immediate',
  'nat',
  'masq',
  'reject',
  'dynset',
];

/** nftables mode in its three layouts beside iptables mode: packets, syncs, memory. */
export function measureNftables(effort: NftablesEffort): NftablesScore[] {
  const sizes = effort.services.map((services) => ({ services, endpoints: FEW }));
  sizes.push({ services: Math.round(effort.endpoints / MANY), endpoints: MANY });
  return sizes.map((size) => measureSize(size, effort));
}

function measureSize(
  size: { readonly services: number; readonly endpoints: number },
  effort: NftablesEffort,
) {
  const { rounds, connections } = effort;
  const literal = Math.min(connections, Math.max(LITERAL_MIN, Math.round(RULES_A_TURN / size.services)));
  const counts = new Map<FirstPacketsContender, Readonly<Record<string, number>>>();
  const scores = contest(
    CONTENDERS.flatMap((contender) =>
      inOneTurn(namesOf(contender), (): TurnResult => {
        const result = nodeTurn({ bench: 'first-packets', contender, ...size, connections, literal });
        counts.set(contender, result.counts!);
        return result;
      }),
    ),
    rounds,
  );
  const contenders = CONTENDERS.map((contender): ContenderScore => {
    const named = (part: string): Score | undefined =>
      scores.find(({ name }) => name === `${contender} ${part}`);
    return {
      contender,
      counts: counts.get(contender)!,
      first: named('first')!,
      later: named('later')!,
      build: named('build')!,
      change: named('change')!,
      conntrack: named('conntrack')!,
      literal: named('literal'),
    };
  });
  return { ...size, contenders };
}

function namesOf(contender: FirstPacketsContender): string[] {
  const parts = contender === 'iptables' ? PARTS : PARTS.filter((part) => part !== 'literal');
  return ['first', ...parts].map((part) => `${contender} ${part}`);
}

export function nftablesTables(scores: readonly NftablesScore[]): Table[] {
  return [packetsTable(scores), syncsTable(scores)];
}

function packetsTable(scores: readonly NftablesScore[]): Table {
  return {
    title: 'nftables, first packets of connections through all hooks, conntrack included',
    head: [
      'services x endpoints, mode',
      'rules',
      'expressions',
      'set lookups',
      'set steps',
      'ns',
      'M/s',
      'conntrack ns',
      '÷ iptables',
      '÷ literal',
      'later packet ns',
    ],
    rows: scores.flatMap(({ services, endpoints, contenders }) => {
      const iptables = contenders.at(-1)!;
      return contenders.map(({ contender, counts, first, later, conntrack }) => {
        const nft = contender !== 'iptables';
        return [
          `${services} x ${endpoints}, ${titleOf(contender)}`,
          digits(counts[nft ? 'nftables.rule' : 'iptables.nft.rule']!),
          nft ? digits(EXPRESSIONS.reduce((sum, name) => sum + counts[`nftables.${name}`]!, 0)) : '–',
          nft ? digits(counts['nftables.lookup']!) : '–',
          nft ? digits(counts['nftables.set.step']!) : '–',
          first.ns.toFixed(0),
          (1000 / first.ns).toPrecision(3),
          conntrack.ns.toFixed(0),
          (first.ns / iptables.first.ns).toFixed(2),
          (first.ns / iptables.literal!.ns).toFixed(2),
          later.ns.toFixed(0),
        ];
      });
    }),
    notes: [
      'ns of processor time; Services in a scattered order; 16 connections of each pod; operations: means over 1000 connections',
      '÷ iptables: time over that of iptables mode (iptables-nft) as runs walk it, by an index over KUBE-SERVICES; ÷ literal: over that of the same walk when it visits every rule; nftables has no index and evaluates every expression',
      'conntrack ns: the part of a first packet that is the same in all rows, measured without rules: lookup, entry, translation',
    ],
  };
}

function syncsTable(scores: readonly NftablesScore[]): Table {
  return {
    title: 'nftables, syncs and tables',
    head: [
      'services x endpoints, mode',
      'first sync, s',
      'one endpoint changed, ms',
      'MB',
      'bytes an endpoint',
      'MB in the kernel',
    ],
    rows: scores.flatMap(({ services, endpoints, contenders }) =>
      contenders.map(({ contender, first, build, change }) => [
        `${services} x ${endpoints}, ${titleOf(contender)}`,
        seconds(build.ns),
        (change.ns / 1e6).toFixed(1),
        (first.bytes / 1e6).toFixed(0),
        (first.bytes / (services * endpoints)).toFixed(0),
        (first.ownBytes / 1e6).toFixed(1),
      ]),
    ),
    notes: [
      'processor time that the model takes to sync, not what kube-proxy would take',
      'bytes: of proxier, tables and an empty conntrack; in the kernel: rules, chains and sets',
    ],
  };
}

function titleOf(contender: FirstPacketsContender): string {
  return contender === 'iptables' ? 'iptables' : `${LAYOUTS[contender]} (${contender})`;
}

function seconds(ns: number): string {
  return (ns / 1e9).toFixed(2);
}

function digits(n: number): string {
  return String(Number(n.toFixed(1)));
}
