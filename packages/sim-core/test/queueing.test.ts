import test from 'ava';
import type { ExecutionContext } from 'ava';
import fc from 'fast-check';
import { exponential, lognormal, type Stream } from '../src/index.ts';
import { batchMeans, pairedDifference, replications } from '../src/stats/interval.ts';
import { afterWarmUp, mser5 } from '../src/stats/warm-up.ts';
import { runQueue, type Queue, type QueueRun } from './queue-model.ts';
import { erlangB, erlangC, waitMG1, waitMMc } from './queueing-theory.ts';

/*
 * The engine against queueing theory. Of 100 seeds each gives a 95 % interval by batch means; the number of
 * intervals that hold the theoretical value is binomial if the coverage is honest, and must lie in the central
 * 99.9 % of that distribution: 87 to 100. A batch is 30 to 70 times as long as the queue remembers (M/M/1 relaxes
 * in 1/(1 − √ρ)² services: 12 at ρ = 0.5, 90 at 0.8), which leaves the known under-coverage of batch means
 * (neighbours correlate, batches are skewed) at up to two points: over 300 to 1000 seeds 93 to 98 % cover. That is well
 * inside the limits, so no slack is added. Times are rounded to 1e-6 of a mean service.
 */
const SEEDS = 100;
const COVERING_MIN = 87;
const BATCHES = 20;

const markov = (stream: Stream) => exponential(stream, 1);
const constant = () => 1;
/** Mean 1 in two phases: a tenth of the customers takes five times as long as the mean; c² = 2 · Σ p·m² − 1. */
const hyperexponential = (stream: Stream) => exponential(stream, stream.uniform() < 0.1 ? 5 : 5 / 9);
const HYPER_SCV = 2 * (0.1 * 5 ** 2 + 0.9 * (5 / 9) ** 2) - 1;
/** Mean 1: median e^(−σ²/2) with σ² = ln 2, so that c² = e^(σ²) − 1 = 1. */
const bell = (stream: Stream) => lognormal(stream, Math.SQRT1_2, Math.sqrt(Math.LN2));
const LOGNORMAL_SCV = 1;

const queueOf = (servers: number, load: number, service = markov, places = Infinity): Queue => ({
  servers,
  load,
  service,
  places,
});

interface Check {
  readonly queue: Queue;
  readonly batch: number;
  readonly observed: (run: QueueRun) => ArrayLike<number>;
  readonly theory: number;
  /** Mean number in the system. */
  readonly inSystem: number;
}

function check(t: ExecutionContext, name: string, { queue, batch, observed, theory, inSystem }: Check): void {
  const warmUp = 2 * batch;
  let covering = 0;
  const means: number[] = [];
  const inSystems: number[] = [];
  for (let seed = 0; seed < SEEDS; seed++) {
    const run = runQueue(queue, `${name} ${seed}`, warmUp + BATCHES * batch, warmUp);
    const interval = batchMeans(observed(run), BATCHES);
    if (interval.low <= theory && theory <= interval.high) covering++;
    means.push(interval.estimate);
    inSystems.push(run.meanInSystem);
    // Little's law over a finished run is an identity of integers: both sides count the same customer-ns.
    t.is(run.integralNs, run.sojournSumNs);
    t.is(run.leftOver, 0);
  }
  t.true(covering >= COVERING_MIN, `${covering} of ${SEEDS} intervals cover ${theory}`);
  const [mean, number] = [replications(means, 0.999), replications(inSystems, 0.999)];
  t.true(mean.low <= theory && theory <= mean.high, `${mean.low} to ${mean.high} for ${theory}`);
  t.true(number.low <= inSystem && inSystem <= number.high, `L ${number.low} to ${number.high}: ${inSystem}`);
  t.log(`${covering} of ${SEEDS} cover ${theory.toFixed(4)}; all seeds ${mean.estimate.toFixed(4)}`);
}

const waits = (run: QueueRun) => run.waits;

test('the formulas give the published values', (t) => {
  const near = (actual: number, wanted: number, digits: number) =>
    t.is(actual.toFixed(digits), wanted.toFixed(digits));
  // Erlang B as printed in tables of traffic engineering: 10 lines, 5 erlangs; 5 lines, 3 erlangs.
  near(erlangB(10, 5), 0.018385, 6);
  near(erlangB(5, 3), 0.110054, 6);
  near(erlangB(3, 2), 4 / 19, 12);
  near(erlangC(3, 2), 4 / 9, 12);
  // One server: both meet M/M/1, where waiting has probability ρ and mean ρ/(1 − ρ).
  near(erlangC(1, 0.8), 0.8, 12);
  near(waitMMc(1, 0.8), 4, 12);
  near(waitMG1(0.8, 1), 4, 12);
  near(waitMG1(0.8, 0), 2, 12);
});

test('M/M/1 at half load waits as theory says', (t) =>
  check(t, 'mm1 0.5', {
    queue: queueOf(1, 0.5),
    batch: 800,
    observed: waits,
    theory: waitMMc(1, 0.5),
    inSystem: 1,
  }));

