import picocolors from 'picocolors';
import { escapeTerminal } from './escaping.ts';
import { formatCount } from './format.ts';
import { headlineOf } from './headline.ts';
import { metricsOf, type Metric } from './metrics.ts';
import type { ResultDocument, SizeResult } from './result.ts';
import {
  growthOf,
  modeLabels,
  outcomeText,
  remarksOf,
  sizeText,
  summarise,
  type Cell,
  type GrowthRow,
} from './summary.ts';

export interface TableOptions {
  readonly colour: boolean;
  /** Columns of the terminal; modes that do not fit beside each other go below, and text is wrapped. */
  readonly width: number;
}

type Colours = ReturnType<typeof picocolors.createColors>;

interface Pen {
  readonly colours: Colours;
  readonly width: number;
}

/** The comparison for a terminal. Names that carry control characters are shown with escapes, never obeyed. */
export function renderTable(result: ResultDocument, options: TableOptions): string {
  const pen: Pen = { colours: picocolors.createColors(options.colour), width: Math.max(40, options.width) };
  const metrics = metricsOf(result);
  const lines = [
    ...head(result, pen),
    ...result.sizes.flatMap((size) => ['', ...sizeBlock(result, size, metrics, pen)]),
    ...growthBlock(growthOf(result, metrics), result, pen),
    ...foot(result, pen),
  ];
  return `${lines.join('\n')}\n`;
}

function head(result: ResultDocument, { colours, width }: Pen): readonly string[] {
  const sentences = headlineOf(result).flatMap(({ kind, text }) => {
    const wrapped = wrap(escapeTerminal(text), width);
    return kind === 'failure' ? wrapped.map((line) => colours.red(line)) : wrapped;
  });
  const titles = modeTitles(result);
  return [
    ...wrap(escapeTerminal(result.title), width).map((line) => colours.bold(line)),
    ...(titles === '' ? [] : wrap(escapeTerminal(titles), width).map((line) => colours.dim(line))),
    '',
    ...sentences,
  ];
}

/** What the columns' short names stand for, where they are not the title itself. */
function modeTitles(result: ResultDocument): string {
  const titles = result.sizes.flatMap((size) => {
    const labels = modeLabels(result, size);
    return size.modes.map((mode, index) =>
      labels[index] === mode.title ? '' : `${labels[index]!}: ${mode.title}`,
    );
  });
  return [...new Set(titles)].filter((title) => title !== '').join('; ');
}

/** The modes side by side; as many columns at a time as the terminal holds. */
function sizeBlock(
  result: ResultDocument,
  size: SizeResult,
  metrics: readonly Metric[],
  pen: Pen,
): readonly string[] {
  const { colours, width } = pen;
  const summary = summarise(result, size, metrics);
  const columns = size.modes.map((mode, index) => {
    const cells = summary.groups.flatMap((group) => group.rows.map((row) => row.cells[index]!.text));
    const texts = [escapeTerminal(summary.columns[index]!), escapeTerminal(outcomeText(mode)), ...cells];
    return Math.max(...texts.map(lengthOf)) + 1;
  });
  const labels = summary.groups.flatMap((group) =>
    group.rows.map((row) => lengthOf(escapeTerminal(row.label)) + 2),
  );
  const labelWidth = Math.min(Math.max(...labels, 8), Math.floor(width / 2));
  const lines = wrap(`${escapeTerminal(size.label)}: ${sizeText(size)}`, width).map((line) =>
    colours.bold(line),
  );
  for (const part of partsOf(columns, width - labelWidth)) {
    const row = (label: string, cell: (index: number) => string): string => {
      return `${padEnd(label, labelWidth)}${part.map(cell).join('')}`.trimEnd();
    };
    const plain = (text: string, index: number): string => `${padStart(text, columns[index]! + 1)} `;
    lines.push(row('', (index) => colours.bold(plain(escapeTerminal(summary.columns[index]!), index))));
    lines.push(
      row('Outcome', (index) => {
        const mode = size.modes[index]!;
        const text = plain(escapeTerminal(outcomeText(mode)), index);
        return mode.outcome.kind === 'ok' ? text : colours.red(colours.bold(text));
      }),
    );
    for (const group of summary.groups) {
      lines.push(colours.bold(escapeTerminal(group.name)));
      for (const { label, cells } of group.rows) {
        lines.push(
          row(`  ${escapeTerminal(label)}`, (index) => cellText(cells[index]!, columns[index]!, colours)),
        );
      }
    }
  }
  return [...lines, ...remarks(result, size, pen)];
}

