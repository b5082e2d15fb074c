import test from 'ava';
import fc from 'fast-check';
import {
  BucketEventQueue,
  FiredEvent,
  HeapEventQueue,
  Simulation,
  Streams,
  URGENT,
  exponential,
  pareto,
  type EventQueue,
} from '../src/index.ts';
import { PendingHandles } from '../src/engine/pending-handles.ts';

type Operation = ReturnType<typeof operation> extends fc.Arbitrary<infer Step> ? Step : never;

/** The plainest queue that could be right: a list searched for its first entry. */
class NaiveQueue implements EventQueue {
  dueNs = 0;
  limitNs = Infinity;
  nowNs = 0;
  #entries: { at: number; priority: number; sequence: number; kind: number; a: number; b: number }[] = [];
  #sequence = 0;

  get size(): number {
    return this.#entries.length;
  }

  push(at: number, priority: number, kind: number, a: number, b: number): void {
    this.#entries.push({ at, priority, sequence: this.#sequence++, kind, a, b });
  }

  pushDue(priority: number, kind: number, a: number, b: number): void {
    this.push(this.dueNs, priority, kind, a, b);
  }

  pushNamed(priority: number, kind: number, a: number, b: number): number {
    this.pushDue(priority, kind, a, b);
    return this.#sequence - 1;
  }

  isPending(handle: number): boolean {
    return this.#entries.some(({ sequence }) => sequence === handle);
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
    if (first === undefined || first.at >= this.limitNs) return false;
    this.cancel(first.sequence);
    this.nowNs = first.at;
    into.kind = first.kind;
    into.a = first.a;
    into.b = first.b;
    return true;
  }

  #sorted() {
    return this.#entries.sort((x, y) => x.at - y.at || x.priority - y.priority || x.sequence - y.sequence);
  }
}

const operation = (times: fc.Arbitrary<number>) =>
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        op: fc.constant('push' as const),
        at: times,
        priority: fc.constantFrom(0, 0, 0, -1, 1),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        op: fc.constant('burst' as const),
        at: times,
        by: fc.nat(1000),
        count: fc.nat(120),
      }),
    },
    { weight: 3, arbitrary: fc.record({ op: fc.constant('pop' as const), count: fc.nat(60) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        op: fc.constant('follow' as const),
        after: fc.constantFrom(0, 0, 1, 1000),
        count: fc.nat(20),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ op: fc.constant('cancel' as const), which: fc.nat(10_000), count: fc.nat(80) }),
    },
  );

/** Run the same operations on two queues; false at the first difference. */
function agree(subject: EventQueue, naive: EventQueue, operations: readonly Operation[]): boolean {
  const handles: [number, number][] = [];
  const fired = [new FiredEvent(), new FiredEvent()] as const;
  let tag = 0;
  const push = (at: number, priority: number): void => {
    subject.dueNs = at;
    naive.dueNs = at;
    // One in three cannot be cancelled.
    if (tag % 3 === 0) for (const queue of [subject, naive]) queue.pushDue(priority, 1, tag, -tag);
    else handles.push([subject.pushNamed(priority, 1, tag, -tag), naive.pushNamed(priority, 1, tag, -tag)]);
    tag++;
  };
  const pop = (): boolean =>
    subject.peekNs() === naive.peekNs() &&
    subject.pop(fired[0]) === naive.pop(fired[1]) &&
    fired[0].a === fired[1].a &&
    fired[0].b === fired[1].b &&
    subject.nowNs === naive.nowNs;
  for (const step of operations) {
    if (step.op === 'push') push(step.at, step.priority);
    if (step.op === 'burst') for (let i = 0; i < step.count; i++) push(step.at + i * step.by, 0);
    if (step.op === 'pop') for (let i = 0; i < step.count; i++) if (!pop()) return false;
    for (let i = 0; step.op === 'follow' && i < step.count; i++) {
      if (!pop()) return false;
      push(naive.nowNs + step.after, 0);
    }
    for (let i = 0; step.op === 'cancel' && i < step.count && handles.length > 0; i++) {
      const [mine, theirs] = handles[(step.which + i * 7) % handles.length]!;
      if (subject.cancel(mine) !== naive.cancel(theirs)) return false;
    }
    if (subject.size !== naive.size) return false;
  }
  while (naive.size > 0) if (!pop()) return false;
  return subject.size === 0 && subject.peekNs() === Infinity && !subject.pop(fired[0]);
}

