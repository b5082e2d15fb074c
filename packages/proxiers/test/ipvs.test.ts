import test from 'ava';
import fc from 'fast-check';
import {
  ACK,
  CONNTRACK_DEFAULTS,
  FIN,
  FROM_HOST,
  FROM_OUTSIDE,
  FROM_POD,
  Packet,
  RST,
  SYN,
  Streams,
  TCP,
  UDP,
  parseIpv4,
  type Origin,
} from '@vipsim/sim-core';
import { PriceList } from '../src/cost/profile.ts';
import { PROFILES } from '../src/cost/profiles.ts';
import {
  Endpoints,
  Pods,
  READY,
  SERVING,
  ServicePorts,
  TERMINATING,
  type Cluster,
  type Service,
} from '../src/kubernetes/cluster.ts';
import { EndpointsMap } from '../src/kubernetes/endpoints-map.ts';
import { SYNTHETIC_DEFAULTS, syntheticCluster } from '../src/kubernetes/synthetic.ts';
import { DROP, FORWARD, REJECT, Verdict, defaultsOf, type SyncPlan } from '../src/proxier.ts';
import { Connections, connectionHash } from '../src/ipvs/connections.ts';
import { Director } from '../src/ipvs/director.ts';
import { HASH_IP_PORT, HASH_IP_PORT_NET, IpSet, entryOf } from '../src/ipvs/ipset.ts';
import { list, save } from '../src/ipvs/ipvsadm.ts';
import { ipvs, ipvsOptions } from '../src/ipvs/mode.ts';
import { IPVS_OPERATIONS } from '../src/ipvs/operations.ts';
import type { IpvsProxier } from '../src/ipvs/proxier.ts';
import type { SchedulerName } from '../src/ipvs/schedulers/create.ts';
import { slotOf } from '../src/ipvs/schedulers/sh.ts';
import { serviceBucket } from '../src/ipvs/virtual-servers.ts';

const SECOND = 1_000_000_000;
const MINUTE = 60 * SECOND;
const ip = (text: string): number => parseIpv4(text)!;
const countOf = (counts: Float64Array, name: (typeof IPVS_OPERATIONS)[number]): number =>
  counts[IPVS_OPERATIONS.indexOf(name)]!;

// ── Hashes ──────────────────────────────────────────────────────────────────────────────────────────────────

test('a virtual server lies in the bucket that ip_vs_svc_hashkey gives, where only the last octet of its address counts', (t) => {
  const vectors: [number, string, number, number][] = [
    [TCP, '10.96.0.1', 443, 189],
    [TCP, '10.96.0.10', 53, 57],
    [UDP, '10.96.0.10', 53, 46],
    [TCP, '10.96.0.10', 9153, 238],
    [TCP, '172.30.0.41', 80, 127],
    [TCP, '172.30.0.42', 80, 124],
    [TCP, '172.30.1.41', 80, 127],
    [UDP, '192.168.1.255', 65535, 238],
    [TCP, '10.0.0.5', 30080, 246],
    [132, '10.0.0.5', 3868, 146],
    [TCP, '255.255.255.255', 1, 248],
  ];
  for (const [protocol, address, port, bucket] of vectors) {
    t.is(serviceBucket(protocol, ip(address), port), bucket, `${address}:${port}`);
  }
});

test('a connection lies in the chain that jhash of client address, client port and protocol gives', (t) => {
  const vectors: [string, number, number, number, number][] = [
    ['10.244.1.7', 40000, TCP, 0, 0x1016b315],
    ['10.244.1.7', 40001, TCP, 0, 0xfa64f973],
    ['10.244.1.7', 40000, UDP, 0, 0xc4cb4685],
    ['10.244.1.8', 40000, TCP, 0, 0x2d7d1958],
    ['10.244.1.7', 40000, TCP, 0x12345678, 0x1aae37e2],
    ['192.168.0.1', 1024, TCP, 0xdeadbeef, 0x501c3cf2],
    ['10.0.0.1', 0, TCP, 0, 0xa7556a66],
    ['203.0.113.9', 65535, 132, 7, 0xc4a14187],
    ['10.180.0.1', 8080, TCP, 0, 0xc6fa62c3],
  ];
  for (const [address, port, protocol, seed, hash] of vectors) {
    t.is(connectionHash(ip(address), port, protocol, seed), hash, `${address}:${port}`);
  }
  t.is(new Connections(12, 0).bucketOf(ip('10.244.1.7'), 40000, TCP), 789);
  t.is(new Connections(20, 0xdeadbeef).bucketOf(ip('192.168.0.1'), 1024, TCP), 802_034);
  t.is(new Connections(8, 7).bucketOf(ip('203.0.113.9'), 65535, 132), 135);
});

test('source hashing takes the top eight bits of the golden-ratio product', (t) => {
  const vectors: [number, number][] = [
    [0, 0],
    [1, 97],
    [ip('10.0.0.1'), 39],
    [ip('10.0.0.2'), 137],
    [ip('10.0.1.1'), 240],
    [ip('10.244.1.7'), 54],
    [ip('172.16.254.3'), 51],
    [ip('128.0.0.0'), 128],
    [ip('255.255.255.255'), 158],
    [ip('10.0.0.1') + 40000, 203],
  ];
  for (const [key, slot] of vectors) t.is(slotOf(key), slot);
});

// ── Schedulers ──────────────────────────────────────────────────────────────────────────────────────────────

/** Servers 1, 2, 3… are 10.0.0.i:80 behind one TCP virtual server. */
class Bench {
  readonly director: Director;
  readonly servers = new Map<number, number>();

  constructor(scheduler: SchedulerName, weights: readonly number[], loadFormula: 256 | 257 = 257) {
    this.director = new Director({
      scheduler,
      connTabBits: 12,
      seed: 0,
      expireNodest: false,
      reuseMode: 1,
      loadFormula,
    });
    this.director.services.add(TCP, ip('10.96.0.1'), 80, 0);
    for (const [i, weight] of weights.entries()) this.add(i + 1, weight);
  }

  add(id: number, weight = 1): this {
    this.servers.set(id, this.director.addServer(0, ip('10.0.0.0') + id, 80, weight, id));
    return this;
  }

