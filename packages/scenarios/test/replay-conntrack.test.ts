import { readFileSync, readdirSync } from 'node:fs';
import test from 'ava';
import { disagreements, readRecording, replay, type ReplayResult } from '../src/replay/index.ts';

/** Recordings of connection tracking on Linux 6.18 and 6.1.192, replayed. */

const RECORDINGS = new URL('fixtures/recordings/conntrack/', import.meta.url);
const FILES = readdirSync(RECORDINGS).sort();

const textOf = (file: string): string => readFileSync(new URL(file, RECORDINGS), 'utf8');
const played = (file: string, text = textOf(file)): ReplayResult => replay(readRecording(text, file), '0');

test('entries, states, timeouts and limits are as the real kernel had them', (t) => {
  const compared: Record<string, string> = {};
  for (const file of FILES) {
    const result = played(file);
    t.is(result.player, 'conntrack', file);
    t.deepEqual(result.firstDifference, undefined, file);
    compared[file] = [...result.tallies].map(([kind, tally]) => `${kind} ${tally.agree}`).join(' ');
  }
  t.deepEqual(compared, {
    'conntrack-max-assured.json': 'states 1',
    'conntrack-sysctls.json': 'states 8',
    'conntrack-udp-stale.json': 'connects 12 counters 3 states 12',
    'conntrack-udp.json': 'connects 1 counters 5 states 5 data 3',
    'uml-conntrack-max-assured.json': 'states 33 connects 74 counters 43 data 4',
    'uml-conntrack-max-earlydrop.json': 'connects 32 counters 32',
  });
});

test('what a boot-time hash key or a changed timeout decides is skipped with its reason, not agreed', (t) => {
  t.deepEqual(
    [...played('uml-conntrack-max-earlydrop.json').skipped.keys()].map((name) => name.replace(/^\S+ /, '')),
    Array.from(
      { length: 5 },
      () => '(who is dropped early depends on a hash key that the kernel draws at boot)',
    ),
  );
  t.true(
    [...played('conntrack-udp.json').skipped.keys()].every((name) =>
      name.endsWith('(nf_conntrack_udp_timeout_stream cannot be set in the table)'),
    ),
  );
});

test('another timeout, another endpoint or another limit disagrees', (t) => {
  const differs = (file: string, from: string | RegExp, to: string): string => {
    const result = played(file, textOf(file).replace(from, to));
    t.true(disagreements(result) > 0, `${file} ${to}`);
    return result.firstDifference!.what;
  };
  t.is(differs('conntrack-sysctls.json', '"432000"', '"86400"'), 'nf_conntrack_tcp_timeout_established');
  t.is(differs('conntrack-udp.json', 'udp      17 119 ', 'udp      17 29 '), 'udp 10.2.0.1:20001');
  t.is(differs('conntrack-udp-stale.json', '3 flow entries', '4 flow entries'), 'entries deleted');
  t.is(differs('uml-conntrack-max-assured.json', /"now": ?32/, '"now":31'), '10.2.0.32:20000 > 10.96.0.1:80');
});
