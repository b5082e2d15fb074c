import {
  ACK,
  FROM_HOST,
  FROM_OUTSIDE,
  FROM_POD,
  jhash2,
  Packet,
  parseIpv4,
  Streams,
  SYN,
  swap32,
  TCP,
  UDP,
  type Origin,
} from '@vipsim/sim-core';
import test from 'ava';
import fc from 'fast-check';
import { MODE_OPERATIONS } from '../src/ebpf/agent/operations.ts';
import { KatranBalancer } from '../src/ebpf/katran/balancer.ts';
import { CONNECTION_RATE_MAX } from '../src/ebpf/katran/dataplane.ts';
import { KatranMaps, RING_SIZE } from '../src/ebpf/katran/maps.ts';
import { VARIANT_OPERATIONS } from '../src/ebpf/katran/operations.ts';
import { fnv32, realHash } from '../src/ebpf/katran/real-hash.ts';
import { Reals } from '../src/ebpf/katran/reals.ts';
import { katranRing } from '../src/ebpf/maglev/katran-ring.ts';
import { iptables } from '../src/iptables/mode.ts';
import { READY, SERVING, type Cluster, type Service } from '../src/kubernetes/cluster.ts';
import { EndpointsMap } from '../src/kubernetes/endpoints-map.ts';
import { syntheticCluster } from '../src/kubernetes/synthetic.ts';
import {
  defaultsOf,
  DROP,
  FORWARD,
  Verdict,
  type NodeContext,
  type Proxier,
  type SyncPlan,
} from '../src/proxier.ts';

const SECOND = 1_000_000_000;
const address = (text: string): number => parseIpv4(text)!;
const OUTSIDE = address('203.0.113.5');
const LB = address('198.51.100.7');

// Clusters, machines and packets.

/** Services of which each has a load balancer address. */
function clusterOf(services: number, endpoints: number, first: Partial<Service> = {}): Cluster {
  const cluster = syntheticCluster({ services, endpoints, podsPerNode: 110, nodes: 3, udpEvery: 0 });
  const exposed = cluster.services.map((s, i) => ({
    ...s,
    loadBalancerIps: [LB + i],
    ...(i === 0 && first),
  }));
  return { ...cluster, services: exposed };
}

function nodeOf(cluster: Cluster, endpoints: EndpointsMap, cores: number): NodeContext {
  const conntrack = {
    buckets: 16_384,
    max: 65_536,
    tcpEstablishedTimeoutS: 86_400,
    tcpCloseWaitTimeoutS: 3600,
  };
  return { cluster, endpoints, node: 0, cores, conntrack, streams: new Streams('katran') };
}

interface Header {
  readonly source?: number;
  readonly sourcePort?: number;
  readonly destination?: number;
  readonly destinationPort?: number;
  readonly protocol?: number;
  readonly flags?: number;
  readonly origin?: number;
}

class Rig {
  readonly cluster: Cluster;
  readonly endpoints: EndpointsMap;
  readonly balancer: KatranBalancer;
  readonly first: SyncPlan;
  readonly verdict = new Verdict(VARIANT_OPERATIONS.length);
  readonly packet = new Packet();

  constructor(cluster: Cluster, cores = 1) {
    this.cluster = cluster;
    this.endpoints = new EndpointsMap(cluster);
    this.balancer = new KatranBalancer(nodeOf(cluster, this.endpoints, cores));
    this.first = commit(this.balancer.sync([], true));
  }

  send(header: Header = {}, atNs = 0): Verdict {
    const port = this.cluster.ports.port[0]!;
    const to = { destination: LB, destinationPort: port, source: OUTSIDE, origin: FROM_OUTSIDE };
    return sendTo(this.balancer, this.packet, this.verdict, { ...to, ...header }, atNs);
  }

  sync(...ports: number[]): SyncPlan {
    return commit(this.balancer.sync(ports, false));
  }
}

function sendTo(proxier: Proxier, packet: Packet, verdict: Verdict, header: Header, atNs = 0): Verdict {
  packet.source = header.source!;
  packet.sourcePort = header.sourcePort ?? 40_000;
  packet.destination = header.destination!;
  packet.destinationPort = header.destinationPort!;
  packet.protocol = header.protocol ?? TCP;
  packet.flags = header.flags ?? SYN;
  packet.origin = header.origin as Origin;
  verdict.begin(packet);
  proxier.dataplane.classify(packet, atNs, verdict);
  return verdict;
}

