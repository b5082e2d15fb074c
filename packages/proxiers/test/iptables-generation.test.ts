import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import { UDP } from '@vipsim/sim-core';
import { READY, SERVING, TERMINATING, type Cluster } from '../src/kubernetes/cluster.ts';
import { readCluster } from '../src/kubernetes/read.ts';
import { SYNTHETIC_DEFAULTS, syntheticCluster } from '../src/kubernetes/synthetic.ts';
import type { IptablesOptions } from '../src/iptables/kube-proxy.ts';
import { iptables } from '../src/iptables/mode.ts';
import {
  STYLE,
  bench,
  clusterOf,
  commit,
  dumpOf,
  ownRules,
  synced,
  total,
  type Bench,
  type ServiceSpec,
} from './iptables-bench.ts';

/*
 * What kube-proxy writes, against expectations of its own tests (TestOverallIPTablesRules, TestSyncProxyRulesRepeated,
 * TestNodePorts and others in pkg/proxy/iptables/proxier_test.go) and published figures; and against real
 * iptables where that is installed.
 */

const ONE: ServiceSpec = { clusterIp: '172.30.0.41', endpoints: [{ at: '10.180.0.1:80' }] };
const STICKY: ServiceSpec = {
  namespace: 'ns5',
  name: 'svc5',
  type: 'LoadBalancer',
  clusterIp: '172.30.0.45',
  loadBalancerIps: ['5.6.7.8'],
  nodePort: 3002,
  sourceRanges: ['203.0.113.0/25'],
  affinityS: 10_800,
  endpoints: [{ at: '10.180.0.3:80' }],
};
const OVERALL: readonly ServiceSpec[] = [
  ONE,
  {
    type: 'LoadBalancer',
    clusterIp: '172.30.0.42',
    loadBalancerIps: ['1.2.3.4'],
    externalIps: ['192.168.99.22'],
    nodePort: 3001,
    externalPolicyLocal: true,
    healthCheckNodePort: 30_000,
    endpoints: [{ at: '10.180.0.2:80' }],
  },
  { type: 'NodePort', clusterIp: '172.30.0.43', nodePort: 3003, endpoints: [{ at: '10.180.0.3:80' }] },
  {
    clusterIp: '172.30.0.44',
    externalIps: ['192.168.99.33'],
    endpoints: [{ at: '10.180.0.4:80' }, { at: '10.180.0.5:80' }],
  },
  STICKY,
  { clusterIp: '172.30.0.46' },
];

function rulesOf(lines: readonly string[], table: 'filter' | 'nat'): string[] {
  return ownRules(lines, table, ['-A']);
}

function chainsOf(lines: readonly string[], table: 'filter' | 'nat'): string[] {
  const from = lines.indexOf(`*${table}`);
  return lines.slice(from, lines.indexOf('COMMIT', from)).filter((line) => line.startsWith(':'));
}

test("the cluster of kube-proxy's overall test has 10 filter rules, 55 nat rules, 20 nat chains", (t) => {
  const lines = dumpOf(synced(clusterOf(OVERALL), { nfacct: true }));
  t.is(rulesOf(lines, 'filter').length, 10);
  t.is(rulesOf(lines, 'nat').length, 55);
  t.is(chainsOf(lines, 'nat').length, 20);
});

test('a node port with counters has a rule for localhost before its own, and INVALID packets are counted', (t) => {
  const lines = dumpOf(synced(clusterOf(OVERALL), { nfacct: true }));
  t.deepEqual(
    ownRules(lines, 'nat', ['-A KUBE-NODEPORTS -m comment --comment ns3/svc3', '-A KUBE-EXT-X27']),
    [
      '-A KUBE-NODEPORTS -m comment --comment ns3/svc3:p80 -m tcp -p tcp -d 127.0.0.0/8 --dport 3003 -m nfacct --nfacct-name localhost_nps_accepted_pkts -j KUBE-EXT-X27LE4BHSL4DOUIK',
      '-A KUBE-NODEPORTS -m comment --comment ns3/svc3:p80 -m tcp -p tcp --dport 3003 -j KUBE-EXT-X27LE4BHSL4DOUIK',
      '-A KUBE-EXT-X27LE4BHSL4DOUIK -m comment --comment "masquerade traffic for ns3/svc3:p80 external destinations" -j KUBE-MARK-MASQ',
      '-A KUBE-EXT-X27LE4BHSL4DOUIK -j KUBE-SVC-X27LE4BHSL4DOUIK',
    ],
  );
  t.true(
    lines.includes(
      '-A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP',
    ),
  );
  // Counters need localhost node ports to count.
  const without = dumpOf(synced(clusterOf(OVERALL), { nfacct: true, localhostNodePorts: false }));
  t.is(without.filter((line) => line.includes('localhost_nps')).length, 0);
  t.is(without.filter((line) => line.includes('ct_state_invalid')).length, 1);
});

