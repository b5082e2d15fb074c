import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { TCP, UDP, parseIpv4 } from '../src/net/address.ts';
import { ACK, FIN, RST, SYN } from '../src/net/packet.ts';
import { Simulation } from '../src/engine/simulation.ts';
import { runBanner } from '../src/trace/banner.ts';
import { Conversations } from '../src/trace/conversations.ts';
import { EventLog, type EventObserver, type ObservedSimulation } from '../src/trace/event-log.ts';
import { fixedPoint } from '../src/trace/fixed-point.ts';
import { pcapng, type CapturedPacket } from '../src/trace/pcapng.ts';
import { perfettoJson, type TraceEvent } from '../src/trace/perfetto.ts';
import { utf8 } from '../src/trace/utf8.ts';
import { IPV4_BYTES, WirePacket, headersOf } from '../src/trace/wire-headers.ts';

const SEED = { seed: 42, numRuns: 200 };
const ns = fc.maxSafeNat();

test('times are written exactly, up to the last nanosecond of 104 days', (t) => {
  t.is(fixedPoint(12_345_678_901, 9), '12.345678901');
  t.is(fixedPoint(0, 3), '0.000');
  t.is(fixedPoint(Number.MAX_SAFE_INTEGER, 3), '9007199254740.991');
  const exact = fc.property(ns, fc.integer({ min: 1, max: 9 }), (units, places) => {
    const [whole, rest] = fixedPoint(units, places).split('.');
    return rest!.length === places && BigInt(whole! + rest!) === BigInt(units);
  });
  fc.assert(exact, SEED);
});

test('text becomes the UTF-8 that every engine makes of it, cut only between characters', (t) => {
  const text = fc.string({
    unit: fc.oneof(fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }), fc.constant('\ud800')),
  });
  fc.assert(
    fc.property(text, fc.nat(20), (written, limit) => {
      const whole = new TextEncoder().encode(written);
      t.deepEqual([...utf8(written)], [...whole]);
      const cut = utf8(written, limit);
      t.true(cut.length <= limit && (whole.length > limit || cut.length === whole.length));
      t.notThrows(() => new TextDecoder('utf-8', { fatal: true }).decode(cut));
    }),
    SEED,
  );
});

class Fake implements ObservedSimulation {
  observer: EventObserver | undefined;
  kindName(kind: number): string {
    return `kind ${kind}`;
  }
}

test('an event log keeps the last events that its filters let through, in order, and counts the others', (t) => {
  const events = fc.array(fc.tuple(fc.nat(50), fc.nat(3), fc.nat(5), fc.integer()), { maxLength: 60 });
  fc.assert(
    fc.property(events, fc.integer({ min: 1, max: 20 }), (rows, capacity) => {
      const simulation = new Fake();
      const log = new EventLog(simulation, {
        capacity,
        kinds: [0, 2, 3],
        fromNs: 10,
        untilNs: 40,
        where: (a) => a !== 4,
      });
      for (const [atNs, kind, a, b] of rows) simulation.observer!(atNs, kind, a, b);
      const wanted = rows.filter(([atNs, kind, a]) => kind !== 1 && atNs >= 10 && atNs < 40 && a !== 4);
      t.is(log.matched, wanted.length);
      t.is(log.length, Math.min(capacity, wanted.length));
      t.is(log.dropped, wanted.length - log.length);
      t.deepEqual(
        Array.from(log, ({ atNs, kind, a, b }) => [atNs, kind, a, b]),
        wanted.slice(-log.length || wanted.length),
      );
    }),
    SEED,
  );
  t.throws(() => new EventLog(new Fake(), { capacity: 0 }), { instanceOf: RangeError });
});

test('an event log prints lines, calls who listened before, and leaves no trace when detached', (t) => {
  const simulation = new Fake();
  let heard = 0;
  const before = (): void => void heard++;
  simulation.observer = before;
  const log = new EventLog(simulation, { capacity: 2 });
  for (let i = 1; i <= 3; i++) simulation.observer!(i * 12_345_678_901, 1, i, -i);
  t.deepEqual(
    [...log.lines()],
    ['(1 earlier events not kept)', '24.691357802 s  kind 1  a=2 b=-2', '37.037036703 s  kind 1  a=3 b=-3'],
  );
  log.detach();
  t.is(simulation.observer, before);
  t.is(heard, 3);
});

