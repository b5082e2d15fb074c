import { createHash } from 'node:crypto';
import { FROM_POD, Packet, parseIpv4, Simulation, Streams, SYN, TCP, UDP } from '@vipsim/sim-core';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { PriceList } from '../src/cost/profile.ts';
import { PROFILES } from '../src/cost/profiles.ts';
import { Agent, type AgentOptions } from '../src/ebpf/agent/agent.ts';
import { BackendRegistry } from '../src/ebpf/agent/backend-registry.ts';
import { wantedRatio } from '../src/ebpf/agent/map-ratio.ts';
import { ebpf } from '../src/ebpf/mode.ts';
import { wantedAddresses } from '../src/ebpf/agent/node-addresses.ts';
import { RetryQueue } from '../src/ebpf/agent/retry-queue.ts';
import { ServiceMaps } from '../src/ebpf/service-maps.ts';
import { twoColumns } from '../src/ebpf/listings/text-table.ts';
import { READY, SERVING, TERMINATING, type Cluster, type Service } from '../src/kubernetes/cluster.ts';
import { EndpointsMap } from '../src/kubernetes/endpoints-map.ts';
import { syntheticCluster } from '../src/kubernetes/synthetic.ts';
import {
  defaultsOf,
  FORWARD,
  Verdict,
  type SyncPlan,
  type SyncStage,
  type SyncTrigger,
} from '../src/proxier.ts';
import { startSyncRunner } from '../src/sync/runner.ts';

const SECOND = 1_000_000_000;
const MS = 1_000_000;
const DRAINING = SERVING | TERMINATING;
const address = (text: string): number => parseIpv4(text)!;

// Clusters and nodes.

/** Equal Services of which the fields of the first may differ; endpoint k of all at 10.(k>>16).(k>>8).k:8080. */
function clusterOf(services: number, endpoints: number, first: Partial<Service> = {}, nodePort = 0): Cluster {
  const cluster = syntheticCluster({ services, endpoints, podsPerNode: 110, nodes: 3, udpEvery: 0 });
  if (nodePort !== 0) cluster.ports.nodePort[0] = nodePort;
  for (let row = 0; row < cluster.endpoints.count; row++) {
    const ip = 0x0a000000 + row;
    cluster.endpoints.address[row] = ip;
    cluster.pods.address[cluster.endpoints.pod[row]!] = ip;
    cluster.endpoints.port[row] = 8080;
  }
  return { ...cluster, services: cluster.services.map((s, i) => (i === 0 ? { ...s, ...first } : s)) };
}

interface Rig {
  readonly cluster: Cluster;
  readonly endpoints: EndpointsMap;
  readonly agent: Agent;
  readonly initial: SyncPlan;
}

function rigOf(cluster: Cluster, options: Partial<AgentOptions> = {}, cores = 2): Rig {
  const endpoints = new EndpointsMap(cluster);
  const agent = new Agent(
    {
      cluster,
      endpoints,
      node: 0,
      cores,
      conntrack: { buckets: 1, max: 1, tcpEstablishedTimeoutS: 1, tcpCloseWaitTimeoutS: 1 },
      streams: new Streams('ebpf-agent-test'),
    },
    { ...defaultsOf(ebpf.options), ...options },
  );
  return { cluster, endpoints, agent, initial: commit(agent.sync([], true)) };
}

function commit(plan: SyncPlan): SyncPlan {
  for (const stage of plan.stages) stage.commit();
  return plan;
}

function counted(counts: Float64Array, name: string): number {
  return counts[ebpf.operations.indexOf(`ebpf.${name}`)]!;
}

function totalOf(plan: SyncPlan, name: string): number {
  return plan.stages.reduce((sum, { counts }) => sum + counted(counts, name), 0);
}

const CALLS = ['insert', 'update', 'delete', 'missing'] as const;

/** System calls by outcome, and their sum. */
function callsOf(plan: SyncPlan): Record<(typeof CALLS)[number] | 'all', number> {
  const [insert, update, remove, missing] = CALLS.map((name) => totalOf(plan, `syscall.${name}`)) as [
    number,
    number,
    number,
    number,
  ];
  return { insert, update, delete: remove, missing, all: insert + update + remove + missing };
}

/** Slots of a frontend as addresses, with `?` for a backend that is gone; the master's counts in front. */
function slotsOf({ agent }: Rig, vip: number, port: number, protocol = TCP, scope = 0): string {
  const { services } = agent.dataplane;
  const master = services.service(vip, port, 0, protocol, scope).find();
  const slots: string[] = [];
  for (let slot = 1; slot <= 65_535; slot++) {
    const entry = services.service(vip, port, slot, protocol, scope).find();
    if (entry < 0) break;
    const backend = services.backend(services.backendId(entry)).find();
    const state = backend < 0 ? '' : ['', 't', 'q', 'm'][services.backendState(backend)]!;
    slots.push(backend < 0 ? '?' : `${services.backendAddress(backend) & 0xffff}${state}`);
  }
  const counts = master < 0 ? 'none' : `${services.count(master)}[${services.queuedCount(master)}]`;
  return [counts, ...slots].join(' ');
}

function vipOf({ cluster }: Rig, port = 0): [number, number] {
  return [cluster.ports.clusterIp[port]!, cluster.ports.port[port]!];
}

const NODE_PORT = { type: 'NodePort' } as const;

// Map operations of one update.

test('a frontend of N backends takes 2N + 4 calls when one of them changes, and as many when one is gone', (t) => {
  for (const n of [1, 10, 100]) {
    const rig = rigOf(clusterOf(2, n));
    rig.endpoints.add(n, DRAINING);
    // The changed backend, N slots, N pairs that are not there; reverse NAT, master, wildcard.
    t.deepEqual(callsOf(commit(rig.agent.sync([1], false))), {
      insert: 0,
      update: 1 + n + 3,
      delete: 0,
      missing: n,
      all: 2 * n + 4,
    });
    rig.endpoints.remove(n);
    // The orphan and its pair, one slot and one pair less, a surplus slot.
    t.deepEqual(callsOf(commit(rig.agent.sync([1], false))), {
      insert: 0,
      update: n - 1 + 3,
      delete: 2,
      missing: 1 + n - 1,
      all: 2 * n + 4,
    });
  }
});

test('before 1.18 a slot is one call, and a backend in no list is deleted last', (t) => {
  const rig = rigOf(clusterOf(1, 100), { agentOrder: 'pre-1.18' });
  rig.endpoints.remove(7);
  const plan = rig.agent.sync([0], false);
  t.deepEqual(callsOf(plan), { insert: 0, update: 99 + 2, delete: 2, missing: 0, all: 103 });
  const last = plan.stages.at(-1)!;
  t.is(counted(last.counts, 'syscall.delete'), 1);
  for (const stage of plan.stages.slice(0, -1)) stage.commit();
  t.is(rig.agent.dataplane.services.backends.count, 100);
  last.commit();
  t.is(rig.agent.dataplane.services.backends.count, 99);
});

