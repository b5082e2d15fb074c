import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import {
  CONNTRACK_DEFAULTS,
  FROM_HOST,
  FROM_OUTSIDE,
  FROM_POD,
  Packet,
  SYN,
  Streams,
  TCP,
  UDP,
  formatIpv4,
  parseIpv4,
  type Origin,
} from '@vipsim/sim-core';
import { iptables } from '../src/iptables/mode.ts';
import { EndpointsMap } from '../src/kubernetes/endpoints-map.ts';
import { readCluster } from '../src/kubernetes/read.ts';
import { DROP, REJECT, Verdict, defaultsOf, type OptionsOf } from '../src/proxier.ts';
import * as xt from '../src/xtables/index.ts';

/**
 * The fixtures named .save are what iptables-save 1.8.9 printed on Linux 6.18 after iptables-restore of the rules
 * beside them; in calico.save the one line with `-m set` was put in afterwards, the kernel had no ipset.
 */
const FIXTURES = new URL('fixtures/xtables/', import.meta.url);
const NODE = '172.18.0.2';
const HZ = 250;

function fixture(name: string): string {
  return readFileSync(new URL(name, FIXTURES), 'utf8');
}

function saved(rules: xt.Ruleset, counters = false): string {
  return [...xt.saveLines(rules, { counters })].map((line) => `${line}\n`).join('');
}

