import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import fc from 'fast-check';
import {
  ACK,
  CONNTRACK_DEFAULTS,
  FROM_HOST,
  FROM_OUTSIDE,
  FROM_POD,
  Packet,
  SYN,
  Streams,
  TCP,
  UDP,
  formatIpv4,
  jhash1,
  swap32,
  type Origin,
  type Stream,
} from '@vipsim/sim-core';
import { PriceList } from '../src/cost/profile.ts';
import { PROFILES } from '../src/cost/profiles.ts';
import { KUBE_NODEPORTS, KUBE_SERVICES, PREROUTING, SEP, SVC } from '../src/iptables/chains.ts';
import { IptablesProxier, type IptablesOptions } from '../src/iptables/kube-proxy.ts';
import { iptables } from '../src/iptables/mode.ts';
import { IPTABLES_OPERATIONS, OPERATION } from '../src/iptables/operations.ts';
import { RecentLists } from '../src/iptables/recent-lists.ts';
import { RecentRules } from '../src/iptables/recent-rules.ts';
import * as bits from '../src/iptables/rule.ts';
import { LEGACY_SIZES, NFT_SIZES, nftBlobBytes } from '../src/iptables/rule-sizes.ts';
import { RuleTable } from '../src/iptables/rule-table.ts';
import type { RuleText } from '../src/iptables/rule-text.ts';
import { Walk } from '../src/iptables/walk.ts';
import type { Cluster } from '../src/kubernetes/cluster.ts';
import { EndpointsMap } from '../src/kubernetes/endpoints-map.ts';
import { SYNTHETIC_DEFAULTS, syntheticCluster } from '../src/kubernetes/synthetic.ts';
import { ConnectionPath, DONE } from '../src/netfilter/connection-path.ts';
import { DROP, FORWARD, REJECT, Verdict, defaultsOf } from '../src/proxier.ts';

const SECOND = 1_000_000_000;
const NODE = 0xc0a80002;

function noCounts(): Float64Array {
  return new Float64Array(IPTABLES_OPERATIONS.length);
}

/** Counts by name, zeros left out. */
function named(counts: Float64Array): Record<string, number> {
  return Object.fromEntries(
    IPTABLES_OPERATIONS.map((name, i) => [name, counts[i]!] as const).filter(([, n]) => n !== 0),
  );
}

test('150 addresses leave the last 100; the 51st set again, the next one evicts the 52nd', (t) => {
  // As xt_recent of Linux 6.18 did.
  const lists = new RecentLists(7);
  lists.refer(3);
  const counts = noCounts();
  for (let i = 1; i <= 150; i++) lists.set(3, i, i * SECOND, counts);
  t.deepEqual(
    lists.addresses(3),
    Array.from({ length: 100 }, (_, i) => 51 + i),
  );
  t.is(lists.memory(), 4096 + 100 * 512);
  lists.set(3, 51, 151 * SECOND, counts);
  lists.set(3, 1000, 152 * SECOND, counts);
  t.deepEqual(lists.addresses(3), [...Array.from({ length: 98 }, (_, i) => 53 + i), 51, 1000]);
  t.is(lists.check(3, 52, 10_000, 152 * SECOND, counts), false);
  t.is(lists.check(3, 51, 10_000, 152 * SECOND, counts), true);
});

test('rcheck matches up to and with the last of its seconds, and reaps one oldest entry, perhaps its own', (t) => {
  const lists = new RecentLists(7);
  lists.refer(0);
  const counts = noCounts();
  for (const client of [1, 2, 3]) lists.set(0, client, 0, counts);
  t.true(lists.check(0, 2, 10, 10 * SECOND, counts));
  // One jiffy of 4 ms later all three are too old; each evaluation that finds an entry removes the oldest one.
  t.false(lists.check(0, 9, 10, 10 * SECOND + 4_000_000, counts));
  t.deepEqual(lists.addresses(0), [1, 2, 3]);
  t.false(lists.check(0, 3, 10, 10 * SECOND + 4_000_000, counts));
  t.deepEqual(lists.addresses(0), [2, 3]);
  t.false(lists.check(0, 2, 10, 10 * SECOND + 4_000_000, counts));
  t.deepEqual(lists.addresses(0), [3]);
});

/** xt_recent again, in arrays: an independent reading. */
class PlainRecent {
  readonly lists: {
    chain: number;
    rules: number;
    entries: { address: number; stamps: number[]; index: number }[];
  }[] = [];
  // Entries in the order in which they entered their bucket.
  readonly arrivals = new Map<number, number[]>();
  counts: Record<string, number> = {};
  readonly #seed: number;

  constructor(seed: number) {
    this.#seed = seed;
  }

  #count(name: string, n: number): void {
    this.counts[name] = (this.counts[name] ?? 0) + n;
  }

  refer(chain: number): void {
    const list = this.lists.find((one) => one.chain === chain);
    if (list === undefined) this.lists.push({ chain, rules: 1, entries: [] });
    else list.rules++;
    if (list === undefined) this.arrivals.set(chain, []);
  }

  release(chain: number): void {
    const at = this.lists.findIndex((one) => one.chain === chain);
    if (--this.lists[at]!.rules === 0) this.lists.splice(at, 1);
  }

  #find(chain: number, address: number) {
    const at = this.lists.findIndex((one) => one.chain === chain);
    this.#count('iptables.match.recent', 1);
    this.#count('iptables.recent.list', at + 1);
    const bucket = (one: number): number => jhash1(swap32(one), this.#seed) % 128;
    const chained = this.arrivals.get(chain)!.filter((one) => bucket(one) === bucket(address));
    const found = chained.indexOf(address);
    this.#count('iptables.recent.entry', found < 0 ? chained.length : found + 1);
    const list = this.lists[at]!;
    return { list, entry: list.entries.find((one) => one.address === address) };
  }

  #remove(chain: number, address: number): void {
    const list = this.lists.find((one) => one.chain === chain)!;
    list.entries = list.entries.filter((one) => one.address !== address);
    this.arrivals.set(
      chain,
      this.arrivals.get(chain)!.filter((one) => one !== address),
    );
  }

  check(chain: number, address: number, seconds: number, nowNs: number): boolean {
    const { list, entry } = this.#find(chain, address);
    if (entry === undefined) return false;
    const since = Math.floor(nowNs / 4_000_000) - seconds * 250;
    const fresh = entry.stamps.findIndex((stamp) => stamp >= since);
    this.#count('iptables.recent.stamp', fresh < 0 ? entry.stamps.length : fresh + 1);
    const oldest = list.entries[0]!;
    if (oldest.stamps[oldest.index - 1]! < since) this.#remove(chain, oldest.address);
    return fresh >= 0;
  }

  set(chain: number, address: number, nowNs: number): void {
    const { list, entry } = this.#find(chain, address);
    const jiffies = Math.floor(nowNs / 4_000_000);
    if (entry === undefined) {
      this.#count('iptables.recent.insert', 1);
      if (list.entries.length >= 100) this.#remove(chain, list.entries[0]!.address);
      list.entries.push({ address, stamps: [jiffies], index: 1 });
      this.arrivals.get(chain)!.push(address);
      return;
    }
    const at = entry.index % 32;
    entry.stamps[at] = jiffies;
    entry.index = at + 1;
    list.entries.splice(list.entries.indexOf(entry), 1);
    list.entries.push(entry);
  }
}

