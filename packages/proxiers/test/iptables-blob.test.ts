import { readFileSync } from 'node:fs';
import test from 'ava';
import {
  CONNTRACK_DEFAULTS,
  FROM_POD,
  Packet,
  SYN,
  Streams,
  TCP,
  parseCidr,
  parseIpv4,
} from '@vipsim/sim-core';
import { BlobLayout, type BlobEntry } from '../src/iptables/blob-layout.ts';
import {
  BUILT_IN_CHAINS,
  FORWARD,
  INPUT,
  KUBE_MARK_MASQ,
  KUBE_POSTROUTING,
  KUBE_SERVICES,
  OUTPUT,
  POSTROUTING,
  PREROUTING,
  SEP,
  SVC,
  fixedChainName,
} from '../src/iptables/chains.ts';
import { IptablesProxier, type IptablesOptions } from '../src/iptables/kube-proxy.ts';
import { iptables } from '../src/iptables/mode.ts';
import { IPTABLES_OPERATIONS } from '../src/iptables/operations.ts';
import * as bits from '../src/iptables/rule.ts';
import { LEGACY_SIZES, NFT_SIZES } from '../src/iptables/rule-sizes.ts';
import { RuleTable } from '../src/iptables/rule-table.ts';
import { RuleText } from '../src/iptables/rule-text.ts';
import type { Cluster, Service } from '../src/kubernetes/cluster.ts';
import { EndpointsMap } from '../src/kubernetes/endpoints-map.ts';
import { SYNTHETIC_DEFAULTS, syntheticCluster } from '../src/kubernetes/synthetic.ts';
import { Verdict, defaultsOf } from '../src/proxier.ts';

const NAMES = {
  chain: ({ kind, subject }: RuleTable, chain: number): string =>
    kind[chain]! < SVC
      ? fixedChainName(kind[chain]!)
      : `KUBE-${kind[chain] === SEP ? 'SEP' : 'SVC'}-${subject[chain]!}`,
  forget: (): void => undefined,
};

/**
 * The nat table that was loaded into a kernel to be measured: ClusterIP services, and 14 entries of 2,800 bytes that
 * all of them need.
 */
function measured(services: number, endpoints: number): RuleTable {
  const nat = new RuleTable('nat', LEGACY_SIZES);
  nat.begin(PREROUTING);
  nat.add(bits.COMMENT, bits.JUMP, KUBE_SERVICES, 0);
  nat.begin(INPUT);
  nat.begin(OUTPUT);
  nat.begin(POSTROUTING);
  nat.add(bits.COMMENT, bits.JUMP, KUBE_POSTROUTING, 0);
  nat.begin(KUBE_POSTROUTING);
  nat.begin(KUBE_MARK_MASQ);
  nat.add(0, bits.MARK_OR, 0, 0);
  const chains = Array.from({ length: services }, (_, service) => nat.newChain(SVC, service));
  nat.begin(KUBE_SERVICES);
  for (const chain of chains) nat.add(bits.SERVICE_SHAPE, bits.JUMP, chain, 0);
  for (const [service, chain] of chains.entries()) {
    const ends = Array.from({ length: endpoints }, (_, i) => nat.newChain(SEP, service * endpoints + i));
    nat.begin(chain);
    nat.add(bits.SERVICE_SHAPE | bits.SOURCE_NOT, bits.JUMP, KUBE_MARK_MASQ, 0);
    for (const [i, end] of ends.entries())
      nat.add(bits.COMMENT | (i < endpoints - 1 ? bits.STATISTIC : 0), bits.JUMP, end, 0);
    for (const end of ends) {
      nat.begin(end);
      nat.add(bits.COMMENT | bits.SOURCE, bits.JUMP, KUBE_MARK_MASQ, 0);
      nat.add(bits.COMMENT | bits.PROTOCOL, bits.DNAT, 0, 0);
    }
  }
  nat.commit();
  return nat;
}