  weigh(id: number, weight: number): this {
    this.director.setWeight(this.servers.get(id)!, weight);
    return this;
  }

  remove(id: number): this {
    this.director.removeServer(this.servers.get(id)!);
    return this;
  }

  load(id: number, active: number, inactive: number): this {
    this.director.servers.active[this.servers.get(id)!] = active;
    this.director.servers.inactive[this.servers.get(id)!] = inactive;
    return this;
  }

  pick(client = 0): number {
    const server = this.director.scheduler.pick(0, client, 40000);
    return server < 0 ? 0 : this.director.servers.address[server]! & 0xff;
  }

  /** So many picks, nothing connected. */
  picks(times: number): string {
    return Array.from({ length: times }, () => this.pick() || '–').join(' ');
  }

  /** So many picks, each an active connection from then on. */
  connects(times: number): string {
    return Array.from({ length: times }, () => {
      const id = this.pick();
      this.director.servers.active[this.servers.get(id)!]! += 1;
      return id;
    }).join(' ');
  }
}

test('rr goes through the list newest first, skips weight 0, and keeps its place when servers come and go', (t) => {
  t.is(new Bench('rr', [1, 1, 1]).picks(8), '3 2 1 3 2 1 3 2');
  const bench = new Bench('rr', [1, 1, 1]);
  t.is(bench.picks(2), '3 2');
  t.is(bench.weigh(2, 0).picks(6), '1 3 1 3 1 3');
  t.is(bench.add(4).picks(6), '1 4 3 1 4 3');
  t.is(bench.remove(3).picks(6), '1 4 1 4 1 4');
  const none = new Bench('rr', [1, 1, 1]).weigh(3, 0);
  t.is(none.picks(4), '2 1 2 1');
  t.is(none.weigh(1, 0).weigh(2, 0).picks(2), '– –');
  t.is(none.weigh(3, 1).picks(2), '3 3');
});

test('wrr interleaves by weight, and after adding servers one by one begins in its lowest pass', (t) => {
  t.is(new Bench('wrr', [3, 2, 1]).picks(13), '3 2 1 1 2 1 3 2 1 1 2 1 3');
  t.is(new Bench('wrr', [4, 8, 2]).picks(15), '3 2 1 2 2 2 1 3 2 1 2 2 2 1 3');
  const bench = new Bench('wrr', [1, 1, 5]);
  t.is(bench.picks(4), '3 2 1 3');
  t.is(bench.weigh(3, 1).picks(5), '3 2 1 3 2');
  t.is(bench.weigh(1, 0).picks(5), '3 2 3 2 3');
  t.is(bench.weigh(2, 0).picks(4), '3 3 3 3');
  t.is(new Bench('wrr', [2, 1]).picks(6), '2 1 1 2 1 1');
  t.is(new Bench('wrr', [3, 3]).picks(4), '2 1 2 1');
  t.is(new Bench('wrr', [5, 1, 1]).picks(10), '3 2 1 1 1 1 1 3 2 1');
  t.is(new Bench('wrr', [1, 2, 3, 4, 10]).picks(20), '5 4 3 2 1 5 5 5 5 5 5 5 4 5 4 3 5 4 3 2');
  t.is(new Bench('wrr', [0, 0]).picks(2), '– –');
});

test('lc, wlc, sed and nq choose the least loaded by their own measure, ties by the newest', (t) => {
  t.is(new Bench('lc', [1, 1, 1]).load(1, 3, 10).load(2, 2, 300).load(3, 3, 0).picks(1), '3');
  t.is(new Bench('lc', [1, 1, 1]).load(1, 3, 10).load(2, 2, 300).load(3, 3, 0).connects(6), '3 1 2 3 1 2');
  const flooded = new Bench('lc', [1, 1, 1]);
  t.is(flooded.connects(5), '3 2 1 3 2');
  t.is(flooded.add(4).connects(8), '4 4 1 4 3 2 1 4');
  for (const [formula, picks] of [
    [257, ['2', '2', '2']],
    [256, ['2', '1', '2']],
  ] as const) {
    const bench = new Bench('lc', [100, 1, 0], formula).load(1, 5, 0).load(2, 4, 200);
    t.deepEqual([bench.picks(1), bench.load(2, 4, 257).picks(1), bench.load(2, 4, 256).picks(1)], [...picks]);
  }
  t.is(new Bench('wlc', [3, 2, 1]).connects(12), '3 2 1 1 2 1 3 2 1 1 2 1');
  const tie = new Bench('wlc', [4, 1]).load(1, 4, 0).load(2, 1, 0);
  t.deepEqual(
    [tie.picks(1), tie.load(1, 4, 1).picks(1), tie.load(1, 4, 0).load(2, 1, 1).picks(1)],
    ['2', '2', '1'],
  );
  const quiet = new Bench('wlc', [1, 1, 1]);
  t.is(quiet.connects(4), '3 2 1 3');
  t.is(quiet.weigh(3, 0).connects(4), '2 1 2 1');
  t.is(quiet.add(4, 2).connects(6), '4 4 4 4 4 4');
  t.is(new Bench('sed', [3, 2, 1]).connects(12), '1 2 1 3 2 1 1 2 1 3 2 1');
  t.is(new Bench('sed', [1, 4]).connects(10), '2 2 2 2 1 2 2 2 2 1');
  t.is(new Bench('nq', [3, 2, 1]).connects(12), '3 2 1 1 2 1 1 2 1 3 2 1');
  t.is(new Bench('nq', [1, 10]).connects(8), '2 1 2 2 2 2 2 2');
  t.is(new Bench('nq', [1, 1, 1]).picks(6), '3 3 3 3 3 3');
});

test('sh sends a client to the server of its slot, and to none while that has weight 0', (t) => {
  const clients = ['10.0.0.1', '10.0.0.2', '10.244.1.7', '10.244.1.8', '192.168.0.1', '203.0.113.9'].map(ip);
  const three = new Bench('sh', [1, 1, 1]);
  t.deepEqual(
    clients.map((client) => three.pick(client)),
    [3, 1, 3, 1, 3, 2],
  );
  const two = new Bench('sh', [3, 1]);
  t.deepEqual(
    clients.map((client) => two.pick(client)),
    [1, 1, 1, 2, 2, 2],
  );
  two.weigh(2, 0);
  t.deepEqual(
    clients.map((client) => two.pick(client)),
    [1, 1, 1, 0, 0, 0],
  );
});