test('M/M/1 at 80 % load waits as theory says', (t) =>
  check(t, 'mm1 0.8', {
    queue: queueOf(1, 0.8),
    batch: 3000,
    observed: waits,
    theory: waitMMc(1, 0.8),
    inSystem: 4,
  }));

test('M/M/3 waits as theory says', (t) =>
  check(t, 'mm3', {
    queue: queueOf(3, 2),
    batch: 1500,
    observed: waits,
    theory: waitMMc(3, 2),
    inSystem: 2 + 2 * waitMMc(3, 2),
  }));

test('Erlang C: the share of M/M/3 that waits at all', (t) =>
  check(t, 'erlang c', {
    queue: queueOf(3, 2),
    batch: 1000,
    observed: (run) => run.waited,
    theory: erlangC(3, 2),
    inSystem: 2 + 2 * waitMMc(3, 2),
  }));

test('M/D/1 waits half as long as M/M/1', (t) =>
  check(t, 'md1', {
    queue: queueOf(1, 0.7, constant),
    batch: 1200,
    observed: waits,
    theory: waitMG1(0.7, 0),
    inSystem: 0.7 + 0.7 * waitMG1(0.7, 0),
  }));

test('M/G/1 with hyperexponential service meets Pollaczek and Khinchine', (t) =>
  check(t, 'hyper', {
    queue: queueOf(1, 0.5, hyperexponential),
    batch: 2000,
    observed: waits,
    theory: waitMG1(0.5, HYPER_SCV),
    inSystem: 0.5 + 0.5 * waitMG1(0.5, HYPER_SCV),
  }));

test('M/G/1 with lognormal service meets Pollaczek and Khinchine', (t) =>
  check(t, 'lognormal', {
    queue: queueOf(1, 0.5, bell),
    batch: 1200,
    observed: waits,
    theory: waitMG1(0.5, LOGNORMAL_SCV),
    inSystem: 0.5 + 0.5 * waitMG1(0.5, LOGNORMAL_SCV),
  }));

test('Erlang B: the share that M/M/5/5 loses', (t) =>
  check(t, 'erlang b', {
    queue: queueOf(5, 3, markov, 5),
    batch: 800,
    observed: (run) => run.lost,
    theory: erlangB(5, 3),
    inSystem: 3 * (1 - erlangB(5, 3)),
  }));

test('Erlang B does not care how service is distributed', (t) =>
  check(t, 'erlang b hyper', {
    queue: queueOf(5, 3, hyperexponential, 5),
    batch: 800,
    observed: (run) => run.lost,
    theory: erlangB(5, 3),
    inSystem: 3 * (1 - erlangB(5, 3)),
  }));

test("Little's law holds to the nanosecond in any queue", (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5 }),
        fc.double({ min: 0.1, max: 6, noNaN: true }),
        fc.constantFrom(0, 1, 7, Infinity),
        fc.constantFrom(markov, constant, hyperexponential, bell),
        fc.integer({ min: 1, max: 400 }),
        fc.nat(1000),
        (servers, load, room, service, arrivals, seed) => {
          const run = runQueue(queueOf(servers, load, service, servers + room), `${seed}`, arrivals, 0);
          const lost = run.lost.reduce((sum, one) => sum + one, 0);
          return run.integralNs === run.sojournSumNs && run.served + lost === arrivals && run.leftOver === 0;
        },
      ),
      { seed: 42, numRuns: 300 },
    ),
  );
});

test('MSER-5 sees that a queue started empty needs a warm-up no longer than half the run', (t) => {
  let found = 0;
  for (let seed = 0; seed < 20; seed++) {
    const run = runQueue(queueOf(1, 0.8), `mser ${seed}`, 5000, 0);
    const warmUp = mser5(run.waits);
    if (warmUp.kind === 'run-too-short') continue;
    found++;
    t.true(warmUp.deleted <= 2500);
    t.is(afterWarmUp(run.waits, warmUp.deleted).length, 5000 - warmUp.deleted);
  }
  t.true(found >= 12, `${found} of 20`);
});

/** The mean waits of 20 runs at 60 % load, one from each seed. */
const meanWaits = (service: (stream: Stream) => number, seed: (run: number) => string) =>
  Array.from({ length: 20 }, (_, i) => {
    const run = runQueue(queueOf(1, 0.6, service), seed(i), 4000, 500);
    return batchMeans(run.waits, BATCHES).estimate;
  });

test('common random numbers narrow the interval of a difference between two servers', (t) => {
  const SLOW = 1.1;
  const slow = (stream: Stream) => SLOW * exponential(stream, 1);
  const [fast, common, other] = [
    meanWaits(markov, (i) => `crn ${i}`),
    meanWaits(slow, (i) => `crn ${i}`),
    meanWaits(slow, (i) => `other ${i}`),
  ];
  const paired = pairedDifference(common, fast, 0.999);
  const unpaired = pairedDifference(other, fast, 0.999);
  // Slow service: load 0.66, waits in units of 1.1.
  const truth = SLOW * waitMMc(1, 0.66) - waitMMc(1, 0.6);
  t.true(paired.low <= truth && truth <= paired.high);
  t.true((paired.high - paired.low) * 2 < unpaired.high - unpaired.low);
});
