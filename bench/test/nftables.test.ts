import test from 'ava';
import type { Score } from '../src/contest.ts';
import { nftablesTables, type NftablesScore } from '../src/nftables.ts';
import { PARTS, RELEASES, takeFirstPacketsTurn, type FirstPacketsContender } from '../src/nftables-turn.ts';
import type { TurnResult } from '../src/turn.ts';

const SMALL = { bench: 'first-packets', services: 50, endpoints: 4, connections: 200, literal: 100 } as const;
const turns = new Map<FirstPacketsContender, TurnResult>();
for (const contender of [...RELEASES, 'iptables'] as const) {
  turns.set(contender, takeFirstPacketsTurn({ ...SMALL, contender }));
}

function countsOf(contender: FirstPacketsContender): Readonly<Record<string, number>> {
  return turns.get(contender)!.counts!;
}

/** Sums of kinds of expressions per first packet. */
function expressions(counts: Readonly<Record<string, number>>): number {
  const others = ['hook', 'rule', 'set.step'].map((name) => `nftables.${name}`);
  return Object.entries(counts)
    .filter(([name]) => /^nftables\.[a-z]+$/.test(name) && !others.includes(name))
    .reduce((sum, [, count]) => sum + count, 0);
}

/**
 * A pod's first packet to an endpoint on another node, as `nft --debug=netlink` shows the rules of kube-proxy: 47
 * expressions in the layout of 1.35, 50 in that of 1.36. Two more each here, as the networks of pods and of Services
 * end within a byte.
 */
test('a first packet begins the rules and evaluates the expressions of its layout', (t) => {
  t.is(countsOf('1.35')['nftables.rule'], 15);
  t.is(expressions(countsOf('1.35')), 47 + 2);
  t.is(countsOf('1.35')['nftables.lookup'], 5);
  for (const release of ['1.36', '1.37'] as const) {
    t.is(countsOf(release)['nftables.rule'], 14);
    t.is(expressions(countsOf(release)), 50 + 2);
    t.is(countsOf(release)['nftables.lookup'], 7);
  }
  const single = takeFirstPacketsTurn({ ...SMALL, endpoints: 1, contender: '1.37' }).counts!;
  t.is(expressions(single), 50 + 2);
  t.is(single['nftables.lookup'], 6);
});

test('a first packet in iptables mode passes half of the Services, on average', (t) => {
  const [fewer, more] = [50, 100].map((services) => {
    const { counts } = takeFirstPacketsTurn({ ...SMALL, services, contender: 'iptables' });
    return counts!['iptables.nft.rule']!;
  });
  t.true(Math.abs(more! - fewer! - 25) < 0.01, `${fewer}, ${more}`);
});

test('a turn measures packets, the first sync, changes, and the literal walk of iptables', (t) => {
  for (const [contender, { ns, parts, ownBytes, result }] of turns) {
    t.is(parts!.length, contender === 'iptables' ? PARTS.length : PARTS.length - 1);
    for (const each of [ns, ...parts!]) t.true(each > 0, contender);
    t.true(ownBytes! > 0 && result! > SMALL.services);
  }
});

function score(ns: number): Score {
  return { name: '', ns, nsMin: ns, nsMax: ns, bytes: 2e6, ownBytes: 1e6, result: 1 };
}

test('the tables have a row for each layout and for iptables', (t) => {
  const scores: NftablesScore[] = [
    {
      services: 50,
      endpoints: 4,
      contenders: [...turns].map(([contender, { counts }]) => ({
        contender,
        counts: counts!,
        first: score(contender === 'iptables' ? 2000 : 500),
        later: score(100),
        build: score(1e9),
        change: score(3e6),
        conntrack: score(300),
        literal: contender === 'iptables' ? score(10_000) : undefined,
      })),
    },
  ];
  const [packets, syncs] = nftablesTables(scores);
  t.deepEqual(
    packets!.rows.map(([mode]) => mode),
    ['50 x 4, L1 (1.35)', '50 x 4, L2 (1.36)', '50 x 4, L3 (1.37)', '50 x 4, iptables'],
  );
  t.deepEqual(packets!.rows[0]!.slice(1, 4), ['15', '49', '5']);
  t.deepEqual(packets!.rows[0]!.slice(5), ['500', '2.00', '300', '0.25', '0.05', '100']);
  t.deepEqual(syncs!.rows[1]!.slice(1), ['1.00', '3.0', '2', '10000', '1.0']);
});