test('each listed backend takes one call for its affinity pair: written while active, deleted otherwise', (t) => {
  const rig = rigOf(clusterOf(1, 10, { affinityS: 10_800 }));
  const { affinityMatch } = rig.agent.dataplane.services;
  t.deepEqual(callsOf(rig.initial), { insert: 10 + 10 + 10 + 3, update: 0, delete: 0, missing: 0, all: 33 });
  t.is(affinityMatch.count, 10);
  rig.endpoints.add(4, DRAINING);
  t.deepEqual(callsOf(commit(rig.agent.sync([0], false))), {
    insert: 0,
    update: 1 + 10 + 9 + 3,
    delete: 1,
    missing: 0,
    all: 24,
  });
  t.is(affinityMatch.count, 9);
  rig.endpoints.remove(5);
  // Now the orphan's pair was there; the draining backend's is not.
  t.deepEqual(callsOf(commit(rig.agent.sync([0], false))), {
    insert: 0,
    update: 9 + 8 + 3,
    delete: 2 + 1,
    missing: 1,
    all: 24,
  });
  t.is(affinityMatch.count, 8);
  const { services } = rig.agent.dataplane;
  const master = services.service(...vipOf(rig), 0, TCP, 0).find();
  t.is(services.affinitySeconds(master), 10_800);
  t.is(services.algorithm(master), 0);

  // Every frontend has its own pairs, for active backends alone.
  const exposed = rigOf(clusterOf(1, 10, { ...NODE_PORT, affinityS: 60 }, 30_080));
  t.is(exposed.agent.dataplane.services.affinityMatch.count, 3 * 10);
  const legacy = rigOf(clusterOf(1, 10, { affinityS: 60 }), { agentOrder: 'pre-1.18' });
  legacy.endpoints.add(4, DRAINING);
  legacy.endpoints.remove(5);
  commit(legacy.agent.sync([0], false));
  t.is(legacy.agent.dataplane.services.affinityMatch.count, 8);
});

test('slots come in the order of state, address and port as numbers; without active ones the draining are chosen', (t) => {
  const rig = rigOf(clusterOf(1, 12));
  const [vip, port] = vipOf(rig);
  t.is(slotsOf(rig, vip, port), '12[0] 0 1 2 3 4 5 6 7 8 9 10 11', 'not 0 1 10 11 2');
  rig.endpoints.add(0, DRAINING);
  rig.endpoints.add(11, TERMINATING);
  for (const row of [1, 2, 3, 4]) rig.endpoints.remove(row);
  commit(rig.agent.sync([0], false));
  t.is(slotsOf(rig, vip, port), '6[1] 5 6 7 8 9 10 0t');
  for (const row of [5, 6, 7, 8, 9]) rig.endpoints.remove(row);
  rig.endpoints.add(10, DRAINING);
  commit(rig.agent.sync([0], false));
  t.is(slotsOf(rig, vip, port), '2[0] 0t 10t');
});

/** After each stage of a removal: slots in reach that name a backend which is gone, and how many are in reach. */
function windowOf(options: Partial<AgentOptions>): [number, number][] {
  const rig = rigOf(clusterOf(1, 1000), options);
  rig.endpoints.remove(500);
  return rig.agent.sync([0], false).stages.map((stage) => {
    stage.commit();
    const [counts, ...slots] = slotsOf(rig, ...vipOf(rig)).split(' ');
    const count = Number(counts!.split('[')[0]);
    return [slots.slice(0, count).filter((slot) => slot === '?').length, count];
  });
}

test('an abrupt removal leaves picks that fail, one in count, until master and slots are new; only since 1.18', (t) => {
  // Deleted, slots 1 to 256, to 512 (among them the 501st), to 768, to 999, master, surplus.
  t.deepEqual(windowOf({}), [
    [1, 1000],
    [1, 1000],
    [0, 1000],
    [0, 1000],
    [0, 1000],
    [0, 999],
    [0, 999],
  ]);
  t.true(windowOf({ agentOrder: 'pre-1.18' }).every(([lost]) => lost === 0));
});

test('while a service grows, no pick ever fails', (t) => {
  for (const agentOrder of ['1.18+', 'pre-1.18'] as const) {
    const rig = rigOf(clusterOf(1, 600), { agentOrder });
    for (let row = 100; row < 200; row++) rig.endpoints.remove(row);
    commit(rig.agent.sync([0], false));
    for (let row = 100; row < 200; row++) rig.endpoints.add(row, READY | SERVING);
    for (const stage of rig.agent.sync([0], false).stages) {
      stage.commit();
      const [counts, ...slots] = slotsOf(rig, ...vipOf(rig)).split(' ');
      t.false(slots.slice(0, Number(counts!.split('[')[0])).includes('?'));
    }
  }
});

test('a backend that two frontends share goes with the last of them', (t) => {
  const rig = rigOf(clusterOf(1, 300, NODE_PORT, 30_080));
  rig.endpoints.remove(0);
  const held = rig.agent.sync([0], false).stages.map((stage) => {
    stage.commit();
    return rig.agent.dataplane.services.backends.count;
  });
  const perFrontend = held.length / 3;
  t.deepEqual([held.indexOf(299) >= 2 * perFrontend - 1, held.at(-1)], [true, 299]);
});

test('source ranges are written for every frontend of their Service, and with its id', (t) => {
  const lb = address('192.0.2.7');
  const sourceRanges = [
    { address: address('198.51.100.0'), prefix: 24 },
    { address: address('198.51.100.9'), prefix: 24 },
    { address: address('203.0.113.0'), prefix: 25 },
  ];
  const rig = rigOf(clusterOf(1, 2, { type: 'LoadBalancer', loadBalancerIps: [lb], sourceRanges }));
  const { services } = rig.agent.dataplane;
  t.is(services.sourceRanges.count, 4, 'two frontends, and the second range is the first once more');
  const admits = (revNat: number, client: string): boolean =>
    services.sourceRange(revNat, address(client)).lookup() >= 0;
  t.deepEqual(
    [
      admits(2, '198.51.100.77'),
      admits(2, '203.0.113.127'),
      admits(2, '203.0.113.128'),
      admits(3, '198.51.100.77'),
    ],
    [true, true, false, false],
  );
  t.deepEqual(
    [...rig.agent.dump('cilium-lb-source-ranges')],
    [
      'SOURCE RANGE (REVNAT_ID)',
      '198.51.100.0/24 (1)',
      '198.51.100.0/24 (2)',
      '203.0.113.0/25 (1)',
      '203.0.113.0/25 (2)',
    ],
  );
});

