import test from 'ava';
import fc from 'fast-check';
import {
  ACK,
  CONNTRACK_DEFAULTS,
  FIN,
  FROM_HOST,
  IPV4,
  Ipv6Family,
  Packet,
  RST,
  SYN,
  Streams,
  TCP,
  UDP,
  parseIpv4,
} from '@vipsim/sim-core';
import { AddressHashes } from '../src/ipvs/address-hashes.ts';
import { ConnectionTimers } from '../src/ipvs/connection-timers.ts';
import { CONNECTION_STATES, IN, OUT, isActive } from '../src/ipvs/connection-states.ts';
import { ASSURED, Connections, TEMPLATE } from '../src/ipvs/connections.ts';
import { kernelOptions, type DirectorOptions, type ServiceSettings } from '../src/ipvs/director-options.ts';
import { DROPPED, Director, FOUND, OPENED, PASS, REFUSED } from '../src/ipvs/director.ts';
import { ipvs, ipvsOptions } from '../src/ipvs/mode.ts';
import { IPVS_OPERATIONS } from '../src/ipvs/operations.ts';
import type { IpvsProxier } from '../src/ipvs/proxier.ts';
import { FILTER_TABLE, filterTableOf } from '../src/ipvs/rules.ts';
import { Jiffies, wheelExpiry, wheelLevel } from '../src/ipvs/timer-wheel.ts';
import { VirtualServers, growingBuckets, markBucket, serviceBucket } from '../src/ipvs/virtual-servers.ts';
import { EndpointsMap } from '../src/kubernetes/endpoints-map.ts';
import { SYNTHETIC_DEFAULTS, syntheticCluster } from '../src/kubernetes/synthetic.ts';
import { DROP, FORWARD, Verdict, defaultsOf } from '../src/proxier.ts';

const SECOND = 1_000_000_000;
const ip = (text: string): number => parseIpv4(text)!;
const VIP = ip('10.96.0.1');

/** A director with clients that come from 10.2.0.0/16 and servers 10.1.0.i:8080, at 100 ticks a second. */
class Bench {
  readonly director: Director;
  readonly counts = new Float64Array(IPVS_OPERATIONS.length);
  readonly packet = new Packet();
  nowNs = 0;

  constructor(options: Partial<DirectorOptions> = {}) {
    this.director = new Director({
      scheduler: 'rr',
      connTabBits: 12,
      seed: 1,
      expireNodest: false,
      reuseMode: 1,
      hz: 100,
      jiffies: 0,
      ...options,
    });
  }

  service(settings: ServiceSettings = {}, port = 80, protocol = TCP, servers = 3, serverPort = 8080): number {
    const service = this.director.addService(protocol, VIP, port, settings);
    for (let i = 1; i <= servers; i++) this.director.addServer(service, ip('10.1.0.0') + i, serverPort, 1, i);
    return service;
  }

  /** One packet of a client; what becomes of it: the last octet and port of its server, or the outcome. */
  send(client: string, port: number, flags: number, vport = 80, protocol = TCP, vip = VIP): string {
    const { director, packet } = this;
    packet.source = ip(client);
    packet.sourcePort = port;
    packet.destination = vip;
    packet.destinationPort = vport;
    packet.protocol = protocol;
    packet.flags = flags;
    director.sweep(this.nowNs);
    director.settle(this.counts);
    const outcome = director.request(director.seek(packet), packet, false, this.nowNs, this.counts);
    if (outcome === FOUND || outcome === OPENED) {
      return `${director.servers.address[director.server]! & 255}:${director.serverPort}`;
    }
    return outcome === PASS ? 'pass' : outcome === REFUSED ? 'refused' : 'dropped';
  }

  /** A connection up to ESTABLISHED; the entry is the director's last. */
  open(client: string, port: number, vport = 80): string {
    const end = this.send(client, port, SYN, vport);
    if (!end.includes(':')) return end;
    const { connection } = this.director;
    this.director.advance(connection, OUT, SYN | ACK, this.nowNs, this.counts);
    this.director.advance(connection, IN, ACK, this.nowNs, this.counts);
    return end;
  }

  close(client: string, port: number, vport = 80): void {
    this.send(client, port, FIN | ACK, vport);
    this.director.advance(this.director.connection, OUT, FIN | ACK, this.nowNs, this.counts);
    this.send(client, port, ACK, vport);
  }

  wait(seconds: number): void {
    this.nowNs += seconds * SECOND;
    this.director.sweep(this.nowNs);
    this.director.expire(this.nowNs, this.counts);
  }

  server(id: number, service = 0, port = 8080): number {
    return this.director.servers.find(service, ip('10.1.0.0') + id, port);
  }

  /** Active and inactive connections of a server. */
  load(id: number): string {
    const { active, inactive } = this.director.servers;
    const server = this.server(id);
    return `${active[server]!}/${inactive[server]!}`;
  }

  count(name: (typeof IPVS_OPERATIONS)[number]): number {
    return this.counts[IPVS_OPERATIONS.indexOf(name)]!;
  }
}

// ── Hashes ──────────────────────────────────────────────────────────────────────────────────────────────────

test('service buckets take the constant of the network namespace, and marks have buckets of their own', (t) => {
  t.is(serviceBucket(TCP, ip('10.96.0.1'), 443), 189);
  t.is(serviceBucket(TCP, ip('10.96.0.1'), 443, 0xabcdef), 82);
  for (const [mark, bucket] of [
    [1, 1],
    [0x4000, 0],
    [255, 255],
    [256, 0],
  ] as const) {
    t.is(markBucket(mark), bucket);
  }
  t.is(markBucket(0x12345678, 0xabcdef), 151);
});

