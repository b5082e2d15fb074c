import { createHash } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import {
  IPV4,
  Ipv6Family,
  TCP,
  UDP,
  jhash2,
  parseIpv4,
  parseIpv6,
  type AddressFamily,
} from '@vipsim/sim-core';
import { MaglevBackends } from '../src/ebpf/maglev/backends.ts';
import {
  CALICO_TEST_HASHES,
  calicoIndex,
  calicoRing,
  fnv1,
  type CalicoHashes,
} from '../src/ebpf/maglev/calico-ring.ts';
import { changedSlots } from '../src/ebpf/maglev/changed-slots.ts';
import { katranHash, katranIndex, katranRing, type KatranReal } from '../src/ebpf/maglev/katran-ring.ts';
import { maglevIndex, maglevIndexIpv6, swapped } from '../src/ebpf/maglev/maglev-index.ts';
import { modulo64, murmur3 } from '../src/ebpf/maglev/murmur3.ts';
import { DEFAULT_MAGLEV_SEED, readMaglevSeed, wantedOfSeed } from '../src/ebpf/maglev/seed.ts';
import {
  MAGLEV_SIZES,
  backendsInARow,
  buildMaglev,
  matrixBytes,
  type MaglevWork,
} from '../src/ebpf/maglev/table.ts';

const SEED = readMaglevSeed(DEFAULT_MAGLEV_SEED);

/** 10.0.0.0, 10.0.0.1, ... at port 8080, ids from 1; without those dropped. */
function family(n: number, drop: (k: number) => boolean = () => false, protocol = 'TCP'): MaglevBackends {
  const backends = new MaglevBackends(IPV4);
  for (let k = 0; k < n; k++) if (!drop(k)) backends.add(0x0a000000 + k, 8080, protocol, k + 1);
  return backends;
}

function weighted(rows: readonly (readonly [number, number, number, number])[]): MaglevBackends {
  const backends = new MaglevBackends(IPV4);
  for (const [address, port, weight, id] of rows) backends.add(address, port, 'TCP', id, weight);
  return backends;
}

function tableOf(backends: MaglevBackends, slots: number): Uint32Array {
  return buildMaglev(backends, slots, SEED).ids;
}

/** Of the ids as little-endian 32-bit numbers. */
function digest(ids: Uint32Array): string {
  const view = new DataView(new ArrayBuffer(ids.length * 4));
  for (const [slot, id] of ids.entries()) view.setUint32(slot * 4, id, true);
  return createHash('sha256').update(new Uint8Array(view.buffer)).digest('hex');
}

function slotCounts(ids: Uint32Array | Int32Array, highest: number): number[] {
  const counts = Array.from({ length: highest + 1 }, () => 0);
  for (const id of ids) counts[id]!++;
  return counts;
}

function hashed(text: string, seed: number): [string, string] {
  const out = new Uint32Array(4);
  const bytes = new TextEncoder().encode(text);
  murmur3(bytes, 0, bytes.length, seed, out);
  const half = (at: number): string => out[at]!.toString(16).padStart(8, '0');
  return [half(0) + half(1), half(2) + half(3)];
}

// Hashes.

test('the seed text is three big-endian numbers, and anything but base64 of 12 bytes is refused', (t) => {
  t.deepEqual(SEED, { murmur: 0x24b7ef82, ipv4: 0x71dcda46, ipv6: 0x92505688 });
  t.is(wantedOfSeed(DEFAULT_MAGLEV_SEED), '');
  for (const text of ['', 'JLfvgnHc2kaSUFa', 'JLfvgnHc2kaSUFaIA', 'JLfvgnHc2kaSUF==', 'JLfvgnHc2kaSUFa-']) {
    t.throws(() => readMaglevSeed(text), { instanceOf: RangeError, message: /wanted base64 of 12 bytes/ });
  }
});

test('murmur3 gives the hashes that Cilium gives its backends', (t) => {
  const vectors: readonly [string, string, string][] = [
    ['[10.0.0.0:8080/TCP,State:active]', 'd47e0d32c3b5546f', '62a3e56ba26b2490'],
    ['[10.0.0.1:8080/TCP,State:active]', 'f420f1428ad38b17', '3615cc15ddae3c1c'],
    ['[10.0.3.231:8080/TCP,State:active]', '66e91292da964ab4', '98210b7b2dac1674'],
    ['[0.0.0.1:1/TCP,State:active]', 'e5a61e346c85d436', '53ee412cc7f20636'],
    ['[[fd00::1]:8080/TCP,State:active]', '7914c417d0eed553', '861de1b361dd6091'],
  ];
  for (const [text, h1, h2] of vectors) t.deepEqual(hashed(text, SEED.murmur), [h1, h2], text);
});