test('lists answer, evict, reap and count like a plain reading of xt_recent, in any order of things', (t) => {
  const step = fc.record({
    what: fc.constantFrom('set', 'set', 'set', 'set', 'check', 'check', 'check', 'refer', 'release'),
    chain: fc.nat(5),
    client: fc.nat(400),
    seconds: fc.constantFrom(1, 3, 60),
    afterMs: fc.constantFrom(0, 1, 3, 5, 500, 2000),
    many: fc.constantFrom(1, 1, 1, 40),
  });
  fc.assert(
    fc.property(fc.array(step, { minLength: 30, maxLength: 300, size: 'max' }), fc.nat(), (steps, seed) => {
      const lists = new RecentLists(seed);
      const plain = new PlainRecent(seed);
      const counts = noCounts();
      let nowNs = 0;
      for (const { what, chain, client, seconds, afterMs, many } of steps) {
        nowNs += afterMs * 1_000_000;
        if (what === 'refer' || !lists.exists(chain)) {
          lists.refer(chain);
          plain.refer(chain);
        } else if (what === 'release') {
          lists.release(chain);
          lists.settle();
          plain.release(chain);
        }
        for (let i = 0; i < many && lists.exists(chain); i++) {
          if (what === 'set') {
            lists.set(chain, client + i, nowNs, counts);
            plain.set(chain, client + i, nowNs);
          } else if (what === 'check') {
            t.is(
              lists.check(chain, client + i, seconds, nowNs, counts),
              plain.check(chain, client + i, seconds, nowNs),
            );
          }
        }
      }
      for (const { chain, entries } of plain.lists) {
        t.deepEqual(
          lists.addresses(chain),
          entries.map(({ address }) => address),
        );
      }
      t.is(lists.lists, plain.lists.length);
      const nonZero = Object.entries(plain.counts).filter(([, n]) => n !== 0);
      t.deepEqual(named(counts), Object.fromEntries(nonZero.sort(byOperation)));
    }),
    { seed: 42, numRuns: 60 },
  );
});

function byOperation([a]: [string, number], [b]: [string, number]): number {
  return (
    (IPTABLES_OPERATIONS as readonly string[]).indexOf(a) -
    (IPTABLES_OPERATIONS as readonly string[]).indexOf(b)
  );
}

test('lists come by name in x_tables and by rule in nf_tables, new ones last, and go with their last rule', (t) => {
  for (const [names, order] of [
    [
      ['C', 'A', 'B'],
      [1, 2, 0],
    ],
    [undefined, [0, 1, 2]],
  ] as const) {
    const table = new RuleTable('nat', LEGACY_SIZES);
    const lists = new RecentLists(1);
    const seps: number[] = [];
    const text = {
      chain: (_: RuleTable, chain: number) => names?.[seps.indexOf(chain)] ?? '0',
      forget: () => undefined,
    };
    table.observer = new RecentRules(table, lists, names === undefined ? undefined : text);
    for (let i = 0; i < 3; i++) seps.push(table.newChain(SEP, i));
    const svc = table.newChain(SVC, 0);
    const stage = (endpoints: readonly number[]): void => {
      table.begin(svc);
      for (const sep of endpoints) table.rules.value[table.add(bits.RECENT_CHECK, bits.JUMP, sep, 0)] = 60;
      for (const sep of endpoints) {
        table.begin(sep);
        table.add(bits.RECENT_SET | bits.PROTOCOL, bits.DNAT, 0, 0);
      }
    };
    stage(seps);
    t.is(lists.lists, 0, 'nothing before the commit');
    table.commit();
    t.deepEqual(
      order.map((i) => lists.position(seps[i]!)),
      [1, 2, 3],
    );
    lists.set(seps[0]!, 77, 0, noCounts());
    seps.push(table.newChain(SEP, 3));
    stage([seps[3]!, seps[0]!, seps[1]!]);
    table.drop(seps[2]!);
    table.commit();
    t.is(lists.lists, 3);
    t.false(lists.exists(seps[2]!));
    const survivors = order.filter((i) => i !== 2).map((i) => seps[i]!);
    t.deepEqual(
      [...survivors, seps[3]!].map((sep) => lists.position(sep)),
      [1, 2, 3],
      'closed up, the new one behind, whatever its name',
    );
    t.deepEqual(lists.addresses(seps[0]!), [77], 'a list lives through the replacement of its rules');
    stage([]);
    for (const sep of [seps[0]!, seps[1]!, seps[3]!]) table.drop(sep);
    table.commit();
    t.is(lists.lists, 0);
    t.is(lists.entries, 0);
  }
});

interface Bench {
  readonly cluster: Cluster;
  readonly endpoints: EndpointsMap;
  readonly proxier: IptablesProxier;
  readonly verdict: Verdict;
}

