import { scaleLinear, scaleLog } from 'd3-scale';
import { curveStepAfter, line } from 'd3-shape';
import {
  bottomAxis,
  CHART_WIDTH,
  drawing,
  label,
  labelWidth,
  leftAxis,
  LINE_HEIGHT,
  logTicks,
  marker,
  px,
  shortened,
  styledPath,
  tickText,
  type Frame,
  type Point,
  type Tick,
} from './chart.ts';
import { formatNs } from './format.ts';
import type { Distribution, ModeResult, ResultDocument, SizeResult } from './result.ts';
import { modeLabels } from './summary.ts';

export interface DistributionChart {
  readonly id: string;
  readonly title: string;
  readonly axis: string;
  readonly of: (mode: ModeResult) => Distribution;
}

interface Series {
  readonly index: number;
  readonly name: string;
  readonly distribution: Distribution;
}

/** Quantiles that carry a marker. */
const MARKED: readonly (readonly [number, 'p50' | 'p90' | 'p99'])[] = [
  [0.5, 'p50'],
  [0.9, 'p90'],
  [0.99, 'p99'],
];

/**
 * The share of samples at or below each value, for each mode of one size; empty text when no mode has samples.
 * Curves all end at 100 %, so names stand above the plot, one line each, on a pole at the curve's end.
 */
export function distributionChart(
  result: ResultDocument,
  size: SizeResult,
  chart: DistributionChart,
): string {
  const labels = modeLabels(result, size);
  const series = size.modes
    .map((mode, index): Series & { mode: ModeResult } => {
      return { index, name: shortened(labels[index]!), distribution: chart.of(mode), mode };
    })
    .filter(({ mode, distribution }) => {
      return mode.outcome.kind === 'ok' && distribution.count > 0 && distribution.buckets.length > 0;
    });
  if (series.length === 0) return '';
  const texts = series.map(({ name, distribution }) => `${name}, p99 ${formatNs(distribution.p99)}`);
  const top = 44 + series.length * LINE_HEIGHT;
  const frame: Frame = {
    width: CHART_WIDTH,
    left: 64,
    right: CHART_WIDTH - Math.max(...texts.map(labelWidth)) - 12,
    top,
    bottom: top + 240,
  };
  const ends = series.flatMap(({ distribution: { buckets } }) => [buckets[0]![0], buckets.at(-1)![0]]);
  const low = atLeastOne(Math.min(...ends));
  const high = atLeastOne(Math.max(...ends));
  const x = scaleLog([low, Math.max(high, low * 1.01)], [frame.left, frame.right]).nice();
  const y = scaleLinear([0, 1], [frame.bottom, frame.top]);
  const [from, to] = x.domain() as [number, number];
  const xTicks = logTicks(from * 0.999, to * 1.001).map((value): Tick => {
    return { at: x(value), text: tickText(value, 'ns') };
  });
  const yTicks = [0, 0.25, 0.5, 0.75, 1].map((share): Tick => ({
    at: y(share),
    text: tickText(share, 'share'),
  }));
  const place = (ns: number, share: number): Point => [x(atLeastOne(ns)), y(share)];
  const body = [
    leftAxis({ ...frame, top: frame.top - series.length * LINE_HEIGHT - 8 }, yTicks, 'share at or below'),
    bottomAxis(frame, xTicks, chart.axis),
    ...series.map((each) => curve(each, place)),
    ...names(series, texts, place, frame),
  ];
  const description = series.map(({ name, distribution: { p50, p99, max } }) => {
    return `${name}: half within ${formatNs(p50)}, 99 % within ${formatNs(p99)}, all within ${formatNs(max)}`;
  });
  return drawing(chart.id, frame.bottom + 48, chart.title, `${description.join('; ')}.`, body.join(''));
}

function curve({ index, distribution }: Series, place: (ns: number, share: number) => Point): string {
  const path = line<Point>().digits(2).curve(curveStepAfter)(steps(distribution, place));
  const marks = MARKED.map(([share, figure]) => marker(index, place(distribution[figure], share)));
  return `${path === null ? '' : styledPath(index, path)}${marks.join('')}`;
}

/** Buckets that would move the pen by less than half a pixel are left to the next one. */
function steps(distribution: Distribution, place: (ns: number, share: number) => Point): Point[] {
  const total = distribution.buckets.reduce((sum, [, count]) => sum + count, 0);
  const points: Point[] = [place(distribution.buckets[0]![0], 0)];
  let seen = 0;
  for (const [at, [value, count]] of distribution.buckets.entries()) {
    seen += count;
    const point = place(value, total === 0 ? 0 : seen / total);
    const [lastX, lastY] = points.at(-1)!;
    const last = at === distribution.buckets.length - 1;
    if (last || Math.abs(point[0] - lastX) + Math.abs(point[1] - lastY) >= 0.5) points.push(point);
  }
  return points;
}

/** The earlier a curve ends, the higher its name: then no pole meets another name. */
function names(
  series: readonly Series[],
  texts: readonly string[],
  place: (ns: number, share: number) => Point,
  frame: Frame,
): readonly string[] {
  const ends = series.map(({ distribution }, at) => {
    return { at, point: place(distribution.buckets.at(-1)![0], 1) };
  });
  const ranked = ends.sort((a, b) => a.point[0] - b.point[0] || a.at - b.at);
  return ranked.map(({ at, point: [endX, endY] }, row) => {
    const y = frame.top - 10 - (ranked.length - 1 - row) * LINE_HEIGHT;
    return (
      `<path class="leader" d="M${px(endX)},${px(endY)}V${px(y)}h4"/>` +
      label(series[at]!.index, texts[at]!, [endX + 6, y])
    );
  });
}

/** A logarithmic axis has no zero: what took no measurable time stands at 1 ns. */
function atLeastOne(ns: number): number {
  return Math.max(1, ns);
}