test('a service port that is withdrawn leaves nothing, its master going before its slots', (t) => {
  for (const agentOrder of ['1.18+', 'pre-1.18'] as const) {
    const rig = rigOf(
      clusterOf(
        2,
        5,
        { ...NODE_PORT, affinityS: 60, sourceRanges: [{ address: 0x0b000000, prefix: 8 }] },
        30_080,
      ),
      { agentOrder, algorithm: 'maglev', maglevTableSize: '251' },
    );
    const { services } = rig.agent.dataplane;
    const plan = rig.agent.withdraw(0);
    // Of each frontend five pairs; five backends once; three masters, slots, reverse NAT entries; a wildcard.
    const wildcards = agentOrder === '1.18+' ? 1 : 0;
    const ranges = agentOrder === '1.18+' ? 3 : 0;
    t.is(callsOf(plan).delete, 3 * 5 + 5 + 3 * (1 + 5 + 1) + wildcards + ranges);
    t.is(totalOf(plan, 'maglev.swap'), 1, 'the node port at its address');
    t.deepEqual(
      plan.stages.map((stage) => stage.wait?.().ns ?? 0).filter((ns) => ns > 0),
      [12.5 * MS],
    );
    commit(plan);
    t.is(services.services.count, 1 + 5 + wildcards);
    t.is(services.backends.count, 5);
    t.is(services.reverseNat.count, 1);
    t.is(services.affinityMatch.count + services.sourceRanges.count + services.maglev.count, 0);
    t.is(slotsOf(rig, ...vipOf(rig, 1)).split(' ')[0], '5[0]');
    commit(rig.agent.sync([0], false));
    t.is(slotsOf(rig, ...vipOf(rig)).split(' ')[0], '5[0]', 'and may come back');
  }
});

// Frontends.

test('a node port is served at the surrogate and at each address of the node, in one object', (t) => {
  const rig = rigOf(clusterOf(2, 3, NODE_PORT, 30_080), { otherAddresses: '192.168.7.2, 192.168.8.2' });
  const [node] = rig.cluster.nodes;
  const ids = new Map(
    [...rig.agent.dump('cilium-lb-revnat')].slice(1).map((line) => line.split(/ +/) as [string, string]),
  );
  t.deepEqual(
    [...ids],
    [
      ['1', '10.96.0.1:80'],
      ['2', '0.0.0.0:30080'],
      ['3', `172.16.0.2:30080`],
      ['4', '192.168.7.2:30080'],
      ['5', '192.168.8.2:30080'],
      ['6', '10.96.0.2:80'],
    ],
  );
  t.is(node!.address, address('172.16.0.2'));

  // One Service of 20,000 backends on a node with two such addresses overflows maps of the default size.
  const wide = clusterOf(1, 20_000, NODE_PORT, 30_080);
  const two = rigOf(wide, { otherAddresses: '192.168.7.2' });
  t.regex(two.initial.failure!.message, /needs 80005 entries/, '4 x 20,001 and a wildcard');
  t.is(two.agent.dataplane.services.services.count, 65_536);
  t.is(slotsOf(two, ...vipOf(two)).split(' ')[0], '20000[0]');
  t.is(slotsOf(two, address('192.168.7.2'), 30_080).split(' ')[0], 'none', 'slots without a master');
});

test('where only one policy is Local, frontends that outsiders reach come in two scopes', (t) => {
  const cluster = clusterOf(1, 6, { ...NODE_PORT, externalPolicyLocal: true }, 30_080);
  const rig = rigOf(cluster);
  const local = [...Array(6).keys()].filter((row) => cluster.pods.node[cluster.endpoints.pod[row]!] === 0);
  const here = slotsOf(rig, cluster.nodes[0]!.address, 30_080);
  t.is(here, [`${local.length}[0]`, ...local].join(' '));
  t.is(slotsOf(rig, cluster.nodes[0]!.address, 30_080, TCP, 1), '6[0] 0 1 2 3 4 5');
  const lines = [...rig.agent.dump('cilium-lb-list')].filter((line) => line.includes('(0)  '));
  t.regex(
    lines.join('\n'),
    /172\.16\.0\.2:30080\/TCP \(0\) +0\.0\.0\.0:0 \(3\) \(0\) \[NodePort, Local, two-scopes\]/,
  );
  t.regex(
    lines.join('\n'),
    /172\.16\.0\.2:30080\/TCP\/i \(0\) +0\.0\.0\.0:0 \(5\) \(0\) \[NodePort, Local\]/,
  );
});

test('hints of EndpointSlices count only with service topology', (t) => {
  const cluster = clusterOf(1, 6, { distribution: 'node' });
  const onNode = [...Array(6).keys()].filter((row) => cluster.pods.node[cluster.endpoints.pod[row]!] === 0);
  const plain = rigOf(cluster);
  t.is(slotsOf(plain, ...vipOf(plain)), '6[0] 0 1 2 3 4 5');
  const aware = rigOf(cluster, { serviceTopology: true });
  t.is(slotsOf(aware, ...vipOf(aware)), [`${onNode.length}[0]`, ...onNode].join(' '));
});

test('where protocols are not told apart, the last port of an address takes it', (t) => {
  const cluster = clusterOf(2, 3);
  cluster.ports.clusterIp[1] = cluster.ports.clusterIp[0]!;
  cluster.ports.protocol[1] = UDP;
  const apart = rigOf(cluster);
  t.is(slotsOf(apart, ...vipOf(apart), TCP), '3[0] 0 1 2');
  t.is(slotsOf(apart, ...vipOf(apart), UDP), '3[0] 3 4 5');
  const old = rigOf(cluster, { protocolInKey: false });
  t.is(slotsOf(old, ...vipOf(old), TCP), '3[0] 3 4 5');
  t.regex(old.agent.remarks().join(), /Frontends that share address and port .*: 1\./);
  t.regex(
    [...old.agent.dump('cilium-lb-list')].join('\n'),
    /^10\.96\.0\.1:80 \(1\) +10\.0\.0\.3:8080 \(1\) \(1\)$/m,
  );
});

// Maglev.

function tableOf(rig: Rig, revNat: number): Uint32Array | undefined {
  return rig.agent.dataplane.services.maglevTable(revNat).lookup();
}

test('Maglev tables are those of the agent, for frontends that outsiders reach', (t) => {
  const lb = address('192.0.2.7');
  const cluster = clusterOf(2, 3, { type: 'LoadBalancer', loadBalancerIps: [lb] }, 30_080);
  const rig = rigOf(cluster, { algorithm: 'maglev' });
  // ClusterIP 1, surrogate 2, node port 3, load balancer 4; the other Service's ClusterIP 5.
  t.deepEqual(
    [1, 2, 3, 4, 5].map((id) => tableOf(rig, id) !== undefined),
    [false, false, true, true, false],
  );
  const digest = createHash('sha256')
    .update(new Uint8Array(tableOf(rig, 3)!.buffer))
    .digest('hex');
  t.is(digest, '23b57ab610c3f538b732a8b60cfb793b7d4c23c7e9817d829f2fb7f466de0db6');
  t.deepEqual(
    Array.from(tableOf(rig, 4)!.subarray(0, 24)),
    [2, 1, 3, 1, 2, 3, 1, 3, 3, 1, 1, 3, 2, 1, 3, 1, 3, 2, 1, 2, 3, 2, 1, 3],
  );
  t.regex(
    [...rig.agent.dump('cilium-lb-maglev')].join('\n'),
    /^SVC ID +LOOKUP TABLE\n\[3\]\/v4 +\[2 1 3 1 2 3 1 3 3 .*\]\n\[4\]\/v4 /,
  );

  const open = rigOf(cluster, { algorithm: 'maglev', externalClusterIP: true });
  t.deepEqual(
    [1, 2, 3, 4, 5].map((id) => tableOf(open, id) !== undefined),
    [true, false, true, true, true],
  );
  t.is(rigOf(cluster).agent.dataplane.services.maglev.count, 0);

  const { innerBytes } = new ServiceMaps(1, new Streams('bytes').stream('seeds'), {
    maglevTableSize: 16_381,
  });
  t.is(innerBytes, 65_840);
  t.is(
    new ServiceMaps(1, new Streams('bytes').stream('seeds'), { maglevTableSize: 131_071 }).innerBytes,
    524_600,
  );
  const maglev = rig.agent.dataplane.services
    .tables()
    .find(({ name }) => name.startsWith('cilium_lb4_maglev'))!;
  t.is(maglev.bytes - rig.agent.dataplane.services.maglev.bytes(), 2 * 65_840);
});

