import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import {
  FROM_HOST,
  FROM_OUTSIDE,
  FROM_POD,
  Packet,
  SYN,
  TCP,
  UDP,
  formatIpv4,
  type Origin,
} from '@vipsim/sim-core';
import { READY, SERVING, TERMINATING } from '../src/kubernetes/cluster.ts';
import { NFTABLES_OPERATIONS } from '../src/nftables/operations.ts';
import { DROP, FORWARD, Verdict, type Dataplane } from '../src/proxier.ts';
import { IPTABLES_OPERATIONS } from '../src/iptables/operations.ts';
import {
  clusterOf,
  ip,
  synced as iptablesSynced,
  type EndpointSpec,
  type ServiceSpec,
} from './iptables-bench.ts';
import { LAYOUTS, NODE, bench, commit, send, synced } from './nftables-bench.ts';

/*
 * What packets meet in nftables mode and in iptables mode, over random clusters: the same endpoints to choose from,
 * the same fate, the same masquerading, but for what kube-proxy does differently on purpose.
 */

interface Probe {
  readonly from: string;
  readonly to: string;
  readonly port: number;
  readonly protocol: number;
  readonly origin: Origin;
}

const DRAWS = 24;
let sourcePort = 0;

/** What becomes of several packets of a kind: fates and chosen endpoints, each with `masq` where the source changes. */
function outcomes(dataplane: Dataplane, operations: number, probe: Probe): string[] {
  const verdict = new Verdict(operations);
  const packet = new Packet();
  const seen = new Set<string>();
  for (let i = 0; i < DRAWS; i++) {
    packet.source = ip(probe.from);
    packet.sourcePort = 1024 + (sourcePort++ % 60_000);
    packet.destination = ip(probe.to);
    packet.destinationPort = probe.port;
    packet.protocol = probe.protocol;
    packet.flags = probe.protocol === TCP ? SYN : 0;
    packet.origin = probe.origin;
    verdict.begin(packet);
    dataplane.classify(packet, 1000, verdict);
    if (verdict.fate !== FORWARD) seen.add(verdict.fate === DROP ? 'drop' : 'reject');
    else {
      // The node's own packets keep their address when they are masqueraded, and get another port.
      const masq =
        verdict.source !== packet.source || verdict.sourcePort !== packet.sourcePort ? ' masq' : '';
      const to =
        verdict.endpoint < 0 ? 'untouched' : `${formatIpv4(verdict.destination)}:${verdict.destinationPort}`;
      seen.add(to + masq);
    }
  }
  return [...seen].sort();
}

const CONDITIONS = fc.constantFrom(READY | SERVING, READY | SERVING, 0, SERVING | TERMINATING);

const ENDPOINTS = fc.array(fc.record({ local: fc.boolean(), conditions: CONDITIONS }), { maxLength: 3 });

const SERVICES = fc.array(
  fc.record({
    endpoints: ENDPOINTS,
    affinityS: fc.constantFrom(0, 0, 10_800),
    internalPolicyLocal: fc.boolean(),
    externalPolicyLocal: fc.boolean(),
    hasNodePort: fc.boolean(),
    hasExternalIp: fc.boolean(),
    hasVip: fc.boolean(),
    sourceRanges: fc.constantFrom(
      [],
      [],
      ['203.0.113.0/25'],
      ['203.0.113.0/25', '192.168.0.0/24', '10.0.0.0/9'],
    ),
    protocol: fc.constantFrom(TCP, TCP, UDP),
  }),
  { minLength: 1, maxLength: 4 },
);

function specsOf(
  services: (typeof SERVICES extends fc.Arbitrary<infer S> ? S : never) & readonly unknown[],
): ServiceSpec[] {
  return services.map((service, at) => ({
    clusterIp: `172.30.0.${41 + at}`,
    affinityS: service.affinityS,
    internalPolicyLocal: service.internalPolicyLocal,
    externalPolicyLocal: service.externalPolicyLocal,
    protocol: service.protocol,
    sourceRanges: service.sourceRanges,
    ...(service.hasNodePort && { nodePort: 30_001 + at }),
    ...(service.hasExternalIp && { externalIps: [`192.168.99.${11 + at}`] }),
    ...(service.hasVip && { type: 'LoadBalancer' as const, loadBalancerIps: [`1.2.3.${4 + at}`] }),
    endpoints: service.endpoints.map((endpoint, i): EndpointSpec => ({
      ...endpoint,
      at: `10.180.${at}.${i + 1}:8080`,
    })),
  }));
}