function cut(x: bigint): bigint {
  return BigInt.asUintN(64, x);
}

function rotate(x: bigint, by: bigint): bigint {
  return cut(x << by) | (x >> (64n - by));
}

/** The definition, in whole 64-bit numbers. */
function murmurByDefinition(bytes: Uint8Array, seed: number): [bigint, bigint] {
  const [c1, c2] = [0x87c37b91114253d5n, 0x4cf5ad432745937fn];
  const read = (from: number, to: number): bigint =>
    bytes.subarray(from, to).reduceRight((word, byte) => (word << 8n) | BigInt(byte), 0n);
  let [h1, h2] = [BigInt(seed), BigInt(seed)];
  for (let at = 0; at < bytes.length; at += 16) {
    const k1 = cut(rotate(cut(read(at, at + 8) * c1), 31n) * c2);
    const k2 = cut(rotate(cut(read(at + 8, at + 16) * c2), 33n) * c1);
    if (at + 16 > bytes.length) {
      h1 ^= k1;
      h2 ^= k2;
    } else {
      h1 = cut(cut(rotate(h1 ^ k1, 27n) + h2) * 5n + 0x52dce729n);
      h2 = cut(cut(rotate(h2 ^ k2, 31n) + h1) * 5n + 0x38495ab5n);
    }
  }
  const mix = (x: bigint): bigint => {
    x = cut((x ^ (x >> 33n)) * 0xff51afd7ed558ccdn);
    x = cut((x ^ (x >> 33n)) * 0xc4ceb9fe1a85ec53n);
    return x ^ (x >> 33n);
  };
  h1 ^= BigInt(bytes.length);
  h2 ^= BigInt(bytes.length);
  h1 = cut(h1 + h2);
  h2 = cut(h2 + h1);
  [h1, h2] = [mix(h1), mix(h2)];
  h1 = cut(h1 + h2);
  return [h1, cut(h2 + h1)];
}

test('murmur3 and the 64-bit modulo in halves are those in whole numbers', (t) => {
  const out = new Uint32Array(4);
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 70 }),
      fc.nat({ max: 5 }),
      fc.nat({ max: 0xffffffff }),
      fc.integer({ min: 250, max: 131_071 }),
      (bytes, before, seed, m) => {
        const padded = new Uint8Array([...bytes.subarray(0, before), ...bytes, 0xff]);
        const from = Math.min(before, bytes.length);
        murmur3(padded, from, from + bytes.length, seed, out);
        const expected = murmurByDefinition(bytes, seed);
        const got = [0, 2].map((at) => (BigInt(out[at]!) << 32n) | BigInt(out[at + 1]!));
        return (
          got[0] === expected[0] &&
          got[1] === expected[1] &&
          BigInt(modulo64(out[0]!, out[1]!, m)) === expected[0] % BigInt(m)
        );
      },
    ),
    { seed: 42, numRuns: 2000 },
  );
  t.is(modulo64(0xffffffff, 0xffffffff, 131_071), Number(0xffffffffffffffffn % 131_071n));
});

test('packets select the slots that the BPF program selects; affinity hashes source port 0', (t) => {
  const vectors: readonly [string, number, number, number, number, number][] = [
    ['10.0.0.1', 12345, 80, TCP, 0x2dd58ed8, 13554],
    ['192.168.1.100', 54321, 443, TCP, 0x35048337, 16264],
    ['10.0.0.1', 0, 80, TCP, 0xee2ddd54, 2048],
    ['172.16.5.9', 40000, 53, UDP, 0xda7431e5, 12240],
  ];
  for (const [source, sport, dport, protocol, hash, slot] of vectors) {
    const address = parseIpv4(source)!;
    t.is(maglevIndex(address, sport, dport, protocol, SEED.ipv4, 0x1_0000_0000), hash, source);
    t.is(maglevIndex(address, sport, dport, protocol, SEED.ipv4, 16381), slot, source);
  }
});