test('the blob is as large as IPT_SO_GET_INFO said of a Linux 6.18 with as many services and endpoints', (t) => {
  for (const [services, endpoints, entries, bytes] of [
    [1000, 10, 54_014, 19_170_800],
    [10_000, 10, 540_014, 191_682_800],
    [1, 10_000, 50_018, 17_924_048],
  ] as const) {
    const table = measured(services, endpoints);
    const layout = new BlobLayout(table, NAMES);
    t.deepEqual([layout.entries, layout.bytes, table.holds.bytes], [entries, bytes, bytes]);
  }
});

test('entries lie one behind the other, from offset 0 to the end of the blob, and are what the counts say', (t) => {
  const table = measured(20, 5);
  const layout = new BlobLayout(table, NAMES);
  const kinds: Partial<Record<BlobEntry['kind'], number>> = {};
  let offset = 0;
  for (const entry of layout.eachEntry()) {
    t.is(entry.offset, offset);
    if (entry.kind === 'rule') t.is(layout.rule(entry.chain, entry.row), offset);
    if (entry.kind === 'return' || entry.kind === 'policy') t.is(layout.end(entry.chain), offset);
    if (entry.kind === 'head') t.is(layout.start(entry.chain), offset + 176);
    kinds[entry.kind] = (kinds[entry.kind] ?? 0) + 1;
    offset += entry.bytes;
  }
  t.is(offset, layout.bytes);
  t.deepEqual(kinds, { rule: 3 + 20 * (2 + 5 * 3), policy: 4, head: 123, return: 123, last: 1 });
  t.is(layout.entries, 20 * 29 + 14);
  t.throws(() => layout.start(FORWARD), { message: /no chain/ });
  t.throws(() => new BlobLayout(new RuleTable('nat', NFT_SIZES), NAMES), { message: /nf_tables/ });
});

function synced(cluster: Cluster, backend: 'nft' | 'legacy'): IptablesProxier {
  const endpoints = new EndpointsMap(cluster);
  const proxier = new IptablesProxier(
    { cluster, endpoints, node: 0, cores: 2, conntrack: CONNTRACK_DEFAULTS, streams: new Streams('0') },
    { ...(defaultsOf(iptables.options) as IptablesOptions), backend },
  );
  for (const stage of proxier.sync([], true).stages) stage.commit();
  return proxier;
}

function layoutsOf(cluster: Cluster) {
  const { ruleset } = synced(cluster, 'legacy').dataplane;
  const text = new RuleText(cluster, ruleset.style);
  return [ruleset.nat, ruleset.filter].map((table) => ({ table, text, layout: new BlobLayout(table, text) }));
}

test('a ClusterIP service of N endpoints takes 1248 + 1792 N bytes and 4 + 5 N entries', (t) => {
  for (const endpoints of [1, 2, 10]) {
    const [few, many] = [3, 7].map((services) => {
      return layoutsOf(syntheticCluster({ ...SYNTHETIC_DEFAULTS, services, endpoints }))[0]!.layout;
    });
    t.is(many!.bytes - few!.bytes, 4 * (1248 + 1792 * endpoints));
    t.is(many!.entries - few!.entries, 4 * (4 + 5 * endpoints));
  }
});

