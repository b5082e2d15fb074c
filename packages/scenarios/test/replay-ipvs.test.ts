import { readFileSync, readdirSync } from 'node:fs';
import test from 'ava';
import { disagreements, readRecording, replay, type ReplayResult, type Step } from '../src/replay/index.ts';

/** Recordings of Linux 6.1.176 and 6.1.192, replayed. */

const RECORDINGS = new URL('fixtures/recordings/ipvs/', import.meta.url);
const FILES = readdirSync(RECORDINGS).sort();

const textOf = (file: string): string => readFileSync(new URL(file, RECORDINGS), 'utf8');
const played = (file: string, text = textOf(file)): ReplayResult => replay(readRecording(text, file), '0');
const tally = (result: ReplayResult, kind: string): string => {
  const { agree, compared } = result.tallies.get(kind) ?? { agree: 0, compared: 0 };
  return `${agree} of ${compared}`;
};

/** The recording with one of its steps, the `nth` of an op, changed. */
function altered(
  file: string,
  op: string,
  nth: number,
  change: (step: Record<string, unknown>) => void,
): string {
  const document = JSON.parse(textOf(file)) as { steps: Step[] };
  change(document.steps.filter((step) => step.op === op)[nth] as unknown as Record<string, unknown>);
  return JSON.stringify(document);
}

for (const file of FILES) {
  test(`recording ${file}: every connection, listing, counter, state and timer is as the real kernel's`, (t) => {
    const result = played(file);
    t.deepEqual(result.firstDifference, undefined);
    t.is(disagreements(result), 0);
    t.is(result.player, 'ipvs');
    if (file !== 'errors.jsonl') t.true(result.tallies.get('connects')!.compared >= 1, file);
    t.log([...result.tallies].map(([kind, { compared }]) => `${kind} ${compared}`).join(', '));
  });
}

test('nothing is skipped but what needs a reason, and that has one', (t) => {
  const skipped = new Map<string, number>();
  for (const file of FILES) {
    for (const [name, count] of played(file).skipped) skipped.set(name, (skipped.get(name) ?? 0) + count);
  }
  t.deepEqual([...skipped.keys()].sort(), [
    'data (an earlier segment never arrived, and comes first)',
    'ipvsadm-Ln-stats (an estimator whose phase is not recorded refreshes them every 2 s)',
  ]);
  t.is(skipped.get('data (an earlier segment never arrived, and comes first)'), 2);
});