test('an IPv6 client is hashed by jhash over its 16 bytes, a virtual server by its words xored', (t) => {
  const family = new Ipv6Family();
  // The bytes "0123456789abcdef", whose jhash with this seed is known.
  const address = family.parse('3031:3233:3435:3637:3839:6162:6364:6566')!;
  t.is(new AddressHashes(family, 0x12345678).word(address), 0xd7d710c1);
  const hashes = new AddressHashes(family, 7);
  const vip = family.parse('fd00:96::1')!;
  t.is(hashes.fold(vip), (0xfd000096 ^ 0 ^ 0 ^ 1) >>> 0);
  const services = new VirtualServers(hashes);
  services.add(TCP, vip, 80, 0);
  t.is(services.bucketFor(TCP, vip, 80), (6 ^ 0x97 ^ 80) & 255);
  t.is(services.find(TCP, vip, 80), 0);
  t.is(services.find(TCP, family.parse('fd00:96::2')!, 80), -1);
});

test('a connection table of IPv6 addresses finds in both directions what was put into it', (t) => {
  const family = new Ipv6Family();
  const table = new Connections(8, 99, new AddressHashes(family, 99));
  const vip = family.parse('fd00:96::1')!;
  for (let i = 1; i <= 300; i++) {
    const row = table.add(family.parse(`fd02::${i.toString(16)}`)!, 40_000 + i, vip, 80, TCP);
    table.real[row] = family.parse('fd01::1')!;
    table.realPort[row] = 8080;
    table.server[row] = 0;
  }
  for (let i = 1; i <= 300; i++) {
    const client = family.parse(`fd02::${i.toString(16)}`)!;
    t.is(table.findIn(client, 40_000 + i, vip, 80, TCP), i - 1);
    t.is(table.findOut(client, 40_000 + i, family.parse('fd01::1')!, 8080, TCP), i - 1);
  }
});

test('the growing table of Linux 7.1 has eight buckets or more for each service, and finds what the fixed one finds', (t) => {
  // roundup_pow2(n) << 3, at least 16, at most 2^20; kept while more than a sixteenth; else twice what is wanted.
  t.deepEqual(
    [
      [16, 2],
      [16, 3],
      [32, 5],
      [1024, 9],
      [1024, 8],
      [1024, 0],
      [16, 1_000_000],
    ].map(([size, services]) => growingBuckets(size!, services!)),
    [16, 32, 64, 1024, 128, 32, 1_048_576],
  );
  const step = fc.record({ add: fc.boolean(), host: fc.nat(400), port: fc.constantFrom(0, 21, 80, 443) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), fc.integer(), (steps, key) => {
      const tables = [new VirtualServers(), new VirtualServers(undefined, 'growing', key)];
      for (const { add, host, port } of steps) {
        const rows = tables.map((table) => {
          const at = table.find(TCP, VIP + host, port);
          if (add && at < 0) return table.add(TCP, VIP + host, port, 0);
          if (!add && at >= 0) table.remove(at);
          return at;
        });
        if (rows[0] !== rows[1] || tables[0]!.count !== tables[1]!.count) return false;
        if (tables[0]!.lookup(0, TCP, VIP + host, 2000) !== tables[1]!.lookup(0, TCP, VIP + host, 2000))
          return false;
      }
      return true;
    }),
    { seed: 42, numRuns: 200 },
  );
  for (const services of [1000, 10_000, 100_000]) {
    const [fixed, growing] = [new VirtualServers(), new VirtualServers(undefined, 'growing', 7)];
    for (let i = 0; i < services; i++) for (const table of [fixed, growing]) table.add(TCP, VIP + i, 80, 0);
    growing.probes = 0;
    fixed.probes = 0;
    for (let i = 0; i < services; i += 97) for (const table of [fixed, growing]) table.find(TCP, VIP + i, 80);
    const lookups = Math.ceil(services / 97);
    t.true(growing.probes / lookups < 1.2, `${growing.probes / lookups} probes with ${services}`);
    t.true(fixed.probes / lookups > services / 600);
  }
});

test('a virtual server is sought by mark, by address and port, by the port of FTP, by port 0, in this order', (t) => {
  const services = new VirtualServers();
  const exact = services.add(TCP, VIP, 8080, 0);
  const ftp = services.add(TCP, VIP, 21, 0);
  const any = services.add(TCP, VIP, 0, 300);
  const marked = services.addMark(7, 0);
  const lookups = (mark: number, port: number): [number, number] => {
    services.lookups = 0;
    return [services.lookup(mark, TCP, VIP, port), services.lookups];
  };
  t.deepEqual(lookups(7, 8080), [marked, 1]);
  t.deepEqual(lookups(0, 8080), [exact, 1]);
  t.deepEqual(lookups(8, 8080), [exact, 2]);
  t.deepEqual(lookups(0, 20), [ftp, 2]);
  t.deepEqual(lookups(0, 1024), [ftp, 2]);
  t.deepEqual(lookups(0, 1023), [any, 2]);
  t.is(services.lookup(0, UDP, VIP, 5353), -1);
  services.remove(ftp);
  t.deepEqual(lookups(0, 1024), [any, 2]);
  services.remove(any);
  t.deepEqual(lookups(0, 1024), [-1, 1]);
  services.remove(marked);
  t.is(services.findMark(7), -1);
  t.deepEqual([services.count, services.rows], [1, 4]);
});

