import { fixedPoint } from './fixed-point.ts';

/**
 * Trace events as JSON, as Perfetto (ui.perfetto.dev) and chrome://tracing read them.
 * Source: the Trace Event Format document of the Chromium project: `ph` X (complete), b and e (nestable async),
 * i (instant), C (counter), M (metadata); `ts` and `dur` in microseconds.
 * Not written: flow events, stack frames, sampling.
 */
export type TraceEvent =
  | {
      readonly kind: 'complete';
      readonly process: number;
      readonly thread: number;
      readonly name: string;
      readonly atNs: number;
      readonly durationNs: number;
      readonly args?: TraceArgs;
    }
  | {
      /** The beginning or the end of something that crosses threads; both carry category, id and name. */
      readonly kind: 'begin' | 'end';
      readonly process: number;
      readonly thread: number;
      readonly category: string;
      readonly id: number;
      readonly name: string;
      readonly atNs: number;
      readonly args?: TraceArgs;
    }
  | {
      readonly kind: 'instant';
      readonly process: number;
      readonly thread: number;
      readonly name: string;
      readonly atNs: number;
      readonly args?: TraceArgs;
    }
  | {
      /** The value of every series from now on. */
      readonly kind: 'counter';
      readonly process: number;
      readonly thread: number;
      readonly name: string;
      readonly atNs: number;
      readonly args: Readonly<Record<string, number>>;
    };

export type TraceArgs = Readonly<Record<string, string | number>>;

export interface TraceProcess {
  readonly id: number;
  readonly name: string;
  readonly threads: readonly { readonly id: number; readonly name: string }[];
}

export interface PerfettoTrace {
  readonly processes: readonly TraceProcess[];
  /** In any order, but the complete events of one thread in the order of their starts, outer before inner. */
  readonly events: Iterable<TraceEvent>;
  /** Facts about the whole recording. */
  readonly facts?: Readonly<Record<string, string>>;
}

const CHUNK = 65_536;

/**
 * The document in chunks of about 64 Ki characters, one event a line; times are exact to the nanosecond.
 * @throws RangeError for a complete event that starts before its predecessor on the thread, or ends within one
 * and starts outside it: viewers would draw something else than what happened.
 */
export function* perfettoJson(trace: PerfettoTrace): Generator<string> {
  const nesting = new Nesting();
  let chunk = `{"displayTimeUnit":"ns","otherData":${JSON.stringify(trace.facts ?? {})},"traceEvents":[`;
  let separator = '\n';
  for (const line of metadata(trace.processes)) {
    chunk += separator + line;
    separator = ',\n';
  }
  for (const event of trace.events) {
    if (event.kind === 'complete') nesting.admit(event);
    chunk += separator + eventJson(event);
    separator = ',\n';
    if (chunk.length < CHUNK) continue;
    yield chunk;
    chunk = '';
  }
  yield `${chunk}\n]}\n`;
}

function* metadata(processes: readonly TraceProcess[]): Generator<string> {
  for (const { id, name, threads } of processes) {
    yield metadataJson('process_name', id, 0, { name });
    yield metadataJson('process_sort_index', id, 0, { sort_index: id });
    for (const thread of threads) {
      yield metadataJson('thread_name', id, thread.id, { name: thread.name });
      yield metadataJson('thread_sort_index', id, thread.id, { sort_index: thread.id });
    }
  }
}

function metadataJson(name: string, process: number, thread: number, args: TraceArgs): string {
  return `{"ph":"M","name":"${name}","pid":${process},"tid":${thread},"args":${JSON.stringify(args)}}`;
}

function eventJson(event: TraceEvent): string {
  const place = `"pid":${event.process},"tid":${event.thread},"ts":${fixedPoint(event.atNs, 3)}`;
  const name = JSON.stringify(event.name);
  const args = event.args === undefined ? '' : `,"args":${JSON.stringify(event.args)}`;
  switch (event.kind) {
    case 'complete':
      return `{"ph":"X","name":${name},${place},"dur":${fixedPoint(event.durationNs, 3)}${args}}`;
    case 'begin':
    case 'end': {
      const phase = event.kind === 'begin' ? 'b' : 'e';
      const category = JSON.stringify(event.category);
      // Ids are text: numbers in them are read as hexadecimal by some viewers.
      return `{"ph":"${phase}","cat":${category},"id":"0x${event.id.toString(16)}","name":${name},${place}${args}}`;
    }
    case 'instant':
      return `{"ph":"i","s":"t","name":${name},${place}${args}}`;
    case 'counter':
      return `{"ph":"C","name":${name},${place}${args}}`;
  }
}

/** The complete events that are open on each thread. */
class Nesting {
  readonly #threads = new Map<string, { startNs: number; readonly ends: number[] }>();

  admit(event: TraceEvent & { kind: 'complete' }): void {
    const key = `${event.process}/${event.thread}`;
    const endNs = event.atNs + event.durationNs;
    let open = this.#threads.get(key);
    if (open === undefined) this.#threads.set(key, (open = { startNs: 0, ends: [] }));
    while (open.ends.length > 0 && open.ends.at(-1)! <= event.atNs) open.ends.pop();
    if (event.atNs < open.startNs || endNs > (open.ends.at(-1) ?? Infinity)) {
      throw new RangeError(
        `${event.name}: ${event.atNs} to ${endNs} ns on thread ${key} overlaps another, or is out of order`,
      );
    }
    open.startNs = event.atNs;
    open.ends.push(endNs);
  }
}
