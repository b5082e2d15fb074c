import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import {
  ACK,
  FROM_HOST,
  FROM_OUTSIDE,
  FROM_POD,
  SYN,
  Streams,
  TCP,
  UDP,
  type Origin,
} from '@vipsim/sim-core';
import * as nft from '../src/nf-tables/index.ts';
import { hookSteps, type HookedChain } from '../src/nf-tables/node/hooks.ts';
import { OPCODES } from '../src/nf-tables/kernel/program.ts';
import { formatAddress, parseAddress, parseNetwork } from '../src/netfilter/address.ts';

/**
 * l1.nft and l2.nft are kube-proxy's rules for six services in the layouts of 1.35 and 1.36; the traces beside them are
 * what `nft monitor trace` 1.0.6 told of one SYN each on Linux 6.18 (trace.sh), without packet lines.
 */
const FIXTURES = new URL('fixtures/nft-node/', import.meta.url);
const LAYOUTS = ['l1', 'l2'] as const;
const NODE = '192.168.0.2';
const PODS = '10.180.0.0/24';
const S = 1_000_000_000;

const canTrace =
  process.getuid?.() === 0 &&
  spawnSync('unshare', ['-n', 'sh', '-c', 'nft list ruleset && ip link && python3 -c 1']).status === 0;
const onKernel = canTrace ? test : test.skip;

function fixture(name: string): string {
  return readFileSync(new URL(name, FIXTURES), 'utf8');
}

function nodeOf(text: string, family: 4 | 6 = 4, addresses = [NODE], pods = PODS): nft.NftNode {
  const rules = new nft.NftRuleset();
  rules.apply(text, 'rules.nft');
  const facts = {
    addresses: addresses.map((address) => parseAddress(address, family)!),
    podNetwork: parseNetwork(pods, family)!,
    podLink: 'cni0',
    outsideLink: 'eth0',
  };
  return new nft.NftNode({ rules, family, facts, streams: new Streams('test') });
}

const ORIGINS: Readonly<Record<string, Origin>> = { pod: FROM_POD, outside: FROM_OUTSIDE, host: FROM_HOST };

/** `pod 10.180.0.9 40001 172.30.0.44 80` */
function packet(line: string, more: Partial<nft.NftPacket> = {}): nft.NftPacket {
  const [place, source, sourcePort, destination, destinationPort] = line.split(' ');
  const family = source!.includes(':') ? 6 : 4;
  return {
    protocol: TCP,
    source: parseAddress(source!, family)!,
    sourcePort: Number(sourcePort),
    destination: parseAddress(destination!, family)!,
    destinationPort: Number(destinationPort),
    flags: SYN,
    origin: ORIGINS[place!]!,
    bytes: 60,
    ...more,
  };
}

function ends({ fate, where, answer, leaves }: nft.NftOutcome): string {
  if (fate !== 'accept') return `${fate} in ${where}${answer && `: ${answer}`}`;
  const { source, destination, destinationPort } = leaves;
  return `${formatAddress(source)} > ${formatAddress(destination)}:${destinationPort}`;
}

/** The walk as `nft monitor trace` tells it: rules that were not broken off, and policies. */
function traced(node: nft.NftNode, sent: nft.NftPacket, bits: number, dry: boolean): string[] {
  const record = new nft.WalkRecord(node.rules, node.registers);
  node.recorder = record;
  node.bits = () => bits;
  if (dry) node.foresee(sent, 0);
  else node.send(sent, 0);
  return record.steps.flatMap((step) => {
    const chain = step.where.replace('ip kube-proxy ', '');
    if (step.kind === 'policy') return [`${chain} ${step.text}`];
    if (step.kind !== 'rule' || step.verdict === '') return [];
    return [`${chain} rule ${step.text} (verdict ${step.verdict})`];
  });
}

interface TracedSyn {
  readonly packet: string;
  readonly lines: string[];
}

