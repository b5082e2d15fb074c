import test from 'ava';
import fc from 'fast-check';
import { Streams, exponential, normal } from '../src/index.ts';
import { lnBeta, lnGamma, ln1p } from '../src/stats/gamma.ts';
import { binomialAtMost, incompleteBeta } from '../src/stats/incomplete-beta.ts';
import { batchMeans, pairedDifference, replications } from '../src/stats/interval.ts';
import { BINOMIAL_VALUES_MAX, quantileInterval } from '../src/stats/quantile-interval.ts';
import { studentTQuantile, studentTTail } from '../src/stats/student-t.ts';
import { Tally } from '../src/stats/tally.ts';
import { TimeWeighted } from '../src/stats/time-weighted.ts';
import { afterWarmUp, mser5 } from '../src/stats/warm-up.ts';

const close = (actual: number, wanted: number, tolerance: number) =>
  Math.abs(actual - wanted) <= tolerance * Math.max(1, Math.abs(wanted));

const measurements = fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), {
  minLength: 2,
  maxLength: 200,
});

test("Student's t has the quantiles of the published tables", (t) => {
  // As tabled by Fisher & Yates, with the further digits from SciPy.
  for (const [p, degrees, quantile] of [
    [0.975, 1, 12.706204736174694],
    [0.975, 2, 4.302652729749462],
    [0.975, 3, 3.1824463052837078],
    [0.975, 5, 2.5705818356363146],
    [0.975, 10, 2.228138851986274],
    [0.975, 30, 2.0422724563012378],
    [0.975, 120, 1.9799304050824402],
    [0.995, 1, 63.656741162871526],
    [0.995, 10, 3.16927267261695],
    [0.9995, 10, 4.586893858702708],
    [0.95, 1, 6.313751514675037],
    [0.9, 5, 1.4758840488244815],
    [0.999, 29, 3.3962402883568026],
    [0.975, 1e7, 1.959963984540054],
  ] as const) {
    const actual = studentTQuantile(p, degrees);
    t.true(close(actual, quantile, degrees > 1e6 ? 1e-6 : 1e-11), `t(${p}, ${degrees}) = ${actual}`);
  }
  t.is(studentTQuantile(0.5, 7), 0);
  t.throws(() => studentTQuantile(1, 5), { message: /no quantile at 1/ });
  t.throws(() => studentTQuantile(0.9, 0), { message: /1 degree of freedom, not 0/ });
});

test("Student's t quantile is odd about one half, rises with p and undoes the tail probability", (t) => {
  const degrees = fc.oneof(fc.integer({ min: 1, max: 1000 }), fc.double({ min: 1, max: 1e5, noNaN: true }));
  // Multiples of 2^-20, so that 1 - p is exact.
  const share = fc.integer({ min: 1, max: 2 ** 20 - 2 }).map((k) => k / 2 ** 20);
  t.notThrows(() =>
    fc.assert(
      fc.property(share, degrees, (p, nu) => {
        const quantile = studentTQuantile(p, nu);
        const tail = studentTTail(Math.abs(quantile), nu);
        return (
          studentTQuantile(1 - p, nu) === (quantile === 0 ? 0 : -quantile) &&
          studentTQuantile(p + 2 ** -20, nu) > quantile &&
          Math.abs(tail / Math.min(p, 1 - p) - 1) < 1e-10
        );
      }),
      { seed: 42, numRuns: 1000 },
    ),
  );
});

test('the gamma and incomplete beta functions meet values of 30-digit arithmetic', (t) => {
  for (const [x, wanted] of [
    [0.1, 2.252712651734206],
    [0.5, 0.5723649429247001],
    [1.5, -0.12078223763524522],
    [3.3, 0.9870985778947344],
    [9.99, 12.779315214350193],
    [10, 12.801827480081469],
    [100.5, 361.4355404677776],
    [12345.6, 103959.18506616846],
  ] as const) {
    t.true(close(lnGamma(x), wanted, 2e-14), `lnGamma(${x}) = ${lnGamma(x)}`);
  }
  for (const [a, b, x, wanted, error] of [
    [0.5, 0.5, 0.3, 0.36901011956554536, 1e-14],
    [2, 3, 0.4, 0.5248, 1e-14],
    [30, 50, 0.35, 0.32794553546265354, 1e-13],
    [0.5, 5, 0.9, 0.9999974294103008, 1e-14],
    [500, 700, 0.4, 0.12051628908943207, 1e-12],
    [5e5, 0.5, 0.999999, 0.3173105078558956, 1e-10],
    [1000, 9000, 0.1, 0.5035462207518641, 1e-12],
  ] as const) {
    const actual = incompleteBeta(a, b, x);
    t.true(close(actual, wanted, error), `I(${a}, ${b}; ${x}) = ${actual}`);
  }
  t.is(ln1p(1e-20), 1e-20);
  t.true(close(lnBeta(12, 3), -Math.log(12 * 13 * 7), 1e-14));
});