/** The mark stands after the figure, so that digits stay aligned. */
function cellText(cell: Cell, width: number, colours: Colours): string {
  const text = `${padStart(cell.text, width + 1)}${cell.best ? '*' : ' '}`;
  if (cell.best) return colours.bold(colours.green(text));
  return cell.failed ? colours.dim(text) : text;
}

function remarks(result: ResultDocument, size: SizeResult, { colours, width }: Pen): readonly string[] {
  return remarksOf(result, size).flatMap(({ about, error, text }) => {
    if (error !== '') {
      const failure = wrap(escapeTerminal(`${about} failed, ${error}: ${text}`), width);
      return failure.map((line) => colours.red(line));
    }
    return wrap(escapeTerminal(about === '' ? text : `${about}: ${text}`), width);
  });
}

function growthBlock(rows: readonly GrowthRow[], result: ResultDocument, pen: Pen): readonly string[] {
  if (rows.length === 0) return [];
  const { colours, width } = pen;
  const modeWidth = Math.max(...rows.map((row) => lengthOf(escapeTerminal(row.mode)))) + 2;
  const columns = result.sizes.map((size, index) => {
    const texts = [escapeTerminal(size.label), ...rows.map((row) => stepText(row, index))];
    return Math.max(...texts.map(lengthOf)) + 2;
  });
  const lines = ['', colours.bold('Growth: each size, and how many times the size before it')];
  for (const part of partsOf(columns, width - modeWidth - 2)) {
    const cells = (text: (index: number) => string): string => {
      return part.map((index) => padStart(text(index), columns[index]!)).join('');
    };
    lines.push(`${' '.repeat(modeWidth + 2)}${cells((index) => escapeTerminal(result.sizes[index]!.label))}`);
    let metric = '';
    for (const row of rows) {
      if (row.metric !== metric) lines.push(colours.bold(escapeTerminal(row.metric)));
      metric = row.metric;
      lines.push(
        `  ${padEnd(escapeTerminal(row.mode), modeWidth)}${cells((index) => stepText(row, index))}`.trimEnd(),
      );
    }
  }
  return lines;
}

/** The factor is padded so that the figures before it stay aligned. */
function stepText(row: GrowthRow, index: number): string {
  const { text, factor } = row.steps[index]!;
  return index === 0 ? text : `${text} ${padStart(factor, 6)}`;
}

function foot(result: ResultDocument, { colours, width }: Pen): readonly string[] {
  const { profile } = result;
  const kinds = (['measured', 'published', 'estimate'] as const).map((kind) => {
    return `${formatCount(profile.prices.filter((price) => price.kind === kind).length)} ${kind}`;
  });
  const failed = result.sizes.some((size) => size.modes.some((mode) => mode.outcome.kind === 'failed'));
  const legend = failed
    ? '* best of its row; (in parentheses) a node without the tables that could not be programmed.'
    : '* best of its row.';
  const basis = `Prices: ${profile.name}, ${kinds.join(', ')}. Units are decimal. Digest ${result.digest}`;
  return [
    '',
    ...result.notes.flatMap((note) => wrap(escapeTerminal(`Note: ${note}`), width)),
    ...wrap(legend, width).map((line) => colours.dim(line)),
    ...wrap(escapeTerminal(basis), width).map((line) => colours.dim(line)),
  ];
}

/** Indexes of columns in runs that fit; a column that is too wide stands alone. */
function partsOf(columns: readonly number[], room: number): readonly (readonly number[])[] {
  const parts: number[][] = [];
  let used = Infinity;
  for (const [index, column] of columns.entries()) {
    if (used + column + 2 > room) {
      parts.push([]);
      used = 0;
    }
    parts.at(-1)!.push(index);
    used += column + 2;
  }
  return parts;
}

/** Lines of at most `width` characters, broken at spaces; the second and later ones are indented. */
function wrap(text: string, width: number): readonly string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && lengthOf(line) + 1 + lengthOf(word) > width) {
      lines.push(line);
      line = `  ${word}`;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}

function padStart(text: string, width: number): string {
  return ' '.repeat(Math.max(0, width - lengthOf(text))) + text;
}

function padEnd(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - lengthOf(text)));
}

function lengthOf(text: string): number {
  return [...text].length;
}
