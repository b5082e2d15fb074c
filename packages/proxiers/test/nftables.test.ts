import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import test from 'ava';
import { ACK, FROM_HOST, FROM_OUTSIDE, Packet, SYN, UDP, formatIpv4 } from '@vipsim/sim-core';
import { READY, SERVING } from '../src/kubernetes/cluster.ts';
import { readCluster } from '../src/kubernetes/read.ts';
import { SYNTHETIC_DEFAULTS, syntheticCluster } from '../src/kubernetes/synthetic.ts';
import { sortedByText } from '../src/kubernetes/endpoint-order.ts';
import type { NftablesOptions } from '../src/nftables/kube-proxy.ts';
import { VERSIONS, type Version } from '../src/nftables/layout.ts';
import { hashAndTruncate } from '../src/nftables/names.ts';
import { NFTABLES_OPERATIONS } from '../src/nftables/operations.ts';
import { clusterOf } from './iptables-bench.ts';
import {
  L1,
  L2,
  L3,
  LAYOUTS,
  NODE,
  OP,
  outcome,
  ownLines,
  send,
  sixServices,
  synced,
  textOf,
  type NftBench,
} from './nftables-bench.ts';

// Names and text, as kube-proxy's unit tests have them.

test('hashAndTruncate(name) is the base32 SHA-256 prefix known from kube-proxy, and never above 240 characters', (t) => {
  for (const name of [
    'ULMVA6XW-ns1/svc1/tcp/p80',
    '5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80',
    'P4ZYZVCF-testing/service/tcp/http',
    'U7E2ET36-testing/service/tcp/http__fd80.abcd.12..a1b2.c3d4.e5f6.9999/80',
    '42NFTM6N-ns2/svc2/tcp/p80',
    'GTK6MW7G-ns5/svc5/tcp/p80__10.180.0.3/80',
    'SGOXE6O3-ns2/svc2/tcp/p80__10.180.0.2/80',
  ]) {
    t.is(hashAndTruncate(name.slice(9)), name);
  }
  const long = hashAndTruncate('n'.repeat(300));
  t.is(long.length, 240);
  t.true(long.endsWith('n...'));
  t.is(hashAndTruncate('n'.repeat(231)).length, 240);
  t.false(hashAndTruncate('n'.repeat(231)).endsWith('...'));
});

function made(version: Version): NftBench {
  return synced(clusterOf(sixServices(version !== L1)), { kubeProxyVersion: version });
}

const SVC1 = 'service-ULMVA6XW-ns1/svc1/tcp/p80';
const EP1 = 'endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80';

test('a ClusterIP with one endpoint: chain by chain in 1.35, a map in 1.36, one rule in 1.37', (t) => {
  const marks = ['svc1/', '172.30.0.41', '10.180.0.1 '];
  t.deepEqual(ownLines(made(L1), marks).toSorted(), [
    `add chain K ${EP1}`,
    `add chain K ${SVC1}`,
    'add element K cluster-ips { 172.30.0.41 }',
    `add element K service-ips { 172.30.0.41 . tcp . 80 : goto ${SVC1} }`,
    `add rule K ${EP1} ip saddr 10.180.0.1 jump mark-for-masquerade`,
    `add rule K ${EP1} meta l4proto tcp dnat to 10.180.0.1:80`,
    `add rule K ${SVC1} ip daddr 172.30.0.41 ip saddr != 10.0.0.0/8 jump mark-for-masquerade`,
    `add rule K ${SVC1} numgen random mod 1 vmap { 0 : goto ${EP1} }`,
  ]);
  const rule = {
    [L2]: `add rule K ${SVC1} meta l4proto tcp dnat ip addr . port to numgen random mod 1 map { 0 : 10.180.0.1 . 80 }`,
    [L3]: `add rule K ${SVC1} meta l4proto tcp dnat to 10.180.0.1:80`,
  };
  for (const version of [L2, L3] as const) {
    t.deepEqual(ownLines(made(version), marks).toSorted(), [
      `add chain K ${SVC1}`,
      'add element K cluster-ips { 172.30.0.41 }',
      'add element K hairpin-connections { 10.180.0.1 . 10.180.0.1 . tcp . 80 }',
      `add element K service-ips { 172.30.0.41 . tcp . 80 : goto ${SVC1} }`,
      rule[version]!,
    ]);
  }
});