const SOURCES: readonly (readonly [string, Origin])[] = [
  ['10.0.0.5', FROM_POD],
  ['10.180.0.1', FROM_POD],
  [NODE, FROM_HOST],
  ['203.0.113.9', FROM_OUTSIDE],
  ['198.51.100.7', FROM_OUTSIDE],
];

function probesOf(spec: ServiceSpec): Probe[] {
  const protocol = spec.protocol!;
  const targets: readonly (readonly [string, number])[] = [
    [spec.clusterIp, 80],
    ...(spec.externalIps ?? []).map((address) => [address, 80] as const),
    ...(spec.loadBalancerIps ?? []).map((address) => [address, 80] as const),
    ...(spec.nodePort === undefined ? [] : [[NODE, spec.nodePort] as const]),
  ];
  return targets.flatMap(([to, port]) =>
    SOURCES.map(([from, origin]) => ({ from, to, port, protocol, origin })),
  );
}

test('Services mean the same to packets in nftables and iptables mode, in every layout', (t) => {
  fc.assert(
    fc.property(SERVICES, fc.boolean(), (services, masqueradeAll) => {
      const specs = specsOf(services);
      // A pod of another node cannot come in here as a pod of this one: only local ones hit themselves.
      const first = specs[0]!.endpoints![0];
      const hairpins = first?.local === true;
      const sameAs = { masqueradeAll, nodePortAddresses: 'primary' } as const;
      const iptables = iptablesSynced(clusterOf(specs), { ...sameAs, localhostNodePorts: false }).proxier;
      for (const kubeProxyVersion of LAYOUTS) {
        const nftables = synced(clusterOf(specs), { ...sameAs, kubeProxyVersion }).proxier;
        for (const spec of specs) {
          for (const probe of probesOf(spec)) {
            const sticky = spec.affinityS! > 0;
            if (probe.from === '10.180.0.1' && (!hairpins || sticky)) continue;
            // A client of a sticky Service stays with the endpoint that chance gave it.
            const ask = (dataplane: Dataplane, operations: readonly string[]): string[] =>
              outcomes(dataplane, operations.length, probe).map((one) =>
                sticky ? one.replace(/^10\S+/, 'endpoint') : one,
              );
            const wanted = ask(iptables.dataplane, IPTABLES_OPERATIONS);
            // KUBE-EXTERNAL-SERVICES stands at INPUT and FORWARD; service-endpoints-check at output, too.
            const unasked = probe.origin === FROM_HOST && wanted[0] === 'untouched';
            const got = ask(nftables.dataplane, NFTABLES_OPERATIONS);
            // firewall-check comes before service-endpoints-check: who may not come in learns of no missing endpoint.
            const isBlocked = spec.sourceRanges!.length > 0 && spec.loadBalancerIps?.[0] === probe.to;
            const expected = unasked ? ['reject'] : wanted;
            if (isBlocked && got[0] === 'drop' && expected[0] === 'reject') continue;
            t.deepEqual(
              got,
              expected,
              `${kubeProxyVersion} ${JSON.stringify(probe)} ${JSON.stringify(spec)}`,
            );
          }
        }
      }
    }),
    { seed: 42, numRuns: 60 },
  );
});

test('what nftables mode does differently: unknown ports are refused, unallocated ClusterIPs lead nowhere', (t) => {
  const specs: ServiceSpec[] = [{ clusterIp: '172.30.0.41', endpoints: [{ at: '10.180.0.1:80' }] }];
  const iptables = iptablesSynced(clusterOf(specs)).proxier;
  const ask = (probe: Partial<Probe>): readonly (readonly string[])[] => {
    const whole: Probe = {
      from: '10.0.0.5',
      to: '172.30.0.41',
      port: 80,
      protocol: TCP,
      origin: FROM_POD,
      ...probe,
    };
    return [
      outcomes(iptables.dataplane, IPTABLES_OPERATIONS.length, whole),
      ...LAYOUTS.map((kubeProxyVersion) =>
        outcomes(
          synced(clusterOf(specs), { kubeProxyVersion }).proxier.dataplane,
          NFTABLES_OPERATIONS.length,
          whole,
        ),
      ),
    ];
  };
  const refused = ['reject'];
  const dropped = ['drop'];
  t.deepEqual(ask({ port: 81 }), [['untouched'], refused, refused, refused]);
  t.deepEqual(ask({ protocol: UDP }), [['untouched'], refused, refused, refused]);
  t.deepEqual(ask({ to: '172.30.7.7' }), [['untouched'], dropped, dropped, dropped]);
  t.deepEqual(ask({ from: NODE, origin: FROM_HOST, port: 81 }).slice(1), [refused, refused, refused]);
  // Without ServiceCIDRs nothing is known to be unallocated.
  const unknowing = synced(clusterOf(specs), { serviceCidrs: 'none' });
  t.is(send(unknowing, { from: '10.0.0.5', to: '172.30.7.7:80' }).fate, FORWARD);
});

