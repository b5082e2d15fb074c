import test from 'ava';
import fc from 'fast-check';
import { NS_PER_S, Streams, parseCidr } from '@vipsim/sim-core';
import { EndpointsMap, READY, SYNTHETIC_DEFAULTS, syntheticCluster } from '@vipsim/proxiers';
import { planDay } from '../src/cluster/cluster-day.ts';
import { REMOVED } from '../src/cluster/control-plane.ts';
import { ServiceSlices } from '../src/cluster/endpoint-slices.ts';
import { FreeAddresses } from '../src/cluster/free-addresses.ts';
import { DOWN, GONE, LISTENING, PodTimeline } from '../src/cluster/pod-timeline.ts';
import { Arrivals } from '../src/workload/arrivals.ts';
import { RequestDraws } from '../src/workload/request-draws.ts';
import { ScenarioError, resolveScenario } from '../src/scenario/scenario.ts';

const SMALL = { ...SYNTHETIC_DEFAULTS, services: 20, endpoints: 8 };
const BUSY = { churn: { rolloutsPerMinute: 10, scalingsPerMinute: 10, crashesPerMinute: 10 } };

test('slices hold at most their maximum, every present pod exactly once, and none that is gone', (t) => {
  const step = fc.record({ op: fc.constantFrom('present', 'gone'), pod: fc.nat(40) });
  t.notThrows(() =>
    fc.assert(
      fc.property(
        fc.nat(30),
        fc.array(fc.array(step, { maxLength: 10 }), { maxLength: 10 }),
        (initial, rounds) => {
          const pods = new Set(Array.from({ length: initial }, (_, pod) => pod));
          const slices = new ServiceSlices(pods, 4);
          for (const round of rounds) {
            const gone = [...new Set(round.filter(({ op }) => op === 'gone').map(({ pod }) => pod))];
            const present = [
              ...new Set(round.filter(({ op }) => op === 'present').map(({ pod }) => pod)),
            ].filter((pod) => !gone.includes(pod));
            const known = gone.filter((pod) => pods.has(pod));
            const told = slices.reconcile(present, gone).flat();
            for (const pod of present) pods.add(pod);
            for (const pod of gone) pods.delete(pod);
            if (told.length !== new Set(told).size) return false;
            if ([...present, ...known].some((pod) => !told.includes(pod))) return false;
          }
          return (
            slices.count >= Math.ceil(pods.size / 4) &&
            slices.sizes().every((size) => size <= 4) &&
            slices.sizes().reduce((x, y) => x + y, 0) === pods.size
          );
        },
      ),
      { seed: 42, numRuns: 500 },
    ),
  );
});

test('new pods go into the slice that is written anyway, then into one that takes them all, then into a new one', (t) => {
  const slices = new ServiceSlices([0, 1, 2, 3, 4, 5, 6], 4);
  t.deepEqual(slices.sizes(), [4, 3]);
  t.deepEqual(slices.reconcile([10], [0]), [[0, 10]], 'the slice of the removed pod has room');
  t.deepEqual(slices.reconcile([11], []), [[11]], 'the untouched slice with room takes it');
  t.deepEqual(slices.sizes(), [4, 4]);
  t.deepEqual(slices.reconcile([12], []), [[12]]);
  t.deepEqual(slices.sizes(), [4, 4, 1]);
  slices.reconcile([], [1, 2, 3]);
  t.deepEqual(slices.sizes(), [1, 4, 1], 'half-empty slices are never merged');
});

test('a pod is what its timeline says, and forgets connections when it goes down', (t) => {
  const timeline = new PodTimeline();
  timeline.set(7, 100, DOWN);
  timeline.set(7, 200, LISTENING);
  timeline.set(7, 300, GONE);
  t.deepEqual(
    [99, 100, 199, 200, 300].map((at) => timeline.stateAt(7, at)),
    [LISTENING, DOWN, DOWN, LISTENING, GONE],
  );
  t.true(timeline.keepsConnections(7, 0, 99));
  t.false(timeline.keepsConnections(7, 50, 250));
  t.true(timeline.keepsConnections(7, 200, 299));
  t.is(timeline.stateAt(8, 1e18), LISTENING);
});

test('free addresses are inside the pod network and used by nobody', (t) => {
  const cluster = { ...syntheticCluster(SMALL), podCidr: parseCidr('10.128.0.0/23')! };
  const used = new Set(cluster.pods.address.subarray(0, cluster.pods.count));
  const free = new FreeAddresses(cluster);
  const taken = new Set<number>();
  const error = t.throws(() => {
    for (;;) taken.add(free.take());
  });
  t.true(error instanceof ScenarioError);
  t.regex(error!.message, /the pod network 10\.\S+\/\d+ has no address left .* fewer workload\.clients/);
  t.true([...taken].every((address) => !used.has(address) && address > cluster.podCidr.address));
  t.is(taken.size + [...used].filter((address) => address - cluster.podCidr.address < 511).length, 510);
});

