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
} from './chart.ts';
import { escapeXml } from './escaping.ts';
import { formatNs } from './format.ts';
import type { Distribution, ResultDocument, SizeResult } from './result.ts';
import { modeLabels } from './summary.ts';

const BAR_HEIGHT = 16;
const ROW_HEIGHT = 54;

/**
 * Mean cost of a first and of an established packet as bars from zero, a pair for each mode: the picture of a
 * single size. Empty text when no mode has samples.
 */
export function costChart(result: ResultDocument, size: SizeResult, id: string, title: string): string {
  const labels = modeLabels(result, size);
  const rows = size.modes.flatMap((mode, index) => {
    if (mode.outcome.kind === 'failed' || mode.lookup.first.count + mode.lookup.established.count === 0)
      return [];
    return [{ index, name: shortened(labels[index]!), lookup: mode.lookup }];
  });
  if (rows.length === 0) return '';
  const bars = rows.flatMap(({ index, lookup }, row) => [
    { row, offset: 0, style: `column s${index % SERIES}`, text: 'first', distribution: lookup.first },
    {
      row,
      offset: BAR_HEIGHT + 4,
      style: `outline s${index % SERIES}`,
      text: 'established',
      distribution: lookup.established,
    },
  ]);
  const means = bars.map(({ distribution }) => distribution.mean);
  const frame: Frame = {
    width: CHART_WIDTH,
    left: Math.max(...rows.map(({ name }) => textWidth(name))) + 16,
    right: CHART_WIDTH - 150,
    top: 8,
    bottom: 8 + rows.length * ROW_HEIGHT,
  };
  const x = scaleLinear([0, Math.max(...means, 1)], [frame.left, frame.right]).nice();
  const ticks = x.ticks(6).map((ns) => ({ at: x(ns), text: tickText(ns, 'ns') }));
  const body = [
    ...ticks.map(({ at }) => `<path class="grid" d="M${px(at)},${px(frame.top)}V${px(frame.bottom)}"/>`),
    bottomAxis(frame, ticks, 'mean dataplane work of a packet'),
    ...rows.map(({ name }, row) => {
      const y = frame.top + row * ROW_HEIGHT + BAR_HEIGHT + 14;
      return `<text class="name" x="${px(frame.left - 10)}" y="${px(y)}" text-anchor="end">${escapeXml(name)}</text>`;
    }),
    ...bars.map(({ row, offset, style, text, distribution }) => {
      const y = frame.top + row * ROW_HEIGHT + 8 + offset;
      return bar(distribution, style, text, y, (ns) => x(ns), frame);
    }),
  ];
  const description = rows.map(({ name, lookup }) => {
    return `${name}: first ${formatNs(lookup.first.mean)}, established ${formatNs(lookup.established.mean)}`;
  });
  return drawing(id, frame.bottom + 48, title, `${description.join('; ')}.`, body.join(''));
}

function bar(
  distribution: Distribution,
  style: string,
  text: string,
  y: number,
  x: (ns: number) => number,
  frame: Frame,
): string {
  const end = distribution.count === 0 ? frame.left : x(distribution.mean);
  const figure = distribution.count === 0 ? `${text}: none` : `${text} ${formatNs(distribution.mean)}`;
  return (
    `<rect class="${style}" x="${px(frame.left)}" y="${px(y)}" width="${px(end - frame.left)}" height="${BAR_HEIGHT}"/>` +
    `<text x="${px(end + 6)}" y="${px(y + 12)}">${escapeXml(figure)}</text>`
  );
}