test('a load balancer of policy Local without a local endpoint short-circuits pods and the node, and drops the rest', (t) => {
  const base = '42NFTM6N-ns2/svc2/tcp/p80';
  const marks = [`external-${base}`, '172.30.0.42', '"ns2/svc2:p80"'];
  const elements = [
    'add element K cluster-ips { 172.30.0.42 }',
    'add element K no-endpoint-nodeports { tcp . 3001 comment "ns2/svc2:p80" : drop }',
    'add element K no-endpoint-services { 1.2.3.4 . tcp . 80 comment "ns2/svc2:p80" : drop }',
    'add element K no-endpoint-services { 192.168.99.22 . tcp . 80 comment "ns2/svc2:p80" : drop }',
    `add element K service-ips { 1.2.3.4 . tcp . 80 : goto external-${base} }`,
    `add element K service-ips { 172.30.0.42 . tcp . 80 : goto service-${base} }`,
    `add element K service-ips { 192.168.99.22 . tcp . 80 : goto external-${base} }`,
    `add element K service-nodeports { tcp . 3001 : goto external-${base} }`,
  ];
  const rules = (masquerade: string): string[] => [
    `add rule K external-${base} ip saddr 10.0.0.0/8 goto service-${base} comment "short-circuit pod traffic"`,
    `add rule K external-${base} fib saddr type local ${masquerade} comment "masquerade local traffic"`,
    `add rule K external-${base} fib saddr type local goto service-${base} comment "short-circuit local traffic"`,
  ];
  const l1 = ownLines(made(L1), marks).filter(
    (line) => !line.includes('endpoint-S') && !line.includes(`K service-${base}`),
  );
  t.deepEqual(l1.filter((line) => !line.startsWith('add rule')).toSorted(), [
    `add chain K external-${base}`,
    ...elements,
  ]);
  t.deepEqual(
    l1.filter((line) => line.startsWith('add rule')),
    rules('jump mark-for-masquerade'),
  );
  const l2 = ownLines(made(L2), marks);
  t.deepEqual(l2.filter((line) => !line.startsWith('add rule')).toSorted(), [
    `add chain K external-${base}`,
    ...elements,
  ]);
  t.deepEqual(
    l2.filter((line) => line.startsWith('add rule')),
    rules('mark set mark or 0x4000'),
  );
  t.true(
    textOf(made(L2)).includes(
      `add rule K service-${base} meta l4proto tcp dnat ip addr . port to numgen random mod 1 map { 0 : 10.180.0.2 . 80 }`,
    ),
  );
  t.false(textOf(made(L2)).some((line) => line.includes('hairpin-connections { 10.180.0.2')));
});

test('a NodePort leads through the external chain, which marks everything', (t) => {
  const base = '4AT6LBPK-ns3/svc3/tcp/p80';
  const endpoint = 'endpoint-UEIP74TE-ns3/svc3/tcp/p80__10.180.0.3/80';
  const l1 = ownLines(made(L1), [base, '172.30.0.43', endpoint]);
  t.deepEqual(l1.toSorted(), [
    `add chain K ${endpoint}`,
    `add chain K external-${base}`,
    `add chain K service-${base}`,
    'add element K cluster-ips { 172.30.0.43 }',
    `add element K service-ips { 172.30.0.43 . tcp . 80 : goto service-${base} }`,
    `add element K service-nodeports { tcp . 3003 : goto external-${base} }`,
    `add rule K ${endpoint} ip saddr 10.180.0.3 jump mark-for-masquerade`,
    `add rule K ${endpoint} meta l4proto tcp dnat to 10.180.0.3:80`,
    `add rule K external-${base} goto service-${base}`,
    `add rule K external-${base} jump mark-for-masquerade`,
    `add rule K service-${base} ip daddr 172.30.0.43 ip saddr != 10.0.0.0/8 jump mark-for-masquerade`,
    `add rule K service-${base} numgen random mod 1 vmap { 0 : goto ${endpoint} }`,
  ]);
  const l2 = ownLines(made(L2), [`K external-${base}`]);
  t.deepEqual(l2, [
    `add chain K external-${base}`,
    `add rule K external-${base} mark set mark or 0x4000 comment "masquerade"`,
    `add rule K external-${base} goto service-${base}`,
  ]);
  t.true(
    textOf(made(L2)).includes('add element K hairpin-connections { 10.180.0.3 . 10.180.0.3 . tcp . 80 }'),
  );
});

