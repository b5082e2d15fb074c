import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ebpfTables, measureEbpf } from './ebpf.ts';
import { environment } from './environment.ts';
import { measureHold } from './hold.ts';
import { iptablesTables, measureIptables } from './iptables.ts';
import { connectionsTable, measureConnections } from './ipvs-connections.ts';
import { ipvsTable, measureIpvs } from './ipvs.ts';
import { compileNative, type Native } from './native.ts';
import { measureNftables, nftablesTables } from './nftables.ts';
import { readOptions, USAGE, type BenchOptions } from './options.ts';
import { FLOWS, measurePipeline, measureTimers, WIRES_NS } from './pipeline.ts';
import {
  asMarkdown,
  asText,
  environmentText,
  holdTables,
  packetTable,
  steadyTable,
  type Table,
} from './report.ts';
import { measureSteadiness, WAYS } from './steady.ts';

/** Only the first shape is measured with more pending events. */
const OTHER_SHAPES_MAX = 1_000_000;
const STEADY_EVENTS = 5_000_000;

function main(args: readonly string[]): void {
  if (args.includes('--help')) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  let options: BenchOptions;
  try {
    options = readOptions(args);
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n${USAGE}\n`);
    process.exitCode = 2;
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'vipsim-bench-'));
  try {
    bench(options, folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function bench(options: BenchOptions, folder: string): void {
  const native = options.native ? compileNative(folder) : undefined;
  const where = environment(native?.compiler);
  const show = (table: Table): void => {
    process.stdout.write(`${options.markdown ? asMarkdown(table) : asText(table)}\n`);
  };
  process.stdout.write(`${environmentText(where)}\n`);
  const hold = options.parts.includes('hold') ? holdScores(options, folder, native) : [];
  for (const table of holdTables(hold)) show(table);
  const { packets } = options;
  const wires = options.parts.includes('pipeline') ? WIRES_NS : [];
  const pipeline = wires.map((wireNs) => {
    const scores = measurePipeline(wireNs, options, folder, native);
    const wire = wireNs === 0 ? '' : ` behind a wire of ${wireNs / 1e6} ms`;
    show(packetTable(`M/M/1 pipeline${wire}, ${packets} packets`, scores));
    return { wireNs, scores };
  });
  const timers = (options.parts.includes('timers') ? FLOWS : []).map((flows) => {
    const scores = measureTimers(flows, options, folder, native);
    show(packetTable(`Retransmission timers of ${flows} flows, ${packets} packets`, scores));
    return { flows, scores };
  });
  const walked = options.parts.includes('iptables') ? measureIptables(options) : undefined;
  if (walked !== undefined) for (const table of iptablesTables(walked)) show(table);
  const ruled = options.parts.includes('nftables') ? measureNftables(options) : undefined;
  if (ruled !== undefined) for (const table of nftablesTables(ruled)) show(table);
  const picked = options.parts.includes('ipvs') ? measureIpvs(options) : [];
  if (picked.length > 0) show(ipvsTable(picked));
  const found = options.parts.includes('ipvs') ? measureConnections(options) : [];
  if (found.length > 0) show(connectionsTable(found));
  const ebpf = options.parts.includes('ebpf') ? measureEbpf(options, folder) : undefined;
  if (ebpf !== undefined) for (const table of ebpfTables(ebpf)) show(table);
  const steady =
    options.alloc || options.deopts ? WAYS.map((way) => measureSteadiness(way, STEADY_EVENTS)) : [];
  if (steady.length > 0) show(steadyTable(steady));
  if (options.deopts) {
    for (const { name, deoptLines } of steady) {
      for (const line of deoptLines) process.stdout.write(`${name}: ${line}\n`);
    }
  }
  if (options.json !== undefined) {
    const document = {
      environment: where,
      options,
      hold,
      pipeline,
      timers,
      iptables: walked,
      nftables: ruled,
      ipvs: picked,
      connections: found,
      ebpf,
      steady,
    };
    writeFileSync(options.json, `${JSON.stringify(document, null, 2)}\n`);
  }
}

function holdScores(options: BenchOptions, folder: string, native: Native | undefined) {
  const { shapes, sizes, against, rounds, steps, turnMsMax: msMax } = options;
  return shapes.flatMap((shape) =>
    sizes
      .filter((pending) => shape === shapes[0] || pending <= OTHER_SHAPES_MAX)
      .map((pending) => measureHold(shape, pending, { against, rounds, steps, msMax }, folder, native)),
  );
}

main(process.argv.slice(2));