test('ClientIP affinity: an endpoint is asked for the client before any is drawn, and remembers it', (t) => {
  const lines = dumpOf(synced(clusterOf([STICKY])));
  t.deepEqual(ownRules(lines, 'filter', ['svc5']), [
    '-A KUBE-PROXY-FIREWALL -m comment --comment "ns5/svc5:p80 traffic not accepted by KUBE-FW-NUKIZ6OKUXPJNT4C" -m tcp -p tcp -d 5.6.7.8 --dport 80 -j DROP',
  ]);
  t.deepEqual(
    ownRules(lines, 'nat', ['loadbalancer IP', 'other traffic', ' -> ', '-A KUBE-SEP']),
    `-A KUBE-SERVICES -m comment --comment "ns5/svc5:p80 loadbalancer IP" -m tcp -p tcp -d 5.6.7.8 --dport 80 -j KUBE-FW-NUKIZ6OKUXPJNT4C
-A KUBE-FW-NUKIZ6OKUXPJNT4C -m comment --comment "ns5/svc5:p80 loadbalancer IP" -s 203.0.113.0/25 -j KUBE-EXT-NUKIZ6OKUXPJNT4C
-A KUBE-FW-NUKIZ6OKUXPJNT4C -m comment --comment "other traffic to ns5/svc5:p80 will be dropped by KUBE-PROXY-FIREWALL"
-A KUBE-SVC-NUKIZ6OKUXPJNT4C -m comment --comment "ns5/svc5:p80 -> 10.180.0.3:80" -m recent --name KUBE-SEP-I77PXRDZVX7PMWMN --rcheck --seconds 10800 --reap -j KUBE-SEP-I77PXRDZVX7PMWMN
-A KUBE-SVC-NUKIZ6OKUXPJNT4C -m comment --comment "ns5/svc5:p80 -> 10.180.0.3:80" -j KUBE-SEP-I77PXRDZVX7PMWMN
-A KUBE-SEP-I77PXRDZVX7PMWMN -m comment --comment ns5/svc5:p80 -s 10.180.0.3 -j KUBE-MARK-MASQ
-A KUBE-SEP-I77PXRDZVX7PMWMN -m comment --comment ns5/svc5:p80 -m recent --name KUBE-SEP-I77PXRDZVX7PMWMN --set -m tcp -p tcp -j DNAT --to-destination 10.180.0.3:80`.split(
      '\n',
    ),
  );
  const two = { ...STICKY, endpoints: [{ at: '10.180.0.3:80' }, { at: '10.180.0.4:80' }] };
  t.deepEqual(
    ownRules(dumpOf(synced(clusterOf([two]))), 'nat', [' -> ']),
    `-A KUBE-SVC-NUKIZ6OKUXPJNT4C -m comment --comment "ns5/svc5:p80 -> 10.180.0.3:80" -m recent --name KUBE-SEP-I77PXRDZVX7PMWMN --rcheck --seconds 10800 --reap -j KUBE-SEP-I77PXRDZVX7PMWMN
-A KUBE-SVC-NUKIZ6OKUXPJNT4C -m comment --comment "ns5/svc5:p80 -> 10.180.0.4:80" -m recent --name KUBE-SEP-4XN4Y7BLDMS4FVTY --rcheck --seconds 10800 --reap -j KUBE-SEP-4XN4Y7BLDMS4FVTY
-A KUBE-SVC-NUKIZ6OKUXPJNT4C -m comment --comment "ns5/svc5:p80 -> 10.180.0.3:80" -m statistic --mode random --probability 0.5000000000 -j KUBE-SEP-I77PXRDZVX7PMWMN
-A KUBE-SVC-NUKIZ6OKUXPJNT4C -m comment --comment "ns5/svc5:p80 -> 10.180.0.4:80" -j KUBE-SEP-4XN4Y7BLDMS4FVTY`.split(
      '\n',
    ),
  );
});