test('the binomial distribution is the sum of its terms', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.nat(40),
        fc.double({ min: 0.01, max: 0.99, noNaN: true }),
        (n, k, p) => {
          let term = (1 - p) ** n;
          let sum = 0;
          for (let i = 0; i <= Math.min(k, n); i++) {
            sum += term;
            term *= ((n - i) / (i + 1)) * (p / (1 - p));
          }
          return close(binomialAtMost(k, n, p), sum, 1e-12);
        },
      ),
      { seed: 42, numRuns: 1000 },
    ),
  );
});

test('a tally equals the two-pass mean and variance, also when merged', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(measurements, fc.nat(200), (values, cut) => {
        const [one, two, both] = [new Tally(), new Tally(), new Tally()];
        for (const [i, value] of values.entries()) {
          (i < cut ? one : two).record(value);
          both.record(value);
        }
        one.merge(two);
        const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
        const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1);
        return [one, both].every(
          (tally) =>
            tally.count === values.length &&
            Math.abs(tally.mean - mean) < 1e-8 &&
            close(tally.variance, variance, 1e-7) &&
            tally.min === Math.min(...values) &&
            tally.max === Math.max(...values),
        );
      }),
      { seed: 42, numRuns: 1000 },
    ),
  );
  const tally = new Tally();
  t.deepEqual([tally.count, tally.mean, tally.variance, tally.deviation], [0, 0, 0, 0]);
  // A classic of cancellation: the variance of 4, 7, 13, 16 shifted by 10^9.
  for (const value of [4, 7, 13, 16]) tally.record(1e9 + value);
  t.is(tally.variance, 30);
  tally.reset();
  t.deepEqual([tally.count, tally.min, tally.max], [0, Infinity, -Infinity]);
});

test('a time-weighted gauge equals the integral taken nanosecond by nanosecond', (t) => {
  const changes = fc.array(fc.record({ after: fc.nat(20), value: fc.nat(9) }), { maxLength: 40 });
  t.notThrows(() =>
    fc.assert(
      fc.property(changes, fc.nat(200), fc.nat(30), (steps, resetNs, restNs) => {
        const gauge = new TimeWeighted({ startNs: 5, value: 3, levels: [4, 7] });
        const atNs = new Map<number, number>([[5, 3]]);
        let nowNs = 5;
        let wasReset = false;
        for (const { after, value } of steps) {
          nowNs += after;
          if (nowNs > resetNs && resetNs >= 5 && !wasReset) {
            gauge.reset(resetNs);
            wasReset = true;
          }
          gauge.set(nowNs, value);
          atNs.set(nowNs, value);
        }
        const endNs = nowNs + restNs;
        const firstNs = wasReset ? resetNs : 5;
        let value = 3;
        const naive = { integral: 0, at4: 0, at7: 0 };
        for (let ns = 5; ns < endNs; ns++) {
          value = atNs.get(ns) ?? value;
          if (ns < firstNs) continue;
          naive.integral += value;
          naive.at4 += value >= 4 ? 1 : 0;
          naive.at7 += value >= 7 ? 1 : 0;
        }
        return (
          gauge.integralNs(endNs) === naive.integral &&
          gauge.atOrAboveNs(4, endNs) === naive.at4 &&
          gauge.atOrAboveNs(7, endNs) === naive.at7 &&
          (endNs === firstNs || gauge.mean(endNs) === naive.integral / (endNs - firstNs))
        );
      }),
      { seed: 42, numRuns: 1000 },
    ),
  );
});

test('a gauge keeps its value over a reset, counts instants for its extremes and refuses to run backwards', (t) => {
  const gauge = new TimeWeighted();
  gauge.add(10, 4);
  gauge.add(10, -1);
  t.deepEqual([gauge.value, gauge.min, gauge.max, gauge.mean(10)], [3, 0, 4, 0]);
  gauge.reset(20);
  t.deepEqual([gauge.value, gauge.min, gauge.max, gauge.mean(20), gauge.mean(30)], [3, 3, 3, 3, 3]);
  t.throws(() => gauge.set(29, 1), { message: /stands at 30 ns, not 29 ns/ });
  t.throws(() => gauge.atOrAboveNs(2, 30), { message: /not asked to watch level 2/ });
});