const weightsArbitrary = fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 8 });

test('wrr gives each server exactly its weight in each cycle, whatever was changed before', (t) => {
  fc.assert(
    fc.property(
      weightsArbitrary,
      fc.array(fc.tuple(fc.nat(7), fc.integer({ min: 0, max: 12 }))),
      (weights, edits) => {
        const bench = new Bench('wrr', weights);
        const final = [...weights];
        for (const [at, weight] of edits) {
          const id = (at % weights.length) + 1;
          bench.weigh(id, weight).picks(at);
          final[id - 1] = weight;
        }
        const divisor = final.reduce((a, b) => gcd(a, b), 0) || 1;
        const cycle = final.reduce((a, b) => a + b, 0) / divisor;
        // The phase depends on history, and with it how the first cycle is cut; from then on cycles are equal.
        bench.picks(cycle);
        const seen = new Map<number, number>();
        for (let i = 0; i < cycle; i++) {
          const id = bench.pick();
          seen.set(id, (seen.get(id) ?? 0) + 1);
        }
        for (const [i, weight] of final.entries()) t.is(seen.get(i + 1) ?? 0, weight / divisor);
        if (cycle === 0) t.is(bench.pick(), 0);
      },
    ),
    { seed: 42, numRuns: 300 },
  );
});

test('rr never picks a server of weight 0, and gives the others equal shares', (t) => {
  fc.assert(
    fc.property(weightsArbitrary, (weights) => {
      const bench = new Bench('rr', weights);
      const usable = weights.flatMap((weight, i) => (weight > 0 ? [i + 1] : []));
      const picked = Array.from({ length: usable.length * 3 }, () => bench.pick());
      t.deepEqual(picked, [...usable.toReversed(), ...usable.toReversed(), ...usable.toReversed()]);
      if (usable.length === 0) t.is(bench.pick(), 0);
    }),
    { seed: 42, numRuns: 200 },
  );
});

test('telling wrr of an added server gives the state that looking at all servers gives', (t) => {
  fc.assert(
    fc.property(weightsArbitrary, fc.nat(20), (weights, before) => {
      const told = new Bench('wrr', weights.slice(0, -1));
      const looked = new Bench('wrr', weights.slice(0, -1));
      told.picks(before);
      looked.picks(before);
      const id = weights.length;
      told.add(id, weights.at(-1)!);
      const { director } = looked;
      const server = director.servers.create(0, ip('10.0.0.0') + id, 80);
      director.servers.weight[server] = weights.at(-1)!;
      director.servers.link(server);
      director.scheduler.updated(0, server);
      t.is(told.picks(40), looked.picks(40));
    }),
    { seed: 42, numRuns: 200 },
  );
});

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}

function place(text: string): [number, number] {
  const [address, port] = text.split(':');
  return [ip(address!), Number(port)];
}

// ── Tables ──────────────────────────────────────────────────────────────────────────────────────────────────

test('the connection table finds what a map finds, after as many compares as the entry is deep in its chain', (t) => {
  const key = fc.record({
    client: fc.integer({ min: 1, max: 40 }),
    clientPort: fc.integer({ min: 1, max: 3 }),
    virtual: fc.integer({ min: 1, max: 3 }),
    action: fc.constantFrom('add', 'remove', 'find', 'find'),
  });
  fc.assert(
    fc.property(fc.array(key, { maxLength: 400 }), (actions) => {
      const table = new Connections(8, 99);
      const map = new Map<string, number>();
      const chains = new Map<number, string[]>();
      for (const { client, clientPort, virtual, action } of actions) {
        const name = `${client}:${clientPort} ${virtual}`;
        const bucket = table.bucketOf(client, clientPort, TCP);
        const chain = chains.get(bucket) ?? [];
        chains.set(bucket, chain);
        const known = map.get(name);
        if (action === 'add' && known === undefined) {
          const row = table.add(client, clientPort, virtual, 80, TCP);
          table.real[row] = 1000 + virtual;
          table.realPort[row] = 8080;
          table.server[row] = 0;
          map.set(name, row);
          chain.unshift(name);
        } else if (action === 'remove' && known !== undefined) {
          table.remove(known);
          map.delete(name);
          chain.splice(chain.indexOf(name), 1);
        } else {
          const depth = known === undefined ? chain.length : chain.indexOf(name) + 1;
          table.probes = 0;
          t.is(table.findIn(client, clientPort, virtual, 80, TCP), known ?? -1);
          t.is(table.probes, depth);
          table.probes = 0;
          t.is(table.findOut(client, clientPort, 1000 + virtual, 8080, TCP), known ?? -1);
          t.is(table.probes, depth);
        }
        t.is(table.count, map.size);
      }
    }),
    { seed: 42, numRuns: 100 },
  );
});

test('an ipset holds what a set holds, through growth, up to its limit', (t) => {
  const action = fc.tuple(fc.integer({ min: 1, max: 4000 }), fc.constantFrom(80, 443), fc.boolean());
  fc.assert(
    fc.property(fc.array(action, { maxLength: 3000, minLength: 100 }), (actions) => {
      const set = new IpSet('s', HASH_IP_PORT, '', 7, 1500);
      const naive = new Set<string>();
      for (const [address, port, add] of actions) {
        const name = `${address}:${port}`;
        if (add) {
          const fits = naive.has(name) || naive.size < 1500;
          t.is(set.add(entryOf(address, port, TCP)), fits);
          if (fits) naive.add(name);
        } else {
          set.remove(entryOf(address, port, TCP));
          naive.delete(name);
        }
      }
      t.is(set.count, naive.size);
      for (let address = 1; address <= 4000; address++) {
        if (set.has(address, 80, TCP, 0) !== naive.has(`${address}:80`)) t.fail(`${address}`);
      }
      t.false(set.has(1, 80, UDP, 0));
    }),
    { seed: 42, numRuns: 20 },
  );
});