// ── Timers ──────────────────────────────────────────────────────────────────────────────────────────────────

test('timers of 41 s to 322 s run in slots of 5.12 s at 100 ticks a second, longer ones in slots of 41 s', (t) => {
  for (const [ticks, level] of [
    [0, 0],
    [62, 0],
    [63, 1],
    [503, 1],
    [504, 2],
    [4031, 2],
    [4032, 3],
    [32_255, 3],
    [32_256, 4],
    [258_047, 4],
    [258_048, 5],
  ] as const) {
    t.is(wheelLevel(ticks), level, `${ticks}`);
  }
  t.is(wheelExpiry(12_000, wheelLevel(12_000)), 12_288);
  t.is(wheelExpiry(12_288, wheelLevel(12_000)), 12_288 + 512);
  t.is(wheelExpiry(90_000, wheelLevel(90_000)), 90_112);
  t.is(wheelExpiry(5, 0), 6);
  // 64-bit jiffies begin 300 s before 2^32.
  t.is(new Jiffies(100).at(0), 4_294_937_296);
  t.is(new Jiffies(250, 0).at(SECOND - 1), 249);
});

/** The kernel's wheel itself: levels of 64 slots with lists, run tick by tick. */
class LiteralWheel {
  readonly slots = new Map<string, number[]>();
  readonly place = new Map<number, string>();

  start(timer: number, now: number, ticks: number): void {
    const expires = now + ticks;
    let level = 0;
    while (ticks >= 63 * 8 ** level && level < 8) level++;
    const slot = Math.floor(expires / 8 ** level) + 1;
    const name = `${level} ${slot % 64}`;
    if (this.place.get(timer) === name) return;
    this.stop(timer);
    this.place.set(timer, name);
    this.slots.set(name, [timer, ...(this.slots.get(name) ?? [])]);
  }

  stop(timer: number): void {
    const name = this.place.get(timer);
    if (name === undefined) return;
    this.place.delete(timer);
    this.slots.set(
      name,
      this.slots.get(name)!.filter((other) => other !== timer),
    );
  }

  /** Timers that run at this tick, in order. */
  run(tick: number): number[] {
    const lists: number[][] = [];
    for (let level = 0; level < 9 && tick % 8 ** level === 0; level++) {
      const name = `${level} ${(tick / 8 ** level) % 64}`;
      lists.unshift(this.slots.get(name) ?? []);
      this.slots.delete(name);
    }
    const ran = lists.flat();
    for (const timer of ran) this.place.delete(timer);
    return ran;
  }
}

test('timers run at the ticks and in the order in which a wheel run tick by tick runs them', (t) => {
  const action = fc.record({
    timer: fc.nat(7),
    ticks: fc.constantFrom(5, 62, 63, 500, 504, 1000, 3000, 4031, 6000),
    pause: fc.constantFrom(0, 0, 1, 7, 64, 600),
  });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 40 }), fc.nat(5000), (actions, first) => {
      const jiffies = new Jiffies(100, first);
      const connections = new Connections(8, 0);
      const timers = new ConnectionTimers(connections, jiffies);
      const wheel = new LiteralWheel();
      const running = new Set<number>();
      for (let i = 0; i < 8; i++) connections.server[connections.add(i, 1, 1, 1, TCP)] = -1;
      // Templates, so that the order matters.
      connections.flags.fill(TEMPLATE, 0, 8);
      let tick = first;
      const pass = (ticks: number): void => {
        for (const end = tick + ticks; tick < end;) {
          tick++;
          const ran = wheel.run(tick);
          const due = [...timers.due((tick - first) * jiffies.tickNs)];
          t.deepEqual(due, ran, `tick ${tick}`);
          for (const timer of ran) {
            running.delete(timer);
            connections.server[timer] = -1;
            timers.stop(timer);
          }
        }
      };
      for (const { timer, ticks, pause } of actions) {
        connections.server[timer] = 0;
        connections.timeout[timer] = ticks;
        wheel.start(timer, tick, ticks);
        timers.start(timer, (tick - first) * jiffies.tickNs);
        running.add(timer);
        pass(pause);
      }
      pass(7000);
      t.is(running.size, 0);
    }),
    { seed: 42, numRuns: 30 },
  );
});

test('an entry outlives its timeout by the slot of its timer, and a packet meanwhile revives it', (t) => {
  const bench = new Bench();
  bench.service({}, 53, UDP);
  t.is(bench.send('10.2.0.1', 1000, 0, 53, UDP), '3:8080');
  // 30,000 ticks: its slot ends at 30,208.
  bench.wait(302);
  t.is(bench.director.connections.count, 1);
  t.is(bench.send('10.2.0.1', 1000, 0, 53, UDP), '3:8080');
  bench.wait(300);
  t.is(bench.director.connections.count, 1);
  bench.wait(5.2);
  t.is(bench.director.connections.count, 0);
  t.is(bench.load(3), '0/0');
});

test('ipvsadm --set changes how long entries live from their next packet on', (t) => {
  const bench = new Bench();
  bench.service();
  bench.open('10.2.0.1', 1);
  bench.open('10.2.0.2', 2);
  bench.director.setTimeouts({ tcpS: 30, tcpFinS: 0, udpS: 5 });
  t.is(bench.director.connections.deadlineNs[0], 900 * SECOND);
  bench.send('10.2.0.1', 1, ACK);
  t.is(bench.director.connections.deadlineNs[0], 30 * SECOND);
  bench.wait(31);
  t.is(bench.director.connections.count, 1);
});

