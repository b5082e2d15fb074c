import { createHash } from 'node:crypto';
import test from 'ava';
import {
  Discrete,
  Empirical,
  Streams,
  exponential,
  lognormal,
  normal,
  pareto,
  uniform,
  zipf,
  type Stream,
} from '../src/index.ts';
import { DRAWS, distributionBits } from './fixtures/portable-run.ts';

/*
 * Goodness of fit at fixed seeds. A correct distribution exceeds a limit with probability 0.1 %; the seeds are the
 * first ones tried, so a failure after a change is evidence against the change.
 */
const SAMPLES = 100_000;
const BINS = 100;
/** 99.9 % points of chi-square by degrees of freedom. */
const CHI_SQUARE_LIMIT: Record<number, number> = {
  2: 13.815510558,
  3: 16.2662361962,
  4: 18.4668269529,
  49: 85.3505646086,
  99: 148.2303591651,
};
/** 99.9 % point of Kolmogorov's distribution, of √n · D. */
const KOLMOGOROV_LIMIT = 1.949474603504375;
/** 99.9 % of |z|. */
const NORMAL_LIMIT = 3.2905267315;

/** Φ by its power series x + x³/3 + x⁵/15 + …, all terms of one sign: an independent road to AS241's inverse. */
function normalShare(z: number): number {
  let term = Math.abs(z);
  let sum = 0;
  for (let k = 1; term > 1e-17 * sum; k++) {
    sum += term;
    term *= (z * z) / (2 * k + 1);
  }
  return 0.5 + (Math.sign(z) * sum * Math.exp((-z * z) / 2)) / Math.sqrt(2 * Math.PI);
}

const CONTINUOUS: Record<
  string,
  { readonly draw: (stream: Stream) => number; readonly share: (x: number) => number }
> = {
  'raw uniform': { draw: (s) => s.uniform(), share: (x) => x },
  'raw 32-bit': { draw: (s) => s.uint32(), share: (x) => (x + 0.5) / 2 ** 32 },
  uniform: { draw: (s) => uniform(s, -3, 9), share: (x) => (x + 3) / 12 },
  exponential: { draw: (s) => exponential(s, 4), share: (x) => -Math.expm1(-x / 4) },
  normal: { draw: (s) => normal(s, 10, 3), share: (x) => normalShare((x - 10) / 3) },
  lognormal: { draw: (s) => lognormal(s, 2, 1.5), share: (x) => normalShare(Math.log(x / 2) / 1.5) },
  pareto: { draw: (s) => pareto(s, 3, 1.2), share: (x) => 1 - (3 / x) ** 1.2 },
};

const DISCRETE: Record<
  string,
  { readonly draw: (stream: Stream) => number; readonly shares: Map<number, number> }
> = {
  'zipf 1.1': { draw: sampler(zipf(50, 1.1)), shares: zipfShares(50, 1.1) },
  'zipf 0': { draw: sampler(zipf(50, 0)), shares: zipfShares(50, 0) },
  'zipf 3': { draw: sampler(zipf(4, 3)), shares: zipfShares(4, 3) },
  discrete: {
    draw: sampler(new Discrete([5, 1, 3, 0, 1])),
    shares: new Map([
      [0, 0.5],
      [1, 0.1],
      [2, 0.3],
      [4, 0.1],
    ]),
  },
  empirical: {
    draw: sampler(new Empirical([64, 512, 1500], [5, 2, 3])),
    shares: new Map([
      [64, 0.5],
      [512, 0.2],
      [1500, 0.3],
    ]),
  },
  below: { draw: (s) => s.below(50), shares: zipfShares(50, 0) },
};

function sampler(source: { sample(stream: Stream): number }): (stream: Stream) => number {
  return (stream) => source.sample(stream);
}

function zipfShares(n: number, exponent: number): Map<number, number> {
  const weights = Array.from({ length: n }, (_, rank) => (rank + 1) ** -exponent);
  const sum = weights.reduce((a, b) => a + b, 0);
  return new Map(weights.map((weight, rank) => [rank, weight / sum]));
}