test('an event log of a real simulation holds what fired', (t) => {
  const simulation = new Simulation();
  const kind = simulation.on(() => undefined);
  const log = new EventLog(simulation);
  simulation.at(7, kind, 1, 2);
  simulation.at(5, kind, 3, 4);
  simulation.run();
  t.deepEqual(
    Array.from(log, (event) => [event.atNs, event.kind, event.a, event.b]),
    [
      [5, kind, 3, 4],
      [7, kind, 1, 2],
    ],
  );
});

test('a banner names seed, version and every option, one line each', (t) => {
  t.deepEqual(
    runBanner({
      seed: '0',
      version: '1.2.3',
      options: { duration: '60s', node: { cores: 16 }, modes: ['a', 'b c'], flag: true, note: 'two\nlines' },
    }),
    [
      'vipsim 1.2.3',
      'seed=0',
      'duration=60s',
      'node.cores=16',
      'modes=a,"b c"',
      'flag=true',
      String.raw`note="two\nlines"`,
    ],
  );
});

test('a Perfetto trace has these bytes', (t) => {
  const name = 'a"b\\\u0001\ud800';
  const track = { process: 1, thread: 2 };
  const events: TraceEvent[] = [
    { kind: 'complete', ...track, name, atNs: 1_001, durationNs: 9, args: { x: 1, y: 'z' } },
    { kind: 'begin', ...track, category: 'c', id: 255, name: 'n', atNs: 5 },
    { kind: 'end', ...track, category: 'c', id: 255, name: 'n', atNs: 1_000_000_000 },
    { kind: 'instant', ...track, name: 'i', atNs: 0 },
    { kind: 'counter', ...track, name: 'k', atNs: 2_000, args: { open: 3 } },
  ];
  const processes = [{ id: 1, name: 'node', threads: [{ id: 2, name: 'core 1' }] }];
  const text = [...perfettoJson({ processes, events, facts: { seed: '0' } })].join('');
  t.is(
    text,
    String.raw`{"displayTimeUnit":"ns","otherData":{"seed":"0"},"traceEvents":[
{"ph":"M","name":"process_name","pid":1,"tid":0,"args":{"name":"node"}},
{"ph":"M","name":"process_sort_index","pid":1,"tid":0,"args":{"sort_index":1}},
{"ph":"M","name":"thread_name","pid":1,"tid":2,"args":{"name":"core 1"}},
{"ph":"M","name":"thread_sort_index","pid":1,"tid":2,"args":{"sort_index":2}},
{"ph":"X","name":"a\"b\\\u0001\ud800","pid":1,"tid":2,"ts":1.001,"dur":0.009,"args":{"x":1,"y":"z"}},
{"ph":"b","cat":"c","id":"0xff","name":"n","pid":1,"tid":2,"ts":0.005},
{"ph":"e","cat":"c","id":"0xff","name":"n","pid":1,"tid":2,"ts":1000000.000},
{"ph":"i","s":"t","name":"i","pid":1,"tid":2,"ts":0.000},
{"ph":"C","name":"k","pid":1,"tid":2,"ts":2.000,"args":{"open":3}}
]}
`,
  );
  t.is(JSON.parse(text).traceEvents[4].name, name);
});

function slice(thread: number, atNs: number, durationNs: number): TraceEvent {
  return { kind: 'complete', process: 1, thread, name: 's', atNs, durationNs };
}

function traced(...events: TraceEvent[]): string {
  return [...perfettoJson({ processes: [], events })].join('');
}

test('slices of one thread nest or follow one another; anything else is refused', (t) => {
  t.notThrows(() => traced(slice(1, 0, 10), slice(1, 0, 4), slice(1, 4, 6), slice(2, 3, 9), slice(1, 10, 0)));
  t.throws(() => traced(slice(1, 0, 10), slice(1, 5, 6)), { instanceOf: RangeError });
  t.throws(() => traced(slice(1, 5, 1), slice(1, 4, 1)), { instanceOf: RangeError });
});

interface Block {
  readonly type: number;
  readonly body: DataView;
}