test('replications give the interval of the textbook', (t) => {
  // Law & Kelton, Simulation Modeling and Analysis, example 4.26: 1.34 ± 0.24 at 90 %.
  const values = [1.2, 1.5, 1.68, 1.89, 0.95, 1.49, 1.58, 1.55, 0.5, 1.09];
  const printed = replications(values, 0.9);
  t.deepEqual([printed.low.toFixed(2), printed.high.toFixed(2)], ['1.11', '1.58']);
  // By hand: variance (19.5441 - 13.43² / 10) / 9, t(0.975, 9) = 2.2621571628.
  const interval = replications(values);
  const half = 2.2621571628 * Math.sqrt(0.16751222222222 / 10);
  t.true(close(interval.estimate, 1.343, 1e-12));
  t.true(close(interval.low, 1.343 - half, 1e-8));
  t.true(close(interval.high, 1.343 + half, 1e-8));
  t.deepEqual([interval.level, interval.n], [0.95, 10]);
  t.true(replications(values, 0.99).high > interval.high);
});

test('intervals refuse what gives none', (t) => {
  t.throws(() => replications([1]), { message: /at least 2 replications, not 1/ });
  t.throws(() => replications([]), { message: /at least 2 replications, not 0/ });
  t.throws(() => replications([1, NaN]), { message: /value 1 of 2 replications is NaN/ });
  t.throws(() => replications([1, 2], 1), { message: /level is between 0 and 1, not 1/ });
  t.throws(() => replications([1, 2], 95), { message: /not 95/ });
  t.throws(() => pairedDifference([1, 2], [1]), { message: /2 runs cannot be paired with 1/ });
  t.throws(() => pairedDifference([1], [1]), { message: /at least 2 pairs, not 1/ });
  t.throws(() => batchMeans([1, 2, 3], 4), { message: /3 values cannot be cut into 4 batches/ });
  t.throws(() => batchMeans([1, 2, 3], 1), { message: /into 1 batches, 2 or more/ });
  t.throws(() => batchMeans([1, 2, 3], -2), { message: /into -2 batches/ });
  t.throws(() => quantileInterval([], 0.5), { message: /no values/ });
  t.throws(() => quantileInterval([2, 1], 0.5), { message: /value 1 is below the one before/ });
  t.throws(() => quantileInterval([1, NaN], 0.5), { message: /value 1 is NaN/ });
  t.throws(() => quantileInterval([1, 2], 1), { message: /quantile is between 0 and 1, not 1/ });
  t.throws(() => afterWarmUp([1, 2], 2), { message: /cannot delete 2 of 2/ });
});

test('batch means of a constant have no width; single-value batches are replications', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(
        fc.double({ min: -1e9, max: 1e9, noNaN: true }),
        fc.integer({ min: 2, max: 50 }),
        (x, n) => {
          const flat = batchMeans(
            Array.from({ length: n * 3 + (n % 3) }, () => x),
            n,
          );
          return flat.estimate === x && flat.low === x && flat.high === x && flat.n === n;
        },
      ),
      { seed: 42, numRuns: 300 },
    ),
  );
  t.notThrows(() =>
    fc.assert(
      fc.property(measurements, (values) => {
        t.deepEqual(batchMeans(values, values.length), replications(values));
      }),
      { seed: 42, numRuns: 300 },
    ),
  );
  // Five values in two batches: the first is left out.
  t.is(batchMeans([100, 1, 3, 5, 7], 2).estimate, 4);
});

test('pairing removes what both runs of a pair share', (t) => {
  const stream = new Streams('pairs').stream('test');
  const shared = Array.from({ length: 30 }, () => exponential(stream, 100));
  const a = shared.map((x) => x + normal(stream, 1, 0.1));
  const paired = pairedDifference(a, shared);
  t.true(paired.low < 1 && 1 < paired.high && paired.high - paired.low < 0.2);
  const unpaired = replications(a);
  t.true(unpaired.high - unpaired.low > 20);
  t.deepEqual(paired, replications(a.map((x, i) => x - shared[i]!)));
});

/** The interval of a quantile of 1 … n: its bounds are the ranks themselves. */
const ranks = (n: number, q: number, level?: number) => {
  const interval = quantileInterval(
    Float64Array.from({ length: n }, (_, i) => i + 1),
    q,
    level,
  );
  return [interval.low, interval.estimate, interval.high, interval.method];
};