test('one day from one seed; another seed, another day; the cluster stays as it was', (t) => {
  const cluster = syntheticCluster(SMALL);
  const before = cluster.pods.count;
  const plan = (seed: string) => planDay(cluster, resolveScenario({ ...BUSY, seed }), new Streams(seed));
  const first = plan('0');
  t.deepEqual(first.deliveries, plan('0').deliveries);
  t.notDeepEqual(first.deliveries, plan('1').deliveries);
  t.is(cluster.pods.count, before);
  t.true(first.cluster.pods.count > before);
  t.true(first.deliveries.length > 50);
});

test('a watch tells in order, late, and ends with the endpoints that exist', (t) => {
  const scenario = resolveScenario({
    ...BUSY,
    duration: '300s',
    churn: { ...BUSY.churn, rolloutsPerMinute: 30 },
  });
  const day = planDay(syntheticCluster(SMALL), scenario, new Streams('0'));
  const endpoints = new EndpointsMap(day.cluster);
  let last = 0;
  for (const delivery of day.deliveries) {
    t.true(delivery.atNs >= last && delivery.changedNs <= delivery.atNs);
    last = delivery.atNs;
    delivery.endpoints.forEach((endpoint, i) => {
      if (delivery.conditions[i] === REMOVED) endpoints.remove(endpoint);
      else endpoints.add(endpoint, delivery.conditions[i]!);
    });
  }
  // Whoever is told to be ready and was told so long ago, listens; whoever was removed, is gone.
  for (let port = 0; port < day.cluster.ports.count; port++) {
    const rows = endpoints.of(port);
    t.is(new Set(rows).size, rows.length);
    const ready = rows.filter((row) => (endpoints.conditions[row]! & READY) !== 0).length;
    t.true(ready >= 1, `service ${port} has ${ready} ready endpoints`);
    for (const row of rows)
      t.not(day.timeline.stateAt(day.cluster.endpoints.pod[row]!, scenario.duration - 5 * NS_PER_S), GONE);
  }
});

test('arrivals are Poisson, follow the popularity, and leave other streams alone', (t) => {
  const scenario = resolveScenario({
    workload: { connectionsPerSecond: 1000, zipfExponent: 0, keepaliveShare: 0.25 },
  });
  const day = planDay(syntheticCluster(SMALL), scenario, new Streams('0'));
  const arrivals = new Arrivals(day, 0, scenario, new Streams('0'));
  const perPort = new Float64Array(day.cluster.ports.count);
  const n = 40_000;
  let keepalive = 0;
  for (let i = 0; i < n; i++) {
    arrivals.next();
    perPort[arrivals.servicePort]! += 1;
    if (arrivals.requests > 1) keepalive++;
    t.is(arrivals.address, day.cluster.ports.clusterIp[arrivals.servicePort]!);
  }
  t.true(Math.abs(arrivals.atNs / NS_PER_S - n / 1000) < 1, `${arrivals.atNs}`);
  t.true(Math.abs(keepalive / n - 0.25) < 0.01);
  const chiSquare = perPort.reduce(
    (sum, seen) => sum + (seen - n / perPort.length) ** 2 / (n / perPort.length),
    0,
  );
  t.true(chiSquare < 36.2, `19 degrees of freedom, 1 %: ${chiSquare}`);
  const other = resolveScenario({
    workload: { connectionsPerSecond: 1000, zipfExponent: 0, keepaliveShare: 0.9 },
  });
  const again = new Arrivals(day, 0, other, new Streams('0'));
  for (let i = 0; i < n; i++) again.next();
  t.is(again.atNs, arrivals.atNs);
  t.is(again.servicePort, arrivals.servicePort);
});

test('service and think times belong to the request, whatever the order they are asked in', (t) => {
  const draws = new RequestDraws(resolveScenario({}), new Streams('0'));
  const forward = Array.from({ length: 100 }, (_, i) => draws.serviceTime(i, 1));
  const backward = Array.from({ length: 100 }, (_, i) => draws.serviceTime(99 - i, 1)).toReversed();
  t.deepEqual(forward, backward);
  t.is(new Set(forward).size, 100);
  const mean =
    Array.from({ length: 20_000 }, (_, i) => draws.thinkTime(i, 3)).reduce((x, y) => x + y, 0) / 20_000;
  t.true(Math.abs(mean / 500e6 - 1) < 0.03, String(mean));
});