test('a table is over the backends that may be chosen, and goes with the last of them', (t) => {
  const rig = rigOf(clusterOf(1, 3, NODE_PORT, 30_080), { algorithm: 'maglev' });
  const names = (): number[] => [...new Set(tableOf(rig, 3))].sort();
  rig.endpoints.add(2, DRAINING);
  commit(rig.agent.sync([0], false));
  t.deepEqual(names(), [1, 2]);
  for (const row of [0, 1]) rig.endpoints.remove(row);
  commit(rig.agent.sync([0], false));
  t.deepEqual(names(), [3], 'one that drains, for want of others');
  rig.endpoints.remove(2);
  const last = commit(rig.agent.sync([0], false));
  t.is(tableOf(rig, 3), undefined);
  t.deepEqual(
    last.stages.flatMap((stage) => stage.wait?.().ns ?? []),
    [12.5 * MS],
  );
  const empty = commit(rig.agent.sync([0], false));
  t.true(
    empty.stages.every((stage) => stage.wait === undefined),
    'nothing to delete, nothing to wait for',
  );
});

test('a table costs its whole matrix of permutations, and a grace period after it is in force', (t) => {
  const rig = rigOf(
    clusterOf(1, 1000, NODE_PORT, 30_080),
    { algorithm: 'maglev', rcuGracePeriod: 20 * MS },
    4,
  );
  const plan = rig.agent.sync([0], false);
  t.is(totalOf(plan, 'maglev.permutation'), (1000 * 16_381) / 4, 'a quarter on each of four cores');
  t.is(counted(plan.aside!, 'maglev.permutation'), (1000 * 16_381 * 3) / 4);
  t.is((totalOf(plan, 'maglev.probe') / 16_381).toFixed(2), '9.37');
  t.deepEqual([totalOf(plan, 'maglev.create'), totalOf(plan, 'maglev.swap')], [1, 1]);
  const waits = plan.stages.map((stage) => stage.wait?.().ns ?? 0);
  t.deepEqual(
    waits.filter((ns) => ns > 0),
    [20 * MS],
  );
  const at = waits.indexOf(20 * MS);
  t.is(counted(plan.stages[at - 1]!.counts, 'maglev.swap'), 1);
  t.is(counted(plan.stages[at]!.counts, 'syscall.update'), 2, 'reverse NAT and master come after');
  const before = tableOf(rig, 3);
  for (const stage of plan.stages.slice(0, at)) stage.commit();
  t.not(tableOf(rig, 3), before, 'a new map is in place before the wait');

  // N = 1000, M = 16381 on one core: about 51 ms of agent, as the same algorithm in C.
  const prices = new PriceList(PROFILES[0]!, ebpf.operations);
  const alone = rigOf(clusterOf(1, 1000, NODE_PORT, 30_080), { algorithm: 'maglev' }, 1);
  const counts = new Float64Array(ebpf.operations.length);
  for (const stage of alone.agent.sync([0], false).stages) {
    for (const name of ['permutation', 'probe']) {
      counts[ebpf.operations.indexOf(`ebpf.maglev.${name}`)]! += counted(stage.counts, `maglev.${name}`);
    }
  }
  t.true(Math.abs(prices.total(counts) / 50.9e6 - 1) < 0.05, String(prices.total(counts)));
});

test('Maglev with many ports is named for what its waits add up to', (t) => {
  const cluster = clusterOf(1, 4, NODE_PORT, 30_000);
  for (let i = 1; i < 40; i++) {
    cluster.ports.add({
      service: 0,
      clusterIp: cluster.ports.clusterIp[0]!,
      name: `p${i}`,
      protocol: TCP,
      port: 80 + i,
      nodePort: 30_000 + i,
    });
    cluster.ports.firstEndpoint[i + 1] = cluster.ports.firstEndpoint[i]!;
  }
  const { agent } = rigOf(cluster, {
    algorithm: 'maglev',
    maglevTableSize: '251',
    otherAddresses: '192.168.7.2',
  });
  t.regex(agent.remarks().join('\n'), /replaces 80 Maglev tables, and the agent waits 1\.00 s/);
  const crowded = rigOf(clusterOf(1, 200, NODE_PORT, 30_000), { algorithm: 'maglev' });
  t.regex(
    crowded.agent.remarks().join('\n'),
    /200 backends in 16381 slots; .*bpf-lb-maglev-table-size 32749/,
  );
});

// Limits.

test('maps of the default size overflow as the agent would see it, and the failure says what fits', (t) => {
  const cluster = clusterOf(2500, 100);
  const rig = rigOf(cluster);
  const { services } = rig.agent.dataplane;
  // 642 Services of 102 entries; of the 643rd 52 slots; of each further one a backend and no slot, until the
  // backends map is full as well.
  t.is(services.services.count, 65_536);
  t.is(services.reverseNat.count, 642);
  t.is(services.backends.count, 65_536);
  t.is(642 * 102 + 52, 65_536);
  t.is(slotsOf(rig, ...vipOf(rig, 641)).split(' ')[0], '100[0]');
  t.is(slotsOf(rig, ...vipOf(rig, 642)).split(' ').length, 1 + 52);
  t.is(slotsOf(rig, ...vipOf(rig, 643)), 'none');
  const { error, message } = rig.initial.failure!;
  t.is(error, 'E2BIG');
  t.regex(
    message,
    /Updating frontend failed: update map cilium_lb4_services_v2: argument list too long; update map cilium_lb4_backends_v3: argument list too long\./,
  );
  t.regex(message, /1858 frontends did not fit, 1858 without a master/);
  t.regex(
    message,
    /needs 255000 entries in cilium_lb4_services_v2, which holds 65536; set bpf-lb-map-max to 262144 .*24 MiB/,
  );
  t.regex(rig.agent.remarks().join('\n'), /cilium_lb4_services_v2 holds 65536 entries of at most 65536/);

  const fitting = rigOf(cluster, { lbMapMax: 262_144 });
  t.is(fitting.initial.failure, undefined);
  t.is(fitting.agent.dataplane.services.services.count, 255_000);
  t.is(services.servicesBytes(262_144, 255_000), 16 * 262_144 + 80 * 255_000);
});

