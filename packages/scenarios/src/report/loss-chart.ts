import { scaleLinear } from 'd3-scale';
import {
  bottomAxis,
  CHART_WIDTH,
  drawing,
  px,
  SERIES,
  shortened,
  textWidth,
  tickText,
  type Frame,
  type Tick,
} from './chart.ts';
import { escapeXml } from './escaping.ts';
import { formatCount, formatNs, formatValue } from './format.ts';
import type { ModeResult, ResultDocument, SizeResult } from './result.ts';
import { modeLabels } from './summary.ts';

interface Strip {
  readonly index: number;
  readonly name: string;
  readonly failed: number;
  /** Failed connections per second, by bin. */
  readonly rates: readonly number[];
}

const STRIP_HEIGHT = 46;
const STRIP_GAP = 18;
/** More columns than this could not be seen: longer runs are averaged over several seconds. */
const BINS_MAX = 240;
const SECOND = 1_000_000_000;

/** Whether any mode of the size that works has a timeline with failures. */
export function hasLosses(size: SizeResult): boolean {
  return size.modes.some((mode) => mode.outcome.kind === 'ok' && mode.timeline.some((row) => row.failed > 0));
}

/**
 * Failed connections per second over the run, a strip for each mode on one scale, with the seconds in which
 * endpoints changed as shaded bands and their number below; empty text without a timeline.
 */
export function lossChart(result: ResultDocument, size: SizeResult, id: string, title: string): string {
  const labels = modeLabels(result, size);
  const working = size.modes
    .map((mode, index) => ({ mode, index }))
    .filter(({ mode }) => mode.outcome.kind === 'ok' && mode.timeline.length > 0);
  if (working.length === 0) return '';
  const seconds = Math.max(...working.map(({ mode }) => mode.timeline.length));
  const perBin = Math.ceil(seconds / BINS_MAX);
  const strips = working.map(({ mode, index }): Strip => {
    const failed = mode.timeline.reduce((sum, row) => sum + row.failed, 0);
    const name = `${shortened(labels[index]!)}, ${formatCount(failed)} failed`;
    return { index, name, failed, rates: binned(mode, perBin, (row) => row.failed) };
  });
  const changes = binned(working[0]!.mode, perBin, (row) => row.endpointChanges);
  const top = 34;
  const bottom = top + (strips.length + 1) * (STRIP_HEIGHT + STRIP_GAP) - STRIP_GAP;
  const right = CHART_WIDTH - Math.max(...strips.map(({ name }) => textWidth(name)), 130) - 24;
  const frame: Frame = { width: CHART_WIDTH, left: 64, right, top, bottom };
  const x = scaleLinear([0, Math.ceil(seconds / perBin) * perBin], [frame.left, frame.right]);
  const bin = x(perBin) - x(0);
  const ticks = x.ticks(8).map((second): Tick => ({ at: x(second), text: tickText(second * SECOND, 'ns') }));
  const peak = Math.max(...strips.flatMap(({ rates }) => rates), 0) || 1;
  const body = [
    `<text class="axis-label" x="0" y="14">failed connections per second</text>`,
    ...changes.map((rate, at) => (rate > 0 ? band(x(at * perBin), bin, frame) : '')),
    ...strips.map((strip, row) => {
      return stripOf(strip.rates, `column s${strip.index % SERIES}`, strip.name, peak, row, bin, frame);
    }),
    stripOf(
      changes,
      'column quiet',
      'endpoint changes',
      Math.max(...changes, 0) || 1,
      strips.length,
      bin,
      frame,
    ),
    bottomAxis(frame, ticks, perBin === 1 ? 'time' : `time, averaged over ${formatCount(perBin)} s`),
  ];
  const description = strips.map(({ name }) => name).join('; ');
  return drawing(
    id,
    bottom + 48,
    title,
    `Over ${formatNs(seconds * SECOND)}: ${description}.`,
    body.join(''),
  );
}

/** Columns of one strip as a single shape, the scale's top at its left, its name at its right. */
function stripOf(
  rates: readonly number[],
  style: string,
  name: string,
  peak: number,
  row: number,
  bin: number,
  frame: Frame,
): string {
  const base = frame.top + row * (STRIP_HEIGHT + STRIP_GAP) + STRIP_HEIGHT;
  const width = Math.max(bin * 0.8, 0.6);
  const columns = rates.map((rate, at) => {
    if (!(rate > 0)) return '';
    const height = Math.max((rate / peak) * STRIP_HEIGHT, 1);
    const left = frame.left + at * bin + (bin - width) / 2;
    return `M${px(left)},${px(base)}v${px(-height)}h${px(width)}v${px(height)}Z`;
  });
  return (
    `<path class="grid" d="M${px(frame.left)},${px(base - STRIP_HEIGHT)}H${px(frame.right)}"/>` +
    `<path class="axis" d="M${px(frame.left)},${px(base)}H${px(frame.right)}"/>` +
    `<text x="${px(frame.left - 8)}" y="${px(base - STRIP_HEIGHT + 4)}" text-anchor="end">` +
    `${escapeXml(formatValue(peak, 'count'))}</text>` +
    `<text x="${px(frame.left - 8)}" y="${px(base + 4)}" text-anchor="end">0</text>` +
    `<path class="${style}" d="${columns.join('') || 'M0,0'}"/>` +
    `<text class="name" x="${px(frame.right + 14)}" y="${px(base - STRIP_HEIGHT / 2 + 4)}">${escapeXml(name)}</text>`
  );
}

function band(left: number, width: number, frame: Frame): string {
  const height = frame.bottom - frame.top - STRIP_HEIGHT - STRIP_GAP;
  return `<rect class="band" x="${px(left)}" y="${px(frame.top)}" width="${px(width)}" height="${px(height)}"/>`;
}

/** Means per second over `perBin` rows each. */
function binned(
  mode: ModeResult,
  perBin: number,
  of: (row: ModeResult['timeline'][number]) => number,
): readonly number[] {
  const bins: number[] = [];
  for (let at = 0; at < mode.timeline.length; at += perBin) {
    const rows = mode.timeline.slice(at, at + perBin);
    bins.push(rows.reduce((sum, row) => sum + of(row), 0) / rows.length);
  }
  return bins;
}