// ── Persistence ─────────────────────────────────────────────────────────────────────────────────────────────

const octet = (address: number): string => `${(address >>> 8) & 255}.${address & 255}`;

/** Templates as `client virtual:port → real:port held`. */
function templatesOf({ director }: Bench): string[] {
  const { connections } = director;
  const lines: string[] = [];
  for (let at = 0; at < connections.rows; at++) {
    if (connections.server[at]! < 0 || (connections.flags[at]! & TEMPLATE) === 0) continue;
    const { client, virtual, virtualPort, real, realPort, protocol, controlled } = connections;
    lines.push(
      `${protocol[at]!} ${octet(client[at]!)} ${octet(virtual[at]!)}:${virtualPort[at]!} ${octet(real[at]!)}:${realPort[at]!} ${controlled[at]!}`,
    );
  }
  return lines.sort();
}

test('a client of a persistent virtual server keeps its server; other ports and other clients have their own', (t) => {
  const bench = new Bench();
  bench.service({ persistenceS: 300 });
  bench.service({ persistenceS: 300 }, 443);
  t.is(bench.open('10.2.0.1', 1), '3:8080');
  t.is(bench.open('10.2.0.2', 2), '2:8080');
  t.is(bench.open('10.2.0.1', 3), '3:8080');
  t.is(bench.open('10.2.0.1', 4, 443), '3:8080');
  t.is(bench.open('10.2.0.3', 5, 443), '2:8080');
  t.is(bench.open('10.2.0.3', 6), '1:8080');
  t.deepEqual(templatesOf(bench), [
    '6 0.1 0.1:443 0.3:8080 1',
    '6 0.1 0.1:80 0.3:8080 2',
    '6 0.2 0.1:80 0.2:8080 1',
    '6 0.3 0.1:443 0.2:8080 1',
    '6 0.3 0.1:80 0.1:8080 1',
  ]);
  // Templates count as templates only.
  t.is(bench.load(3), '2/0');
  t.is(bench.director.templates.perServer[bench.server(3)], 1);
  t.is(bench.count('ipvs.create'), 6 + 5);
  t.is(bench.count('ipvs.schedule'), 5);
});

test('a template is for the clients of one netmask; on port 0 and by mark it is for all ports', (t) => {
  const masked = new Bench();
  masked.service({ persistenceS: 300, netmask: 0xffffff00 });
  t.deepEqual(
    ['10.2.1.1', '10.2.1.200', '10.2.2.1', '10.2.1.7'].map((client, i) => masked.open(client, 100 + i)),
    ['3:8080', '3:8080', '2:8080', '3:8080'],
  );
  t.deepEqual(templatesOf(masked), ['6 1.0 0.1:80 0.3:8080 3', '6 2.0 0.1:80 0.2:8080 1']);
  const any = new Bench();
  any.service({ persistenceS: 300 }, 0, TCP, 3, 0);
  t.deepEqual([any.open('10.2.0.1', 1, 80), any.open('10.2.0.1', 2, 443)], ['3:80', '3:443']);
  t.deepEqual(templatesOf(any), ['6 0.1 0.1:0 0.3:0 2']);
  const marked = new Bench();
  const service = marked.director.addMarkService(9, { persistenceS: 300 });
  for (let i = 1; i <= 3; i++) marked.director.addServer(service, ip('10.1.0.0') + i, 8080, 1, i);
  marked.director.mark = 9;
  // A service by mark leaves the port as it is.
  t.deepEqual([marked.open('10.2.0.1', 1, 80), marked.open('10.2.0.1', 2, 443)], ['3:80', '3:443']);
  t.deepEqual(templatesOf(marked), ['0 0.1 0.9:0 0.3:0 2']);
});

test('a template that runs out while a connection holds it stays 60 s more, and keeps that as its timeout', (t) => {
  const bench = new Bench();
  bench.service({ persistenceS: 300 });
  bench.open('10.2.0.1', 1);
  const template = bench.director.connections.control[bench.director.connection]!;
  t.is(bench.director.connections.flags[template]! & ASSURED, ASSURED);
  bench.wait(302.1);
  // It ran at 302.08 s, the end of its slot.
  t.is(bench.director.connections.deadlineNs[template], 362.08 * SECOND);
  bench.open('10.2.0.1', 2);
  t.is(bench.director.connections.deadlineNs[template], 362.1 * SECOND);
  bench.close('10.2.0.1', 2);
  bench.send('10.2.0.1', 1, RST);
  bench.wait(1000);
  t.is(bench.director.connections.count, 0);
  t.is(bench.director.templates.perServer[bench.server(3)], 0);
  t.is(bench.open('10.2.0.1', 3), '2:8080');
});

test('a template outlasts weight 0 unless templates of quiescent servers end, and never its server', (t) => {
  for (const [expireQuiescentTemplate, end] of [
    [false, '3:8080'],
    [true, '2:8080'],
  ] as const) {
    const bench = new Bench({ expireQuiescentTemplate });
    bench.service({ persistenceS: 300 });
    bench.open('10.2.0.1', 1);
    bench.director.setWeight(bench.server(3), 0);
    t.is(bench.open('10.2.0.1', 2), end);
  }
  const bench = new Bench();
  bench.service({ persistenceS: 300 });
  bench.open('10.2.0.1', 1);
  bench.open('10.2.0.2', 2);
  bench.director.removeServer(bench.server(3));
  t.is(bench.open('10.2.0.1', 3), '1:8080');
  // What it had is of no use, but stays until it runs out.
  t.deepEqual(templatesOf(bench), [
    '6 0.1 0.1:65535 0.3:65535 1',
    '6 0.1 0.1:80 0.1:8080 1',
    '6 0.2 0.1:80 0.2:8080 1',
  ]);
  // A client that stays away keeps a server that comes back meanwhile.
  bench.director.removeServer(bench.server(2));
  bench.director.addServer(0, ip('10.1.0.2'), 8080, 1, 2);
  t.is(bench.open('10.2.0.2', 4), '2:8080');
});