function tracedSyns(text: string): TracedSyn[] {
  return text
    .split(/^(?=\w)/m)
    .filter((part) => part !== '')
    .map((part) => {
      const [first, ...lines] = part.trimEnd().split('\n');
      return { packet: first!, lines: lines.map((line) => line.trim()) };
    });
}

/** Each walk must be the traced one, under one of the two numbers that `mod 2` may draw. */
function compareWalks(
  t: { deepEqual(a: unknown, b: unknown, m?: string): unknown },
  rules: string,
  syns: TracedSyn[],
): void {
  const node = nodeOf(rules);
  for (const syn of syns) {
    const high = traced(node, packet(syn.packet), 0x80000000, true);
    const bits = JSON.stringify(high) === JSON.stringify(syn.lines) ? 0x80000000 : 0;
    t.deepEqual(traced(node, packet(syn.packet), bits, false), syn.lines, syn.packet);
  }
}

for (const layout of LAYOUTS) {
  test(`layout ${layout}: rules, verdicts and policies of each traced SYN are met in the kernel's order`, (t) => {
    const syns = tracedSyns(fixture(`${layout}.trace`));
    t.is(syns.length, 17);
    compareWalks(t, fixture(`${layout}.nft`), syns);
  });

  onKernel(`layout ${layout}: the kernel of this machine traces the same walks`, (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'vipsim-trace-'));
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    const script = new URL('trace.sh', FIXTURES).pathname;
    const rules = new URL(`${layout}.nft`, FIXTURES).pathname;
    const input = tracedSyns(fixture(`${layout}.trace`))
      .map((syn) => `${syn.packet}\n`)
      .join('');
    const out = execFileSync('unshare', ['-n', 'bash', script, rules], {
      cwd: directory,
      input,
      encoding: 'utf8',
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    const syns = out
      .split('# ')
      .filter((part) => part !== '')
      .map((part) => {
        const [first, ...lines] = part.trimEnd().split('\n');
        const kept = lines.flatMap((line) => {
          const match = /^trace id \w+ ip kube-proxy (\S+ (?:rule .*\(verdict [^)]*\)|policy \w+))/.exec(
            line,
          );
          return match === null || line.includes(' packet: ') ? [] : [match[1]!];
        });
        return { packet: first!, lines: kept };
      });
    t.is(syns.length, 17);
    compareWalks(t, fixture(`${layout}.nft`), syns);
  });
}

/** Expressions, rules entered and set lookups of one packet. */
function counted(node: nft.NftNode, sent: nft.NftPacket): readonly number[] {
  node.counts.fill(0);
  node.send(sent, 0);
  const expressions = node.counts.subarray(0, OPCODES).reduce((sum, count) => sum + count, 0);
  return [expressions, node.counts[nft.RULES_ENTERED]!, node.counts[nft.LOOKUPS]!];
}

test('a first packet costs 47 expressions in the old layout, 50 in the new one; a later one 9 and no lookup', (t) => {
  // The packet leaves for a pod of another node: counted by hand from nft --debug=netlink.
  const first = { l1: [47, 15, 5], l2: [50, 14, 7] };
  const fromOutside = { l1: 54, l2: 49 };
  for (const layout of LAYOUTS) {
    const node = nodeOf(fixture(`${layout}.nft`));
    const syn = packet('pod 10.180.0.9 40001 172.30.0.44 80');
    t.deepEqual(counted(node, syn), first[layout], layout);
    const [flow] = node.flows.list(0);
    const answer = { ...syn, flags: SYN | ACK, ...flow!.reply };
    t.is(ends(node.send(answer, 0)), '172.30.0.44 > 10.180.0.9:40001');
    t.deepEqual(counted(node, { ...syn, flags: ACK }), [9, 3, 0], layout);
    t.is(counted(node, packet('outside 192.168.0.99 40002 172.30.0.44 80'))[0], fromOutside[layout], layout);
  }
});

