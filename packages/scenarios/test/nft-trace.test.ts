import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { rulesTrace, type RulesTraceFlags } from '../src/cli/rules-trace.ts';

const RULES = `table ip t {
  set denied { type ipv4_addr; elements = { 10.66.0.1 } }
  map services {
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = { 10.96.0.10 . tcp . 80 : goto web }
  }
  chain web { meta l4proto tcp dnat to numgen random mod 2 map { 0 : 10.1.0.1, 1 : 10.1.0.2 }; }
  chain pre {
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr . meta l4proto . th dport vmap @services
  }
  chain forwarded {
    type filter hook forward priority filter; policy accept;
    ip saddr @denied drop
    ip saddr 10.77.0.0/16 reject with icmp host-unreachable
  }
}
`;

const directory = mkdtempSync(join(tmpdir(), 'vipsim-'));
test.after.always(() => rmSync(directory, { recursive: true }));

function trace(
  packet: string,
  over: Partial<RulesTraceFlags> = {},
  name = 'node.nft',
  text = RULES,
): string[] {
  const file = join(directory, name);
  writeFileSync(file, text);
  const flags: RulesTraceFlags = {
    rules: file,
    packet,
    nodeAddress: ['192.168.0.2'],
    podLink: 'cni0',
    outsideLink: 'eth0',
    unknown: 'skip',
    backend: 'nft',
    mark: 0,
    count: 1,
    ...over,
  };
  return [...rulesTrace(flags)].map((line) => line.replace(`${directory}/`, ''));
}

test('trace --rules walks an nft text expression by expression, by its name or by how it begins', (t) => {
  const listing = [
    '#!/usr/sbin/nft -f\n',
    '# made by hand\n\n',
    'flush ruleset\n',
    'add table ip t\n',
    'table ip t { }\n',
  ];
  const texts: readonly (readonly [string, string])[] = [
    ['node.nft', RULES],
    ['listing.txt', RULES],
    ...listing.map((head, i) => [`head-${i}.txt`, `${head}${RULES}`] as const),
  ];
  for (const [name, text] of texts) {
    t.deepEqual(trace('tcp 10.2.0.1:20000 > 10.96.0.10:80', { seed: '1' }, name, text), [
      `${name}: tcp 10.2.0.1:20000 > 10.96.0.10:80, from outside`,
      '',
      '  conntrack: a new flow',
      'ip t pre: nat at prerouting, priority -100',
      '  pre, rule 1 of 1: ip daddr . meta l4proto . th dport vmap @services',
      '      [ payload load 4b @ network header + 16 => reg 1 ]    10.96.0.10',
      '      [ meta load l4proto => reg 9 ]                        tcp',
      '      [ payload load 2b @ transport header + 2 => reg 10 ]  80',
      '      [ lookup reg 1 set services dreg 0 ]                  found: goto web',
      '    goto web',
      '  web, rule 1 of 1: meta l4proto tcp dnat to numgen random mod 2 map { 0 : 10.1.0.1, 1 : 10.1.0.2 }',
      '      [ meta load l4proto => reg 1 ]     tcp',
      '      [ cmp eq reg 1 0x00000006 ]        yes',
      '      [ numgen reg 1 = random mod 2 ]    1',
      '      [ lookup reg 1 set { … } dreg 1 ]  found: 10.1.0.2',
      '      [ nat dnat ip addr_min reg 1 ]',
      '    accept',
      '  nat: destination is now 10.1.0.2:80',
      'ip t forwarded: filter at forward, priority 0',
      '  forwarded, rule 1 of 2: ip saddr @denied drop',
      '      [ payload load 4b @ network header + 12 => reg 1 ]  10.2.0.1',
      '      [ lookup reg 1 set denied ]                         not found',
      '  forwarded, rule 2 of 2: ip saddr 10.77.0.0/16 reject with icmp host-unreachable',
      '      [ payload load 2b @ network header + 12 => reg 1 ]  10.2.*',
      '      [ cmp eq reg 1 0x00004d0a ]                         no',
      '  policy accept',
      '',
      '13 expressions in 4 rules, 3 set lookups',
      'accepted as 10.2.0.1:20000 > 10.1.0.2:80',
    ]);
  }
});