test('two endpoints: the choice lists both; only the one on the node is a hairpin connection', (t) => {
  const base = 'LAUZTJTB-ns4/svc4/tcp/p80';
  t.true(
    textOf(made(L1)).includes(
      `add rule K service-${base} numgen random mod 2 vmap { 0 : goto endpoint-UNZV3OEC-ns4/svc4/tcp/p80__10.180.0.4/80 , 1 : goto endpoint-5RFCDDV7-ns4/svc4/tcp/p80__10.180.0.5/80 }`,
    ),
  );
  for (const version of [L2, L3] as const) {
    const lines = textOf(made(version));
    t.true(
      lines.includes(
        `add rule K service-${base} meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.180.0.4 . 80 , 1 : 10.180.0.5 . 80 }`,
      ),
    );
    t.true(lines.includes('add element K hairpin-connections { 10.180.0.5 . 10.180.0.5 . tcp . 80 }'));
    t.false(lines.includes('add element K hairpin-connections { 10.180.0.4 . 10.180.0.4 . tcp . 80 }'));
  }
  for (const version of LAYOUTS) {
    const lines = textOf(made(version));
    t.true(lines.includes(`add element K service-ips { 172.30.0.44 . tcp . 80 : goto service-${base} }`));
    t.true(lines.includes(`add element K service-ips { 192.168.99.33 . tcp . 80 : goto external-${base} }`));
  }
});

test('affinity and source ranges: a set and a chain for the endpoint in every layout, a firewall chain', (t) => {
  const base = 'HVFWP5L3-ns5/svc5/tcp/p80';
  const ep = 'GTK6MW7G-ns5/svc5/tcp/p80__10.180.0.3/80';
  for (const version of LAYOUTS) {
    const l1 = version === L1;
    const marks = l1 ? 'jump mark-for-masquerade' : 'mark set mark or 0x4000 comment "masquerade"';
    const only = (line: string): string[] => (l1 ? [line] : []);
    t.deepEqual(ownLines(made(version), [base, ep, '172.30.0.45']), [
      `add chain K endpoint-${ep}`,
      `add chain K service-${base}`,
      `add chain K external-${base}`,
      'add element K cluster-ips { 172.30.0.45 }',
      `add element K service-ips { 172.30.0.45 . tcp . 80 : goto service-${base} }`,
      `add chain K firewall-${base}`,
      `add element K service-ips { 5.6.7.8 . tcp . 80 : goto external-${base} }`,
      `add element K firewall-ips { 5.6.7.8 . tcp . 80 : goto firewall-${base} }`,
      `add element K service-nodeports { tcp . 3002 : goto external-${base} }`,
      ...only(
        `add rule K service-${base} ip daddr 172.30.0.45 ip saddr != 10.0.0.0/8 jump mark-for-masquerade`,
      ),
      `add rule K external-${base} ${marks}`,
      `add rule K external-${base} goto service-${base}`,
      `add rule K firewall-${base} ip saddr != { 203.0.113.0/25 } drop`,
      `add set K affinity-${ep} { type ipv4_addr ; flags dynamic,timeout ; timeout 10800s ; }`,
      `add rule K service-${base} ip saddr @affinity-${ep} goto endpoint-${ep}`,
      `add rule K service-${base} numgen random mod 1 vmap { 0 : goto endpoint-${ep} }`,
      ...only(`add rule K endpoint-${ep} ip saddr 10.180.0.3 jump mark-for-masquerade`),
      `add rule K endpoint-${ep} update @affinity-${ep} { ip saddr }`,
      `add rule K endpoint-${ep} meta l4proto tcp dnat to 10.180.0.3:80`,
    ]);
  }
});

test('without endpoints there are two elements', (t) => {
  for (const version of LAYOUTS) {
    t.deepEqual(ownLines(made(version), ['172.30.0.46', 'svc6']), [
      'add element K cluster-ips { 172.30.0.46 }',
      'add element K no-endpoint-services { 172.30.0.46 . tcp . 80 comment "ns6/svc6:p80" : goto reject-chain }',
    ]);
  }
});