/** A service with affinity over so many endpoints. */
function affinityRules(endpoints: number): string {
  const numbers = Array.from({ length: endpoints }, (_, i) => i);
  const objects = numbers.map(
    (i) => `
      set aff-${i} { type ipv4_addr; flags dynamic,timeout; timeout 10s; }
      chain ep-${i} { update @aff-${i} { ip saddr }; meta l4proto tcp dnat to 10.180.0.${i + 1}:80; }`,
  );
  return `table ip t {${objects.join('')}
      chain svc {
        ${numbers.map((i) => `ip saddr @aff-${i} goto ep-${i}`).join('\n')}
        numgen random mod ${endpoints} vmap { ${numbers.map((i) => `${i} : goto ep-${i}`).join(', ')} }
      }
      chain pre { type nat hook prerouting priority dstnat; ip daddr 10.96.0.1 goto svc; }
    }`;
}

test('an affinity service costs 2 expressions and a lookup more for each endpoint that does not know the client', (t) => {
  const first = (endpoints: number): readonly number[] =>
    counted(nodeOf(affinityRules(endpoints)), packet('outside 10.2.0.1 1000 10.96.0.1 80'));
  const [expressions, rules, lookups] = first(10);
  t.deepEqual(first(200), [expressions! + 380, rules! + 190, lookups! + 190]);
  // A client that is known to the i-th endpoint walks 2i + 3 expressions in the service's chain, and draws nothing.
  const node = nodeOf(affinityRules(10));
  node.bits = () => nft.bitsFor({ number: 6, modulus: 10 });
  node.send(packet('outside 10.2.0.1 1000 10.96.0.1 80'), 0);
  const again = node.send(packet('outside 10.2.0.1 1001 10.96.0.1 80'), S);
  t.is(ends(again), '10.2.0.1 > 10.180.0.7:80');
  t.deepEqual(again.draws, []);
  node.counts.fill(0);
  // jump test 3, affinity 2 × 6 + 3, update 2, dnat 5
  t.is(counted(node, packet('outside 10.2.0.1 1002 10.96.0.1 80'))[0], 3 + 15 + 2 + 5);
  // Each visit renews; ten seconds later the client is forgotten.
  node.bits = () => 0;
  t.is(ends(node.send(packet('outside 10.2.0.1 1003 10.96.0.1 80'), 9.999 * S)), '10.2.0.1 > 10.180.0.7:80');
  t.is(ends(node.send(packet('outside 10.2.0.1 1004 10.96.0.1 80'), 20 * S)), '10.2.0.1 > 10.180.0.1:80');
});