test('fewer entries are named before the map is full', (t) => {
  const [few, many] = [500, 600].map((services) =>
    rigOf(clusterOf(services, 100)).agent.remarks().join('\n'),
  );
  t.is(few, '');
  t.regex(many!, /cilium_lb4_services_v2 holds 61200 entries of at most 65536 \(bpf-lb-map-max\)/);
});

test('a trie of source ranges that is full says so in its own words', (t) => {
  const sourceRanges = Array.from({ length: 9 }, (_, i) => ({ address: (i + 1) << 24, prefix: 8 }));
  const rig = rigOf(clusterOf(1, 1, { type: 'LoadBalancer', loadBalancerIps: [1], sourceRanges }), {
    lbMapMax: 16,
  });
  t.is(rig.initial.failure!.error, 'ENOSPC');
  t.regex(rig.initial.failure!.message, /update map cilium_lb4_source_range: no space left on device/);
  t.is(rig.agent.dataplane.services.sourceRanges.count, 16);
});

test('a frontend that failed is tried again after 1 s, 2 s, 4 s and so on up to a minute, and alone', (t) => {
  const rig = rigOf(clusterOf(3, 20), { lbMapMax: 50 });
  const attempts: number[] = [];
  let at = 0;
  for (let i = 0; i < 9; i++) {
    at += rig.agent.trigger.retryNs;
    rig.agent.tell!(at);
    attempts.push(at / SECOND);
    const plan = commit(rig.agent.sync([0, 1, 2], true));
    t.is(totalOf(plan, 'agent.frontend'), 1, 'what is in force is left alone');
    t.is(plan.failure!.error, 'E2BIG');
  }
  t.deepEqual(attempts, [1, 3, 7, 15, 31, 63, 123, 183, 243]);
  rig.agent.tell!(at + 59 * SECOND);
  t.is(rig.agent.sync([], true).stages.length, 0, 'before its time nothing happens');
  for (let row = 0; row < 16; row++) rig.endpoints.remove(row);
  t.is(commit(rig.agent.sync([0], false)).failure, undefined, 'other frontends succeed meanwhile');
  rig.agent.tell!(at + 60 * SECOND);
  t.is(commit(rig.agent.sync([], false)).failure, undefined);
  t.is(slotsOf(rig, ...vipOf(rig, 2)).split(' ')[0], '20[0]');
});

test('65,535 backends are the most of a frontend, 65,535 frontends the most of a node', (t) => {
  const wide = rigOf(clusterOf(1, 65_535), { lbMapMax: 0 });
  t.is(wide.initial.failure, undefined);
  t.is(slotsOf(wide, ...vipOf(wide)).split(' ')[0], '65535[0]');
  const many = rigOf(clusterOf(65_536, 0), { lbMapMax: 0 });
  t.regex(many.initial.failure!.message, /failed to allocate id: the cluster needs 65536 frontends/);
  t.is(totalOf(many.initial, 'agent.frontend'), 65_536, 'the one without an id is tried as well');
  t.is(many.agent.dataplane.services.reverseNat.count, 65_535);
});

test('10,000 Services of 100 endpoints fit maps that are made for them', (t) => {
  const { agent, initial } = rigOf(clusterOf(10_000, 100), { lbMapMax: 0 });
  const { services, backends, maxEntries } = agent.dataplane.services;
  t.is(initial.failure, undefined);
  t.deepEqual([services.count, backends.count, maxEntries], [1_020_000, 1_000_000, 1_048_576]);
  t.is(services.bytes(), 16 * 1_048_576 + 80 * 1_020_000);
  t.regex(agent.remarks()[0]!, /made for 1048576 entries: this cluster needs 1020000/);
});

// Reaction.

/** Times at which syncs begin for requests at the given times, each sync taking `workNs`. */
function syncsOf(
  trigger: SyncTrigger,
  requests: readonly number[],
  { phaseNs = 0, workNs = 0, fails = 0, untilNs = 20 * SECOND } = {},
): number[] {
  const simulation = new Simulation();
  const starts: number[] = [];
  let failures = fails;
  const runner = startSyncRunner(simulation, trigger, phaseNs, (finished) => {
    starts.push(simulation.nowNs / MS);
    simulation.schedule(workNs, () => finished(failures-- <= 0));
  });
  for (const at of requests) simulation.schedule(at, () => runner.request());
  simulation.run({ untilNs });
  return starts;
}

const TICKER = { kind: 'ticker', periodNs: 500 * MS, retryNs: SECOND, eventsMax: 5000 } as const;
const TIMER = { kind: 'timer', delayNs: 500 * MS, retryNs: SECOND, eventsMax: 5000 } as const;

test('a free-running ticker gathers events, and one alone waits 250 ms on average', (t) => {
  t.deepEqual(
    syncsOf(TICKER, [10 * MS, 20 * MS, 499 * MS, 1700 * MS], { phaseNs: 123 * MS }),
    [123, 623, 2123],
  );
  const waits: number[] = [];
  for (let phase = 0; phase < 500; phase += 5) {
    waits.push(syncsOf(TICKER, [750 * MS], { phaseNs: phase * MS })[0]! - 750);
  }
  t.true(Math.min(...waits) >= 0 && Math.max(...waits) < 500);
  t.is(Math.round(waits.reduce((sum, wait) => sum + wait) / waits.length / 10), 25);
  t.is(rigOf(clusterOf(1, 1)).agent.trigger.kind, 'ticker');
});

test('a timer starts with the first event that it gathers', (t) => {
  t.deepEqual(syncsOf(TIMER, [10 * MS, 400 * MS, 509 * MS, 1700 * MS]), [510, 2200]);
  t.deepEqual(
    syncsOf(TIMER, [0, 600 * MS, 700 * MS], { workNs: 400 * MS }),
    [500, 1400],
    'and waits for a sync to end',
  );
  const { trigger } = rigOf(clusterOf(1, 1), { reflectorFlush: 'timer', reflectorBatch: 500 }).agent;
  t.like(trigger, { kind: 'timer', delayNs: 500 * MS, eventsMax: 500 });
});

test('a full buffer is worked off at once, but not into a sync that runs', (t) => {
  const burst = Array.from({ length: 7 }, (_, i) => (10 + i) * MS);
  t.deepEqual(syncsOf({ ...TICKER, eventsMax: 3 }, burst, { phaseNs: 400 * MS }), [12, 15, 400]);
  t.deepEqual(syncsOf({ ...TIMER, eventsMax: 3 }, burst), [12, 15, 516]);
  t.deepEqual(syncsOf({ ...TIMER, eventsMax: 3 }, burst, { workNs: 100 * MS }), [12, 112]);
});

test('ticks that fall into a running sync are lost', (t) => {
  t.deepEqual(syncsOf(TICKER, [0, 600 * MS], { phaseNs: 100 * MS, workNs: 1100 * MS }), [100, 1600]);
});

