import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
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
  formatIpv4,
  parseIpv4,
  type Origin,
} from '@vipsim/sim-core';
import { PriceList } from '../src/cost/profile.ts';
import { PROFILES } from '../src/cost/profiles.ts';
import { EndpointsMap } from '../src/kubernetes/endpoints-map.ts';
import { READY } from '../src/kubernetes/cluster.ts';
import { readCluster } from '../src/kubernetes/read.ts';
import { SYNTHETIC_DEFAULTS, syntheticCluster } from '../src/kubernetes/synthetic.ts';
import { DROP, FORWARD, REJECT, Verdict, defaultsOf } from '../src/proxier.ts';
import { DEFAULT_MODES, MODES } from '../src/modes.ts';
import { RoundRobin } from '../src/userspace/balancer.ts';
import { UserspaceProxier, type UserspaceOptions } from '../src/userspace/kube-proxy.ts';
import { userspace } from '../src/userspace/mode.ts';
import { USERSPACE_OPERATIONS } from '../src/userspace/operations.ts';
import { PortalWalk } from '../src/userspace/portal-walk.ts';
import { Portals } from '../src/userspace/portals.ts';
import { ACCEPTS, REFUSES, SILENT, type Reachability } from '../src/reachability.ts';
import { SourcePorts } from '../src/userspace/source-ports.ts';

const MS = 1_000_000;
const SECOND = 1000 * MS;
const ip = (text: string): number => parseIpv4(text)!;
const read = (file: string): string => readFileSync(new URL(`fixtures/${file}`, import.meta.url), 'utf8');
const NODE = ip('172.16.0.2');
const CLIENT = ip('10.180.0.77');

type Name = (typeof USERSPACE_OPERATIONS)[number];

/** Only what was counted, by name. */
function counted(counts: Float64Array): Partial<Record<Name, number>> {
  return Object.fromEntries(
    USERSPACE_OPERATIONS.map((name, i) => [name, counts[i]!] as const).filter(([, n]) => n !== 0),
  );
}

const of = (counts: Float64Array, name: Name): number => counts[USERSPACE_OPERATIONS.indexOf(name)]!;

/** Services of one namespace, each with its endpoints at 10.180.x.y. */
function manifest(
  services: readonly {
    readonly name: string;
    readonly clusterIp: string;
    readonly endpoints: readonly string[];
    readonly protocol?: string;
    readonly affinityS?: number;
    readonly nodePort?: number;
  }[],
): string {
  const documents = services.flatMap(({ name, clusterIp, endpoints, protocol, affinityS, nodePort }) => {
    const port = { name: 'p', port: 80, protocol: protocol ?? 'TCP' };
    const sticky =
      affinityS === undefined
        ? {}
        : { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: affinityS } } };
    return [
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name, namespace: 'ns' },
        spec: {
          clusterIP: clusterIp,
          type: nodePort === undefined ? 'ClusterIP' : 'NodePort',
          ports: [nodePort === undefined ? port : { ...port, nodePort }],
          ...sticky,
        },
      },
      {
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: { name: `${name}-1`, namespace: 'ns', labels: { 'kubernetes.io/service-name': name } },
        addressType: 'IPv4',
        ports: [{ name: 'p', port: 8080, protocol: protocol ?? 'TCP' }],
        endpoints: endpoints.map((address) => ({ addresses: [address], conditions: { ready: true } })),
      },
    ];
  });
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items: documents });
}

/** A node with everything programmed, and a hand for packets. */
class Bench {
  readonly proxier: UserspaceProxier;
  readonly endpoints: EndpointsMap;
  readonly verdict = new Verdict(USERSPACE_OPERATIONS.length);
  readonly cluster: ReturnType<typeof readCluster>;
  readonly startCounts: Float64Array;

  constructor(
    text: string,
    setup: { readonly reachability?: Reachability; readonly options?: Partial<UserspaceOptions> } = {},
  ) {
    this.cluster = readCluster([{ name: 'test.yaml', text }]);
    this.endpoints = new EndpointsMap(this.cluster);
    const node = {
      cluster: this.cluster,
      endpoints: this.endpoints,
      node: 0,
      cores: 2,
      conntrack: CONNTRACK_DEFAULTS,
      streams: new Streams('0'),
    };
    this.proxier = new UserspaceProxier(
      setup.reachability === undefined ? node : { ...node, reachability: setup.reachability },
      { ...defaultsOf(userspace.options), ...setup.options },
    );
    const plan = this.proxier.sync([], true);
    this.startCounts = plan.stages[0]!.counts;
    for (const stage of plan.stages) stage.commit();
  }

