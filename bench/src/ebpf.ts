import {
  compileMaglev,
  maglevTable,
  measureMaglev,
  type MaglevEffort,
  type MaglevScore,
} from './ebpf-maglev.ts';
import { measurePaths, pathTables, type PathScores, type PathsEffort } from './ebpf-paths.ts';
import type { Table } from './report.ts';

/** What was measured of the eBPF mode, part by part. */
export interface EbpfScores {
  readonly paths: PathScores;
  readonly maglev: readonly MaglevScore[];
}

export interface EbpfEffort {
  readonly rounds: number;
  readonly paths: Omit<PathsEffort, 'rounds'>;
  readonly maglev: Omit<MaglevEffort, 'rounds'>;
  /** Against the C programs. */
  readonly native: boolean;
}

/** `folder` takes what is compiled. */
export function measureEbpf({ rounds, paths, maglev, native }: EbpfEffort, folder: string): EbpfScores {
  const program = native ? compileMaglev(folder) : undefined;
  return {
    paths: measurePaths({ rounds, ...paths }),
    maglev: measureMaglev({ rounds, ...maglev }, program),
  };
}

export function ebpfTables({ paths, maglev }: EbpfScores): Table[] {
  return [...pathTables(paths), maglevTable(maglev)];
}