// Walks: what a first packet meets, counted.

const EXPRESSIONS = NFTABLES_OPERATIONS.filter((name) =>
  /^nftables\.(payload|cmp|bitwise|meta|ct|fib|numgen|lookup|immediate|nat|masq|reject|dynset)$/.test(name),
);

function walked(ours: NftBench): { expressions: number; lookups: number; rules: number } {
  const { counts } = ours.verdict;
  return {
    expressions: EXPRESSIONS.reduce((sum, name) => sum + counts[OP[name]]!, 0),
    lookups: counts[OP['nftables.lookup']]!,
    rules: counts[OP['nftables.rule']]!,
  };
}

function remote(count: number, port = 80): { at: string }[] {
  return Array.from({ length: count }, (_, i) => ({ at: `10.180.${i >> 8}.${i & 255}:${port}` }));
}

const POD = '10.0.0.5';
const OUTSIDE = '203.0.113.9';

test('a first packet from a pod to a pod elsewhere costs 47, 50 and 50 expressions, whatever there is beside it', (t) => {
  const expected = {
    [L1]: { expressions: 47, lookups: 5, rules: 15 },
    [L2]: { expressions: 50, lookups: 7, rules: 14 },
    [L3]: { expressions: 50, lookups: 7, rules: 14 },
  };
  for (const version of LAYOUTS) {
    for (const count of [2, 10, 500]) {
      const one = synced(clusterOf([{ clusterIp: '172.30.0.41', endpoints: remote(count) }]), {
        kubeProxyVersion: version,
      });
      t.regex(outcome(one, { from: POD, to: '172.30.0.41:80' }), /^10\.180\.\d+\.\d+:80$/);
      t.deepEqual(walked(one), expected[version]!, `${version} with ${count} endpoints`);
    }
    for (const services of [10, 1000, 10_000]) {
      const many = synced(syntheticCluster({ ...SYNTHETIC_DEFAULTS, services, endpoints: 2, nodes: 3 }), {
        kubeProxyVersion: version,
      });
      // Networks off byte borders need a mask: that of pods, and that of Services in cluster-ips-check.
      send(many, {
        from: '10.128.0.77',
        to: `${formatIpv4(many.cluster.ports.clusterIp[services - 1]!)}:80`,
      });
      const { expressions, lookups, rules } = walked(many);
      t.deepEqual(
        { expressions: expressions - 2, lookups, rules },
        expected[version]!,
        `${services} Services`,
      );
    }
  }
});

test('with one endpoint 1.37 does without numgen and one lookup, for as many expressions', (t) => {
  const one = synced(clusterOf([{ clusterIp: '172.30.0.41', endpoints: remote(1) }]), {
    kubeProxyVersion: L3,
  });
  t.is(outcome(one, { from: POD, to: '172.30.0.41:80' }), '10.180.0.0:80');
  t.deepEqual(walked(one), { expressions: 50, lookups: 6, rules: 14 });
});

test('from outside the pod network it is masqueraded: 54 expressions in 1.35, 49 in 1.36', (t) => {
  for (const [version, expressions] of [
    [L1, 54],
    [L2, 49],
  ] as const) {
    const ours = synced(clusterOf([{ clusterIp: '172.30.0.41', endpoints: remote(3) }]), {
      kubeProxyVersion: version,
    });
    t.regex(outcome(ours, { from: OUTSIDE, to: '172.30.0.41:80', origin: FROM_OUTSIDE }), / masq$/);
    t.is(walked(ours).expressions, expressions);
  }
});

test('the node itself pays as much as a pod does', (t) => {
  for (const [version, expressions] of [
    [L1, 54],
    [L2, 49],
  ] as const) {
    const ours = synced(clusterOf([{ clusterIp: '172.30.0.41', endpoints: remote(3) }]), {
      kubeProxyVersion: version,
    });
    send(ours, { from: NODE, to: '172.30.0.41:80', origin: FROM_HOST });
    t.is(walked(ours).expressions, expressions);
  }
});