test('in a large cluster affinity rules lose their comments like other rules of endpoints', (t) => {
  const lines = dumpOf(synced(clusterOf([STICKY]), { largeClusterEndpoints: 0 }));
  t.deepEqual(ownRules(lines, 'nat', ['-m recent']), [
    '-A KUBE-SVC-NUKIZ6OKUXPJNT4C -m recent --name KUBE-SEP-I77PXRDZVX7PMWMN --rcheck --seconds 10800 --reap -j KUBE-SEP-I77PXRDZVX7PMWMN',
    '-A KUBE-SEP-I77PXRDZVX7PMWMN -m recent --name KUBE-SEP-I77PXRDZVX7PMWMN --set -m tcp -p tcp -j DNAT --to-destination 10.180.0.3:80',
  ]);
});

test('affinity adds 968 bytes and one entry an endpoint to a legacy table', (t) => {
  const endpoints = ['10.180.0.3:80', '10.180.0.4:80', '10.180.0.5:80'].map((at) => ({ at }));
  const tableOf = (affinityS: number): { entries: number; bytes: number } => {
    const cluster = clusterOf([{ clusterIp: '172.30.0.45', affinityS, endpoints }]);
    return synced(cluster, { backend: 'legacy' }).proxier.dataplane.tables()[0]!;
  };
  t.is(tableOf(10_800).bytes - tableOf(0).bytes, 968 * 3);
  t.is(tableOf(10_800).entries - tableOf(0).entries, 3);
});

test('legacy tables with affinity, interfaces and SNAT measure what IPT_SO_GET_INFO said of them', (t) => {
  const endpoints = [{ at: '10.180.3.1:53' }, { at: '10.180.3.10:53', local: true }];
  const cluster = clusterOf([
    { clusterIp: '172.30.0.47', protocol: UDP, portName: 'dns', affinityS: 60, endpoints },
    { clusterIp: '172.30.0.48', nodePort: 3004, externalPolicyLocal: true, affinityS: 60, endpoints },
  ]);
  const made = synced(cluster, {
    backend: 'legacy',
    detectLocalMode: 'BridgeInterface',
    nodePortAddresses: '192.168.0.0/16',
    snatNodeInternalIP: true,
  });
  const sizes = made.proxier.dataplane.tables().map(({ name, entries, bytes }) => [name, entries, bytes]);
  t.deepEqual(
    sizes.filter(([name]) => name === 'nat' || name === 'filter'),
    [
      ['nat', 66, 22_520],
      ['filter', 32, 10_072],
    ],
  );
});

test('localhostNodePorts off: no KUBE-FIREWALL, and the last rule leaves 127.0.0.0/8 out', (t) => {
  const cluster = clusterOf([ONE]);
  const lines = dumpOf(synced(cluster, { localhostNodePorts: false }));
  t.false(lines.some((line) => line.includes('KUBE-FIREWALL')));
  t.is(
    lines.at(-2),
    '-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL ! -d 127.0.0.0/8 -j KUBE-NODEPORTS',
  );
  // Addresses outside of 127.0.0.0/8 turn it off, too.
  const elsewhere = dumpOf(synced(cluster, { nodePortAddresses: '192.168.0.0/24' }));
  t.false(elsewhere.some((line) => line.includes('KUBE-FIREWALL')));
});

/** What the last rules of KUBE-SERVICES ask for. */
function lastRules(nodePortAddresses: string, options: Partial<IptablesOptions> = {}): string[] {
  const lines = dumpOf(synced(clusterOf([ONE]), { nodePortAddresses, ...options }));
  const note = 'this must be the last rule in this chain" ';
  return lines
    .filter((line) => line.includes(note))
    .map((line) => line.slice(line.indexOf(note) + note.length));
}

