import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { rulesTrace, type RulesTraceFlags } from '../src/cli/rules-trace.ts';

const TABLE = `-A -t 10.96.0.1:80 -s wrr
-a -t 10.96.0.1:80 -r 10.1.0.1:8080 -m -w 1
-a -t 10.96.0.1:80 -r 10.1.0.2:8080 -m -w 3
-A -t 10.96.0.2:80 -s wlc
-A -t 10.96.0.3:80 -s rr
-a -t 10.96.0.3:80 -r 10.1.0.9:80 -i -w 1 --tun-type ipip
-A -f 7 -s rr
-a -f 7 -r 10.1.0.3:0 -m -w 1
-A -t [fd00::1]:80 -s rr
-a -t [fd00::1]:80 -r [fd00::2]:8080 -m -w 1
`;

const directory = mkdtempSync(join(tmpdir(), 'vipsim-'));
test.after.always(() => rmSync(directory, { recursive: true }));

function trace(
  packet: string,
  over: Partial<RulesTraceFlags> = {},
  name = 'node.ipvs',
  text = TABLE,
): string[] {
  const file = join(directory, name);
  writeFileSync(file, text);
  const flags: RulesTraceFlags = {
    rules: file,
    packet,
    nodeAddress: [],
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

test('trace --rules takes an ipvsadm -Sn text, by its name or by how it begins', (t) => {
  for (const name of ['node.ipvs', 'saved.txt']) {
    t.deepEqual(trace('tcp 10.2.0.1:20000 > 10.96.0.1:80', {}, name), [
      `${name}: tcp 10.2.0.1:20000 > 10.96.0.1:80`,
      '',
      '  virtual server  -t 10.96.0.1:80: one search, 1 compared; bucket 87 of 256',
      '  scheduler       wrr: 1 looked at, 2 servers',
      '  real server     10.1.0.2:8080, weight 3',
      '',
      'sent, its destination translated, to 10.1.0.2:8080',
    ]);
  }
});

function lastLine(packet: string, over: Partial<RulesTraceFlags> = {}): string {
  return trace(packet, over).at(-1)!;
}

test('a trace says what becomes of packets without a server, by tunnel, by mark and over IPv6', (t) => {
  t.is(
    lastLine('tcp 10.2.0.1 > 10.96.0.2:80'),
    'refused: no server to choose, the sender gets ICMP port unreachable',
  );
  t.is(lastLine('tcp 10.2.0.1 > 10.96.0.9:80'), 'not for IPVS: it goes on to the node itself');
  t.is(lastLine('udp 10.2.0.1 > 10.96.0.1:80'), 'not for IPVS: it goes on to the node itself');
  t.is(lastLine('tcp 10.2.0.1 > 10.96.0.3:80'), 'sent as it is through a tunnel to 10.1.0.9:80');
  t.is(
    lastLine('tcp 10.2.0.1 > 10.99.0.1:443', { mark: 7 }),
    'sent, its destination translated, to 10.1.0.3:443',
  );
  t.is(lastLine('tcp [fd00::9] > [fd00::1]:80'), 'sent, its destination translated, to [fd00::2]:8080');
});

test('many flows are counted by server, as the weights say', (t) => {
  t.deepEqual(trace('tcp 10.2.0.1 > 10.96.0.1:80', { count: 400 }).slice(2), [
    '  endpoint           flows    share',
    '  10.1.0.1:8080        100  25.00 %',
    '  10.1.0.2:8080        300  75.00 %',
  ]);
});

test('a bad table is an error of its file with line and token, and --mark is for tables alone', (t) => {
  t.throws(
    () =>
      trace('tcp 10.2.0.1 > 10.96.0.1:80', {}, 'bad.ipvs', `${TABLE}-a -t 10.96.0.1:81 -r 10.1.0.1:1 -m\n`),
    {
      name: 'InputError',
      message: /bad\.ipvs:11 -t 10\.96\.0\.1:81: no such service/,
    },
  );
  t.throws(() => trace('tcp 10.2.0.1 > 10.96.0.1:80', { mark: 7 }, 'a.save', '*nat\nCOMMIT\n'), {
    message: /--mark is for an ipvsadm -Sn text/,
  });
});
