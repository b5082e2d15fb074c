import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { MODES, PROFILES, readCluster, type Cluster } from '@vipsim/proxiers';
import { Streams } from '@vipsim/sim-core';
import { planDay } from '../src/cluster/cluster-day.ts';
import { writeChunks } from '../src/cli/files.ts';
import { UsageError } from '../src/cli/usage-error.ts';
import { runMode } from '../src/experiment/node-run.ts';
import { packetCapture } from '../src/experiment/packet-capture.ts';
import { perfettoTrace } from '../src/experiment/perfetto-trace.ts';
import { RunTrace, traceRun } from '../src/experiment/run-trace.ts';
import { canonicalJson } from '../src/report/index.ts';
import { resolveScenario, type Scenario } from '../src/scenario/scenario.ts';
import { applySettings } from '../src/scenario/set.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'vipsim-run-trace-'));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

const QUICK = ['duration=3s', 'workload.connectionsPerSecond=500'];
const STILL = ['churn.rolloutsPerMinute=0', 'churn.scalingsPerMinute=0', 'churn.crashesPerMinute=0'];
const BUSY = ['churn.rolloutsPerMinute=60', 'churn.crashesPerMinute=120'];

const scenario = (...settings: string[]): Scenario =>
  resolveScenario(applySettings({}, [...QUICK, ...settings]));
const shop = (): Cluster =>
  readCluster([{ name: 'shop.yaml', text: readFileSync(join(ROOT, 'examples/shop.yaml'), 'utf8') }]);

/** An event as the document holds it. */
interface Written {
  readonly ph: string;
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  readonly ts: number;
  readonly dur: number;
  readonly cat: string;
  readonly id: string;
  readonly args: Record<string, string | number>;
}

const eventsOf = (trace: RunTrace): Written[] => JSON.parse([...perfettoTrace(trace)].join('')).traceEvents;

test('a result is the same whether the run is traced or not', (t) => {
  const busy = scenario(...BUSY);
  const day = planDay(shop(), busy, new Streams(busy.seed));
  for (const mode of MODES) {
    const trace = new RunTrace(mode, day, busy, 100);
    const plain = runMode(mode, day, busy, PROFILES[0]!);
    const traced = runMode(mode, day, busy, PROFILES[0]!, undefined, trace);
    t.is(canonicalJson(traced), canonicalJson(plain), mode.name);
    t.is(trace.connections, 100);
    t.true(trace.syncs.length > 0 && trace.deliveries.length > 0, mode.name);
  }
});

test('in a Perfetto trace slices of a core never overlap, spans end, and every packet says what it cost', (t) => {
  for (const mode of MODES) {
    const trace = traceRun(mode, shop(), scenario(...BUSY, 'node.cores=2'), PROFILES[0]!, 300);
    const events = eventsOf(trace);
    const slices = events.filter(({ ph, pid }) => ph === 'X' && pid === 1);
    t.is(slices.length, trace.packets.length);
    const freeAt = new Map<number, number>();
    for (const { tid, ts, dur, args } of slices) {
      t.true(Math.round(ts * 1000) >= (freeAt.get(tid) ?? 0));
      freeAt.set(tid, Math.round((ts + dur) * 1000));
      t.true(String(args['counts']).length > 0 && Number(args['waitedNs']) >= 0);
    }
    const open = new Map<string, number>();
    for (const { ph, cat, id, ts } of events.filter((event) => event.ph === 'b' || event.ph === 'e')) {
      if (ph === 'b') {
        t.false(open.has(cat + id));
        open.set(cat + id, ts);
      } else {
        t.true(open.get(cat + id)! <= ts);
        open.delete(cat + id);
      }
    }
    t.is(open.size, 0);
    t.is(events.filter(({ ph, cat }) => ph === 'b' && cat === 'connection').length, 300);
    t.is(events.findLast(({ ph }) => ph === 'C')?.args['open'], 0);
    t.is(events.filter(({ name }) => name.endsWith(' sync')).length, trace.syncs.length);
  }
});

