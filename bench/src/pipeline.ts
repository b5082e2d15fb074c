import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { commandTurn, nodeTurn } from './children.ts';
import { writeColumns } from './columns.ts';
import { chosen, contest, type Contender, type Score } from './contest.ts';
import { exponentialColumn, INCREMENTS } from './increments.ts';
import { LINES } from './lines.ts';
import { NS3_SCHEDULERS, type Native } from './native.ts';
import { TIMEOUT_NS, TIMERS } from './timers.ts';

const GAP_NS = 1000;
/** A load of 0.8. */
const SERVICE_NS = 800;
const SIMPY_PACKETS_MAX = 100_000;

/** Wires of 0, 2, 20, 200 and 2,000 km, on which no packet is, or about 10, 100, 1,000 and 10,000 are. */
export const WIRES_NS = [0, 10_000, 100_000, 1_000_000, 10_000_000];

export interface PacketEffort {
  readonly packets: number;
  readonly rounds: number;
  /** Parts of the names of rivals; empty for all. */
  readonly against: readonly string[];
}

/** M/M/1 in every simulator, ns per packet; behind a wire of `wireNs` if that is above 0. */
export function measurePipeline(
  wireNs: number,
  { packets, rounds, against }: PacketEffort,
  folder: string,
  native: Native | undefined,
): readonly Score[] {
  const columns = join(folder, 'pipeline.columns');
  writeColumns(columns, [
    exponentialColumn('gap', GAP_NS, INCREMENTS),
    exponentialColumn('service', SERVICE_NS, INCREMENTS),
  ]);
  const lines = LINES.filter(({ wire }) => wire === true || wireNs === 0);
  const contenders: Contender[] = lines.map(({ name, note, packetsMax = Infinity }) => {
    const own = Math.min(packets, packetsMax);
    return {
      name,
      note: own < packets ? `${note}; ${own} packets` : note,
      agrees: own === packets,
      turn: () => nodeTurn({ bench: 'pipeline', name, columns, packets: own, wireNs }),
    };
  });
  if (native !== undefined) contenders.push(...nativeLines(native, columns, packets, wireNs));
  contenders.push(...simpyLine(columns, packets, wireNs));
  return contest(chosen(contenders, against), rounds);
}

function nativeLines(
  { pipeline, ns3 }: Native,
  columns: string,
  packets: number,
  wireNs: number,
): Contender[] {
  const contenders: Contender[] = ['switch', 'function'].map((way) => ({
    name: `C++ std::priority_queue, ${way}`,
    note: way === 'switch' ? 'kinds of event' : 'std::function for each event',
    agrees: true,
    turn: () => commandTurn(pipeline, [columns, String(packets), way, String(wireNs)]),
  }));
  if (ns3 === undefined) return contenders;
  for (const scheduler of NS3_SCHEDULERS) {
    contenders.push({
      name: `ns-3 ${scheduler}`,
      note: 'Simulator::Schedule',
      agrees: true,
      turn: () => commandTurn(ns3, ['pipeline', scheduler, columns, String(packets), String(wireNs)]),
    });
  }
  return contenders;
}

/** SimPy, where Python has it. */
function simpyLine(columns: string, packets: number, wireNs: number): Contender[] {
  const python = spawnSync('python3', ['-c', 'import simpy; simpy.Environment; print(simpy.__version__)'], {
    encoding: 'utf8',
  });
  if (python.status !== 0) {
    process.stderr.write("python3 has no simpy: SimPy is left out ('pip install simpy' brings it)\n");
    return [];
  }
  const script = fileURLToPath(new URL('../native/pipeline.py', import.meta.url));
  const own = Math.min(packets, SIMPY_PACKETS_MAX);
  return [
    {
      name: `SimPy ${python.stdout.trim()}`,
      note: `processes and a Resource${own < packets ? `; ${own} packets` : ''}`,
      agrees: own === packets,
      turn: () => commandTurn('python3', [script, columns, String(own), String(wireNs)]),
    },
  ];
}

export const FLOWS = [10, 10_000];
const PACKET_GAP_NS = 40_000_000;

/** Retransmission timers of so many flows, ns per packet. */
export function measureTimers(
  flows: number,
  { packets, rounds, against }: PacketEffort,
  folder: string,
  native: Native | undefined,
): readonly Score[] {
  const columns = join(folder, 'timers.columns');
  writeColumns(columns, [
    exponentialColumn('start', PACKET_GAP_NS, flows),
    exponentialColumn('packet', PACKET_GAP_NS, INCREMENTS),
  ]);
  const contenders: Contender[] = TIMERS.map(({ name, note, without }) => ({
    name,
    note,
    agrees: without === undefined,
    turn: () => nodeTurn({ bench: 'timers', name, columns, packets }),
  }));
  const ns3 = native?.ns3;
  if (ns3 !== undefined) {
    for (const scheduler of ['MapScheduler', 'PriorityQueueScheduler']) {
      contenders.push({
        name: `ns-3 ${scheduler}`,
        note: 'EventId::Cancel and Simulator::Schedule',
        agrees: true,
        turn: () => commandTurn(ns3, ['timers', scheduler, columns, String(packets), String(TIMEOUT_NS)]),
      });
    }
  }
  return contest(chosen(contenders, against), rounds);
}