test('IPv6 packets select the slots of a C program with the macros of jhash.h', (t) => {
  const vectors: readonly [string, number, number, number, number, number][] = [
    ['fd00::1', 12345, 80, TCP, 0x45a29c54, 8217],
    ['2001:db8:1:2:3:4:5:6', 54321, 443, TCP, 0xbf2b169f, 3343],
    ['fd00::1', 0, 80, TCP, 0xcd04657e, 550],
    ['fe80::abcd:ef01', 40000, 53, UDP, 0xfc2641e0, 5176],
  ];
  for (const [source, sport, dport, protocol, hash, slot] of vectors) {
    const [a, b, c, d] = parseIpv6(source)!;
    t.is(maglevIndexIpv6(a, b, c, d, sport, dport, protocol, SEED.ipv6, 0x1_0000_0000), hash, source);
    t.is(maglevIndexIpv6(a, b, c, d, sport, dport, protocol, SEED.ipv6, 16381), slot, source);
  }
});

// Backends.

test('backends take turns in the order of their texts, not of their numbers', (t) => {
  const backends = new MaglevBackends(IPV4);
  backends.add(0x0a000001, 8080, 'TCP', 1);
  backends.add(0x0a00000a, 8080, 'TCP', 2);
  backends.add(0x0a000001, 80, 'TCP', 3);
  backends.add(0x09000000, 80, 'SCTP', 4);
  backends.add(0x0a000001, 80, 'UDP', 5);
  t.deepEqual(
    Array.from(backends.order().subarray(0, 5), (row) => backends.name(row)),
    [
      '[10.0.0.10:8080/TCP,State:active]',
      '[10.0.0.1:80/TCP,State:active]',
      '[10.0.0.1:80/UDP,State:active]',
      '[10.0.0.1:8080/TCP,State:active]',
      '[9.0.0.0:80/SCTP,State:active]',
    ],
  );
});

function sortsAsText(
  rows: readonly [readonly [number, number, number, number], number][],
  of: AddressFamily,
): boolean {
  const backends = new MaglevBackends(of);
  const texts = rows.map(([words, port]) => {
    const text = words.map((one) => one.toString(16).padStart(8, '0')).join('');
    const address = of === IPV4 ? words[0] : of.parse(text.match(/.{4}/g)!.join(':'))!;
    backends.add(address, port, 'TCP', 1);
    return `[${of.hostPort(address, port)}/TCP,State:active]`;
  });
  const sorted = Array.from(backends.order().subarray(0, rows.length), (one) => backends.name(one));
  return sorted.join('\n') === texts.toSorted().join('\n');
}

test('texts sort as bytes, IPv4 and IPv6, and are what the address family writes', (t) => {
  const ipv6 = new Ipv6Family();
  const word = fc.oneof(fc.constant(0), fc.nat({ max: 0xffffffff }));
  const row = fc.tuple(fc.tuple(word, word, word, word), fc.nat({ max: 65_535 }));
  const several = fc.array(row, { minLength: 1, maxLength: 150 });
  fc.assert(
    fc.property(several, (rows) => sortsAsText(rows, IPV4) && sortsAsText(rows, ipv6)),
    { seed: 42, numRuns: 200 },
  );
  t.pass();
});

test('offsets and skips are modulo M and M - 1, h1 first', (t) => {
  const backends = new MaglevBackends(IPV4);
  const addresses = [0x0a000000, 0x0a000001, 0x0a000002, 0x0a0003e7];
  for (const address of addresses) backends.add(address, 8080, 'TCP', address);
  const of = (m: number): Map<number, [number, number]> => {
    const [offset, skip] = [new Int32Array(4), new Int32Array(4)];
    backends.permutations(m, SEED.murmur, offset, skip);
    return new Map(
      Array.from(backends.order().subarray(0, 4), (row, i) => [backends.ids[row]!, [offset[i]!, skip[i]!]]),
    );
  };
  const large = of(16381);
  t.deepEqual(large.get(0x0a000000), [917, 6117]);
  t.deepEqual(large.get(0x0a000001), [11788, 16309]);
  t.deepEqual(large.get(0x0a000002), [11765, 4330]);
  t.deepEqual(large.get(0x0a0003e7), [553, 5445]);
  const small = of(251);
  t.deepEqual(small.get(0x0a000000), [73, 237]);
  t.deepEqual(small.get(0x0a000001), [173, 229]);
  t.deepEqual(small.get(0x0a000002), [238, 20]);
  const largest = of(131_071);
  t.deepEqual(largest.get(0x0a000000), [21542, 69387]);
  t.deepEqual(largest.get(0x0a000001), [76629, 7159]);
  t.deepEqual(largest.get(0x0a000002), [67133, 65560]);
  const six = new Ipv6Family();
  const one = new MaglevBackends(six);
  one.add(six.parse('fd00::1')!, 8080, 'TCP', 1);
  const [offset, skip] = [new Int32Array(1), new Int32Array(1)];
  one.permutations(16381, SEED.murmur, offset, skip);
  t.deepEqual([offset[0], skip[0]], [8294, 5642]);
});

