import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { commandTurn } from '../src/children.ts';
import { compileMaglev } from '../src/ebpf-maglev.ts';
import { takeMaglevTurn } from '../src/ebpf-maglev-turn.ts';

/** Of 251 slots for 10.0.0.0 to 10.0.0.9, port 8080, by a third program. */
const CHECKSUM_OF_TEN = 786_227_216;

const folder = mkdtempSync(join(tmpdir(), 'vipsim-maglev-'));
const program = compileMaglev(folder);
test.after.always(() => rmSync(folder, { recursive: true }));

test('a turn builds the table that it should', (t) => {
  const { ns, result } = takeMaglevTurn({ bench: 'ebpf-maglev', slots: 251, backends: 10, msMin: 1 });
  t.is(result, CHECKSUM_OF_TEN);
  t.true(ns > 0);
});

const withCompiler = program === undefined ? test.skip : test;
withCompiler('both C programs build the table that we build', (t) => {
  for (const [slots, backends] of [
    [251, 10],
    [1021, 300],
    [16381, 100],
  ] as const) {
    const ours = takeMaglevTurn({ bench: 'ebpf-maglev', slots, backends, msMin: 1 });
    for (const way of ['matrix', 'cursors']) {
      const theirs = commandTurn(program!, [way, String(slots), String(backends), '1']);
      t.is(theirs.result, ours.result, `${way}: ${backends} in ${slots}`);
    }
  }
});