test('a retry comes when it is due, whatever the buffer waits for', (t) => {
  t.deepEqual(syncsOf(TICKER, [0], { phaseNs: 100 * MS, workNs: 5 * MS, fails: 2 }), [100, 1105, 2110]);
  const queue = new RetryQueue();
  for (const now of [0, 1, 3]) queue.fail(7, now * SECOND);
  queue.fail(8, 3 * SECOND);
  t.is(queue.nextNs(3 * SECOND), SECOND);
  t.deepEqual(queue.due(7 * SECOND), [8, 7]);
  queue.succeed(8);
  t.deepEqual(queue.due(6 * SECOND), []);
});

test('UDP backends that go away cost a walk over sockets each, beside the sync', (t) => {
  const cluster = clusterOf(2, 3, NODE_PORT, 30_080);
  cluster.ports.protocol[0] = UDP;
  const rig = rigOf(cluster);
  for (const row of [0, 1, 3]) rig.endpoints.remove(row);
  rig.endpoints.add(2, DRAINING);
  t.is(
    counted(commit(rig.agent.sync([0, 1], false)).aside!, 'terminate.walk'),
    2,
    'not for TCP, nor for one that drains',
  );
  t.is(commit(rig.agent.sync([0, 1], false)).aside, undefined);
  const off = rigOf(cluster, { terminateSockets: false });
  off.endpoints.remove(0);
  t.is(off.agent.sync([0], false).aside, undefined);
});

test('a backend keeps its id while anybody refers to it, and no other gets it at once', (t) => {
  const registry = new BackendRegistry();
  const id = registry.idOf(1, 80, TCP);
  registry.refer(id);
  registry.refer(id);
  t.false(registry.release(id));
  t.is(registry.idOf(1, 80, TCP), id);
  t.not(registry.idOf(1, 80, UDP), id);
  t.true(registry.release(id));
  t.true(registry.idOf(1, 80, TCP) > id);
});

/** Slots of the backends 1 and 7, and of those that took their places, without the id. */
function withoutNew(lines: readonly string[]): string[] {
  return lines.map((line) => line.replace(/ +(?:1|7|11|12) 0\[0\]/, ' new 0[0]'));
}

test('a restart keeps all ids, interrupts nobody and clears what went away meanwhile', (t) => {
  const rig = rigOf(clusterOf(2, 5, { ...NODE_PORT, affinityS: 60 }, 30_080));
  rig.endpoints.remove(1);
  commit(rig.agent.sync([0], false));
  const before = [...rig.agent.dump('cilium-lb-frontends')];
  rig.agent.restart();
  rig.endpoints.remove(0);
  rig.endpoints.remove(6);
  const plan = rig.agent.sync([], false);
  t.is(plan.scope, 'full');
  for (const stage of plan.stages) {
    stage.commit();
    t.false(slotsOf(rig, ...vipOf(rig)).includes('?') && stage !== plan.stages.at(-1));
  }
  t.is(slotsOf(rig, ...vipOf(rig)), '3[0] 2 3 4');
  t.is(slotsOf(rig, ...vipOf(rig, 1)), '4[0] 5 7 8 9');
  t.is(rig.agent.dataplane.services.backends.count, 7);
  rig.endpoints.add(0, READY | SERVING);
  rig.endpoints.add(6, READY | SERVING);
  commit(rig.agent.sync([0, 1], false));
  // The two came back as others; everybody else is who they were.
  t.deepEqual(withoutNew([...rig.agent.dump('cilium-lb-frontends')]), withoutNew(before));
  t.is(commit(rig.agent.sync([], false)).stages.length, 0);
});

// Any history.

/** Everything that programs read, ids replaced by addresses. */
function contentOf(rig: Rig): string[] {
  const { services } = rig.agent.dataplane;
  const lines = [...rig.agent.dump('cilium-lb-list')].map((line) => line.replaceAll(/ +/g, ' '));
  for (let revNat = 1; revNat <= services.reverseNat.count; revNat++) {
    const table = tableOf(rig, revNat);
    const addresses = [...(table ?? [])].map((id) => services.backendAddress(services.backend(id).find()));
    lines.push(`${revNat}: ${addresses.join(' ')}`);
  }
  return lines;
}

test('any sequence of changes leaves slots, tables and pairs as a new start would make them', (t) => {
  const change = fc.record({ row: fc.nat(29), to: fc.constantFrom(0, READY | SERVING, DRAINING, -1) });
  fc.assert(
    fc.property(
      fc.array(fc.array(change, { maxLength: 8 }), { maxLength: 6 }),
      fc.constantFrom('1.18+', 'pre-1.18'),
      (batches, agentOrder) => {
        const options = { agentOrder, algorithm: 'maglev', maglevTableSize: '251' } as const;
        const cluster = clusterOf(3, 10, { ...NODE_PORT, affinityS: 60, externalPolicyLocal: true }, 30_080);
        const rig = rigOf(cluster, options);
        for (const batch of batches) {
          const changed = new Set<number>();
          for (const { row, to } of batch) {
            changed.add(cluster.endpoints.servicePort[row]!);
            if (to < 0) rig.endpoints.remove(row);
            else rig.endpoints.add(row, to);
          }
          commit(rig.agent.sync([...changed], false));
        }
        const fresh = freshRig(rig, options);
        t.deepEqual(contentOf(rig), contentOf(fresh));
        const [now, then] = [rig.agent.dataplane.services, fresh.agent.dataplane.services];
        t.is(now.backends.count, then.backends.count);
        t.is(now.services.count, then.services.count);
        for (const revNat of [1, 2, 3]) {
          for (const row of rig.endpoints.of(0)) {
            const isActive = (rig.endpoints.conditions[row]! & READY) !== 0;
            const isLocal = cluster.pods.node[cluster.endpoints.pod[row]!] === 0;
            const id = idOf(rig, row);
            if (id < 0 || (revNat !== 1 && !isLocal)) continue;
            t.is(now.affinity(id, revNat).find() >= 0, isActive);
          }
        }
      },
    ),
    { seed: 42, numRuns: 60 },
  );
});

/** Backend id of an endpoint, -1 for none. */
function idOf({ agent, cluster }: Rig, row: number): number {
  const { backends } = agent.dataplane.services;
  for (const element of backends.elements()) {
    if (agent.dataplane.services.backendAddress(element) === cluster.endpoints.address[row])
      return backends.keyWord(element, 0);
  }
  return -1;
}

/** Another agent that starts with what the first one knows of the endpoints. */
function freshRig({ cluster, endpoints }: Rig, options: Partial<AgentOptions>): Rig {
  const fresh = rigOf(cluster, options);
  for (let row = 0; row < cluster.endpoints.count; row++) {
    const known = endpoints.of(cluster.endpoints.servicePort[row]!).includes(row);
    if (known) fresh.endpoints.add(row, endpoints.conditions[row]!);
    else fresh.endpoints.remove(row);
  }
  const ports = Array.from({ length: cluster.ports.count }, (_, port) => port);
  commit(fresh.agent.sync(ports, false));
  return fresh;
}