  pass(packet: Packet, nowNs: number): Verdict {
    this.verdict.begin(packet);
    this.proxier.dataplane.classify(packet, nowNs, this.verdict);
    return this.verdict;
  }

  /** From a client pod to 10.96.0.1:80 unless told otherwise. */
  send(
    flags: number,
    nowNs: number,
    from: {
      readonly port?: number;
      readonly client?: number;
      readonly to?: string;
      readonly toPort?: number;
      readonly origin?: Origin;
    } = {},
  ): Verdict {
    const packet = new Packet();
    packet.source = from.client ?? CLIENT;
    packet.sourcePort = from.port ?? 40_000;
    packet.destination = ip(from.to ?? '10.96.0.1');
    packet.destinationPort = from.toPort ?? 80;
    packet.flags = flags;
    packet.origin = from.origin ?? FROM_POD;
    packet.protocol = flags === 0 ? UDP : TCP;
    return this.pass(packet, nowNs);
  }

  /** What the endpoint answers to a packet that left as `sent` says. */
  answer(
    flags: number,
    nowNs: number,
    sent: { source: number; sourcePort: number; destination: number; destinationPort: number },
  ): Verdict {
    const packet = new Packet();
    packet.source = sent.destination;
    packet.sourcePort = sent.destinationPort;
    packet.destination = sent.source;
    packet.destinationPort = sent.sourcePort;
    packet.flags = flags;
    packet.origin = FROM_OUTSIDE;
    packet.protocol = flags === 0 ? UDP : TCP;
    return this.pass(packet, nowNs);
  }

  address(endpoint: number): string {
    return formatIpv4(this.cluster.endpoints.address[endpoint]!);
  }
}

const tuple = (
  verdict: Verdict,
): Pick<Verdict, 'source' | 'sourcePort' | 'destination' | 'destinationPort'> => ({
  source: verdict.source,
  sourcePort: verdict.sourcePort,
  destination: verdict.destination,
  destinationPort: verdict.destinationPort,
});
const ONE = [{ name: 'web', clusterIp: '10.96.0.1', endpoints: ['10.180.0.1'] }];
const THREE = [
  { name: 'web', clusterIp: '10.96.0.1', endpoints: ['10.180.0.1', '10.180.0.2', '10.180.0.3'] },
  { name: 'api', clusterIp: '10.96.0.2', endpoints: ['10.180.0.9'] },
];

// ── Rules and sockets ───────────────────────────────────────────────────────────────────────────────────────

test('the commands that it runs leave the tables that iptables-legacy-save 1.8.9 then printed, and the sizes that the kernel reported', (t) => {
  const { proxier } = new Bench(read('userspace-services.yaml'));
  t.is([...proxier.dump('iptables-save')].join('\n') + '\n', read('userspace-iptables-save.txt'));
  // IPT_SO_GET_INFO after those commands, Linux 6.18.44.
  const [nat, filter] = proxier.dataplane.tables();
  t.deepEqual([nat!.entries, nat!.bytes], [35, 13_568]);
  t.deepEqual([filter!.entries, filter!.bytes], [9, 2776]);
});

test('the arguments of its rules are those of iptablesCommonPortalArgs and its callers', (t) => {
  const { proxier } = new Bench(read('userspace-services.yaml'));
  const commands = [...proxier.dump('iptables')].map((line) => line.replace('iptables -w 5 -W 100000 ', ''));
  const common = '-m comment --comment ns1/ext:p80 -p tcp -m tcp';
  t.deepEqual(commands.slice(0, 2), [
    '-N KUBE-PORTALS-CONTAINER -t nat',
    '-I PREROUTING -t nat -m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -j KUBE-PORTALS-CONTAINER',
  ]);
  t.deepEqual(commands.slice(10, 20), [
    `-A KUBE-PORTALS-CONTAINER -t nat ${common} --dport 80 -d 10.96.0.41/32 -j REDIRECT --to-ports 32769`,
    `-A KUBE-PORTALS-HOST -t nat ${common} --dport 80 -d 10.96.0.41/32 -j DNAT --to-destination 172.16.0.2:32769`,
    `-A KUBE-PORTALS-CONTAINER -t nat ${common} --dport 80 -d 192.168.99.33/32 -m physdev ! --physdev-is-in -j REDIRECT --to-ports 32769`,
    `-A KUBE-PORTALS-CONTAINER -t nat ${common} --dport 80 -d 192.168.99.33/32 -m addrtype --dst-type LOCAL -j REDIRECT --to-ports 32769`,
    `-A KUBE-PORTALS-HOST -t nat ${common} --dport 80 -d 192.168.99.33/32 -m addrtype --dst-type LOCAL -j DNAT --to-destination 172.16.0.2:32769`,
    `-A KUBE-PORTALS-CONTAINER -t nat ${common} --dport 80 -d 1.2.3.4/32 -j REDIRECT --to-ports 32769`,
    `-A KUBE-PORTALS-HOST -t nat ${common} --dport 80 -d 1.2.3.4/32 -j DNAT --to-destination 172.16.0.2:32769`,
    `-A KUBE-NODEPORT-CONTAINER -t nat ${common} --dport 30081 -j REDIRECT --to-ports 32769`,
    `-A KUBE-NODEPORT-HOST -t nat ${common} --dport 30081 -j DNAT --to-destination 172.16.0.2:32769`,
    `-A KUBE-NODEPORT-NON-LOCAL -t filter ${common} --dport 32769 -m state --state NEW -j ACCEPT`,
  ]);
  t.is([...proxier.dump('ss')].filter((line) => line.includes('LISTEN')).length, 2);
  t.throws(() => proxier.dump('nft'), { instanceOf: RangeError });
});

