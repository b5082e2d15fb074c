import { spawnSync } from 'node:child_process';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { PINNED_CORE } from './children.ts';

/** Where and when the numbers were taken: without this they mean nothing. */
export interface Environment {
  readonly machine: string;
  readonly kernel: string;
  readonly node: string;
  readonly compiler: string;
  readonly pinned: string;
  /** Day, UTC. */
  readonly date: string;
  readonly commit: string;
}

export function environment(compiler: string | undefined): Environment {
  const git = spawnSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' });
  return {
    machine: `${cpus()[0]?.model ?? 'unknown'}, ${availableParallelism()} cores, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    kernel: release(),
    node: `${process.version} (V8 ${process.versions.v8})`,
    compiler: compiler ?? 'none',
    pinned: PINNED_CORE === undefined ? 'not pinned' : `to core ${PINNED_CORE}`,
    date: new Date().toISOString().slice(0, 10),
    commit: git.status === 0 ? git.stdout.trim() : 'unknown',
  };
}
