import test from 'ava';
import fc from 'fast-check';
import {
  ACK,
  CONNTRACK_DEFAULTS,
  ConntrackTable,
  FIN,
  Host,
  INVALID_PACKET,
  Link,
  ORIGINAL,
  Packet,
  REOPENED,
  REPLY,
  RST,
  SYN,
  Streams,
  TCP_STATE_NAMES,
  UDP,
  contains,
  formatCidr,
  formatIpv4,
  jhash,
  jhash1,
  jhash2,
  jhash3,
  parseCidr,
  parseIpv4,
  sizeOf,
  swap16,
  swap32,
} from '../src/index.ts';

const S = 1_000_000_000;
const CLIENT = parseIpv4('10.244.1.7')!;
const VIP = parseIpv4('10.96.0.10')!;
const POD = parseIpv4('10.244.2.9')!;
const NODE = parseIpv4('172.18.0.2')!;

function packet(
  source: number,
  sourcePort: number,
  destination: number,
  destinationPort: number,
  flags = SYN,
): Packet {
  return Object.assign(new Packet(), { source, sourcePort, destination, destinationPort, flags });
}

function table(options: Partial<typeof CONNTRACK_DEFAULTS> = {}): ConntrackTable {
  return new ConntrackTable(new Streams('0').stream('conntrack.key'), { ...CONNTRACK_DEFAULTS, ...options });
}

/** Open a connection CLIENT → VIP translated to POD; returns the entry. */
function open(conntrack: ConntrackTable, syn: Packet, nowNs: number): number {
  const entry = conntrack.allocate(syn, nowNs);
  if (entry < 0) return entry;
  conntrack.track(entry, ORIGINAL, syn, nowNs);
  conntrack.translateDestination(entry, POD, 8080);
  return conntrack.confirm(entry) ? entry : -1;
}

test('addresses and networks are parsed strictly and printed back', (t) => {
  t.is(parseIpv4('10.0.0.1'), 0x0a000001);
  t.is(formatIpv4(0xffffffff), '255.255.255.255');
  for (const text of [
    '',
    '10.0.0',
    '10.0.0.256',
    '10.0.0.01',
    ' 10.0.0.1',
    '10.0.0.1.1',
    '-1.0.0.0',
    '1e1.0.0.0',
  ]) {
    t.is(parseIpv4(text), undefined, text);
  }
  t.deepEqual(parseCidr('10.1.2.3/8'), { address: 0x0a000000, prefix: 8 });
  for (const text of ['10.0.0.0', '10.0.0.0/33', '10.0.0.0/-1', '10.0.0.0/8x'])
    t.is(parseCidr(text), undefined, text);
  t.is(formatCidr(parseCidr('0.0.0.0/0')!), '0.0.0.0/0');
  t.true(contains(parseCidr('0.0.0.0/0')!, 0xffffffff));
  t.false(contains(parseCidr('10.96.0.0/12')!, parseIpv4('10.112.0.0')!));
  t.deepEqual(
    [sizeOf(parseCidr('1.2.3.4/32')!), sizeOf(parseCidr('0.0.0.0/0')!), sizeOf(parseCidr('10.0.0.0/8')!)],
    [1, 2 ** 32, 2 ** 24],
  );
  t.notThrows(() =>
    fc.assert(fc.property(fc.nat(0xffffffff), (address) => parseIpv4(formatIpv4(address)) === address)),
  );
});

test('jhash gives the vectors of the kernel header', (t) => {
  // Computed with include/linux/jhash.h compiled as C.
  t.is(jhash1(0x0100000a, 0), 0x2fa5f781);
  t.is(jhash1(0xdeadbeef, 0xcafebabe), 0xd8f1cea2);
  t.is(jhash1(0x00004000, 0xffffffff), 0x6a790800);
  t.is(jhash2(0x0100000a, 0x00005000, 0), 0x69273068);
  t.is(jhash2(0xdeadbeef, 0xcafebabe, 0x8badf00d), 0xac6640da);
  t.is(jhash3(0x0100000a, 0x00005000, 6, 0), 0x6ee1f151);
  t.is(jhash3(0x80000000, 0x7fffffff, 1, 0x2a), 0xb923a5c8);
  const bytes = new TextEncoder().encode('0123456789abcdefghijklmnopqrstuvwxyzABCD');
  for (const [length, seed, wanted] of [
    [0, 0, 0xdeadbeef],
    [1, 0x12345678, 0xa88cfe19],
    [2, 0, 0xbf5e6821],
    [7, 0, 0x483ba4f5],
    [11, 0, 0x505572af],
    [12, 0x12345678, 0x5e940106],
    [13, 0, 0x7351ce56],
    [20, 0, 0x09d7e729],
    [25, 0, 0xb32c1b61],
    [36, 0x12345678, 0x7b823dd3],
    [37, 0, 0x6ed4340f],
    [40, 0x12345678, 0xf9e2e146],
  ] as const) {
    const padded = new Uint8Array(48);
    padded.set(bytes.subarray(0, length));
    t.is(jhash(new Uint32Array(padded.buffer), length, seed), wanted, `${length} bytes`);
  }
  t.is(swap32(parseIpv4('10.0.0.1')!), 0x0100000a);
  t.is(swap16(80), 0x5000);
});