/** Table by table: backends print tables in different orders, and dated comments between them. */
function tables(text: string): Map<string, string> {
  const parts = text.split(/^(?=\*)/m).filter((part) => part.startsWith('*'));
  return new Map(parts.map((part) => [/^\*(\w+)/.exec(part)![1]!, part.replaceAll(/^#.*\n/gm, '')]));
}

interface NodeSpec {
  readonly family?: xt.Family;
  readonly addresses?: readonly string[];
  readonly podNetwork?: string;
  readonly podLink?: string;
  readonly backend?: 'nft' | 'legacy';
  readonly seed?: string;
}

function nodeOf(text: string, spec: NodeSpec = {}): xt.XtNode {
  const family = spec.family ?? 4;
  const addresses = (spec.addresses ?? [NODE]).map((address) => xt.parseAddress(address, family)!);
  const pods = spec.podNetwork === undefined ? {} : { podNetwork: xt.parseNetwork(spec.podNetwork, family)! };
  return new xt.XtNode({
    rules: xt.readRuleset(text, 'rules', family),
    facts: { addresses, ...pods, podLink: spec.podLink ?? 'cni0', outsideLink: 'eth0' },
    backend: spec.backend ?? 'nft',
    streams: new Streams(spec.seed ?? 'test'),
    hz: HZ,
  });
}

/** `tcp 10.0.0.1:1000 > 10.0.0.2:80` */
function packet(text: string, origin: Origin = FROM_OUTSIDE, more: Partial<xt.XtPacket> = {}): xt.XtPacket {
  const [, protocol, from, fromPort, to, toPort] = /^(\w+) (\S+):(\d+) > (\S+):(\d+)$/.exec(text)!;
  const family = from!.startsWith('[') ? 6 : 4;
  const address = (word: string): xt.Address => xt.parseAddress(word.replaceAll(/[[\]]/g, ''), family)!;
  return {
    protocol: protocol === 'tcp' ? TCP : UDP,
    source: address(from!),
    sourcePort: Number(fromPort),
    destination: address(to!),
    destinationPort: Number(toPort),
    flags: protocol === 'tcp' ? SYN : 0,
    origin,
    bytes: 60,
    ...more,
  };
}

function told(outcome: xt.XtOutcome): string {
  if (outcome.fate !== 'accept') return `${outcome.fate} ${outcome.where} ${outcome.answer}`.trim();
  const { source, sourcePort, destination, destinationPort } = outcome.leaves;
  return `${xt.formatAddress(source)}:${sourcePort} > ${xt.formatAddress(destination)}:${destinationPort}`;
}

function filter(...lines: readonly string[]): string {
  return ['*filter', ...lines, 'COMMIT', ''].join('\n');
}

function nat(...lines: readonly string[]): string {
  return ['*nat', ...lines, 'COMMIT', ''].join('\n');
}

test('what iptables-save printed is read and printed again byte for byte: Docker, ufw, Calico, kube-proxy, hand-made', (t) => {
  for (const name of ['docker', 'ufw', 'calico', 'kube-proxy', 'odd-nft']) {
    const text = fixture(`${name}.save`);
    t.is(saved(xt.readRuleset(text, name, 4)), text, name);
    t.true(text.split('\n').length > 40);
  }
  t.is(saved(xt.readRuleset(fixture('odd.save'), 'odd', 4), true), fixture('odd.save'), 'with counters');
  t.is(saved(xt.readRuleset(fixture('ip6.save'), 'ip6', 6)), fixture('ip6.save'));
});

/** Options that are kept as written, because they change no verdict, are written differently in the two. */
function kept(text: string): string {
  return text
    .replace('--icmp-type echo-request', '--icmp-type 8')
    .replace('--nflog-group 3 --nflog-prefix "x y"', '--nflog-prefix "x y" --nflog-group 3')
    .replace('--restore-mark\n', '--restore-mark --nfmask 0xffffffff --ctmask 0xffffffff\n');
}

test('rules in any spelling become what the real iptables-save printed of them', (t) => {
  const ours = tables(kept(saved(xt.readRuleset(fixture('odd.restore'), 'odd', 4), true)));
  t.deepEqual(ours.get('filter'), tables(fixture('odd.save')).get('filter'));
  for (const [name, text] of tables(fixture('odd.save'))) t.is(ours.get(name), text, name);
  const six = tables(saved(xt.readRuleset(fixture('ip6.restore'), 'ip6', 6)));
  for (const [name, text] of tables(fixture('ip6.save'))) t.is(six.get(name), text, name);
});

test('a partial text over loaded rules flushes what it declares, deletes with -X and leaves the rest', (t) => {
  const rules = xt.readRuleset(fixture('base.restore'), 'base', 4);
  xt.restore(rules, fixture('partial.restore'), { file: 'partial', noflush: true, counters: false });
  const wanted = tables(fixture('partial.save'));
  for (const [name, text] of tables(saved(rules))) t.is(text, wanted.get(name)!, name);
  t.is(wanted.size, 2);
  const before = saved(rules);
  t.throws(() =>
    xt.restore(rules, filter(':x - [0:0]', '-A x -j nowhere'), { file: 'f', noflush: true, counters: false }),
  );
  t.is(saved(rules), before, 'a table that is refused changes nothing');
  xt.restore(rules, filter('-A OUTPUT -j ACCEPT'), { file: 'f', noflush: false, counters: false });
  t.deepEqual([...rules.chain('filter', 'INPUT')!.rules], [], 'without noflush the table is emptied first');
});

test('text that iptables would refuse is refused with line, word and the way out', (t) => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['-A INPUT -j ACCEPT\n', /rules:1: a rule outside a table; begin with a line \*filter/],
    ['*fliter\nCOMMIT\n', /rules:1: no table "fliter"; there are raw, mangle, nat, filter, security/],
    ['*filter\n-A INPUT -j ACCEPT\n', /rules:2: table filter is not committed; end it with a line COMMIT/],
    [filter('-A INPUT -s 10.0.0.300 -j DROP'), /rules:2: "10\.0\.0\.300" is not an IPv4 address or network/],
    [filter('-A INPUT -s fd00::1 -j DROP'), /"fd00::1" is not an IPv4 address/],
    [filter('-A INPUT -p tcp --dport http -j DROP'), /match tcp: "http" is not a port.*names of services/],
    [filter('-A INPUT --dport 80 -j DROP'), /option --dport belongs to none of the matches/],
    [
      filter('-A INPUT -j DORP'),
      /rules:2: table filter, chain INPUT: jump to DORP, which is no chain.*declare :DORP/,
    ],
    [filter('-A IPNUT -j DROP'), /no chain IPNUT in table filter; declare it first/],
    [
      filter('-A INPUT -j DNAT --to-destination 1.2.3.4'),
      /target DNAT in table filter: the kernel takes it in nat only/,
    ],
    [filter('-A INPUT -m comment --comment "open -j DROP'), /a quote is opened and never closed/],
    [
      filter(':a - [0:0]', ':b - [0:0]', '-A a -j b', '-A b -j a'),
      /chain a comes back to itself by way of b/,
    ],
    [filter(':KUBE-SVC-1234567890123456789X - [0:0]'), /has 29 characters; at most 28/],
    [
      filter('-A INPUT -m conntrack --ctstate NOW -j DROP'),
      /match conntrack: --ctstate: NOW is not known; use INVALID, NEW/,
    ],
    [
      filter('-A INPUT -m statistic --mode random --probability 2'),
      /--probability 2: not a number from 0 to 1/,
    ],
    [filter('-A INPUT -m recent --name x -j DROP'), /match recent: wants one of --set, --rcheck/],
    [filter('-A INPUT -j ACCEPT -j DROP'), /a second target, DROP/],
    [filter('-I INPUT 2 -j DROP'), /-I at 2: the chain has 0 rules/],
    [filter('-A INPUT -j MARK --set-mark 0x1ffffffff'), /--set-mark 0x1ffffffff: not a mark/],
    [nat('-A PREROUTING -j DNAT --to-destination 1.2.3.4:0'), /"1\.2\.3\.4:0" is not an address with a port/],
  ];
  for (const [text, wanted] of cases) {
    const error = t.throws(() => xt.readRuleset(text, 'rules', 4));
    t.regex(error.message, wanted);
  }
});

test('a rule with a match or target that is not modelled is reported by name and line, kept, and never matches', (t) => {
  const text = filter(
    '-A INPUT -p tcp -m set --match-set bad src -m tcp --dport 80 -j DROP',
    '-A INPUT -p tcp -m conntrack --ctorigdst 10.0.0.1 --ctstate NEW -j DROP',
    '-A INPUT -j NFQUEUE --queue-num 3',
    '-A INPUT -p tcp -m tcp --dport 80 -j REJECT --reject-with tcp-reset',
  );
  const node = nodeOf(text);
  t.deepEqual(
    node.rules.unknown().map(({ name, line }) => [name, line]),
    [
      ['match set', 2],
      ['match conntrack', 3],
      ['target NFQUEUE', 4],
    ],
  );
  t.is(told(node.send(packet(`tcp 10.0.0.1:1 > ${NODE}:80`), 0)), 'reject filter INPUT tcp-reset');
  t.regex(saved(node.rules), /-m set --match-set bad src -m tcp --dport 80 -j DROP/);
  t.regex(saved(node.rules), /-j NFQUEUE --queue-num 3\n/);
});

test('hooks are met in the order of their priorities, by where a packet comes from and goes to', (t) => {
  const chains: Readonly<Record<string, readonly string[]>> = {
    raw: ['PREROUTING', 'OUTPUT'],
    mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
    nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
    filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  };
  const text = Object.entries(chains)
    .map(([table, hooks]) =>
      [`*${table}`, ...hooks.map((hook) => `-A ${hook} -m comment --comment x`), 'COMMIT\n'].join('\n'),
    )
    .join('');
  const way = (from: string, to: string, origin: Origin): string => {
    const node = nodeOf(text);
    const steps: string[] = [];
    node.recorder = { step: (where, what) => what.startsWith('rule') && steps.push(where) };
    node.send(packet(`udp ${from}:1000 > ${to}:53`, origin), 0);
    return steps.join(', ');
  };
  t.is(
    way('10.9.0.1', '10.8.0.1', FROM_OUTSIDE),
    'raw PREROUTING, mangle PREROUTING, nat PREROUTING, mangle FORWARD, filter FORWARD, mangle POSTROUTING, nat POSTROUTING',
  );
  t.is(
    way('10.9.0.1', NODE, FROM_OUTSIDE),
    'raw PREROUTING, mangle PREROUTING, nat PREROUTING, mangle INPUT, filter INPUT, nat INPUT',
  );
  t.is(
    way(NODE, '10.8.0.1', FROM_HOST),
    'raw OUTPUT, mangle OUTPUT, nat OUTPUT, filter OUTPUT, mangle POSTROUTING, nat POSTROUTING',
  );
  t.is(
    way('127.0.0.1', '127.0.0.1', FROM_HOST),
    'raw OUTPUT, mangle OUTPUT, nat OUTPUT, filter OUTPUT, mangle POSTROUTING, nat POSTROUTING, ' +
      'raw PREROUTING, mangle PREROUTING, mangle INPUT, filter INPUT',
  );
});

test('nat is met by the first packet of a flow; answers are translated back, and conntrack knows what happened', (t) => {
  const node = nodeOf(
    nat(
      '-A PREROUTING -d 10.96.0.1/32 -p tcp --dport 80 -j DNAT --to-destination 10.1.0.5:8080',
      '-A POSTROUTING -j MASQUERADE',
    ) +
      filter(
        ':FORWARD DROP [0:0]',
        '-A FORWARD -m conntrack --ctstate INVALID -j REJECT',
        '-A FORWARD -m conntrack --ctstate NEW -m conntrack --ctstate DNAT -j ACCEPT',
        '-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT',
      ),
  );
  const first = node.send(packet('tcp 10.2.0.1:2000 > 10.96.0.1:80'), 0);
  t.is(told(first), `${NODE}:2000 > 10.1.0.5:8080`);
  t.true(first.first && first.masqueraded);
  const answer = packet(`tcp 10.1.0.5:8080 > ${NODE}:2000`, FROM_OUTSIDE, { flags: SYN | 2 });
  t.is(told(node.send(answer, 1)), '10.96.0.1:80 > 10.2.0.1:2000');
  t.is(
    told(node.send(packet('tcp 10.2.0.1:2000 > 10.96.0.1:80', FROM_OUTSIDE, { flags: 2 }), 2)),
    `${NODE}:2000 > 10.1.0.5:8080`,
  );
  // A second client with the same port gets another; the first rule of nat has counted two flows, not four packets.
  const second = node.send(packet('tcp 10.2.0.2:2000 > 10.96.0.1:80'), 3);
  t.not(second.leaves.sourcePort, 2000);
  t.is(node.rules.chain('nat', 'PREROUTING')!.rules[0]!.packets, 2);
  t.is(
    told(node.send(packet('tcp 10.2.0.9:1 > 10.9.0.1:1', FROM_OUTSIDE, { flags: 4 }), 4)),
    'drop filter FORWARD'.replace('drop', 'reject') + ' icmp-port-unreachable',
  );
});

test('jumps return, gotos do not, RETURN in a built-in chain is its policy, marks stay with the packet', (t) => {
  const rules = (jump: string): string =>
    filter(
      ':INPUT DROP [0:0]',
      ':one - [0:0]',
      ':two - [0:0]',
      `-A INPUT ${jump} one`,
      '-A INPUT -j ACCEPT',
      '-A one -j two',
      '-A two -j RETURN',
      '-A two -j DROP',
    );
  const to = packet(`udp 10.0.0.1:1 > ${NODE}:9`);
  t.is(nodeOf(rules('-j')).send(to, 0).fate, 'accept');
  t.is(nodeOf(rules('-g')).send(to, 0).fate, 'drop', 'back from a goto is the policy');
  t.is(
    nodeOf(filter(':INPUT DROP [0:0]', '-A INPUT -j RETURN', '-A INPUT -j ACCEPT')).send(to, 0).fate,
    'drop',
  );
  const marks = nodeOf(
    '*mangle\n-A PREROUTING -j MARK --set-mark 0x10/0xf0\n-A PREROUTING -j MARK --or-mark 0x3\n' +
      '-A PREROUTING -j MARK --xor-mark 0x1\n-A PREROUTING -j MARK --and-mark 0xfff2\nCOMMIT\n' +
      filter('-A INPUT -m mark ! --mark 0x12 -j DROP'),
  );
  t.is(marks.send(to, 0).fate, 'accept');
});

test('statistic: 31-bit thresholds as the kernel rounds and prints them, nth from its first packet', (t) => {
  // Read back from a kernel: text, and what iptables-save shows of it.
  const vectors = [
    ['0.3333333333', '0.33333333349'],
    ['0.2000000000', '0.20000000019'],
    ['0.1428571429', '0.14285714272'],
    ['0.0001000000', '0.00009999983'],
    ['0.0000010000', '0.00000099977'],
    ['0.000244140625', '0.00024414062'],
    ['1.0000000000', '1.00000000000'],
  ];
  for (const [written, shown] of vectors) {
    const rules = xt.readRuleset(
      filter(`-A INPUT -m statistic --mode random --probability ${written}`),
      'f',
      4,
    );
    t.regex(saved(rules), new RegExp(`--probability ${shown!.replace('.', '\\.')}\n`));
  }
  const node = nodeOf(filter('-A INPUT -m statistic --mode random --probability 0.3333333333 -j DROP'));
  const to = packet(`udp 10.0.0.1:1 > ${NODE}:9`);
  // round(0.3333333333 * 2^31) = 715827883
  node.chance = (threshold) => threshold === 715827883;
  t.is(node.send(to, 0).fate, 'drop');
  const nth = nodeOf(filter('-A INPUT -m statistic --mode nth --every 3 --packet 2 -j DROP'));
  const fates = Array.from({ length: 7 }, () => nth.send(to, 0).fate[0]).join('');
  t.is(fates, 'aadaada');
});

test('recent: a hundred addresses a list, the least recently updated leaves first, seconds are inclusive', (t) => {
  const node = nodeOf(
    filter(
      '-A INPUT -p udp --dport 1 -m recent --name l --rcheck --seconds 10 -j REJECT',
      '-A INPUT -p udp --dport 2 -m recent --name l --update --seconds 10 --reap -j REJECT',
      '-A INPUT -p udp --dport 3 -m recent --name l --set -j DROP',
      '-A INPUT -p udp --dport 4 -m recent --name l --rcheck --seconds 10 --hitcount 2 -j REJECT',
    ),
  );
  const send = (client: number, port: number, seconds: number): string =>
    node.send(packet(`udp 10.0.${client >> 8}.${client & 255}:9 > ${NODE}:${port}`), seconds * 1e9).fate;
  for (let client = 1; client <= 150; client++) send(client, 3, 0);
  const list = node.rules.recent.get('l');
  const last = (): number[] => list.entries().map(({ address }) => address[0]! & 255);
  t.deepEqual(
    last(),
    Array.from({ length: 100 }, (_, i) => i + 51),
    '150 insertions leave the last 100',
  );
  send(51, 3, 1);
  send(151, 3, 1);
  t.is(last()[0], 53, 'the 51st was touched, so a new one evicts the 52nd');
  t.is(send(51, 4, 2), 'reject', 'two stamps');
  t.is(send(60, 4, 2), 'accept', 'one stamp');
  t.is(send(60, 1, 10), 'reject', 'ten seconds of ten');
  t.is(send(60, 1, 10.004), 'accept', 'a tick more');
  t.is(send(51, 2, 11), 'reject');
  t.is(last().length, 99, 'reap removes one entry at a time');
  t.is(send(51, 1, 21), 'reject', 'update renewed it');
});

test('limit: a full bucket, then as many as the rate refills', (t) => {
  const node = nodeOf(filter('-A INPUT -m limit --limit 2/sec --limit-burst 3 -j DROP'));
  const to = packet(`udp 10.0.0.1:1 > ${NODE}:9`);
  const at = (seconds: number): string => node.send(to, seconds * 1e9).fate[0]!;
  t.is([0, 0, 0, 0, 0.4, 0.5, 0.6, 1.0, 1.1].map(at).join(''), 'dddaadada');
});

test('Docker, ufw and Calico rules decide as their authors mean', (t) => {
  const docker = nodeOf(fixture('docker.save'), { podNetwork: '172.17.0.0/16', podLink: 'docker0' });
  t.is(
    told(docker.send(packet(`tcp 198.51.100.1:5000 > ${NODE}:8080`), 0)),
    '198.51.100.1:5000 > 172.17.0.2:80',
  );
  t.is(told(docker.send(packet(`tcp 198.51.100.1:5000 > 172.17.0.3:81`), 0)), 'drop filter FORWARD');
  t.is(
    told(docker.send(packet('tcp 172.17.0.3:5000 > 198.51.100.1:443', FROM_POD), 0)),
    `${NODE}:5000 > 198.51.100.1:443`,
  );

  const ufw = nodeOf(fixture('ufw.save'));
  t.is(ufw.send(packet(`tcp 198.51.100.1:5000 > ${NODE}:443`), 0).fate, 'accept');
  t.is(told(ufw.send(packet(`tcp 198.51.100.1:5000 > ${NODE}:8443`), 0)), 'drop filter INPUT');
  const ssh = (i: number): string =>
    told(ufw.send(packet(`tcp 198.51.100.9:${6000 + i} > ${NODE}:22`), i * 1e8));
  t.deepEqual(
    Array.from({ length: 7 }, (_, i) => ssh(i).startsWith('reject filter INPUT icmp-port-unreachable')),
    [false, false, false, false, false, true, true],
    'six new connections in half a minute',
  );

  const calico = nodeOf(fixture('calico.save'), { podNetwork: '10.65.0.2/32', podLink: 'cali1d6cb1ff0d5' });
  t.is(
    calico.send(packet('tcp 10.66.0.1:5000 > 10.65.0.2:8080'), 0).fate,
    'accept',
    'policy allows the port',
  );
  t.is(told(calico.send(packet('tcp 10.66.0.1:5000 > 10.65.0.2:22'), 0)), 'drop filter FORWARD');
  t.is(calico.send(packet('tcp 10.65.0.2:5000 > 10.66.0.1:22', FROM_POD), 0).fate, 'accept');
  t.deepEqual([...new Set(calico.rules.unknown().map(({ name }) => name))].sort(), [
    'match rpfilter',
    'match set',
  ]);
});

test('IPv6 rules are walked as IPv4 ones, addresses as inet_ntop writes them', (t) => {
  const six = nodeOf(fixture('ip6.save'), { family: 6, addresses: ['fd00:ffff::1'] });
  t.is(
    told(six.send(packet('tcp [2001:db8:1::7]:4000 > [fd00::1]:80'), 0)),
    `fd00:ffff::1:${six.flows.list(1)[0]!.reply.destinationPort} > fd00:10:180::1:80`,
  );
  t.is(
    told(six.send(packet('tcp [2001:db8:1::7]:4000 > [fd00:ffff::1]:80'), 0)),
    'reject filter INPUT icmp6-port-unreachable',
  );
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.constant(0), fc.nat(0xffffffff)), { minLength: 4, maxLength: 4 }),
      (words) => {
        t.deepEqual(xt.parseAddress(xt.formatAddress(words), 6), words);
      },
    ),
    { seed: 42, numRuns: 500 },
  );
  const forms = [
    '::',
    '::1',
    '1::',
    '2001:db8::1:0:0:1',
    '::ffff:1.2.3.4',
    '::1.2.3.4',
    '1:2:3:4:5:6:7:8',
    'fe80::1:0:1',
  ];
  for (const form of forms) t.is(xt.formatAddress(xt.parseAddress(form, 6)!), form);
  for (const bad of [':::', '1::2::3', '1:2:3', '12345::', '1:2:3:4:5:6:7:8:9', '::1.2.3.400']) {
    t.is(xt.parseAddress(bad, 6), undefined, bad);
  }
});