test('only recordings long enough for timers to run are fitted a clock, and they say so', (t) => {
  for (const file of FILES) {
    const { fitted } = played(file);
    if (!file.startsWith('tt-')) t.deepEqual(fitted, [], file);
    else t.true(fitted.length <= 1, file);
  }
  t.regex(played('tt-persist-p30.jsonl').fitted[0]!, /^the kernel's clock when the case began: \d+ of 32768/);
});

test('a recording that says something else disagrees, and the first difference is named with both values', (t) => {
  const other = played(
    'rr-dyn-eq.jsonl',
    altered('rr-dyn-eq.jsonl', 'connect', 10, (step) => (step['chosen'] = '10.1.0.77:8080')),
  );
  t.is(disagreements(other), 1);
  t.deepEqual([other.firstDifference?.op, other.firstDifference?.recorded], ['connect', '10.1.0.77:8080']);
  t.regex(other.firstDifference!.ours, /^10\.1\.0\.\d:8080$/);
  const counter = played(
    'rr-dyn-eq.jsonl',
    altered('rr-dyn-eq.jsonl', 'ipvsadm-Ln', 2, (step) => {
      step['text'] = (step['text'] as string).replace(/(Masq {4}\d +)\d+/, '$199');
    }),
  );
  t.is(disagreements(counter), 1);
  t.regex(counter.firstDifference!.what, /^counters of {3}-> 10\.1\.0\.\d:8080/);
  const weight = played(
    'rr-dyn-eq.jsonl',
    altered('rr-dyn-eq.jsonl', 'ipvsadm-Sn', 0, (step) => {
      step['text'] = (step['text'] as string).replace('-w 1', '-w 7');
    }),
  );
  t.is(
    tally(weight, 'rows')
      .split(' of ')
      .map(Number)
      .reduce((a, b) => b - a),
    1,
  );
});

test('a timer that no clock explains disagrees', (t) => {
  const late = played(
    'tt-persist-p30.jsonl',
    altered('tt-persist-p30.jsonl', 'ipvsadm-Lnc', 8, (step) => {
      step['text'] = (step['text'] as string).replace(/TCP 00:\d\d {2}ASSURED/, 'TCP 00:55  ASSURED');
    }),
  );
  t.true(disagreements(late) >= 1);
  const state = played(
    'tt-tcp-states.jsonl',
    altered('tt-tcp-states.jsonl', 'ipvsadm-Lnc', 0, (step) => {
      step['text'] = (step['text'] as string).replace('CLOSE_WAIT ', 'LAST_ACK   ');
    }),
  );
  t.is(state.firstDifference?.recorded, 'LAST_ACK');
  t.is(state.firstDifference?.ours, 'CLOSE_WAIT');
});

test('the kernel that a recording names decides how load and thresholds are reckoned', (t) => {
  for (const [file, kernel, other] of [
    ['wlc-overhead-6.1.192.jsonl', '6.1.192', '6.1.176'],
    ['threshold-lc-6.1.192.jsonl', '6.1.192', '6.1.176'],
    ['threshold-rr.jsonl', '6.1.176', '6.1.192'],
  ] as const) {
    t.is(disagreements(played(file)), 0, file);
    t.true(disagreements(played(file, textOf(file).replace(kernel, other))) > 0, file);
  }
});

test('what ipvsadm and the kernel refuse is refused with their words and exit codes, and what they do is listed', (t) => {
  const result = played('errors.jsonl');
  t.is(tally(result, 'answers'), '25 of 25');
  t.is(tally(result, 'rows'), '27 of 27');
  const commands = (...typed: [string, number, string][]): ReplayResult =>
    played(
      'typed',
      JSON.stringify({
        case: 'typed',
        kernel: '6.1.176',
        steps: typed.map(([cmd, rc, err], i) => ({ op: 'ipvsadm', t: i, cmd, rc, err })),
      }),
    );
  const other = commands(
    ['ipvsadm -A -t 10.96.0.1:80 -s rr', 0, ''],
    ['ipvsadm -a -t 10.96.0.1:80 -r 10.1.0.1:8080 -m', 0, ''],
    ['ipvsadm -d -t 10.96.0.1:80 -r 10.1.0.1:8080', 0, ''],
    ['ipvsadm -d -t 10.96.0.1:80 -r 10.1.0.1:8080', 255, 'No such destination\n'],
    ['ipvsadm -D -t 10.96.0.1:80', 0, ''],
    ['ipvsadm -A -t 10.96.0.1:80 -s rr', 255, 'Service already exists\n'],
  );
  t.is(tally(other, 'answers'), '5 of 6');
  t.deepEqual(
    [other.firstDifference?.recorded, other.firstDifference?.ours],
    ['255 Service already exists', '0 '],
  );
  t.is(tally(commands(['ipvsadm -Z', 0, '']), 'answers'), '0 of 0');
  t.throws(() => commands(['ipvsadm -A -t nowhere:80', 0, '']), { message: /nowhere:80 is no IPv4 address/ });
});

test('connections by tunnel or direct routing are skipped', (t) => {
  const document = JSON.parse(textOf('rr-dyn-eq.jsonl')) as { steps: Step[] };
  const first = document.steps.findIndex(({ op }) => op === 'connect');
  const add = 'ipvsadm -A -t 10.96.0.77:80';
  const routed = [add, 'ipvsadm -a -t 10.96.0.77:80 -r 10.1.0.1'].map((cmd) => {
    return { op: 'ipvsadm', t: document.steps[first]!.t, cmd, rc: 0, err: '' };
  });
  document.steps.splice(first, 0, ...routed);
  const result = played('routed', JSON.stringify(document));
  t.is(tally(result, 'connects'), '0 of 0');
  t.true(result.skipped.get('connect (a server is reached by tunnel or direct routing)')! > 0);
});

test('steps that the model does not have are skipped with what depends on them, never agreed', (t) => {
  const tunnel = played(
    'wrr-open-n5-skew.jsonl',
    altered('wrr-open-n5-skew.jsonl', 'add-rs', 1, (step) => (step['extra'] = '-i')),
  );
  t.is(tunnel.skipped.get('add-rs'), 1);
  t.is(tunnel.tallies.size, 0);
  t.throws(
    () =>
      played(
        'errors.jsonl',
        altered('rr-dyn-eq.jsonl', 'connect', 0, (step) => (step['src'] = 'nowhere')),
      ),
    {
      message: /src: nowhere is no IPv4 address with a port/,
    },
  );
  const timeouts = JSON.parse(textOf('tt-tcp-states.jsonl')) as { steps: unknown[] };
  timeouts.steps.splice(4, 0, { op: 'set-timeouts', t: 0, tcp: 900, tcpfin: 120, udp: 300 });
  t.is(disagreements(played('same timeouts', JSON.stringify(timeouts))), 0);
  timeouts.steps.splice(4, 1, { op: 'set-timeouts', t: 0, cmd: 'ipvsadm --set 800 120 300' });
  t.true(disagreements(played('other timeouts', JSON.stringify(timeouts))) > 0);
});