// Tables.

test('the table of the upstream reproducibility test comes out', (t) => {
  const ids = tableOf(
    weighted([
      [1, 1, 2, 0],
      [3, 3, 13, 1],
      [4, 4, 111, 2],
      [5, 5, 10, 3],
    ]),
    251,
  );
  t.is(digest(ids), '5fe6843f022f1cc4489ef16d7a783acd468ad4ee047d277b54205043bddb1697');
  const runs = [...ids.join('').matchAll(/(.)\1*/g)].map(([run]) => `${run[0]}(${run.length})`);
  t.is(runs.slice(0, 8).join(','), '2(5),3(1),2(3),1(1),2(2),0(1),2(1),3(1)');
  t.is(runs.slice(-5).join(','), '2(4),3(1),2(2),1(1),2(7)');
});

test('weights of the upstream test give its numbers of slots', (t) => {
  const rows = [2, 13, 111, 10].map((weight, i) => [i + 1, i + 1, weight, i] as const);
  t.deepEqual(slotCounts(tableOf(weighted(rows), 1021), 3), [16, 98, 832, 75]);
});

test('removing a backend of the upstream test moves one slot of the others', (t) => {
  const rows = [1, 2, 3].map((k) => [k, k, 1, k] as const);
  const before = tableOf(weighted(rows), 1021);
  const after = tableOf(weighted(rows.slice(0, 2)), 1021);
  t.is(digest(before), 'd2f7d964c3c327e2157ec221fa817df5b006fdc468b18fb39e0511aaa1523768');
  t.is(digest(after), '5a2290381726aa34a0d1220016375260f4c78c1ca564108c44142220bec5a5ce');
  t.is(changedSlots(before, after) - slotCounts(before, 3)[3]!, 1);
});

test('tables of 3 to 20,000 backends have the digests that two other programs found', (t) => {
  const vectors: readonly [number, number, string][] = [
    [16381, 3, '23b57ab610c3f538b732a8b60cfb793b7d4c23c7e9817d829f2fb7f466de0db6'],
    [16381, 10, '0055bfeb4267417d03dac3cfdda8053ae6ba04afc959c20e1fe3d9409706bbb6'],
    [16381, 100, '578701c8d5c66afbdce190bb193d63d557c80067db2caf97015d17c3a55f1bc7'],
    [16381, 1000, '28d26727216305763707d6f73928998064a6f97c81ddcfcc7f8eb7047630ee9a'],
    [16381, 20_000, '15b3744bdb27d90f7da2686390ba9ff5481ef2d22799f47ef88da032b45c901a'],
    [65521, 3, '83689e35964372d69244cb56f0a8b5499c41df5473b9bf26ac884a1b61576b84'],
    [65521, 1000, 'ead51cf2602b5a88939357863f94e3091ea85c37eda44c76e7940c7073b83335'],
    [131_071, 1000, 'a67bce4c88923ec0eb688f3c87e670167bed940ca22b6b69761bf98faf70f22c'],
    [1021, 100, '070af7b466477115266f9f7cf2a95b799786c42a4e3f83cd5e8bfd793597b12a'],
    [251, 3, '474379117053f4b6a7b1f94e5d553153be7369f8869199c35a3cfe7371e0cefe'],
    [251, 10, 'b372d94bdb85ed32e510f1bbfade98ea1628168d939bc2f69408a48855e6f234'],
  ];
  for (const [m, n, expected] of vectors) t.is(digest(tableOf(family(n), m)), expected, `${n} in ${m}`);
  t.is(
    digest(tableOf(family(3, undefined, 'UDP'), 16381)),
    '762a8f4addc1d4e6527556ba1a85fe431570c4a9b321f8245ce73f574c4249f8',
  );
  const ipv6 = new Ipv6Family();
  const backends = new MaglevBackends(ipv6);
  for (const k of [1, 2, 3]) backends.add(ipv6.parse(`fd00::${k}`)!, 8080, 'TCP', k);
  t.is(digest(tableOf(backends, 16381)), '099a6939ed5359accd64c2e2fed72dd6e80151a3581f22cad95ca895e8420800');
});