test('any rule that can be printed is read again as the same rule', (t) => {
  const octet = fc.nat(255);
  const address = fc.tuple(octet, octet, octet, octet).map((octets) => octets.join('.'));
  const not = fc.constantFrom('', '! ');
  const part = fc.oneof(
    fc.tuple(not, address, fc.integer({ min: 1, max: 32 })).map(([n, a, p]) => `${n}-s ${a}/${p}`),
    fc.tuple(not, address).map(([n, a]) => `${n}-d ${a}`),
    fc.tuple(not, fc.constantFrom('eth0', 'cali+')).map(([n, i]) => `${n}-i ${i}`),
    fc
      .string({ minLength: 1, maxLength: 20 })
      .map((s) => `-m comment --comment "${s.replaceAll(/["\\]/g, '\\$&')}"`),
    fc.tuple(not, fc.nat(0xffff), fc.nat(0xffff)).map(([n, v, m]) => `-m mark ${n}--mark ${v}/${m}`),
    fc
      .tuple(not, fc.subarray(['NEW', 'INVALID', 'DNAT', 'RELATED'], { minLength: 1 }))
      .map(([n, s]) => `-m conntrack ${n}--ctstate ${s.join(',')}`),
    fc
      .double({ min: 0, max: 1, noNaN: true })
      .map((p) => `-m statistic --mode random --probability ${p.toFixed(10)}`),
    fc
      .tuple(fc.integer({ min: 1, max: 9 }), fc.nat(8))
      .map(([e, p]) => `-m statistic --mode nth --every ${e} --packet ${p % e}`),
    fc
      .tuple(fc.integer({ min: 1, max: 99 }), fc.constantFrom('second', 'minute', 'hour', 'day'))
      .map(([n, u]) => `-m limit --limit ${n}/${u}`),
    fc
      .array(fc.integer({ min: 1, max: 65535 }), { minLength: 1, maxLength: 5 })
      .map((ports) => `-m multiport --dports ${ports.join(',')}`),
  );
  fc.assert(
    fc.property(
      fc.uniqueArray(part, { maxLength: 4, selector: (text) => text.replace('! ', '').slice(0, 9) }),
      (parts) => {
        const once = saved(xt.readRuleset(filter(`-A INPUT ${parts.join(' ')} -p tcp -j DROP`), 'f', 4));
        t.is(saved(xt.readRuleset(once, 'f', 4)), once);
      },
    ),
    { seed: 42, numRuns: 500 },
  );
});

