import { Option, type Command } from 'commander';
import { Streams } from '@vipsim/sim-core';
import { EndpointsMap, MODES, type Cluster, type Mode } from '@vipsim/proxiers';
import { conntrackOptions, OBSERVED_NODE } from '../experiment/node-run.ts';
import { programmedProxier } from '../experiment/trace.ts';
import { escapeTerminal } from '../report/index.ts';
import { modeOptions, type Scenario } from '../scenario/scenario.ts';
import { modeOption } from './compare-command.ts';
import { printLines } from './files.ts';
import { readInputs } from './inputs.ts';
import { addScenarioFlags, scenarioOf, type ScenarioFlags } from './settings.ts';
import { UsageError } from './usage-error.ts';

interface RulesFlags extends ScenarioFlags {
  readonly mode: string;
  readonly format?: string;
  readonly partial?: string;
  readonly family: 'ipv4' | 'ipv6';
}

export function addRulesCommand(program: Command): void {
  const formats = MODES.map((mode) => `${mode.name}: ${mode.formats.join(', ')}`).join('; ');
  addScenarioFlags(program.command('rules'))
    .argument('<input...>', 'as for compare')
    .description('what a mode programs on a node, in its native format')
    .addOption(modeOption())
    .option('--format <name>', `the native format, or the end of its name (${formats}; default: the first)`)
    .option(
      '--partial <namespace/name>',
      'iptables and nftables: not everything, but what kube-proxy writes after the first endpoint of each port of that ' +
        'Service has gone; above 1,000 endpoints leftover chains are not deleted so soon',
    )
    .addOption(
      new Option(
        '--family <family>',
        'ipv6 prints the other half of a dual-stack cluster (iptables, nftables)',
      )
        .choices(['ipv4', 'ipv6'])
        .default('ipv4'),
    )
    .addHelpText(
      'after',
      `
Examples:
  vipsim rules examples/shop.yaml --mode iptables | sudo iptables-restore --test
  vipsim rules dual-stack.yaml --mode iptables --family ipv6 | sudo ip6tables-restore --test
  vipsim rules examples/shop.yaml --mode iptables --partial shop/frontend
  vipsim rules examples/shop.yaml --mode iptables --format save
  vipsim rules examples/shop.yaml --mode nftables | sudo nft -c -f -
  vipsim rules examples/shop.yaml --mode nftables --format list
  vipsim rules examples/shop.yaml --mode ipvs
  vipsim rules examples/shop.yaml --mode ebpf --format cilium-lb-list`,
    )
    .action((words: string[], flags: RulesFlags) => {
      const mode = MODES.find(({ name }) => name === flags.mode)!;
      const format = nativeFormat(mode, flags.format, '--format');
      if (flags.family === 'ipv6' && mode.ipv6 !== true) {
        const able = MODES.filter(({ ipv6 }) => ipv6).map(({ name }) => name);
        throw new UsageError(`--family ipv6: ${able.join(' and ')} print IPv6 rules, ${mode.name} does not`);
      }
      const scenario = scenarioOf(flags);
      if (flags.partial !== undefined) {
        if (format !== mode.formats[0]) throw new UsageError(`--partial prints ${mode.formats[0]!} only`);
        printLines(partialLines(mode, readInputs(words, flags.family).cluster(), scenario, flags.partial));
        return;
      }
      const { proxier, failure } = programmedProxier(
        mode,
        readInputs(words, flags.family).cluster(),
        scenario,
      );
      printLines(proxier.dump(format));
      if (failure !== '') process.stderr.write(`vipsim: not in force: ${failure}\n`);
    });
}

/** A format of the mode by its name, or by the end of it where only one ends so: `save`. */
/** The mode's format of this name, or the one that ends in it; the first unless one is asked for by `option`. */
export function nativeFormat(mode: Mode, asked: string | undefined, option: string): string {
  const { formats, name } = mode;
  if (asked === undefined) return formats[0]!;
  if (formats.includes(asked)) return asked;
  const ending = formats.filter((format) => format.endsWith(`-${asked}`));
  if (ending.length !== 1) throw new UsageError(`${option} ${asked}: ${name} has ${formats.join(', ')}`);
  return ending[0]!;
}

/** Program everything, take the first endpoint of each port of the Service away, and sync. */
function partialLines(mode: Mode, cluster: Cluster, scenario: Scenario, service: string): Iterable<string> {
  const ports = portsOf(cluster, service);
  const endpoints = new EndpointsMap(cluster);
  const proxier = mode.create(
    {
      cluster,
      endpoints,
      node: OBSERVED_NODE,
      cores: scenario.node.cores,
      conntrack: conntrackOptions(scenario),
      streams: new Streams(scenario.seed),
    },
    modeOptions(scenario, mode.name) as never,
  );
  if (proxier.partialDump === undefined)
    throw new UsageError(`--partial: ${mode.name} has no partial syncs to print`);
  const plan = proxier.sync([...cluster.ports.names.keys()], true);
  if (plan.failure !== undefined) throw new UsageError(`not in force: ${plan.failure.message}`);
  for (const stage of plan.stages) stage.commit();
  const gone: string[] = [];
  for (const port of ports) {
    const first = endpoints.of(port)[0];
    if (first === undefined) continue;
    endpoints.remove(first);
    gone.push(cluster.endpoints.text(first));
  }
  const what = gone.length === 0 ? 'had no endpoint to lose' : `lost ${gone.join(', ')}`;
  process.stderr.write(`vipsim: a partial sync after ${escapeTerminal(service)} ${what}\n`);
  return proxier.partialDump(ports);
}

function portsOf(cluster: Cluster, service: string): number[] {
  const row = cluster.services.findIndex(({ namespace, name }) => `${namespace}/${name}` === service);
  const ports = [...cluster.ports.names.keys()].filter((port) => cluster.ports.service[port] === row);
  if (ports.length > 0) return ports;
  const some = cluster.services.slice(0, 3).map(({ namespace, name }) => `${namespace}/${name}`);
  throw new UsageError(
    `--partial ${service}: ${row < 0 ? 'no such Service' : 'that Service has no ClusterIP'}; wanted one such as ${some.join(', ')}`,
  );
}
