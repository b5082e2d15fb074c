import test from 'ava';
import { PROFILES, SYNTHETIC_DEFAULTS, readCluster, syntheticCluster, type Cluster } from '@vipsim/proxiers';
import { Streams } from '@vipsim/sim-core';
import { readFileSync } from 'node:fs';
import { planDay } from '../src/cluster/cluster-day.ts';
import { atSize, compare } from '../src/experiment/compare.ts';
import { resultDocument } from '../src/experiment/document.ts';
import { ResultSchema, type ModeResult, type ResultDocument } from '../src/report/result.ts';
import { resolveScenario } from '../src/scenario/scenario.ts';
import { applySettings } from '../src/scenario/set.ts';

const SHOP = new URL('../../../examples/shop.yaml', import.meta.url);
const QUICK = ['duration=10s', 'workload.connectionsPerSecond=1000'];

function run(
  cluster: Cluster,
  settings: readonly string[] = [],
  sizes: readonly number[] = [],
): ResultDocument {
  const scenario = resolveScenario(applySettings({}, [...QUICK, ...settings]));
  const profile = PROFILES[0]!;
  const plan = {
    scenario,
    profile,
    sizes:
      sizes.length === 0
        ? [{ label: 'test', cluster: () => cluster }]
        : sizes.map((size) => ({ label: String(size), cluster: () => atSize(cluster, size) })),
  };
  return resultDocument({
    title: 'test',
    command: 'vipsim compare test',
    scenario,
    profile,
    inputs: [],
    notes: cluster.notes,
    sizes: compare(plan),
    environment: { runtime: '', platform: '', wallMs: 0, peakMemoryBytes: 0 },
  });
}

function mode(result: ResultDocument, name: string, size = 0): ModeResult {
  return result.sizes[size]!.modes.find((candidate) => candidate.mode === name)!;
}

const shop = (): Cluster => readCluster([{ name: 'shop.yaml', text: readFileSync(SHOP, 'utf8') }]);
const small = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 50, endpoints: 10 });
const BUSY = ['churn.rolloutsPerMinute=60', 'churn.scalingsPerMinute=30', 'churn.crashesPerMinute=60'];

test('same seed, same digest; another seed, another digest and the same story', (t) => {
  const first = run(shop(), BUSY);
  t.is(run(shop(), BUSY).digest, first.digest);
  const other = run(shop(), [...BUSY, 'seed=1']);
  t.not(other.digest, first.digest);
  for (const result of [first, other]) {
    t.true(mode(result, 'ebpf').lookup.established.mean < mode(result, 'iptables').lookup.established.mean);
    t.true(mode(result, 'ipvs').cpu.controlCores > mode(result, 'ebpf').cpu.controlCores);
  }
  t.notThrows(() => ResultSchema.parse(first));
});

test('every mode is offered the same connections and the same changes, and loses none of them', (t) => {
  const result = run(small, BUSY);
  const attempts = new Set<number>();
  for (const { connections, timeline } of result.sizes[0]!.modes) {
    const { attempted, ok, refused, timedOut, broken, unfinished } = connections;
    attempts.add(attempted);
    t.is(attempted, ok + refused + timedOut + broken + unfinished);
    t.is(
      timeline.reduce((sum, second) => sum + second.attempted, 0),
      attempted,
    );
    t.is(
      timeline.reduce((sum, second) => sum + second.failed, 0),
      refused + timedOut + broken,
    );
    t.true(
      timeline.reduce((sum, second) => sum + second.endpointChanges, 0) <= result.sizes[0]!.endpointChanges,
    );
  }
  t.is(attempts.size, 1);
  t.true([...attempts][0]! > 9000);
});

test('without churn nothing fails, nothing syncs, and every mode spreads load over its endpoints', (t) => {
  const still = ['churn.rolloutsPerMinute=0', 'churn.scalingsPerMinute=0', 'churn.crashesPerMinute=0'];
  for (const { connections, sync, balance, programmingLatency } of run(small, still).sizes[0]!.modes) {
    t.is(connections.refused + connections.timedOut + connections.broken + connections.sentToDeadEndpoint, 0);
    t.is(sync.failures, 0);
    t.is(programmingLatency.count, 0);
    t.is(balance.endpoints, 10);
    t.true(balance.maxOverMean < 1.3);
  }
});

test('slower reaction sends more connections to endpoints that are gone', (t) => {
  const fast = run(small, [...BUSY, 'modes=iptables']);
  const slow = run(small, [...BUSY, 'modes=iptables', 'iptables.minSyncPeriod=8s']);
  const dead = (result: ResultDocument): number => mode(result, 'iptables').connections.sentToDeadEndpoint;
  t.true(dead(slow) > 2 * dead(fast), `${dead(slow)} against ${dead(fast)}`);
  t.true(mode(slow, 'iptables').programmingLatency.p90 > mode(fast, 'iptables').programmingLatency.p90);
});