test('tables begin and end as those programs found, and packets meet their backends', (t) => {
  const indices = [13554, 16264, 2048, 12240];
  const vectors: readonly [number, string, string, number[]][] = [
    [3, '2 1 3 1 2 3 1 3 3 1 1 3 2 1 3 1 3 2 1 2 3 2 1 3', '2 3 1 3 1 1 2 3', [3, 2, 3, 2]],
    [10, '5 4 5 10 5 4 8 6 9 9 1 3 5 8 5 7 5 2 10 2 4 8 5 3', '2 6 4 9 1 7 6 3', [9, 2, 3, 9]],
    [
      1000,
      '31 241 70 544 440 755 185 284 465 220 342 804 611 212 243 520 760 630 566 30 72 352 347 110',
      '466 575 656 481 323 878 957 162',
      [847, 85, 442, 969],
    ],
  ];
  for (const [n, first, last, selected] of vectors) {
    const ids = tableOf(family(n), 16381);
    t.is(ids.subarray(0, 24).join(' '), first);
    t.is(ids.subarray(-8).join(' '), last);
    t.deepEqual(
      indices.map((index) => ids[index]),
      selected,
    );
  }
  t.is(tableOf(family(10), 251).subarray(0, 16).join(' '), '10 5 8 1 6 7 2 3 4 8 10 6 8 9 10 1');
});

test('weights share the slots; equal ones, and averages below 2, are as none', (t) => {
  const of = (...weights: number[]): Uint32Array =>
    tableOf(weighted(weights.map((weight, k) => [0x0a000000 + k, 8080, weight, k + 1] as const)), 16381);
  const rising = of(1, 2, 3);
  t.deepEqual(slotCounts(rising, 3).slice(1), [2731, 5460, 8190]);
  t.is(digest(rising), '6c8df8b37da8a468b1caba54a48c28342b0cb44f12959c5bbc310864172e2244');
  const doubling = of(50, 100, 200);
  t.deepEqual(slotCounts(doubling, 3).slice(1), [2341, 4680, 9360]);
  t.is(digest(doubling), '23470de7e65ad8339937d012566ff836b2cfdf0c6e216734adfe6e7152474ee9');
  const plain = digest(tableOf(family(3), 16381));
  for (const same of [of(100, 100, 100), of(65_535, 65_535, 65_535), of(1, 1, 2), of(0, 0, 0)]) {
    t.is(digest(same), plain);
  }
  t.deepEqual(slotCounts(of(0, 100, 100), 3)[1], 1);
});

test('tables after removals have the digests that those programs found', (t) => {
  const vectors: readonly [number, number, number | undefined, string][] = [
    [3, 3, undefined, 'ff013bcf8c45b5a4b2dfd389f94cdc416b73b23a22a40ee7fd4093f6fd25ed34'],
    [10, 10, undefined, 'c43c0e50743cd71062031a5f4f73723b7bdca1f508c1a0ca68c4b9101f2ea8c2'],
    [1000, 1000, undefined, '51666669b86c3391ace35cd8e0bdaaf7613319c7a5da01c2dfbaf3dbbf79e1d5'],
    [3, 2, 10, '245e159e66dfe597d1bff7ff11d243aa81a010e8e8f75ab6bd0210fbe62202eb'],
    [10, 5, 103, '422947bd052e9bbcd514ed30267c0cdcd2b5e2ac78c0192a1388981cb45d9743'],
    [1000, 500, 115, '22e074daae84677cabf258f26c21ca4de04a08de995f618210c14ba368025657'],
  ];
  for (const [n, removed, extra, expected] of vectors) {
    const before = tableOf(family(n), 16381);
    const after = tableOf(
      family(n, (k) => k + 1 === removed),
      16381,
    );
    t.is(digest(after), expected, `${n} without ${removed}`);
    const own = slotCounts(before, n)[removed]!;
    if (extra !== undefined) t.is(changedSlots(before, after) - own, extra);
    if (n === 1000 && removed === 500) t.is(own, 16);
  }
});

// What changes cost.

/** Percent of the slots that move between backends that stay, and that the removed ones had. */
function disruption(m: number, n: number, gone: (k: number) => boolean): { own: number; extra: number } {
  const before = tableOf(family(n), m);
  const after = tableOf(family(n, gone), m);
  let own = 0;
  for (const id of before) if (gone(id - 1)) own++;
  return { own: (100 * own) / m, extra: (100 * (changedSlots(before, after) - own)) / m };
}

function meanOfRemovals(m: number, n: number): { own: number; extra: number } {
  let own = 0;
  let extra = 0;
  for (let removed = 0; removed < n; removed++) {
    const one = disruption(m, n, (k) => k === removed);
    own += one.own / n;
    extra += one.extra / n;
  }
  return { own, extra };
}

