// The document that everything is rendered from, its schema and its digest.
export * from './result.ts';
export { resultJsonSchema } from './schema.ts';
export { canonicalJson, resultDigest, sealed, sha256Hex } from './digest.ts';
// What reports show, and how figures are written.
export { metricsOf, type Metric } from './metrics.ts';
export { headlineOf, type Sentence } from './headline.ts';
export {
  formatBytes,
  formatCores,
  formatCount,
  formatNs,
  formatShare,
  formatValue,
  type Unit,
} from './format.ts';
export { escapeTerminal } from './escaping.ts';
// Renderings.
export { renderTable, type TableOptions } from './table.ts';
export { renderHtml } from './html.ts';
export { renderMarkdown } from './markdown.ts';
export { renderCsv } from './csv.ts';
export { renderJson } from './json.ts';
