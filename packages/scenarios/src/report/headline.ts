import { formatBytes, formatCores, formatCount, formatNs, formatShare } from './format.ts';
import type { ModeResult, ResultDocument, SizeResult } from './result.ts';
import { modeLabels } from './summary.ts';

/** The answer in a few sentences; all figures are of one size, failures are of any. */
export interface Sentence {
  readonly kind: 'finding' | 'failure';
  readonly text: string;
}

interface Contender {
  readonly label: string;
  readonly mode: ModeResult;
}

export function headlineOf(result: ResultDocument): readonly Sentence[] {
  const size = headlineSize(result);
  const findings = size === undefined ? [] : findingsOf(result, size);
  return [
    ...findings.map((text): Sentence => ({ kind: 'finding', text })),
    ...failuresOf(result).map((text): Sentence => ({ kind: 'failure', text })),
  ];
}

/** The largest size at which any mode works: where the modes differ most, and what the headline speaks of. */
export function headlineSize(result: ResultDocument): SizeResult | undefined {
  let largest: SizeResult | undefined;
  for (const size of result.sizes) {
    if (!size.modes.some((mode) => mode.outcome.kind === 'ok')) continue;
    if (largest === undefined || size.endpoints >= largest.endpoints) largest = size;
  }
  return largest;
}

function findingsOf(result: ResultDocument, size: SizeResult): readonly string[] {
  const labels = modeLabels(result, size);
  const contenders = size.modes
    .map((mode, index): Contender => ({ label: labels[index]!, mode }))
    .filter(({ mode }) => mode.outcome.kind === 'ok');
  const sentences = [
    firstPacket(contenders, `${formatCount(size.endpoints)} endpoints`),
    cores(contenders),
    memory(contenders),
    reaction(contenders),
    losses(contenders),
  ];
  return sentences.filter((sentence) => sentence !== '');
}

function firstPacket(contenders: readonly Contender[], where: string): string {
  const sampled = contenders.filter(({ mode }) => mode.lookup.first.count > 0);
  const ranked = ascending(sampled, (mode) => mode.lookup.first.mean);
  const [best, ...others] = ranked;
  if (best === undefined) return '';
  const mean = best.mode.lookup.first.mean;
  const start = `At ${where} the first packet of a connection costs`;
  if (others.length === 0) return `${start} ${formatNs(mean)} on average with ${best.label}.`;
  const rest = others.map(({ label, mode }) => `${timesText(mode.lookup.first.mean, mean)} with ${label}`);
  return `${start} least with ${best.label}: ${formatNs(mean)} on average, ${listed(rest)}.`;
}

function cores(contenders: readonly Contender[]): string {
  const text = span(contenders, serviceCores, formatCores);
  return text === '' ? '' : `Cores kept busy by Services, on the dataplane and in syncs: ${text}.`;
}

function memory(contenders: readonly Contender[]): string {
  const text = span(contenders, (mode) => mode.memoryBytes, formatBytes);
  return text === '' ? '' : `Kernel memory of the tables on a node: ${text}.`;
}

function reaction(contenders: readonly Contender[]): string {
  const sampled = contenders.filter(({ mode }) => mode.programmingLatency.count > 0);
  const text = span(sampled, (mode) => mode.programmingLatency.p99, formatNs);
  return text === '' ? '' : `Time within which 99 % of endpoint changes are in force: ${text}.`;
}

function losses(contenders: readonly Contender[]): string {
  if (contenders.every(({ mode }) => mode.connections.attempted === 0)) return '';
  if (contenders.every(({ mode }) => failedConnections(mode) === 0)) return 'No connection failed.';
  const parts = ascending(contenders, failedConnections).map(({ label, mode }) => {
    const { attempted } = mode.connections;
    if (failedConnections(mode) === 0) return `none with ${label}`;
    const share = attempted > 0 ? ` (${formatShare(failedConnections(mode) / attempted)})` : '';
    return `${formatCount(failedConnections(mode))}${share} with ${label}`;
  });
  return `Connections that failed: ${listed(parts)}.`;
}

function serviceCores(mode: ModeResult): number {
  return mode.cpu.dataplaneCores + mode.cpu.controlCores;
}

function failedConnections(mode: ModeResult): number {
  return mode.connections.refused + mode.connections.timedOut + mode.connections.broken;
}

function failuresOf(result: ResultDocument): readonly string[] {
  return result.sizes.flatMap((size) => {
    const labels = modeLabels(result, size);
    return size.modes.flatMap((mode, index) => {
      if (mode.outcome.kind === 'ok') return [];
      return [`${labels[index]!} fails at ${formatCount(size.endpoints)} endpoints: ${mode.outcome.error}.`];
    });
  });
}

/** The least and the most with their modes: `0.021 with ebpf, up to 0.84 with iptables`. */
function span(
  contenders: readonly Contender[],
  figure: (mode: ModeResult) => number,
  format: (value: number) => string,
): string {
  const ranked = ascending(contenders, figure);
  const least = ranked[0];
  const most = ranked.at(-1);
  if (least === undefined || most === undefined) return '';
  const low = format(figure(least.mode));
  const high = format(figure(most.mode));
  if (least === most) return `${low} with ${least.label}`;
  return low === high
    ? `${low} with every mode`
    : `${low} with ${least.label}, up to ${high} with ${most.label}`;
}

/** Ascending by figure; equal figures keep the order of the document. */
function ascending(
  contenders: readonly Contender[],
  figure: (mode: ModeResult) => number,
): readonly Contender[] {
  return contenders
    .filter(({ mode }) => Number.isFinite(figure(mode)))
    .toSorted((a, b) => figure(a.mode) - figure(b.mode));
}

function timesText(value: number, base: number): string {
  if (!(base > 0)) return formatNs(value);
  const times = value / base;
  if (times < 1.05) return 'about the same';
  return times < 10 ? `${times.toFixed(1)} times that` : `${formatCount(Math.round(times))} times that`;
}

function listed(parts: readonly string[]): string {
  if (parts.length < 3) return parts.join(' and ');
  return `${parts.slice(0, -1).join(', ')} and ${parts.at(-1)!}`;
}