test('every later packet costs 9 expressions and no lookup, in either direction', (t) => {
  for (const version of LAYOUTS) {
    const ours = synced(clusterOf([{ clusterIp: '172.30.0.41', endpoints: remote(3) }]), {
      kubeProxyVersion: version,
    });
    const first = send(ours, { from: POD, to: '172.30.0.41:80' });
    const answer = new Packet();
    answer.source = first.destination;
    answer.sourcePort = first.destinationPort;
    answer.destination = first.source;
    answer.destinationPort = first.sourcePort;
    answer.flags = SYN | ACK;
    answer.origin = FROM_OUTSIDE;
    ours.verdict.begin(answer);
    ours.proxier.dataplane.classify(answer, 2000, ours.verdict);
    t.is(formatIpv4(ours.verdict.source), '172.30.0.41');
    t.deepEqual(walked(ours), { expressions: 9, lookups: 0, rules: 3 });
  }
});

test('session affinity is linear in endpoints: 49 + 2N and 54 + 2N for a new client, 2i + 3 for a known one', (t) => {
  for (const [version, base] of [
    [L1, 49],
    [L2, 54],
    [L3, 54],
  ] as const) {
    for (const count of [2, 5, 60]) {
      const ours = synced(
        clusterOf([{ clusterIp: '172.30.0.41', affinityS: 10_800, endpoints: remote(count) }]),
        {
          kubeProxyVersion: version,
        },
      );
      const chosen = send(ours, { from: POD, to: '172.30.0.41:80' }).endpoint;
      const fresh = walked(ours);
      t.is(fresh.expressions, base + 2 * count, `${version} with ${count}`);
      t.is(fresh.lookups, (version === L1 ? 5 : 7) + count);
      const again = send(ours, { from: POD, to: '172.30.0.41:80', nowNs: 1_000_000_000 });
      t.is(again.endpoint, chosen);
      const order = sortedByText(
        ours.cluster.endpoints,
        Int32Array.from({ length: count }, (_, row) => row),
      );
      // The choice (numgen, lookup) and the rules behind the client's are not met.
      const place = order.indexOf(chosen);
      t.is(walked(ours).expressions, base + 2 * place + 3 - 2);
    }
  }
});

test('a NodePort from outside costs 58 and 53 expressions, masquerading included', (t) => {
  // Before DNAT 8; nat: 1 + 4 + 5, the external chain 5 or 4, then 2 + 2 + 2 + 5 or 5, and in L2 2 for ClusterIPs;
  // forward 16; after routing 1 + 3 + 3 + 1 or 1 + 7.
  for (const [version, expressions] of [
    [L1, 58],
    [L2, 53],
  ] as const) {
    const ours = synced(clusterOf([{ clusterIp: '172.30.0.41', nodePort: 30_001, endpoints: remote(3) }]), {
      kubeProxyVersion: version,
    });
    t.regex(outcome(ours, { from: OUTSIDE, to: `${NODE}:30001`, origin: FROM_OUTSIDE }), / masq$/);
    t.is(walked(ours).expressions, expressions);
  }
});

test('a client is remembered for as long as the Service says after its last connection', (t) => {
  const S = 1_000_000_000;
  for (const version of LAYOUTS) {
    const spec = { clusterIp: '172.30.0.41', affinityS: 60, endpoints: remote(50) };
    const ours = synced(clusterOf([spec]), { kubeProxyVersion: version });
    const at = (seconds: number): number => {
      for (let s = 1; s <= seconds; s += 10) ours.proxier.dataplane.expire(s * S);
      return send(ours, { from: POD, to: '172.30.0.41:80', nowNs: seconds * S }).endpoint;
    };
    const first = at(1);
    const kept = walked(ours).expressions;
    t.is(at(60), first);
    t.is(at(119), first, 'a minute after the second connection');
    at(181);
    t.is(walked(ours).expressions, kept, 'nobody remembers: all rules, and the choice');
  }
});

test('until 1.33 output is filtered before DNAT: the node meets the drop that is meant for others', (t) => {
  const vip = { from: NODE, to: '1.2.3.4:80', origin: FROM_HOST } as const;
  t.is(outcome(made('1.33'), vip), 'drop');
  t.is(outcome(made('1.34'), vip), '10.180.0.2:80 masq');
  // A packet that comes in is filtered behind DNAT in either.
  for (const version of ['1.33', '1.34'] as const) {
    t.is(outcome(made(version), { from: POD, to: '1.2.3.4:80' }), '10.180.0.2:80');
    t.is(outcome(made(version), { from: OUTSIDE, to: '1.2.3.4:80', origin: FROM_OUTSIDE }), 'drop');
  }
});