function commit(plan: SyncPlan): SyncPlan {
  for (const stage of plan.stages) stage.commit();
  return plan;
}

function countsOf(counts: Float64Array): Record<string, number> {
  const counted: Record<string, number> = {};
  VARIANT_OPERATIONS.forEach((name, i) => {
    if (counts[i] !== 0 && !name.endsWith('.step')) counted[name.slice(5)] = counts[i]!;
  });
  return counted;
}

function planCounts(plan: SyncPlan): Record<string, number> {
  const total = new Float64Array(VARIANT_OPERATIONS.length);
  for (const { counts } of plan.stages) counts.forEach((count, i) => (total[i]! += count));
  return countsOf(total);
}

// Maps.

test('512 VIPs, 4096 reals, rings of 268 MB, 8,000,000 connections over all cores', (t) => {
  const maps = new KatranMaps(new Streams('maps').stream('seeds'), 4);
  t.is(maps.vips.maxEntries, 512);
  t.is(maps.reals.length, 4096);
  // 33,554,944 values of 4 bytes, each in 8.
  t.is(512 * RING_SIZE, 33_554_944);
  t.is(maps.ringBytes, 33_554_944 * 8 + 312);
  t.deepEqual(
    maps.lru.map(({ maxEntries }) => maxEntries),
    [2_000_000, 2_000_000, 2_000_000, 2_000_000],
  );
  const many = new KatranMaps(new Streams('maps').stream('seeds'), 130);
  t.is(many.lru.length, 129);
  t.is(many.lru[128]!.maxEntries, 1000);
  t.is(many.flow(129, 1, 1, 1, 1, TCP), many.lru[128]!);
});

test('a real takes the number that has been free for longest, from 1; the array is written for new ones', (t) => {
  const reals = new Reals();
  t.deepEqual(reals.take(100), { number: 1, isNew: true });
  t.deepEqual(reals.take(100), { number: 1, isNew: false });
  t.deepEqual(reals.take(200), { number: 2, isNew: true });
  reals.give(100);
  t.is(reals.numberOf(100), 1);
  reals.give(100);
  t.is(reals.numberOf(100), 0);
  for (let number = 3; number <= 4095; number++) t.is(reals.take(1000 + number).number, number);
  t.is(reals.take(300).number, 1);
  t.deepEqual(reals.take(301), { number: 0, isNew: false });
  t.is(reals.count, 4095);
});

test('operations extend those of the mode; tables and working sets are those of Katran alone', (t) => {
  t.deepEqual(VARIANT_OPERATIONS.slice(0, MODE_OPERATIONS.length), [...MODE_OPERATIONS]);
  t.is(new Set(VARIANT_OPERATIONS).size, VARIANT_OPERATIONS.length);
  const rig = new Rig(clusterOf(3, 2), 2);
  rig.send();
  const { dataplane } = rig.balancer;
  const bytes = dataplane.tables().map((table) => table.bytes);
  // Buckets and elements of 48 + 40 + 16 bytes, 4,000,000 for each of two cores.
  t.is(bytes[3], 2 * (16 * 4_194_304 + 4_000_000 * 104));
  t.is(bytes[2], 268_439_864);
  const sets = new Float64Array(VARIANT_OPERATIONS.length).fill(7);
  dataplane.workingSets(sets);
  const used = VARIANT_OPERATIONS.filter((_, i) => sets[i]! > 0);
  t.deepEqual(used, [
    'ebpf.services.lookup',
    'ebpf.ct.lookup',
    'ebpf.ct.update',
    'ebpf.katran.ring.read',
    'ebpf.katran.array.lookup',
  ]);
  t.is(sets[VARIANT_OPERATIONS.indexOf('ebpf.katran.ring.read')], 3 * 65_537 * 8);
});

// A packet's way.

test('a SYN is not looked up: VIP, ring, real, then the flow is remembered on its core', (t) => {
  const rig = new Rig(clusterOf(1, 4));
  const verdict = rig.send();
  t.deepEqual(countsOf(verdict.counts), {
    xdp: 1,
    'dsr.dispatch': 1,
    'services.lookup': 1,
    'ct.update': 1,
    'katran.ring.read': 1,
    'katran.array.lookup': 9,
    'katran.ktime': 1,
  });
  t.true(verdict.first);
  t.is(verdict.destination, rig.cluster.endpoints.address[verdict.endpoint]!);
  t.deepEqual([verdict.source, verdict.sourcePort], [OUTSIDE, 40_000]);
  const next = rig.send({ flags: ACK });
  t.deepEqual(countsOf(next.counts), {
    xdp: 1,
    'dsr.dispatch': 1,
    'services.lookup': 1,
    'ct.lookup': 1,
    'katran.array.lookup': 6,
  });
  t.false(next.first);
});