test('one mode alone sees what it sees in company', (t) => {
  const together = mode(run(small, BUSY), 'ipvs');
  t.deepEqual(mode(run(small, [...BUSY, 'modes=ipvs']), 'ipvs'), together);
});

test('a legacy table past 512 MiB is reported as a failure, with what the node then does', (t) => {
  const wide = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 60, endpoints: 10_000 });
  const scenario = ['duration=1s', 'modes=iptables', 'workload.connectionsPerSecond=200'];
  const legacy = mode(run(wide, [...scenario, 'iptables.backend=legacy']), 'iptables');
  t.deepEqual(legacy.outcome.kind === 'failed' && legacy.outcome.error, 'ENOMEM');
  t.is(legacy.connections.ok, 0, 'no rule was ever in force');
  t.is(legacy.title, 'iptables (legacy backend)');
  const nft = mode(run(wide, scenario), 'iptables');
  t.is(nft.outcome.kind, 'ok');
  t.true(
    nft.notes.some((note) => note.includes('ENOMEM')),
    'but the reader is told',
  );
});

test('service maps at their default size overflow in a large cluster, and the failure names the way out', (t) => {
  const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 1000, endpoints: 100 });
  const full = mode(run(cluster, ['duration=2s', 'modes=ebpf', 'ebpf.lbMapMax=65536']), 'ebpf');
  t.is(full.outcome.kind, 'failed');
  t.regex(full.sync.lastFailure, /E2BIG.*bpf-lb-map-max/s);
  t.true(full.connections.ok > 0 && full.connections.timedOut + full.connections.unfinished > 0);
});

test('a full conntrack table drops, and a remark says which setting holds it', (t) => {
  const result = mode(
    run(small, ['modes=iptables', 'conntrack.maxPerCore=100', 'conntrack.min=100', 'node.cores=2']),
    'iptables',
  );
  t.true(result.conntrack.drops > 0);
  t.true(result.conntrack.peak <= 201);
  t.true(result.notes.some((note) => note.includes('conntrack.maxPerCore')));
});

test('a cluster that is larger than asked for stays, a smaller one is copied', (t) => {
  t.is(atSize(small, 100), small);
  const large = atSize(shop(), 1000);
  t.true(large.endpoints.count >= 1000 && large.endpoints.count < 1100);
  const { sizes } = run(shop(), [], [40, 200]);
  t.true(sizes[1]!.endpoints >= 200);
});

test('a cluster without anybody to connect to gives a result without traffic', (t) => {
  const empty = run(syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 3, endpoints: 0 }));
  for (const { connections, lookup } of empty.sizes[0]!.modes) {
    t.is(connections.attempted, 0);
    t.is(lookup.first.count, 0);
  }
});

test('UDP Services are asked and answered in every mode', (t) => {
  const cluster = syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 4, endpoints: 3, udpEvery: 1 });
  for (const { connections, connectLatency } of run(cluster, ['duration=2s']).sizes[0]!.modes) {
    t.true(connections.ok > 1900);
    t.is(connectLatency.count, 0, 'UDP has no handshake');
  }
});

test('the shop: LoadBalancer traffic comes from outside, and the first packet pays for it', (t) => {
  const scenario = resolveScenario({});
  const day = planDay(shop(), scenario, new Streams('0'));
  t.is(day.cluster.services.length, 9);
  const result = run(shop(), ['modes=iptables']);
  const operations = mode(result, 'iptables').lookup.operations.map(({ name }) => name);
  t.true(operations.includes('iptables.match.statistic'));
  t.true(mode(result, 'iptables').connectLatency.max >= 10e6, 'two ways of 5 ms');
});

test('a connection that a dataplane leads to another pod is broken: that pod has never heard of it', (t) => {
  const file = new URL('../../../examples/labs/maglev.yaml', import.meta.url);
  const cluster = readCluster([{ name: 'maglev.yaml', text: readFileSync(file, 'utf8') }]);
  const forgetful = [
    ...['rolloutsPerMinute', 'scalingsPerMinute', 'crashesPerMinute'].map((rate) => `churn.${rate}=0`),
    'modes=ebpf',
    'duration=50s',
    'workload.connectionsPerSecond=4000',
    'workload.outsideShare=0.9',
    'workload.keepaliveShare=0.05',
    'workload.keepaliveRequests=2',
    'workload.thinkTime=30s',
    // The smallest conntrack map: 131,072 connections.
    'ebpf.memoryGiB=8',
  ];
  const random = mode(run(cluster, forgetful), 'ebpf').connections;
  t.true(random.broken > 1000, `${random.broken}`);
  // The table leads them back to where they were.
  const maglev = mode(run(cluster, [...forgetful, 'ebpf.algorithm=maglev']), 'ebpf').connections;
  t.is(maglev.broken, 0);
});