function synced(cluster: Cluster, options: Partial<IptablesOptions> = {}, seed = '0'): Bench {
  const endpoints = new EndpointsMap(cluster);
  const proxier = new IptablesProxier(
    { cluster, endpoints, node: 0, cores: 2, conntrack: CONNTRACK_DEFAULTS, streams: new Streams(seed) },
    { ...(defaultsOf(iptables.options) as IptablesOptions), ...options },
  );
  const made = { cluster, endpoints, proxier, verdict: new Verdict(IPTABLES_OPERATIONS.length) };
  sync(made, [], true);
  return made;
}

function sync({ proxier }: Bench, changed: readonly number[], full = false): void {
  for (const stage of proxier.sync(changed, full).stages) stage.commit();
}

function sticky(services: number, endpoints: number, seconds: number): Cluster {
  const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services, endpoints });
  return { ...cluster, services: cluster.services.map((service) => ({ ...service, affinityS: seconds })) };
}

interface Sent {
  readonly from: number;
  readonly fromPort?: number;
  readonly to: number;
  readonly port?: number;
  readonly protocol?: number;
  readonly flags?: number;
  readonly origin?: Origin;
  readonly nowNs?: number;
}

let nextPort = 1024;

function send(made: Bench, sent: Sent): Verdict {
  const packet = new Packet();
  packet.source = sent.from;
  packet.sourcePort = sent.fromPort ?? 1024 + (nextPort++ % 60_000);
  packet.destination = sent.to;
  packet.destinationPort = sent.port ?? 80;
  packet.protocol = sent.protocol ?? TCP;
  packet.flags = sent.flags ?? (packet.protocol === TCP ? SYN : 0);
  packet.origin = sent.origin ?? FROM_POD;
  made.verdict.begin(packet);
  made.proxier.dataplane.classify(packet, sent.nowNs ?? 0, made.verdict);
  return made.verdict;
}

test('a client stays with its endpoint while it returns in time, and is balanced anew after, by its last connection', (t) => {
  for (const backend of ['nft', 'legacy'] as const) {
    const made = synced(sticky(1, 50, 60), { backend });
    const to = made.cluster.ports.clusterIp[0]!;
    const from = made.cluster.podCidr.address + 77_777;
    const first = send(made, { from, to }).endpoint;
    t.true(first >= 0);
    for (const nowNs of [50, 100, 150, 210]) {
      t.is(send(made, { from, to, nowNs: nowNs * SECOND }).endpoint, first, `${nowNs} s`);
    }
    // 60.004 s after the last: forgotten. Of 50 endpoints another one is likely; this seed draws one.
    t.not(send(made, { from, to, nowNs: 270.004 * SECOND }).endpoint, first);
    const recent = made.proxier.dataplane.tables().find(({ name }) => name === 'recent')!;
    t.deepEqual(recent, { name: 'recent', entries: 1, bytes: 50 * 4096 + 512 }, 'the old entry was reaped');
  }
});

test('endpoints remember 100 clients each and forget the others', (t) => {
  const made = synced(sticky(1, 2, 10_800), { backend: 'legacy' }, 'affinity');
  const to = made.cluster.ports.clusterIp[0]!;
  const clients = Array.from({ length: 300 }, (_, i) => made.cluster.podCidr.address + 70_000 + i);
  for (const from of clients) send(made, { from, to });
  const recent = made.proxier.dataplane.tables().find(({ name }) => name === 'recent')!;
  t.is(recent.entries, 200);
});

test('counts times prices of affinity are the measured 98 us over 100 and 9.4 ms over 1,000 endpoints', (t) => {
  for (const [endpoints, measuredNs] of [
    [100, 98_000],
    [1000, 9_400_000],
  ] as const) {
    const made = synced(sticky(1, endpoints, 10_800), { backend: 'legacy' });
    const list = new PriceList(PROFILES[0]!, IPTABLES_OPERATIONS);
    const { counts } = send(made, {
      from: made.cluster.podCidr.address + 77_777,
      to: made.cluster.ports.clusterIp[0]!,
    });
    // One list after another, and the one of the endpoint chosen again for --set.
    const walked = counts[OPERATION['iptables.recent.list']]! - (endpoints * (endpoints + 1)) / 2;
    t.true(walked >= 1 && walked <= endpoints);
    t.is(counts[OPERATION['iptables.match.recent']], endpoints + 1);
    t.is(counts[OPERATION['iptables.recent.insert']], 1);
    let ns = endpoints * list.of(OPERATION['iptables.legacy.selected']);
    ns += endpoints * list.of(OPERATION['iptables.match.recent']);
    ns += ((endpoints * (endpoints + 1)) / 2) * list.of(OPERATION['iptables.recent.list']);
    t.log(`${endpoints} endpoints: ${ns} ns, measured ${measuredNs}`);
    t.true(Math.abs(ns / measuredNs - 1) < 0.1);
  }
});

test('a packet that fits no connection is INVALID: KUBE-FORWARD drops it, INPUT lets it in, nat never sees it', (t) => {
  for (const backend of ['nft', 'legacy'] as const) {
    const made = synced(syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 1, endpoints: 1 }), { backend });
    const to = made.cluster.ports.clusterIp[0]!;
    const from = made.cluster.podCidr.address + 77_777;
    const steps: string[] = [];
    made.proxier.dataplane.recorder = { step: (where, what) => steps.push(`${where}: ${what}`) };
    const stray = send(made, { from, to, flags: SYN | ACK });
    t.is(stray.fate, DROP);
    t.is(stray.counts[OPERATION['iptables.hook']], 1);
    t.is(stray.destination, to, 'not translated');
    t.regex(steps.join('\n'), /conntrack: .*INVALID/);
    t.regex(steps.join('\n'), /KUBE-FORWARD: rule 1 of 3.* --ctstate INVALID .*-j DROP/);
    made.proxier.dataplane.recorder = undefined;
    const node = made.cluster.nodes[0]!.address;
    t.is(send(made, { from, to: node, flags: SYN | ACK }).fate, FORWARD);
    // Of a known connection: a SYN+ACK from the side that opened it.
    send(made, { from, to, fromPort: 7 });
    t.is(send(made, { from, to, fromPort: 7, flags: SYN | ACK }).fate, DROP);
  }
});

