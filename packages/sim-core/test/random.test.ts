import { createHash } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import {
  Discrete,
  Empirical,
  Histogram,
  Streams,
  exp,
  exponential,
  ln,
  log2,
  lognormal,
  normal,
  pareto,
  standardNormalQuantile,
  uniform,
  zipf,
  type Stream,
} from '../src/index.ts';

const DRAWS = 200_000;

function moments(draw: (stream: Stream) => number): { mean: number; variance: number } {
  const stream = new Streams('moments').stream('test');
  let mean = 0;
  let squares = 0;
  for (let i = 1; i <= DRAWS; i++) {
    const x = draw(stream);
    const delta = x - mean;
    mean += delta / i;
    squares += delta * (x - mean);
  }
  return { mean, variance: squares / (DRAWS - 1) };
}

test('ln, exp and log2 agree with the platform to a few units in the last place', (t) => {
  fc.assert(
    fc.property(
      fc.double({ min: 1e-300, max: 1e300, noNaN: true }),
      (x) => Math.abs(ln(x) - Math.log(x)) <= 4e-16 * Math.max(1, Math.abs(Math.log(x))),
    ),
    { seed: 42, numRuns: 5000 },
  );
  fc.assert(
    fc.property(
      fc.double({ min: -700, max: 700, noNaN: true }),
      (x) => Math.abs(exp(x) / Math.exp(x) - 1) < 1e-13,
    ),
    { seed: 42, numRuns: 5000 },
  );
  t.is(ln(1), 0);
  t.is(ln(0), -Infinity);
  t.is(ln(-1), NaN);
  t.is(ln(Infinity), Infinity);
  t.is(exp(0), 1);
  t.is(exp(-800), 0);
  t.is(exp(800), Infinity);
  t.true(Math.abs(log2(1024) - 10) < 1e-14);
  t.true(Math.abs(ln(5e-324) - Math.log(5e-324)) < 1e-12);
});

test('ln, exp and the distributions give these exact bits on every engine', (t) => {
  const hash = createHash('sha256');
  const stream = new Streams('bits').stream('digest');
  const cell = new Float64Array(1);
  for (let i = 0; i < 20_000; i++) {
    const u = stream.uniform();
    for (const x of [
      ln(u + 1e-9),
      exp(u * 20 - 10),
      standardNormalQuantile(u * 0.999 + 0.0005),
      exponential(stream, 7),
    ]) {
      cell[0] = x;
      hash.update(new Uint8Array(cell.buffer.slice(0)));
    }
  }
  t.is(hash.digest('hex'), '71ec77f4fdec85ab4d4491b1ea774c13fb6d41ea9685e7963dd970f7fefe69f8');
});

const draws = (stream: Stream) => Array.from({ length: 5 }, () => stream.uint32());

test('a stream depends on seed and name alone', (t) => {
  const streams = new Streams('0');
  const other = streams.stream('other');
  other.uniform();
  const first = draws(streams.stream('arrivals'));
  t.deepEqual(draws(new Streams('0').stream('arrivals')), first);
  t.notDeepEqual(draws(new Streams('1').stream('arrivals')), first);
  t.notDeepEqual(draws(streams.stream('arrival')), first);
  t.deepEqual(draws(streams.stream('arrivals').sub(7)), draws(streams.stream('arrivals/7')));
});

