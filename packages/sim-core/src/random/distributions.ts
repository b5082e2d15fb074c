import { exp, ln } from './portable.ts';
import type { Stream } from './streams.ts';

/**
 * Distributions by inversion, one draw a sample, from portable functions: the same sample on every engine.
 */

/** Uniform on [low, high). */
export function uniform(stream: Stream, low: number, high: number): number {
  return low + (high - low) * stream.uniform();
}

/** Exponential with the given mean: −mean · ln(1 − u). */
export function exponential(stream: Stream, mean: number): number {
  return -mean * ln(1 - stream.uniform());
}

/** Normal, by Wichura's AS241 (PPND16): relative accuracy about 1e-16. */
export function normal(stream: Stream, mean: number, deviation: number): number {
  let u = stream.uniform();
  while (u === 0) u = stream.uniform();
  return mean + deviation * standardNormalQuantile(u);
}

/** Lognormal with the given median; sigma is the standard deviation of its logarithm. Mean = median · e^(σ²/2). */
export function lognormal(stream: Stream, median: number, sigma: number): number {
  return median * exp(normal(stream, 0, sigma));
}

/** Pareto from `scale` upwards; finite mean scale · shape / (shape − 1) for shape > 1. */
export function pareto(stream: Stream, scale: number, shape: number): number {
  return scale * exp(-ln(1 - stream.uniform()) / shape);
}

/**
 * Index 0 … n−1 drawn with given weights in constant time: Walker's alias method in Vose's form. Zipf and
 * empirical distributions are its two common uses.
 */
export class Discrete {
  readonly #keep: Float64Array;
  readonly #alias: Uint32Array;

  /** @throws RangeError unless there is a weight, all are finite and none negative, and their sum is positive. */
  constructor(weights: ArrayLike<number>) {
    const n = weights.length;
    let sum = 0;
    for (let i = 0; i < n; i++) {
      const weight = weights[i]!;
      if (!(weight >= 0) || weight === Infinity) throw new RangeError(`weight ${i} is ${weight}`);
      sum += weight;
    }
    if (!(sum > 0) || sum === Infinity) throw new RangeError(`the weights sum to ${sum}`);
    this.#keep = new Float64Array(n);
    this.#alias = new Uint32Array(n);
    const small: number[] = [];
    const large: number[] = [];
    for (let i = 0; i < n; i++) {
      this.#keep[i] = (weights[i]! * n) / sum;
      this.#alias[i] = i;
      (this.#keep[i]! < 1 ? small : large).push(i);
    }
    while (small.length > 0 && large.length > 0) {
      const low = small.pop()!;
      const high = large.at(-1)!;
      this.#alias[low] = high;
      this.#keep[high]! -= 1 - this.#keep[low]!;
      if (this.#keep[high]! < 1) small.push(large.pop()!);
    }
    for (const rest of [small, large]) for (const i of rest) this.#keep[i] = 1;
  }

  get size(): number {
    return this.#keep.length;
  }

  sample(stream: Stream): number {
    const scaled = stream.uniform() * this.#keep.length;
    const column = Math.floor(scaled);
    return scaled - column < this.#keep[column]! ? column : this.#alias[column]!;
  }
}

/** Zipf over n ranks: rank r (from 0) with weight (r + 1)^−exponent. Exponent 0 is uniform. */
export function zipf(n: number, exponent: number): Discrete {
  const weights = new Float64Array(n);
  for (let rank = 0; rank < n; rank++) weights[rank] = exp(-exponent * ln(rank + 1));
  return new Discrete(weights);
}

/** Values observed with given frequencies. */
export class Empirical {
  readonly #values: readonly number[];
  readonly #index: Discrete;

  constructor(values: readonly number[], frequencies: readonly number[]) {
    if (values.length !== frequencies.length) {
      throw new RangeError(`${values.length} values but ${frequencies.length} frequencies`);
    }
    this.#values = values;
    this.#index = new Discrete(frequencies);
  }

  sample(stream: Stream): number {
    return this.#values[this.#index.sample(stream)]!;
  }
}

const CENTRAL_P = [
  3.3871328727963665, 133.14166789178438, 1971.5909503065513, 13731.69376550946, 45921.95393154987,
  67265.7709270087, 33430.57558358813, 2509.0809287301227,
];
const CENTRAL_Q = [
  1, 42.31333070160091, 687.1870074920579, 5394.196021424751, 21213.794301586597, 39307.89580009271,
  28729.085735721943, 5226.495278852854,
];
const MIDDLE_P = [
  1.4234371107496835, 4.630337846156546, 5.769497221460691, 3.6478483247632045, 1.2704582524523684,
  0.2417807251774506, 0.022723844989269184, 0.0007745450142783414,
];
const MIDDLE_Q = [
  1, 2.053191626637759, 1.6763848301838038, 0.6897673349851, 0.14810397642748008, 0.015198666563616457,
  0.0005475938084995345, 1.0507500716444169e-9,
];
const FAR_P = [
  6.657904643501103, 5.463784911164114, 1.7848265399172913, 0.29656057182850487, 0.026532189526576124,
  0.0012426609473880784, 0.000027115555687434876, 2.0103343992922881e-7,
];
const FAR_Q = [
  1, 0.599832206555888, 0.1369298809227358, 0.014875361290850615, 0.0007868691311456133,
  0.000018463183175100548, 1.421511758316446e-7, 2.0442631033899397e-15,
];

/** The value below which a standard normal falls with probability p, 0 < p < 1 (Wichura 1988, AS241 PPND16). */
export function standardNormalQuantile(p: number): number {
  const q = p - 0.5;
  if (Math.abs(q) <= 0.425) {
    const r = 0.180625 - q * q;
    return (q * polynomial(CENTRAL_P, r)) / polynomial(CENTRAL_Q, r);
  }
  const tail = Math.sqrt(-ln(q < 0 ? p : 1 - p));
  const r = tail - (tail <= 5 ? 1.6 : 5);
  const value =
    tail <= 5
      ? polynomial(MIDDLE_P, r) / polynomial(MIDDLE_Q, r)
      : polynomial(FAR_P, r) / polynomial(FAR_Q, r);
  return q < 0 ? -value : value;
}

function polynomial(coefficients: readonly number[], x: number): number {
  let sum = 0;
  for (let i = coefficients.length - 1; i >= 0; i--) sum = sum * x + coefficients[i]!;
  return sum;
}