test('a connection path tells invalid packets from known ones, and whether the destination was translated, later too', (t) => {
  const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 1, endpoints: 1 });
  const endpoints = new EndpointsMap(cluster);
  const streams = new Streams('0');
  const node = { cluster, endpoints, node: 0, cores: 2, conntrack: CONNTRACK_DEFAULTS, streams };
  const path = new ConnectionPath(node);
  const verdict = new Verdict(IPTABLES_OPERATIONS.length);
  const packet = new Packet();
  Object.assign(packet, { source: 1, sourcePort: 1000, destination: 2, destinationPort: 80, protocol: UDP });
  const enter = (): number => {
    verdict.begin(packet);
    return path.enter(packet, 0, verdict);
  };
  for (const [port, address, translated] of [
    [1000, 3, true],
    // A mapping to where the packet goes anyway translates nothing.
    [1001, 2, false],
    [1002, 0, false],
  ] as const) {
    packet.sourcePort = port;
    path.accept(enter(), address, 80, 0, verdict);
    t.is(enter(), DONE);
    t.deepEqual([path.invalid, path.destinationTranslated], [false, translated], `${port}`);
  }
  packet.protocol = TCP;
  packet.flags = SYN | ACK;
  t.is(enter(), DONE);
  t.deepEqual([path.invalid, path.destinationTranslated], [true, false]);
  t.is(verdict.fate, FORWARD);
});

test('two flows of one source port to one endpoint by two addresses: the second leaves from another port', (t) => {
  const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 1, endpoints: 1 });
  const endpoints = new EndpointsMap(cluster);
  const streams = new Streams('0');
  const path = new ConnectionPath({
    cluster,
    endpoints,
    node: 0,
    cores: 2,
    conntrack: CONNTRACK_DEFAULTS,
    streams,
  });
  const verdict = new Verdict(IPTABLES_OPERATIONS.length);
  const packet = new Packet();
  for (const destination of [2, 3]) {
    Object.assign(packet, { source: 1, sourcePort: 4000, destination, destinationPort: 80, protocol: UDP });
    verdict.begin(packet);
    path.accept(path.enter(packet, 0, verdict), 9, 8080, 0, verdict);
    t.deepEqual([verdict.fate, verdict.source, verdict.destination], [FORWARD, 1, 9]);
    t.is(verdict.sourcePort === 4000, destination === 2);
  }
  // The answer to that port goes back to the client's own.
  const port = verdict.sourcePort;
  Object.assign(packet, { source: 9, sourcePort: 8080, destination: 1, destinationPort: port });
  verdict.begin(packet);
  t.is(path.enter(packet, 0, verdict), DONE);
  t.deepEqual([verdict.source, verdict.destinationPort], [3, 4000]);
  t.is(path.conntrack.drops, 0);
});

test('with tcpBeLiberal nothing drops INVALID packets', (t) => {
  const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 1, endpoints: 1 });
  const made = synced(cluster, { tcpBeLiberal: true });
  const from = cluster.podCidr.address + 77_777;
  t.is(send(made, { from, to: cluster.ports.clusterIp[0]!, flags: SYN | ACK }).fate, FORWARD);
});

test('the firewall of 127.0.0.0/8 keeps outsiders from loopback services and lets the host in', (t) => {
  const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 1, endpoints: 1 });
  const made = synced(cluster);
  const outside = { from: 0xcb007102, to: 0x7f000001, port: 9, origin: FROM_OUTSIDE, protocol: UDP } as const;
  t.is(send(made, outside).fate, DROP);
  t.is(send(made, { ...outside, from: 0x7f000001, origin: FROM_HOST }).fate, FORWARD);
});

test('REJECT is told to the sender as ICMP port unreachable, TCP as well as UDP', (t) => {
  const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 2, endpoints: 1, udpEvery: 2 });
  const made = synced(cluster);
  made.endpoints.remove(0);
  made.endpoints.remove(1);
  sync(made, [0, 1]);
  const from = cluster.podCidr.address + 77_777;
  for (const port of [0, 1]) {
    const steps: string[] = [];
    made.proxier.dataplane.recorder = { step: (where, what) => steps.push(`${where}: ${what}`) };
    const protocol = cluster.ports.protocol[port]!;
    const verdict = send(made, {
      from,
      to: cluster.ports.clusterIp[port]!,
      port: cluster.ports.port[port]!,
      protocol,
    });
    t.is(verdict.fate, REJECT);
    t.true(steps.includes(`reject: ICMP port unreachable to ${formatIpv4(from)}`));
  }
});

test('a host process that talks to its own node passes OUTPUT, POSTROUTING and then INPUT', (t) => {
  const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 1, endpoints: 1 });
  const made = synced(cluster);
  const steps: string[] = [];
  made.proxier.dataplane.recorder = { step: (where) => steps.push(where) };
  const node = cluster.nodes[0]!.address;
  send(made, { from: node, to: node, port: 10_250, origin: FROM_HOST });
  const hooks = steps.filter((where) => !where.includes('KUBE'));
  t.deepEqual([...new Set(hooks)], ['nat OUTPUT', 'filter OUTPUT', 'nat POSTROUTING', 'filter INPUT']);
});

test('snatNodeInternalIP translates like MASQUERADE does', (t) => {
  const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 1, endpoints: 1 });
  const made = synced(cluster, { snatNodeInternalIP: true });
  const verdict = send(made, { from: 0xcb007102, to: cluster.ports.clusterIp[0]!, origin: FROM_OUTSIDE });
  t.is(verdict.source, cluster.nodes[0]!.address);
  t.is(verdict.endpoint, 0);
});

// Rule sets that kube-proxy would never write.