test('of equal priorities the chain registered last runs first; nat chains run where NAT is, whatever their priority', (t) => {
  // As nft monitor trace told it of a datagram from the host to itself on Linux 6.18.
  const node = nodeOf(`
    table ip a {
      chain one { type filter hook output priority 0; }
      chain two { type filter hook output priority 0; }
    }
    table inet b {
      chain three { type filter hook output priority 0; }
      chain early { type filter hook output priority -300; ct state invalid counter; }
      chain nat1 { type nat hook output priority 50; }
      chain nat2 { type nat hook output priority 50; }
      chain flt { type filter hook output priority -99; }
      chain post { type filter hook postrouting priority 0; oifname "lo" counter; oifname "x0" counter; }
      chain pre { type filter hook prerouting priority 0; iifname "lo" counter; }
      chain prenat { type nat hook prerouting priority 0; counter; }
    }
    table ip6 c { chain other { type filter hook output priority 0; drop; } }`);
  const record = new nft.WalkRecord(node.rules, node.registers);
  node.recorder = record;
  const sent = node.send(
    packet('host 127.0.0.1 48005 127.0.0.1 9', { protocol: UDP, flags: 0, bytes: 29 }),
    0,
  );
  t.is(sent.fate, 'accept');
  const entered = record.steps.filter(({ kind }) => kind === 'enter').map(({ where }) => where);
  const names = ['b early', 'b nat2', 'b nat1', 'b flt', 'b three', 'a two', 'a one', 'b post', 'b pre'];
  t.deepEqual(
    entered.map((where) => where.replace(/^\w+ /, '')),
    names,
  );
  const listing = node.rules.list();
  t.regex(listing, /ct state invalid counter packets 1 bytes 29/);
  t.regex(listing, /oifname "lo" counter packets 1 bytes 29\n\t\toifname "x0" counter packets 0 bytes 0/);
  t.regex(listing, /chain prenat \{\n.*\n\t\tcounter packets 0 bytes 0/);
});

test('the order of hooks is by priority; NAT and tracking stand where the kernel puts them', (t) => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          type: fc.constantFrom('filter' as const, 'nat' as const),
          hook: fc.constantFrom('prerouting' as const, 'input' as const, 'output' as const),
          priority: fc.integer({ min: -250, max: 150 }),
        }),
        { maxLength: 12 },
      ),
      (drawn) => {
        const chains: HookedChain[] = drawn.map((chain, registered) => ({ ...chain, registered }));
        const steps = hookSteps(chains, 'prerouting');
        const here = chains.filter(({ hook }) => hook === 'prerouting');
        const filters = here.filter(({ type }) => type === 'filter');
        const met = steps.flatMap((step) => (step.kind === 'chain' ? [step.chain] : []));
        const wanted = [...filters].sort((a, b) => a.priority - b.priority || b.registered - a.registered);
        t.deepEqual(met, wanted);
        const at = (kind: string): number => steps.findIndex((step) => step.kind === kind);
        const before = steps.slice(0, at('track'));
        t.true(before.every((step) => step.kind === 'chain' && step.chain.priority < -200));
        const hasNat = chains.some(({ type }) => type === 'nat');
        t.is(at('nat') >= 0, hasNat);
        if (!hasNat) return;
        const ahead = steps.slice(0, at('nat'));
        t.true(ahead.every((step) => step.kind !== 'chain' || step.chain.priority <= -100));
      },
    ),
    { seed: 42, numRuns: 300 },
  );
});

function newFlow(port: number): nft.NftPacket {
  return packet(`outside 10.2.0.${port} ${port} 10.96.0.1 80`);
}

test('numgen inc counts from its offset and on, across reloads of other chains; foreseen walks leave no trace', (t) => {
  const node = nodeOf(`
    table ip t {
      set seen { type ipv4_addr; flags dynamic,timeout; timeout 1h; }
      chain pre {
        type nat hook prerouting priority dstnat;
        counter update @seen { ip saddr }
        meta l4proto tcp dnat to numgen inc mod 3 map { 0 : 10.180.0.1, 1 : 10.180.0.2, 2 : 10.180.0.3 }
      }
    }`);
  const chosen = (port: number): string => ends(node.send(newFlow(port), 0)).slice(-4, -3);
  t.deepEqual([1, 2, 3, 4].map(chosen), ['1', '2', '3', '1']);
  const before = node.rules.list();
  for (let i = 0; i < 5; i++) t.is(ends(node.foresee(newFlow(9), 0)), '10.2.0.9 > 10.180.0.2:80');
  t.is(node.rules.list(), before);
  t.regex(before, /counter packets 4 bytes 240 update @seen/);
  node.rules.apply('add chain ip t other { type filter hook input priority 0; }', 'more.nft');
  t.deepEqual([5, 6].map(chosen), ['2', '3']);
});

