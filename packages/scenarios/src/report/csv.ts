import { escapeCsv } from './escaping.ts';
import { metricsOf } from './metrics.ts';
import type { ResultDocument } from './result.ts';

/**
 * RFC 4180, one row for each size and mode: what identifies the row, then every metric, unrounded, with a point
 * for decimals. A field is empty where there is nothing to report, and the figures of a mode with the outcome
 * `failed` are of a node without its tables.
 */
export function renderCsv(result: ResultDocument): string {
  const metrics = metricsOf(result);
  const header = [...IDENTITY, ...metrics.map((metric) => metric.id)];
  const rows = result.sizes.flatMap((size) => {
    return size.modes.map((mode) => [
      escapeCsv(size.label),
      numberText(size.nodes),
      numberText(size.services),
      numberText(size.servicePorts),
      numberText(size.endpoints),
      numberText(size.endpointChanges),
      escapeCsv(mode.mode),
      escapeCsv(mode.title),
      mode.outcome.kind,
      escapeCsv(mode.outcome.kind === 'ok' ? '' : mode.outcome.error),
      escapeCsv(mode.balance.service),
      escapeCsv(result.profile.name),
      escapeCsv(result.digest),
      ...metrics.map((metric) => numberText(metric.of(mode))),
    ]);
  });
  return [header.map(escapeCsv), ...rows].map((fields) => `${fields.join(',')}\r\n`).join('');
}

const IDENTITY = [
  'size',
  'nodes',
  'services',
  'service_ports',
  'endpoints',
  'endpoint_changes',
  'mode',
  'title',
  'outcome',
  'error',
  'balance_service',
  'profile',
  'digest',
] as const;

function numberText(value: number | undefined): string {
  return value === undefined || !Number.isFinite(value) ? '' : String(value);
}
