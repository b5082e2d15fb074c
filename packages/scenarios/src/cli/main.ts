#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { InputError } from '@vipsim/proxiers';
import { VERSION } from '../experiment/document.ts';
import { escapeTerminal } from '../report/index.ts';
import { ScenarioError, scenarioFields } from '../scenario/scenario.ts';
import { addCompareCommand, addRunCommand } from './compare-command.ts';
import { printLines, printText } from './files.ts';
import { addReplayCommand } from './replay-command.ts';
import { addRulesCommand } from './rules-command.ts';
import { addTraceCommand } from './trace-command.ts';
import { UsageError } from './usage-error.ts';

const program = new Command('vipsim')
  .description(
    'What iptables, IPVS, eBPF or the old userspace proxy cost a Kubernetes Service, and what happens when endpoints change.',
  )
  .version(VERSION)
  .showHelpAfterError('(vipsim --help, or vipsim COMMAND --help, shows examples)')
  .exitOverride()
  .configureOutput({
    writeOut: printText,
    outputError: (text, write) => write(text.replace(/^error: /, 'vipsim: ')),
  });

addCompareCommand(program);
addRunCommand(program);
addRulesCommand(program);
addTraceCommand(program);
addReplayCommand(program);
program
  .command('fields')
  .description('every scenario field with its default: what --set accepts')
  .action(() => {
    const fields = scenarioFields();
    const width = Math.max(...fields.map((field) => field.path.length + field.default.length + 1));
    printLines(fields.map((field) => `${`${field.path}=${field.default}`.padEnd(width)}  ${field.about}`));
  });

try {
  program.parse();
} catch (error) {
  process.exitCode = report(error);
}

/** 0 done, 2 bad input or usage, 70 a fault of ours. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  const theirs = error instanceof UsageError || error instanceof ScenarioError || error instanceof InputError;
  if (theirs) {
    process.stderr.write(`vipsim: ${printable(error.message)}\n`);
    return 2;
  }
  process.stderr.write(
    `vipsim: a fault in vipsim itself, please report it:\n${printable(String((error as Error).stack ?? error))}\n`,
  );
  return 70;
}

/** Many lines stay many; whatever else a terminal would obey is shown instead. */
function printable(text: string): string {
  return text.split('\n').map(escapeTerminal).join('\n');
}