test('hash:ip,port,net tries the prefix lengths in use, and cannot store a range of all addresses', (t) => {
  const set = new IpSet('s', HASH_IP_PORT_NET, '', 7);
  const range = { address: ip('203.0.113.0'), prefix: 25 };
  t.true(set.add(entryOf(ip('1.2.3.4'), 80, TCP, range)));
  t.false(set.add(entryOf(ip('1.2.3.4'), 80, TCP, { address: 0, prefix: 0 })));
  t.true(set.has(ip('1.2.3.4'), 80, TCP, ip('203.0.113.127')));
  t.false(set.has(ip('1.2.3.4'), 80, TCP, ip('203.0.113.128')));
  t.is(set.text(entryOf(ip('1.2.3.4'), 80, TCP, range)), '1.2.3.4,tcp:80,203.0.113.0/25');
});

// ── Listings ────────────────────────────────────────────────────────────────────────────────────────────────

test('ipvsadm -Ln and -Sn print what ipvsadm 1.31 prints', (t) => {
  const director = new Director({
    scheduler: 'rr',
    connTabBits: 12,
    seed: 0,
    expireNodest: true,
    reuseMode: 1,
  });
  const add = (
    protocol: number,
    vip: string,
    persistence: number,
    ...reals: [string, number, number, number][]
  ) => {
    const service = director.services.add(protocol, ...place(vip), persistence);
    for (const [real, weight, active, inactive] of reals) {
      const server = director.addServer(service, ...place(real), weight, -1);
      director.servers.active[server] = active;
      director.servers.inactive[server] = inactive;
    }
  };
  add(UDP, '172.30.0.10:53', 0, ['10.180.0.9:53', 1, 0, 4]);
  add(TCP, '172.30.0.45:443', 10800, ['192.168.0.1:6443', 1, 1, 0]);
  add(TCP, '172.30.0.41:80', 0, ['10.180.2.1:80', 0, 1, 0], ['10.180.0.1:80', 1, 3, 12]);
  t.deepEqual(
    [...list(director)],
    [
      'IP Virtual Server version 1.2.1 (size=4096)',
      'Prot LocalAddress:Port Scheduler Flags',
      '  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn',
      'TCP  172.30.0.41:80 rr',
      '  -> 10.180.0.1:80                Masq    1      3          12        ',
      '  -> 10.180.2.1:80                Masq    0      1          0         ',
      'TCP  172.30.0.45:443 rr persistent 10800',
      '  -> 192.168.0.1:6443             Masq    1      1          0         ',
      'UDP  172.30.0.10:53 rr',
      '  -> 10.180.0.9:53                Masq    1      0          4         ',
    ],
  );
  t.deepEqual(
    [...save(director)],
    [
      '-A -t 172.30.0.41:80 -s rr',
      '-a -t 172.30.0.41:80 -r 10.180.0.1:80 -m -w 1',
      '-a -t 172.30.0.41:80 -r 10.180.2.1:80 -m -w 0',
      '-A -t 172.30.0.45:443 -s rr -p 10800',
      '-a -t 172.30.0.45:443 -r 192.168.0.1:6443 -m -w 1',
      '-A -u 172.30.0.10:53 -s rr',
      '-a -u 172.30.0.10:53 -r 10.180.0.9:53 -m -w 1',
    ],
  );
});

// ── A node ──────────────────────────────────────────────────────────────────────────────────────────────────

const NODE_ADDRESS = ip('172.16.0.2');
const CLIENT = ip('10.128.0.200');

/** A node with kube-proxy, synced once. */
class NodeBench {
  readonly proxier: IpvsProxier;
  readonly endpoints: EndpointsMap;
  readonly cluster: Cluster;
  readonly verdict = new Verdict(IPVS_OPERATIONS.length);
  readonly first: SyncPlan;
  readonly #packet = new Packet();
  nowNs = 0;

  constructor(cluster: Cluster, scheduler: SchedulerName = 'rr') {
    this.cluster = cluster;
    this.endpoints = new EndpointsMap(cluster);
    const node = {
      cluster,
      endpoints: this.endpoints,
      node: 0,
      cores: 4,
      conntrack: CONNTRACK_DEFAULTS,
      streams: new Streams('7'),
    };
    this.proxier = ipvs.create(node, { ...defaultsOf(ipvsOptions), scheduler }) as IpvsProxier;
    this.first = this.sync([], true);
  }

  sync(changed: readonly number[], full = false): SyncPlan {
    const plan = this.proxier.sync(changed, full);
    for (const stage of plan.stages) stage.commit();
    return plan;
  }

  send(
    from: readonly [number, number],
    to: readonly [number, number],
    flags: number,
    { protocol = TCP, origin = FROM_POD as Origin } = {},
  ): Verdict {
    const packet = this.#packet;
    [packet.source, packet.sourcePort] = from;
    [packet.destination, packet.destinationPort] = to;
    packet.flags = flags;
    packet.protocol = protocol;
    packet.origin = origin;
    this.verdict.begin(packet);
    this.proxier.dataplane.classify(packet, this.nowNs, this.verdict);
    return this.verdict;
  }

  /** Let virtual time pass, timers running every second. */
  wait(ns: number): void {
    for (const end = this.nowNs + ns; this.nowNs < end;) {
      this.nowNs += SECOND;
      this.proxier.dataplane.expire(this.nowNs);
    }
  }

  /** A TCP connection up to ESTABLISHED; returns the real server. */
  open(client: readonly [number, number], vip: readonly [number, number]): [number, number] {
    const opened = this.send(client, vip, SYN);
    const real: [number, number] = [opened.destination, opened.destinationPort];
    this.send(real, [opened.source, opened.sourcePort], SYN | ACK);
    this.send(client, vip, ACK);
    return real;
  }

  close(
    client: readonly [number, number],
    vip: readonly [number, number],
    real: readonly [number, number],
  ): void {
    this.send(client, vip, FIN | ACK);
    this.send(real, client, FIN | ACK);
    this.send(client, vip, ACK);
  }

  /** Lines of real servers in `ipvsadm -Ln`. */
  servers(): string[] {
    return [...this.proxier.dump('ipvsadm')]
      .filter((line) => line.startsWith('  -> 1'))
      .map((line) => line.trim().split(/ +/).slice(1).join(' '));
  }
}

