import { escapeXml } from './escaping.ts';
import { figures } from './figures.ts';
import { headlineOf, headlineSize } from './headline.ts';
import { detailTables, growthTable, pricesTable, proseXml, sizeTable } from './html-tables.ts';
import { metricsOf, type Metric } from './metrics.ts';
import { environmentText, inputText, optionsText } from './provenance.ts';
import type { ResultDocument, SizeResult } from './result.ts';
import { STYLESHEET } from './stylesheet.ts';
import { modeLabels, remarksOf, sizeText } from './summary.ts';

/**
 * The comparison as one page that needs nothing else: no network, no script, printable. All text from the
 * document is escaped, and the page's own policy forbids it to load or run anything.
 */
export function renderHtml(result: ResultDocument): string {
  const metrics = metricsOf(result);
  const main = headlineSize(result) ?? result.sizes.at(-1);
  const others = result.sizes.filter((size) => size !== main);
  const sections = [
    header(result),
    ...(main === undefined ? [] : [sizeSection(result, main, metrics)]),
    figures(result, main),
    growthTable(result, metrics),
    ...others.map((size) => sizeSection(result, size, metrics)),
    ...(main === undefined ? [] : [detailTables(result, main)]),
    notes(result),
    provenance(result),
  ];
  return (
    `<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n<title>${escapeXml(result.title)}</title>\n` +
    `<meta name="viewport" content="width=device-width, initial-scale=1"/>\n` +
    `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>\n` +
    `<style>${STYLESHEET}</style>\n</head>\n<body>\n<main>\n` +
    `${sections.filter((section) => section !== '').join('\n')}\n</main>\n</body>\n</html>\n`
  );
}

function header(result: ResultDocument): string {
  const sentences = headlineOf(result).map(({ kind, text }) => {
    return `<li${kind === 'failure' ? ' class="failure"' : ''}>${proseXml(text)}</li>`;
  });
  const answer = sentences.length === 0 ? '' : `<ul class="answer">${sentences.join('')}</ul>`;
  return (
    `<header>\n<h1>${escapeXml(result.title)}</h1>\n<p class="meta">Simulated by ${escapeXml(result.tool.name)} ` +
    `${escapeXml(result.tool.version)}, priced by <a href="#provenance">${escapeXml(result.profile.name)}</a>, ` +
    `digest <span class="digest">${escapeXml(result.digest.slice(0, 12))}</span></p>\n${answer}\n</header>`
  );
}

/** The figures of one size, then what must be known about them. */
function sizeSection(result: ResultDocument, size: SizeResult, metrics: readonly Metric[]): string {
  const remarks = remarksOf(result, size).map(({ about, error, text }) => {
    if (about === '') return `<li>${proseXml(text)}</li>`;
    const style = error === '' ? 'about' : 'failure';
    const lead = error === '' ? `${about}:` : `${about} failed, ${error}:`;
    return `<li><span class="${style}">${escapeXml(lead)}</span> ${proseXml(text)}</li>`;
  });
  return (
    `<section class="size">\n<h2>${proseXml(`Summary: ${size.label}`)}</h2>\n<p class="meta">${proseXml(sizeText(size))}.</p>\n` +
    `${sizeTable(result, size, metrics)}\n${remarks.length === 0 ? '' : `<ul>${remarks.join('')}</ul>`}\n</section>`
  );
}

function notes(result: ResultDocument): string {
  if (result.notes.length === 0) return '';
  const items = result.notes.map((note) => `<li>${proseXml(note)}</li>`);
  return `<section>\n<h2>Notes</h2>\n<ul>${items.join('')}</ul>\n</section>`;
}

function provenance(result: ResultDocument): string {
  const { profile, environment } = result;
  const first = result.sizes[0];
  const labels = first === undefined ? [] : modeLabels(result, first);
  const rows: readonly (readonly [string, string])[] = [
    ['Tool', `${result.tool.name} ${result.tool.version}, document ${result.schema}`],
    ['Digest, SHA-256', result.digest],
    ...(first?.modes.map((mode, index) => {
      return [`Options of ${labels[index]!}`, `${mode.title}: ${optionsText(mode)}`] as const;
    }) ?? []),
    ...result.inputs.map((input) => ['Input', inputText(input)] as const),
    ['Cost profile', `${profile.name}: ${profile.title}`],
    ['Profile measured on', `${profile.machine}; kernel ${profile.kernel}; ${profile.date}`],
    ['Profile spread', profile.spread],
    ['Profile digest', profile.digest],
    ['Outside the digest', `the command, and this execution: ${environmentText(environment)}`],
  ];
  const facts = rows.map(
    ([name, text]) => `<tr><th scope="row">${escapeXml(name)}</th><td>${proseXml(text)}</td></tr>`,
  );
  const scenario = JSON.stringify(result.scenario, null, 2).split('\n').map(escapeXml).join('\n');
  return (
    `<section id="provenance">\n<h2>Assumptions and provenance</h2>\n` +
    `<p>Operations are counted by running the real lookups; the prices below turn counts into time. The same scenario ` +
    `and seed give the same digest on any machine.</p>\n` +
    `<div class="scroll"><table class="words"><tbody>${facts.join('')}</tbody></table></div>\n` +
    `<h3>To repeat it</h3>\n<pre>${escapeXml(result.command)}</pre>\n` +
    `<h3>Prices</h3>\n${pricesTable(result)}\n` +
    `<h3>Scenario in full, after defaults</h3>\n<pre>${scenario}</pre>\n</section>`
  );
}
