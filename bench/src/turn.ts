import { readColumns } from './columns.ts';
import { takeEbpfTablesTurn, type EbpfTablesRequest } from './ebpf-paths-tables-turn.ts';
import { takeMaglevTurn, type MaglevRequest } from './ebpf-maglev-turn.ts';
import { takeCourseTurn, type CourseRequest } from './ebpf-paths-turn.ts';
import { structureNamed } from './holders.ts';
import { takeIptablesTurn, type IptablesRequest } from './iptables-turn.ts';
import { takeConnectionsTurn, type ConnectionsRequest } from './ipvs-connections-turn.ts';
import { takeIpvsTurn, type IpvsRequest } from './ipvs-turn.ts';
import { lineNamed } from './lines.ts';
import { takeFirstPacketsTurn, type FirstPacketsRequest } from './nftables-turn.ts';
import { timersNamed } from './timers.ts';

/** What a turn is asked for: one structure, one workload, in a process of its own. */
export type TurnRequest =
  | {
      readonly bench: 'hold';
      readonly name: string;
      /** Times at the start, increments. */
      readonly columns: string;
      /** Holds before the measured ones; their order is compared. */
      readonly warmup: number;
      readonly steps: number;
      /** Stop measuring after that long, ms. */
      readonly msMax: number;
    }
  | {
      readonly bench: 'pipeline';
      readonly name: string;
      readonly columns: string;
      readonly packets: number;
      readonly wireNs: number;
    }
  | { readonly bench: 'timers'; readonly name: string; readonly columns: string; readonly packets: number }
  | IptablesRequest
  | IpvsRequest
  | ConnectionsRequest
  | MaglevRequest
  | CourseRequest
  | EbpfTablesRequest
  | FirstPacketsRequest;

export interface TurnResult {
  /** Per hold or per packet. */
  readonly ns: number;
  /** ns of what the same turn measured besides. */
  readonly parts?: readonly number[];
  /** Operations per packet, by name. */
  readonly counts?: Readonly<Record<string, number>>;
  /** Held per pending event, just after filling. */
  readonly bytes?: number;
  /** The same by the structure's own account. */
  readonly ownBytes?: number;
  /** Checksum of the order of popping. */
  readonly order?: number;
  /** What the run computed: equal for all that do the same work. */
  readonly result?: number;
}

const CHUNK = 65_536;

/** Run in this process what the request says. */
export async function takeTurn(request: TurnRequest): Promise<TurnResult> {
  if (request.bench === 'hold') return takeHoldTurn(request);
  if (request.bench === 'ipvs-picks') return takeIpvsTurn(request);
  if (request.bench === 'ipvs-connections') return takeConnectionsTurn(request);
  if (request.bench === 'ebpf-maglev') return takeMaglevTurn(request);
  if (request.bench === 'ebpf-course') return takeCourseTurn(request);
  if (request.bench === 'ebpf-build' || request.bench === 'ebpf-lookup') return takeEbpfTablesTurn(request);
  if (request.bench === 'first-packets') return takeFirstPacketsTurn(request);
  if (request.bench !== 'pipeline' && request.bench !== 'timers') return takeIptablesTurn(request);
  const [first, second] = readColumns(request.columns);
  const { name } = request;
  const wireNs = request.bench === 'pipeline' ? request.wireNs : 0;
  const prepare = request.bench === 'pipeline' ? lineNamed(name).prepare : timersNamed(name).prepare;
  // On two subjects first: what is measured is the simulator, not V8 compiling it, which it does again for the second.
  for (let subject = 0; subject < 2; subject++) await prepare(first!, second!, request.packets, wireNs)();
  const run = prepare(first!, second!, request.packets, wireNs);
  const start = process.hrtime.bigint();
  const result = await run();
  return { ns: nsSince(start) / request.packets, result };
}

function takeHoldTurn(request: TurnRequest & { readonly bench: 'hold' }): TurnResult {
  const [times, increments] = readColumns(request.columns);
  const before = bytesHeld();
  const holder = structureNamed(request.name).make(increments!);
  holder.fill(times!);
  const bytes = (bytesHeld() - before) / times!.length;
  const ownBytes = (holder.ownBytes ?? NaN) / times!.length;
  const order = holder.hold(request.warmup);
  const start = process.hrtime.bigint();
  let done = 0;
  while (done < request.steps && nsSince(start) < request.msMax * 1e6) {
    const chunk = Math.min(CHUNK, request.steps - done);
    holder.hold(chunk);
    done += chunk;
  }
  const ns = nsSince(start) / done;
  return { ns, order, bytes, ...(Number.isNaN(ownBytes) ? {} : { ownBytes }) };
}

function nsSince(start: bigint): number {
  return Number(process.hrtime.bigint() - start);
}

/** On the heap and outside of it, typed arrays included. */
function bytesHeld(): number {
  // Twice: the memory of buffers found dead is given back with the next collection.
  globalThis.gc?.();
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