// ---- Our own proxier's rules, walked by both.

interface ServiceSeed {
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer';
  readonly udp: boolean;
  readonly external: 'Cluster' | 'Local';
  readonly internal: 'Cluster' | 'Local';
  readonly affinity: number;
  readonly externalIp: boolean;
  readonly ranges: boolean;
  /** By endpoint: the node it is on, and its conditions. */
  readonly endpoints: readonly {
    readonly node: number;
    readonly ready: boolean;
    readonly serving: boolean;
  }[];
}

const serviceSeed = fc.record<ServiceSeed>({
  type: fc.constantFrom('ClusterIP', 'NodePort', 'LoadBalancer'),
  udp: fc.boolean(),
  external: fc.constantFrom('Cluster', 'Local'),
  internal: fc.constantFrom('Cluster', 'Cluster', 'Local'),
  affinity: fc.constantFrom(0, 0, 10, 10_800),
  externalIp: fc.boolean(),
  ranges: fc.boolean(),
  endpoints: fc.array(
    fc.record({
      node: fc.nat(1),
      ready: fc.constantFrom(true, true, true, false),
      serving: fc.boolean(),
    }),
    { maxLength: 5 },
  ),
});

function clusterText(seeds: readonly ServiceSeed[]): string {
  const items: unknown[] = [0, 1].map((n) => ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: `node-${n}` },
    spec: { podCIDR: `10.244.${n}.0/24` },
    status: { addresses: [{ type: 'InternalIP', address: `172.18.0.${2 + n}` }] },
  }));
  seeds.forEach((seed, s) => {
    const external = seed.type !== 'ClusterIP' || seed.externalIp;
    items.push({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { namespace: 'ns', name: `s${s}` },
      spec: {
        type: seed.type,
        clusterIP: `10.96.0.${10 + s}`,
        ...(external ? { externalTrafficPolicy: seed.external } : {}),
        internalTrafficPolicy: seed.internal,
        ...(seed.affinity > 0
          ? {
              sessionAffinity: 'ClientIP',
              sessionAffinityConfig: { clientIP: { timeoutSeconds: seed.affinity } },
            }
          : {}),
        ...(seed.externalIp ? { externalIPs: [`192.0.2.${10 + s}`] } : {}),
        ...(seed.ranges && seed.type === 'LoadBalancer'
          ? { loadBalancerSourceRanges: ['198.51.100.0/25', '10.244.1.0/24'] }
          : {}),
        ports: [
          {
            name: 'p',
            port: 80,
            protocol: seed.udp ? 'UDP' : 'TCP',
            ...(seed.type === 'ClusterIP' ? {} : { nodePort: 30_000 + s }),
          },
        ],
      },
      ...(seed.type === 'LoadBalancer'
        ? { status: { loadBalancer: { ingress: [{ ip: `203.0.113.${10 + s}` }] } } }
        : {}),
    });
    items.push({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { namespace: 'ns', name: `s${s}-x`, labels: { 'kubernetes.io/service-name': `s${s}` } },
      addressType: 'IPv4',
      ports: [{ name: 'p', port: 8080, protocol: seed.udp ? 'UDP' : 'TCP' }],
      endpoints: seed.endpoints.map(({ node, ready, serving }, e) => ({
        addresses: [`10.244.${node}.${10 + 10 * s + e}`],
        nodeName: `node-${node}`,
        conditions: { ready, serving: ready || serving, terminating: !ready },
      })),
    });
  });
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
}