const synthetic = (services: number, endpoints: number): Cluster =>
  syntheticCluster({ ...SYNTHETIC_DEFAULTS, services, endpoints, nodes: 2 });

test('a connection from a pod to a ClusterIP is scheduled once, and its packets are translated both ways', (t) => {
  const bench = new NodeBench(synthetic(3, 3));
  const vip = [bench.cluster.ports.clusterIp[1]!, 80] as const;
  const client = [CLIENT, 40000] as const;
  const syn = bench.send(client, vip, SYN);
  t.is(syn.fate, FORWARD);
  t.true(syn.first);
  // Endpoints 3, 4, 5 were added in this order, so the list begins with the last.
  t.is(syn.endpoint, 5);
  const real = [bench.cluster.endpoints.address[5]!, 8080] as const;
  t.deepEqual([syn.source, syn.sourcePort, syn.destination, syn.destinationPort], [...client, ...real]);
  // nat: jump, loopback, cluster IP (from a pod: no set lookup), dst local → node port chain (empty), accept;
  // filter: access filter with two sets, firewall, health check; output; postrouting with loop-back and mark.
  t.is(countOf(syn.counts, 'ipvs.rule'), 15);
  t.is(countOf(syn.counts, 'ipset.lookup'), 5);
  t.is(countOf(syn.counts, 'ipvs.addrtype'), 1);
  t.is(countOf(syn.counts, 'ipvs.lookup'), 2);
  t.is(countOf(syn.counts, 'ipvs.probe'), 0);
  t.is(countOf(syn.counts, 'ipvs.service.probe'), 1);
  t.is(countOf(syn.counts, 'ipvs.schedule.step'), 1);
  t.is(countOf(syn.counts, 'ipvs.create'), 1);
  t.is(countOf(syn.counts, 'conntrack.create'), 1);
  t.is(countOf(syn.counts, 'nat.rewrite'), 0);
  const reply = bench.send(real, client, SYN | ACK);
  t.deepEqual(
    [reply.source, reply.sourcePort, reply.destination, reply.destinationPort],
    [...vip, ...client],
  );
  t.false(reply.first);
  // FORWARD: jump and empty firewall, jump, mark, state. One lookup, that of replies.
  t.is(countOf(reply.counts, 'ipvs.rule'), 4);
  t.is(countOf(reply.counts, 'ipvs.lookup'), 1);
  const ack = bench.send(client, vip, ACK);
  t.deepEqual([ack.destination, ack.destinationPort], [...real]);
  t.is(countOf(ack.counts, 'ipvs.lookup'), 2);
  t.is(countOf(ack.counts, 'ipvs.probe'), 1);
  t.is(countOf(ack.counts, 'ipvs.service.lookup'), 0);
  t.is(countOf(ack.counts, 'conntrack.lookup'), 1);
  t.deepEqual(bench.servers().slice(3, 6), [
    '10.128.0.4:8080 Masq 1 0 0',
    '10.128.1.3:8080 Masq 1 0 0',
    '10.128.1.4:8080 Masq 1 1 0',
  ]);
});

test('recording a walk names rules, sets, buckets and the place in the list, and changes nothing', (t) => {
  const quiet = new NodeBench(synthetic(3, 3));
  const told = new NodeBench(synthetic(3, 3));
  const lines: string[] = [];
  told.proxier.dataplane.recorder = { step: (where, what) => void lines.push(`${where}: ${what}`) };
  const vip = [quiet.cluster.ports.clusterIp[0]!, 80] as const;
  const [a, b] = [quiet, told].map((bench) => bench.send([CLIENT, 40000], vip, SYN)) as [Verdict, Verdict];
  t.deepEqual(a, b);
  t.true(
    lines.some((line) => line.startsWith('nat KUBE-SERVICES: ') && line.includes('KUBE-CLUSTER-IP dst,dst')),
  );
  t.true(
    lines.some((line) => /rr chose 10\.128\.0\.3:8080, 1 of 3 in the list; SYN_RECV/.test(line)),
    lines.join('\n'),
  );
});

test('a service without endpoints is refused, and so are ports that no service has and stray TCP packets', (t) => {
  const bench = new NodeBench(synthetic(1, 1));
  const vip = bench.cluster.ports.clusterIp[0]!;
  t.is(bench.send([CLIENT, 1], [vip, 81], SYN).fate, REJECT);
  t.is(bench.send([CLIENT, 2], [vip, 80], ACK).fate, REJECT);
  bench.endpoints.conditions[0] = 0;
  bench.sync([0]);
  t.is(bench.send([CLIENT, 3], [vip, 80], SYN).fate, REJECT);
  t.is(bench.send([CLIENT, 3], [vip, 80], 0, { protocol: UDP }).fate, REJECT);
  t.is(bench.send([CLIENT, 4], [ip('10.128.1.9'), 80], SYN).fate, FORWARD);
  t.is(bench.proxier.dataplane.connections().entries, 1);
});

/** One service with every way in, one endpoint on this node and one on the other. */
function exposed(over: Partial<Service> = {}): Cluster {
  const ports = new ServicePorts();
  const pods = new Pods();
  const endpoints = new Endpoints();
  const clusterIp = ip('10.96.0.10');
  ports.add({ service: 0, clusterIp, name: '', protocol: TCP, port: 80, nodePort: 30080 });
  for (const [i, text] of ['10.128.0.2', '10.128.1.2'].entries()) {
    endpoints.add(0, pods.add(ip(text), i, 0), ip(text), 8080, READY | SERVING);
  }
  ports.firstEndpoint[1] = 2;
  return {
    name: 'exposed',
    nodes: [
      { name: 'a', address: NODE_ADDRESS, zone: '' },
      { name: 'b', address: NODE_ADDRESS + 1, zone: '' },
    ],
    services: [
      {
        namespace: 'default',
        name: 'web',
        type: 'LoadBalancer',
        clusterIp,
        externalIps: [ip('192.168.99.22')],
        loadBalancerIps: [ip('1.2.3.4')],
        sourceRanges: [],
        affinityS: 0,
        internalPolicyLocal: false,
        externalPolicyLocal: false,
        healthCheckNodePort: 0,
        ...over,
      },
    ],
    ports,
    workloads: [],
    pods,
    endpoints,
    podCidr: { address: ip('10.128.0.0'), prefix: 9 },
    serviceCidr: { address: ip('10.96.0.0'), prefix: 12 },
    notes: [],
  };
}

