import { formatBytes, formatNs } from './format.ts';
import type { ModeResult, ResultDocument } from './result.ts';

/** Where the figures come from, in words that every report uses; not yet escaped. */
type Price = ResultDocument['profile']['prices'][number]['ns'];

/** Unrounded: `12.5 ns`, or `5 ns at 32.8 kB, 90 ns at 16.8 MB` for a price that depends on the working set. */
export function priceText(ns: Price): string {
  if (typeof ns === 'number') return `${String(ns)} ns`;
  return ns.map(([bytes, price]) => `${String(price)} ns at ${formatBytes(bytes)}`).join(', ');
}

export function inputText(input: ResultDocument['inputs'][number]): string {
  return `${input.name}, ${formatBytes(input.bytes)}, SHA-256 ${input.sha256}`;
}

/** `scheduler=rr, syncPeriod=30`; durations are in nanoseconds. */
export function optionsText(mode: ModeResult): string {
  const options = Object.entries(mode.options).map(([name, value]) => `${name}=${String(value)}`);
  return options.length === 0 ? 'none' : options.join(', ');
}

/** Facts of this one execution. */
export function environmentText({
  runtime,
  platform,
  wallMs,
  peakMemoryBytes,
}: ResultDocument['environment']): string {
  return `${runtime}, ${platform}, ${formatNs(wallMs * 1e6)}, at most ${formatBytes(peakMemoryBytes)} of memory`;
}