// Against the real tool.

const NFT = spawnSync('unshare', ['-n', 'nft', '--version']).status === 0;
const whereNftIs = NFT ? test : test.skip;

function listed(bench: NftBench): string {
  return `${[...bench.proxier.dump('nft-list')].join('\n')}\n`;
}

function fixture(version: string): string {
  return readFileSync(new URL(`fixtures/nftables/list-${version}.txt`, import.meta.url), 'utf8');
}

test('what is programmed lists as nft 1.0.6 listed the same text, loaded into Linux 6.18', (t) => {
  for (const version of ['1.31', ...LAYOUTS] as const) t.is(listed(made(version)), fixture(version), version);
});

/** What nft prints of a text that it has loaded, as text and as JSON without handles. */
function real(text: readonly string[]): readonly [string, string] {
  const run = spawnSync(
    'unshare',
    ['-n', 'sh', '-c', 'nft -f - && nft list ruleset && nft -j list ruleset'],
    {
      input: `${text.join('\n')}\n`,
      encoding: 'utf8',
      maxBuffer: 1e9,
    },
  );
  if (run.status !== 0) throw new Error(run.stderr.slice(0, 2000));
  const at = run.stdout.lastIndexOf('{"nftables"');
  return [run.stdout.slice(0, at), withoutHandles(run.stdout.slice(at).trim())];
}

function withoutHandles(json: string): string {
  return json.replaceAll(/, "handle": \d+|"handle": \d+, /g, '');
}

whereNftIs('the real nft loads what every release writes, and lists it as we do', (t) => {
  const options: Partial<NftablesOptions>[] = [
    {},
    { nodePortAddresses: '0.0.0.0/0', serviceCidrs: '172.30.0.0/16,10.96.0.0/12' },
    { masqueradeAll: true, detectLocalMode: 'none', serviceCidrs: 'none' },
    { detectLocalMode: 'BridgeInterface', masqueradeBit: 5 },
    { detectLocalMode: 'InterfaceNamePrefix' },
    { detectLocalMode: 'NodeCIDR', nodePortAddresses: '10.0.0.0/8' },
  ];
  const ranges = ['203.0.113.0/25', '192.168.0.0/24', '10.0.0.0/9'];
  const specs = sixServices(true).map((spec, at) => ({
    ...spec,
    ...(at === 1 && {
      sourceRanges: ranges,
      endpoints: [...spec.endpoints!, { at: '10.180.1.2:8080', local: true }],
    }),
    ...(at === 3 && { internalPolicyLocal: true, affinityS: 60, protocol: UDP }),
  }));
  for (const kubeProxyVersion of VERSIONS) {
    for (const one of options) {
      const ours = synced(clusterOf(specs), { ...one, kubeProxyVersion });
      const [text, json] = real([...ours.proxier.dump('nft')]);
      const what = `${kubeProxyVersion} ${JSON.stringify(one)}`;
      t.is(listed(ours), text, what);
      t.is(withoutHandles([...ours.proxier.dump('nft-json')].join('')), json, what);
    }
  }
});

const IN_SERVICES = 'add rule K services ip daddr @cluster-ips ';
const ELSEWHERE = 'mark set mark or 0x4000 comment "masquerade clusterIP traffic from outside cluster"';

/** The two rules of svc2 that tell pods from others, without what is the same in all. */
function detecting(options: Partial<NftablesOptions>): string[] {
  const base = '42NFTM6N-ns2/svc2/tcp/p80';
  return textOf(synced(clusterOf(sixServices(true)), options))
    .filter((line) => /masquerade clusterIP|pod traffic/.test(line))
    .map((line) =>
      line
        .replace(IN_SERVICES, '')
        .replace(ELSEWHERE, 'elsewhere')
        .replace(`add rule K external-${base} `, '')
        .replace(`goto service-${base} comment "short-circuit pod traffic"`, 'here'),
    );
}