// ── Removed servers and closed connections ──────────────────────────────────────────────────────────────────

test('without expire_nodest_conn packets of a removed server are dropped; added back it has its counts', (t) => {
  const bench = new Bench();
  bench.service();
  t.is(bench.open('10.2.0.1', 1), '3:8080');
  bench.director.removeServer(bench.server(3));
  t.is(bench.send('10.2.0.1', 1, ACK), 'dropped');
  t.is(bench.send('10.2.0.1', 1, SYN), 'dropped');
  t.is(bench.director.connections.count, 1);
  bench.director.addServer(0, ip('10.1.0.3'), 8080, 5, 3);
  t.is(bench.load(3), '1/0');
  t.is(bench.director.servers.weight[bench.server(3)], 5);
  t.is(bench.send('10.2.0.1', 1, ACK), '3:8080');
  t.is(bench.director.trash.size, 0);
});

test('with expire_nodest_conn entries go with their server: UDP is scheduled anew, TCP is not ours any more', (t) => {
  const bench = new Bench({ expireNodest: true });
  bench.service();
  bench.service({}, 53, UDP);
  bench.open('10.2.0.1', 1);
  t.is(bench.send('10.2.0.1', 2, 0, 53, UDP), '3:8080');
  bench.director.removeServer(bench.server(3));
  bench.director.removeServer(bench.server(3, 1));
  t.is(bench.send('10.2.0.1', 1, ACK), 'pass');
  t.is(bench.send('10.2.0.1', 2, 0, 53, UDP), '2:8080');
  t.is(bench.director.connections.count, 1);
});

test('a removed server is freed by the second look that finds it idle for 120 s; templates count as use', (t) => {
  const bench = new Bench();
  bench.service({ persistenceS: 100 });
  bench.open('10.2.0.1', 1);
  bench.send('10.2.0.1', 1, RST);
  bench.director.removeServer(bench.server(3));
  // The connection goes after 10 s, the template after 100 s. Looks come every 61.44 s, at the end of slots.
  bench.wait(100);
  t.is(bench.director.trash.size, 1);
  // Seen idle at 122.88 s; at 184.32 s not for 120 s, at 245.76 s it is.
  bench.wait(145);
  t.is(bench.director.trash.size, 1);
  bench.wait(1);
  t.is(bench.director.trash.size, 0);
  t.is(bench.director.trash.dueNs, Infinity);
});

test('a SYN on a closed entry opens a new connection, by conn_reuse_mode and by what the entry is', (t) => {
  const cases: [string, 0 | 1 | 2, 'closed' | 'reset' | 'open', number, string][] = [
    ['mode 0 keeps the old server', 0, 'closed', 0, '3:8080'],
    ['mode 1 does not keep one in TIME_WAIT', 1, 'closed', 0, '2:8080'],
    ['mode 1 does not keep one in CLOSE', 1, 'reset', 0, '2:8080'],
    ['mode 1 keeps an open one', 1, 'open', 0, '3:8080'],
    ['mode 2 is mode 1 where packets of both sides pass', 2, 'closed', 0, '2:8080'],
    ['a connection of a template is kept', 1, 'closed', 300, '3:8080'],
  ];
  for (const [title, reuseMode, state, persistenceS, end] of cases) {
    const bench = new Bench({ reuseMode });
    bench.service({ persistenceS });
    bench.open('10.2.0.1', 1);
    if (state === 'closed') bench.close('10.2.0.1', 1);
    if (state === 'reset') bench.send('10.2.0.1', 1, RST);
    t.is(bench.open('10.2.0.1', 1), end, title);
  }
  const drained = new Bench({ reuseMode: 0, expireNodest: true });
  drained.service();
  drained.open('10.2.0.1', 1);
  drained.close('10.2.0.1', 1);
  drained.director.setWeight(drained.server(3), 0);
  t.is(drained.send('10.2.0.1', 1, ACK), '3:8080', 'weight 0 disturbs nobody but a SYN');
  t.is(drained.open('10.2.0.1', 1), '2:8080');
});

test('an entry that a new connection replaces is found and counted until the next tick', (t) => {
  const bench = new Bench();
  bench.service();
  bench.open('10.2.0.1', 1);
  bench.close('10.2.0.1', 1);
  t.is(bench.open('10.2.0.1', 1), '2:8080');
  t.deepEqual([bench.director.connections.count, bench.load(3), bench.load(2)], [2, '0/1', '1/0']);
  t.is(bench.send('10.2.0.1', 1, ACK), '2:8080');
  bench.wait(0.02);
  t.deepEqual([bench.director.connections.count, bench.load(3), bench.load(2)], [1, '0/0', '1/0']);
});

