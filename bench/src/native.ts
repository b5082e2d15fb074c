import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The native rivals: C++ compiled by `g++ -O2` into the given folder, and ns-3 where Debian's libns3-dev is. */
export interface Native {
  readonly hold: string;
  readonly pipeline: string;
  /** Undefined where ns-3 is not installed. */
  readonly ns3: string | undefined;
  /** What compiled it: the first line of `g++ --version`. */
  readonly compiler: string;
}

export const NS3_SCHEDULERS = [
  'MapScheduler',
  'HeapScheduler',
  'PriorityQueueScheduler',
  'CalendarScheduler',
] as const;

/** Undefined, with the reason on stderr, where there is no compiler. */
export function compileNative(folder: string): Native | undefined {
  const version = spawnSync('g++', ['--version'], { encoding: 'utf8' });
  if (version.status !== 0) {
    process.stderr.write('no g++: native rivals are left out\n');
    return undefined;
  }
  const hasNs3 =
    existsSync('/usr/include/ns3/core-module.h') || existsSync('/usr/include/ns3.37/ns3/core-module.h');
  if (!hasNs3) process.stderr.write('no libns3-dev: ns-3 is left out\n');
  return {
    hold: compile(folder, 'hold', []),
    pipeline: compile(folder, 'pipeline', []),
    ns3: hasNs3 ? compile(folder, 'ns3', ['-lns3-core']) : undefined,
    compiler: version.stdout.split('\n')[0]!,
  };
}

function compile(folder: string, name: string, libraries: readonly string[]): string {
  const source = fileURLToPath(new URL(`../native/${name}.cpp`, import.meta.url));
  const program = join(folder, name);
  const { status, stderr } = spawnSync('g++', ['-O2', '-std=c++17', '-o', program, source, ...libraries], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`g++ cannot compile ${source}:\n${stderr}`);
  return program;
}
