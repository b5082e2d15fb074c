import { escapeMarkdown, escapeTerminal } from './escaping.ts';
import { headlineOf } from './headline.ts';
import { metricsOf, type Metric } from './metrics.ts';
import { environmentText, inputText, optionsText, priceText } from './provenance.ts';
import type { ResultDocument, SizeResult } from './result.ts';
import { growthOf, modeLabels, outcomeText, remarksOf, sizeText, summarise } from './summary.ts';

/** The comparison as GitHub-flavoured Markdown, for a pull request or a design document. */
export function renderMarkdown(result: ResultDocument): string {
  const metrics = metricsOf(result);
  const blocks = [
    `# ${escapeMarkdown(result.title)}`,
    headlineOf(result)
      .map(({ kind, text }) =>
        kind === 'failure' ? `- **${escapeMarkdown(text)}**` : `- ${escapeMarkdown(text)}`,
      )
      .join('\n'),
    ...result.sizes.flatMap((size) => sizeBlocks(result, size, metrics)),
    ...growthBlocks(result, metrics),
    ...provenanceBlocks(result),
  ];
  return `${blocks.filter((block) => block !== '').join('\n\n')}\n`;
}

function sizeBlocks(result: ResultDocument, size: SizeResult, metrics: readonly Metric[]): readonly string[] {
  const summary = summarise(result, size, metrics);
  const labels = summary.columns.map(escapeMarkdown);
  const rows = [
    [
      '**Outcome**',
      ...size.modes.map((mode) => outcomeCell(escapeMarkdown(outcomeText(mode)), mode.outcome.kind)),
    ],
    ...summary.groups.flatMap((group) => {
      return group.rows.map((row) => [
        escapeMarkdown(`${group.name}, ${row.label}`),
        ...row.cells.map((cell) =>
          cell.best ? `**${escapeMarkdown(cell.text)}**` : escapeMarkdown(cell.text),
        ),
      ]);
    }),
  ];
  const remarks = remarksOf(result, size).map(({ about, error, text }) => {
    if (error !== '') return `- **${escapeMarkdown(`${about} failed, ${error}:`)}** ${escapeMarkdown(text)}`;
    return `- ${escapeMarkdown(about === '' ? text : `${about}: ${text}`)}`;
  });
  return [
    `## ${escapeMarkdown(size.label)}`,
    `${escapeMarkdown(sizeText(size))}. Bold marks the best of a row.`,
    table(['', ...labels], rows),
    remarks.join('\n'),
  ];
}

function outcomeCell(text: string, kind: 'ok' | 'failed'): string {
  return kind === 'ok' ? text : `**${text}**`;
}

function growthBlocks(result: ResultDocument, metrics: readonly Metric[]): readonly string[] {
  const rows = growthOf(result, metrics).map((row) => [
    escapeMarkdown(row.metric),
    escapeMarkdown(row.mode),
    ...row.steps.map(({ text, factor }) => escapeMarkdown(factor === '' ? text : `${text} (${factor})`)),
  ]);
  if (rows.length === 0) return [];
  return [
    '## Growth',
    'In parentheses: how many times the size before it.',
    table(['', 'mode', ...result.sizes.map((size) => escapeMarkdown(size.label))], rows),
  ];
}

function provenanceBlocks(result: ResultDocument): readonly string[] {
  const { profile, environment } = result;
  const modes = result.sizes[0];
  const labels = modes === undefined ? [] : modeLabels(result, modes);
  return [
    ...(result.notes.length === 0 ? [] : ['## Notes', bullets(result.notes)]),
    '## Assumptions and provenance',
    bullets([
      `${result.tool.name} ${result.tool.version}, document ${result.schema}`,
      `Digest (SHA-256) ${result.digest}`,
      ...(modes?.modes.map((mode, index) => `Options of ${labels[index]!}: ${optionsText(mode)}`) ?? []),
      ...result.inputs.map((input) => `Input ${inputText(input)}`),
      `Cost profile ${profile.name}: ${profile.title}. Machine: ${profile.machine}. Kernel: ${profile.kernel}.`,
      `Profile of ${profile.date}; spread: ${profile.spread}; digest ${profile.digest}`,
      `Outside the digest: the command, and this execution: ${environmentText(environment)}`,
    ]),
    'To repeat it:',
    fenced(escapeTerminal(result.command), 'sh'),
    table(
      ['operation', 'price', 'kind', 'source'],
      profile.prices.map((price) =>
        [price.operation, priceText(price.ns), price.kind, price.source].map(escapeMarkdown),
      ),
    ),
    'The scenario in full, after defaults:',
    fenced(
      JSON.stringify(result.scenario, null, 2)
        .split('\n')
        .map(escapeTerminal)
        .join('\n')
        .replaceAll('<', '\\u003c'),
      'json',
    ),
  ];
}

function bullets(texts: readonly string[]): string {
  return texts.map((text) => `- ${escapeMarkdown(text)}`).join('\n');
}

/** Figures to the right, the first column to the left. */
function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const rule = header.map((_, index) => (index === 0 ? '---' : '--:'));
  return [header, rule, ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** A fence longer than any run of backticks inside cannot be closed from inside. */
function fenced(text: string, language: string): string {
  const runs = text.match(/`+/g) ?? [];
  const fence = '`'.repeat(Math.max(3, ...runs.map((run) => run.length + 1)));
  return `${fence}${language}\n${text}\n${fence}`;
}