test('a connection goes through the states and timeouts of nf_conntrack', (t) => {
  const conntrack = table();
  const request = packet(CLIENT, 40000, VIP, 80);
  const reply = packet(POD, 8080, CLIENT, 40000);
  const entry = open(conntrack, request, 0);
  const seen: [string, number][] = [];
  const pass = (p: Packet, flags: number, nowNs: number): void => {
    p.flags = flags;
    const node = conntrack.find(p, nowNs);
    t.is(node >> 1, entry);
    t.is(node & 1, p === request ? ORIGINAL : REPLY);
    conntrack.track(entry, node & 1, p, nowNs);
    seen.push([TCP_STATE_NAMES[conntrack.state(entry)]!, (conntrack.deadlineNs(entry) - nowNs) / S]);
  };
  t.deepEqual([conntrack.source(entry * 2 + 1), conntrack.sourcePort(entry * 2 + 1)], [POD, 8080]);
  pass(reply, SYN | ACK, 1);
  t.false(conntrack.assured(entry));
  pass(request, ACK, 2);
  t.true(conntrack.assured(entry));
  pass(request, FIN | ACK, 3);
  pass(reply, ACK, 4);
  pass(reply, FIN | ACK, 5);
  pass(request, ACK, 6);
  t.deepEqual(seen, [
    ['SYN_RECV', 60],
    ['ESTABLISHED', 86400],
    ['FIN_WAIT', 120],
    ['CLOSE_WAIT', 3600],
    ['LAST_ACK', 30],
    ['TIME_WAIT', 120],
  ]);
  request.flags = SYN;
  t.is(conntrack.track(entry, ORIGINAL, request, 7 * S), REOPENED);
  t.is(conntrack.find(request, 7 * S), -1);
  t.is(conntrack.count, 0);
});

test('a connection refused by a reset leaves no entry, and a stray reply opens none', (t) => {
  const conntrack = table();
  const request = packet(CLIENT, 40000, VIP, 80);
  const entry = open(conntrack, request, 0);
  conntrack.track(entry, REPLY, packet(POD, 8080, CLIENT, 40000, RST | ACK), 1);
  t.deepEqual([conntrack.count, conntrack.find(request, 2)], [0, -1]);
  const stray = packet(POD, 8080, CLIENT, 40000, SYN | ACK);
  const unconfirmed = conntrack.allocate(stray, 3);
  t.is(conntrack.track(unconfirmed, ORIGINAL, stray, 3), INVALID_PACKET);
});

test('UDP lives 30 s, and 120 s once traffic went both ways for more than 2 s', (t) => {
  const conntrack = table();
  const request = Object.assign(packet(CLIENT, 40000, VIP, 53, 0), { protocol: UDP });
  const reply = Object.assign(packet(POD, 8080, CLIENT, 40000, 0), { protocol: UDP });
  const entry = open(conntrack, request, 0);
  t.is(conntrack.deadlineNs(entry), 30 * S);
  conntrack.track(entry, REPLY, reply, 1 * S);
  t.is(conntrack.deadlineNs(entry), 31 * S);
  t.false(conntrack.assured(entry));
  conntrack.track(entry, ORIGINAL, request, 2 * S + 1);
  t.is(conntrack.deadlineNs(entry), 122 * S + 1);
  t.true(conntrack.assured(entry));
  t.is(conntrack.find(request, 122 * S + 1), -1, 'expired at the deadline');
  t.is(conntrack.count, 0);
});

test('a full table drops new connections unless a bucket nearby holds one that is not assured', (t) => {
  const full = table({ buckets: 4, max: 8 });
  let refused = 0;
  for (let port = 1; port <= 20; port++) if (open(full, packet(CLIENT, port, VIP, 80), 0) < 0) refused++;
  t.is(refused, 0, 'with 4 buckets, 8 consecutive ones are the whole table: a victim is always found');
  t.true(full.earlyDrops > 0);
  t.true(full.peak <= 8 + 1);

  const assured = table({ buckets: 4, max: 8 });
  for (let port = 1; port <= 20; port++) {
    const syn = packet(CLIENT, port, VIP, 80);
    const entry = open(assured, syn, 0);
    if (entry < 0) continue;
    assured.track(entry, REPLY, packet(POD, 8080, CLIENT, port, SYN | ACK), 1);
    syn.flags = ACK;
    assured.track(entry, ORIGINAL, syn, 2);
  }
  t.deepEqual([assured.count, assured.drops, assured.earlyDrops], [8, 12, 0]);
});