test('distributions have their known means and variances', (t) => {
  const near = (name: string, actual: number, wanted: number, tolerance: number) =>
    t.true(
      Math.abs(actual - wanted) <= tolerance * Math.max(1, Math.abs(wanted)),
      `${name}: ${actual} for ${wanted}`,
    );
  const check = (name: string, draw: (stream: Stream) => number, mean: number, variance: number) => {
    const seen = moments(draw);
    near(`${name} mean`, seen.mean, mean, 0.01);
    near(`${name} variance`, seen.variance, variance, 0.05);
  };
  check('uniform', (s) => uniform(s, 2, 8), 5, 3);
  check('exponential', (s) => exponential(s, 4), 4, 16);
  check('normal', (s) => normal(s, 10, 3), 10, 9);
  const sigma = 0.5;
  const mean = 2 * Math.exp(sigma ** 2 / 2);
  check('lognormal', (s) => lognormal(s, 2, sigma), mean, mean ** 2 * (Math.exp(sigma ** 2) - 1));
  check('pareto', (s) => pareto(s, 1, 6), 6 / 5, 6 / (25 * 4));
  check('empirical', (s) => new Empirical([1, 5], [3, 1]).sample(s), 2, 3);
});

test('standardNormalQuantile meets published quantiles of the normal', (t) => {
  for (const [p, z] of [
    [0.5, 0],
    [0.975, 1.959963984540054],
    [0.995, 2.575829303548901],
    [0.841344746068543, 1],
    [1e-10, -6.361340902404056],
  ] as const) {
    t.true(Math.abs(standardNormalQuantile(p) - z) < 1e-9, `${p}`);
  }
});

test('zipf gives rank r the share (r + 1)^-s of the whole', (t) => {
  const n = 50;
  const popularity = zipf(n, 1.1);
  const stream = new Streams('zipf').stream('test');
  const seen = new Float64Array(n);
  for (let i = 0; i < DRAWS; i++) seen[popularity.sample(stream)]! += 1;
  let total = 0;
  for (let r = 0; r < n; r++) total += (r + 1) ** -1.1;
  let chiSquare = 0;
  for (let r = 0; r < n; r++) {
    const wanted = (DRAWS * (r + 1) ** -1.1) / total;
    chiSquare += (seen[r]! - wanted) ** 2 / wanted;
  }
  // 49 degrees of freedom: 74.9 at 1 %.
  t.true(chiSquare < 74.9, `chi-square ${chiSquare}`);
});

test('weights that are no distribution are refused', (t) => {
  t.throws(() => new Discrete([]), { message: /sum to 0/ });
  t.throws(() => new Discrete([1, -1]), { message: /weight 1 is -1/ });
  t.throws(() => new Discrete([0, 0]), { message: /sum to 0/ });
  t.throws(() => new Empirical([1], [1, 2]), { message: /1 values but 2 frequencies/ });
});

test('histogram quantiles are never below the exact ones and at most 0.8 % above', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.nat(300), fc.nat(1e9), fc.maxSafeNat()), { minLength: 1, maxLength: 300 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (values, q) => {
          const histogram = new Histogram();
          for (const value of values) histogram.record(value);
          const sorted = Float64Array.from(values).sort();
          const exact = sorted[Math.max(1, Math.ceil(q * sorted.length)) - 1]!;
          const quantile = histogram.quantile(q);
          return (
            quantile >= exact &&
            quantile <= exact * (1 + 1 / 128) + 1e-9 &&
            histogram.max === sorted.at(-1) &&
            histogram.min === sorted[0] &&
            histogram.count === values.length
          );
        },
      ),
      { seed: 42, numRuns: 1000 },
    ),
  );
});

test('merging histograms equals recording everything in one', (t) => {
  const [one, two, both] = [new Histogram(), new Histogram(), new Histogram()];
  const stream = new Streams('merge').stream('test');
  for (let i = 0; i < 5000; i++) {
    const value = Math.round(lognormal(stream, 1e6, 2));
    (i % 3 === 0 ? one : two).record(value);
    both.record(value);
  }
  one.merge(two);
  t.deepEqual([...one.buckets()], [...both.buckets()]);
  t.deepEqual([one.count, one.sum, one.min, one.max], [both.count, both.sum, both.min, both.max]);
});

test('an empty histogram answers 0, not NaN', (t) => {
  const empty = new Histogram();
  t.deepEqual([empty.quantile(0.5), empty.mean(), empty.max], [0, 0, 0]);
});
