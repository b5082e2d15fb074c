import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import {
  chiSquareLimit,
  disagreements,
  readRecording,
  replay,
  type ReplayResult,
  type Step,
} from '../src/replay/index.ts';

/**
 * The recordings are of Linux 6.18, iptables 1.8.9 with either backend: what was done, and what the kernel chose,
 * counted and listed. They are as they were recorded; probabilities-to-10 has the first of more sizes.
 */
const RECORDINGS = fileURLToPath(new URL('fixtures/recordings/iptables/', import.meta.url));
const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'vipsim-replay-'));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

interface Document {
  case: string;
  steps: (Step & Record<string, unknown>)[];
}

function recorded(name: string): Document {
  return JSON.parse(readFileSync(join(RECORDINGS, `${name}.json`), 'utf8')) as Document;
}

function played(document: Document): ReplayResult {
  return replay(readRecording(JSON.stringify(document), `${document.case}.json`), '0');
}

/** A copy of a recording in which one step says something else. */
function altered(
  name: string,
  op: string,
  nth: number,
  change: (step: Record<string, unknown>) => void,
): ReplayResult {
  const document = recorded(name);
  change(document.steps.filter((step) => step.op === op)[nth]!);
  return played(document);
}

function vipsim(words: readonly string[], input = ''): Promise<{ code: number; out: string; err: string }> {
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

test('every choice, counter, listing row and list of the recorded kernel is what the literal walk gives', (t) => {
  const compared = new Map<string, number>();
  for (const file of readdirSync(RECORDINGS)) {
    const result = played(recorded(file.replace('.json', '')));
    t.is(result.firstDifference, undefined, file);
    t.is(disagreements(result), 0, file);
    // Whether a server listens is not in the rules; that its reset leaves no entry is compared.
    t.deepEqual([...result.skipped], file === 'tcp-refused.json' ? [['connect', 1]] : [], file);
    for (const [kind, tally] of result.tallies)
      compared.set(kind, (compared.get(kind) ?? 0) + tally.compared);
  }
  // What the recordings hold, counted apart from the player.
  const steps = readdirSync(RECORDINGS).flatMap((file) => recorded(file.replace('.json', '')).steps);
  const connects = steps.filter(({ op }) => op === 'connect').length;
  const bursts = steps.filter(({ op }) => op === 'burst');
  const servers = bursts.reduce((sum, step) => sum + Object.keys(step['counts'] as object).length, 0);
  t.is(compared.get('connects')! + compared.get('drawn')!, connects - 1 + servers);
  t.is(compared.get('data'), steps.filter(({ op }) => op === 'data').length);
  t.true(compared.get('counters')! > 1_500 && compared.get('rows')! > 2_000 && compared.get('states')! > 500);
  t.true(compared.get('distributions')! >= 2 * bursts.length);
});

test('a recording that says anything else is found out, with the step and both values', (t) => {
  const cases: readonly (readonly [ReplayResult, RegExp, RegExp])[] = [
    [
      altered('nth-n5', 'connect', 3, (step) => (step['chosen'] = '10.1.0.1:8080')),
      /^10\.1\.0\.1:8080$/,
      /^10\.1\.0\.4:8080$/,
    ],
    [altered('nth-n5', 'connect', 3, (step) => (step['chosen'] = null)), /^nobody$/, /^10\.1\.0\.4:8080$/],
    [
      altered('counters-nft-k10', 'iptables-save', 1, (step) => {
        step['text'] = String(step['text']).replace('[3:180] -A KUBE-SERVICES', '[4:240] -A KUBE-SERVICES');
      }),
      /^4:240$/,
      /^3:180$/,
    ],
    [
      altered('counters-legacy-k10', 'iptables-save', 1, (step) => {
        step['text'] = String(step['text']).replace('POSTROUTING ACCEPT [3:180]', 'POSTROUTING ACCEPT [0:0]');
      }),
      /^0:0$/,
      /^3:180$/,
    ],
    [
      altered('probabilities-to-10', 'probabilities', 1, (step) => {
        step['shown'] = ['0.33333333330', '0.50000000000'];
      }),
      /^0\.33333333330$/,
      /^0\.33333333349$/,
    ],
    [
      altered('affinity-80-clients', 'connect', 100, (step) => {
        step['chosen'] = step['chosen'] === '10.1.0.1:8080' ? '10.1.0.2:8080' : '10.1.0.1:8080';
      }),
      /^10\.1\.0\.\d:8080$/,
      /^10\.1\.0\.\d:8080$/,
    ],
    [
      altered('affinity-80-clients', 'xt_recent', 0, (step) => {
        const tables = step['tables'] as Record<string, string>;
        const [name] = Object.keys(tables);
        tables[name!] = tables[name!]!.replace('src=10.2.0.21 ', 'src=10.2.0.99 ');
      }),
      /stamps/,
      /not listed/,
    ],
    [
      altered('masquerade-ports', 'connect', 0, (step) => (step['seen_from'] = '169.254.2.1:21007')),
      /^169\.254\.2\.1:21007$/,
      /^169\.254\.2\.1:21000$/,
    ],
    [
      altered('masquerade-ports', 'conntrack-L', 0, (step) => {
        step['text'] = String(step['text']).replace('[ASSURED]', '[UNREPLIED]');
      }),
      /\[UNREPLIED\]/,
      /\[ASSURED\]/,
    ],
    [altered('counters-nft-k10', 'data', 0, (step) => (step['delivered'] = false)), /^false$/, /^true$/],
    [
      altered('dist-nft-tcp-n3', 'burst', 0, (step) => {
        step['counts'] = { '10.1.0.1:8080': 7073, '10.1.0.2:8080': 6515, '10.1.0.3:8080': 6412 };
      }),
      /^chi-square at most 9\.21 with 2 degrees of freedom$/,
      /^chi-square \d+/,
    ],
  ];
  for (const [result, theirs, ours] of cases) {
    t.true(disagreements(result) > 0, result.name);
    t.regex(result.firstDifference!.recorded, theirs, result.name);
    t.regex(result.firstDifference!.ours, ours, result.name);
  }
});

test('what nobody can replay is skipped, never agreed', (t) => {
  const result = played({
    case: 'other',
    steps: [
      { op: 'add-svc', t: 0 },
      { op: 'connect', t: 1, src: '1.1.1.1:1', vip: '2.2.2.2:2', chosen: null },
      { op: 'connect', t: 2, src: '1.1.1.1:2', vip: '2.2.2.2:2', chosen: null },
    ],
  });
  t.is(result.player, '');
  t.is(result.tallies.size, 0);
  t.deepEqual(
    [...result.skipped],
    [
      ['add-svc', 1],
      ['connect', 2],
    ],
  );
  const half = recorded('nth-n5');
  half.steps.filter(({ op }) => op === 'close')[0]!['by'] = 'half-client';
  t.deepEqual([...played(half).skipped], [['close', 1]]);
});

test('chi-square is tested at its upper 1 % point', (t) => {
  // Abramowitz and Stegun, table 26.8.
  const points = [
    [1, 6.6349],
    [2, 9.21034],
    [9, 21.666],
    [30, 50.8922],
    [40, 63.6907],
    [100, 135.807],
  ] as const;
  for (const [freedom, point] of points) {
    t.true(Math.abs(chiSquareLimit(freedom) / point - 1) < 0.001, String(freedom));
  }
});

test('vipsim replay prints one line for each file and ends with 1 if anything disagrees, 2 for bad input', async (t) => {
  const good = await vipsim([
    'replay',
    join(RECORDINGS, 'nth-n5.json'),
    join(RECORDINGS, 'masq-hairpin.json'),
  ]);
  t.is(good.code, 0, good.err);
  t.regex(
    good.out,
    /nth-n5\.json: agrees; rows agree 82 of 82, counters agree 53 of 53, connects agree 40 of 40\n/,
  );
  t.regex(good.out, /2 of 2 agree, 0 disagree, 0 not replayed\n$/);
  t.notRegex(good.out, /fitted/);
  const timers = join(RECORDINGS, '..', 'ipvs', 'tt-persist-p30.jsonl');
  t.regex(
    (await vipsim(['replay', timers])).out,
    /: agrees; .*\n {2}fitted to the recording: the kernel's clock when the case began: \d+ of 32768 ticks, .*\n\n1 of 1 agree/,
  );
  const document = recorded('nth-n5');
  document.steps.filter(({ op }) => op === 'connect')[2]!['chosen'] = '10.1.0.5:8080\u001b[31m';
  const path = join(folder, 'wrong.json');
  writeFileSync(path, JSON.stringify(document));
  const bad = await vipsim(['replay', path]);
  t.is(bad.code, 1);
  t.regex(
    bad.out,
    /first difference, step \d+ \(connect\)[\s\S]*recorded {2}10\.1\.0\.5:8080\\x1b\[31m\n {4}vipsim {4}10\.1\.0\.3:8080\n/,
  );
  const cases: readonly (readonly [string, RegExp])[] = [
    ['[]', /not a JSON object; wanted a recording/],
    ['{"steps": [{"op": "connect"}]}', /steps\[0\]\.t: not a number of seconds/],
    [
      '{"steps": [{"op": "apply", "t": 0, "text": "*nat\\n-A X\\nCOMMIT"}]}',
      /rules of step 0\):2: no chain X/,
    ],
    ['{', /not JSON/],
  ];
  for (const [text, wanted] of cases) {
    writeFileSync(path, text);
    const { code, out, err } = await vipsim(['replay', path]);
    t.is(code, 2, text);
    t.is(out, '');
    t.regex(err, wanted);
  }
});

test('vipsim trace --rules walks a text of any origin, step by step or many flows at once', async (t) => {
  const rules = [
    '*nat',
    '-A PREROUTING -d 10.96.0.10 -p tcp --dport 80 -m statistic --mode random --probability 0.5 -j DNAT --to-destination 10.1.0.1:8080',
    '-A PREROUTING -d 10.96.0.10 -p tcp --dport 80 -j DNAT --to-destination 10.1.0.2:8080',
    '-A POSTROUTING -s 10.244.0.0/16 -o eth0 -j MASQUERADE',
    'COMMIT',
    '*filter',
    '-A FORWARD -m set --match-set bad src -j DROP',
    '-A INPUT -p tcp --dport 81 -j REJECT --reject-with tcp-reset',
    'COMMIT',
    '',
  ].join('\n');
  const words = ['trace', '--rules', '-', '--node-address', '192.168.0.2', '--pod-network', '10.244.1.0/24'];
  const one = await vipsim([...words, '--packet', 'tcp 10.244.1.7 > 10.96.0.10:80'], rules);
  t.is(one.code, 0, one.err);
  t.regex(one.out, /-, line 7 \(filter\): match set is not modelled: taken not to match\n/);
  t.regex(one.out, /from pod\n/);
  t.regex(
    one.out,
    /nat PREROUTING +rule \d of 2: -A PREROUTING -d 10\.96\.0\.10\/32 -p tcp -m tcp --dport 80/,
  );
  t.regex(one.out, /accepted as 192\.168\.0\.2:40000 > 10\.1\.0\.[12]:8080, its source translated\n$/);
  const many = await vipsim(
    [...words, '--packet', 'tcp 10.244.1.7 > 10.96.0.10:80', '--count', '20000'],
    rules,
  );
  const shares = [...many.out.matchAll(/10\.1\.0\.[12]:8080 +(\d+) /g)].map((match) => Number(match[1]));
  t.is(shares.length, 2);
  t.is(shares[0]! + shares[1]!, 20_000);
  const off = shares[0]! - 10_000;
  t.true((off * off) / 5_000 < chiSquareLimit(1), String(shares));
  const rejected = await vipsim([...words, '--packet', 'tcp 1.2.3.4 > 192.168.0.2:81'], rules);
  t.regex(rejected.out, /rejected in filter INPUT: the sender gets a TCP reset\n$/);

  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [
      [...words, '--packet', 'tcp 1.2.3.4 > 5.6.7.8:80', '--unknown', 'refuse'],
      /line 7 \(filter\): match set is not modelled; --unknown skip/,
    ],
    [
      ['trace', '--rules', '/dev/null', '--packet', 'tcp 1.2.3.4 > 5.6.7.8:80'],
      /\/dev\/null: holds no table; wanted what iptables-save, nft list ruleset or ipvsadm -Sn print/,
    ],
    [[...words, '--packet', 'tcp 1.2.3.4'], /wanted a packet such as/],
    [
      [...words, 'examples/shop.yaml', '--packet', 'tcp 1.2.3.4 > 5.6.7.8:80'],
      /leave out examples\/shop\.yaml/,
    ],
    [
      ['trace', 'examples/shop.yaml', '--packet', 'tcp 1.2.3.4:1 > 5.6.7.8:80'],
      /needs --mode MODE with an input, or --rules FILE/,
    ],
    [['trace', '--mode', 'iptables', '--packet', 'tcp 1.2.3.4:1 > 5.6.7.8:80'], /missing argument 'input'/],
    [[...words, '--packet', 'tcp 1.2.3.4 > 5.6.7.8:80', '--count', '0'], /wanted a whole number from 1/],
  ];
  for (const [args, wanted] of cases) {
    const { code, out, err } = await vipsim(args, rules);
    t.is(code, 2, args.join(' '));
    t.is(out, '');
    t.regex(err, wanted);
  }
});