const SOURCES: readonly (readonly [string, Origin])[] = [
  ['10.244.0.200', FROM_POD],
  ['10.244.0.10', FROM_POD],
  ['10.244.0.21', FROM_POD],
  ['10.244.1.7', FROM_OUTSIDE],
  ['198.51.100.7', FROM_OUTSIDE],
  ['198.51.100.200', FROM_OUTSIDE],
  ['172.18.0.3', FROM_OUTSIDE],
  [NODE, FROM_HOST],
];

const packetSeed = fc.record({
  service: fc.nat(3),
  to: fc.constantFrom(
    'cluster' as const,
    'external' as const,
    'balancer' as const,
    'node' as const,
    'localhost' as const,
    'other' as const,
  ),
  from: fc.nat(SOURCES.length - 1),
  wrongPort: fc.constantFrom(false, false, false, false, true),
  otherProtocol: fc.constantFrom(false, false, false, true),
  gapMs: fc.constantFrom(1, 37, 3_333, 11_111),
});

const optionsSeed = fc.record(
  {
    backend: fc.constantFrom('nft' as const, 'legacy' as const),
    masqueradeAll: fc.boolean(),
    masqueradeBit: fc.constantFrom(14, 0, 31),
    localhostNodePorts: fc.boolean(),
    nodePortAddresses: fc.constantFrom('', 'primary', '127.0.0.0/8'),
    detectLocalMode: fc.constantFrom(
      'ClusterCIDR' as const,
      'NodeCIDR' as const,
      'BridgeInterface' as const,
      'InterfaceNamePrefix' as const,
      'none' as const,
    ),
    nfacct: fc.boolean(),
    snatNodeInternalIP: fc.boolean(),
    tcpBeLiberal: fc.boolean(),
    largeClusterEndpoints: fc.constantFrom(0, 1000),
  },
  { requiredKeys: [] },
);