test('chains lie in the order in which iptables-save printed them, in tables of the size the kernel told', (t) => {
  const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 6, endpoints: 3, udpEvery: 3 });
  const services = cluster.services as Service[];
  services[0] = {
    ...services[0]!,
    type: 'LoadBalancer',
    loadBalancerIps: [parseIpv4('1.2.3.4')!, parseIpv4('5.6.7.8')!],
    sourceRanges: [parseCidr('172.16.0.0/16')!, parseCidr('0.0.0.0/0')!],
    externalIps: [parseIpv4('192.168.99.1')!],
    externalPolicyLocal: true,
    healthCheckNodePort: 30100,
  };
  services[1] = { ...services[1]!, internalPolicyLocal: true };
  cluster.ports.nodePort.set([30001, 30002, 30003]);
  cluster.endpoints.conditions.fill(0, 6, 9);
  const saved = readFileSync(new URL('fixtures/iptables-save.txt', import.meta.url), 'utf8').split(
    '\n*nat\n',
  );
  const sizes = [
    [150, 49_592],
    [38, 13_192],
  ];
  for (const [which, { table, text, layout }] of layoutsOf(cluster).entries()) {
    const printed = [...saved[1 - which]!.matchAll(/^:(\S+)/gm)].map(([, name]) => name);
    t.deepEqual(
      layout.chains.map((chain) => text.chain(table, chain)),
      printed,
    );
    t.deepEqual([layout.entries, layout.bytes], sizes[which]);
    t.is(layout.start(layout.chains.find((chain) => chain < BUILT_IN_CHAINS)!), 0);
  }
});

test('a trace tells where entries lie, and what each walk of a table passed', (t) => {
  const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 1, endpoints: 1 });
  const stepsOf = (backend: 'nft' | 'legacy'): string[] => {
    const { dataplane } = synced(cluster, backend);
    const steps: string[] = [];
    dataplane.recorder = { step: (where, what) => steps.push(`${where}: ${what}`) };
    const packet = new Packet();
    packet.source = cluster.podCidr.address + 77_777;
    packet.sourcePort = 40_000;
    packet.destination = cluster.ports.clusterIp[0]!;
    packet.destinationPort = 80;
    packet.protocol = TCP;
    packet.flags = SYN;
    packet.origin = FROM_POD;
    const verdict = new Verdict(IPTABLES_OPERATIONS.length);
    verdict.begin(packet);
    dataplane.classify(packet, 0, verdict);
    t.is(verdict.endpoint, 0);
    return steps;
  };
  const legacy = stepsOf('legacy');
  /*
   * Built-in chains: three jumps of 440 and four policies of 152. KUBE-MARK-MASQ 480, KUBE-NODEPORTS 328,
   * KUBE-POSTROUTING 328 + 200 + 152 + 456, KUBE-PROXY-CANARY 328, KUBE-SEP 328 + 440 + 528, KUBE-SERVICES
   * 328 + 488 + 480, KUBE-SVC 328 + 488 + 440, the last entry 176.
   */
  const matched = legacy.flatMap((step) => {
    const found = /^nat ([A-Z-]+?)(?:[A-Z2-7]{16})?: .*entry at byte (\d+)/.exec(step);
    return found === null ? [] : [`${found[1]!} ${found[2]!}`];
  });
  t.deepEqual(matched.slice(0, 4), [
    'PREROUTING 0',
    'KUBE-SERVICES 5672',
    `KUBE-SVC- ${5672 + 488 + 480 + 152 + 176 + 488}`,
    `KUBE-SEP- ${4376 + 440}`,
  ]);
  // The jump, the service, a selector that fails, the one endpoint, a selector that fails, DNAT.
  const bytes = 440 + 488 + 488 + 440 + 440 + 528;
  t.true(
    legacy.includes(
      `nat PREROUTING: walked 6 entries, ${bytes} of the blob's 8224 bytes: 2 selectors failed (4 or more cache lines of 64 bytes), 6 matches, 3 jumps`,
    ),
  );
  const sums = legacy.filter((step) => step.includes(': walked '));
  t.deepEqual(
    sums.map((step) => step.split(':')[0]),
    ['nat PREROUTING', 'filter FORWARD', 'nat POSTROUTING'],
  );
  const nft = stepsOf('nft').filter((step) => step.includes(': walked '));
  t.is(nft.length, 3);
  t.regex(
    nft[0]!,
    /^nat PREROUTING: walked 6 rules, \d+ bytes of their chains' blobs: \d+ expressions, 5 matches, 3 jumps$/,
  );
});
