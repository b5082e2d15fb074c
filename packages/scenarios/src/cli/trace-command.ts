import { InvalidArgumentError, Option, type Command } from 'commander';
import { MODES } from '@vipsim/proxiers';
import { formatIpv4 } from '@vipsim/sim-core';
import { OBSERVED_NODE } from '../experiment/node-run.ts';
import { programmedProxier, tracePacket, type PacketTrace } from '../experiment/trace.ts';
import { escapeTerminal, formatNs } from '../report/index.ts';
import { printLines } from './files.ts';
import { readInputs } from './inputs.ts';
import { parsePacket } from './packet.ts';
import { ORIGIN_NAMES, rulesTrace, type RulesTraceFlags } from './rules-trace.ts';
import { nativeFormat } from './rules-command.ts';
import { addScenarioFlags, profileOf, scenarioOf, type ScenarioFlags } from './settings.ts';
import { stepLines } from './trace-steps.ts';
import { UsageError } from './usage-error.ts';

interface TraceFlags extends ScenarioFlags, Omit<RulesTraceFlags, 'rules' | 'seed'> {
  readonly mode?: string;
  readonly rules?: string;
  readonly list?: string;
}

const COUNT_MAX = 10_000_000;
const MARK_MAX = 4_294_967_295;

export function addTraceCommand(program: Command): void {
  const command = addScenarioFlags(program.command('trace'))
    .argument('[input...]', 'as for compare; none with --rules')
    .description(
      "one packet's walk, step by step: through a mode's tables with counts and price, or any rules",
    )
    .addOption(new Option('--mode <mode>', 'which mode').choices(MODES.map(({ name }) => name)))
    .requiredOption('--packet <packet>', "'tcp SOURCE:PORT > DESTINATION:PORT'")
    .option('--list <format>', 'with --mode: and then what the mode lists, in a format that rules knows');
  addRulesFlags(command)
    .addHelpText(
      'after',
      `
Examples:
  vipsim trace examples/shop.yaml --mode iptables --packet 'tcp 10.244.0.9:40000 > 10.96.0.20:80'
  vipsim trace examples/shop.yaml --mode ebpf --packet 'tcp 203.0.113.7:40000 > 172.18.0.2:30080' --list ct-list
  sudo iptables-save | vipsim trace --rules - --node-address 192.168.0.2 --packet 'tcp 10.244.1.7 > 10.96.0.10:80'
  sudo nft list ruleset | vipsim trace --rules - --node-address 192.168.0.2 --packet 'tcp 10.244.1.7 > 10.96.0.10:80'
  sudo ipvsadm -Sn | vipsim trace --rules - --packet 'tcp 10.244.1.7 > 10.96.0.10:80' --count 1000`,
    )
    .action((words: string[], flags: TraceFlags) => {
      if (flags.rules === undefined) traceMode(words, flags);
      else if (words.length > 0)
        throw new UsageError(`--rules walks ${flags.rules} alone: leave out ${words[0]}`);
      else printLines(rulesTrace({ ...flags, rules: flags.rules }));
    });
}

function addRulesFlags(command: Command): Command {
  return command
    .option(
      '--rules <file>',
      'walk the rules of an iptables-save text or of an nft text (FILE.nft, or a listing), or the virtual servers of ' +
        'an ipvsadm -Sn text (FILE.ipvs), instead of a mode (- for standard input)',
    )
    .option('--node-address <address>', "with --rules: the node's own address; may be repeated", collect, [])
    .option('--pod-network <cidr>', "with --rules: addresses of this node's pods")
    .option('--pod-link <name>', 'with --rules: the interface of the pods', 'cni0')
    .option('--outside-link <name>', 'with --rules: the interface to everything else', 'eth0')
    .option(
      '--in-link <name>',
      'with --rules: the interface by which the packet comes in (default: by its source)',
    )
    .addOption(
      new Option('--from <place>', 'with --rules: where it comes from (default: by its source)').choices(
        ORIGIN_NAMES,
      ),
    )
    .addOption(
      new Option('--unknown <what>', 'with --rules: rules with matches or targets that are not modelled')
        .choices(['skip', 'refuse'])
        .default('skip'),
    )
    .addOption(
      new Option('--backend <name>', 'with --rules: only x_tables counts policies')
        .choices(['nft', 'legacy'])
        .default('nft'),
    )
    .option(
      '--mark <n>',
      "with --rules of ipvsadm: the packet's firewall mark, for virtual servers by mark",
      wholeMark,
      0,
    )
    .option('--count <n>', 'with --rules: so many flows, and where they go', wholeCount, 1);
}

function traceMode(words: readonly string[], flags: TraceFlags): void {
  if (flags.mode === undefined) {
    throw new UsageError('trace needs --mode MODE with an input, or --rules FILE without one');
  }
  if (words.length === 0) throw new UsageError("trace: missing argument 'input'; it is as for compare");
  const mode = MODES.find(({ name }) => name === flags.mode)!;
  const format = flags.list === undefined ? undefined : nativeFormat(mode, flags.list, '--list');
  const scenario = scenarioOf(flags);
  const profile = profileOf(flags);
  const cluster = readInputs(words).cluster();
  const packet = parsePacket(flags.packet, cluster, OBSERVED_NODE);
  const { proxier, failure } = programmedProxier(mode, cluster, scenario);
  if (failure !== '') process.stderr.write(`vipsim: not in force: ${failure}\n`);
  const trace = tracePacket(mode, proxier, packet, profile);
  printLines(describe(`${mode.title}: ${packet.toString()} on ${cluster.nodes[OBSERVED_NODE]!.name}`, trace));
  if (format !== undefined) printLines(['', `${format}:`, ...proxier.dump(format)]);
}

function collect(value: string, previous: readonly string[]): string[] {
  return [...previous, value];
}

function wholeCount(value: string): number {
  const count = Number(value);
  if (/^\d+$/.test(value) && count >= 1 && count <= COUNT_MAX) return count;
  throw new InvalidArgumentError(`wanted a whole number from 1 to ${COUNT_MAX}`);
}

function wholeMark(value: string): number {
  const mark = Number(value);
  if (/^\d+$/.test(value) && mark <= MARK_MAX) return mark;
  throw new InvalidArgumentError(`wanted a whole number from 0 to ${MARK_MAX}`);
}

function* describe(title: string, trace: PacketTrace): Generator<string> {
  yield escapeTerminal(title);
  yield '';
  yield* stepLines(trace.steps);
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
