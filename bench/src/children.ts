import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { TurnRequest, TurnResult } from './turn.ts';

const TURN_PROCESS = fileURLToPath(new URL('turn-process.ts', import.meta.url));
const TYPES_OFF = new URL('types-off.mjs', import.meta.url).href;
const OUTPUT_MAX = 1 << 28;
const TURN_MS_MAX = 120_000;

/** The core that children are pinned to, where `taskset` is there; else none. */
export const PINNED_CORE = pinnedCore();

/** A turn that took too long. */
export class TooSlow extends Error {}

/** A turn in a Node process of its own. */
export function nodeTurn(request: TurnRequest): TurnResult {
  return lastLine(
    runNode(['--expose-gc', '--max-old-space-size=8192'], TURN_PROCESS, [JSON.stringify(request)]),
  );
}

/** A turn of a native program, which prints a result as JSON. */
export function commandTurn(command: string, args: readonly string[]): TurnResult {
  return lastLine(run(command, args));
}

/** The standard output of a TypeScript file run by Node. */
export function runNode(flags: readonly string[], file: string, args: readonly string[]): string {
  return run(process.execPath, [...flags, '--import', TYPES_OFF, file, ...args]);
}

function run(command: string, args: readonly string[]): string {
  const [file, all] =
    PINNED_CORE === undefined ? [command, args] : ['taskset', ['-c', String(PINNED_CORE), command, ...args]];
  const child = spawnSync(file, all, { encoding: 'utf8', maxBuffer: OUTPUT_MAX, timeout: TURN_MS_MAX });
  if (child.error !== undefined && 'code' in child.error && child.error.code === 'ETIMEDOUT') {
    throw new TooSlow(`${command} ${args.join(' ')}: more than ${TURN_MS_MAX / 1000} s`);
  }
  if (child.error !== undefined) throw child.error;
  if (child.status !== 0)
    throw new Error(`${command} ${args.join(' ')} ended with ${child.status}: ${child.stderr}`);
  return child.stdout;
}

function lastLine(output: string): TurnResult {
  return JSON.parse(output.trimEnd().split('\n').at(-1)!) as TurnResult;
}

function pinnedCore(): number | undefined {
  const core = availableParallelism() - 1;
  return spawnSync('taskset', ['-c', String(core), 'true']).status === 0 ? core : undefined;
}