test('the ring is read at jhash of address and ports, seed 512 x 65537, modulo 65537', (t) => {
  const rig = new Rig(clusterOf(1, 8));
  const { destinationPort } = { destinationPort: rig.cluster.ports.port[0]! };
  const told: string[] = [];
  rig.balancer.dataplane.recorder = { step: (where, what) => told.push(`${where}: ${what}`) };
  rig.send({ sourcePort: 1234 });
  // Words as a little-endian machine reads the packet: address, then both ports, the source's first.
  const ports = swap32(((1234 << 16) | destinationPort) >>> 0);
  const position = jhash2(swap32(OUTSIDE), ports, 33_554_944) % 65_537;
  t.true(told.some((line) => line.startsWith(`ch_rings: VIP 0, position ${position}: real `)));
});

test('packets that are not from outside, and answers, meet no program; others that are no VIP cost two lookups', (t) => {
  const rig = new Rig(clusterOf(1, 2));
  for (const origin of [FROM_POD, FROM_HOST]) {
    const inside = rig.send({ origin });
    t.deepEqual(countsOf(inside.counts), {});
    t.is(inside.destination, LB);
  }
  const request = rig.send();
  const back = { source: request.destination, sourcePort: request.destinationPort, flags: SYN | ACK };
  const answer = rig.send({ ...back, destination: OUTSIDE, destinationPort: 40_000 });
  t.deepEqual(countsOf(answer.counts), {});
  t.is(answer.fate, FORWARD);
  const stranger = rig.send({ destination: address('192.0.2.77') });
  t.deepEqual(countsOf(stranger.counts), { xdp: 1, 'services.lookup': 2 });
  // A pod elsewhere that asks a VIP is served.
  t.true(rig.send({ source: request.destination, destination: LB }).endpoint >= 0);
});

test('each core has connections of its own: a flow that moves goes by the ring again', (t) => {
  const rig = new Rig(clusterOf(1, 50), 8);
  for (let sourcePort = 1; sourcePort <= 400; sourcePort++) rig.send({ sourcePort });
  const used = rig.balancer.dataplane.maps.lru.map(({ count }) => count);
  t.is(
    used.reduce((sum, count) => sum + count, 0),
    400,
  );
  t.true(used.every((count) => count > 20));
  t.is(rig.balancer.dataplane.connections().entries, 400);
  t.is(rig.balancer.dataplane.connections().peak, 400);
});

test('a UDP flow that was silent for more than 30 s goes by the ring again; each packet prolongs it', (t) => {
  const cluster = clusterOf(1, 4);
  cluster.ports.protocol[0] = UDP;
  const rig = new Rig(cluster);
  const udp = { protocol: UDP, flags: 0 };
  t.true(rig.send(udp, 0).first);
  t.false(rig.send(udp, 30 * SECOND).first);
  t.false(rig.send(udp, 60 * SECOND).first);
  t.true(rig.send(udp, 90 * SECOND + 1).first);
});

test('beyond 125,000 new connections in a second a core remembers none, and serves them by the ring', (t) => {
  const rig = new Rig(clusterOf(1, 3));
  const { dataplane } = rig.balancer;
  for (let i = 0; i < CONNECTION_RATE_MAX + 10; i++) {
    rig.send({ source: OUTSIDE + (i >>> 14), sourcePort: 1024 + (i & 0x3fff) }, 1000 + i);
  }
  t.is(CONNECTION_RATE_MAX, 125_000);
  t.is(dataplane.bypassed, 10);
  t.is(dataplane.connections().entries, 125_000);
  t.true(rig.send({ source: OUTSIDE + 9 }, SECOND).endpoint >= 0);
  t.is(dataplane.bypassed, 11);
  rig.send({ source: OUTSIDE + 10 }, SECOND + 1001);
  t.is(dataplane.connections().entries, 125_001);
});