test('nodePortAddresses: one last rule for each address of the node inside them', (t) => {
  const all = '-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS';
  const node = '-d 192.168.0.2 -j KUBE-NODEPORTS';
  const loopback = '-d 127.0.0.1 -j KUBE-NODEPORTS';
  t.deepEqual(lastRules('0.0.0.0/0,192.168.0.0/24'), [all]);
  t.deepEqual(lastRules('2001:db8::/32'), [all], 'no CIDR of this family means all of them');
  t.deepEqual(lastRules('192.168.0.0/24'), [node]);
  t.deepEqual(lastRules('primary'), [node]);
  t.deepEqual(lastRules(' 127.0.0.0/8 , 192.168.0.0/24'), [node, loopback]);
  t.deepEqual(lastRules('127.0.0.0/8,192.168.0.0/24', { localhostNodePorts: false }), [node]);
  t.deepEqual(lastRules('172.16.0.0/12'), [], 'then nothing leads to node ports');
  t.is(iptables.options.nodePortAddresses.wanted('10.0.0.0/8,::/0'), '');
  t.not(iptables.options.nodePortAddresses.wanted('10.0.0.0/33'), '');
  t.not(iptables.options.bridgeInterface.wanted('a -j ACCEPT'), '');
});

test('detectLocalMode decides by what rules tell pods from others', (t) => {
  const local: ServiceSpec = {
    clusterIp: '172.30.0.41',
    nodePort: 3001,
    externalPolicyLocal: true,
    endpoints: [{ at: '10.180.0.1:80', local: true }],
  };
  const tests = (options: Partial<IptablesOptions>): string[] => {
    const lines = dumpOf(synced(clusterOf([local]), options));
    const masquerade = lines.filter((line) => line.startsWith('-A KUBE-SVC') && line.includes('cluster IP'));
    const pods = lines.filter((line) => line.includes('pod traffic for'));
    return [...masquerade, ...pods].map((line) =>
      line.replace(/.*(--dport 80|destinations") ?(.*) -j .*/, '$2'),
    );
  };
  t.deepEqual(tests({}), ['! -s 10.0.0.0/8', '-s 10.0.0.0/8']);
  t.deepEqual(tests({ detectLocalMode: 'NodeCIDR' }), ['! -s 10.0.1.0/24', '-s 10.0.1.0/24']);
  t.deepEqual(tests({ detectLocalMode: 'BridgeInterface' }), ['! -i cni0', '-i cni0']);
  const prefix = { detectLocalMode: 'InterfaceNamePrefix', interfaceNamePrefix: 'cali' } as const;
  t.deepEqual(tests(prefix), ['! -i cali+', '-i cali+']);
  t.deepEqual(tests({ detectLocalMode: 'none' }), []);
  t.deepEqual(tests({ detectLocalMode: 'none', masqueradeAll: true }), ['']);
  t.deepEqual(tests({ ...prefix, masqueradeAll: true }), ['', '-i cali+']);
});

function productionText(options: Partial<IptablesOptions>): string[] {
  return [...synced(clusterOf([ONE]), options).proxier.dump('iptables-restore')];
}

test('mark, masquerading and liberal TCP follow the configuration', (t) => {
  const bit0 = productionText({ masqueradeBit: 0 });
  t.true(bit0.includes('-A KUBE-POSTROUTING -m mark ! --mark 0x00000001/0x00000001 -j RETURN'));
  t.true(bit0.includes('-A KUBE-POSTROUTING -j MARK --xor-mark 0x00000001'));
  t.true(bit0.includes('-A KUBE-MARK-MASQ -j MARK --or-mark 0x00000001'));
  t.true(productionText({ masqueradeBit: 31 }).includes('-A KUBE-MARK-MASQ -j MARK --or-mark 0x80000000'));
  t.true(productionText({}).includes(`-A KUBE-MARK-MASQ -j MARK --or-mark 0x00004000`));
  const snat = '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT"';
  t.true(productionText({}).includes(`${snat} -j MASQUERADE --random-fully`));
  t.true(productionText({ randomFully: false }).includes(`${snat} -j MASQUERADE`));
  t.true(
    productionText({ snatNodeInternalIP: true }).includes(
      `${snat} -j SNAT --to-source 192.168.0.2 --random-fully`,
    ),
  );
  t.true(productionText({}).includes('-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP'));
  t.false(productionText({ tcpBeLiberal: true }).some((line) => line.includes('INVALID')));
});

test('a partial sync writes what all Services share, and the changed Service with its stale chains', (t) => {
  const cluster = clusterOf([
    { clusterIp: '172.30.0.41', endpoints: [{ at: '10.0.1.1:80' }] },
    {
      namespace: 'ns3',
      name: 'svc3',
      clusterIp: '172.30.0.43',
      endpoints: [{ at: '10.0.3.1:80' }, { at: '10.0.3.2:80' }],
    },
    { namespace: 'ns4', name: 'svc4', clusterIp: '172.30.0.44', endpoints: [{ at: '10.0.4.1:80' }] },
  ]);
  const made = bench(cluster);
  made.endpoints.remove(2);
  commit(made.proxier.sync([], true));
  made.endpoints.remove(1);
  made.endpoints.add(2, READY | SERVING);
  const lines = [...made.proxier.partialDump([1], STYLE)];
  t.deepEqual(
    lines.slice(lines.indexOf('*nat')),
    `*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC-X27LE4BHSL4DOUIK - [0:0]
:KUBE-SEP-DKCFIS26GWF2WLWC - [0:0]
:KUBE-SEP-BSWRHOQ77KEXZLNL - [0:0]
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-SERVICES -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp -p tcp -d 172.30.0.41 --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O
-A KUBE-SERVICES -m comment --comment "ns3/svc3:p80 cluster IP" -m tcp -p tcp -d 172.30.0.43 --dport 80 -j KUBE-SVC-X27LE4BHSL4DOUIK
-A KUBE-SVC-X27LE4BHSL4DOUIK -m comment --comment "ns3/svc3:p80 cluster IP" -m tcp -p tcp -d 172.30.0.43 --dport 80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
-A KUBE-SVC-X27LE4BHSL4DOUIK -m comment --comment "ns3/svc3:p80 -> 10.0.3.2:80" -j KUBE-SEP-DKCFIS26GWF2WLWC
-A KUBE-SEP-DKCFIS26GWF2WLWC -m comment --comment ns3/svc3:p80 -s 10.0.3.2 -j KUBE-MARK-MASQ
-A KUBE-SEP-DKCFIS26GWF2WLWC -m comment --comment ns3/svc3:p80 -m tcp -p tcp -j DNAT --to-destination 10.0.3.2:80
-A KUBE-SERVICES -m comment --comment "ns4/svc4:p80 cluster IP" -m tcp -p tcp -d 172.30.0.44 --dport 80 -j KUBE-SVC-4SW47YFZTEDKD3PK
-X KUBE-SEP-BSWRHOQ77KEXZLNL
-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT`.split('\n'),
  );
  t.is(rulesOf(lines, 'filter').length, 4);
});

test('a Service that loses its last endpoint is refused in filter, and all its chains are declared and deleted', (t) => {
  const made = synced(clusterOf(OVERALL));
  made.endpoints.remove(1);
  const lines = [...made.proxier.partialDump([1], STYLE)];
  t.deepEqual(
    lines.filter((line) => line.startsWith('-X')),
    ['-X KUBE-EXT-GNZBNJ2PO5MGZ6GT', '-X KUBE-SVC-GNZBNJ2PO5MGZ6GT', '-X KUBE-SEP-RS4RBKLTHTF2IUXJ'],
  );
  t.is(ownRules(lines, 'filter', ['ns2/svc2:p80 has no endpoints']).length, 4);
  t.is(ownRules(lines, 'nat', ['GNZBNJ2PO5MGZ6GT']).length, 0);
  t.deepEqual(
    [...made.proxier.partialDump([], STYLE)].filter((line) => line.includes('KUBE-SEP')),
    [],
  );
});

const change = fc.tuple(fc.nat(), fc.constantFrom(READY | SERVING, SERVING | TERMINATING, 0, -1));

test('a partial sync has as many lines as it is counted to have, and every chain it names exists or is declared', (t) => {
  fc.assert(
    fc.property(
      fc.array(change, { minLength: 1, maxLength: 6 }),
      fc.constantFrom(3, 1000),
      (changes, large) => {
        const cluster = everything();
        const options = { largeClusterEndpoints: large, nfacct: true };
        const printed = synced(cluster, options);
        const counted = synced(cluster, options);
        for (const [which, conditions] of changes) {
          const row = which % cluster.endpoints.count;
          for (const { endpoints } of [printed, counted]) {
            if (conditions < 0) endpoints.remove(row);
            else endpoints.add(row, conditions);
          }
          const port = cluster.endpoints.servicePort[row]!;
          const before = new Set(liveChains(printed));
          const lines = [...printed.proxier.partialDump([port])];
          t.is(lines.length, total(commit(counted.proxier.sync([port], false)), 'iptables.sync.line-nft'));
          const declared = new Set(lines.map((line) => /^:(\S+)/.exec(line)?.[1]));
          const deleted = new Set(lines.map((line) => /^-X (\S+)/.exec(line)?.[1]));
          for (const line of lines) {
            const target = /-j (KUBE-\S+)/.exec(line)?.[1];
            if (target !== undefined)
              t.true((declared.has(target) || before.has(target)) && !deleted.has(target), line);
          }
          t.deepEqual(dumpOf(printed), dumpOf(counted));
        }
      },
    ),
    { seed: 42, numRuns: 60 },
  );
});

function liveChains(made: Bench): string[] {
  return [...made.proxier.dump('iptables-save')].flatMap((line) => /^:(\S+)/.exec(line)?.[1] ?? []);
}

test('numbers of rules are the published ones for S services with E endpoints', (t) => {
  for (const [services, endpoints, filter, nat] of [
    [0, 0, 3, 5],
    [1, 0, 4, 5],
    [1, 1, 3, 10],
    [1, 2, 3, 13],
    [1, 10, 3, 37],
    [10, 0, 13, 5],
    [10, 1, 3, 55],
    [10, 2, 3, 85],
    [10, 10, 3, 325],
  ] as const) {
    const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services, endpoints });
    const lines = dumpOf(synced(cluster, { localhostNodePorts: false }));
    t.is(rulesOf(lines, 'filter').length, filter, `${services} x ${endpoints}`);
    t.is(rulesOf(lines, 'nat').length, nat, `${services} x ${endpoints}`);
  }
});