function chiSquare(seen: readonly number[], wanted: readonly number[]): number {
  return seen.reduce((sum, count, i) => sum + (count - wanted[i]!) ** 2 / wanted[i]!, 0);
}

/** Chi-square of values that should be uniform on [0, 1), in 100 equal bins. */
function uniformChiSquare(shares: readonly number[]): number {
  const seen = Array.from({ length: BINS }, () => 0);
  for (const share of shares) seen[Math.min(BINS - 1, Math.floor(share * BINS))]! += 1;
  return chiSquare(
    seen,
    seen.map(() => shares.length / BINS),
  );
}

/** Kolmogorov-Smirnov: the greatest distance between the sample's shares and the uniform's. */
function kolmogorovDistance(shares: readonly number[]): number {
  const sorted = Float64Array.from(shares).sort();
  return sorted.reduce(
    (most, share, i) => Math.max(most, (i + 1) / sorted.length - share, share - i / sorted.length),
    0,
  );
}

function meanOf(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

function correlation(x: readonly number[], y: readonly number[]): number {
  const [mx, my] = [meanOf(x), meanOf(y)];
  let [xx, yy, xy] = [0, 0, 0];
  for (let i = 0; i < x.length; i++) {
    xx += (x[i]! - mx) ** 2;
    yy += (y[i]! - my) ** 2;
    xy += (x[i]! - mx) * (y[i]! - my);
  }
  return xy / Math.sqrt(xx * yy);
}

const draws = (stream: Stream, n = 20) => Array.from({ length: n }, () => stream.uniform());

for (const [name, { draw, share }] of Object.entries(CONTINUOUS)) {
  test(`${name}: chi-square and Kolmogorov-Smirnov accept the theoretical distribution`, (t) => {
    const stream = new Streams('fit').stream(name);
    const shares = Array.from({ length: SAMPLES }, () => share(draw(stream)));
    t.true(shares.every((x) => x >= 0 && x <= 1));
    const [chi, distance] = [uniformChiSquare(shares), kolmogorovDistance(shares)];
    t.true(chi < CHI_SQUARE_LIMIT[BINS - 1]!, `chi-square ${chi}`);
    t.true(Math.sqrt(SAMPLES) * distance < KOLMOGOROV_LIMIT, `distance ${distance}`);
    // Neighbouring draws do not tell of each other.
    const lag = correlation(shares.slice(1), shares.slice(0, -1));
    t.true(Math.abs(lag) * Math.sqrt(SAMPLES) < NORMAL_LIMIT, `correlation at lag 1 ${lag}`);
  });
}

for (const [name, { draw, shares }] of Object.entries(DISCRETE)) {
  test(`${name}: chi-square accepts the theoretical shares`, (t) => {
    const stream = new Streams('fit').stream(name);
    const seen = new Map<number, number>([...shares.keys()].map((value) => [value, 0]));
    for (let i = 0; i < SAMPLES; i++) {
      const value = draw(stream);
      seen.set(value, (seen.get(value) ?? NaN) + 1);
    }
    const chi = chiSquare(
      [...seen.values()],
      [...shares.values()].map((share) => share * SAMPLES),
    );
    t.true(chi < CHI_SQUARE_LIMIT[shares.size - 1]!, `chi-square ${chi}`);
  });
}

test('a wrong distribution is rejected: the tests have power', (t) => {
  const stream = new Streams('fit').stream('canary');
  const shares = Array.from({ length: SAMPLES }, () => -Math.expm1(-exponential(stream, 4.1) / 4));
  t.true(uniformChiSquare(shares) > CHI_SQUARE_LIMIT[BINS - 1]!);
  t.true(Math.sqrt(SAMPLES) * kolmogorovDistance(shares) > KOLMOGOROV_LIMIT);
});

test('neither the order in which streams are made nor the draws of others change a stream', (t) => {
  const names = ['arrivals', 'churn', 'ports', ''];
  const forward = new Streams('7');
  const backward = new Streams('7');
  const one = new Map(names.map((name) => [name, draws(forward.stream(name))]));
  for (const name of names.toReversed()) {
    draws(backward.stream(`${name} other`), 3);
    t.deepEqual(draws(backward.stream(name)), one.get(name));
  }
  const [x, y] = [new Streams('7').stream('arrivals'), new Streams('7').stream('churn')];
  const interleaved = Array.from({ length: 20 }, () => [x.uniform(), y.uniform()]);
  t.deepEqual(
    interleaved.map(([a]) => a),
    one.get('arrivals'),
  );
  t.deepEqual(
    interleaved.map(([, b]) => b),
    one.get('churn'),
  );
});

test('a sub-stream does not depend on the draws of its parent, nor the parent on its sub-streams', (t) => {
  const fresh = new Streams('7').stream('flows');
  const used = new Streams('7').stream('flows');
  const first = draws(used, 1000);
  t.deepEqual(draws(fresh.sub(7)), draws(used.sub(7)));
  t.deepEqual(draws(fresh, 1000), first);
  t.notDeepEqual(draws(fresh.sub(7)), draws(fresh.sub(8)));
  t.notDeepEqual(draws(fresh.sub(7)), draws(fresh.sub(7).sub(7)));
  t.deepEqual(draws(fresh.sub(7).sub('x')), draws(new Streams('7').stream('flows/7/x')));
});

test('1000 sub-streams are uniform and not correlated across each other, draw by draw', (t) => {
  const n = 1000;
  const limit = NORMAL_LIMIT / Math.sqrt(n);
  for (const seed of ['1', '2', '3']) {
    const parent = new Streams(seed).stream('flows');
    const table = Array.from({ length: n }, (_, i) => draws(parent.sub(i), 8));
    const column = (draw: number) => table.map((row) => row[draw]!);
    const first = column(0);
    t.true(uniformChiSquare(first) < CHI_SQUARE_LIMIT[BINS - 1]!);
    t.true(Math.sqrt(n) * kolmogorovDistance(first) < KOLMOGOROV_LIMIT);
    for (const lag of [1, 2, 10, 100]) {
      for (const draw of [0, 1]) {
        const values = column(draw);
        const r = correlation(values.slice(lag), values.slice(0, -lag)) * Math.sqrt(n - lag);
        t.true(Math.abs(r) < NORMAL_LIMIT, `seed ${seed}, draw ${draw}, lag ${lag}: z = ${r}`);
      }
    }
    for (let draw = 1; draw < 8; draw++) {
      const r = correlation(first, column(draw));
      t.true(Math.abs(r) < limit, `seed ${seed}, draws 0 and ${draw}: ${r}`);
    }
  }
});

test('neighbouring sub-streams and neighbouring seeds run independently of each other', (t) => {
  const n = 10_000;
  const limit = NORMAL_LIMIT / Math.sqrt(n);
  const parent = new Streams('7').stream('flows');
  const pairs = [
    [parent.sub(0), parent.sub(1)],
    [parent.sub(1), parent.sub(10)],
    [parent, parent.sub(0)],
    [new Streams('1').stream('flows'), new Streams('2').stream('flows')],
  ] as const;
  for (const [i, [x, y]] of pairs.entries()) {
    const r = correlation(draws(x, n), draws(y, n));
    t.true(Math.abs(r) < limit, `pair ${i}: ${r}`);
  }
});

test('every distribution draws these exact bits', (t) => {
  const bits = distributionBits();
  t.is(bits.length, 11 * DRAWS * 16);
  t.is(
    createHash('sha256').update(bits).digest('hex'),
    '56bb1885ae7955a0b8654883970ba70b2bbdbb3562845f0ecfd98b5c276d6b89',
  );
});