test('removing, adding, and removing a tenth disrupt as measured', (t) => {
  const rows: readonly [number, number, string, string, string, string, string][] = [
    [251, 10, '10.0', '5.82', '4.38', '9.96', '5.58'],
    [1021, 10, '10.0', '2.54', '2.64', '9.99', '2.55'],
    [16381, 3, '33.33', '0.049', '0.110', '', ''],
    [16381, 10, '10.0', '0.555', '0.476', '10.0', '0.47'],
    [16381, 100, '1.0', '1.337', '1.355', '9.95', '2.23'],
    [16381, 1000, '0.10', '', '0.635', '9.77', '7.57'],
    [16381, 5000, '', '', '0.140', '9.16', '14.8'],
    [16381, 10_000, '', '', '0.055', '6.1', '13.3'],
    [65521, 1000, '', '', '0.583', '9.92', '3.47'],
    [131_071, 1000, '', '', '0.565', '10.0', '2.47'],
  ];
  const equal = (got: number, text: string, what: string): void => {
    if (text !== '') t.is(got.toFixed(text.length - text.indexOf('.') - 1), text, what);
  };
  for (const [m, n, own, extra, adding, tenthOwn, tenthExtra] of rows) {
    const what = `${n} in ${m}`;
    if (own !== '') {
      const mean = meanOfRemovals(m, n);
      equal(mean.own, own, what);
      equal(mean.extra, extra, what);
      // The measurement took some of the thousand, which of them is not known: 0.606.
      if (n === 1000) t.true(Math.abs(mean.extra - 0.606) < 0.02);
    }
    // The last one added, seen from the larger side: what the others lose to each other.
    equal(disruption(m, n + 1, (k) => k === n).extra, adding, what);
    if (tenthOwn !== '') {
      const tenth = disruption(m, n, (k) => k >= n - n / 10);
      equal(tenth.own, tenthOwn, what);
      equal(tenth.extra, tenthExtra, what);
    }
  }
});

function workFor(n: number): MaglevWork {
  return buildMaglev(family(n), 16381, SEED).work;
}

test('the work is that of the agent: permutations, their bytes, and probes of the filling', (t) => {
  const probesPerSlot: readonly [number, string][] = [
    [1, '1.00'],
    [3, '2.92'],
    [10, '6.13'],
    [100, '8.79'],
    [1000, '9.37'],
  ];
  for (const [n, expected] of probesPerSlot) {
    t.is((workFor(n).probes / 16381).toFixed(2), expected);
    t.is(workFor(n).permutationEntries, n * 16381);
    t.is(workFor(n).passes, 0);
  }
  // 21.4 MB are set aside anyway; 131 MB for 1000 backends, 1.3 GB for 10,000, 8.6 GB for 65,535.
  t.is(workFor(3).matrixBytes, 163 * 16381 * 8);
  t.is(workFor(1000).matrixBytes, 131_048_000);
  t.is(matrixBytes(10_000, 16381), 1_310_480_000);
  t.is((matrixBytes(65_535, 16381) / 1e9).toFixed(1), '8.6');
  t.is((matrixBytes(3, 131_071) / 1e6).toFixed(0), '1374');
  t.is(backendsInARow(1000, 8), 125);
  // Lists of one backend each, seven for four workers; fewer backends than cores are one list.
  t.is(backendsInARow(7, 4), 2);
  t.is(backendsInARow(3, 4), 3);
  // Lists of 3, 3, 3, and one of 2 that a worker takes after its own.
  t.is(backendsInARow(11, 3), 5);
});

test('with more backends than slots the first of them get one each', (t) => {
  const ids = tableOf(family(20_000), 16381);
  t.is(new Set(ids).size, 16381);
  const backends = family(300);
  const first = Array.from(backends.order().subarray(0, 251), (row) => backends.ids[row]!);
  t.deepEqual([...tableOf(backends, 251)].sort(), first.sort());
});

test('sizes that are not permitted and no backends are refused', (t) => {
  t.throws(() => buildMaglev(family(3), 16384, SEED), { message: /16384 slots: wanted one of 251, 509, / });
  t.throws(() => buildMaglev(family(3), 251, SEED, new Uint32Array(509)), { instanceOf: RangeError });
  t.throws(() => buildMaglev(family(0), 251, SEED), { message: /without backends/ });
  t.deepEqual(MAGLEV_SIZES, [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071]);
});

