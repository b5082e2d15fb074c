import test from 'ava';
import fc from 'fast-check';
import { FiredEvent, HeapEventQueue, Simulation, URGENT, type EventQueue } from '../src/index.ts';

/** The plainest queue that could be right: a list searched for its first entry. */
class NaiveQueue implements EventQueue {
  #entries: { at: number; priority: number; sequence: number; kind: number; a: number; b: number }[] = [];
  #sequence = 0;

  get size(): number {
    return this.#entries.length;
  }

  push(at: number, priority: number, kind: number, a: number, b: number): number {
    this.#entries.push({ at, priority, sequence: this.#sequence, kind, a, b });
    return this.#sequence++;
  }

  cancel(handle: number): boolean {
    const before = this.#entries.length;
    this.#entries = this.#entries.filter((entry) => entry.sequence !== handle);
    return this.#entries.length < before;
  }

  peekNs(): number {
    return this.#sorted()[0]?.at ?? Infinity;
  }

  pop(into: FiredEvent): boolean {
    const first = this.#sorted()[0];
    if (first === undefined) return false;
    this.cancel(first.sequence);
    into.atNs = first.at;
    into.kind = first.kind;
    into.a = first.a;
    into.b = first.b;
    return true;
  }

  #sorted() {
    return this.#entries.sort((x, y) => x.at - y.at || x.priority - y.priority || x.sequence - y.sequence);
  }
}

const operation = fc.oneof(
  fc.record({ op: fc.constant('push' as const), at: fc.nat(20), priority: fc.integer({ min: -1, max: 1 }) }),
  fc.record({ op: fc.constant('pop' as const) }),
  fc.record({ op: fc.constant('cancel' as const), which: fc.nat(30) }),
);

test('the heap queue fires, cancels and counts exactly as a sorted list does, also for stale handles', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 120 }), (operations) => {
        const queues = [new HeapEventQueue(), new NaiveQueue()] as const;
        const handles: [number, number][] = [];
        const fired = [new FiredEvent(), new FiredEvent()] as const;
        for (const step of operations) {
          if (step.op === 'push') {
            const tag = handles.length;
            handles.push([
              queues[0].push(step.at, step.priority, 1, tag, -tag),
              queues[1].push(step.at, step.priority, 1, tag, -tag),
            ]);
          } else if (step.op === 'pop') {
            if (queues[0].pop(fired[0]) !== queues[1].pop(fired[1])) return false;
            if (fired[0].a !== fired[1].a || fired[0].atNs !== fired[1].atNs) return false;
          } else if (handles.length > 0) {
            const handle = handles[step.which % handles.length]!;
            if (queues[0].cancel(handle[0]) !== queues[1].cancel(handle[1])) return false;
          }
          if (queues[0].size !== queues[1].size || queues[0].peekNs() !== queues[1].peekNs()) return false;
        }
        return true;
      }),
      { seed: 42, numRuns: 500 },
    ),
  );
});

test('events fire by time, then priority, then the order of scheduling', (t) => {
  const simulation = new Simulation();
  const log: string[] = [];
  simulation.schedule(5, () => log.push('5 first'));
  simulation.schedule(5, () => log.push('5 second'));
  simulation.schedule(5, () => log.push('5 urgent'), URGENT);
  simulation.schedule(1, () => {
    log.push('1');
    simulation.schedule(0, () => log.push('1 again'));
  });
  simulation.schedule(1, () => log.push('1 other'));
  t.deepEqual(simulation.run(), { kind: 'drained', nowNs: 5, events: 6 });
  t.deepEqual(log, ['1', '1 other', '1 again', '5 urgent', '5 first', '5 second']);
});

test('run(until) fires what lies before, stands at the boundary, and leaves the boundary to the next run', (t) => {
  const simulation = new Simulation();
  const log: number[] = [];
  for (const at of [3, 10, 10, 12]) simulation.schedule(at, () => log.push(at));
  t.deepEqual(simulation.run({ untilNs: 10 }), { kind: 'until', nowNs: 10, events: 1 });
  t.is(simulation.nowNs, 10);
  t.deepEqual(log, [3]);
  t.deepEqual(simulation.run({ untilNs: 11 }), { kind: 'until', nowNs: 11, events: 2 });
  t.is(simulation.peekNs(), 12);
  t.throws(() => simulation.run({ untilNs: 10 }), { message: 'cannot run until 10 ns: it is 11 ns already' });
});

test('an event in the past or at half a nanosecond is refused with both numbers', (t) => {
  const simulation = new Simulation();
  const kind = simulation.on(() => undefined);
  simulation.run({ untilNs: 100 });
  t.throws(() => simulation.at(99, kind), { message: 'cannot schedule at 99 ns: it is 100 ns already' });
  t.throws(() => simulation.at(100.5, kind), { message: /whole number of nanoseconds/ });
  t.throws(() => simulation.at(NaN, kind), { message: /whole number of nanoseconds/ });
});

test('limits and stop end a run as a reported outcome', (t) => {
  const endless = new Simulation({ limits: { events: 1000 } });
  const tick = endless.on(() => endless.at(endless.nowNs + 1, tick));
  endless.at(0, tick);
  t.deepEqual(endless.run(), { kind: 'event-limit', nowNs: 999, events: 1000, limit: 1000 });

  const late = new Simulation({ limits: { timeNs: 50 } });
  late.schedule(51, () => undefined);
  t.deepEqual(late.run(), { kind: 'time-limit', nowNs: 0, events: 0, limit: 50 });

  const stopped = new Simulation();
  stopped.schedule(7, () => stopped.stop('enough'));
  stopped.schedule(8, () => t.fail());
  t.deepEqual(stopped.run(), { kind: 'stopped', nowNs: 7, events: 1, reason: 'enough' });
});

test('a cancelled event does not fire, and cancelling twice says so', (t) => {
  const simulation = new Simulation();
  const handle = simulation.schedule(1, () => t.fail());
  t.true(simulation.cancel(handle));
  t.false(simulation.cancel(handle));
  t.is(simulation.pending, 0);
  t.is(simulation.run().kind, 'drained');
});