test('with session affinity the client port plays no part, neither on the ring nor among the flows', (t) => {
  const rig = new Rig(clusterOf(1, 50, { affinityS: 600 }));
  const { endpoint } = rig.send({ sourcePort: 1 });
  for (let sourcePort = 2; sourcePort < 100; sourcePort++) t.is(rig.send({ sourcePort }).endpoint, endpoint);
  t.is(rig.balancer.dataplane.connections().entries, 1);
});

// Rings and churn.

test('rings are balanced: shares differ by one position at most, flows follow (chi-square)', (t) => {
  const rig = new Rig(clusterOf(1, 20));
  const { maps } = rig.balancer.dataplane;
  const shares = new Map<number, number>();
  for (let position = 0; position < RING_SIZE; position++) {
    const real = maps.ringAt(0, position);
    shares.set(real, (shares.get(real) ?? 0) + 1);
  }
  t.is(shares.size, 20);
  // Every round gives each real one position: shares differ by one.
  t.true([...shares.values()].every((count) => count === 3276 || count === 3277));
  const hits = new Map<number, number>();
  for (let i = 0; i < 20_000; i++) {
    const { endpoint } = rig.send({ source: OUTSIDE + (i >>> 10), sourcePort: 1024 + (i & 0x3ff) });
    hits.set(endpoint, (hits.get(endpoint) ?? 0) + 1);
  }
  let chi = 0;
  for (const count of hits.values()) chi += ((count - 1000) * (count - 1000)) / 1000;
  // The 99.9th percentile with 19 degrees of freedom.
  t.true(chi < 43.82, `chi-square ${chi}`);
});

test('an update writes the positions that differ with one system call; the first sync writes VIPs and reals', (t) => {
  const rig = new Rig(clusterOf(1, 10));
  t.deepEqual(planCounts(rig.first), {
    'syscall.insert': 1,
    'syscall.update': 11,
    'katran.ring.slot': RING_SIZE,
    'katran.batch.entry': RING_SIZE,
  });
  rig.endpoints.remove(3);
  const counts = planCounts(rig.sync(0));
  t.is(counts['syscall.update'], 1);
  t.is(counts['katran.ring.slot'], RING_SIZE);
  t.true(counts['katran.batch.entry']! >= 6553 && counts['katran.batch.entry']! < RING_SIZE / 2);
  t.deepEqual(planCounts(rig.sync(0)), {});
});

test('a real that is gone keeps the flows that are remembered, until its number goes to another', (t) => {
  const rig = new Rig(clusterOf(2, 4));
  const { address: addresses } = rig.cluster.endpoints;
  const { endpoint } = rig.send();
  rig.endpoints.remove(endpoint);
  rig.sync(0);
  const pinned = rig.send({ flags: ACK });
  t.is(pinned.destination, addresses[endpoint]!);
  t.false(pinned.first);
  // A SYN is not looked up, so it goes elsewhere; a new flow as well.
  t.not(rig.send({ flags: SYN }).destination, addresses[endpoint]);
  rig.send({ sourcePort: 7 });
  t.not(rig.verdict.destination, addresses[endpoint]);

  // Numbers come back last in the line: only when all 4095 have been used does the slot get another address.
  const reals = new Reals();
  const first = reals.take(1).number;
  reals.give(1);
  for (let real = 2; real <= 4095; real++) t.not(reals.take(real).number, first);
  t.is(reals.take(9999).number, first);
});

test('a VIP that loses its last real keeps its ring; one that never had any drops', (t) => {
  const rig = new Rig(clusterOf(2, 1));
  const { endpoint, destination } = rig.send();
  rig.endpoints.remove(endpoint);
  t.is(planCounts(rig.sync(0))['katran.batch.entry'], undefined);
  const stale = rig.send({ sourcePort: 9 });
  t.is(stale.fate, FORWARD);
  t.is(stale.destination, destination);
  t.true(rig.balancer.remarks().some((remark) => remark.startsWith('1 VIPs have lost their last real')));
  t.is(new Rig(clusterOf(1, 0)).send().fate, DROP);
});

// Limits.