/** The agent's way: sorted texts, every permutation written down, counters by name. */
function tableByMatrix(
  rows: readonly { text: string; id: number; weight: number }[],
  m: number,
): { ids: number[]; probes: number } {
  const sorted = rows.toSorted((x, y) => (x.text < y.text ? -1 : 1));
  const matrix = sorted.map(({ text }) => {
    const [h1, h2] = murmurByDefinition(new TextEncoder().encode(text), SEED.murmur);
    const [offset, skip] = [h1 % BigInt(m), (h2 % BigInt(m - 1)) + 1n];
    return Array.from({ length: m }, (_, j) => Number((offset + BigInt(j) * skip) % BigInt(m)));
  });
  const sum = sorted.reduce((total, { weight }) => total + weight, 0);
  const counters = sorted.map(({ weight }) => weight / sorted.length);
  const next = sorted.map(() => 0);
  const ids = Array.from({ length: m }, () => -1);
  let probes = 0;
  for (let n = 0; n < m; n++) {
    let i = n % sorted.length;
    if (Math.trunc(sum / sorted.length) > 1) {
      while ((n + 1) * sorted[i]!.weight < Math.trunc(counters[i]!)) i = (i + 1) % sorted.length;
      counters[i]! += sum;
    }
    do probes++;
    while (ids[matrix[i]![next[i]!++]!]! >= 0);
    ids[matrix[i]![next[i]! - 1]!] = sorted[i]!.id;
  }
  return { ids, probes };
}

const someBackends = fc.uniqueArray(
  fc.record({
    address: fc.oneof(fc.integer({ min: 0x0a000000, max: 0x0a0001ff }), fc.nat({ max: 0xffffffff })),
    port: fc.integer({ min: 1, max: 65_535 }),
    weight: fc.oneof(fc.constant(1), fc.nat({ max: 300 }), fc.nat({ max: 65_535 })),
  }),
  { minLength: 1, maxLength: 40, selector: ({ address, port }) => `${address}:${port}` },
);

function filled(rows: readonly { address: number; port: number; weight?: number; id: number }[]) {
  const backends = new MaglevBackends(IPV4);
  for (const { address, port, weight, id } of rows) backends.add(address, port, 'TCP', id, weight ?? 1);
  return backends;
}

test('place and step give the table, and the probes, of permutations written down', (t) => {
  fc.assert(
    fc.property(someBackends, fc.constantFrom(251, 509), (drawn, m) => {
      const rows = drawn.map((row, i) => ({ ...row, id: i + 7 }));
      const { ids, work } = buildMaglev(filled(rows), m, SEED);
      const expected = tableByMatrix(
        rows.map((row) => ({ ...row, text: `[${IPV4.hostPort(row.address, row.port)}/TCP,State:active]` })),
        m,
      );
      return ids.join(' ') === expected.ids.join(' ') && work.probes === expected.probes;
    }),
    { seed: 42, numRuns: 60 },
  );
  t.pass();
});

test('shares are fair, the order of input is not seen, no stranger gets a slot, removals move little', (t) => {
  fc.assert(
    fc.property(someBackends, fc.constantFrom(251, 1021, 4093), fc.nat(), (drawn, m, pick) => {
      const rows = drawn.map(({ address, port }, i) => ({ address, port, id: i }));
      const ids = tableOf(filled(rows), m);
      const counts = slotCounts(ids, rows.length - 1);
      for (const count of counts) {
        if (count !== Math.floor(m / rows.length) && count !== Math.ceil(m / rows.length)) return false;
      }
      if (changedSlots(ids, tableOf(filled(rows.toReversed()), m)) > 0) return false;
      if (rows.length === 1) return true;
      const removed = pick % rows.length;
      const after = tableOf(filled(rows.filter(({ id }) => id !== removed)), m);
      if (after.includes(removed)) return false;
      return changedSlots(ids, after) - counts[removed]! < 0.15 * m;
    }),
    { seed: 42, numRuns: 150 },
  );
  t.pass();
});

test('a list is used again: tables do not depend on what was built before', (t) => {
  const backends = new MaglevBackends(IPV4);
  const table = new Uint32Array(1021);
  for (const n of [700, 3, 100]) {
    backends.clear();
    for (let k = n - 1; k >= 0; k--) backends.add(0x0a000000 + k, 8080, 'TCP', k + 1);
    t.is(buildMaglev(backends, 1021, SEED, table).ids, table);
    t.is(digest(table), digest(tableOf(family(n), 1021)));
  }
});

// Katran.

function reals(weights: readonly number[]): KatranReal[] {
  return weights.map((weight, i) => ({ number: i, weight, hashUpper: 0, hashLower: i }));
}