/** What tshark makes of the capture, undefined where there is none. */
function tshark(name: string, trace: RunTrace, filter: string): string | undefined {
  const file = join(folder, `${name}.pcapng`);
  writeChunks(file, packetCapture(trace));
  try {
    return execFileSync(
      'tshark',
      ['-r', file, '-o', 'ip.check_checksum:TRUE', '-o', 'tcp.check_checksum:TRUE', '-Y', filter],
      {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    );
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

const TROUBLE = 'tcp.analysis.flags || _ws.malformed || _ws.expert.severity >= 0x600000';

test('where nothing fails, a capture of any mode shows clean conversations in strict order of time', (t) => {
  for (const mode of MODES) {
    const trace = traceRun(mode, shop(), scenario(...STILL), PROFILES[0]!, 200);
    const times = capturedTimes(Buffer.concat([...packetCapture(trace)]));
    t.true(times.length >= trace.packets.length);
    t.deepEqual(
      times,
      times.toSorted((x, y) => x - y),
    );
    const found = tshark(mode.name, trace, TROUBLE);
    if (found === undefined) t.log('not tried on a real one: no tshark here');
    else t.is(found, '', mode.name);
  }
});

test('packets that a core has no room for are in the capture, and are sent again with the numbers they had', (t) => {
  const settings = ['node.cores=1', 'node.backlog=1', 'workload.connectionsPerSecond=20000', 'duration=1s'];
  const trace = traceRun(MODES[0]!, shop(), scenario(...STILL, ...settings), PROFILES[0]!, 2000);
  const comments = Buffer.concat([...packetCapture(trace)]).toString('latin1');
  t.true(comments.includes('lost: backlog of its core full'));
  t.true(eventsOf(trace).some(({ ph, name }) => ph === 'i' && name === 'lost'));
  // Data is never from beyond what was sent: only sent again, and noticed as such.
  const found = tshark('lossy', trace, 'tcp.analysis.ack_lost_segment || _ws.malformed');
  if (found !== undefined) t.is(found, '');
});

test('run writes both recordings beside the result, whose digest they leave alone', (t) => {
  const words = ['run', 'examples/shop.yaml', '--mode', 'ebpf', '--duration', '1s', '--json', '-'];
  const [trace, capture] = [join(folder, 't.json'), join(folder, 't.pcapng')];
  const vipsim = (...more: string[]): string =>
    execFileSync(
      process.execPath,
      ['--import=tsx', 'packages/scenarios/src/cli/main.ts', ...words, ...more],
      {
        cwd: ROOT,
        encoding: 'utf8',
        maxBuffer: 1 << 26,
      },
    );
  const plain = JSON.parse(vipsim());
  const traced = JSON.parse(vipsim('--perfetto', trace, '--pcap', capture, '--trace-connections', '10'));
  t.is(traced.digest, plain.digest);
  const { otherData, traceEvents } = JSON.parse(readFileSync(trace, 'utf8'));
  t.regex(otherData.banner, /^vipsim \S+\nseed=0\n.*modes=ebpf\n/s);
  t.is(traceEvents.filter(({ cat, ph }: Written) => cat === 'connection' && ph === 'b').length, 10);
  t.is(readFileSync(capture).readUInt32LE(0), 0x0a0d0d0a);
});

test('chunks are written whole or not at all', (t) => {
  const path = join(folder, 'chunks');
  writeChunks(path, ['a', Uint8Array.of(98, 99)]);
  t.is(readFileSync(path, 'utf8'), 'abc');
  t.throws(() => writeChunks(path, brokenOff()), { instanceOf: Error, message: 'broken off' });
  t.throws(() => writeChunks(join(folder, 'absent', 'x'), ['x']), { instanceOf: UsageError });
  t.is(readFileSync(path, 'utf8'), 'abc');
  t.deepEqual(
    readdirSync(folder).filter((name) => name.endsWith('.part')),
    [],
  );
});

function* brokenOff(): Generator<string> {
  yield 'x';
  throw new Error('broken off');
}

/** Nanoseconds of every enhanced packet block, in the order of the file. */
function capturedTimes(file: Buffer): number[] {
  const times: number[] = [];
  for (let at = 0; at < file.length; at += file.readUInt32LE(at + 4)) {
    if (file.readUInt32LE(at) === 6)
      times.push(file.readUInt32LE(at + 12) * 4294967296 + file.readUInt32LE(at + 16));
  }
  return times;
}