interface Rule {
  readonly match: number;
  readonly protocol: number;
  readonly port: number;
  readonly source: number;
  readonly sourceMask: number;
  readonly destination: number;
  readonly destinationMask: number;
  readonly value: number;
  readonly target: number;
  /** For a jump: how many chains further on. */
  readonly argument: number;
}

const ADDRESSES = [0x0a000001, 0x0a000002, 0x0a000103, 0xac1e0001, 0xac1e0002, NODE, 0x7f000001, 0];
const MASKS = [0xffffffff, 0xffffffff, 0xffffff00, 0xfffffe00, 0xff000000, 0];

const anyRule: fc.Arbitrary<Rule> = fc
  .record({
    flags: fc.array(
      fc.constantFrom(
        bits.COMMENT,
        bits.TO_LOCAL,
        bits.FROM_LOCAL,
        bits.PROTOCOL,
        bits.PROTOCOL | bits.PORT,
        bits.STATISTIC,
        bits.RECENT_CHECK,
        bits.RECENT_SET,
        bits.NFACCT,
        bits.STATE_FIRST,
      ),
      { maxLength: 3 },
    ),
    address: fc.constantFrom(0, bits.SOURCE, bits.SOURCE_NOT),
    goal: fc.constantFrom(0, bits.DESTINATION, bits.DESTINATION, bits.DESTINATION_NOT),
    link: fc.constantFrom(0, 0, 0, bits.FROM_LINK, bits.FROM_LINK_NOT),
    marks: fc.constantFrom(0, 0, bits.MARK, bits.MARK_NOT),
    states: fc.constantFrom(0, 0, bits.STATE, bits.STATE_NOT),
    protocol: fc.constantFrom(TCP, UDP),
    port: fc.constantFrom(80, 81, 443),
    source: fc.constantFrom(...ADDRESSES),
    sourceMask: fc.constantFrom(...MASKS),
    destination: fc.constantFrom(...ADDRESSES),
    destinationMask: fc.constantFrom(...MASKS),
    value: fc.constantFrom(1, 2, 8, 10, 0x4000, 0x80000000, 0x40000000, 0x7fffffff),
    target: fc.constantFrom(
      bits.NOTHING,
      bits.NOTHING,
      bits.JUMP,
      bits.JUMP,
      bits.RETURN,
      bits.ACCEPT,
      bits.DNAT,
    ),
    argument: fc.nat(3),
  })
  .map(({ flags, address, goal, link, marks, states, ...rest }) => {
    let match = flags.reduce((all, one) => all | one, address | goal | link | marks | states);
    if ((match & (bits.STATE | bits.STATE_NOT)) === 0) match &= ~bits.STATE_FIRST;
    if ((match & bits.RECENT_SET) !== 0) match &= ~bits.RECENT_CHECK;
    return { ...rest, match };
  });

/** Tests nothing and does nothing. */
const BLANK: Rule = {
  match: 0,
  protocol: 0,
  port: 0,
  source: 0,
  sourceMask: 0,
  destination: 0,
  destinationMask: 0,
  value: 0,
  target: bits.NOTHING,
  argument: 0,
};

/** Rules of the shapes that an index passes by, most of them for somebody else. */
const usualRule: fc.Arbitrary<Rule> = fc
  .record({
    shape: fc.constantFrom(
      bits.SERVICE_SHAPE,
      bits.SERVICE_SHAPE,
      bits.DESTINATION,
      bits.COMMENT | bits.DESTINATION | bits.TO_LOCAL,
      bits.COMMENT | bits.PROTOCOL | bits.PORT,
      bits.PROTOCOL | bits.PORT,
      bits.PROTOCOL | bits.PORT | bits.STATISTIC,
      bits.STATISTIC,
      bits.COMMENT | bits.RECENT_CHECK,
    ),
    protocol: fc.constantFrom(TCP, TCP, UDP),
    port: fc.constantFrom(80, 81, 443, 3000, 3001, 3002, 3003),
    destination: fc.oneof(fc.constantFrom(...ADDRESSES), fc.nat(0xffff)),
    target: fc.constantFrom(
      bits.NOTHING,
      bits.NOTHING,
      bits.MARK_OR,
      bits.MARK_XOR,
      bits.JUMP,
      bits.RETURN,
      bits.REJECT_PACKET,
      bits.MASQUERADE,
      bits.SNAT,
      bits.DROP_PACKET,
    ),
    argument: fc.nat(3),
  })
  .map(({ shape, ...rest }) => ({
    ...rest,
    match: shape,
    source: 0,
    sourceMask: 0,
    destinationMask: 0xffffffff,
    value: 0x4000_0000,
  }));

const HOME = [PREROUTING, KUBE_SERVICES, KUBE_NODEPORTS] as const;
const chainOf = (length: number): fc.Arbitrary<Rule[]> =>
  fc.array(fc.oneof({ weight: 4, arbitrary: usualRule }, { weight: 1, arbitrary: anyRule }), {
    maxLength: length,
    size: 'max',
  });
const anyChains = fc.tuple(chainOf(8), chainOf(90), chainOf(90), chainOf(40), chainOf(4), chainOf(4));
const anyPackets = fc.array(
  fc.record({
    source: fc.constantFrom(...ADDRESSES),
    destination: fc.constantFrom(...ADDRESSES),
    destinationPort: fc.constantFrom(80, 81, 443, 3000, 9),
    protocol: fc.constantFrom(TCP, UDP),
    state: fc.constantFrom(bits.CT_NEW, bits.CT_ESTABLISHED, bits.CT_INVALID, bits.CT_NEW | bits.CT_DNAT),
    fromPod: fc.boolean(),
    afterS: fc.nat(8),
  }),
  { minLength: 3, maxLength: 12 },
);

/** Names whose order is the reverse of the chains' numbers. */
const BACKWARDS = { chain: (_: RuleTable, chain: number) => `${1000 - chain}`, forget: () => undefined };

/** A table that holds `chains`: the first ones where built-in and fixed chains are, the others as endpoints' chains. */
class Loaded {
  readonly table: RuleTable;
  readonly recent: RecentLists;
  readonly walk: Walk;
  readonly numbers: number[] = [...HOME];
  readonly draws: Stream;

