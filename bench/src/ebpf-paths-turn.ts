import { ebpf } from '../../packages/proxiers/src/ebpf/mode.ts';
import { kindsOf, type CourseName, type Kind } from './ebpf-paths-courses.ts';
import { FlowRun } from './ebpf-paths-flows.ts';
import { processorNs } from './processor-time.ts';
import type { TurnResult } from './turn.ts';

/** Flows of one course through the eBPF mode, in a process of its own. */
export interface CourseRequest {
  readonly bench: 'ebpf-course';
  readonly course: CourseName;
  readonly services: number;
  /** Of each Service. */
  readonly endpoints: number;
  /** Opened while the clock runs. */
  readonly flows: number;
}

/** Flows that are opened before the clock runs, to warm up. */
const WARMUP = 30_000;
/** Passes over the flows that are measured, of later packets and of answers. */
const PASSES = 4;
/** Flows whose counts are taken. */
const SURVEYED = 256;

/**
 * ns per first packet, then, as `parts`, per later one and per answer; the result is a checksum of the addresses that
 * packets left with.
 */
export function takeCourseTurn({ course, services, endpoints, flows }: CourseRequest): TurnResult {
  const run = new FlowRun(course, services, endpoints, WARMUP + flows);
  for (const kind of kindsOf(course)) for (let pass = 0; pass < 3; pass++) run.send(kind, 0, WARMUP);
  const [ns, ...parts] = kindsOf(course).map((kind) => {
    const passes = kind === 'first' ? 1 : PASSES;
    const start = processorNs();
    for (let pass = 0; pass < passes; pass++) run.send(kind, WARMUP, WARMUP + flows);
    return (processorNs() - start) / (flows * passes);
  });
  const lost = run.agent.dataplane.connections();
  if (lost.drops + lost.earlyDrops + lost.portExhaustions > 0) throw new Error('the maps of flows are full');
  return { ns: ns!, parts, result: run.checksum };
}

/** Operations that a packet of a kind is counted as, by name: they do not depend on the size of the cluster. */
export function surveyCourse(course: CourseName, kind: Kind): ReadonlyMap<string, number> {
  const run = new FlowRun(course, 10, 100, SURVEYED);
  const sums = new Float64Array(ebpf.operations.length);
  for (const each of kindsOf(course)) {
    for (let flow = 0; flow < SURVEYED; flow++) {
      run.send(each, flow, flow + 1);
      run.demandRight(each, flow);
      if (each === kind) run.verdict.counts.forEach((count, at) => (sums[at]! += count));
    }
  }
  return new Map(
    ebpf.operations.map((name, at) => [name, sums[at]! / SURVEYED] as const).filter(([, n]) => n > 0),
  );
}