const TIMES = {
  'few instants': fc.nat(20),
  'one instant': fc.constant(5),
  'a wide range': fc.nat(1_000_000),
  'all of time': fc.maxSafeNat().map((at) => Math.floor(at / 2)),
  'two humps': fc.oneof(
    fc.nat(1000),
    fc.nat(1000).map((at) => at + 1_000_000_000_000),
  ),
};

for (const [name, make] of [
  ['the reference heap', () => new HeapEventQueue()],
  ['the bucket queue', () => new BucketEventQueue()],
] as const) {
  for (const [shape, times] of Object.entries(TIMES)) {
    test(`${name} fires, cancels and counts as a sorted list does, stale handles included: ${shape}`, (t) => {
      t.notThrows(() =>
        fc.assert(
          fc.property(fc.array(operation(times), { maxLength: 40 }), (operations) =>
            agree(make(), new NaiveQueue(), operations),
          ),
          { seed: 42, numRuns: 150 },
        ),
      );
    });
  }
}

test('the bucket queue agrees with the reference over a long run of every kind of increment, some cancelled', (t) => {
  const stream = new Streams('long').stream('increments');
  const increments: Record<string, () => number> = {
    exponential: () => Math.round(exponential(stream, 1e6)),
    constant: () => 1_000_000,
    bimodal: () => (stream.uniform() < 0.9 ? stream.below(1000) : 1e9 + stream.below(1000)),
    pareto: () => Math.min(2 ** 40, Math.round(pareto(stream, 1000, 1.1))),
    zero: () => 0,
    quantised: () => stream.below(10) * 1_000_000,
    'ever slower': () => Math.round(exponential(stream, 1000) * 1.0001 ** tag),
  };
  let tag = 0;
  for (const [name, increment] of Object.entries(increments)) {
    const [mine, reference] = [new BucketEventQueue(), new HeapEventQueue()];
    const [one, two] = [new FiredEvent(), new FiredEvent()];
    const handles: (readonly [mine: number, reference: number])[] = [];
    tag = 0;
    const push = (at: number): void => {
      const priority = stream.below(20) === 0 ? stream.below(3) - 1 : 0;
      mine.dueNs = at;
      reference.dueNs = at;
      if (stream.below(3) === 0) {
        handles.push([mine.pushNamed(priority, 1, tag, 0), reference.pushNamed(priority, 1, tag, 0)]);
      } else {
        mine.pushDue(priority, 1, tag, 0);
        reference.pushDue(priority, 1, tag, 0);
      }
      tag++;
    };
    for (let i = 0; i < 20_000; i++) push(increment());
    for (let i = 0; i < 60_000; i++) {
      mine.pop(one);
      reference.pop(two);
      if (one.a !== two.a || mine.nowNs !== reference.nowNs)
        return t.fail(
          `${name}: pop ${i} gives ${one.a} at ${mine.nowNs}, not ${two.a} at ${reference.nowNs}`,
        );
      push(reference.nowNs + increment());
      if (i % 4 === 0) {
        const [x, y] = handles[stream.below(handles.length)]!;
        if (mine.cancel(x) !== reference.cancel(y)) return t.fail(`${name}: cancel ${x}`);
        push(reference.nowNs + increment());
      }
    }
    while (reference.pop(two)) {
      mine.pop(one);
      if (one.a !== two.a) return t.fail(`${name}: ${one.a}, not ${two.a}`);
    }
    t.is(mine.size, 0);
  }
});

test('events that all lie far beyond, and are all cancelled but one, are found', (t) => {
  const queue = new BucketEventQueue();
  const event = new FiredEvent();
  const handles: number[] = [];
  for (let i = 0; i < 900; i++) {
    queue.dueNs = i % 3 === 0 ? i : 10 ** (9 + (i % 6)) + i;
    handles.push(queue.pushNamed(0, 1, i, 0));
  }
  for (const handle of handles.slice(0, -1)) t.true(queue.cancel(handle));
  t.is(queue.peekNs(), 10 ** 14 + 899);
  t.true(queue.pop(event));
  t.is(event.a, 899);
  t.false(queue.pop(event));
});