test('more than 512 VIPs or 4095 reals are refused, with the limit named', (t) => {
  const wide = new Rig(clusterOf(520, 1));
  t.is(wide.first.failure!.error, 'ENOSPC');
  t.regex(
    wide.first.failure!.message,
    /exhausted vip's space: the cluster needs 520 VIPs, Katran holds 512.*8 service ports lack one/,
  );
  t.true(wide.send({ destination: LB + 511 }).endpoint >= 0);
  t.is(wide.send({ destination: LB + 512 }).endpoint, -1);
  t.is(wide.sync(0).failure, undefined);
  t.truthy(wide.sync(515).failure);

  const deep = new Rig(clusterOf(5, 1000));
  t.regex(deep.first.failure!.message, /exhausted real's space: Katran holds 4096 reals .*1 VIPs lack 905/);
  // Those that fit are served.
  t.true(deep.send({ destination: LB + 4 }).endpoint >= 4000);
  t.is(deep.balancer.dataplane.tables()[1]!.entries, 4096);
});

test('one pod behind two VIPs is one real', (t) => {
  const cluster = clusterOf(1, 6, { externalIps: [LB + 100] });
  const rig = new Rig(cluster);
  t.is(planCounts(rig.first)['syscall.insert'], 2);
  // Six reals and two rings.
  t.is(planCounts(rig.first)['syscall.update'], 8);
  const lines = [...rig.balancer.dump()];
  t.is(lines.length, 14);
  t.regex(lines[0]!, /^VIP: 198\.51\.100\.7 Port: \d+ Protocol: tcp number 0 /);
  t.regex(lines[1]!, /^ ->10\.\d+\.\d+\.\d+ weight: 1 number 1$/);
});

test('hashes of reals are those of folly, where addresses may collide; such reals share the ring all the same', (t) => {
  // Golden values of folly's own bindings: fnv32_append_byte_BROKEN, fnv32_buf_BROKEN, fnv32_buf of plain characters.
  t.is(fnv32([0x80], 0x12345678), 3_751_534_952);
  const text = [...'hello'].map((letter) => letter.charCodeAt(0));
  const rest = [...'world'].map((letter) => letter.charCodeAt(0));
  t.is(fnv32([...text, 0, 0x80, ...rest], 0x12345678), 2_409_554_684);
  const seen = new Map<number, number>();
  let pair: number[] = [];
  for (let real = address('10.128.0.0'); pair.length === 0; real++) {
    const { hashUpper, hashLower } = realHash(real);
    t.true(hashUpper >>> 0 === hashUpper && hashLower >>> 0 === hashLower);
    const other = seen.get(hashLower);
    if (other !== undefined && realHash(other).hashUpper === hashUpper) pair = [other, real];
    seen.set(hashLower, real);
  }
  const ring = katranRing(pair.map((real, i) => ({ number: i + 1, weight: 1, ...realHash(real) })));
  t.is(ring.filter((number) => number === 1).length, (RING_SIZE + 1) / 2);
});

// Against kube-proxy.

test('random clusters: an endpoint is one that iptables may choose for an outside client', (t) => {
  fc.assert(
    fc.property(
      fc.record({
        endpoints: fc.integer({ min: 0, max: 8 }),
        ready: fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }),
        externalPolicyLocal: fc.boolean(),
        target: fc.constantFrom('lb', 'nodePort'),
      }),
      ({ endpoints: count, ready, externalPolicyLocal, target }) => {
        const cluster = clusterOf(1, count, { externalPolicyLocal });
        cluster.ports.nodePort[0] = 30_080;
        for (let row = 0; row < count; row++)
          cluster.endpoints.conditions[row] = ready[row] ? READY | SERVING : 0;
        const rig = new Rig(cluster);
        const nodePort = { destination: cluster.nodes[0]!.address, destinationPort: 30_080 };
        const lb = { destination: LB, destinationPort: cluster.ports.port[0]! };
        const to = { ...(target === 'lb' ? lb : nodePort), source: OUTSIDE, origin: FROM_OUTSIDE };
        const reference = iptables.create(nodeOf(cluster, rig.endpoints, 1), defaultsOf(iptables.options));
        commit(reference.sync([], true));
        const allowed = new Set<number>();
        const verdict = new Verdict(iptables.operations.length);
        for (let sourcePort = 1; sourcePort <= 150; sourcePort++) {
          const { endpoint } = sendTo(reference, new Packet(), verdict, { ...to, sourcePort });
          if (endpoint >= 0) allowed.add(endpoint);
        }
        for (let sourcePort = 1; sourcePort <= 20; sourcePort++) {
          const mine = rig.send({ ...to, sourcePort });
          t.is(mine.endpoint >= 0, allowed.size > 0);
          if (mine.endpoint >= 0) t.true(allowed.has(mine.endpoint));
          else t.is(mine.fate, DROP);
        }
      },
    ),
    { seed: 42, numRuns: 60 },
  );
});
