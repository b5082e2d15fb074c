import { escapeXml } from './escaping.ts';
import { formatBytes, formatCount, formatNs } from './format.ts';
import type { Metric } from './metrics.ts';
import { priceText } from './provenance.ts';
import type { ModeResult, ResultDocument, SizeResult } from './result.ts';
import { growthOf, modeLabels, outcomeText, summarise, type Cell } from './summary.ts';

/** Escaped prose in which a figure is not torn from its thousands or its unit at the end of a line. */
export function proseXml(text: string): string {
  return escapeXml(text).replaceAll(/(\d) (?=\d{3}(?!\d)|(?:[nµm]?s|[kMGT]?B|%|\/s)(?![\w]))/g, '$1\u202f');
}

/** Every metric of one size, a column for each mode. */
export function sizeTable(result: ResultDocument, size: SizeResult, metrics: readonly Metric[]): string {
  const summary = summarise(result, size, metrics);
  const span = summary.columns.length + 1;
  const outcomes = size.modes.map((mode) => {
    return `<td${mode.outcome.kind === 'failed' ? ' class="failure"' : ''}>${escapeXml(outcomeText(mode))}</td>`;
  });
  const groups = summary.groups.map((group) => {
    const rows = group.rows.map((row) => {
      return `<tr><th scope="row">${escapeXml(row.label)}</th>${row.cells.map(cellXml).join('')}</tr>`;
    });
    return `<tbody><tr><th colspan="${span}" scope="rowgroup">${escapeXml(group.name)}</th></tr>${rows.join('')}</tbody>`;
  });
  const marked = size.modes.some((mode) => mode.outcome.kind === 'failed')
    ? '* best of its row. In parentheses: a node without the tables that could not be programmed.'
    : '* best of its row.';
  return (
    `<div class="scroll"><table class="figures"><caption>${marked} Times are of the simulated node; units are decimal; ` +
    `quantiles are at most 0.8 % above the true value.</caption>` +
    `<thead><tr><th scope="col"><span hidden="hidden">metric</span></th>${headings(summary.columns)}</tr></thead>` +
    `<tbody><tr><th scope="row">Outcome</th>${outcomes.join('')}</tr></tbody>${groups.join('\n')}</table></div>`
  );
}

/** The metrics that matter across sizes; empty text with a single size. */
export function growthTable(result: ResultDocument, metrics: readonly Metric[]): string {
  const rows = growthOf(result, metrics);
  if (rows.length === 0) return '';
  const bodies = [...new Set(rows.map((row) => row.metric))].map((metric) => {
    const members = rows
      .filter((row) => row.metric === metric)
      .map((row) => {
        const cells = row.steps.map(({ text, factor }, index) => {
          const step = index === 0 ? '' : `<td class="void">${escapeXml(factor)}</td>`;
          return `${step}<td>${escapeXml(text)}</td>`;
        });
        return `<tr><th scope="row">${escapeXml(row.mode)}</th>${cells.join('')}</tr>`;
      });
    const span = result.sizes.length * 2;
    return `<tbody><tr><th colspan="${span}" scope="rowgroup">${escapeXml(metric)}</th></tr>${members.join('')}</tbody>`;
  });
  const columns = result.sizes.map((size, index) => {
    return `${index === 0 ? '' : '<th scope="col"></th>'}<th scope="col">${escapeXml(size.label)}</th>`;
  });
  return (
    `<section>\n<h2>From size to size</h2>\n<div class="scroll"><table class="figures"><caption>Between two sizes: how ` +
    `many times the smaller one.</caption><thead><tr><th scope="col"></th>${columns.join('')}</tr></thead>` +
    `${bodies.join('\n')}</table></div>\n</section>`
  );
}

/** What lies under the sums of one size: the tables in the kernel, and every operation counted. */
export function detailTables(result: ResultDocument, size: SizeResult): string {
  const labels = modeLabels(result, size);
  const blocks = size.modes.flatMap((mode, index) => {
    if (mode.outcome.kind === 'failed') return [];
    return [`<h3>${escapeXml(labels[index]!)}</h3>\n${tablesOf(mode)}${operationsOf(mode)}${syncsOf(mode)}`];
  });
  if (blocks.length === 0) return '';
  return (
    `<section>\n<h2>${proseXml(`What was counted: ${size.label}`)}</h2>\n` +
    `<p>Counts are exact and do not depend on the cost profile.</p>\n${blocks.join('\n')}\n</section>`
  );
}

export function pricesTable(result: ResultDocument): string {
  const rows = result.profile.prices.map((price) => [
    `<code>${escapeXml(price.operation)}</code>`,
    proseXml(priceText(price.ns)),
    escapeXml(price.kind),
    proseXml(price.source),
  ]);
  return wordTable(['operation', 'price', 'kind', 'source'], rows);
}

function tablesOf(mode: ModeResult): string {
  if (mode.tables.length === 0) return '';
  const rows = mode.tables.map((table) => [
    `<code>${escapeXml(table.name)}</code>`,
    formatCount(table.entries),
    formatBytes(table.bytes),
  ]);
  return figureTable(['table', 'entries', 'memory'], rows);
}

function operationsOf(mode: ModeResult): string {
  const counted = mode.lookup.operations.filter(
    (operation) => operation.first > 0 || operation.established > 0,
  );
  if (counted.length === 0) return '';
  const rows = counted.map((operation) => [
    `<code>${escapeXml(operation.name)}</code>`,
    formatCount(operation.first),
    formatCount(operation.established),
  ]);
  return figureTable(['operations of a packet, mean', 'first', 'established'], rows);
}

function syncsOf(mode: ModeResult): string {
  const counted = mode.sync.operations.filter((operation) => operation.total > 0);
  if (counted.length === 0) return '';
  const rows = counted.map((operation) => [
    `<code>${escapeXml(operation.name)}</code>`,
    formatCount(operation.total),
  ]);
  const { full, partial } = mode.sync;
  const syncs = `full ${formatCount(full.count)}, at most ${formatNs(full.duration.max)}; `;
  const partials = `partial ${formatCount(partial.count)}, at most ${formatNs(partial.duration.max)}`;
  return figureTable([`operations of all syncs (${syncs}${partials})`, 'total'], rows);
}

function cellXml(cell: Cell): string {
  const style = cell.best ? ' class="best"' : cell.failed ? ' class="void"' : '';
  return `<td${style}>${escapeXml(cell.text)}</td>`;
}

function headings(names: readonly string[]): string {
  return names.map((name) => `<th scope="col">${escapeXml(name)}</th>`).join('');
}

/** Cells are markup already. */
function figureTable(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  return tableXml('figures', columns, rows);
}

function wordTable(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  return tableXml('words', columns, rows);
}

function tableXml(style: string, columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const body = rows.map((cells) => `<tr>${cells.map((cell) => `<td>${cell}</td>`).join('')}</tr>`);
  return (
    `<div class="scroll"><table class="${style}"><thead><tr>${headings(columns)}</tr></thead>` +
    `<tbody>${body.join('')}</tbody></table></div>`
  );
}