/** Strict: every length twice, padding zero, options in their place. */
function blocksOf(file: Uint8Array): Block[] {
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const blocks: Block[] = [];
  for (let at = 0; at < file.length;) {
    const length = view.getUint32(at + 4, true);
    if (length % 4 !== 0 || length < 12 || at + length > file.length)
      throw new Error(`length ${length} at ${at}`);
    if (view.getUint32(at + length - 4, true) !== length) throw new Error(`trailing length at ${at}`);
    blocks.push({
      type: view.getUint32(at, true),
      body: new DataView(file.buffer, file.byteOffset + at + 8, length - 12),
    });
    at += length;
  }
  return blocks;
}

function padded(body: DataView, at: number, length: number): Uint8Array {
  const end = (length + 3) & ~3;
  for (let i = length; i < end; i++) if (body.getUint8(at + i) !== 0) throw new Error('padding is not zero');
  return new Uint8Array(body.buffer, body.byteOffset + at, length);
}

function optionsOf(body: DataView, start: number): Map<number, Uint8Array> {
  const options = new Map<number, Uint8Array>();
  for (let at = start; ;) {
    const code = body.getUint16(at, true);
    const length = body.getUint16(at + 2, true);
    if (code === 0) {
      if (length !== 0 || at + 4 !== body.byteLength) throw new Error('options go on after their end');
      return options;
    }
    options.set(code, padded(body, at + 4, length));
    at += 4 + ((length + 3) & ~3);
  }
}

function fromUtf8(bytes: Uint8Array | undefined): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
}

function parsed(file: Uint8Array): { application: string; links: string[]; packets: CapturedPacket[] } {
  const [section, ...rest] = blocksOf(file);
  if (section!.type !== 0x0a0d0d0a || section!.body.getUint32(0, true) !== 0x1a2b3c4d)
    throw new Error('no section');
  if (section!.body.getUint16(4, true) !== 1 || section!.body.getBigInt64(8, true) !== -1n)
    throw new Error('version');
  const links: string[] = [];
  const packets: CapturedPacket[] = [];
  for (const { type, body } of rest) {
    if (type === 1) {
      const options = optionsOf(body, 8);
      if (body.getUint16(0, true) !== 101 || options.get(9)?.[0] !== 9) throw new Error('link type or clock');
      links.push(fromUtf8(options.get(2)));
    } else {
      if (type !== 6 || body.getUint32(0, true) >= links.length) throw new Error(`block ${type}`);
      const kept = body.getUint32(12, true);
      const options = optionsOf(body, 20 + ((kept + 3) & ~3));
      packets.push({
        interface: body.getUint32(0, true),
        atNs: body.getUint32(4, true) * 4294967296 + body.getUint32(8, true),
        inbound: options.get(2)![0] === 1,
        bytes: padded(body, 20, kept).slice(),
        originalBytes: body.getUint32(16, true),
        comment: fromUtf8(options.get(1)),
      });
    }
  }
  return { application: fromUtf8(optionsOf(section!.body, 16).get(4)), links, packets };
}

function joined(chunks: Iterable<Uint8Array>): Uint8Array {
  return Uint8Array.from(Buffer.concat([...chunks]));
}

function captured(packets: CapturedPacket[]): Uint8Array {
  return joined(pcapng({ application: '', interfaces: [{ name: 'a' }], packets }));
}

test('a capture is read back as it was written', (t) => {
  const packet = fc
    .record({
      interface: fc.nat(1),
      atNs: ns,
      inbound: fc.boolean(),
      bytes: fc.uint8Array({ maxLength: 70 }),
      comment: fc.string({ unit: 'grapheme' }),
      more: fc.nat(2000),
    })
    .map(({ more, ...rest }) => ({ ...rest, originalBytes: rest.bytes.length + more }));
  fc.assert(
    fc.property(fc.array(packet), (packets) => {
      const interfaces = [{ name: 'pods', description: 'd' }, { name: 'nétwork' }];
      const file = joined(pcapng({ application: 'vipsim 1', comment: 'c', interfaces, packets }));
      t.deepEqual(parsed(file), { application: 'vipsim 1', links: ['pods', 'nétwork'], packets });
    }),
    SEED,
  );
  const one = { interface: 0, atNs: 0, inbound: true, bytes: new Uint8Array(9), originalBytes: 9 };
  t.throws(() => captured([{ ...one, interface: 1 }]), { instanceOf: RangeError });
  t.throws(() => captured([{ ...one, originalBytes: 8 }]), { instanceOf: RangeError });
  const many = Array.from({ length: 5000 }, (_, atNs) => ({ ...one, atNs, comment: 'x'.repeat(70_000) }));
  const large = parsed(captured(many.slice(0, 20)));
  t.deepEqual([large.packets.length, large.packets[19]!.comment!.length], [20, 65_535]);
});