  constructor(chains: readonly (readonly Rule[])[], { nft, literal }: { nft: boolean; literal: boolean }) {
    this.table = new RuleTable('nat', nft ? NFT_SIZES : LEGACY_SIZES);
    this.recent = new RecentLists(9);
    this.table.observer = new RecentRules(this.table, this.recent, nft ? undefined : BACKWARDS);
    while (this.numbers.length < chains.length)
      this.numbers.push(this.table.newChain(SEP, this.numbers.length));
    this.draws = new Streams('walk').stream('draws');
    const text = undefined as unknown as RuleText;
    this.walk = new Walk({
      nft,
      nodeAddress: NODE,
      statistic: this.draws,
      recent: this.recent,
      text,
      literal,
    });
    chains.forEach((rules, i) => this.stage(i, rules));
    this.table.commit();
  }

  stage(which: number, rules: readonly Rule[]): void {
    const { table } = this;
    table.begin(this.numbers[which]!);
    for (const rule of rules) {
      const row = table.add(rule.match, ...this.#aim(which, rule), 0);
      if ((rule.match & bits.PROTOCOL) !== 0) table.rules.protocol[row] = rule.protocol;
      if ((rule.match & bits.PORT) !== 0) table.rules.port[row] = rule.port;
      if ((rule.match & (bits.SOURCE | bits.SOURCE_NOT)) !== 0) {
        table.rules.source[row] = rule.source & rule.sourceMask;
        table.rules.sourceMask[row] = rule.sourceMask;
      }
      if ((rule.match & (bits.DESTINATION | bits.DESTINATION_NOT)) !== 0) {
        table.rules.destination[row] = rule.destination & rule.destinationMask;
        table.rules.destinationMask[row] = rule.destinationMask;
      }
      table.rules.value[row] = rule.value;
    }
  }

  /** Target and argument; a jump that would lead nowhere only counts. */
  #aim(which: number, { target, argument }: Rule): [number, number] {
    if (target !== bits.JUMP) return [target, argument];
    const goal = this.numbers[which + 1 + argument];
    return goal === undefined ? [bits.NOTHING, 0] : [bits.JUMP, goal];
  }

  run(
    packet: {
      readonly [Name in 'source' | 'destination' | 'destinationPort' | 'protocol' | 'state']: number;
    } & { readonly fromPod: boolean },
    nowNs: number,
  ) {
    Object.assign(this.walk, packet, { nowNs, mark: 0 });
    const counts = noCounts();
    this.walk.run(this.table, PREROUTING, counts);
    const { fate, endpoint, mark } = this.walk;
    const bytes = this.walk.bytes(this.table);
    return { fate, endpoint, mark: mark >>> 0, bytes, counts: named(counts) };
  }
}

test('the indexed walk and the literal one agree in verdict, counts, bytes and draws on any rules, changed at any time', (t) => {
  fc.assert(
    fc.property(
      anyChains,
      fc.array(fc.tuple(fc.nat(5), chainOf(60), anyPackets), { minLength: 1, maxLength: 3 }),
      fc.boolean(),
      (chains, rounds, nft) => {
        const indexed = new Loaded(chains, { nft, literal: false });
        const literal = new Loaded(chains, { nft, literal: true });
        let nowNs = 0;
        for (const [which, rules, packets] of rounds) {
          for (const packet of packets) {
            nowNs += packet.afterS * SECOND;
            t.deepEqual(indexed.run(packet, nowNs), literal.run(packet, nowNs));
          }
          for (const one of [indexed, literal]) {
            one.stage(which, rules);
            one.table.commit();
          }
        }
        t.is(indexed.draws.uint32(), literal.draws.uint32(), 'as many draws');
        for (const chain of literal.numbers)
          t.deepEqual(indexed.recent.addresses(chain), literal.recent.addresses(chain));
      },
    ),
    { seed: 42, numRuns: 400 },
  );
});

/** A DNAT rule for each of `count` addresses, in an order that `shift` turns. */
function turned(count: number, shift: number): Rule[] {
  return Array.from({ length: count }, (_, i) => ({
    ...BLANK,
    match: bits.SERVICE_SHAPE,
    protocol: TCP,
    port: 80,
    destination: 0x0a600000 + ((i + shift) % count),
    destinationMask: 0xffffffff,
    target: bits.DNAT,
    argument: i,
  }));
}

test('an index is of the rules in force, however they change: moved, fewer, more, in a new arena', (t) => {
  const packet = { source: 1, destinationPort: 80, protocol: TCP, state: bits.CT_NEW, fromPod: true };
  for (const nft of [false, true]) {
    const front = [{ ...BLANK, target: bits.JUMP }];
    const [indexed, literal] = [false, true].map((slow) => {
      return new Loaded([front, turned(200, 0)], { nft, literal: slow });
    });
    // The jump, then rules with a comment, a port and DNAT; entries that end chains.
    const jump = nft ? nftBlobBytes(0, bits.JUMP) : 152;
    const rule = nft ? nftBlobBytes(bits.SERVICE_SHAPE, bits.DNAT) : 528;
    const ends = nft ? 0 : 2 * 152;
    for (const [count, shift] of [
      [200, 0],
      [200, 50],
      [40, 7],
      [300, 1],
      [300, 2],
      [40_000, 9],
      [40_000, 8],
      [40_000, 5],
    ] as const) {
      for (const one of [indexed!, literal!]) {
        one.stage(1, turned(count, shift));
        one.table.commit();
      }
      t.not(indexed!.table.candidates(KUBE_SERVICES), undefined);
      for (const goal of [0, 7, 39, 120, 299, 39_999, 70_000]) {
        const sent = { ...packet, destination: 0x0a600000 + goal };
        const got = indexed!.run(sent, 0);
        const at = goal < count ? (goal - shift + count) % count : -1;
        const about = `${goal} among ${count} from ${shift}`;
        t.is(got.endpoint, at, about);
        t.is(got.bytes, jump + (at < 0 ? count * rule + ends : (at + 1) * rule), about);
        t.deepEqual(got, literal!.run(sent, 0), about);
      }
    }
    t.true(indexed!.table.rules.capacity < 100_000, 'the old rows are gone');
  }
});