test('traffic is masqueraded as the marks and sets say: from outside the cluster, by node port, and hairpin', (t) => {
  const bench = new NodeBench(exposed());
  const outside = ip('198.51.100.7');
  let port = 1000;
  const masqueraded = (from: number, to: string, toPort: number, origin: Origin): boolean => {
    const { fate, source } = bench.send([from, port++], [ip(to), toPort], SYN, { origin });
    t.is(fate, FORWARD, `${to}:${toPort}`);
    return source === NODE_ADDRESS && from !== NODE_ADDRESS;
  };
  t.false(masqueraded(CLIENT, '10.96.0.10', 80, FROM_POD));
  t.true(masqueraded(outside, '10.96.0.10', 80, FROM_OUTSIDE));
  t.true(masqueraded(outside, '172.16.0.2', 30080, FROM_OUTSIDE));
  t.true(masqueraded(outside, '192.168.99.22', 80, FROM_OUTSIDE));
  t.true(masqueraded(outside, '1.2.3.4', 80, FROM_OUTSIDE));
  // Hairpin: the pod of this node's endpoint is sent to itself every other time.
  const self = ip('10.128.0.2');
  const own = Array.from({ length: 4 }, () => {
    const { source, destination } = bench.send([self, port++], [ip('10.96.0.10'), 80], SYN);
    t.is(source === NODE_ADDRESS, destination === self);
    return destination === self;
  });
  t.is(own.filter(Boolean).length, 2);
  t.is(bench.send([NODE_ADDRESS, 5000], [ip('10.96.0.10'), 80], SYN, { origin: FROM_HOST }).fate, FORWARD);
});

test('a masqueraded reply finds its way back to the client', (t) => {
  const bench = new NodeBench(exposed());
  const client = [ip('198.51.100.7'), 4000] as const;
  const way = [NODE_ADDRESS, 30080] as const;
  const syn = bench.send(client, way, SYN, { origin: FROM_OUTSIDE });
  const masqueraded = [syn.source, syn.sourcePort] as const;
  const real = [syn.destination, syn.destinationPort] as const;
  t.is(masqueraded[0], NODE_ADDRESS);
  const reply = bench.send(real, masqueraded, SYN | ACK);
  t.deepEqual(
    [reply.source, reply.sourcePort, reply.destination, reply.destinationPort],
    [...way, ...client],
  );
  t.is(countOf(reply.counts, 'nat.rewrite'), 1);
  t.is(countOf(reply.counts, 'ipvs.transmit'), 1);
  const ack = bench.send(client, way, ACK, { origin: FROM_OUTSIDE });
  t.deepEqual([ack.source, ack.sourcePort, ack.destination, ack.destinationPort], [...masqueraded, ...real]);
});

test('policy Local keeps the source address and uses local endpoints; without any it falls back to all', (t) => {
  const bench = new NodeBench(exposed({ externalPolicyLocal: true }));
  const outside = ip('198.51.100.7');
  for (let i = 0; i < 4; i++) {
    const { source, destination } = bench.send([outside, 100 + i], [NODE_ADDRESS, 30080], SYN, {
      origin: FROM_OUTSIDE,
    });
    t.deepEqual([source, destination], [outside, ip('10.128.0.2')]);
  }
  bench.endpoints.conditions[0] = 0;
  bench.sync([0]);
  const { destination } = bench.send([outside, 200], [NODE_ADDRESS, 30080], SYN, { origin: FROM_OUTSIDE });
  t.is(destination, ip('10.128.1.2'));
});

test('source ranges of a load balancer drop everybody else', (t) => {
  const bench = new NodeBench(exposed({ sourceRanges: [{ address: ip('203.0.113.0'), prefix: 25 }] }));
  const way = [ip('1.2.3.4'), 80] as const;
  t.is(bench.send([ip('203.0.113.5'), 1], way, SYN, { origin: FROM_OUTSIDE }).fate, FORWARD);
  t.is(bench.send([ip('198.51.100.7'), 1], way, SYN, { origin: FROM_OUTSIDE }).fate, DROP);
  t.is(
    bench.send([ip('198.51.100.7'), 2], [NODE_ADDRESS, 30080], SYN, { origin: FROM_OUTSIDE }).fate,
    FORWARD,
  );
});

test('the fixed rules are the document that kube-proxy restores, without the lines of empty sets', (t) => {
  const lines = [...new NodeBench(synthetic(2, 2)).proxier.dump('iptables-restore')];
  t.deepEqual(lines, [
    '*nat',
    ':KUBE-SERVICES - [0:0]',
    ':KUBE-POSTROUTING - [0:0]',
    ':KUBE-NODE-PORT - [0:0]',
    ':KUBE-LOAD-BALANCER - [0:0]',
    ':KUBE-MARK-MASQ - [0:0]',
    '-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN',
    '-A KUBE-POSTROUTING -m comment --comment "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose" -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE',
    '-A KUBE-SERVICES -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set KUBE-CLUSTER-IP dst,dst ! -s 10.128.0.0/9 -j KUBE-MARK-MASQ',
    '-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT',
    '-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ',
    '-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT',
    '-A KUBE-POSTROUTING -m mark ! --mark 0x00004000/0x00004000 -j RETURN',
    '-A KUBE-POSTROUTING -j MARK --xor-mark 0x00004000',
    '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
    '-A KUBE-MARK-MASQ -j MARK --or-mark 0x00004000',
    'COMMIT',
    '*filter',
    ':KUBE-FORWARD - [0:0]',
    ':KUBE-NODE-PORT - [0:0]',
    ':KUBE-PROXY-FIREWALL - [0:0]',
    ':KUBE-SOURCE-RANGES-FIREWALL - [0:0]',
    ':KUBE-IPVS-FILTER - [0:0]',
    ':KUBE-IPVS-OUT-FILTER - [0:0]',
    '-A KUBE-SOURCE-RANGES-FIREWALL -j DROP',
    '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x00004000/0x00004000 -j ACCEPT',
    '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    '-A KUBE-NODE-PORT -m comment --comment "Kubernetes health check node port" -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j ACCEPT',
    '-A KUBE-IPVS-FILTER -m set --match-set KUBE-LOAD-BALANCER dst,dst -j RETURN',
    '-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN',
    '-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP dst,dst -j RETURN',
    '-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP-LOCAL dst,dst -j RETURN',
    '-A KUBE-IPVS-FILTER -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j RETURN',
    '-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT',
    'COMMIT',
  ]);
});