test('no endpoint is preferred: chi-square of 9,000 choices among 10', (t) => {
  const endpoints = Array.from({ length: 10 }, (_, i) => ({ at: `10.180.0.${i}:80` }));
  for (const kubeProxyVersion of LAYOUTS) {
    const made = synced(clusterOf([{ clusterIp: '172.30.0.41', endpoints }]), { kubeProxyVersion }, '42');
    const chosen = new Float64Array(10);
    for (let i = 0; i < 9000; i++) {
      chosen[send(made, { from: `10.0.${i >> 8}.${i & 255}`, to: '172.30.0.41:80' }).endpoint]! += 1;
    }
    const chiSquare = chosen.reduce((sum, count) => sum + ((count - 900) * (count - 900)) / 900, 0);
    // 9 degrees of freedom: 27.9 is met by chance once in a thousand.
    t.true(chiSquare < 27.9, `${kubeProxyVersion}: ${chiSquare}`);
  }
});

test('a rule set in the making changes nothing for packets', (t) => {
  const endpoints = [{ at: '10.180.0.1:80' }, { at: '10.180.0.2:80', conditions: 0 }];
  for (const kubeProxyVersion of LAYOUTS) {
    const made = bench(clusterOf([{ clusterIp: '172.30.0.41', endpoints }]), { kubeProxyVersion });
    commit(made.proxier.sync([], true));
    made.endpoints.conditions[0] = 0;
    made.endpoints.conditions[1] = READY | SERVING;
    const plan = made.proxier.sync([0], false);
    t.is(send(made, { from: '10.0.0.5', to: '172.30.0.41:80' }).endpoint, 0);
    commit(plan);
    t.is(send(made, { from: '10.0.0.5', to: '172.30.0.41:80' }).endpoint, 1);
  }
});

const whereNftIs = spawnSync('unshare', ['-n', 'nft', '--version']).status === 0 ? test : test.skip;

whereNftIs('nft takes the rules of random clusters, and lists what we list', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'vipsim-nft-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'rules.nft');
  const detectors = ['ClusterCIDR', 'NodeCIDR', 'InterfaceNamePrefix', 'none'] as const;
  fc.assert(
    fc.property(
      SERVICES,
      fc.constantFrom(...LAYOUTS, '1.31', '1.33'),
      fc.constantFrom(...detectors),
      fc.constantFrom('primary', '0.0.0.0/0'),
      fc.boolean(),
      (services, kubeProxyVersion, detectLocalMode, nodePortAddresses, masqueradeAll) => {
        const options = { kubeProxyVersion, detectLocalMode, nodePortAddresses, masqueradeAll } as const;
        const { proxier } = synced(clusterOf(specsOf(services)), options);
        writeFileSync(file, `${[...proxier.dump('nft')].join('\n')}\n`);
        const nft = spawnSync(
          'unshare',
          ['-n', 'sh', '-c', 'nft -c -f "$0" && nft -f "$0" && nft list ruleset', file],
          { encoding: 'utf8' },
        );
        t.is(nft.stderr, '', JSON.stringify(options));
        t.is(nft.stdout, `${[...proxier.dump('nft-list')].join('\n')}\n`, JSON.stringify(options));
      },
    ),
    { seed: 42, numRuns: 40 },
  );
});

test('a Service may be called anything: nothing in its name becomes a rule', (t) => {
  const hostile = { namespace: 'a b', name: 'x"; flush ruleset; \n#{', clusterIp: '172.30.0.41' };
  const specs = [hostile, { ...hostile, clusterIp: '172.30.0.42', endpoints: [{ at: '10.180.0.1:80' }] }];
  for (const kubeProxyVersion of LAYOUTS) {
    const { proxier } = synced(clusterOf(specs), { kubeProxyVersion });
    const text = [...proxier.dump('nft')];
    t.true(text.every((line) => !/[\n\r]|flush ruleset|"[^"]*"[^"]*"/.test(line)));
    t.true(text.some((line) => line.includes('comment "a%20b/x%22%3b%20flush%20ruleset%3b%20%a%23%7b:')));
    t.true(text.some((line) => /^add chain ip kube-proxy service-[A-Z2-7]{8}-a_b\/x__/.test(line)));
    for (const format of ['nft-list', 'nft-json']) {
      t.false([...proxier.dump(format)].join('\n').includes('flush ruleset'));
    }
  }
});