function heldAgainst(
  options: Partial<OptionsOf<(typeof iptables)['options']>>,
  seeds: readonly ServiceSeed[],
  packets: readonly (typeof packetSeed extends fc.Arbitrary<infer Seed> ? Seed : never)[],
): { readonly ours: string[]; readonly theirs: string[] } {
  const cluster = readCluster([{ name: 'cluster.json', text: clusterText(seeds) }]);
  const proxier = iptables.create(
    {
      cluster,
      endpoints: new EndpointsMap(cluster),
      node: 0,
      cores: 4,
      conntrack: CONNTRACK_DEFAULTS,
      streams: new Streams('held'),
    },
    { ...defaultsOf(iptables.options), ...options },
  );
  const plan = proxier.sync(
    Array.from({ length: cluster.ports.count }, (_, port) => port),
    true,
  );
  for (const stage of plan.stages) stage.commit();
  const text = [...proxier.dump('iptables-save')].map((line) => `${line}\n`).join('');
  const podLink = options.detectLocalMode === 'InterfaceNamePrefix' ? 'veth1a2b' : 'cni0';
  const reference = nodeOf(text, { podNetwork: '10.244.0.0/24', podLink, seed: 'held' });
  assert.deepEqual(reference.rules.unknown(), []);
  const verdict = new Verdict(iptables.operations.length);
  const ours: string[] = [];
  const theirs: string[] = [];
  let nowMs = 5;
  packets.forEach((seed, i) => {
    nowMs += seed.gapMs;
    const service = seeds[seed.service % seeds.length]!;
    const index = seed.service % seeds.length;
    const targets: Readonly<Record<typeof seed.to, readonly [string, number]>> = {
      cluster: [`10.96.0.${10 + index}`, 80],
      external: [`192.0.2.${10 + index}`, 80],
      balancer: [`203.0.113.${10 + index}`, 80],
      node: [NODE, 30_000 + index],
      localhost: ['127.0.0.1', 30_000 + index],
      other: ['10.244.1.99', 80],
    };
    const to = targets[seed.to]!;
    const [source, origin] = SOURCES[seed.from]!;
    const udp = service.udp !== seed.otherProtocol;
    const one = new Packet();
    one.protocol = udp ? UDP : TCP;
    one.flags = udp ? 0 : SYN;
    one.source = parseIpv4(source)!;
    // A port for each packet: every one opens a flow.
    one.sourcePort = 20_000 + i;
    one.destination = parseIpv4(to[0])!;
    one.destinationPort = to[1] + (seed.wrongPort ? 1 : 0);
    one.origin = origin;
    verdict.begin(one);
    proxier.dataplane.classify(one, nowMs * 1e6, verdict);
    const fate = verdict.fate === DROP ? 'drop' : verdict.fate === REJECT ? 'reject' : 'accept';
    const masqueraded = verdict.source !== one.source;
    theirs.push(
      fate === 'accept'
        ? `${formatIpv4(verdict.destination)}:${verdict.destinationPort} ${masqueraded}`
        : fate,
    );
    const outcome = reference.send(
      packet(`${udp ? 'udp' : 'tcp'} ${source}:${one.sourcePort} > ${to[0]}:${one.destinationPort}`, origin),
      nowMs * 1e6,
    );
    const { destination, destinationPort } = outcome.leaves;
    const changed = !xt.sameAddress(outcome.leaves.source, [one.source]);
    ours.push(
      outcome.fate === 'accept'
        ? `${xt.formatAddress(destination)}:${destinationPort} ${changed}`
        : outcome.fate,
    );
  });
  return { ours, theirs };
}

test("kube-proxy's own rules, printed, read back and walked literally, give each packet the verdict of the compact walk, draw for draw", (t) => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(
      fc.array(serviceSeed, { minLength: 1, maxLength: 4 }),
      fc.array(packetSeed, { minLength: 1, maxLength: 40 }),
      optionsSeed,
      (seeds, packets, options) => {
        const { ours, theirs } = heldAgainst(options, seeds, packets);
        t.deepEqual(ours, theirs);
        for (const verdict of ours) seen.add(verdict.replace(/^.*:\d+ /, ''));
      },
    ),
    { seed: 42, numRuns: 300 },
  );
  t.deepEqual([...seen].sort(), ['drop', 'false', 'reject', 'true'], 'all kinds of verdict came up');
});
