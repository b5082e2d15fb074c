import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { STRUCTURES } from '../src/holders.ts';
import { holdColumns, SHAPE_NAMES } from '../src/increments.ts';
import { LINES } from '../src/lines.ts';
import { readOptions } from '../src/options.ts';
import { TIMERS } from '../src/timers.ts';

/** Pop the least (time, turn of pushing) of a plain array: the meaning of the hold model. */
function sortedReference(times: Float64Array, increments: Float64Array, steps: number): number {
  const pending = [...times].map((atNs, id) => ({ atNs, pushed: id, id }));
  let order = 0;
  for (let step = 0; step < steps; step++) {
    pending.sort((x, y) => x.atNs - y.atNs || x.pushed - y.pushed);
    const first = pending[0]!;
    order = (Math.imul(order, 31) + first.id) | 0;
    first.atNs += increments[step % increments.length]!;
    first.pushed = times.length + step;
  }
  return order;
}

for (const shape of SHAPE_NAMES) {
  test(`every structure pops ${shape} increments in the order of time, then pushing`, (t) => {
    const [times, increments] = holdColumns(shape, 100, 1024);
    const expected = sortedReference(times, increments, 3000);
    for (const { name, stable, make } of STRUCTURES) {
      const holder = make(increments);
      holder.fill(times);
      holder.hold(1000);
      const order = holder.hold(2000);
      if (stable) t.is(order, expected, name);
    }
  });
}

test('all simulators bring the packets of the pipeline through in the same time, wire or not', async (t) => {
  const [gaps, services] = [holdColumns('exponential', 1, 256)[1], holdColumns('uniform', 1, 256)[1]];
  const slower = gaps.map((gap) => gap * 2);
  const results = await Promise.all(
    [0, 40_000].flatMap((wireNs) =>
      LINES.filter(({ wire }) => wire === true || wireNs === 0).map(async ({ name, prepare }) => ({
        name: `${name}, ${wireNs} ns of wire`,
        spentNs: await prepare(slower, services, 500, wireNs)(),
      })),
    ),
  );
  for (const { name, spentNs } of results) t.is(spentNs, results[0]!.spentNs, name);
  t.true(results[0]!.spentNs > 500 * 900_000);
});

test('moved and lazily checked timers expire alike, and some do', (t) => {
  const starts = holdColumns('uniform', 50)[0];
  const gaps = holdColumns('exponential', 1, 1024)[1].map((gap) => gap * 60);
  const expired = TIMERS.filter(({ without }) => without === undefined).map(({ prepare }) =>
    prepare(starts, gaps, 20_000)(),
  );
  t.deepEqual(
    expired,
    expired.map(() => expired[0]!),
  );
  t.true(expired[0]! > 100);
});

test('a run prints a table, names the machine, and writes its numbers', (t) => {
  const json = join(tmpdir(), `vipsim-bench-${process.pid}.json`);
  const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
  const args = ['--quick', '--only', 'hold,timers', '--sizes', '100', '--rounds', '1', '--packets', '2e4'];
  const output = execFileSync(
    process.execPath,
    ['--import', import.meta.resolve('tsx'), main, ...args, '--json', json],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
  );
  t.regex(output, /Node v\d+.*\n\nHold, exponential increments/);
  t.regex(output, /^tinyqueue +\d+ +\d+\.\d\d +–$/m);
  const { hold, timers } = JSON.parse(readFileSync(json, 'utf8')) as {
    hold: { scores: { ns: number }[] }[];
    timers: { scores: { ns: number }[] }[];
  };
  rmSync(json);
  t.is(hold[0]!.scores.length, STRUCTURES.length);
  for (const { ns } of [...hold[0]!.scores, ...timers.flatMap(({ scores }) => scores)]) t.true(ns > 0);
});

test('options are refused with what was wanted', (t) => {
  t.throws(() => readOptions(['--sizes', '1e3,many']), { message: 'many: wanted a whole number from 1' });
  t.throws(() => readOptions(['--increments', 'triangular']), {
    message: /wanted one of exponential, constant/,
  });
  t.deepEqual(readOptions(['--increments', 'all']).shapes, [...SHAPE_NAMES]);
});
