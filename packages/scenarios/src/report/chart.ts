import { line } from 'd3-shape';
import { escapeXml } from './escaping.ts';
import { formatValue, type Unit } from './format.ts';

/**
 * The parts that all charts share: SVG text with axes, line styles and labels. Coordinates are pixels of the
 * viewBox, rounded to 1/100, which also hides the last bit in which engines' logarithms differ.
 */
export interface Frame {
  readonly width: number;
  readonly left: number;
  /** Right end of the plot; labels stand beyond. */
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

export interface Tick {
  readonly at: number;
  readonly text: string;
}

export type Point = readonly [number, number];

/** All charts are as wide as the page, so that text has one size. */
export const CHART_WIDTH = 860;

/** A label line's height. */
export const LINE_HEIGHT = 16;

/** Room that a text of 12 px takes, with some to spare. */
export function textWidth(text: string): number {
  return Math.ceil([...text].length * 6.7);
}

/** A whole drawing; `id` is unique on its page, `description` says in words what is to be seen. */
export function drawing(
  id: string,
  height: number,
  title: string,
  description: string,
  body: string,
): string {
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${CHART_WIDTH} ${px(height)}" role="img" ` +
    `aria-labelledby="${id}-title ${id}-desc"><title id="${id}-title">${escapeXml(title)}</title>` +
    `<desc id="${id}-desc">${escapeXml(description)}</desc>${body}</svg>`
  );
}

/** Ticks along the bottom, a label below them. */
export function bottomAxis(frame: Frame, ticks: readonly Tick[], title: string): string {
  const marks = ticks.map(({ at, text }) => {
    return (
      `<path class="axis" d="M${px(at)},${px(frame.bottom)}v5"/>` +
      `<text x="${px(at)}" y="${px(frame.bottom + 19)}" text-anchor="middle">${escapeXml(text)}</text>`
    );
  });
  const middle = (frame.left + frame.right) / 2;
  return (
    `<path class="axis" d="M${px(frame.left)},${px(frame.bottom)}H${px(frame.right)}"/>${marks.join('')}` +
    `<text class="axis-label" x="${px(middle)}" y="${px(frame.bottom + 40)}" text-anchor="middle">` +
    `${escapeXml(title)}</text>`
  );
}

/** Ticks on the left with grid lines, a label above them. */
export function leftAxis(frame: Frame, ticks: readonly Tick[], title: string): string {
  const marks = ticks.map(({ at, text }) => {
    return (
      `<path class="grid" d="M${px(frame.left)},${px(at)}H${px(frame.right)}"/>` +
      `<text x="${px(frame.left - 8)}" y="${px(at + 4)}" text-anchor="end">${escapeXml(text)}</text>`
    );
  });
  return (
    marks.join('') + `<text class="axis-label" x="0" y="${px(frame.top - 16)}">${escapeXml(title)}</text>`
  );
}

/** A line in the style of its series. */
export function polyline(series: number, points: readonly Point[]): string {
  const path = line<Point>().digits(2)(points as Point[]);
  return path === null ? '' : styledPath(series, path);
}

export function styledPath(series: number, path: string): string {
  const dash = DASHES[series % DASHES.length]!;
  return `<path class="line s${series % SERIES}"${dash === '' ? '' : ` stroke-dasharray="${dash}"`} d="${path}"/>`;
}

/** The series' own shape, centred. */
export function marker(series: number, [x, y]: Point): string {
  const shape = MARKERS[series % MARKERS.length]!;
  return `<path class="mark s${series % SERIES}" transform="translate(${px(x)},${px(y)})" d="${shape}"/>`;
}

/** A sample of line and marker with a name: nobody has to match colours to a legend. */
export function label(series: number, text: string, [x, y]: Point): string {
  const style = DASHES[series % DASHES.length]!;
  const dash = style === '' ? '' : ` stroke-dasharray="${style}"`;
  return (
    `<path class="line s${series % SERIES}"${dash} d="M${px(x)},${px(y)}h22"/>${marker(series, [x + 11, y])}` +
    `<text class="name" x="${px(x + 28)}" y="${px(y + 4)}">${escapeXml(text)}</text>`
  );
}

/** Width of a label with its sample. */
export function labelWidth(text: string): number {
  return textWidth(text) + 32;
}

/** Places near the wanted ones, in their order, at least `gap` apart and inside [low, high] as far as they fit. */
export function spread(wanted: readonly number[], gap: number, low: number, high: number): readonly number[] {
  const order = wanted.map((_, index) => index).sort((a, b) => wanted[a]! - wanted[b]! || a - b);
  const places = wanted.map(() => 0);
  let floor = low;
  for (const index of order) {
    places[index] = Math.max(wanted[index]!, floor);
    floor = places[index]! + gap;
  }
  let ceiling = high;
  for (const index of order.toReversed()) {
    places[index] = Math.min(places[index]!, ceiling);
    ceiling = places[index]! - gap;
  }
  return places;
}

/** Round places on a logarithmic axis: decades, and 2 and 5 between them where the axis is short. */
export function logTicks(low: number, high: number): readonly number[] {
  const decades: number[] = [];
  for (let exponent = -9; exponent <= 18; exponent++) decades.push(Number(`1e${exponent}`));
  const inside = (value: number): boolean => value >= low && value <= high;
  const whole = decades.filter(inside);
  if (whole.length > 8) return whole.filter((_, index) => index % 2 === 0);
  return whole.length > 3
    ? whole
    : decades.flatMap((decade) => [decade, decade * 2, decade * 5]).filter(inside);
}

/** `1 µs` where a table would have `1.00 µs`. */
export function tickText(value: number, unit: Unit): string {
  if (value === 0 && unit === 'ns') return '0';
  return formatValue(value, unit)
    .replace(/(\.\d*?)0+(?= |$)/, '$1')
    .replace(/\.(?= |$)/, '');
}

/** Long names are cut in pictures; tables have them in full. */
export function shortened(text: string): string {
  const characters = [...text];
  return characters.length <= 24 ? text : `${characters.slice(0, 23).join('')}…`;
}

/** A coordinate, at most two decimals. */
export function px(value: number): string {
  return String(Number(value.toFixed(2)));
}

/** Styles repeat after this many modes; the style sheet names as many colours. */
export const SERIES = 7;

const DASHES = ['', '8 4', '2 3', '10 3 2 3', '5 2', '14 4', '1 4'] as const;

/** Circle, square, triangle, diamond, cross, downward triangle, bar: told apart without colour. */
const MARKERS = [
  'M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0Z',
  'M-3.6,-3.6h7.2v7.2h-7.2Z',
  'M0,-4.8L4.5,3.2H-4.5Z',
  'M0,-5.2L5.2,0L0,5.2L-5.2,0Z',
  'M-1.5,-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3Z',
  'M0,4.8L4.5,-3.2H-4.5Z',
  'M-4.5,-2h9v4h-9Z',
] as const;