test('thresholds keep new connections away by the rule of the kernel version, templates go there all the same', (t) => {
  t.like(kernelOptions('6.1.176 uml'), { loadFormula: 256, overloadRule: 'by-connection' });
  t.like(kernelOptions('6.1.192-umlnet uml'), { loadFormula: 257, overloadRule: 'by-edit-too' });
  t.like(kernelOptions('6.12.117'), { loadFormula: 257, overloadRule: 'by-edit-too' });
  t.like(kernelOptions('6.12.100'), {
    loadFormula: 256,
    overloadRule: 'by-connection',
    serviceTable: 'fixed',
  });
  t.like(kernelOptions('v7.1'), { loadFormula: 257, serviceTable: 'growing' });
  // Two connections reach an upper threshold of 2 when it is set, or when the next one comes.
  for (const [kernel, more] of [
    ['6.1.176', 1],
    ['6.1.192', 0],
  ] as const) {
    const bench = new Bench(kernelOptions(kernel));
    bench.service({}, 80, TCP, 0);
    bench.director.addServer(0, ip('10.1.0.2'), 8080, 1, 2);
    bench.director.addServer(0, ip('10.1.0.3'), 8080, 1, 3);
    for (let i = 0; i < 4; i++) bench.open('10.2.0.9', 100 + i);
    bench.director.editServer(bench.server(3), { weight: 1, upper: 2, lower: 1 });
    const ends = Array.from({ length: 6 }, (_, i) => bench.open('10.2.0.1', 1 + i));
    t.is(ends.filter((end) => end === '3:8080').length, more, kernel);
  }
  const bench = new Bench();
  bench.service({ persistenceS: 300 });
  bench.open('10.2.0.1', 1);
  bench.director.editServer(bench.server(3), { weight: 1, upper: 1 });
  t.is(bench.open('10.2.0.1', 2), '3:8080');
  t.not(bench.open('10.2.0.2', 3), '3:8080');
});

test('one-packet scheduling leaves no entry and no count', (t) => {
  const bench = new Bench();
  bench.service({ onePacket: true, scheduler: 'wrr' }, 53, UDP);
  t.deepEqual(
    Array.from({ length: 4 }, () => bench.send('10.2.0.1', 1, 0, 53, UDP)),
    ['3:8080', '2:8080', '1:8080', '3:8080'],
  );
  t.is(bench.director.connections.count, 0);
  t.deepEqual(
    [1, 2, 3].map((id) => bench.load(id)),
    ['0/0', '0/0', '0/0'],
  );
});

test('another scheduler begins with the servers that there are; the same one goes on where it was', (t) => {
  const bench = new Bench();
  const service = bench.service();
  const picks = (times: number, from: number): string =>
    Array.from({ length: times }, (_, i) => bench.open('10.2.0.1', from + i).split(':')[0]).join(' ');
  t.is(picks(4, 1), '3 2 1 3');
  bench.director.editService(service, { scheduler: 'rr' });
  t.is(picks(2, 10), '2 1');
  bench.director.editService(service, { scheduler: 'sh' });
  t.is(new Set(picks(5, 20).split(' ')).size, 1);
  bench.director.editService(service, { scheduler: 'sh', port: true });
  t.true(new Set(picks(20, 30).split(' ')).size > 1);
  t.deepEqual(bench.director.schedulers.flags(service), { port: true, fallback: false });
  bench.director.editService(service, { scheduler: 'rr' });
  t.is(picks(3, 60), '3 2 1');
});

test('a virtual server that is removed takes its servers along; its connections stay until they run out', (t) => {
  const bench = new Bench();
  const service = bench.service();
  bench.open('10.2.0.1', 1);
  bench.director.removeService(service);
  t.deepEqual([bench.director.services.count, bench.director.servers.count], [0, 0]);
  t.is(bench.send('10.2.0.2', 2, SYN), 'pass');
  t.is(bench.send('10.2.0.1', 1, ACK), 'dropped');
  // Added anew, the same server is taken back with the connection that it still has.
  const anew = bench.director.addService(TCP, VIP, 80);
  bench.director.addServer(anew, ip('10.1.0.3'), 8080, 1, 3);
  t.is(bench.send('10.2.0.1', 1, ACK), '3:8080');
  t.is(bench.director.servers.active[bench.server(3, anew)], 1);
});

test('TCP is taken up without SYN where it is told to be sloppy, and drop_packet drops each so manieth opening', (t) => {
  const strict = new Bench();
  strict.service();
  t.is(strict.send('10.2.0.1', 1, ACK), 'pass');
  const sloppy = new Bench({ sloppyTcp: true });
  sloppy.service();
  t.is(sloppy.send('10.2.0.1', 1, ACK), '3:8080');
  t.is(sloppy.send('10.2.0.2', 1, RST), 'pass');
  const pressed = new Bench({ dropEach: 3 });
  pressed.service();
  t.deepEqual(
    Array.from({ length: 6 }, (_, i) => pressed.send('10.2.0.1', 1 + i, SYN)),
    ['3:8080', '2:8080', 'dropped', '1:8080', '3:8080', 'dropped'],
  );
  t.is(DROPPED, 4);
});

// ── drop_entry ──────────────────────────────────────────────────────────────────────────────────────────────

/** Draws each bucket in turn, so that 32 seconds look at all of them. */
function everyBucket(): { below(bound: number): number } {
  let next = 0;
  return { below: (bound) => next++ % bound };
}

test('drop_entry looks at a 32nd of the chains each second, at those that are drawn', (t) => {
  const drawn: number[] = [];
  const bench = new Bench({ connTabBits: 8, dropEntry: { below: (bound) => drawn.push(bound) % bound } });
  bench.service();
  bench.wait(3);
  t.deepEqual(
    drawn,
    Array.from({ length: 24 }, () => 256),
  );
  t.is(bench.count('ipvs.flush.step'), 24);
  bench.wait(0.5);
  bench.wait(0.25);
  t.is(drawn.length, 24);
  bench.wait(0.25);
  t.is(drawn.length, 32);
});