test('IPv6, inet tables, redirect to the node itself, rejections: as nft_redir and nft_reject have it', (t) => {
  const node = nodeOf(
    `table inet t {
      chain pre {
        type nat hook prerouting priority dstnat;
        ip6 daddr fd00::10 tcp dport 80 dnat ip6 to [fd00:1::7]:8080
        ip6 daddr fd00::11 tcp dport 80 redirect to :9000
      }
      chain out { type nat hook output priority -100; ip6 daddr fd00::11 tcp dport 80 redirect to :9000; }
      chain in { type filter hook input priority 0; tcp dport 22 reject with tcp reset; udp dport 53 reject; }
      chain forwarded { type filter hook forward priority 0; policy drop; ct status dnat accept; }
      chain post { type nat hook postrouting priority srcnat; masquerade; }
    }`,
    6,
    ['fd00:9::1'],
    'fd00:1::/64',
  );
  const sent = (line: string, more: Partial<nft.NftPacket> = {}): string =>
    ends(node.send(packet(line, more), 0));
  t.is(sent('outside fd00:2::1 1000 fd00::10 80'), 'fd00:9::1 > fd00:1::7:8080');
  t.is(sent('outside fd00:2::1 1000 fd00::11 80'), 'fd00:2::1 > fd00:9::1:9000');
  t.is(sent('host fd00:9::1 1000 fd00::11 80'), 'fd00:9::1 > ::1:9000');
  t.is(sent('outside fd00:2::1 1000 fd00::12 80'), 'drop in inet t forwarded');
  t.is(sent('outside fd00:2::1 1000 fd00:9::1 22'), 'reject in inet t in: tcp-reset');
  const datagram = { protocol: UDP, flags: 0 };
  t.is(sent('outside fd00:2::1 1000 fd00:9::1 53', datagram), 'reject in inet t in: icmp6-port-unreachable');
});

test('a text is applied whole or not at all, and says where it is wrong', (t) => {
  const rules = new nft.NftRuleset();
  rules.apply(fixture('l2.nft'), 'l2.nft');
  const before = rules.list();
  const cases: readonly (readonly [string, RegExp])[] = [
    ['add chain ip kube-proxy new\nadd rule ip kube-proxy services jump nowhere\n', /^x\.nft:2.*nowhere/],
    [
      'flush chain ip kube-proxy services\ndelete chain ip kube-proxy masquerading\n',
      /^x\.nft:2.*Device or resource busy/,
    ],
    [
      'delete element ip kube-proxy cluster-ips { 172.30.0.41 }\ndelete element ip kube-proxy cluster-ips { 1.1.1.1 }',
      /^x\.nft:2.*No such file/,
    ],
    ['add chain ip kube-proxy a\nadd chain ip other b\n', /^x\.nft:2.*table ip other/],
    ['add chain ip kube-proxy a\nadd rule ip kube-proxy a ip saddr 1.2.3.4.5 drop', /^x\.nft:2:\d+/],
    ['delete table ip nothing', /^x\.nft:1.*no table ip nothing/],
    [
      'add set ip kube-proxy s { type ipv4_addr; }\nadd rule ip kube-proxy services ip saddr @t drop',
      /^x\.nft:2.* t\b/,
    ],
    [
      'table ip t { chain a { jump b; }\n chain b { jump a; }\n chain c { type filter hook input priority 0; jump a; } }',
      /Too many levels|Too many links/,
    ],
  ];
  for (const [text, wanted] of cases) {
    const error = t.throws(() => rules.apply(text, 'x.nft'), { name: 'InputError' }, text);
    t.regex(error!.message, wanted, text);
    t.is(rules.list(), before, text);
  }
  rules.apply('delete element ip kube-proxy cluster-ips { 172.30.0.41 }\n', 'x.nft');
  t.not(rules.list(), before);
  rules.apply('add element ip kube-proxy cluster-ips { 172.30.0.41 }\ndestroy table ip none\n', 'x.nft');
  t.is(rules.list(), before);
  // A listing is a text, too.
  const again = new nft.NftRuleset();
  again.apply(before, 'listing');
  t.is(again.list(), before);
  again.apply('flush ruleset', 'x.nft');
  t.is(again.list(), '');
});

onKernel('what is loaded is listed as nft list ruleset lists it', (t) => {
  for (const layout of LAYOUTS) {
    const rules = new nft.NftRuleset();
    rules.apply(fixture(`${layout}.nft`), layout);
    const script = 'nft -f - && nft list ruleset';
    const listed = execFileSync('unshare', ['-n', 'sh', '-c', script], {
      input: fixture(`${layout}.nft`),
      encoding: 'utf8',
    });
    t.is(rules.list(), listed);
  }
});