test('pending handles are the set of numbers added and not removed, however far apart', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            step: fc.oneof(
              fc.constant(1),
              fc.integer({ min: 1, max: 100 }),
              fc.integer({ min: 1, max: 2 ** 33 }),
            ),
            remove: fc.nat(),
            fit: fc.option(fc.nat(2000), { freq: 20 }),
          }),
          { maxLength: 400 },
        ),
        (steps) => {
          const handles = new PendingHandles();
          const naive = new Set<number>();
          let number = -1;
          for (const { step, remove, fit } of steps) {
            if (fit !== null) handles.fit(fit);
            number += step;
            handles.add(number);
            naive.add(number);
            const other = remove % 2 === 0 ? [...naive][remove % naive.size]! : remove % (number + 1);
            if (handles.has(other) !== naive.has(other)) return false;
            if (remove % 3 > 0 && handles.remove(other) !== naive.delete(other)) return false;
            if (handles.has(other) !== naive.has(other)) return false;
          }
          return [...naive].every((one) => handles.remove(one) && !handles.has(one));
        },
      ),
      { seed: 42 },
    ),
  );
});

test('pending handles take little room, close together or far apart, and what is gone is given back', (t) => {
  for (const [pending, step, bytesEach] of [
    [10_000, 1, 1],
    [10_000, 7, 4],
    [10_000, 10_000, 60],
  ] as const) {
    const handles = new PendingHandles();
    handles.add(0);
    for (let i = 1; i < 300_000; i++) {
      handles.add(i * step);
      if (i > pending) t.true(handles.remove((i - pending) * step));
    }
    t.true(handles.bytes < pending * bytesEach, `${step} apart: ${handles.bytes}`);
    t.true(handles.has(0));
    for (let i = 300_000 - pending; i < 300_000; i++) t.true(handles.remove(i * step));
    t.true(handles.isRoomyFor(1));
    handles.fit(1);
    t.true(handles.bytes < 400, `${handles.bytes}`);
    t.true(handles.remove(0));
  }
});

test('the bucket queue holds at most 40 bytes per pending event, and gives memory back', (t) => {
  const queue = new BucketEventQueue();
  const empty = queue.bytes;
  const event = new FiredEvent();
  const stream = new Streams('memory').stream('times');
  for (let i = 0; i < 1_000_000; i++) {
    queue.dueNs = Math.round(exponential(stream, 1e9));
    queue.pushNamed(0, 1, i, 0);
  }
  for (let i = 0; i < 1_000_000; i++) {
    queue.pop(event);
    queue.push(queue.nowNs + Math.round(exponential(stream, 1e9)), 0, 1, i, 0);
  }
  t.true(queue.bytes <= 40e6 + 100_000, `${queue.bytes}`);
  while (queue.size > 1000) queue.pop(event);
  for (let i = 0; i < 600_000; i++) {
    queue.pop(event);
    queue.push(queue.nowNs + Math.round(exponential(stream, 1e9)), 0, 1, i, 0);
  }
  t.true(queue.bytes < 4e6, `with 1,000 left: ${queue.bytes}`);
  while (queue.pop(event));
  t.true(queue.bytes <= empty + 40_000);
});

