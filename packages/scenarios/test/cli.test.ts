import { execFile, execFileSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { parsePacket } from '../src/cli/packet.ts';
import { parseSize, readInputs } from '../src/cli/inputs.ts';
import { UsageError } from '../src/cli/usage-error.ts';
import { writeWhole } from '../src/cli/files.ts';
import { ResultSchema } from '../src/report/result.ts';
import { FROM_HOST, FROM_OUTSIDE, FROM_POD } from '@vipsim/sim-core';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'vipsim-test-'));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function vipsim(words: readonly string[], input = ''): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      ['--import=tsx', 'packages/scenarios/src/cli/main.ts', ...words],
      { cwd: ROOT, encoding: 'utf8', maxBuffer: 1 << 26 },
      (error, out, err) =>
        resolve({ code: typeof error?.code === 'number' ? error.code : error ? 1 : 0, out, err }),
    );
    child.stdin?.end(input);
  });
}

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const SERVICE = (port: number, name = 'web'): string =>
  JSON.stringify(
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name },
      spec: { selector: { app: 'x' }, ports: [{ port }] },
    },
    null,
    1,
  );

test('bad input ends with exit code 2, one sentence that says where and what, and nothing on standard output', async (t) => {
  const alias = openSync(join(folder, 'aliases.yaml'), 'w');
  const block = '- *x\n'.repeat(200_000);
  writeSync(alias, 'kind: Service\nmetadata: {name: a}\nx: &x {a: 1}\ny:\n');
  for (let i = 0; i < 105; i++) writeSync(alias, block);
  closeSync(alias);
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [['compare', join(folder, 'missing.yaml')], /missing\.yaml: no such file/],
    [['compare', file('empty.yaml', '')], /empty\.yaml: is empty/],
    [['compare', file('binary.yaml', new Uint8Array(4096))], /binary\.yaml: is binary/],
    [['compare', file('broken.yaml', 'a: 1\nb: [1\nc: }\n')], /broken\.yaml:3 .*not YAML/],
    [
      ['compare', join(folder, 'aliases.yaml')],
      /100\.\d MiB of YAML, more than maxYamlBytes \(16 MiB\); dump JSON instead/,
    ],
    [['compare', file('bomb.yaml', bomb())], /maxAliases \(100\)/],
    [
      ['compare', file('port.json', SERVICE(70_000))],
      /port\.json:\d+ .*spec\.ports\[0\]\.port: 70000 is not a port; wanted 1 to 65535/,
    ],
    [['compare', 'synthetic:services=-5'], /services is -5; wanted a whole number from 1/],
    [['compare', 'examples/shop.yaml', '--sizes', '-5'], /size -5: wanted endpoints/],
    [
      ['compare', 'examples/shop.yaml', '--modes', 'magic'],
      /expected one of "iptables"\|"nftables"\|"ipvs"\|"ebpf"/,
    ],
    [
      ['rules', 'examples/shop.yaml', '--mode', 'magic'],
      /Allowed choices are iptables, nftables, ipvs, ebpf/,
    ],
    [['compare', 'examples/shop.yaml', '--set', 'workload.rate=5'], /workload\.rate: no such field/],
    [
      ['compare', 'examples/shop.yaml', '--json', join(folder, 'no', 'where.json')],
      /cannot write: no such file/,
    ],
    [['compare', folder + '/nothing-here'], /no such file/],
    [['compare'], /missing required argument 'input'/],
    [['frobnicate'], /unknown command 'frobnicate'/],
  ];
  for (const [words, wanted] of cases) {
    const { code, out, err } = await vipsim(words);
    t.is(code, 2, `${words.join(' ')}: ${err}`);
    t.is(out, '');
    t.regex(err, wanted);
    t.notRegex(err, /\n {4}at /, 'no stack');
  }
});

test('a Service may be called <script>: reports hold the name and nothing runs it', async (t) => {
  const name = '<script>alert(1)</script>\u001b[31m';
  const deployment = {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'd' },
    spec: {
      replicas: 2,
      selector: { matchLabels: { app: 'x' } },
      template: { metadata: { labels: { app: 'x' } }, spec: { containers: [{ name: 'c' }] } },
    },
  };
  const input = JSON.stringify({ kind: 'List', items: [JSON.parse(SERVICE(80, name)), deployment] });
  const outputs = ['html', 'md', 'csv', 'json'].map((kind) => join(folder, `script.${kind}`));
  const flags = outputs.flatMap((path) => [`--${path.split('.').at(-1)!}`, path]);
  const { code, out, err } = await vipsim(['compare', '-', '--duration', '1s', ...flags], input);
  t.is(code, 0, err);
  for (const text of [out, ...outputs.map((path) => readFileSync(path, 'utf8'))]) {
    t.false(text.includes('\u001b[31m'));
    t.true(text.includes('alert(1)'));
  }
  t.notRegex(readFileSync(outputs[0]!, 'utf8'), /<script/i);
  t.notRegex(readFileSync(outputs[1]!, 'utf8'), /<script/i);
});