test('full maps never hold more than they may, and once there is room everything is in them', (t) => {
  const change = fc.record({ row: fc.nat(39), present: fc.boolean() });
  fc.assert(
    fc.property(
      fc.array(fc.array(change, { maxLength: 12 }), { maxLength: 6 }),
      fc.integer({ min: 1, max: 40 }),
      fc.constantFrom('1.18+', 'pre-1.18'),
      (batches, lbMapMax, agentOrder) => {
        const cluster = clusterOf(4, 10, { affinityS: 60 });
        const rig = rigOf(cluster, { lbMapMax, agentOrder });
        const { services } = rig.agent.dataplane;
        const all = [0, 1, 2, 3];
        for (const batch of batches) {
          for (const { row, present } of batch) {
            if (present) rig.endpoints.add(row, READY | SERVING);
            else rig.endpoints.remove(row);
          }
          const { failure } = commit(rig.agent.sync(all, false));
          const maps = [services.services, services.backends, services.reverseNat, services.affinityMatch];
          t.true(maps.every(({ count }) => count <= lbMapMax));
          if (failure === undefined) checkAll(t, rig);
        }
        for (let row = 0; row < 40; row++) rig.endpoints.remove(row);
        commit(rig.agent.sync(all, false));
        const last = commit(rig.agent.sync(all, true));
        // Four masters and wildcards fit, unless slots that failed updates left behind are in their way.
        if (last.failure !== undefined) t.is(services.services.count, lbMapMax);
        else checkAll(t, rig);
        t.is(services.backends.count, 0);
      },
    ),
    { seed: 42, numRuns: 60 },
  );
});

/** Every Service lists exactly its endpoints, each in the backends map. */
function checkAll(t: ExecutionContext, rig: Rig): void {
  for (let port = 0; port < rig.cluster.ports.count; port++) {
    const rows = [...rig.endpoints.of(port)].sort((a, b) => a - b);
    t.is(slotsOf(rig, ...vipOf(rig, port)), [`${rows.length}[0]`, ...rows].join(' '));
  }
}

// Options and texts.

test('the defaults are those of Cilium, and what it refuses is refused', (t) => {
  t.like(defaultsOf(ebpf.options), {
    lbMapMax: 65_536,
    socketLB: true,
    socketLBHostOnly: false,
    lbMode: 'snat',
    dsrDispatch: 'opt',
    acceleration: 'disabled',
    algorithm: 'random',
    maglevTableSize: '16381',
    maglevHashSeed: 'JLfvgnHc2kaSUFaI',
    externalClusterIP: false,
    reflectorWait: 500 * MS,
    reflectorBatch: 5000,
    ctTimeoutTcp: 8000 * SECOND,
    ctTimeoutTcpSyn: 60 * SECOND,
    ctTimeoutTcpFin: 10 * SECOND,
    ctTimeoutServiceTcp: 8000 * SECOND,
    memoryGiB: 64,
    mapSizeRatio: '0.0025',
    distributedLru: false,
    preallocateMaps: false,
  });
  t.deepEqual(ebpf.options.maglevTableSize.choices, [
    '251',
    '509',
    '1021',
    '2039',
    '4093',
    '8191',
    '16381',
    '32749',
    '65521',
    '131071',
  ]);
  t.regex(ebpf.options.maglevHashSeed.wanted('AAAA'), /wanted base64 of 12 bytes/);
  t.is(ebpf.options.maglevHashSeed.wanted('JLfvgnHc2kaSUFaI'), '');
  for (const good of ['0', '1', '0.0025', '.5', '1.0']) t.is(wantedRatio(good), '');
  for (const bad of ['', '2', '-1', '1.5', 'x', '0.0.1', '1e-3']) t.not(wantedRatio(bad), '');
  t.is(wantedAddresses('10.0.0.1, 10.0.0.2'), '');
  t.not(wantedAddresses('10.0.0.1,,'), '');
  const { flows } = rigOf(clusterOf(1, 1)).agent.dataplane;
  t.is(flows.ctTcp.spec.maxEntries, 607_062, '64 GiB');
  t.is(rigOf(clusterOf(1, 1), { mapSizeRatio: '0' }).agent.dataplane.flows.ctTcp.spec.maxEntries, 524_288);
  t.is(rigOf(clusterOf(1, 1), { memoryGiB: 16 }).agent.dataplane.flows.ctAny.spec.maxEntries, 75_882);
});

