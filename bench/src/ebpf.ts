import {
  compileMaglev,
  maglevTable,
  measureMaglev,
  type MaglevEffort,
  type MaglevScore,
} from './ebpf-maglev.ts';
import type { Table } from './report.ts';

/** What was measured of the eBPF mode, part by part. */
export interface EbpfScores {
  readonly maglev: readonly MaglevScore[];
}

export interface EbpfEffort {
  readonly rounds: number;
  readonly maglev: Omit<MaglevEffort, 'rounds'>;
  /** Against the C programs. */
  readonly native: boolean;
}

/** `folder` takes what is compiled. */
export function measureEbpf({ rounds, maglev, native }: EbpfEffort, folder: string): EbpfScores {
  const program = native ? compileMaglev(folder) : undefined;
  return { maglev: measureMaglev({ rounds, ...maglev }, program) };
}

export function ebpfTables({ maglev }: EbpfScores): Table[] {
  return [maglevTable(maglev)];
}