test('a name from the input cannot begin a rule of its own', (t) => {
  const { proxier } = new Bench(manifest([{ ...ONE[0]!, name: 'x" -j DROP\n-A INPUT' }]));
  for (const format of ['iptables', 'iptables-save']) {
    const lines = [...proxier.dump(format)];
    t.false(lines.some((line) => line.startsWith('-A INPUT') && !line.includes('KUBE-NODEPORT-NON-LOCAL')));
    t.false(lines.some((line) => line.includes('-j DROP')));
  }
});

test('the walk that finds a rule by its key has the verdict and the counts of the walk over every rule', (t) => {
  const addresses = [10, 11, 12, NODE];
  const service = fc.record({
    clusterIp: fc.constantFrom(10, 11, 12),
    protocol: fc.constantFrom(TCP, UDP),
    port: fc.integer({ min: 1, max: 3 }),
    nodePort: fc.constantFrom(0, 1, 2, 3),
    external: fc.subarray([10, 11, NODE]),
    balancer: fc.subarray([11, 12]),
  });
  const packet = fc.record({
    destination: fc.constantFrom(...addresses),
    port: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 32_768, max: 32_775 })),
    protocol: fc.constantFrom(TCP, UDP),
    opening: fc.boolean(),
    fromBridge: fc.boolean(),
    fromHost: fc.boolean(),
  });
  const base = readCluster([{ name: 'x', text: manifest(ONE) }]);
  fc.assert(
    fc.property(
      fc.array(service, { maxLength: 8 }),
      fc.array(packet, { minLength: 1 }),
      (services, packets) => {
        const cluster = { ...base, services: [] as (typeof base.services)[number][], ports: base.ports };
        cluster.ports = new (
          base.ports.constructor as typeof import('../src/kubernetes/cluster.ts').ServicePorts
        )();
        for (const { clusterIp, protocol, port, nodePort, external, balancer } of services) {
          const index = cluster.services.length;
          cluster.services.push({
            ...base.services[0]!,
            clusterIp,
            externalIps: external,
            loadBalancerIps: balancer,
          });
          cluster.ports.add({ service: index, clusterIp, name: '', protocol, port, nodePort });
        }
        const portals = new Portals(cluster);
        services.forEach((_, index) => portals.open(index));
        const literal = new PortalWalk(portals, NODE, true);
        const indexed = new PortalWalk(portals, NODE);
        for (const one of packets) {
          const [left, right] = [literal, indexed].map((walk) => {
            const counts = new Float64Array(USERSPACE_OPERATIONS.length);
            walk.destination = one.destination;
            walk.destinationPort = one.port;
            walk.protocol = one.protocol;
            walk.opening = one.opening;
            walk.fromBridge = one.fromBridge;
            walk.translate(one.fromHost, counts);
            const servicePort = walk.servicePort;
            walk.input(counts);
            return { servicePort, counts: counted(counts) };
          });
          t.deepEqual(left, right);
        }
      },
    ),
    { seed: 42, numRuns: 300 },
  );
});

// ── The balancer ────────────────────────────────────────────────────────────────────────────────────────────

/** math/rand's Perm, written down a second time: m[i] = m[j], m[j] = i. */
function perm(n: number, below: (bound: number) => number): number[] {
  const m: number[] = [];
  for (let i = 0; i < n; i++) {
    const j = below(i + 1);
    m[i] = m[j]!;
    m[j] = i;
  }
  return m;
}

