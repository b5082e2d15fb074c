import { formatFactor, formatValue, MISSING } from './format.ts';
import type { Metric } from './metrics.ts';
import type { ModeResult, ResultDocument, SizeResult } from './result.ts';

/** The metrics of one size as rows, the modes as columns; what every table shows, ready formatted. */
export interface Summary {
  readonly columns: readonly string[];
  readonly groups: readonly { readonly name: string; readonly rows: readonly SummaryRow[] }[];
}

export interface SummaryRow {
  readonly label: string;
  readonly cells: readonly Cell[];
}

export interface Cell {
  readonly text: string;
  readonly best: boolean;
  /** Of a mode whose tables could not be programmed: shown in parentheses, never best. */
  readonly failed: boolean;
}

/** One metric of one mode across the sizes, with the factor from each size to the next. */
export interface GrowthRow {
  readonly metric: string;
  readonly mode: string;
  readonly steps: readonly { readonly text: string; readonly factor: string }[];
}

/** What must be known beside the figures of a size. */
export interface Remark {
  /** The mode, or empty when it is about all of them. */
  readonly about: string;
  /** The error, for a mode that failed; else empty. */
  readonly error: string;
  readonly text: string;
}

export function summarise(result: ResultDocument, size: SizeResult, metrics: readonly Metric[]): Summary {
  const groups: { name: string; rows: SummaryRow[] }[] = [];
  for (const metric of metrics) {
    if (groups.at(-1)?.name !== metric.group) groups.push({ name: metric.group, rows: [] });
    groups.at(-1)!.rows.push({ label: metric.label, cells: cellsOf(metric, size.modes) });
  }
  return { columns: modeLabels(result, size), groups };
}

/** How the metrics that matter grow; empty with fewer than two sizes. */
export function growthOf(result: ResultDocument, metrics: readonly Metric[]): readonly GrowthRow[] {
  if (result.sizes.length < 2) return [];
  const labels = result.sizes.map((size) => modeLabels(result, size));
  const modes = [...new Set(labels.flat())];
  return metrics
    .filter((metric) => metric.grows)
    .flatMap((metric) => modes.map((mode) => growthRow(result, labels, metric, mode)));
}

/** The word of --modes, or the title where one word names several columns. */
export function modeLabels(result: ResultDocument, size: SizeResult): readonly string[] {
  const words = result.sizes.every((each) => allDifferent(each.modes.map((mode) => mode.mode)));
  if (words) return size.modes.map((mode) => mode.mode);
  const titles = result.sizes.every((each) => allDifferent(each.modes.map((mode) => mode.title)));
  if (titles) return size.modes.map((mode) => mode.title);
  return size.modes.map((mode, index) => `${mode.title} (${index + 1})`);
}

/** `ok`, or `failed: ENOMEM`. */
export function outcomeText(mode: ModeResult): string {
  return mode.outcome.kind === 'ok' ? 'ok' : `failed: ${mode.outcome.error}`;
}

/** What a size consists of, in words: `1 000 Services, 1 000 ports, 10 000 endpoints, …`. */
export function sizeText(size: SizeResult): string {
  const parts: readonly (readonly [number, string])[] = [
    [size.services, 'Service'],
    [size.servicePorts, 'port'],
    [size.endpoints, 'endpoint'],
    [size.nodes, 'node'],
    [size.endpointChanges, 'endpoint change'],
  ];
  return parts
    .map(([count, noun]) => `${formatValue(count, 'count')} ${noun}${count === 1 ? '' : 's'}`)
    .join(', ');
}

/** Failures first within each mode, then its failed syncs and notes; last what holds for all. */
export function remarksOf(result: ResultDocument, size: SizeResult): readonly Remark[] {
  const labels = modeLabels(result, size);
  const remarks = size.modes.flatMap(({ outcome, sync, notes }, index): readonly Remark[] => {
    const about = labels[index]!;
    const failure = outcome.kind === 'failed' ? [{ about, error: outcome.error, text: outcome.message }] : [];
    const lastSync =
      sync.lastFailure === '' ? [] : [{ about, error: '', text: `last failed sync: ${sync.lastFailure}` }];
    return [...failure, ...lastSync, ...notes.map((text) => ({ about, error: '', text }))];
  });
  const services = [...new Set(size.modes.map((mode) => mode.balance.service))].filter((name) => name !== '');
  if (services.length === 0) return remarks;
  return [
    ...remarks,
    { about: '', error: '', text: `Balance is that of the busiest Service: ${services.join(', ')}.` },
  ];
}

/**
 * The best figure is marked wherever at least two modes can be compared and the reader would see a difference:
 * figures that read the same are equally good, and where all read the same there is no best.
 */
function cellsOf(metric: Metric, modes: readonly ModeResult[]): readonly Cell[] {
  const values = modes.map((mode) => metric.of(mode));
  const texts = values.map((value) => formatValue(value, metric.unit));
  const candidates = modes.flatMap((mode, index) => {
    return mode.outcome.kind === 'ok' && texts[index] !== MISSING ? [index] : [];
  });
  const best = candidates.reduce((held, index) => {
    if (held < 0) return index;
    const ahead = metric.better === 'lower' ? values[index]! < values[held]! : values[index]! > values[held]!;
    return ahead ? index : held;
  }, -1);
  const differ = metric.better !== 'neutral' && candidates.some((index) => texts[index] !== texts[best]);
  return texts.map((text, index) => ({
    text: modes[index]!.outcome.kind === 'ok' || text === MISSING ? text : `(${text})`,
    best: differ && candidates.includes(index) && text === texts[best],
    failed: modes[index]!.outcome.kind === 'failed',
  }));
}

function growthRow(
  result: ResultDocument,
  labels: readonly (readonly string[])[],
  metric: Metric,
  mode: string,
): GrowthRow {
  const found = result.sizes.map((size, index) => size.modes[labels[index]!.indexOf(mode)]);
  const values = found.map((each) => (each?.outcome.kind === 'ok' ? metric.of(each) : undefined));
  return {
    metric: `${metric.group}, ${metric.label}`,
    mode,
    steps: values.map((value, index) => ({
      text: found[index]?.outcome.kind === 'failed' ? 'failed' : formatValue(value, metric.unit),
      factor: factorText(values[index - 1], value),
    })),
  };
}

function factorText(before: number | undefined, after: number | undefined): string {
  if (before === undefined || after === undefined || !(before > 0) || !Number.isFinite(after / before))
    return '';
  return formatFactor(after / before);
}

function allDifferent(names: readonly string[]): boolean {
  return new Set(names).size === names.length;
}