test('cancelled events do not pile up, and a handle outlived by its slot cancels nothing', (t) => {
  const queue = new BucketEventQueue();
  const event = new FiredEvent();
  const stale: number[] = [];
  for (let i = 0; i < 200_000; i++) {
    queue.dueNs = 1e9 + i;
    const handle = queue.pushNamed(0, 1, i, 0);
    queue.push(i, 0, 2, i, 0);
    t.true(queue.cancel(handle));
    t.false(queue.cancel(handle));
    if (i % 1000 === 0) stale.push(handle);
    queue.pop(event);
  }
  t.is(queue.size, 0);
  t.true(queue.bytes < 1e6, `${queue.bytes}`);
  for (let i = 0; i < 1000; i++) queue.push(i, 0, 1, i, 0);
  for (const handle of stale) t.false(queue.cancel(handle));
  for (const nonsense of [-1, 0.5, NaN, Infinity, 2 ** 53]) t.false(queue.cancel(nonsense));
  t.is(queue.size, 1000);
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

test('stop ends the run it is called in, and no other, nor a step', (t) => {
  const simulation = new Simulation();
  let fired = 0;
  const stopping = simulation.on(() => {
    fired++;
    simulation.stop('once');
  });
  for (let at = 1; at <= 5; at++) simulation.at(at, stopping);
  simulation.stop('too early');
  t.true(simulation.step());
  t.true(simulation.step());
  t.is(simulation.run().kind, 'stopped');
  simulation.stop('too late');
  t.is(simulation.run({ untilNs: 4 }).kind, 'until');
  t.is(simulation.run().kind, 'stopped');
  t.is(fired, 4);
  t.is(simulation.peekNs(), 5);
  t.true(simulation.step());
});

test('bad use is refused with the numbers that make it wrong', (t) => {
  const simulation = new Simulation();
  const kind = simulation.on(() => undefined, 'tick');
  simulation.schedule(5, () => simulation.run());
  t.throws(() => simulation.run(), {
    message: 'run is called at 5 ns from an event of the run that is under way',
  });
  simulation.schedule(1, () => simulation.step());
  t.throws(() => simulation.run(), { message: /step is called at 6 ns/ });
  t.throws(() => simulation.run(), { message: 'nothing is pending: the run ended at 6 ns after 2 events' });
  t.throws(() => simulation.at(2 ** 53, kind), {
    message: /9007199254740992 ns: a time is a whole number of nanoseconds below 2\^53/,
  });
  t.throws(() => simulation.at(10, 99), { message: 'no event kind 99: there are 2' });
  t.throws(() => simulation.at(10, kind, 0, 0, 128), {
    message: /priority 128: wanted a whole number from -127 to 127/,
  });
});

test('an observer sees every event before it is handled, and events are counted by kind', (t) => {
  const simulation = new Simulation();
  const ping = simulation.on((a) => simulation.at(simulation.nowNs + 1, pong, a + 1), 'ping');
  const pong = simulation.on(() => undefined, 'pong');
  const seen: string[] = [];
  simulation.observer = (atNs, kind, a, b) => seen.push(`${atNs} ${simulation.kindName(kind)} ${a} ${b}`);
  simulation.at(3, ping, 7, 9);
  simulation.schedule(1, () => undefined);
  simulation.run();
  t.deepEqual(seen, ['1 callback 0 0', '3 ping 7 9', '4 pong 8 0']);
  t.deepEqual(simulation.firedByKind(), [
    { name: 'callback', fired: 1 },
    { name: 'ping', fired: 1 },
    { name: 'pong', fired: 1 },
  ]);
});

test('a cancelled event does not fire, and cancelling a stale handle is refused with its number', (t) => {
  const simulation = new Simulation();
  const handle = simulation.schedule(1, () => t.fail());
  t.true(simulation.isPending(handle));
  simulation.cancel(handle);
  t.false(simulation.isPending(handle));
  t.throws(() => simulation.cancel(handle), {
    message: `cannot cancel event ${handle} at 0 ns: it has fired or was cancelled before`,
  });
  t.throws(() => simulation.cancel(NaN), { message: /cannot cancel event NaN/ });
  t.is(simulation.pending, 0);
  t.is(simulation.run().kind, 'drained');
});

test('the clock stands still for what was cancelled', (t) => {
  for (const queue of [new BucketEventQueue(), new HeapEventQueue()]) {
    const simulation = new Simulation({ queue });
    simulation.schedule(5, () => undefined);
    for (const delay of [50, 100, 1e9]) simulation.cancel(simulation.schedule(delay, () => t.fail()));
    t.is(simulation.run().nowNs, 5);
    t.is(queue.nowNs, 5);
    simulation.schedule(1, () => undefined);
    t.is(simulation.run().nowNs, 6);
  }
});

test('timers of a few flows, pushed back all the time, fire as in the reference and move nothing else', (t) => {
  for (const flows of [1, 2, 3, 4, 5, 8, 13]) {
    const [mine, reference] = [new BucketEventQueue(), new HeapEventQueue()] as const;
    const [one, two] = [new FiredEvent(), new FiredEvent()];
    const stream = new Streams('flows').stream(`${flows}`);
    const timers: (readonly [mine: number, reference: number])[] = [];
    const push = (atNs: number, kind: number, flow: number): readonly [number, number] => {
      mine.dueNs = atNs;
      reference.dueNs = atNs;
      return [mine.pushNamed(0, kind, flow, 0), reference.pushNamed(0, kind, flow, 0)];
    };
    for (let flow = 0; flow < flows; flow++) push(flow, 1, flow);
    let layouts = 0;
    let store: unknown;
    for (let packet = 0; packet < 20_000; packet++) {
      mine.pop(one);
      reference.pop(two);
      if (one.a !== two.a || one.kind !== two.kind || mine.nowNs !== reference.nowNs) {
        return t.fail(`${flows} flows: packet ${packet} at ${mine.nowNs}, not ${reference.nowNs}`);
      }
      if (one.kind === 1) {
        const timer = timers[one.a];
        if (timer !== undefined && mine.cancel(timer[0]) !== reference.cancel(timer[1])) return t.fail();
        timers[one.a] = push(mine.nowNs + 50_000, 2, one.a);
        push(mine.nowNs + Math.round(exponential(stream, 10_000)), 1, one.a);
      }
      if (Reflect.get(mine, 'doubles') !== store) layouts++;
      store = Reflect.get(mine, 'doubles');
    }
    t.is(mine.size, reference.size);
    t.true(layouts < 20, `${flows} flows: laid out ${layouts} times`);
  }
});

test('a crowd in one bucket fires in order, and what was made for it is given back', (t) => {
  const queue = new BucketEventQueue();
  const empty = queue.bytes;
  const event = new FiredEvent();
  const crowd = 20_000;
  for (let i = 0; i < 100_000; i++) queue.push(1e9 + i * 1e7, 0, 1, crowd + i, 0);
  for (let i = 0; i < crowd; i++) queue.push(5 + ((i * 7919) % crowd), 0, 1, (i * 7919) % crowd, 0);
  let fired = 0;
  while (queue.pop(event)) if (event.a !== fired++) return t.fail(`${event.a} instead of ${fired - 1}`);
  t.is(fired, 120_000);
  t.true(queue.bytes <= empty + 40_000, `${queue.bytes}`);
});

test('the bucket queue agrees with the reference while loads of all scales follow each other', (t) => {
  const stream = new Streams('regimes').stream('draws');
  const one = new FiredEvent();
  const two = new FiredEvent();
  for (let trial = 0; trial < 40; trial++) {
    const queues = [new BucketEventQueue(), new HeapEventQueue()] as const;
    const [mine, reference] = queues;
    const handles: (readonly [mine: number, reference: number])[] = [];
    let tag = 0;
    const push = (delay: number): void => {
      const priority = stream.below(50) === 0 ? stream.below(3) - 1 : 0;
      for (const queue of queues) queue.dueNs = reference.nowNs + delay;
      if (tag % 3 > 0) for (const queue of queues) queue.pushDue(priority, 1, tag, 0);
      else handles.push([mine.pushNamed(priority, 1, tag, 0), reference.pushNamed(priority, 1, tag, 0)]);
      tag++;
    };
    const pop = (): boolean => {
      const fired = mine.pop(one);
      if (fired !== reference.pop(two) || mine.nowNs !== reference.nowNs || (fired && one.a !== two.a)) {
        throw new Error(`trial ${trial}: ${one.a} at ${mine.nowNs}, not ${two.a} at ${reference.nowNs}`);
      }
      return fired;
    };
    for (let phase = 0; phase < 5 && reference.nowNs < 1e14; phase++) {
      const scale = 10 ** stream.below(11);
      const shape = stream.below(4);
      const delay = (): number => {
        if (shape === 0) return Math.round(exponential(stream, scale));
        if (shape === 1) return stream.below(3) * scale;
        return shape === 2 ? Math.round(pareto(stream, scale, 1.2)) % 1e13 : 0;
      };
      for (let i = stream.below(4000); i > 0; i--) push(delay());
      const growth = stream.uniform() * 1.1;
      for (let i = stream.below(6000); i > 0; i--) {
        if (!pop() || stream.uniform() < growth) push(delay());
        if (i % 500 === 0) t.is(mine.peekNs(), reference.peekNs());
        if (i % 700 === 0) {
          for (const queue of queues) queue.limitNs = reference.nowNs + scale;
          for (let k = 0; k < 4; k++) pop();
          for (const queue of queues) queue.limitNs = Infinity;
        }
        if (i % 40 === 0 && handles.length > 0) {
          const [x, y] = handles[stream.below(handles.length)]!;
          t.is(mine.cancel(x), reference.cancel(y));
        }
        if (i % 3000 === 0) for (const [x, y] of handles.splice(0)) t.is(mine.cancel(x), reference.cancel(y));
      }
      t.is(mine.size, reference.size);
    }
    while (pop());
    t.is(mine.size, 0);
  }
});