/** Ports of masters with their flag bytes. */
function mastersOf(options: Partial<AgentOptions>): string {
  const cluster = clusterOf(2, 1, NODE_PORT, 30_080);
  cluster.ports.protocol[1] = UDP;
  return [...rigOf(cluster, options).agent.dump('cilium-lb-frontends')]
    .filter((line) => line.includes('(0) ') && !line.includes('ANY'))
    .map((line) => line.replace(/^\S+:(\d+\/\S+) .*\[/, '$1 ['))
    .join(', ');
}

test('forwarding modes and routable ClusterIPs are in the flags', (t) => {
  t.is(mastersOf({}), '30080/TCP [0x2 0x0], 80/TCP [0x0 0x0], 80/UDP [0x0 0x0], 30080/TCP [0x42 0x0]');
  t.is(
    mastersOf({ lbMode: 'hybrid' }),
    '30080/TCP [0x2 0x80], 80/TCP [0x0 0x80], 80/UDP [0x0 0x0], 30080/TCP [0x42 0x80]',
  );
  t.is(
    mastersOf({ lbMode: 'dsr', externalClusterIP: true }),
    '30080/TCP [0x2 0x80], 80/TCP [0x40 0x80], 80/UDP [0x40 0x80], 30080/TCP [0x42 0x80]',
  );
});

/** The API server, a web Service with a node port: addresses, ids and ports as in the printed examples. */
function printedRig(): Rig {
  const cluster = clusterOf(2, 2, {}, 0);
  const { ports, endpoints } = cluster;
  ports.clusterIp[0] = address('10.96.0.1');
  ports.port[0] = 443;
  ports.clusterIp[1] = address('10.96.40.7');
  ports.port[1] = 80;
  ports.nodePort[1] = 31_234;
  endpoints.address.set([
    address('172.18.0.3'),
    address('172.18.0.4'),
    address('10.244.1.21'),
    address('10.244.2.14'),
  ]);
  endpoints.port[0] = 6443;
  cluster.nodes.forEach((node, i) => Object.assign(node, { address: address('172.18.0.2') + i }));
  const rig = rigOf(cluster, { agentOrder: 'pre-1.18' });
  rig.endpoints.remove(1);
  rig.endpoints.add(3, DRAINING);
  commit(rig.agent.sync([0, 1], false));
  return rig;
}

test('the service maps print as cilium-dbg prints them', (t) => {
  const rig = printedRig();
  t.deepEqual(
    [...rig.agent.dump('cilium-lb-list')],
    [
      'SERVICE ADDRESS            BACKEND ADDRESS (REVNAT_ID) (SLOT)',
      '0.0.0.0:31234/TCP (0)      0.0.0.0:0 (3) (0) [NodePort, non-routable]',
      '0.0.0.0:31234/TCP (1)      10.244.1.21:8080/TCP (3) (1)',
      '0.0.0.0:31234/TCP (2)      10.244.2.14:8080/TCP (3) (2)',
      '10.96.0.1:443/TCP (0)      0.0.0.0:0 (1) (0) [ClusterIP, non-routable]',
      '10.96.0.1:443/TCP (1)      172.18.0.3:6443/TCP (1) (1)',
      '10.96.40.7:80/TCP (0)      0.0.0.0:0 (2) (0) [ClusterIP, non-routable]',
      '10.96.40.7:80/TCP (1)      10.244.1.21:8080/TCP (2) (1)',
      '10.96.40.7:80/TCP (2)      10.244.2.14:8080/TCP (2) (2)',
      '172.18.0.2:31234/TCP (0)   0.0.0.0:0 (4) (0) [NodePort]',
      '172.18.0.2:31234/TCP (1)   10.244.1.21:8080/TCP (4) (1)',
      '172.18.0.2:31234/TCP (2)   10.244.2.14:8080/TCP (4) (2)',
    ],
  );
  t.deepEqual(
    [...rig.agent.dump('cilium-service-list')],
    [
      'ID   Frontend               Service Type   Backend',
      '1    10.96.0.1:443/TCP      ClusterIP      1 => 172.18.0.3:6443/TCP (active)',
      '2    10.96.40.7:80/TCP      ClusterIP      1 => 10.244.1.21:8080/TCP (active)',
      '                                           2 => 10.244.2.14:8080/TCP (terminating)',
      '3    0.0.0.0:31234/TCP      NodePort       1 => 10.244.1.21:8080/TCP (active)',
      '                                           2 => 10.244.2.14:8080/TCP (terminating)',
      '4    172.18.0.2:31234/TCP   NodePort       1 => 10.244.1.21:8080/TCP (active)',
      '                                           2 => 10.244.2.14:8080/TCP (terminating)',
    ],
  );
  t.deepEqual([...rig.agent.dump('cilium-service-list-without-id')].slice(0, 4), [
    'Frontend               Service Type   Backend',
    '0.0.0.0:31234/TCP      NodePort       1 => 10.244.1.21:8080/TCP (active)',
    '                                      2 => 10.244.2.14:8080/TCP (terminating)',
    '10.96.0.1:443/TCP      ClusterIP      1 => 172.18.0.3:6443/TCP (active)',
  ]);
  t.deepEqual([...rig.agent.dump('cilium-lb-frontends')].slice(0, 4), [
    'SERVICE ADDRESS            BACKEND ID',
    '0.0.0.0:31234/TCP (0)      0 1[1] (3) [0x2 0x0]',
    '0.0.0.0:31234/TCP (1)      3 0[0] (3) [0x2 0x0]',
    '0.0.0.0:31234/TCP (2)      4 0[0] (3) [0x2 0x0]',
  ]);
  t.deepEqual(
    [...rig.agent.dump('cilium-lb-backends')],
    [
      'ID   BACKEND ADDRESS (REVNAT_ID) (SLOT)',
      '1    TCP://172.18.0.3',
      '3    TCP://10.244.1.21',
      '4    TCP://10.244.2.14',
    ],
  );
  t.deepEqual([...rig.agent.dump('cilium-lb-revnat')].slice(0, 2), [
    'ID   BACKEND ADDRESS (REVNAT_ID) (SLOT)',
    '1    10.96.0.1:443',
  ]);
});

test('columns are as wide as their widest cell and 3, at least 5; equal keys are printed once', (t) => {
  const rows = [
    ['2', 'b'],
    ['10', 'c'],
    ['2', 'a'],
  ] as const;
  t.deepEqual([...twoColumns('ID', 'X', rows)], ['ID   X', '10   c', '2    b', '     a']);
  t.deepEqual([...twoColumns('I', 'X', [['1', 'a']])], ['I    X', '1    a']);
});

test('connections print as cilium-dbg prints them', (t) => {
  const rig = printedRig();
  const balanced = rigOf(rig.cluster, { socketLB: false });
  const packet = new Packet();
  Object.assign(packet, {
    source: address('10.244.1.5'),
    sourcePort: 41_234,
    destination: address('10.96.40.7'),
    destinationPort: 80,
    protocol: TCP,
    flags: SYN,
    origin: FROM_POD,
  });
  const verdict = new Verdict(ebpf.operations.length);
  verdict.begin(packet);
  balanced.agent.dataplane.classify(packet, 9216 * SECOND, verdict);
  t.is(verdict.fate, FORWARD);
  const lines = [...balanced.agent.dump('cilium-ct-list')];
  const service = lines.find((line) => line.includes(' service '))!;
  const revNat = balanced.agent.dataplane.services.revNat(
    balanced.agent.dataplane.services.service(address('10.96.40.7'), 80, 0, TCP, 0).find(),
  );
  t.regex(
    service,
    new RegExp(
      String.raw`^TCP OUT 10\.244\.1\.5:41234 -> 10\.96\.40\.7:80 service expires=9276 Packets=0 Bytes=0 RxFlagsSeen=0x00 LastRxReport=0 TxFlagsSeen=0x02 LastTxReport=9216 Flags=0x0000 \[ \] RevNAT=${revNat} SourceSecurityID=0 BackendID=[34]$`,
    ),
  );
  const old = [...balanced.agent.dump('cilium-ct-list-old')].find((line) => line.includes(' service '))!;
  t.regex(
    old,
    /expires=9276 RxPackets=0 RxBytes=0 RxFlagsSeen=0x00 LastRxReport=0 TxPackets=0 TxBytes=0 TxFlagsSeen=0x02 LastTxReport=9216 Flags=0x0000 \[ \] RevNAT=\d+ SourceSecurityID=0$/,
  );
  packet.flags = 0;
  verdict.begin(packet);
  balanced.agent.dataplane.classify(packet, 9216 * SECOND, verdict);
  const seen = [...balanced.agent.dump('cilium-ct-list')].find((line) => line.includes(' service '))!;
  t.regex(seen, /expires=17216 .* Flags=0x0010 \[ SeenNonSyn \] /, '9216 and 8000 seconds');
});

test('every operation has a price', (t) => {
  t.notThrows(() => new PriceList(PROFILES[0]!, ebpf.operations));
  t.is(new Set(ebpf.operations).size, ebpf.operations.length);
  // A frontend of N backends: 15 us and N times 14.4 us.
  const prices = new PriceList(PROFILES[0]!, ebpf.operations);
  const rig = rigOf(clusterOf(1, 10_000));
  const us =
    rig.agent
      .sync([0], false)
      .stages.reduce((sum: number, stage: SyncStage) => sum + prices.total(stage.counts), 0) / 1000;
  t.true(Math.abs(us / (15 + 10_000 * 14.4) - 1) < 0.01, String(us));
});