test('endpoints are served round robin in the order that rand.Perm shuffles them to, anew at each change of the set only', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.uniqueArray(fc.nat(20), { maxLength: 12 }), { minLength: 1, maxLength: 6 }),
      fc.string(),
      (sets, seed) => {
        const balancer = new RoundRobin(new Streams(seed).stream('s'));
        const chance = new Streams(seed).stream('s');
        const shuffle = (list: number[]): number[] => {
          const shuffled: number[] = [];
          perm(list.length, (bound) => chance.below(bound)).forEach(
            (place, i) => (shuffled[place] = list[i]!),
          );
          return shuffled;
        };
        balancer.addService(Int32Array.from(sets[0]!), 0);
        let order = shuffle(sets[0]!);
        let served = 0;
        for (const set of sets.slice(1)) {
          for (let i = 0; i < order.length + 2; i++) {
            t.is(balancer.next(0, i, false, 0), order.length === 0 ? -1 : order[served++ % order.length]!);
          }
          t.false(
            balancer.setEndpoints(0, Int32Array.from(order).toReversed()),
            'the same set in another order',
          );
          const same = [...set].sort().join() === [...order].sort().join();
          t.is(balancer.setEndpoints(0, Int32Array.from(set)), !same);
          if (same) continue;
          order = shuffle(set);
          served = 0;
        }
      },
    ),
    { seed: 42, numRuns: 200 },
  );
});

test('affinity lasts while its age in whole seconds is below the timeout, and use renews it', (t) => {
  const balancer = new RoundRobin(new Streams('0').stream('s'));
  balancer.addService(Int32Array.of(), 10);
  balancer.setEndpoints(0, Int32Array.of(5, 6, 7));
  const [first, second, third] = balancer.endpointsOf(0) as unknown as [number, number, number];
  t.is(balancer.next(0, CLIENT, false, 0), first);
  t.is(balancer.next(0, CLIENT, false, 10 * SECOND - 1), first, '9.999999999 s count as 9');
  t.is(balancer.next(0, CLIENT, false, 20 * SECOND - 2), first, 'renewed');
  t.is(balancer.next(0, CLIENT + 1, false, 20 * SECOND), second, 'another client is next in turn');
  t.is(balancer.next(0, CLIENT, false, 30 * SECOND - 2), third, '10 s are over');
  t.is(balancer.next(0, CLIENT, true, 30 * SECOND), first, 'reset: the turn goes on');
  t.is(balancer.next(0, CLIENT, false, 31 * SECOND), first, 'and is remembered');
  t.is(balancer.records(), 2);
  balancer.dropStale(30 * SECOND);
  t.is(balancer.records(), 1, 'the other client is 10 s old');
  balancer.setEndpoints(0, Int32Array.of(second, third));
  t.is(balancer.records(), 0, 'records go with their endpoint');
});

test('a Service that has endpoints at the start keeps 10,800 s of affinity, whatever timeout it asks for', (t) => {
  const balancer = new RoundRobin(new Streams('0').stream('s'));
  balancer.addService(Int32Array.of(5, 6), 10);
  const first = balancer.next(0, CLIENT, false, 0);
  t.is(balancer.next(0, CLIENT, false, 10_800 * SECOND - 1), first);
  t.not(balancer.next(0, CLIENT, false, 2 * 10_800 * SECOND), first);
});

// ── Connections ─────────────────────────────────────────────────────────────────────────────────────────────

test('a SYN meets the portals, is accepted and dialled on: these operations and no others', (t) => {
  const verdict = new Bench(manifest(ONE)).send(SYN, 0);
  t.deepEqual(counted(verdict.counts), {
    // Both flows: found missing, made, bound at two hooks; only the client's is rewritten.
    'conntrack.lookup': 2,
    'conntrack.create': 2,
    'nat.binding': 4,
    'nat.rewrite': 1,
    'stack.packet': 1,
    // PREROUTING, INPUT and nat INPUT; OUTPUT twice and POSTROUTING.
    'iptables.hook': 6,
    // The dial passes the one rule of KUBE-PORTALS-HOST.
    'iptables.legacy.skipped': 1,
    'iptables.legacy.selected': 12,
    'iptables.legacy.matched': 11,
    'iptables.match.comment': 4,
    'iptables.match.transport': 1,
    'iptables.match.addrtype': 1,
    'iptables.target': 1,
    'iptables.jump': 3,
    'userspace.wake': 1,
    'userspace.accept': 1,
    'userspace.lock': 1,
    'userspace.dial': 1,
  });
  t.true(verdict.first);
  t.is(verdict.endpoint, 0);
  t.is(formatIpv4(verdict.source), '172.16.0.2', 'the endpoint sees the node');
  t.deepEqual([formatIpv4(verdict.destination), verdict.destinationPort], ['10.180.0.1', 8080]);
  t.true(verdict.sourcePort >= 32_768 && verdict.sourcePort <= 60_999 && verdict.sourcePort % 2 === 0);
});

