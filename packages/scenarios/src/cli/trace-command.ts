import type { Command } from 'commander';
import { MODES } from '@vipsim/proxiers';
import { formatIpv4 } from '@vipsim/sim-core';
import { OBSERVED_NODE } from '../experiment/node-run.ts';
import { programmedProxier, tracePacket, type PacketTrace } from '../experiment/trace.ts';
import { escapeTerminal, formatNs } from '../report/index.ts';
import { modeOption } from './compare-command.ts';
import { printLines } from './files.ts';
import { readInputs } from './inputs.ts';
import { parsePacket } from './packet.ts';
import { addScenarioFlags, profileOf, scenarioOf, type ScenarioFlags } from './settings.ts';

interface TraceFlags extends ScenarioFlags {
  readonly mode: string;
  readonly packet: string;
}

export function addTraceCommand(program: Command): void {
  addScenarioFlags(program.command('trace'))
    .argument('<input...>', 'as for compare')
    .description("one packet's walk, step by step, with counts and price")
    .addOption(modeOption())
    .requiredOption('--packet <packet>', "'tcp SOURCE:PORT > DESTINATION:PORT'")
    .addHelpText(
      'after',
      `
Examples:
  vipsim trace examples/shop.yaml --mode iptables --packet 'tcp 10.244.0.9:40000 > 10.96.0.20:80'
  vipsim trace examples/shop.yaml --mode ebpf --packet 'tcp 203.0.113.7:40000 > 172.18.0.2:30080'`,
    )
    .action((words: string[], flags: TraceFlags) => {
      const mode = MODES.find(({ name }) => name === flags.mode)!;
      const scenario = scenarioOf(flags);
      const profile = profileOf(flags);
      const cluster = readInputs(words).cluster();
      const packet = parsePacket(flags.packet, cluster, OBSERVED_NODE);
      const { proxier, failure } = programmedProxier(mode, cluster, scenario);
      if (failure !== '') process.stderr.write(`vipsim: not in force: ${failure}\n`);
      const trace = tracePacket(mode, proxier, packet, profile);
      printLines(
        describe(`${mode.title}: ${packet.toString()} on ${cluster.nodes[OBSERVED_NODE]!.name}`, trace),
      );
    });
}

function* describe(title: string, trace: PacketTrace): Generator<string> {
  yield escapeTerminal(title);
  yield '';
  const places = Math.max(0, ...trace.steps.map(({ where }) => where.length));
  for (const { where, what } of trace.steps) yield escapeTerminal(`  ${where.padEnd(places)}  ${what}`);
  yield '';
  const { source, sourcePort, destination, destinationPort } = trace.leaves;
  yield trace.fate === 'forward'
    ? `forwarded as ${formatIpv4(source)}:${sourcePort} > ${formatIpv4(destination)}:${destinationPort}`
    : `${trace.fate}ed`.replace('droped', 'dropped');
  yield '';
  const names = Math.max(9, ...trace.operations.map(({ name }) => name.length));
  yield `  ${'operation'.padEnd(names)}  ${'count'.padStart(8)}  ${'price'.padStart(10)}`;
  for (const { name, count, ns } of trace.operations) {
    yield `  ${name.padEnd(names)}  ${String(count).padStart(8)}  ${formatNs(ns).padStart(10)}`;
  }
  yield `  ${'in all'.padEnd(names)}  ${''.padStart(8)}  ${formatNs(trace.totalNs).padStart(10)}`;
}