test('compare writes what its schema promises, the same twice, and shows the same digest', async (t) => {
  const words = ['compare', 'examples/shop.yaml', '--duration', '2s'];
  const [one, two, table] = await Promise.all([
    vipsim([...words, '--json', '-']),
    vipsim([...words, '--json', '-']),
    vipsim(words),
  ]);
  const first = ResultSchema.parse(JSON.parse(one.out));
  t.is(ResultSchema.parse(JSON.parse(two.out)).digest, first.digest);
  t.true(table.out.includes(first.digest));
  t.true(table.out.includes('iptables (nft backend)'));
  t.is(first.command, 'vipsim compare examples/shop.yaml --duration 2s --json -');
  t.is(first.inputs[0]?.name, 'shop.yaml');
});

test('rules and trace print for every mode, directories and standard input are read', async (t) => {
  const packet = 'tcp 10.244.0.9:40000 > 10.96.0.20:80';
  const directory = join(folder, 'shop');
  mkdirSync(directory);
  copyFileSync(join(ROOT, 'examples/shop.yaml'), join(directory, 'shop.yaml'));
  for (const [mode, rule, step] of [
    ['iptables', ':KUBE-SERVICES - [0:0]', /nat KUBE-SERVICES +rule 1 of/],
    ['ipvs', '-A -t 10.96.0.20:80 -s rr', /virtual server in bucket/],
    ['ebpf', '10.96.0.20:80/TCP (0)', /cilium_lb4_services_v2 +10\.96\.0\.20:80\/TCP \(0\): hit/],
  ] as const) {
    const [rules, trace] = await Promise.all([
      vipsim(['rules', '-', '--mode', mode], readFileSync(join(ROOT, 'examples/shop.yaml'), 'utf8')),
      vipsim(['trace', directory, '--mode', mode, '--packet', packet]),
    ]);
    t.true(rules.out.includes(rule), rules.err);
    t.regex(trace.out, step);
    t.regex(trace.out, /forwarded as 10\.244\.0\.9:40000 > 10\.244\.\d+\.\d+:8080/);
  }
  const rejected = await vipsim([
    'trace',
    directory,
    '--mode',
    'iptables',
    '--packet',
    'tcp 10.244.0.9:1 > 10.96.0.20',
  ]);
  t.is(rejected.code, 2);
});

test('rules prints the partial sync of one Service, and the IPv6 half of a dual-stack cluster', async (t) => {
  const partial = await vipsim([
    'rules',
    'examples/shop.yaml',
    '--mode',
    'iptables',
    '--partial',
    'shop/frontend',
  ]);
  t.is(partial.code, 0, partial.err);
  t.regex(partial.out, /^-X KUBE-SEP-[A-Z2-7]{16}$/m);
  t.regex(partial.err, /lost 10\.244\./);
  const dual = 'packages/proxiers/test/fixtures/kubernetes/dual-stack.yaml';
  const ipv6 = await vipsim(['rules', dual, '--mode', 'iptables', '--family', 'ipv6']);
  t.is(ipv6.code, 0, ipv6.err);
  t.regex(ipv6.out, /-j DNAT --to-destination \[[0-9a-f:]+\]:\d+$/m);
  const save = await vipsim(['rules', 'examples/shop.yaml', '--mode', 'iptables', '--format', 'save']);
  t.regex(save.out, /^:PREROUTING ACCEPT \[0:0\]$/m);
  const walked = await vipsim(
    ['trace', '--rules', '-', '--packet', 'tcp 10.244.1.7 > 10.96.0.20:80'],
    save.out,
  );
  t.regex(walked.out, /forwarded|10\.244\.\d+\.2:8080/, walked.err);
  t.regex(walked.err, /192\.0\.2\.1 stands for the node/);
  for (const words of [
    ['rules', 'examples/shop.yaml', '--mode', 'iptables', '--partial', 'shop/nothing'],
    ['rules', 'examples/shop.yaml', '--mode', 'iptables', '--format', 'magic'],
    ['rules', 'examples/shop.yaml', '--mode', 'ipvs', '--partial', 'shop/frontend'],
    ['rules', 'examples/shop.yaml', '--mode', 'iptables', '--family', 'ipv6'],
    ['rules', dual, '--mode', 'ipvs', '--family', 'ipv6'],
    ['rules', dual, '--mode', 'iptables', '--family', 'ipv5'],
  ]) {
    const refused = await vipsim(words);
    t.is(refused.code, 2, words.join(' '));
    t.is(refused.out, '', words.join(' '));
  }
});

test('help lists the commands, with examples', async (t) => {
  const [all, one] = await Promise.all([vipsim(['--help']), vipsim(['compare', '--help'])]);
  for (const command of ['compare', 'run', 'rules', 'trace', 'fields'])
    t.regex(all.out, new RegExp(`^ {2}${command} `, 'm'));
  t.regex(one.out, /Examples:\n +vipsim compare/);
  t.deepEqual([all.code, one.code], [0, 0]);
});