test('a trace says where a packet is dropped or rejected, and what of many flows becomes', (t) => {
  const last = (packet: string): string => trace(packet).at(-1)!;
  t.is(last('tcp 10.66.0.1 > 10.9.0.1:80'), 'dropped in ip t forwarded');
  t.is(
    last('tcp 10.77.0.1 > 10.9.0.1:80'),
    'rejected in ip t forwarded: the sender gets ICMP host unreachable',
  );
  t.is(last('tcp 10.2.0.1 > 192.168.0.2:80'), 'accepted as 10.2.0.1:40000 > 192.168.0.2:80');
  t.is(last('tcp [fd00::2] > [fd00::1]:80'), 'accepted as [fd00::2]:40000 > [fd00::1]:80');
  const many = trace('tcp 10.2.0.1 > 10.96.0.10:80', { count: 4000 });
  t.regex(many[0]!, /node\.nft: 4000 flows of tcp 10\.2\.0\.1 > 10\.96\.0\.10:80, from outside/);
  const shares = many.slice(3).map((line) => Number(/ (\d+) +\d/.exec(line)![1]));
  t.is(shares.length, 2);
  t.is(shares[0]! + shares[1]!, 4000);
  // Chi-square at 1 % with one degree of freedom.
  t.true((2 * (shares[0]! - 2000) * (shares[0]! - 2000)) / 2000 < 6.635, String(shares));
});

test('of a long run of rules in one chain the first and the last four are shown', (t) => {
  const rules = Array.from({ length: 300 }, (_, i) => `ip saddr 10.9.${i >> 8}.${i & 255} drop`).join('\n');
  const text = `table ip t { chain in { type filter hook input priority 0; ${rules}\n } }`;
  const lines = trace('tcp 10.2.0.1 > 192.168.0.2:80', {}, 'long.nft', text);
  const shown = lines
    .filter((line) => line.startsWith('  in, rule'))
    .map((line) => /rule (\d+)/.exec(line)![1]);
  t.deepEqual(shown, ['1', '2', '3', '4', '297', '298', '299', '300']);
  t.true(lines.includes('    … and 292 more rules here'));
  t.true(lines.includes('600 expressions in 300 rules, 0 set lookups'));
});

test('a bad text is an error of its file with line and column; names from it cannot steer the terminal', (t) => {
  const bad = (text: string, wanted: RegExp, over: Partial<RulesTraceFlags> = {}): void => {
    t.throws(() => trace('tcp 10.2.0.1 > 10.96.0.1:80', over, 'bad.nft', text), { message: wanted }, text);
  };
  bad(`${RULES}table ip t { chain x { ip saddr 10.0.0.300 drop; } }`, /bad\.nft:18:33: /);
  bad(
    `${RULES}add rule ip t nowhere drop\n`,
    /bad\.nft:18: no chain nowhere in table ip t: No such file or directory; /,
  );
  bad('# nothing\n', /bad\.nft: holds no table; wanted what nft list ruleset prints/);
  bad(RULES, /--mark is for an ipvsadm -Sn text/, { mark: 7 });
  const comment = RULES.replace('@denied drop', '@denied drop comment "a\u001b[31mred"');
  const lines = trace('tcp 10.66.0.1 > 10.9.0.1:80', {}, 'colour.nft', comment);
  t.true(lines.some((line) => line.includes('\\x1b[31mred')));
  t.false(lines.some((line) => line.includes('\u001b')));
});

test('rules of the iptables kind are still told from nft texts', (t) => {
  const saved = '*filter\n-A FORWARD -s 10.66.0.1 -j DROP\nCOMMIT\n';
  t.is(trace('tcp 10.66.0.1 > 10.9.0.1:80', {}, 'a.save', saved).at(-1), 'dropped in filter FORWARD');
  const fixture = new URL('../../proxiers/test/fixtures/xtables/kube-proxy.save', import.meta.url);
  t.notThrows(() => trace('tcp 10.66.0.1 > 10.9.0.1:80', {}, 'b.save', readFileSync(fixture, 'utf8')));
});
