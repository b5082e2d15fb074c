import { Simulation } from '@vipsim/sim-core';
import { fileURLToPath } from 'node:url';
import { runNode } from './children.ts';
import { structureNamed, type Holder } from './holders.ts';
import { holdColumns } from './increments.ts';

/**
 * What the engine does to V8 once it is warm: bytes allocated per event, garbage collections, and functions that
 * lose their optimised code. The child prints V8's own trace; a full collection before and after the measured
 * events marks them in it.
 */
export const WAYS = ['vipsim', 'vipsim Simulation', 'vipsim closures', 'vipsim HeapEventQueue'] as const;

export interface Steadiness {
  readonly name: string;
  readonly events: number;
  readonly bytesPerEvent: number;
  /** Collections of the young generation during the measured events. */
  readonly scavenges: number;
  readonly deopts: number;
  /** V8's lines about them. */
  readonly deoptLines: readonly string[];
}

const PENDING = 10_000;
const WARMUP = 3_000_000;
const SLICE = 50_000;
const STEADY_PROCESS = fileURLToPath(new URL('steady-process.ts', import.meta.url));

/** In a child of its own. */
export function measureSteadiness(name: string, events: number): Steadiness {
  const output = runNode(['--expose-gc', '--trace-gc', '--trace-deopt'], STEADY_PROCESS, [
    name,
    String(events),
  ]);
  const lines = output.split('\n');
  const marks = lines.flatMap((line, i) =>
    line.includes('Mark-Compact') && line.includes('testing') ? [i] : [],
  );
  const measured = lines.slice(marks.at(-2)! + 1, marks.at(-1)!);
  const deoptLines = measured.filter((line) => line.includes('[bailout'));
  const { bytesPerEvent } = JSON.parse(lines.find((line) => line.startsWith('{'))!) as {
    bytesPerEvent: number;
  };
  const scavenges = measured.filter((line) => line.includes('Scavenge')).length;
  return { name, events, bytesPerEvent, scavenges, deopts: deoptLines.length, deoptLines };
}

/** In the child: bytes allocated per event, told by the growth of the heap over slices without a collection. */
export function allocatedPerEvent(name: string, events: number): number {
  const [times, increments] = holdColumns('exponential', PENDING, 1 << 16);
  const holder =
    name === 'vipsim closures' ? new ClosureHolder(increments) : structureNamed(name).make(increments);
  holder.fill(times);
  for (let done = 0; done < WARMUP; done += SLICE) allocatedBy(holder);
  globalThis.gc!();
  // A collection may cost optimised code, too: let V8 make it again.
  for (let done = 0; done < WARMUP; done += SLICE) allocatedBy(holder);
  let bytes = 0;
  let counted = 0;
  for (let done = 0; done < events; done += SLICE) {
    const allocated = allocatedBy(holder);
    if (allocated < 0) continue;
    bytes += allocated;
    counted += SLICE;
  }
  globalThis.gc!();
  return bytes / counted;
}

/** Negative if there was a collection meanwhile. */
function allocatedBy(holder: Holder): number {
  const before = process.memoryUsage().heapUsed;
  holder.hold(SLICE);
  return process.memoryUsage().heapUsed - before;
}

class ClosureHolder implements Holder {
  readonly #simulation = new Simulation();
  readonly #increments: Float64Array;
  #left = 0;
  #at = 0;

  constructor(increments: Float64Array) {
    this.#increments = increments;
  }

  fill(times: Float64Array): void {
    for (const time of times) this.#simulation.schedule(time, () => this.#fire());
  }

  hold(steps: number): number {
    this.#left = steps;
    this.#simulation.run();
    return 0;
  }

  #fire(): void {
    this.#simulation.schedule(this.#increments[this.#at]!, () => this.#fire());
    this.#at = (this.#at + 1) & (this.#increments.length - 1);
    if (--this.#left === 0) this.#simulation.stop('enough');
  }
}