// ── Endpoint churn ──────────────────────────────────────────────────────────────────────────────────────────

test('a TCP endpoint that goes is drained: weight 0 until a minutely check finds no connection left', (t) => {
  const bench = new NodeBench(synthetic(1, 2));
  const vip = [bench.cluster.ports.clusterIp[0]!, 80] as const;
  const client = [CLIENT, 40000] as const;
  const real = bench.open(client, vip);
  bench.endpoints.conditions[1] = 0;
  bench.sync([0]);
  t.deepEqual(bench.servers(), ['10.128.0.2:8080 Masq 1 0 0', '10.128.1.2:8080 Masq 0 1 0']);
  for (let i = 0; i < 5; i++) t.is(bench.send([CLIENT, 500 + i], vip, SYN).endpoint, 0);
  t.is(bench.send(client, vip, ACK).destination, real[0]);
  bench.wait(3 * MINUTE);
  t.is(bench.servers().length, 2);
  bench.close(client, vip, real);
  t.deepEqual(bench.servers()[1], '10.128.1.2:8080 Masq 0 0 1');
  bench.wait(MINUTE);
  t.is(bench.servers().length, 2, 'TIME_WAIT still holds it');
  bench.wait(2 * MINUTE);
  t.deepEqual(bench.servers().length, 1);
  t.is(bench.proxier.termination.size, 0);
});

test('a UDP endpoint goes at once; its flows are scheduled anew with their next datagram', (t) => {
  const cluster = syntheticCluster({
    ...SYNTHETIC_DEFAULTS,
    services: 1,
    endpoints: 2,
    nodes: 2,
    udpEvery: 1,
  });
  const bench = new NodeBench(cluster);
  const vip = [cluster.ports.clusterIp[0]!, 80] as const;
  const client = [CLIENT, 5353] as const;
  t.is(bench.send(client, vip, 0, { protocol: UDP }).endpoint, 1);
  t.is(bench.send(client, vip, 0, { protocol: UDP }).endpoint, -1);
  // Conntrack forgets a one-way flow after 30 s, IPVS after 300 s: the flow keeps its server.
  bench.wait(100 * SECOND);
  const later = bench.send(client, vip, 0, { protocol: UDP });
  t.deepEqual([later.endpoint, later.first, later.destination], [-1, false, cluster.endpoints.address[1]!]);
  bench.endpoints.conditions[1] = 0;
  bench.sync([0]);
  t.is(bench.servers().length, 1);
  t.is(bench.send(client, vip, 0, { protocol: UDP }).endpoint, 0);
});

test('an endpoint that comes back while it drains is deleted and added, and its connections live on', (t) => {
  const bench = new NodeBench(synthetic(1, 2));
  const vip = [bench.cluster.ports.clusterIp[0]!, 80] as const;
  const client = [CLIENT, 40000] as const;
  const real = bench.open(client, vip);
  bench.endpoints.conditions[1] = TERMINATING;
  bench.sync([0]);
  bench.endpoints.conditions[1] = READY | SERVING;
  const plan = bench.sync([0]);
  t.is(plan.stages.length, 3);
  t.deepEqual(bench.servers()[1], '10.128.1.2:8080 Masq 1 1 0');
  t.is(bench.send(client, vip, ACK).destination, real[0]);
});

test('a SYN on an entry in TIME_WAIT is scheduled anew', (t) => {
  const bench = new NodeBench(synthetic(1, 2));
  const vip = [bench.cluster.ports.clusterIp[0]!, 80] as const;
  const client = [CLIENT, 40000] as const;
  const real = bench.open(client, vip);
  bench.close(client, vip, real);
  const again = bench.send(client, vip, SYN);
  t.is(again.fate, FORWARD);
  t.true(again.first);
  t.not(again.destination, real[0]);
  // The old entry goes with the next tick.
  t.is(bench.proxier.director.connections.count, 2);
  bench.wait(SECOND);
  t.is(bench.proxier.director.connections.count, 1);
  t.is(bench.proxier.dataplane.connections().entries, 1);
});

test('an idle connection leaves IPVS and conntrack together after 900 s and up to a slot of the timer wheel, and is then reset', (t) => {
  const bench = new NodeBench(synthetic(1, 1));
  const vip = [bench.cluster.ports.clusterIp[0]!, 80] as const;
  bench.open([CLIENT, 40000], vip);
  bench.wait(899 * SECOND);
  t.is(bench.proxier.director.connections.count, 1);
  // At 250 ticks a second, timers of that length run in slots of 16.384 s.
  bench.wait(18 * SECOND);
  t.is(bench.proxier.director.connections.count, 0);
  t.is(bench.proxier.dataplane.connections().entries, 0);
  t.is(bench.send([CLIENT, 40000], vip, ACK).fate, REJECT);
});

test('a pass starts 55 processes and asks for everything when nothing has changed', (t) => {
  const bench = new NodeBench(synthetic(100, 10));
  const total = new Float64Array(IPVS_OPERATIONS.length);
  for (const { counts } of bench.sync([]).stages) for (const i of counts.keys()) total[i]! += counts[i]!;
  t.is(countOf(total, 'process.launch'), 55);
  // Link and two address dumps; two queries and a dump for each virtual server; one dump of all.
  t.is(countOf(total, 'ipvs.netlink'), 3 + 3 * 100 + 1);
  t.is(countOf(total, 'ipvs.netlink.record'), 2 * 101 + 2 * 100 + 1000 + 100);
  t.is(countOf(total, 'ipvs.sync.endpoint'), 2000);
});