test('restore input has as many lines and bytes as measured for full, large-cluster and partial syncs', (t) => {
  // The published text has a target port of two digits, ours four: 4 bytes an endpoint.
  for (const [services, endpoints, lines, commented, large, partialLines, partialBytes] of [
    [1000, 10, 43_023, 4.74e6, 3.21e6, 1065, 148e3],
    [10_000, 1, 70_023, 7.37e6, 5.81e6, 10_029, 1.45e6],
    [10_000, 10, 430_023, 47.9e6, 32.3e6, 10_065, 1.46e6],
    [5000, 20, 415_023, 46.4e6, 30.8e6, 5105, 731e3],
  ] as const) {
    const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services, endpoints });
    for (const [largeClusterEndpoints, bytes] of [
      [1_000_000, commented],
      [1000, large],
    ] as const) {
      const full = sizeOf(synced(cluster, { largeClusterEndpoints }).proxier.dump('iptables-restore'));
      t.is(full.lines, lines);
      t.log(`${services} x ${endpoints}: ${full.bytes} bytes, published ${bytes}`);
      t.true(Math.abs(full.bytes / bytes - 1) < 0.015, `${services} x ${endpoints}: ${full.bytes}, ${bytes}`);
    }
    const made = synced(cluster, { largeClusterEndpoints: 1_000_000 });
    const partial = sizeOf(made.proxier.partialDump([services >> 1]));
    t.is(partial.lines, partialLines);
    t.log(`partial: ${partial.bytes} bytes, published ${partialBytes}`);
    t.true(Math.abs(partial.bytes / partialBytes - 1) < 0.015);
  }
});