test('a connection is two: data is copied between them, and either end closes both', (t) => {
  const bench = new Bench(manifest(ONE));
  const { proxy } = bench.proxier.dataplane;
  const sent = tuple(bench.send(SYN, 0));
  const synack = bench.answer(SYN | ACK, MS, sent);
  t.deepEqual(tuple(synack), {
    source: ip('10.96.0.1'),
    sourcePort: 80,
    destination: CLIENT,
    destinationPort: 40_000,
  });
  t.is(of(synack.counts, 'userspace.goroutine'), 3);
  t.is(of(bench.send(ACK, 2 * MS).counts, 'userspace.byte'), 0, 'the ACK of the handshake carries nothing');
  const request = bench.send(ACK, 3 * MS);
  t.deepEqual(tuple(request), sent);
  t.false(request.first);
  const data = counted(request.counts);
  t.is(data['userspace.wake'], 1);
  t.is(data['userspace.syscall'], 3);
  t.is(data['userspace.byte'], 2 * 1448);
  t.is(data['conntrack.lookup'], 2);
  t.is(data['nat.rewrite'], 1);
  // 22 packets of 1,448 bytes fit into 32 KiB: the 23rd of the same instant needs another read.
  let syscalls = 0;
  for (let i = 0; i < 23; i++) syscalls += of(bench.answer(ACK, 4 * MS, sent).counts, 'userspace.syscall');
  t.is(syscalls, 6);
  t.is(proxy.files.sessions, 1);
  const fin = bench.send(FIN | ACK, 5 * MS);
  t.is(of(fin.counts, 'userspace.close'), 2);
  t.is(bench.answer(FIN | ACK, 6 * MS, sent).fate, FORWARD);
  t.is(proxy.files.sessions, 0);
  t.is(proxy.sessions.count, 1, 'TIME_WAIT');
  bench.proxier.dataplane.expire(65 * SECOND);
  t.is(proxy.sessions.count, 0);
  t.is(bench.send(ACK, 200 * SECOND).fate, REJECT, 'nobody has this connection');
});

test('every way to a service port leads to its socket, and the answer comes back by it', (t) => {
  const bench = new Bench(read('userspace-services.yaml'));
  const ways: [string, number, Origin][] = [
    ['10.96.0.41', 80, FROM_POD],
    ['10.96.0.41', 80, FROM_HOST],
    ['1.2.3.4', 80, FROM_OUTSIDE],
    ['192.168.99.33', 80, FROM_OUTSIDE],
    ['172.16.0.2', 30_081, FROM_OUTSIDE],
    ['172.16.0.2', 30_081, FROM_POD],
  ];
  for (const [i, [to, toPort, origin]] of ways.entries()) {
    const client = origin === FROM_HOST ? NODE : CLIENT + i;
    const sent = tuple(bench.send(SYN, i, { to, toPort, origin, client, port: 1000 + i }));
    t.is(formatIpv4(sent.destination), '10.180.0.1', `${to}:${toPort}`);
    const back = bench.answer(SYN | ACK, i, sent);
    t.deepEqual(
      [formatIpv4(back.source), back.sourcePort, back.destination, back.destinationPort],
      [to, toPort, client, 1000 + i],
    );
  }
  // Pods hang on a bridge port: rules for external IPs are for others.
  const direct = bench.send(SYN, 9, { to: '192.168.99.33', port: 9 });
  t.deepEqual(
    [formatIpv4(direct.destination), direct.source, direct.endpoint],
    ['192.168.99.33', CLIENT, -1],
  );
});

test('without endpoints a connection is accepted and closed, a datagram swallowed', (t) => {
  const bench = new Bench(
    manifest([
      { name: 'web', clusterIp: '10.96.0.1', endpoints: [] },
      { name: 'dns', clusterIp: '10.96.0.2', endpoints: [], protocol: 'UDP' },
    ]),
  );
  const closed = bench.send(SYN, 0);
  t.is(closed.fate, REJECT);
  t.is(of(closed.counts, 'userspace.accept'), 1);
  t.is(of(closed.counts, 'userspace.close'), 1);
  t.is(bench.send(0, 0, { to: '10.96.0.2' }).fate, DROP);
  t.is(bench.proxier.dataplane.proxy.sessions.count, 0);
});

// ── Dials that fail ─────────────────────────────────────────────────────────────────────────────────────────

