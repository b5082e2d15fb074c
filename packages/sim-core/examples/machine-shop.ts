import { exponential, normal, NS_PER_S, Streams, type Stream } from '../src/index.ts';
import { Environment, Interrupt, Preempted, Resource, type ProcessSteps } from '../src/process/index.ts';

/**
 * Ten machines make parts and break now and then; one repairman mends them, and has a job of less importance that
 * he drops for them. Shows interrupts and preemption. After SimPy's "Machine Shop".
 */

const MINUTE = 60 * NS_PER_S;
const PART_MEAN = 10 * MINUTE;
const FAILURE_GAP_MEAN = 300 * MINUTE;
const REPAIR = 30 * MINUTE;
const OTHER_JOB = 30 * MINUTE;
const FOUR_WEEKS = 4 * 7 * 24 * 60 * MINUTE;

export function run(print: (line: string) => void): void {
  const env = new Environment();
  const repairman = new Resource(env, { capacity: 1, name: 'repairman' });
  const machines = Array.from({ length: 10 }, () => ({ parts: 0, broken: false }));
  const chance = new Streams('machine shop').stream('machine');
  let [jobs, drops] = [0, 0];

  function* produce(machine: (typeof machines)[0], times: Stream): ProcessSteps {
    for (; ; machine.parts++) {
      let leftNs = Math.max(0, Math.round(normal(times, PART_MEAN, PART_MEAN / 5)));
      for (let startNs = env.nowNs; leftNs > 0; startNs = env.nowNs) {
        try {
          yield leftNs;
          break;
        } catch (error) {
          if (!(error instanceof Interrupt)) throw error;
        }
        leftNs -= env.nowNs - startNs;
        machine.broken = true;
        using call = repairman.request({ priority: 1, preempt: true });
        yield* call;
        yield REPAIR;
        machine.broken = false;
      }
    }
  }

  function* fail(machine: (typeof machines)[0], interrupt: () => void, gaps: Stream): ProcessSteps {
    for (;;) {
      yield Math.round(exponential(gaps, FAILURE_GAP_MEAN));
      if (!machine.broken) interrupt();
    }
  }

  function* otherJobs(): ProcessSteps {
    for (; ; jobs++) {
      for (let leftNs = OTHER_JOB; leftNs > 0;) {
        using place = repairman.request({ priority: 2 });
        try {
          yield* place;
          yield leftNs;
          leftNs = 0;
        } catch (error) {
          if (!(error instanceof Interrupt && error.cause instanceof Preempted)) throw error;
          leftNs -= env.nowNs - error.cause.sinceNs;
          drops++;
        }
      }
    }
  }

  for (const [index, machine] of machines.entries()) {
    const production = env.process(produce(machine, chance.sub(`${index}/parts`)), `machine ${index}`);
    env.process(
      fail(machine, () => production.interrupt('broken'), chance.sub(`${index}/failures`)),
      `failures of ${index}`,
    );
  }
  env.process(otherJobs(), 'other jobs');
  env.run({ untilNs: FOUR_WEEKS });
  for (const [index, { parts }] of machines.entries()) print(`machine ${index} made ${parts} parts`);
  print(`other jobs: ${jobs} done, dropped ${drops} times`);
}

if (import.meta.filename === process.argv[1]) run(console.log);