/** In ones' complement a right checksum makes the words of what it covers a multiple of 65535. */
function sumsToZero(...parts: readonly Uint8Array[]): boolean {
  const all = Buffer.concat(parts);
  let total = 0;
  for (let i = 0; i < all.length; i++) total += all[i]! * (i % 2 === 0 ? 256 : 1);
  return total % 65_535 === 0;
}

test('headers carry right lengths and checksums, for a payload of zeros', (t) => {
  const known = new WirePacket();
  known.protocol = UDP;
  known.source = parseIpv4('192.168.0.1')!;
  known.destination = parseIpv4('192.168.0.199')!;
  known.payloadBytes = 0x73 - 28;
  // The worked example of an IPv4 header's checksum in Wikipedia, "Internet checksum".
  t.is(
    Buffer.from(headersOf(known).subarray(0, IPV4_BYTES)).toString('hex'),
    '45000073000040004011b861c0a80001c0a800c7',
  );
  const word = fc.nat(0xffffffff);
  const port = fc.nat(65_535);
  const fields = fc.record({
    protocol: fc.constantFrom(TCP, UDP),
    source: word,
    destination: word,
    sourcePort: port,
    destinationPort: port,
    flags: fc.nat(15),
    sequence: word,
    acknowledgement: word,
    payloadBytes: fc.nat(1460),
    identification: port,
    ttl: fc.nat(255),
  });
  fc.assert(
    fc.property(fields, (values) => {
      const wire = Object.assign(new WirePacket(), values);
      const headers = Buffer.from(headersOf(wire));
      const transport = headers.subarray(IPV4_BYTES);
      const length = transport.length + wire.payloadBytes;
      t.is(headers.readUInt16BE(2), IPV4_BYTES + length);
      t.true(sumsToZero(headers.subarray(0, IPV4_BYTES)));
      const pseudo = Uint8Array.of(0, wire.protocol, length >> 8, length & 255);
      t.true(sumsToZero(headers.subarray(12, 20), pseudo, transport));
      t.is(headers.readUInt32BE(12), wire.source);
      t.is(transport.readUInt16BE(2), wire.destinationPort);
      if (wire.protocol === UDP) {
        t.is(transport.readUInt16BE(4), length);
        t.not(transport.readUInt16BE(6), 0);
      } else {
        t.is((transport[12]! >> 4) * 4, transport.length);
        t.is((transport[13]! & 2) !== 0, (wire.flags & SYN) !== 0);
        t.is(transport.readUInt32BE(4), wire.sequence);
      }
    }),
    SEED,
  );
  t.throws(() => headersOf(Object.assign(new WirePacket(), { protocol: 132 })), { instanceOf: RangeError });
  t.throws(() => headersOf(Object.assign(new WirePacket(), { payloadBytes: 65_500 })), {
    instanceOf: RangeError,
  });
});

const SIZES = { requestBytes: 200, responseBytes: 1_460 };
const HANDSHAKE = [
  [false, SYN],
  [true, SYN | ACK],
  [false, ACK],
] as const;
const EXCHANGE = [
  [false, ACK],
  [true, ACK],
  [true, ACK],
] as const;
const CLOSE = [
  [false, FIN | ACK],
  [true, FIN | ACK],
  [false, ACK],
] as const;