function sizeOf(text: Iterable<string>): { lines: number; bytes: number } {
  let lines = 0;
  let bytes = 0;
  for (const line of text) {
    lines++;
    bytes += line.length + 1;
  }
  return { lines, bytes };
}

/** Endpoints that KUBE-SVC and KUBE-SVL dispatch to, and those with a chain. */
function chosen(spec: Partial<ServiceSpec>): { cluster: string[]; local: string[]; chains: number } {
  const lines = dumpOf(synced(clusterOf([{ ...ONE, ...spec }])));
  const to = (kind: string): string[] =>
    lines
      .filter((line) => line.startsWith(`-A KUBE-${kind}`))
      .flatMap((line) => /-> ([^"]+)/.exec(line)?.[1] ?? []);
  return {
    cluster: to('SVC'),
    local: to('SVL'),
    chains: lines.filter((line) => line.startsWith(':KUBE-SEP')).length,
  };
}

function forZone(zone: string): { zones: string[]; nodes: string[] } {
  return { zones: [zone], nodes: [] };
}

test('topology hints: every ready endpoint must have one, and one must fit, else they are ignored', (t) => {
  const near = { at: '10.180.0.1:80', local: true };
  const far = { at: '10.180.0.2:80' };
  const hinted = [
    { ...near, hint: forZone('zone-b') },
    { ...far, hint: forZone('zone-a') },
  ];
  t.deepEqual(chosen({ endpoints: hinted }), { cluster: ['10.180.0.2:80'], local: [], chains: 1 });
  // One without a hint, or none for this zone: all are used.
  t.is(chosen({ endpoints: [hinted[0]!, { ...far, hint: { zones: [], nodes: [] } }] }).cluster.length, 2);
  t.is(chosen({ endpoints: [hinted[0]!, { ...far, hint: forZone('zone-c') }] }).cluster.length, 2);
  // An endpoint that is not ready has no say, and a draining one is taken from anywhere.
  const draining = { at: '10.180.0.3:80', conditions: SERVING | TERMINATING };
  t.deepEqual(chosen({ endpoints: [...hinted, draining] }).cluster, ['10.180.0.2:80']);
  const allDraining = hinted.map((endpoint) => ({ ...endpoint, conditions: SERVING | TERMINATING }));
  t.is(chosen({ endpoints: allDraining }).cluster.length, 2);
  // Hints for nodes come before hints for zones.
  const both = [
    { ...near, hint: { zones: ['zone-a'], nodes: ['test-node'] } },
    { ...far, hint: { zones: ['zone-a'], nodes: ['other'] } },
  ];
  t.deepEqual(chosen({ endpoints: both }).cluster, ['10.180.0.1:80']);
});

test('a local endpoint that hints keep from the cluster list gets its chain after those of that list', (t) => {
  const endpoints = [
    { at: '10.180.0.1:80', local: true, hint: { zones: ['zone-b'], nodes: [] } },
    { at: '10.180.0.2:80', hint: { zones: ['zone-a'], nodes: [] } },
  ];
  const spec = { nodePort: 3001, externalPolicyLocal: true, endpoints };
  t.deepEqual(chosen(spec), { cluster: ['10.180.0.2:80'], local: ['10.180.0.1:80'], chains: 2 });
  const lines = dumpOf(synced(clusterOf([{ ...ONE, ...spec }])));
  t.deepEqual(
    lines.filter((line) => line.includes('-j DNAT')).map((line) => line.replace(/.*destination /, '')),
    ['10.180.0.2:80', '10.180.0.1:80'],
  );
});

test('trafficDistribution hints each endpoint for its own zone, or also its own node', (t) => {
  const endpoints = [{ at: '10.180.0.1:80', local: true }, { at: '10.180.0.2:80' }];
  t.deepEqual(chosen({ endpoints, distribution: 'zone' }).cluster, ['10.180.0.1:80']);
  t.deepEqual(chosen({ endpoints, distribution: 'node' }).cluster, ['10.180.0.1:80']);
  t.deepEqual(chosen({ endpoints: [endpoints[1]!], distribution: 'zone' }).cluster, ['10.180.0.2:80']);
  t.is(chosen({ endpoints }).cluster.length, 2);
});

/** Every kind of rule in one cluster. */
function everything(): Cluster {
  const two = [{ at: '10.180.3.1:53' }, { at: '10.180.3.10:53', local: true }];
  const draining = { at: '10.180.4.1:80', local: true, conditions: SERVING | TERMINATING };
  return clusterOf([
    ...OVERALL,
    { clusterIp: '172.30.0.47', protocol: UDP, portName: 'dns', affinityS: 60, endpoints: two },
    { clusterIp: '172.30.0.48', internalPolicyLocal: true, nodePort: 3004, endpoints: two },
    { clusterIp: '172.30.0.49', internalPolicyLocal: true, endpoints: [{ at: '10.180.5.1:80' }] },
    {
      type: 'LoadBalancer',
      clusterIp: '172.30.0.50',
      portName: '',
      loadBalancerIps: ['1.2.3.5', '1.2.3.6'],
      sourceRanges: ['192.168.0.0/24', '0.0.0.0/0'],
      externalPolicyLocal: true,
      healthCheckNodePort: 30_001,
      nodePort: 3005,
      affinityS: 10_800,
      endpoints: [draining, { at: '10.180.4.2:80' }],
    },
  ]);
}

function restores(command: string): boolean {
  return spawnSync('unshare', ['-n', command, '--test'], { input: '*nat\nCOMMIT\n' }).status === 0;
}

const BACKENDS = ['legacy', 'nft'] as const;
const OPTION_SETS: readonly Partial<IptablesOptions>[] = [
  {},
  { masqueradeAll: true, masqueradeBit: 0, randomFully: false, localhostNodePorts: false },
  { detectLocalMode: 'BridgeInterface', nodePortAddresses: '192.168.0.0/16,127.0.0.0/8' },
  { detectLocalMode: 'InterfaceNamePrefix', snatNodeInternalIP: true, tcpBeLiberal: true },
  { detectLocalMode: 'none', largeClusterEndpoints: 0, masqueradeBit: 31 },
];

/** In a network namespace of its own. Counters of nfacct need a kernel module, so they are left out. */
function inside(backend: string, script: string, input: string): string {
  const shell = script.replaceAll('iptables-', `iptables-${backend}-`);
  return execFileSync('unshare', ['-n', 'sh', '-ec', shell], { input, encoding: 'utf8', maxBuffer: 1 << 28 });
}

function saved(text: string): string[] {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return lines.map((line) => line.replace(/ \[\d+:\d+\]$/, ' [0:0]'));
}

for (const backend of BACKENDS) {
  // Needs the program, and root.
  const onReal = restores(`iptables-${backend}-restore`) ? test : test.skip;

  onReal(`iptables-${backend} loads every kind of rule and prints it as we do`, (t) => {
    for (const options of OPTION_SETS) {
      const { proxier } = synced(everything(), options);
      const ours = [...proxier.dump('iptables-save')];
      const again = inside(backend, 'iptables-restore; iptables-save', `${ours.join('\n')}\n`);
      t.deepEqual(tablesOf(saved(again)), tablesOf(ours));
      const document = [...proxier.dump('iptables-restore')].join('\n');
      const loaded = saved(inside(backend, 'iptables-restore; iptables-save', `${document}\n`));
      t.deepEqual(kubeRules(loaded), kubeRules(ours));
    }
  });

  onReal(`iptables-${backend} takes a partial sync after a full one`, (t) => {
    const made = synced(everything());
    const full = [...made.proxier.dump('iptables-restore')];
    made.endpoints.remove(0);
    made.endpoints.remove(3);
    const partial = [...made.proxier.partialDump([0, 3])];
    const script = `cat >"$0".all; sed '/^=$/,$d' "$0".all | iptables-restore --noflush
      sed '1,/^=$/d' "$0".all | iptables-restore --noflush --counters; rm "$0".all; iptables-save`;
    const folder = execFileSync('mktemp', ['-d'], { encoding: 'utf8' }).trim();
    const input = [...full, '=', ...partial, ''].join('\n');
    const loaded = saved(inside(backend, script.replaceAll('$0', `${folder}/${backend}`), input));
    t.deepEqual(kubeRules(loaded), kubeRules([...made.proxier.dump('iptables-save')]));
    execFileSync('rmdir', [folder]);
  });

  onReal(`iptables-${backend} accepts the rules of manifests, dumps and a synthetic cluster`, (t) => {
    for (const cluster of [
      fixture('shop.yaml'),
      fixture('dump.json'),
      syntheticCluster(SYNTHETIC_DEFAULTS),
    ]) {
      const { proxier } = synced(cluster);
      for (const format of iptables.formats) {
        const text = [...proxier.dump(format)].join('\n');
        t.is(inside(backend, 'iptables-restore --test', `${text}\n`), '');
      }
    }
  });
}

function fixture(name: string): Cluster {
  const url = new URL(`fixtures/kubernetes/${name}`, import.meta.url);
  return readCluster([{ name, text: readFileSync(url, 'utf8') }]);
}

/** Tables by name: nft saves them in another order. */
function tablesOf(lines: readonly string[]): string[][] {
  const tables: string[][] = [];
  for (const line of lines) {
    if (line.startsWith('*')) tables.push([]);
    tables.at(-1)!.push(line);
  }
  return tables.sort((a, b) => (a[0]! < b[0]! ? -1 : 1));
}

/** What kube-proxy's chains hold, table by table. */
function kubeRules(lines: readonly string[]): string[][] {
  return tablesOf(lines).map((table) =>
    table.filter((line) => line.startsWith('*') || line.startsWith('-A KUBE-')),
  );
}