test('sizes and synthetic specs are read strictly', (t) => {
  t.deepEqual(['500', '10k', '1M', '1.5k'].map(parseSize), [500, 10_000, 1_000_000, 1_500]);
  for (const text of ['', '0', '-1', '1K', '1e3', '3M', '0.5'])
    t.throws(() => parseSize(text), { instanceOf: UsageError }, text);
  const spec = readInputs(['synthetic:services=20,endpoints=3,udpEvery=2']);
  t.is(spec.cluster().endpoints.count, 60);
  t.is(spec.atSize(300).services.length, 100);
  for (const word of [
    'synthetic:services=0',
    'synthetic:services=1001k',
    'synthetic:services=1M,endpoints=10',
    'synthetic:services',
    'synthetic:__proto__=1',
  ]) {
    t.throws(() => readInputs([word]), { instanceOf: UsageError }, word);
  }
  t.throws(() => readInputs(['synthetic:services=1', 'examples/shop.yaml']), { message: /stands alone/ });
});

test('a packet enters the node where its source says', (t) => {
  const cluster = readInputs(['synthetic:services=1,endpoints=1']).cluster();
  const origin = (source: string) => parsePacket(`tcp ${source}:1000 > 10.96.0.1:80`, cluster, 0).origin;
  t.deepEqual(['10.128.9.9', '172.16.0.2', '127.0.0.1', '203.0.113.1'].map(origin), [
    FROM_POD,
    FROM_HOST,
    FROM_HOST,
    FROM_OUTSIDE,
  ]);
  for (const text of [
    '',
    'icmp 1.1.1.1:1 > 2.2.2.2:2',
    'tcp 1.1.1.1:0 > 2.2.2.2:2',
    'tcp 1.1.1.256:1 > 2.2.2.2:2',
    'tcp 1.1.1.1:1 > 2.2.2.2:65536',
  ]) {
    t.throws(() => parsePacket(text, cluster, 0), { instanceOf: UsageError }, text);
  }
});

test('a file is written whole or not at all', (t) => {
  const path = join(folder, 'whole.txt');
  writeWhole(path, 'old');
  t.throws(() => writeWhole(join(folder, 'absent', 'x'), 'new'), { instanceOf: UsageError });
  writeWhole(path, 'new');
  t.is(readFileSync(path, 'utf8'), 'new');
  t.deepEqual(
    readdirSync(folder).filter((name) => name.endsWith('.part')),
    [],
  );
  t.false(existsSync(join(folder, 'absent')));
});

test('the rules are whole tables, and a real iptables-restore accepts them where there is one', async (t) => {
  const { out } = await vipsim(['rules', 'examples/shop.yaml', '--mode', 'iptables']);
  t.regex(out, /^\*filter\n[\s\S]*\nCOMMIT\n\*nat\n[\s\S]*\nCOMMIT\n$/);
  try {
    accepts('*nat\nCOMMIT\n');
  } catch {
    t.log('not tried on a real one: no iptables-restore here, or not allowed to run it');
    return;
  }
  t.notThrows(() => accepts(out));
});

function accepts(rules: string): void {
  execFileSync('iptables-restore', ['--test'], { input: rules, stdio: ['pipe', 'ignore', 'pipe'] });
}

/** Nine levels of ten aliases each: small to read, a thousand million nodes to hold. */
function bomb(): string {
  const lines = ['kind: Service', 'a0: &a0 [x, x, x, x, x, x, x, x, x, x]'];
  for (let i = 1; i < 10; i++)
    lines.push(`a${i}: &a${i} [${Array.from({ length: 10 }, () => `*a${i - 1}`).join(', ')}]`);
  return `${lines.join('\n')}\n`;
}

test('trace --list prints what the mode lists after the packet', async (t) => {
  const packet = 'tcp 203.0.113.7:40000 > 172.18.0.2:30080';
  const shop = ['trace', 'examples/shop.yaml', '--packet', packet];
  const cilium = await vipsim([...shop, '--mode', 'ebpf', '--list', 'ct-list']);
  t.is(cilium.code, 0, cilium.err);
  const entries = cilium.out.split('cilium-ct-list:\n')[1]!.trimEnd().split('\n');
  t.is(entries.length, 2);
  t.regex(
    entries[1]!,
    /^TCP OUT 203\.0\.113\.7:40000 -> 172\.18\.0\.2:30080 service expires=60 .*BackendID=1$/,
  );
  const ipvs = await vipsim([...shop, '--mode', 'ipvs', '--list', 'connections']);
  t.regex(ipvs.out, /\nTCP 01:00 {2}SYN_RECV {4}203\.0\.113\.7:40000 +172\.18\.0\.2:30080 +10\.244\./);
  const unknown = await vipsim([...shop, '--mode', 'iptables', '--list', 'ct-list']);
  t.is(unknown.code, 2);
  t.regex(unknown.err, /--list ct-list: iptables has iptables-restore, iptables-save/);
});