test('drop_entry takes half-open connections at once, and idle ones by how few packets they had', (t) => {
  const bench = new Bench({ connTabBits: 8, dropEntry: everyBucket() });
  bench.service();
  bench.service({}, 53, UDP);
  t.is(bench.send('10.2.0.1', 1, SYN), '3:8080');
  bench.open('10.2.0.2', 1);
  bench.close('10.2.0.2', 1);
  // SYN, ACK and data: in all 2 to 10 packets.
  for (let more = 0; more <= 8; more++) {
    bench.open('10.2.1.1', 100 + more);
    for (let i = 0; i < more; i++) bench.send('10.2.1.1', 100 + more, ACK);
  }
  for (let port = 1; port <= 4; port++) bench.send('10.2.2.1', port, 0, 53, UDP);
  const left = (client: string): number => {
    const { connections } = bench.director;
    return connections.client.filter((one, at) => one === ip(client) && connections.server[at]! >= 0).length;
  };
  const counts = (): number[] => ['10.2.0.1', '10.2.0.2', '10.2.1.1', '10.2.2.1'].map(left);
  t.deepEqual(counts(), [1, 1, 9, 4]);
  bench.wait(32);
  t.deepEqual(counts(), [0, 1, 9, 4]);
  bench.wait(27);
  t.deepEqual(counts(), [0, 1, 9, 4]);
  // Idle for 60 s: the first of each number from 1 to 8 goes, of 1 all. Of nine packets and more none.
  bench.wait(37);
  t.deepEqual(counts(), [0, 1, 2, 0]);
  t.is(bench.director.connections.count, 3);
  const loads = [1, 2, 3].flatMap((id) => bench.load(id).split('/').map(Number));
  t.is(
    loads.reduce((sum, load) => sum + load),
    3,
  );
});

test('of connections with n packets, 1 to 8, drop_entry takes the first and then each nth', (t) => {
  for (const packets of [1, 2, 3, 8]) {
    const bench = new Bench({ connTabBits: 8, dropEntry: everyBucket() });
    bench.service({}, 53, UDP);
    for (let port = 1; port <= 48; port++)
      for (let i = 0; i < packets; i++) bench.send('10.2.0.1', port, 0, 53, UDP);
    bench.wait(59);
    t.is(bench.director.connections.count, 48);
    bench.wait(32);
    t.is(bench.director.connections.count, 48 - Math.ceil(48 / packets), String(packets));
  }
});

test('drop_entry takes templates that no connection holds unless one was ever established', (t) => {
  const bench = new Bench({ connTabBits: 8, dropEntry: everyBucket() });
  bench.service({ persistenceS: 600 });
  bench.open('10.2.0.1', 1);
  bench.send('10.2.0.2', 1, SYN);
  t.is(bench.director.connections.count, 4);
  // The half-open connection takes its template along, with the next tick.
  bench.wait(32);
  bench.wait(0.01);
  const { connections } = bench.director;
  t.is(connections.count, 2);
  t.true(connections.client.every((client, at) => connections.server[at]! < 0 || client === ip('10.2.0.1')));
  // The established one goes after 60 s, its template stays.
  bench.wait(64);
  bench.wait(0.01);
  t.is(connections.count, 1);
});

test('drop_entry takes the template of a one-packet service by its datagrams, as it takes connections', (t) => {
  const bench = new Bench({ connTabBits: 8, dropEntry: everyBucket() });
  bench.service({ persistenceS: 600, onePacket: true }, 53, UDP);
  for (const [client, datagrams] of [1, 2, 2, 9].entries()) {
    for (let i = 0; i < datagrams; i++) bench.send(`10.2.0.${client}`, i, 0, 53, UDP);
  }
  t.is(bench.director.connections.count, 4);
  bench.wait(59);
  t.is(bench.director.connections.count, 4);
  bench.wait(33);
  t.is(bench.director.connections.count, 2);
});

// ── The rules around them ───────────────────────────────────────────────────────────────────────────────────

test('a node that source ranges leave out is dropped in OUTPUT: its IPVS entry is made, its conntrack entry is not', (t) => {
  const vip = ip('1.2.3.4');
  const synthetic = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 1, endpoints: 2, nodes: 2 });
  const sourceRanges = [{ address: ip('203.0.113.0'), prefix: 24 }];
  const services = [{ ...synthetic.services[0]!, loadBalancerIps: [vip], sourceRanges }];
  const cluster = { ...synthetic, services };
  const endpoints = new EndpointsMap(cluster);
  const node = {
    cluster,
    endpoints,
    node: 0,
    cores: 1,
    conntrack: CONNTRACK_DEFAULTS,
    streams: new Streams('1'),
  };
  const proxier = ipvs.create(node, defaultsOf(ipvsOptions)) as IpvsProxier;
  for (const stage of proxier.sync([], true).stages) stage.commit();
  const { dataplane, director } = proxier;
  const packet = new Packet();
  const verdict = new Verdict(IPVS_OPERATIONS.length);
  const send = (source: number, sourcePort: number, flags: number): Verdict => {
    Object.assign(packet, { source, sourcePort, destination: vip });
    Object.assign(packet, { destinationPort: 80, protocol: TCP, flags, origin: FROM_HOST });
    verdict.begin(packet);
    dataplane.classify(packet, 0, verdict);
    return verdict;
  };
  // A process of the node took the virtual address for its own. It is dropped each time that it tries.
  for (let time = 0; time < 2; time++) {
    const dropped = send(vip, 4000, SYN);
    t.deepEqual([dropped.fate, dropped.endpoint, dropped.destination], [DROP, -1, vip]);
    t.deepEqual([director.connections.count, dataplane.connections().entries], [1, 0]);
  }
  const other = cluster.nodes[0]!.address;
  const passed = send(other, 4000, SYN);
  t.is(passed.fate, FORWARD);
  t.true(passed.endpoint >= 0);
  // The rule asks for no state: a connection that was let through ends when it comes.
  dataplane.filter.load(FILTER_TABLE);
  t.is(send(vip, 4001, SYN).fate, FORWARD);
  t.is(send(vip, 4001, ACK).fate, FORWARD);
  const virtual = { address: vip, port: 80, protocol: TCP };
  dataplane.filter.load(filterTableOf({ family: IPV4, mark: 0x4000 }, [virtual]));
  t.is(send(vip, 4001, ACK).fate, DROP);
  t.is(send(other, 4000, ACK).fate, FORWARD);
});

