import { exponential, pareto, Streams, uniform, type Stream } from '@vipsim/sim-core';

/**
 * Times between an event and its successor in the hold model: whole nanoseconds with a mean of about 1 ms, drawn
 * before anything is measured. The shapes are those of the literature on event lists (Jones 1986, Rönngren and
 * Ayani 1997) and two that packet simulations make: timer ticks, and many events of one instant.
 */
const MEAN_NS = 1_000_000;

/** Increments that are drawn; they repeat after that many. A power of two. */
export const INCREMENTS = 1 << 20;

const SHAPES = {
  exponential: (stream: Stream) => exponential(stream, MEAN_NS),
  constant: () => MEAN_NS,
  uniform: (stream: Stream) => uniform(stream, 0, 2 * MEAN_NS),
  /** Nine in ten up to 0.2 ms, one in ten around 9.1 ms. */
  bimodal: (stream: Stream) =>
    stream.uniform() < 0.9 ? uniform(stream, 0, 0.2 * MEAN_NS) : uniform(stream, 9, 9.2) * MEAN_NS,
  /** Two humps of 1 µs hold 99.9 % of all; the rest lies anywhere between 0 and 2 ms. */
  camel: (stream: Stream) => {
    const which = stream.uniform();
    if (which < 0.001) return uniform(stream, 0, 2 * MEAN_NS);
    return (which < 0.5005 ? 0.5 : 1.5) * MEAN_NS + uniform(stream, 0, 1000);
  },
  /** Infinite variance: a few events lie very far ahead. */
  pareto: (stream: Stream) => Math.min(pareto(stream, MEAN_NS / 3, 1.5), 1e12),
  /** Exponential, rounded up to ticks of 0.1 ms. */
  quantised: (stream: Stream) => Math.ceil(exponential(stream, MEAN_NS) / 100_000) * 100_000,
  /** Zero: every event at one instant, for ever. */
  'all-equal': () => 0,
};

export type Shape = keyof typeof SHAPES;

export const SHAPE_NAMES = Object.keys(SHAPES) as readonly Shape[];

/**
 * The numbers of one hold run: the time of each pending event at the start (part of an increment, as if the run had
 * gone on for long), and the increments.
 */
export function holdColumns(
  shape: Shape,
  pending: number,
  increments = INCREMENTS,
): [times: Float64Array, increments: Float64Array] {
  const streams = new Streams('bench');
  const starts = streams.stream(`start/${shape}`);
  const steps = streams.stream(`step/${shape}`);
  const draw = SHAPES[shape];
  // Ticks stay ticks: only what is continuous starts anywhere.
  const part = shape === 'quantised' ? () => 1 : () => starts.uniform();
  return [
    Float64Array.from({ length: pending }, () => Math.floor(draw(starts) * part())),
    Float64Array.from({ length: increments }, () => Math.floor(draw(steps))),
  ];
}

/** Whole exponential times of the given mean, ns. */
export function exponentialColumn(name: string, meanNs: number, length: number): Float64Array {
  const stream = new Streams('bench').stream(name);
  return Float64Array.from({ length }, () => Math.floor(exponential(stream, meanNs)));
}