test('a dead endpoint is hidden by the next dial after 250 ms, and holds up the loop of its service port alone', (t) => {
  let dead = '';
  const bench: Bench = new Bench(manifest(THREE), {
    reachability: { answer: (e) => (bench.address(e) === dead ? SILENT : ACCEPTS), roundTripNs: () => MS },
  });
  const order = [...bench.proxier.balancer.endpointsOf(0)];
  dead = bench.address(order[0]!);
  const { dataplane } = bench.proxier;
  const verdict = bench.send(SYN, 0);
  t.is(verdict.fate, FORWARD);
  t.is(verdict.endpoint, order[1]!);
  t.is(dataplane.delayNs, 250 * MS);
  t.is(of(verdict.counts, 'userspace.dial'), 2);
  t.is(of(verdict.counts, 'userspace.lock'), 2);
  t.is(of(verdict.counts, 'userspace.close'), 1);
  t.is(of(verdict.counts, 'conntrack.create'), 3, "the client's, and two dials'");
  // 100 ms later: the loop is busy until 251 ms, a dial of 1 ms included.
  const waiting = bench.send(SYN, 100 * MS, { port: 2 });
  t.is(waiting.endpoint, order[2]!);
  t.is(dataplane.delayNs, 151 * MS);
  bench.send(SYN, 100 * MS, { port: 3, to: '10.96.0.2' });
  t.is(dataplane.delayNs, 0, 'another service port has its own loop');
});

test('four dials that nobody answers take 250 ms, 500 ms, 1 s and 2 s; then the client is closed', (t) => {
  const bench: Bench = new Bench(manifest(THREE), {
    reachability: { answer: () => SILENT, roundTripNs: () => MS },
  });
  const verdict = bench.send(SYN, 0);
  t.is(verdict.fate, REJECT);
  t.is(bench.proxier.dataplane.delayNs, 3750 * MS);
  t.is(of(verdict.counts, 'userspace.dial'), 4);
  t.is(of(verdict.counts, 'userspace.close'), 5);
  t.is(bench.proxier.dataplane.proxy.failures, 1);
  t.is(bench.proxier.dataplane.proxy.files.sessions, 0);
});

test('an endpoint that refuses costs a round trip, and its conntrack entry goes', (t) => {
  let refuses = '';
  const bench: Bench = new Bench(manifest(THREE), {
    reachability: {
      answer: (e) => (bench.address(e) === refuses ? REFUSES : ACCEPTS),
      roundTripNs: () => MS,
    },
  });
  refuses = bench.address(bench.proxier.balancer.endpointsOf(0)[0]!);
  t.is(bench.send(SYN, 0).fate, FORWARD);
  t.is(bench.proxier.dataplane.delayNs, MS);
  t.is(bench.proxier.dataplane.connections().entries, 2);
  t.is(bench.proxier.dataplane.connections().inserts, 3);
});

test('a client bound to a dead endpoint is bound to the next that answers', (t) => {
  let dead = '';
  const bench: Bench = new Bench(manifest([{ ...THREE[0]!, affinityS: 10_800 }]), {
    reachability: { answer: (e) => (bench.address(e) === dead ? SILENT : ACCEPTS), roundTripNs: () => 0 },
  });
  const first = bench.send(SYN, 0).endpoint;
  t.is(bench.send(SYN, SECOND, { port: 2 }).endpoint, first);
  dead = bench.address(first);
  const second = bench.send(SYN, 2 * SECOND, { port: 3 }).endpoint;
  t.not(second, first);
  dead = '';
  t.is(bench.send(SYN, 3 * SECOND, { port: 4 }).endpoint, second);
});

test('where nobody can tell, a SYN that comes again is taken for a dial that failed', (t) => {
  const bench = new Bench(manifest(THREE));
  const order = bench.proxier.balancer.endpointsOf(0);
  const tried = [0, 1, 3, 7].map((seconds) => bench.send(SYN, seconds * SECOND).endpoint);
  t.deepEqual(tried, [order[0], order[1], order[2], order[0]]);
  t.is(bench.send(SYN, 15 * SECOND).fate, REJECT, 'four dials, no more');
});

test('an endpoint that resets an open connection ends it on both sides', (t) => {
  const bench = new Bench(manifest(ONE));
  const sent = tuple(bench.send(SYN, 0));
  bench.answer(SYN | ACK, MS, sent);
  bench.send(ACK, MS);
  const reset = bench.answer(RST | ACK, 2 * MS, sent);
  t.is(reset.destination, CLIENT);
  t.is(of(reset.counts, 'userspace.close'), 2);
  t.is(bench.proxier.dataplane.proxy.sessions.count, 0);
});

// ── Datagrams ───────────────────────────────────────────────────────────────────────────────────────────────

