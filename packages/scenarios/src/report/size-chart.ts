import { scaleLog, scalePoint } from 'd3-scale';
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
  polyline,
  px,
  shortened,
  spread,
  textWidth,
  tickText,
  type Frame,
  type Point,
  type Tick,
} from './chart.ts';
import { escapeXml } from './escaping.ts';
import { formatCount, formatValue, type Unit } from './format.ts';
import type { ModeResult, ResultDocument } from './result.ts';
import { modeLabels } from './summary.ts';

export interface SizeChart {
  readonly id: string;
  readonly title: string;
  readonly axis: string;
  readonly unit: Unit;
  readonly of: (mode: ModeResult) => number | undefined;
}

interface Series {
  readonly index: number;
  readonly name: string;
  /** [index of the size, figure]; zero and missing figures have no place on a logarithmic axis. */
  readonly values: readonly (readonly [number, number])[];
  /** Indexes of the sizes at which the mode failed, with the error. */
  readonly failures: readonly (readonly [number, string])[];
}

/**
 * A figure of each mode over the size of the cluster, both axes logarithmic; empty text when no mode has the
 * figure at two sizes. Failures are named above the size at which they happen.
 */
export function sizeChart(result: ResultDocument, chart: SizeChart): string {
  const series = seriesOf(result, chart);
  const values = series.flatMap((each) => each.values.map(([, value]) => value));
  if (!series.some((each) => each.values.length > 1)) return '';
  const names = series.map((each) => endText(each, chart.unit));
  const failures = series.flatMap(({ failures: failed, name }) => {
    return failed.map(([size, error]) => ({ size, text: `${name}: ${shortened(error)} ✕` }));
  });
  const top = 40 + failures.length * LINE_HEIGHT;
  const frame: Frame = {
    width: CHART_WIDTH,
    left: 64,
    right: CHART_WIDTH - Math.max(...names.map(labelWidth)) - 24,
    top,
    bottom: top + Math.max(230, names.length * LINE_HEIGHT),
  };
  const x = sizePlaces(result, frame);
  const y = scaleLog(
    [Math.min(...values) * 0.999, Math.max(...values) * 1.001],
    [frame.bottom, frame.top],
  ).nice();
  const [low, high] = y.domain() as [number, number];
  const yTicks = logTicks(low * 0.999, high * 1.001).map((value): Tick => {
    return { at: y(value), text: tickText(value, chart.unit) };
  });
  const body = [
    leftAxis(frame, yTicks, chart.axis),
    bottomAxis(frame, sizeTicks(result, x), x.label),
    ...failures.map(({ size, text }, row) => {
      const lowest = failures.findLastIndex((failure) => failure.size === size) === row;
      return failureMark(text, x.at[size]!, row, lowest ? frame.bottom : undefined);
    }),
    ...lines(series, x.at, (value) => y(value), names, frame),
  ];
  return drawing(chart.id, frame.bottom + 48, chart.title, describe(series, chart), body.join(''));
}

function seriesOf(result: ResultDocument, chart: SizeChart): readonly Series[] {
  const labels = result.sizes.map((size) => modeLabels(result, size));
  return [...new Set(labels.flat())].map((name, index) => {
    const values: [number, number][] = [];
    const failures: [number, string][] = [];
    for (const [at, size] of result.sizes.entries()) {
      const mode = size.modes[labels[at]!.indexOf(name)];
      if (mode?.outcome.kind === 'failed') failures.push([at, mode.outcome.error]);
      const value = mode?.outcome.kind === 'ok' ? chart.of(mode) : undefined;
      if (value !== undefined && value > 0 && Number.isFinite(value)) values.push([at, value]);
    }
    return { index, name: shortened(name), values, failures };
  });
}

interface Places {
  readonly at: readonly number[];
  readonly label: string;
}

/** By endpoints on a logarithmic axis; sizes that endpoints do not tell apart stand side by side. */
function sizePlaces(result: ResultDocument, frame: Frame): Places {
  const range: [number, number] = [frame.left + 16, frame.right - 16];
  const endpoints = result.sizes.map((size) => size.endpoints);
  const distinct = new Set(endpoints).size === endpoints.length && Math.min(...endpoints) > 0;
  if (distinct) {
    const scale = scaleLog([Math.min(...endpoints), Math.max(...endpoints)], range);
    return { at: endpoints.map((count) => scale(count)), label: 'endpoints in the cluster (logarithmic)' };
  }
  const scale = scalePoint<number>([...endpoints.keys()], range);
  return { at: endpoints.map((_, index) => scale(index) ?? frame.left), label: 'size' };
}

/** Each size is named on the axis, unless its name would touch the one before. */
function sizeTicks(result: ResultDocument, x: Places): readonly Tick[] {
  const ticks = result.sizes.map((size, index): Tick => {
    const text = x.label === 'size' ? shortened(size.label) : formatCount(size.endpoints);
    return { at: x.at[index]!, text };
  });
  let end = -Infinity;
  return ticks
    .toSorted((a, b) => a.at - b.at)
    .map((tick) => {
      const half = textWidth(tick.text) / 2 + 4;
      if (tick.at - half < end) return { ...tick, text: '' };
      end = tick.at + half;
      return tick;
    });
}

function lines(
  series: readonly Series[],
  x: readonly number[],
  y: (value: number) => number,
  names: readonly string[],
  frame: Frame,
): readonly string[] {
  const drawn = series.filter((each) => each.values.length > 0);
  const points = drawn.map((each) => {
    const line = each.values.map(([size, value]): Point => [x[size]!, y(value)]);
    return line.sort(([a], [b]) => a - b);
  });
  const ends = points.map((line) => line.at(-1)!);
  const places = spread(
    ends.map(([, at]) => at),
    LINE_HEIGHT,
    frame.top,
    frame.bottom,
  );
  return drawn.map(({ index }, at) => {
    const [endX, endY] = ends[at]!;
    const place = places[at]!;
    const leader = `<path class="leader" d="M${px(endX)},${px(endY)}L${px(frame.right + 12)},${px(place)}"/>`;
    const marks = points[at]!.map((point) => marker(index, point));
    return `${leader}${polyline(index, points[at]!)}${marks.join('')}${label(index, names[index]!, [frame.right + 14, place])}`;
  });
}

/** The lowest of the names above a size carries the pole down to it. */
function failureMark(text: string, x: number, row: number, foot: number | undefined): string {
  const y = 12 + row * LINE_HEIGHT;
  const pole = foot === undefined ? '' : `<path class="leader" d="M${px(x)},${px(y + 4)}V${px(foot)}"/>`;
  return `${pole}<text class="failure" x="${px(x + 5)}" y="${px(y)}" text-anchor="end">${escapeXml(text)}</text>`;
}

function endText(series: Series, unit: Unit): string {
  const last = series.values.at(-1);
  return last === undefined ? series.name : `${series.name} ${formatValue(last[1], unit)}`;
}

function describe(series: readonly Series[], chart: SizeChart): string {
  const parts = series.map(({ name, values }) => {
    return `${name}: ${values.map(([, value]) => formatValue(value, chart.unit)).join(', ')}`;
  });
  return `By rising size of the cluster. ${parts.join('; ')}.`;
}