test('quantile intervals lie between the order statistics of the published tables', (t) => {
  // Sign-test ranks of the median: n = 10: 2 and 9; 20: 6 and 15; 100: 40 and 61 (Conover, table A3).
  t.deepEqual(ranks(10, 0.5), [2, 5, 9, 'binomial']);
  t.deepEqual(ranks(20, 0.5), [6, 10, 15, 'binomial']);
  t.deepEqual(ranks(100, 0.5), [40, 50, 61, 'binomial']);
  t.deepEqual(ranks(1000, 0.99), [983, 990, 997, 'binomial']);
  // Six values bound the median at 95 %, five do not; 0.99^n ≤ 0.025 needs 368 values.
  t.deepEqual(ranks(6, 0.5), [1, 3, 6, 'binomial']);
  t.deepEqual(ranks(5, 0.5), [-Infinity, 3, Infinity, 'binomial']);
  t.is(ranks(367, 0.99)[2], Infinity);
  t.is(ranks(368, 0.99)[2], 368);
  t.is(ranks(BINOMIAL_VALUES_MAX, 0.5)[3], 'binomial');
  t.is(ranks(BINOMIAL_VALUES_MAX + 1, 0.5)[3], 'normal');
  const [exact, limit] = [ranks(BINOMIAL_VALUES_MAX, 0.5), ranks(BINOMIAL_VALUES_MAX + 1, 0.5)];
  t.true(Math.abs(Number(exact[0]) - Number(limit[0])) <= 2);
  t.true(Math.abs(Number(exact[2]) - Number(limit[2])) <= 2);
});

test('a quantile interval holds the sample quantile and covers the true one as often as it says', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(
        measurements,
        fc.double({ min: 0.001, max: 0.999, noNaN: true }),
        fc.double({ min: 0.5, max: 0.999, noNaN: true }),
        (values, q, level) => {
          const { low, estimate, high } = quantileInterval(Float64Array.from(values).sort(), q, level);
          return low <= estimate && estimate <= high;
        },
      ),
      { seed: 42, numRuns: 1000 },
    ),
  );
  for (const q of [0.5, 0.9, 0.99]) {
    const truth = -Math.log(1 - q);
    let covering = 0;
    for (let run = 0; run < 1000; run++) {
      const stream = new Streams(`${run}`).stream('quantile');
      const sorted = Float64Array.from({ length: 500 }, () => exponential(stream, 1)).sort();
      const { low, high } = quantileInterval(sorted, q);
      if (low <= truth && truth <= high) covering++;
    }
    // At least 95 %: of 1000 at 95 % fewer than 926 cover once in 2000.
    t.true(covering >= 926, `q = ${q}: ${covering} of 1000 cover`);
  }
});

test('MSER-5 deletes the transient and nothing of a steady series', (t) => {
  // Batch means 50, 20, 10, then 10 ± 1: by hand the statistic is least at 10 deleted (two batches).
  const means = [50, 20, 10, 11, 9, 10, 11, 9, 10, 11, 9, 10, 11, 9, 10, 11, 9, 10, 11, 9];
  t.deepEqual(mser5(means.flatMap((m) => [m - 2, m - 1, m, m + 1, m + 2])), { kind: 'found', deleted: 10 });
  t.deepEqual(mser5(Array.from({ length: 100 }, () => 7)), { kind: 'found', deleted: 0 });
  t.deepEqual(mser5(Array.from({ length: 45 }, () => 7)), { kind: 'run-too-short', deleted: 0 });
  // A series that never settles is not called steady.
  t.is(mser5(Array.from({ length: 500 }, (_, i) => i)).kind, 'run-too-short');
  t.deepEqual([...afterWarmUp([9, 1, 2], 1)], [1, 2]);
});

test('MSER-5 minimises the squared standard error over all deletion points', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 50 }), { minLength: 50, maxLength: 300 }), (values) => {
        const batches: number[] = [];
        for (let i = 0; i + 5 <= values.length; i += 5) {
          batches.push(values.slice(i, i + 5).reduce((a, b) => a + b, 0) / 5);
        }
        const statistic = (deleted: number) => {
          const kept = batches.slice(deleted);
          const mean = kept.reduce((a, b) => a + b, 0) / kept.length;
          return kept.reduce((sum, x) => sum + (x - mean) ** 2, 0) / kept.length ** 2;
        };
        const found = mser5(values);
        const least = Math.min(
          ...Array.from({ length: batches.length - 5 }, (_, deleted) => statistic(deleted)),
        );
        return close(statistic(found.deleted / 5), least, 1e-9) && found.deleted / 5 < batches.length - 5;
      }),
      { seed: 42, numRuns: 500 },
    ),
  );
});

test('MSER-5 finds the warm-up of a queue-like decay to within its noise', (t) => {
  let deleted = 0;
  for (let run = 0; run < 50; run++) {
    const stream = new Streams(`${run}`).stream('decay');
    const values = Array.from({ length: 2000 }, (_, i) => normal(stream, 20 * Math.exp(-i / 40), 1));
    const found = mser5(values);
    t.is(found.kind, 'found');
    deleted += found.deleted / 50;
  }
  // The bias is below a tenth of the noise after 40 · ln 200 = 212 observations.
  t.true(deleted > 80 && deleted < 300, `${deleted}`);
});