test("Katran's ring changes by as many positions as in Katran's own tests", (t) => {
  const tens = reals(Array.from({ length: 100 }, () => 10));
  const ring = katranRing(tens);
  t.is(changedSlots(new Int32Array(65_537).fill(-1), ring), 65_537);
  t.is(changedSlots(ring, katranRing(tens.slice(1))), 1020);
  const thirteens = tens.map((real) => ({ ...real, weight: 13 }));
  t.is(changedSlots(ring, katranRing(thirteens)), 0);
  const doubled = thirteens.map((real) => ({ ...real, weight: real.number === 0 ? 26 : 13 }));
  t.is(changedSlots(ring, katranRing(doubled)), 1013);
  const [heavy, light] = slotCounts(katranRing(reals([2, 1]), 7), 1);
  t.deepEqual([heavy, light], [5, 2]);
});

test("Katran's ring is fair, of one real alone if there is one, and empty of none", (t) => {
  const counts = slotCounts(katranRing(reals(Array.from({ length: 400 }, () => 1))), 399);
  t.is(Math.max(...counts) - Math.min(...counts), 1);
  t.deepEqual(new Set(katranRing([{ number: 3, weight: 1, hashUpper: 0, hashLower: 99 }], 7)), new Set([3]));
  t.deepEqual(new Set(katranRing([], 7)), new Set([-1]));
  const two = reals([5, 5]);
  t.deepEqual(new Set(katranRing([{ ...two[0]!, weight: 0 }, two[1]!])), new Set([1]));
  const one = katranRing(reals([1, 2, 3, 4]));
  t.is(changedSlots(one, katranRing(reals([1, 2, 3, 4]).toReversed())), 0);
});

test("Katran's packet hash gives the value that the kernel's selftest l4lb_noinline demands", (t) => {
  // Its packets are all zeros; 24 is the number of its ring positions, of 12 addresses with 2 each.
  t.is(katranHash(0, 0, 0, 24), 0x358459b7);
  t.is(katranIndex(0x0a000001, 12345, 80), jhash2(0x0100000a, 0x50003930, 512 * 65_537) % 65_537);
});

// Calico.

test('FNV-1 has its published values, read from the wrong end', (t) => {
  const vectors: readonly [string, number][] = [
    ['', 0x811c9dc5],
    ['a', 0x050c5d7e],
    ['foobar', 0x31f0b262],
  ];
  for (const [text, value] of vectors) t.is(swapped(fnv1(new TextEncoder().encode(text))), value);
});

function calicoSlots(endpoints: readonly string[], hashes: CalicoHashes): string[] {
  const ring = calicoRing(endpoints, 4093, hashes);
  return Array.from(ring.slots, (index) => ring.names[index]!);
}

test("Calico's table is fair for any hash, sorted by name, and changes little", (t) => {
  const endpoints = Array.from({ length: 10 }, (_, i) => `192.168.1.${i + 1}:8080`);
  const { names, slots, probes } = calicoRing(endpoints, 71);
  t.deepEqual(names.slice(0, 3), ['192.168.1.10:8080', '192.168.1.1:8080', '192.168.1.2:8080']);
  t.true(probes >= 71);
  const counts = slotCounts(slots, 9);
  t.is(
    counts.reduce((sum, count) => sum + count),
    71,
  );
  t.deepEqual([Math.min(...counts), Math.max(...counts)], [7, 8]);
  t.deepEqual(calicoRing([...endpoints.toReversed(), endpoints[0]!], 71).slots, slots);
  // A pair of hashes of another kind: the places of a table are theirs to say.
  const other: CalicoHashes = {
    offset: (bytes) => jhash2(bytes.length, fnv1(bytes), 1),
    skip: (bytes) => jhash2(bytes.length, fnv1(bytes), 2),
  };
  for (const hashes of [CALICO_TEST_HASHES, other]) {
    const before = calicoSlots(endpoints, hashes);
    const after = calicoSlots(endpoints.slice(1), hashes);
    const moved = before.filter((name, slot) => name !== endpoints[0] && name !== after[slot]);
    t.true(moved.length < 0.05 * 4093);
  }
  t.is(new Set(calicoRing(['10.0.0.1:80'], 251).slots).size, 1);
  t.throws(() => calicoRing([], 251), { message: /without endpoints/ });
});

test("Calico's packets select the slots of a C program with the macros of jenkins_hash.h", (t) => {
  const [source, destination] = [parseIpv4('1.1.1.1')!, parseIpv4('172.16.1.1')!];
  t.is(calicoIndex(source, 1234, destination, 5678, TCP, 31), 9);
  t.is(calicoIndex(source, 1234, destination, 5678, TCP, 65_521), 39_222);
});