test('masquerade keeps reply tuples unique and gives up when every port it tries is taken', (t) => {
  const conntrack = table();
  const ports = new Streams('0').stream('ports');
  const used = new Set<number>();
  for (let i = 0; i < 3000; i++) {
    const entry = conntrack.allocate(packet(CLIENT + (i >> 8), 1024 + i, VIP, 80), 0);
    conntrack.translateDestination(entry, POD, 8080);
    conntrack.masquerade(entry, NODE, true, ports);
    t.true(conntrack.confirm(entry));
    t.is(conntrack.destination(entry * 2 + 1), NODE);
    used.add(conntrack.destinationPort(entry * 2 + 1));
  }
  t.is(used.size, 3000);
  t.true(Math.min(...used) >= 1024);

  const low = table();
  let failed = 0;
  for (let i = 0; i < 600; i++) {
    // Ports below 512 are remapped to 1 … 511 only.
    const entry = low.allocate(packet(CLIENT + i, 100, VIP, 80), 0);
    low.translateDestination(entry, POD, 8080);
    low.masquerade(entry, NODE, true, ports);
    if (!low.confirm(entry)) failed++;
  }
  t.true(failed >= 600 - 511);
  t.is(low.count, 600 - failed);
});

test('the table finds what a plain map finds, whatever is opened, removed and expired', (t) => {
  const action = fc.record({
    op: fc.constantFrom('open', 'find', 'remove', 'wait'),
    client: fc.nat(7),
    port: fc.nat(3),
  });
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.array(action, { maxLength: 80 }), (actions) => {
        const conntrack = table({ buckets: 2 });
        const naive = new Map<string, { entry: number; deadline: number }>();
        let nowNs = 0;
        for (const { op, client, port } of actions) {
          const p = packet(CLIENT + client, 1000 + port, VIP, 80);
          const key = `${client}:${port}`;
          const known = naive.get(key);
          const alive = known !== undefined && known.deadline > nowNs;
          const node = conntrack.find(p, nowNs);
          if (alive ? node !== known.entry * 2 : node !== -1) return false;
          if (op === 'open' && node < 0) {
            const entry = conntrack.allocate(p, nowNs);
            conntrack.track(entry, ORIGINAL, p, nowNs);
            conntrack.translateDestination(entry, POD + client * 4 + port, 8080);
            if (!conntrack.confirm(entry)) return false;
            naive.set(key, { entry, deadline: nowNs + 120 * S });
          } else if (op === 'remove' && node >= 0) {
            conntrack.remove(node >> 1);
            naive.delete(key);
          } else if (op === 'wait') {
            nowNs += 50 * S;
          }
        }
        conntrack.expire(nowNs);
        return conntrack.count === [...naive.values()].filter(({ deadline }) => deadline > nowNs).length;
      }),
      { seed: 42, numRuns: 500 },
    ),
  );
});

test('a core works off its packets in order, and drops beyond its backlog', (t) => {
  const host = new Host(1, { cores: 2, backlog: 2 });
  const core = host.coreOf(packet(CLIENT, 40000, VIP, 80));
  t.is(host.coreOf(packet(CLIENT, 40000, VIP, 80)), core);
  const done = [0, 1, 2].map((nowNs) => (host.admits(core, nowNs) ? host.process(core, nowNs, 100) : -1));
  t.deepEqual(done, [100, 200, 300]);
  t.false(host.admits(core, 3), 'one in work and two waiting');
  t.is(host.drops, 1);
  t.true(host.admits(core, 100), 'the first is done');
  t.is(host.process(core, 1000, 50), 1050, 'idle since 300');
  t.is(host.busyNs[core], 350);
});

test('flows spread over cores evenly', (t) => {
  const host = new Host(7, { cores: 4, backlog: 1 });
  const seen = [0, 0, 0, 0];
  for (let i = 0; i < 40_000; i++) seen[host.coreOf(packet(CLIENT + (i % 100), 32768 + i, VIP, 80))]! += 1;
  for (const count of seen) t.true(Math.abs(count - 10_000) < 400, String(seen));
});

test('a link delays by whole nanoseconds', (t) => {
  const link = new Link(50_000);
  t.is(link.carry(7), 50_007);
  t.is(link.packets, 1);
  t.throws(() => new Link(0.5));
  t.throws(() => new Link(-1));
});