// ── Everything together ─────────────────────────────────────────────────────────────────────────────────────

test('whatever happens, servers count the entries that point to them, and templates the connections that hold them', (t) => {
  const action = fc.record({
    kind: fc.constantFrom(
      'syn',
      'syn',
      'ack',
      'fin',
      'rst',
      'reply',
      'wait',
      'weigh',
      'remove',
      'add',
      'limit',
    ),
    client: fc.integer({ min: 1, max: 6 }),
    port: fc.integer({ min: 1, max: 3 }),
    id: fc.integer({ min: 1, max: 3 }),
    amount: fc.integer({ min: 0, max: 3 }),
    waitS: fc.constantFrom(0.005, 1, 11, 61, 130, 400),
  });
  const settings = fc.record({
    expireNodest: fc.boolean(),
    expireQuiescentTemplate: fc.boolean(),
    reuseMode: fc.constantFrom(0 as const, 1 as const),
    persistenceS: fc.constantFrom(0, 30, 300),
    scheduler: fc.constantFrom('rr' as const, 'wlc' as const, 'sh' as const, 'mh' as const),
    drops: fc.boolean(),
  });
  fc.assert(
    fc.property(
      settings,
      fc.array(action, { maxLength: 80 }),
      ({ persistenceS, drops, ...options }, actions) => {
        const bench = new Bench({
          ...options,
          ...(drops ? { dropEntry: everyBucket(), connTabBits: 8 } : {}),
        });
        bench.service({ persistenceS });
        const { director } = bench;
        for (const { kind, client, port, id, amount, waitS } of actions) {
          const from = `10.2.0.${client}`;
          const server = bench.server(id);
          if (kind === 'syn') bench.open(from, port);
          else if (kind === 'ack') bench.send(from, port, ACK);
          else if (kind === 'fin') bench.send(from, port, FIN | ACK);
          else if (kind === 'rst') bench.send(from, port, RST);
          else if (kind === 'wait') bench.wait(waitS);
          else if (kind === 'reply') {
            const at = director.connections.findIn(ip(from), port, VIP, 80, TCP);
            if (at >= 0) director.advance(at, OUT, FIN | ACK, bench.nowNs, bench.counts);
          } else if (server >= 0) {
            if (kind === 'weigh') director.setWeight(server, amount);
            if (kind === 'limit') director.editServer(server, { weight: 1, upper: amount, lower: 0 });
            if (kind === 'remove') director.removeServer(server);
          } else if (kind === 'add') director.addServer(0, ip('10.1.0.0') + id, 8080, 1, id);
          checkCounters(bench, t.is);
        }
        bench.wait(3000);
        checkCounters(bench, t.is);
        t.is(director.connections.count, 0);
        bench.wait(400);
        t.is(director.trash.size, 0);
      },
    ),
    { seed: 42, numRuns: 150 },
  );
});

function checkCounters({ director }: Bench, is: (actual: unknown, expected: unknown) => unknown): void {
  const { connections, servers, templates } = director;
  const counted = Array.from({ length: 8 }, () => ({ active: 0, inactive: 0, templates: 0 }));
  const held = new Map<number, number>();
  let rows = 0;
  for (let at = 0; at < connections.rows; at++) {
    const server = connections.server[at]!;
    if (server < 0) continue;
    rows++;
    const of = counted[server]!;
    if ((connections.flags[at]! & TEMPLATE) !== 0) of.templates++;
    else if (isActive(connections.state[at]!)) of.active++;
    else of.inactive++;
    const control = connections.control[at]!;
    if (control >= 0) held.set(control, (held.get(control) ?? 0) + 1);
  }
  is(rows, connections.count);
  for (const [server, { active, inactive, templates: pointing }] of counted.entries()) {
    is(servers.active[server], active);
    is(servers.inactive[server], inactive);
    is(templates.perServer[server], pointing);
  }
  for (let at = 0; at < connections.rows; at++) {
    if (connections.server[at]! >= 0) is(connections.controlled[at], held.get(at) ?? 0);
  }
}

test('every state of the tables has a name', (t) => {
  t.deepEqual(CONNECTION_STATES.slice(0, 12), [
    'NONE',
    'ESTABLISHED',
    'SYN_SENT',
    'SYN_RECV',
    'FIN_WAIT',
    'TIME_WAIT',
    'CLOSE',
    'CLOSE_WAIT',
    'LAST_ACK',
    'LISTEN',
    'SYNACK',
    'UDP',
  ]);
});