test('a change becomes visible after the share of the pass that precedes it, adds before deletes', (t) => {
  const bench = new NodeBench(synthetic(100, 10));
  const visible: number[] = [];
  // Service 25 loses an endpoint, service 75 gains one that was not ready before.
  bench.endpoints.conditions[755] = 0;
  bench.sync([75]);
  bench.endpoints.conditions[755] = READY | SERVING;
  bench.endpoints.conditions[255] = 0;
  const plan = bench.proxier.sync([75, 25], false);
  t.is(plan.scope, 'entries');
  for (const stage of plan.stages) {
    visible.push(countOf(stage.counts, 'ipvs.netlink'));
    stage.commit();
  }
  // To service 25 inclusive, its own dump and DEL_DEST; to 75 and NEW_DEST; the rest; the last dump.
  t.deepEqual(visible, [3 + 3 * 26 + 2, 3 * 50 + 1, 3 * 24, 1]);
  const steps = plan.stages.map(({ counts }) => countOf(counts, 'ipvs.list.step'));
  // The deleted server stood fifth of ten (newest first); NEW_DEST passes nine and two in the trash.
  t.deepEqual(steps, [5, 9 + 2, 0, 0]);
});

test('the published mean sync of 0.232 s at 101 services and 180 pods comes out within 5 %', (t) => {
  const bench = new NodeBench(
    syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 101, endpoints: 2, nodes: 3 }),
  );
  const prices = new PriceList(PROFILES[0]!, IPVS_OPERATIONS);
  bench.endpoints.conditions[7] = 0;
  const ns = bench.sync([3]).stages.reduce((sum, { counts }) => sum + prices.total(counts), 0);
  t.log(`pass ${ns} ns, first ${prices.total(bench.first.stages[0]!.counts)} ns`);
  t.true(ns > 0.95 * 0.232e9 && ns < 1.05 * 0.232e9, `${ns}`);
});

test('more than 65,536 ClusterIPs overflow their set: the pass fails, the rest is refused or not masqueraded', (t) => {
  const bench = new NodeBench(synthetic(65_600, 0));
  t.is(bench.first.failure?.error, 'IPSET_FULL');
  t.regex(bench.first.failure!.message, /^KUBE-CLUSTER-IP is to hold 65600 elements and takes 65536/);
  t.is(bench.proxier.remarks().length, 2);
  const plan = bench.sync([], true);
  const execs = plan.stages.reduce((sum, { counts }) => sum + countOf(counts, 'process.launch'), 0);
  // KUBE-CLUSTER-IP and KUBE-IPVS-IPS refuse 64 each, in every pass.
  t.is(execs, 55 + 128);
  t.truthy(plan.failure);
});

test('whatever sequence of changes, the tables become what a proxier that starts now would program', (t) => {
  const change = fc.record({
    endpoint: fc.nat(23),
    conditions: fc.constantFrom(0, READY | SERVING, SERVING | TERMINATING),
    connect: fc.boolean(),
    waitS: fc.constantFrom(0, 1, 130),
    sync: fc.boolean(),
  });
  fc.assert(
    fc.property(
      fc.array(change, { maxLength: 40 }),
      fc.constantFrom('rr' as const, 'wrr' as const),
      (actions, scheduler) => {
        const cluster = syntheticCluster({
          ...SYNTHETIC_DEFAULTS,
          services: 4,
          endpoints: 6,
          nodes: 2,
          udpEvery: 2,
        });
        const bench = new NodeBench(cluster, scheduler);
        const dirty = new Set<number>();
        let port = 1024;
        for (const { endpoint, conditions, connect, waitS, sync } of actions) {
          bench.endpoints.conditions[endpoint] = conditions;
          const service = Math.floor(endpoint / 6);
          dirty.add(service);
          if (sync) {
            bench.sync([...dirty]);
            dirty.clear();
          }
          if (connect && service % 2 === 0)
            bench.open([CLIENT, port++], [cluster.ports.clusterIp[service]!, 80]);
          bench.wait(waitS * SECOND);
        }
        bench.sync([...dirty]);
        // Connections end, draining servers go.
        bench.wait(20 * MINUTE);
        const fresh = new NodeBench(cluster, scheduler);
        fresh.endpoints.conditions.set(bench.endpoints.conditions);
        fresh.sync([0, 1, 2, 3]);
        t.deepEqual([...bench.proxier.dump('ipvsadm-save')], [...fresh.proxier.dump('ipvsadm-save')]);
        t.deepEqual([...bench.proxier.dump('iptables-restore')], [...fresh.proxier.dump('iptables-restore')]);
        const sizes = (of: NodeBench): unknown[] =>
          of.proxier.dataplane
            .tables()
            .filter(
              ({ name }) =>
                name.startsWith('ipset') || (name.endsWith(' servers') && name !== 'removed servers'),
            )
            .map(({ name, entries }) => [name, entries]);
        t.deepEqual(sizes(bench), sizes(fresh));
        t.is(bench.proxier.director.connections.count, 0);
        const counters = bench.proxier.director.servers;
        t.true(counters.active.every((n) => n === 0) && counters.inactive.every((n) => n === 0));
      },
    ),
    { seed: 42, numRuns: 60 },
  );
});

test('every connection of a busy node is counted at its server, in whatever order packets come', (t) => {
  const step = fc.record({
    port: fc.integer({ min: 1, max: 12 }),
    service: fc.nat(2),
    flags: fc.constantFrom(SYN, ACK, FIN | ACK, RST, SYN | ACK),
    out: fc.boolean(),
    waitS: fc.constantFrom(0, 0, 0, 1, 61),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const bench = new NodeBench(synthetic(3, 3));
      const { connections, servers } = bench.proxier.director;
      for (const { port, service, flags, out, waitS } of steps) {
        const vip = [bench.cluster.ports.clusterIp[service]!, 80] as const;
        const at = connections.findIn(CLIENT, port, ...vip, TCP);
        if (out && at >= 0)
          bench.send([connections.real[at]!, connections.realPort[at]!], [CLIENT, port], flags);
        else bench.send([CLIENT, port], vip, flags);
        bench.wait(waitS * SECOND);
        let counted = 0;
        for (let server = 0; server < 9; server++) counted += servers.connections(server);
        t.is(counted, connections.count);
        t.true(servers.active.every((n) => n >= 0) && servers.inactive.every((n) => n >= 0));
      }
    }),
    { seed: 42, numRuns: 60 },
  );
});
