import type { Command } from 'commander';
import { disagreements, readRecording, replay, type ReplayResult } from '../replay/index.ts';
import { escapeTerminal } from '../report/index.ts';
import { listInputs, printLines, readInput } from './files.ts';

const RECORDINGS: readonly string[] = ['.json', '.jsonl'];

export function addReplayCommand(program: Command): void {
  program
    .command('replay')
    .argument('<file...>', 'recordings of a real kernel, or directories of them')
    .description('what a real kernel did, held against what vipsim does')
    .option('--seed <text>', 'for the draws that are ours alone', '0')
    .addHelpText(
      'after',
      `
Exit code 1 if anything disagrees. What a kernel decides at random is held against the probabilities that its
rules give, by chi-square at 1 %; everything else must be equal. What a recording does not tell and is chosen so
that it fits is named on a line of its own.

Examples:
  vipsim replay packages/scenarios/test/fixtures/recordings/iptables
  vipsim replay recordings/iptables/nth-n5.json`,
    )
    .action((words: string[], flags: { readonly seed: string }) => {
      const files = words.flatMap((word) => listInputs(word, RECORDINGS));
      const results = files.map((file) => {
        return replay(readRecording(readInput(file).toString('utf8'), file), flags.seed);
      });
      printLines(describe(results));
      if (results.some((result) => disagreements(result) > 0)) process.exitCode = 1;
    });
}

function* describe(results: readonly ReplayResult[]): Generator<string> {
  for (const result of results) yield* describeOne(result);
  const wrong = results.filter((result) => disagreements(result) > 0).length;
  const idle = results.filter(({ tallies }) => tallies.size === 0).length;
  yield '';
  yield `${results.length - wrong - idle} of ${results.length} agree, ${wrong} disagree, ${idle} not replayed`;
}

function* describeOne(result: ReplayResult): Generator<string> {
  const { tallies, firstDifference, skipped } = result;
  const parts = [...tallies].map(([kind, { agree, compared }]) => `${kind} agree ${agree} of ${compared}`);
  const idle = [...skipped].map(([op, count]) => `${op} ${count}`).join(', ');
  if (idle !== '') parts.push(`skipped: ${idle}`);
  const verdict = tallies.size === 0 ? 'not replayed' : disagreements(result) > 0 ? 'DISAGREES' : 'agrees';
  yield escapeTerminal(`${result.file}: ${verdict}; ${parts.join(', ')}`);
  for (const { what, chiSquare, freedom, limit } of result.distributions) {
    yield escapeTerminal(
      `  ${what}: chi-square ${chiSquare.toFixed(2)} at ${freedom} dof, limit ${limit.toFixed(2)}`,
    );
  }
  for (const what of result.fitted) yield escapeTerminal(`  fitted to the recording: ${what}`);
  if (firstDifference === undefined) return;
  const { step, op, what, recorded, ours } = firstDifference;
  yield escapeTerminal(`  first difference, step ${step} (${op}), ${what}:`);
  yield escapeTerminal(`    recorded  ${recorded}`);
  yield escapeTerminal(`    vipsim    ${ours}`);
}
