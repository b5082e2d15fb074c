import type { Command } from 'commander';
import { MODES } from '@vipsim/proxiers';
import { programmedProxier } from '../experiment/trace.ts';
import { modeOption } from './compare-command.ts';
import { printLines } from './files.ts';
import { readInputs } from './inputs.ts';
import { addScenarioFlags, scenarioOf, type ScenarioFlags } from './settings.ts';
import { UsageError } from './usage-error.ts';

interface RulesFlags extends ScenarioFlags {
  readonly mode: string;
  readonly format?: string;
}

export function addRulesCommand(program: Command): void {
  const formats = MODES.map((mode) => `${mode.name}: ${mode.formats.join(', ')}`).join('; ');
  addScenarioFlags(program.command('rules'))
    .argument('<input...>', 'as for compare')
    .description('what a mode programs on a node, in its native format')
    .addOption(modeOption())
    .option('--format <name>', `the native format (${formats}; default: the first)`)
    .addHelpText(
      'after',
      `
Examples:
  vipsim rules examples/shop.yaml --mode iptables | sudo iptables-restore --test
  vipsim rules examples/shop.yaml --mode ipvs
  vipsim rules examples/shop.yaml --mode ebpf --format cilium-lb-list`,
    )
    .action((words: string[], flags: RulesFlags) => {
      const mode = MODES.find(({ name }) => name === flags.mode)!;
      const format = flags.format ?? mode.formats[0]!;
      if (!mode.formats.includes(format)) {
        throw new UsageError(`--format ${format}: ${mode.name} has ${mode.formats.join(', ')}`);
      }
      const scenario = scenarioOf(flags);
      const { proxier, failure } = programmedProxier(mode, readInputs(words).cluster(), scenario);
      printLines(proxier.dump(format));
      if (failure !== '') process.stderr.write(`vipsim: not in force: ${failure}\n`);
    });
}