test('what tells pods from others: networks, or links, whose names stand without quotes', (t) => {
  t.deepEqual(detecting({}), ['ip saddr != 10.0.0.0/8 elsewhere', 'ip saddr 10.0.0.0/8 here']);
  t.deepEqual(detecting({ detectLocalMode: 'NodeCIDR' }), [
    'ip saddr != 10.0.1.0/24 elsewhere',
    'ip saddr 10.0.1.0/24 here',
  ]);
  t.deepEqual(detecting({ detectLocalMode: 'BridgeInterface' }), [
    'iifname != cni0 elsewhere',
    'iifname cni0 here',
  ]);
  t.deepEqual(detecting({ detectLocalMode: 'InterfaceNamePrefix' }), [
    'iifname != veth* elsewhere',
    'iifname veth* here',
  ]);
  t.deepEqual(detecting({ detectLocalMode: 'none' }), []);
  const all = textOf(synced(clusterOf(sixServices(true)), { masqueradeAll: true }));
  t.true(
    all.includes(
      'add rule K services ip daddr @cluster-ips mark set mark or 0x4000 comment "masquerade all clusterIP traffic"',
    ),
  );
});

whereNftIs('after partial syncs the table is what the real nft makes of the same texts', (t) => {
  for (const kubeProxyVersion of LAYOUTS) {
    const specs = sixServices(true).map((spec) => ({
      ...spec,
      endpoints: (spec.endpoints ?? []).concat({ at: '10.180.9.9:8080', local: true }),
    }));
    const ours = synced(clusterOf(specs), { kubeProxyVersion });
    const text = [...ours.proxier.dump('nft')];
    for (const [row, conditions] of [
      [1, 0],
      [3, 0],
      [1, READY | SERVING],
      [8, 0],
    ] as const) {
      ours.endpoints.conditions[row] = conditions;
      text.push(...ours.proxier.partialDump([ours.cluster.endpoints.servicePort[row]!]));
    }
    t.is(listed(ours), real(text)[0], kubeProxyVersion);
  }
});

const DUAL = readFileSync(new URL('fixtures/kubernetes/dual-stack.yaml', import.meta.url), 'utf8');

whereNftIs(
  'the IPv6 half of a dual-stack cluster is a table ip6, which the real nft loads and lists as we do',
  (t) => {
    const cluster = readCluster([{ name: 'dual-stack.yaml', text: DUAL }], { family: 'ipv6' });
    for (const kubeProxyVersion of LAYOUTS) {
      const ours = synced(cluster, { kubeProxyVersion });
      const text = [...ours.proxier.dump('nft')];
      t.true(text[0]!.startsWith('add table ip6 kube-proxy'));
      t.is(listed(ours), real(text)[0], kubeProxyVersion);
    }
  },
);

test('a walk can be followed: each rule begun, the expression that failed, what was decided', (t) => {
  const ours = made(L2);
  const steps: string[] = [];
  ours.proxier.dataplane.recorder = { step: (where, what) => steps.push(`${where} | ${what}`) };
  send(ours, { from: POD, to: '172.30.0.41:80' });
  t.deepEqual(steps.slice(0, 7), [
    'filter-prerouting-pre-dnat | rule 1 of 1, 4 expressions: ct state new jump firewall-check → goes on',
    'firewall-check | rule 1 of 1, 4 expressions: ip daddr . meta l4proto . th dport vmap @firewall-ips → no: [ lookup reg 1 set firewall-ips dreg 0 ] fails',
    'filter-prerouting-pre-dnat | accept: 2 rules begun, 8 expressions',
    'nat-prerouting | rule 1 of 1, 1 expression: jump services → goes on',
    'services | rule 1 of 3, 4 expressions: ip daddr @cluster-ips ip saddr != 10.0.0.0/8 meta mark set meta mark | 0x00004000 comment "masquerade clusterIP traffic from outside cluster" → no: [ cmp neq reg 1 0x0000000a ] fails',
    'services | rule 2 of 3, 4 expressions: ip daddr . meta l4proto . th dport vmap @service-ips → goes on',
    'service-ULMVA6XW-ns1/svc1/tcp/p80 | rule 1 of 1, 5 expressions: meta l4proto tcp dnat ip to numgen random mod 1 map { 0 : 10.180.0.1 . 80 } → DNAT to 10.180.0.1:80',
  ]);
  // The walk itself is the same.
  const counts = ours.verdict.counts.slice();
  ours.proxier.dataplane.recorder = undefined;
  send(ours, { from: POD, to: '172.30.0.41:80' });
  t.deepEqual(counts, ours.verdict.counts);
});
