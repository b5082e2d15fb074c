import { arch, platform } from 'node:os';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { DEFAULT_MODES, MODES } from '@vipsim/proxiers';
import { compare } from '../experiment/compare.ts';
import { resultDocument } from '../experiment/document.ts';
import { packetCapture } from '../experiment/packet-capture.ts';
import { perfettoTrace } from '../experiment/perfetto-trace.ts';
import { clusterRemarks } from '../experiment/remarks.ts';
import { TRACE_CONNECTIONS, traceRun } from '../experiment/run-trace.ts';
import { renderCsv, renderHtml, renderJson, renderMarkdown, renderTable } from '../report/index.ts';
import type { ResultDocument } from '../report/result.ts';
import { assertWritable, printLines, writeChunks, writeWhole } from './files.ts';
import { parseSize, readInputs } from './inputs.ts';
import { progressPrinter } from './progress.ts';
import { addScenarioFlags, profileOf, scenarioOf, type ScenarioFlags } from './settings.ts';

interface CompareFlags extends ScenarioFlags {
  readonly sizes?: string;
  readonly json?: string;
  readonly html?: string;
  readonly md?: string;
  readonly csv?: string;
  readonly quiet: boolean;
}

/** What only `run` takes. */
interface RunFlags {
  readonly mode: string;
  readonly perfetto?: string;
  readonly pcap?: string;
  readonly traceConnections: number;
}

const RECORDINGS = { perfetto: perfettoTrace, pcap: packetCapture } as const;

const RENDERERS = { json: renderJson, html: renderHtml, md: renderMarkdown, csv: renderCsv } as const;

export function addCompareCommand(program: Command): void {
  withOutputs(
    addScenarioFlags(program.command('compare'))
      .argument(
        '<input...>',
        'manifests, dumps, directories, - for standard input, or synthetic:services=…,endpoints=…',
      )
      .description('the modes side by side: lookup cost, CPU, latency and reaction to churn')
      .option('--modes <list>', `which modes (default: "${DEFAULT_MODES.join(',')}")`)
      .option('--duration <time>', 'virtual time during which connections arrive (default: "60s")')
      .option('--sizes <list>', 'also at these numbers of endpoints, such as 10k,100k,1M'),
  )
    .addHelpText(
      'after',
      `
Examples:
  vipsim compare examples/shop.yaml --html report.html
  kubectl get svc,endpointslices,pods,nodes -A -o json | vipsim compare -
  vipsim compare cluster.json --sizes 30k,100k --md growth.md
  vipsim compare 'synthetic:services=10000,endpoints=100' --set iptables.backend=legacy`,
    )
    .action((words: string[], flags: CompareFlags) => runCompare(words, flags));
}

export function addRunCommand(program: Command): void {
  withOutputs(
    addScenarioFlags(program.command('run'))
      .argument('<input...>', 'as for compare')
      .description('one mode, all details')
      .addOption(modeOption())
      .option('--duration <time>', 'virtual time during which connections arrive (default: "60s")'),
  )
    .option('--perfetto <file>', 'a trace for ui.perfetto.dev: cores, packets, syncs, connections')
    .option('--pcap <file>', 'a pcapng capture on both sides of the node, headers only')
    .option(
      '--trace-connections <n>',
      'of how many connections, from the first, these two hold packets',
      traceConnections,
      TRACE_CONNECTIONS,
    )
    .addHelpText(
      'after',
      `
--perfetto and --pcap run the mode a second time through the same day, so they change no result.

Examples:
  vipsim run examples/shop.yaml --mode ipvs --json result.json
  vipsim run examples/shop.yaml --mode iptables --duration 5s --perfetto trace.json --pcap packets.pcapng`,
    )
    .action((words: string[], flags: CompareFlags & RunFlags) =>
      runCompare(words, { ...flags, modes: flags.mode }, flags),
    );
}

/** `--mode M`, one of the modes there are. */
export function modeOption(): Option {
  return new Option('--mode <mode>', 'which mode')
    .choices(MODES.map(({ name }) => name))
    .makeOptionMandatory();
}

function withOutputs(command: Command): Command {
  return command
    .option('--json <file>', 'the result document (- for standard output)')
    .option('--html <file>', 'a report with charts in one file')
    .option('--md <file>', 'the tables as Markdown')
    .option('--csv <file>', 'one row per size and mode')
    .option('--quiet', 'no progress and no table', false);
}

function runCompare(words: readonly string[], flags: CompareFlags, tracing?: RunFlags): void {
  const started = performance.now();
  const scenario = scenarioOf(flags);
  const profile = profileOf(flags);
  const outputs = Object.entries(RENDERERS).flatMap(([name, render]) => {
    const path = flags[name as keyof typeof RENDERERS];
    return path === undefined ? [] : [{ path, render }];
  });
  const recordings = Object.entries(RECORDINGS).flatMap(([name, record]) => {
    const path = tracing?.[name as keyof typeof RECORDINGS];
    return path === undefined ? [] : [{ path, record }];
  });
  const paths = [...outputs, ...recordings].map(({ path }) => path);
  for (const path of paths) assertWritable(path);
  const input = readInputs(words);
  const sizes = flags.sizes
    ?.split(',')
    .map((text) => ({ label: `${text} endpoints`, endpoints: parseSize(text) }));
  const progress = progressPrinter(flags.quiet);
  const results = compare(
    {
      scenario,
      profile,
      sizes: sizes?.map(({ label, endpoints }) => ({ label, cluster: () => input.atSize(endpoints) })) ?? [
        { label: input.title, cluster: () => input.cluster() },
      ],
    },
    (update) => progress.update(update),
  );
  progress.done();
  const document = resultDocument({
    title: input.title,
    command: commandLine(),
    scenario,
    profile,
    inputs: input.records,
    notes: clusterRemarks(input.cluster()),
    sizes: results,
    environment: environment(started),
  });
  for (const { path, render } of outputs) writeWhole(path, render(document));
  if (tracing !== undefined && recordings.length > 0) {
    const mode = MODES.find(({ name }) => name === tracing.mode)!;
    const trace = traceRun(mode, input.cluster(), scenario, profile, tracing.traceConnections);
    for (const { path, record } of recordings) writeChunks(path, record(trace));
  }
  const toStandardOutput = paths.includes('-');
  if (flags.quiet || toStandardOutput) return;
  const width = process.stdout.columns ?? 110;
  const colour = process.stdout.isTTY === true && process.env['NO_COLOR'] === undefined;
  printLines([renderTable(document, { colour, width }), ...paths.map((path) => `wrote ${path}`)]);
}

function traceConnections(text: string): number {
  if (!/^\d{1,7}$/.test(text)) throw new InvalidArgumentError('wanted a number of connections up to 9999999');
  return Number(text);
}

function environment(started: number): ResultDocument['environment'] {
  return {
    runtime: `node ${process.version}, V8 ${process.versions.v8}`,
    platform: `${platform()} ${arch()}`,
    wallMs: Math.round(performance.now() - started),
    peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
  };
}

/** The command as typed, in a form that a shell reads back. */
function commandLine(): string {
  const words = process.argv
    .slice(2)
    .map((word) => (/^[\w./:=,@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`));
  return ['vipsim', ...words].join(' ');
}