/** Relative sequence, acknowledgement and payload of each packet. */
function numbered(
  packets: readonly (readonly [boolean, number])[],
  lost: readonly number[] = [],
): number[][] {
  const conversations = new Conversations(1, SIZES);
  const wire = new WirePacket();
  const initial: (number | undefined)[] = [undefined, undefined];
  return packets.map(([fromServer, flags], i) => {
    wire.flags = flags;
    conversations.send(0, fromServer, wire);
    if (lost.includes(i)) conversations.lose(0, fromServer);
    const mine = fromServer ? 1 : 0;
    initial[mine] ??= wire.sequence;
    const acknowledged =
      initial[1 - mine] === undefined ? 0 : (wire.acknowledgement - initial[1 - mine]!) >>> 0;
    return [(wire.sequence - initial[mine]!) >>> 0, acknowledged, wire.payloadBytes];
  });
}

test('a conversation counts as TCP does', (t) => {
  t.deepEqual(numbered([...HANDSHAKE, ...EXCHANGE, ...EXCHANGE, ...CLOSE]), [
    [0, 0, 0],
    [0, 1, 0],
    [1, 1, 0],
    [1, 1, 200],
    [1, 201, 1460],
    [1461, 201, 1460],
    [201, 2921, 200],
    [2921, 401, 1460],
    [4381, 401, 1460],
    [401, 5841, 0],
    [5841, 402, 0],
    [402, 5842, 0],
  ]);
});

test('what got lost is sent again with the numbers that it had', (t) => {
  const [request] = EXCHANGE;
  // The first SYN; then the request; then the second segment of the response.
  const packets = [HANDSHAKE[0], ...HANDSHAKE, request, ...EXCHANGE, ...EXCHANGE.slice(1), ...CLOSE] as const;
  const numbers = numbered(packets, [0, 4, 7]);
  t.deepEqual(numbers[0], numbers[1]);
  t.deepEqual(numbers[4], numbers[5]);
  t.deepEqual(
    numbers.slice(6, 10).map(([sequence]) => sequence),
    [1, 1461, 1, 1461],
  );
  t.deepEqual(numbers[10], [201, 2921, 0]);
  t.deepEqual(numbered([HANDSHAKE[0], [true, RST | ACK]])[1], [0, 1, 0]);
});

test('tshark, where there is one, finds a clean conversation', (t) => {
  try {
    execFileSync('tshark', ['--version'], { stdio: 'ignore' });
  } catch {
    return t.log('not tried on a real one: no tshark here');
  }
  const folder = mkdtempSync(join(tmpdir(), 'vipsim-trace-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const conversations = new Conversations(50, SIZES);
  const packets: CapturedPacket[] = [];
  for (let step = 0; step < 12; step++) {
    for (let connection = 0; connection < 50; connection++) {
      const [fromServer, flags] = [...HANDSHAKE, ...EXCHANGE, ...EXCHANGE, ...CLOSE][step]!;
      const wire = Object.assign(new WirePacket(), { flags });
      conversations.send(connection, fromServer, wire);
      [wire.source, wire.destination] = fromServer ? [0x0a600001, 0x0a000001] : [0x0a000001, 0x0a600001];
      [wire.sourcePort, wire.destinationPort] = fromServer
        ? [80, 40_000 + connection]
        : [40_000 + connection, 80];
      const bytes = headersOf(wire);
      packets.push({
        interface: 0,
        atNs: step * 1_000_000 + connection,
        inbound: true,
        bytes,
        originalBytes: bytes.length + wire.payloadBytes,
        comment: `step ${step}`,
      });
    }
  }
  const file = join(folder, 'clean.pcapng');
  writeFileSync(file, joined(pcapng({ application: 'vipsim', interfaces: [{ name: 'pods' }], packets })));
  const checks = ['-o', 'ip.check_checksum:TRUE', '-o', 'tcp.check_checksum:TRUE'];
  const tshark = (...words: string[]): string =>
    execFileSync('tshark', ['-r', file, ...checks, ...words], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  // Comments, SYNs and FINs are expert facts too; from warnings on something is wrong.
  t.is(tshark('-Y', 'tcp.analysis.flags || _ws.malformed || _ws.expert.severity >= 0x600000'), '');
  t.is(tshark('-Y', 'ip.checksum.status == Bad || tcp.checksum.status == Bad'), '');
  t.is(tshark('-T', 'fields', '-e', 'tcp.stream').trim().split('\n').length, 600);
  return undefined;
});