function within(address: number, net: number, mask: number): boolean {
  return (BigInt(address) & BigInt(mask)) === (BigInt(net) & BigInt(mask));
}

function local(address: number): boolean {
  return address === NODE || address >>> 24 === 127;
}

/** Expressions of one address test: payload, cmp, and bitwise unless whole bytes are compared. */
function addressCost(mask: number): string[] {
  if (mask === 0) return [];
  const whole = [0xffffffff, 0xffffff00, 0xffff0000, 0xff000000].includes(mask);
  return ['nft.payload', 'nft.cmp', ...(whole ? [] : ['nft.bitwise'])];
}

/** Records of x_tables as a kernel gave them back: the tests that call for each, and its bytes. */
const RECORDS: readonly (readonly [number, number])[] = [
  [bits.COMMENT, 288],
  [bits.PROTOCOL, 48],
  [bits.STATISTIC, 56],
  [bits.RECENT_CHECK | bits.RECENT_SET, 264],
  [bits.TO_LOCAL | bits.FROM_LOCAL, 40],
  [bits.STATE | bits.STATE_NOT, 200],
  [bits.MARK | bits.MARK_NOT, 48],
  [bits.NFACCT, 72],
];

function entryBytes(match: number, target: number): number {
  let bytes =
    112 + (target === bits.DNAT ? 80 : target === bits.MASQUERADE || target === bits.SNAT ? 56 : 40);
  for (const [tests, record] of RECORDS) if ((match & tests) !== 0) bytes += record;
  return bytes;
}

/** Rules read one after the other, each as a list of tests with what they cost: an independent reading. */
class PlainWalk {
  fate: number = bits.ACCEPT;
  endpoint = -1;
  mark = 0;
  bytes = 0;
  counts: Record<string, number> = {};
  readonly #loaded: Loaded;
  readonly #nft: boolean;
  readonly #recent: PlainRecent;
  readonly #draws: Stream;

  constructor(loaded: Loaded, nft: boolean, recent: PlainRecent) {
    this.#loaded = loaded;
    this.#nft = nft;
    this.#recent = recent;
    this.#draws = new Streams('walk').stream('draws');
  }