test('a UDP client has a socket and an endpoint until 250 ms pass without traffic either way', (t) => {
  const bench = new Bench(
    manifest([
      { name: 'dns', clusterIp: '10.96.0.1', endpoints: ['10.180.0.1', '10.180.0.2'], protocol: 'UDP' },
    ]),
    { options: { payloadBytes: 9000 } },
  );
  const first = bench.send(0, 0);
  const sent = tuple(first);
  t.is(of(first.counts, 'userspace.byte'), 2 * 4096, 'cut to the buffer');
  t.is(of(first.counts, 'userspace.dial'), 1);
  t.is(of(first.counts, 'userspace.lock'), 1);
  const again = bench.send(0, 249 * MS);
  t.deepEqual(tuple(again), sent);
  t.is(of(again.counts, 'userspace.dial'), 0);
  const answer = bench.answer(0, 400 * MS, sent);
  t.deepEqual([answer.source, answer.destination], [ip('10.96.0.1'), CLIENT]);
  t.deepEqual(tuple(bench.send(0, 649 * MS)), sent, 'answers count as traffic');
  const after = bench.send(0, 899 * MS);
  t.is(of(after.counts, 'userspace.dial'), 1);
  t.not(after.destination, sent.destination, 'round robin goes on');
  t.is(bench.answer(0, 2 * SECOND, tuple(after)).fate, REJECT, 'the socket is closed: port unreachable');
  t.is(bench.proxier.dataplane.proxy.files.sessions, 0);
});

// ── Limits ──────────────────────────────────────────────────────────────────────────────────────────────────

test('connections to one endpoint take 28,232 source ports, even ones first; then dials fail at once', (t) => {
  const ports = new SourcePorts(new Streams('0').stream('p'));
  const taken = new Set<number>();
  for (let i = 0; i < 28_232; i++) {
    const port = ports.tcp(ip('10.180.0.1'), 8080, (candidate) => taken.has(candidate));
    if (taken.has(port) || i < 14_116 !== (port % 2 === 0)) return t.fail(`connection ${i}: port ${port}`);
    taken.add(port);
  }
  t.is(
    ports.tcp(ip('10.180.0.1'), 8080, (candidate) => taken.has(candidate)),
    -1,
  );
  t.is(Math.min(...taken), 32_768);
  t.is(Math.max(...taken), 60_999);
});

test('64,000 open files are 31,999 connections through two sockets each, besides those that listen', (t) => {
  const bench = new Bench(manifest(THREE));
  let accepted = 0;
  for (let i = 0; i < 32_100; i++) {
    if (bench.send(SYN, i, { port: 1 + (i % 60_000), client: CLIENT + i }).fate === FORWARD) accepted++;
  }
  t.is(accepted, 31_999);
  t.is(bench.proxier.dataplane.proxy.files.refused, 101);
  t.true(bench.proxier.remarks().some((remark) => remark.startsWith('101 connections met the limit')));
});

// ── Syncs ───────────────────────────────────────────────────────────────────────────────────────────────────

test('the start asks for each rule and appends it by commands that read the whole table, then asks again', (t) => {
  const services = Array.from({ length: 7 }, (_, i) => ({
    name: `s${i}`,
    clusterIp: `10.96.0.${i + 1}`,
    endpoints: [`10.180.0.${i + 1}`],
    ...(i < 2 ? { nodePort: 30_000 + i } : {}),
  }));
  const { startCounts, proxier } = new Bench(manifest(services));
  const nat = 7 * 2 + 2 * 2;
  const filter = 2;
  t.is([...proxier.dump('iptables-save')].filter((line) => line.startsWith('-A KUBE')).length, nat + filter);
  // iptablesInit 15, iptablesFlush 5, iptablesInit 10, a rule 3.
  t.is(of(startCounts, 'process.launch'), 30 + 3 * (nat + filter));
  // Entries before the rules: nat 5 grows by 3 with each of 4 chains and jumps, filter 4 by 3.
  let reads = 0;
  let writes = 0;
  for (const [empty, chains, rules] of [
    [5, 4, nat],
    [4, 1, filter],
  ] as const) {
    for (let i = 0; i < chains; i++) {
      const held = empty + 3 * i;
      reads += held + 2 * (held + 2);
      writes += held + 2 + (held + 3);
    }
    const frame = empty + 3 * chains;
    reads += 3 * chains * frame;
    writes += chains * frame;
    for (let i = 0; i < rules; i++) {
      reads += 2 * (frame + i) + (frame + rules);
      writes += frame + i + 1;
    }
  }
  t.is(of(startCounts, 'iptables.kernel.read'), reads);
  t.is(of(startCounts, 'iptables.kernel.replaced'), writes);
  t.is(of(startCounts, 'userspace.listen'), 7 + 2);
  t.is(of(startCounts, 'userspace.shuffle'), 7);
});

