import { readFileSync, readdirSync } from 'node:fs';
import test from 'ava';
import { disagreements, readRecording, replay, type ReplayResult, type Step } from '../src/replay/index.ts';

/** Recordings of nftables on Linux 6.18, as they were made, replayed on the walk of expressions. */

const RECORDINGS = new URL('fixtures/recordings/nftables/', import.meta.url);
const FILES = readdirSync(RECORDINGS).sort();

interface Document {
  case: string;
  steps: (Step & Record<string, unknown>)[];
}

function recorded(name: string): Document {
  return JSON.parse(readFileSync(new URL(`${name}.json`, RECORDINGS), 'utf8')) as Document;
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

test('every choice, set, listing row and connection of the recorded kernel is what the walk gives', (t) => {
  const compared: Record<string, string> = {};
  for (const file of FILES) {
    const name = file.replace('.json', '');
    const result = played(recorded(name));
    t.is(result.player, 'nftables', file);
    t.is(result.firstDifference, undefined, file);
    t.is(disagreements(result), 0, file);
    t.deepEqual([...result.skipped], [], file);
    t.is(result.fitted.length, name === 'add-delete-service' ? 1 : 0, file);
    compared[name] = [...result.tallies].map(([kind, tally]) => `${kind} ${tally.compared}`).join(' ');
  }
  t.deepEqual(compared, {
    'add-delete-service': 'connects 4 data 3 rows 45 states 4',
    'affinity-nft-2s': 'rows 897 drawn 32 states 129 connects 64 distributions 1',
    'affinity-nft-300-clients': 'drawn 300 connects 600 rows 57 states 302 distributions 1',
    'dist-nft-n10': 'rows 73 distributions 2 drawn 110',
    'dist-nft-n3': 'rows 45 distributions 2 drawn 103',
    'dist-nft-n5': 'rows 53 distributions 2 drawn 105',
    'numgen-inc-n3': 'connects 20',
  });
  // What the recordings hold, counted apart from the player.
  const affinity = recorded('affinity-nft-300-clients');
  t.is(affinity.steps.filter(({ op }) => op === 'connect').length, 900);
});

test('a recording that says anything else is found out, with the step and both values', (t) => {
  const cases: readonly (readonly [ReplayResult, RegExp, RegExp])[] = [
    [
      altered('numgen-inc-n3', 'connect', 4, (step) => (step['chosen'] = '10.1.0.1:8080')),
      /^10\.1\.0\.1:8080$/,
      /^10\.1\.0\.2:8080$/,
    ],
    [
      altered('add-delete-service', 'connect', 3, (step) => (step['chosen'] = '10.1.0.2:8080')),
      /^10\.1\.0\.2:8080$/,
      /^nobody$/,
    ],
    [altered('add-delete-service', 'data', 1, (step) => (step['delivered'] = false)), /^false$/, /^true$/],
    [
      altered('add-delete-service', 'nft-list', 0, (step) => {
        step['text'] = String(step['text']).replace('| 0x00004000', '| 0x00008000');
      }),
      /0x00008000/,
      /0x00004000/,
    ],
    [
      altered('add-delete-service', 'nft-f', 1, (step) => (step['text'] = '')),
      /^nobody$/,
      /^10\.1\.0\.2:8080$/,
    ],
    [
      altered('affinity-nft-2s', 'nft-list', 1, (step) => {
        step['text'] = String(step['text']).replace('10.2.0.1 expires 1s996ms', '10.2.0.1 expires 1s896ms');
      }),
      /^1896 ms left$/,
      /^1996 ms left$/,
    ],
    [
      altered('affinity-nft-2s', 'nft-list', 1, (step) => {
        step['text'] = String(step['text']).replace('10.2.0.1 expires', '10.2.0.99 expires');
      }),
      /ms left$/,
      /^not listed$/,
    ],
    [
      altered('affinity-nft-300-clients', 'connect', 700, (step) => {
        step['chosen'] = step['chosen'] === '10.1.0.1:8080' ? '10.1.0.2:8080' : '10.1.0.1:8080';
      }),
      /^10\.1\.0\.\d:8080$/,
      /^10\.1\.0\.\d:8080$/,
    ],
    [
      altered('dist-nft-n3', 'burst', 0, (step) => {
        step['counts'] = { '10.1.0.1:8080': 7073, '10.1.0.2:8080': 6515, '10.1.0.3:8080': 6412 };
      }),
      /^chi-square at most 9\.21 with 2 degrees of freedom$/,
      /^chi-square \d+/,
    ],
    [
      altered('dist-nft-n3', 'burst', 0, (step) => {
        step['first100'] = ['10.1.0.4:8080'];
      }),
      /^10\.1\.0\.4:8080$/,
      /^10\.1\.0\.1:8080 or 10\.1\.0\.2:8080 or 10\.1\.0\.3:8080$/,
    ],
  ];
  for (const [result, theirs, ours] of cases) {
    t.true(disagreements(result) > 0, result.name);
    t.regex(result.firstDifference!.recorded, theirs, result.name);
    t.regex(result.firstDifference!.ours, ours, result.name);
  }
});

test('steps that nobody can replay are skipped; rules that cannot be read are an error with their place', (t) => {
  const document = recorded('numgen-inc-n3');
  document.steps.filter(({ op }) => op === 'close')[0]!['by'] = 'half-client';
  document.steps.push({ op: 'ipvsadm-Ln', t: 9, text: '' });
  t.deepEqual(
    [...played(document).skipped],
    [
      ['close', 1],
      ['ipvsadm-Ln', 1],
    ],
  );
  t.throws(() => altered('numgen-inc-n3', 'nft-f', 0, (step) => (step['text'] = 'add rule ip t c drop')), {
    name: 'InputError',
    message: /numgen-inc-n3\.json \(rules of step 0\):1: no table ip t/,
  });
});