  run(packet: Parameters<Loaded['run']>[0], nowNs: number) {
    this.fate = bits.ACCEPT;
    this.endpoint = -1;
    this.mark = 0;
    this.bytes = 0;
    this.#recent.counts = {};
    this.counts = { 'iptables.hook': 1 };
    this.#chain(PREROUTING, packet, nowNs);
    const counts = Object.entries({ ...this.counts, ...this.#recent.counts }).filter(([, n]) => n !== 0);
    return {
      fate: this.fate,
      endpoint: this.endpoint,
      mark: this.mark >>> 0,
      bytes: this.bytes,
      counts: Object.fromEntries(counts.sort(byOperation)),
    };
  }

  #count(...names: string[]): void {
    for (const name of names) this.counts[`iptables.${name}`] = (this.counts[`iptables.${name}`] ?? 0) + 1;
  }

  /** Whether the packet's way ended in the chain. */
  #chain(chain: number, packet: Parameters<Loaded['run']>[0], nowNs: number): boolean {
    const { table } = this.#loaded;
    const { rules } = table;
    for (let i = 0; i < table.count[chain]!; i++) {
      const row = table.first[chain]! + i;
      if (!this.#fits(chain, row, packet, nowNs)) continue;
      const target = rules.target[row]!;
      const calls: number[] = [
        bits.DNAT,
        bits.MASQUERADE,
        bits.SNAT,
        bits.MARK_OR,
        bits.MARK_XOR,
        bits.REJECT_PACKET,
      ];
      if (calls.includes(target)) this.#count('target');
      if (target === bits.JUMP) this.#count('jump');
      if (!this.#nft) this.#count('legacy.matched');
      else
        this.#count(
          'nft.counter',
          ...(calls.includes(target) || target === bits.NOTHING ? [] : ['nft.verdict']),
        );
      if (target === bits.JUMP) {
        if (this.#chain(rules.argument[row]!, packet, nowNs)) return true;
      } else if (target === bits.RETURN) {
        if (chain !== PREROUTING) return false;
        break;
      } else if (target === bits.MARK_OR) {
        this.mark |= rules.value[row]!;
      } else if (target === bits.MARK_XOR) {
        this.mark ^= rules.value[row]!;
      } else if (target !== bits.NOTHING) {
        this.fate = target;
        if (target === bits.DNAT) this.endpoint = rules.argument[row]!;
        return true;
      }
    }
    if (!this.#nft) {
      this.#count('legacy.selected', 'legacy.matched');
      this.bytes += 152;
    }
    return false;
  }

  #fits(chain: number, row: number, packet: Parameters<Loaded['run']>[0], nowNs: number): boolean {
    const { rules } = this.#loaded.table;
    const match = rules.match[row]!;
    const value = rules.value[row]!;
    const target = rules.target[row]!;
    this.bytes += this.#nft ? nftBlobBytes(match, target) : entryBytes(match, target);
    const has = (...tests: number[]): boolean => tests.some((one) => (match & one) !== 0);
    const link = packet.fromPod !== has(bits.FROM_LINK_NOT);
    const protocol = packet.protocol === rules.protocol[row];
    const source = within(packet.source, rules.source[row]!, rules.sourceMask[row]!) !== has(bits.SOURCE_NOT);
    const goal =
      within(packet.destination, rules.destination[row]!, rules.destinationMask[row]!) !==
      has(bits.DESTINATION_NOT);
    type Test = readonly [boolean, readonly string[], () => boolean];
    const state: Test = [
      has(bits.STATE, bits.STATE_NOT),
      ['match.conntrack'],
      () => ((packet.state & value & 31) !== 0) !== has(bits.STATE_NOT),
    ];
    const selector: Test[] = [
      [has(bits.FROM_LINK, bits.FROM_LINK_NOT), ['nft.meta', 'nft.cmp'], () => link],
      [has(bits.PROTOCOL), ['nft.meta', 'nft.cmp'], () => protocol],
      [has(bits.SOURCE, bits.SOURCE_NOT), addressCost(rules.sourceMask[row]!), () => source],
      [has(bits.DESTINATION, bits.DESTINATION_NOT), addressCost(rules.destinationMask[row]!), () => goal],
    ];
    const remembered = rules.target[row] === bits.JUMP ? rules.argument[row]! : chain;
    const extensions: Test[] = [
      [has(bits.STATE_FIRST), state[1], state[2]],
      [has(bits.COMMENT), ['match.comment'], () => true],
      [
        has(bits.TO_LOCAL, bits.FROM_LOCAL),
        ['match.addrtype'],
        () =>
          (!has(bits.TO_LOCAL) || local(packet.destination)) &&
          (!has(bits.FROM_LOCAL) || local(packet.source)),
      ],
      [has(bits.RECENT_SET), [], () => (this.#recent.set(chain, packet.source, nowNs), true)],
      [has(bits.RECENT_CHECK), [], () => this.#recent.check(remembered, packet.source, value, nowNs)],
      [
        has(bits.PROTOCOL),
        this.#nft && has(bits.PORT) ? ['nft.payload', 'nft.cmp'] : ['match.transport'],
        () => !has(bits.PORT) || rules.port[row] === packet.destinationPort,
      ],
      [
        has(bits.MARK, bits.MARK_NOT),
        this.#nft ? ['nft.meta', 'nft.bitwise', 'nft.cmp'] : ['match.mark'],
        () => within(this.mark >>> 0, value, value) !== has(bits.MARK_NOT),
      ],
      [state[0] && !has(bits.STATE_FIRST), state[1], state[2]],
      [has(bits.STATISTIC), ['match.statistic'], () => this.#draws.uint32() % 2147483648 < value],
      [has(bits.NFACCT), ['match.nfacct'], () => true],
    ];
    if (this.#nft) {
      this.#count('nft.rule');
      for (const [asked, cost, holds] of [...selector, ...extensions]) {
        if (!asked) continue;
        this.#count(...cost);
        if (!holds()) return false;
      }
      return true;
    }
    const selected = selector.every(([asked, , holds]) => !asked || holds());
    this.#count(selected ? 'legacy.selected' : 'legacy.skipped');
    if (!selected) return false;
    for (const [asked, cost, holds] of extensions) {
      if (!asked) continue;
      this.#count(...cost);
      if (!holds()) return false;
    }
    return true;
  }
}

test('the walk is what a plain reading of rule after rule says: verdicts, marks, draws, lists, bytes and every count', (t) => {
  fc.assert(
    fc.property(anyChains, anyPackets, fc.boolean(), fc.boolean(), (chains, packets, nft, literal) => {
      const loaded = new Loaded(chains, { nft, literal });
      const recent = new PlainRecent(9);
      const lists = loaded.numbers.filter((chain) => loaded.recent.exists(chain));
      for (const chain of lists.sort((a, b) => loaded.recent.position(a) - loaded.recent.position(b)))
        recent.refer(chain);
      const plain = new PlainWalk(loaded, nft, recent);
      let nowNs = 0;
      for (const packet of packets) {
        nowNs += packet.afterS * SECOND;
        t.deepEqual(loaded.run(packet, nowNs), plain.run(packet, nowNs));
      }
    }),
    { seed: 42, numRuns: 400 },
  );
});

test('with and without the index, whole nodes answer alike through churn, both backends', (t) => {
  for (const backend of ['nft', 'legacy'] as const) {
    const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 120, endpoints: 2, udpEvery: 7 });
    const made = [synced(cluster, { backend }), synced(cluster, { backend })] as const;
    made[1].proxier.dataplane.literal = true;
    for (let i = 0; i < 400; i++) {
      if (i % 25 === 24) {
        for (const one of made) {
          const row = (i * 7) % cluster.endpoints.count;
          one.endpoints.remove(row);
          sync(one, [cluster.endpoints.servicePort[row]!]);
        }
      }
      const port = (i * 37) % cluster.ports.count;
      const sent = {
        from: cluster.podCidr.address + 50_000 + i,
        fromPort: 1024 + i,
        to: i % 10 === 0 ? 0x08080808 : cluster.ports.clusterIp[port]!,
        port: cluster.ports.port[port]!,
        protocol: i % 3 === 0 ? UDP : TCP,
        nowNs: i * 1000,
      };
      const steps: string[][] = [[], []];
      made.forEach(({ proxier: { dataplane } }, which) => {
        const step = (where: string, what: string): unknown => steps[which]!.push(`${where}: ${what}`);
        dataplane.recorder = i % 9 === 0 ? { step } : undefined;
      });
      const [a, b] = [send(made[0], sent), send(made[1], sent)];
      t.deepEqual(steps[0], steps[1]);
      t.is(
        steps[0]!.some((line) => / bytes/.test(line)),
        i % 9 === 0,
      );
      t.deepEqual(named(a.counts), named(b.counts));
      t.deepEqual([a.fate, a.endpoint, a.sourcePort], [b.fate, b.endpoint, b.sourcePort]);
    }
  }
});

test('hundreds of full and partial syncs leave the heap as it was', (t) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const made = synced(sticky(40, 50, 60));
  const held = (): number => {
    collect();
    collect();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const round = (times: number): void => {
    for (let i = 0; i < times; i++) {
      made.endpoints.remove(i % 2000);
      sync(made, [made.cluster.endpoints.servicePort[i % 2000]!], i % 2 === 0);
      send(made, {
        from: made.cluster.podCidr.address + 77_777,
        to: made.cluster.ports.clusterIp[1]!,
        nowNs: i,
      });
      made.endpoints.add(i % 2000, 3);
    }
  };
  round(300);
  const before = held();
  round(300);
  const grown = held() - before;
  t.log(`${grown} bytes after 300 more syncs`);
  t.true(grown < 1_000_000);
});