test('a change of endpoints costs its lists and no command; every 30 s each rule costs one, beside the syncs', (t) => {
  const bench = new Bench(manifest(THREE));
  const { proxier, endpoints } = bench;
  const before = [...proxier.balancer.endpointsOf(0)];
  endpoints.remove(before[0]!);
  const plan = proxier.sync([0], false);
  t.is(plan.scope, 'entries');
  t.deepEqual(counted(plan.stages[0]!.counts), { 'userspace.shuffle': 3, 'userspace.lock': 1 });
  t.is(plan.aside, undefined);
  t.deepEqual([...proxier.balancer.endpointsOf(0)], before, 'nothing yet');
  for (const stage of plan.stages) stage.commit();
  t.deepEqual([...proxier.balancer.endpointsOf(0)].sort(), before.slice(1).sort());
  endpoints.add(before[0]!, READY);
  proxier.dataplane.expire(30 * SECOND);
  const due = proxier.sync([0], false);
  t.is(due.stages.length, 1, 'the re-check holds up nothing');
  const rules = 2 * 2;
  t.is(of(due.aside!, 'process.launch'), 10 + rules);
  t.is(of(due.aside!, 'iptables.kernel.read'), 8 * (17 + rules) + 2 * 7 + rules * (17 + rules));
  t.is(of(due.aside!, 'iptables.kernel.replaced'), 0);
  t.is(proxier.sync([], false).aside, undefined, 'until the next period');
});

test('the re-check of 151 Services takes more than a second, as connections that had to wait for it did', (t) => {
  // kubernetes/kubernetes issue 11977: stalls of over a second every 30 s at 151 Services.
  const services = Array.from({ length: 151 }, (_, i) => ({
    name: `s${i}`,
    clusterIp: `10.96.0.${i + 1}`,
    endpoints: [`10.180.0.${i + 1}`],
  }));
  const { proxier } = new Bench(manifest(services));
  proxier.dataplane.expire(30 * SECOND);
  const prices = new PriceList(PROFILES[0]!, USERSPACE_OPERATIONS);
  const ns = prices.total(proxier.sync([], false).aside!);
  t.true(ns > SECOND && ns < 2 * SECOND, `${ns} ns`);
});

test('the mode is there on request, with a price for everything it counts', (t) => {
  t.deepEqual(DEFAULT_MODES, ['iptables', 'nftables', 'ipvs', 'ebpf']);
  t.true(MODES.some(({ name }) => name === 'userspace'));
  t.notThrows(() => new PriceList(PROFILES[0]!, USERSPACE_OPERATIONS));
});

test('10,000 Services with 100 endpoints each are 20,000 rules, and a first packet passes them all', (t) => {
  const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 10_000, endpoints: 100 });
  const proxier = new UserspaceProxier(
    {
      cluster,
      endpoints: new EndpointsMap(cluster),
      node: 0,
      cores: 2,
      conntrack: CONNTRACK_DEFAULTS,
      streams: new Streams('0'),
    },
    defaultsOf(userspace.options),
  );
  for (const stage of proxier.sync([], true).stages) stage.commit();
  const packet = new Packet();
  packet.source = CLIENT;
  packet.sourcePort = 1;
  packet.destination = cluster.ports.clusterIp[9999]!;
  packet.destinationPort = cluster.ports.port[9999]!;
  packet.protocol = cluster.ports.protocol[9999]!;
  packet.flags = SYN;
  const verdict = new Verdict(USERSPACE_OPERATIONS.length);
  verdict.begin(packet);
  proxier.dataplane.classify(packet, 0, verdict);
  t.is(of(verdict.counts, 'iptables.legacy.skipped'), 9999 + 10_000);
});

test('a comparison through the command line has the mode beside iptables, and one digest whenever it is made', (t) => {
  const root = fileURLToPath(new URL('../../..', import.meta.url));
  const run = (): { digest: string; sizes: { modes: { mode: string; outcome: string }[] }[] } =>
    JSON.parse(
      execFileSync(
        `${root}/node_modules/.bin/tsx`,
        [
          'packages/scenarios/src/cli/main.ts',
          'compare',
          'examples/shop.yaml',
          '--modes',
          'iptables,userspace',
        ].concat([
          '--duration',
          '2s',
          '--set',
          'workload.connectionsPerSecond=500',
          '--quiet',
          '--json',
          '-',
        ]),
        { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
      ),
    );
  const [first, second] = [run(), run()];
  t.is(first.digest, second.digest);
  t.deepEqual(
    first.sizes[0]!.modes.map(({ mode }) => mode),
    ['iptables', 'userspace'],
  );
});
