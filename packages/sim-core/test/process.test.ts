import { readdirSync, readFileSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import { NS_PER_S, Simulation } from '../src/index.ts';
import {
  Container,
  Environment,
  Failure,
  Interrupt,
  Preempted,
  Resource,
  Store,
  type Event,
  type ProcessSteps,
  type Request,
} from '../src/process/index.ts';

/** An environment and what its processes say, with the time. */
function stage() {
  const env = new Environment();
  const log: string[] = [];
  return { env, log, say: (what: string) => log.push(`${env.nowNs} ${what}`) };
}

function* sleep(ns: number): ProcessSteps {
  yield ns;
}

function* join(other: Event): ProcessSteps {
  yield* other;
}

const play = (
  programs: readonly (readonly number[])[],
  wait: (env: Environment, ns: number) => ProcessSteps,
) => {
  const { env, log, say } = stage();
  function* steps(name: number): ProcessSteps {
    for (const [index, ns] of programs[name]!.entries()) {
      yield* wait(env, ns);
      say(`${name}.${index}`);
    }
  }
  for (const name of programs.keys()) env.process(steps(name));
  env.run();
  return log;
};

function* byNumber(_: Environment, ns: number): ProcessSteps {
  yield ns;
}

function* byTimeout(env: Environment, ns: number): ProcessSteps {
  yield* env.timeout(ns);
}

function* byEither(env: Environment, ns: number): ProcessSteps {
  yield* ns % 2 === 0 ? byNumber(env, ns) : byTimeout(env, ns);
}

function* ping(times: number): ProcessSteps {
  for (let i = 0; i < times; i++) yield 3;
}

function* worker(ns: number): ProcessSteps<number> {
  yield ns;
  return ns * ns;
}

test('an event is pending, then triggered, then processed, and calls its callbacks in their order', (t) => {
  const { env, log, say } = stage();
  const event = env.event<number>();
  event.whenProcessed(() => say('first'));
  const second = () => say('second');
  event.whenProcessed(second);
  event.whenProcessed(() => say(`third ${event.state}`));
  t.true(event.forget(second));
  t.false(event.forget(second));
  t.is(event.state, 'pending');
  t.throws(() => event.value, { message: 'the event has no value at 0 ns: it is pending' });
  event.succeed(7);
  t.deepEqual([event.state, event.ok, event.value], ['triggered', true, 7]);
  t.deepEqual(log, []);
  env.run();
  t.deepEqual(log, ['0 first', '0 third processed']);
  t.throws(() => event.succeed(8), {
    message: /cannot settle an event twice: at 0 ns it has succeeded already/,
  });
  t.throws(() => event.fail(new Error('late')), { message: /succeeded already/ });
  t.throws(() => event.whenProcessed(second), { message: /had happened before 0 ns/ });
});

test('a process starts at its instant before ordinary events, and equal times keep the order of scheduling', (t) => {
  const { env, log, say } = stage();
  function* steps(name: string): ProcessSteps {
    say(`${name} starts`);
    yield 5;
    say(`${name} after 5`);
    yield 0;
    say(`${name} after 0`);
    yield* env.timeout(5);
    say(`${name} ends`);
  }
  env.simulation.schedule(0, () => say('ordinary'));
  env.simulation.schedule(10, () => say('scheduled first for 10'));
  env.process(steps('a'));
  env.process(steps('b'));
  t.deepEqual(log, []);
  t.deepEqual(env.run(), { kind: 'drained', nowNs: 10, events: 12 });
  t.deepEqual(log, [
    '0 a starts',
    '0 b starts',
    '0 ordinary',
    '5 a after 5',
    '5 b after 5',
    '5 a after 0',
    '5 b after 0',
    '10 scheduled first for 10',
    '10 a ends',
    '10 b ends',
  ]);
});

test('a yielded number and a timeout of the same length are the same wait, in any mixture of processes', (t) => {
  const programs = fc.array(fc.array(fc.nat(6), { maxLength: 8 }), { maxLength: 6 });
  fc.assert(
    fc.property(programs, (drawn) => {
      const expected = play(drawn, byNumber);
      t.deepEqual(play(drawn, byTimeout), expected);
      t.deepEqual(play(drawn, byEither), expected);
    }),
    { seed: 42, numRuns: 200 },
  );
});

test('a yielded number costs one event of the queue, and rows of ended processes are used again', (t) => {
  const env = new Environment();
  const rows = new Set<number>();
  const kinds = new Map<number, number>();
  const { simulation } = env;
  simulation.observer = (_atNs, kind, a) => {
    rows.add(a);
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  };
  for (let i = 0; i < 20; i++) {
    env.process(ping(10));
    env.run();
  }
  // The start and ten delays each by row 0; the end, an event, in slot 0.
  t.deepEqual([...rows], [0]);
  t.deepEqual([...kinds.values()], [220, 20]);
  t.is(simulation.fired, 240);
  t.is(simulation.peakPending, 1);
});

test('joining a process gives what it returned, also after its end, and a store of 100 processes grows its rows', (t) => {
  const { env } = stage();
  function* boss(): ProcessSteps<number> {
    const workers = Array.from({ length: 100 }, (_, index) => env.process(worker(index)));
    yield 50;
    let sum = 0;
    for (const each of workers) sum += yield* each;
    t.is(env.nowNs, 99);
    const [first, last] = yield* env.all([workers[1]!, workers[99]!]);
    t.deepEqual([first, last], [1, 9801]);
    return sum;
  }
  const end = env.process(boss(), 'boss');
  t.true(end.alive);
  t.is(env.runUntil(end), 328350);
  t.false(end.alive);
  t.is(env.living.length, 0);
  t.is(env.runUntil(end), 328350);
});

test('a failure that nobody waits for stops the run with the time and the process of its beginning', (t) => {
  const boom = new Error('boom');
  function* failing(): ProcessSteps {
    yield 5;
    throw boom;
  }
  const { env } = stage();
  env.process(failing(), 'B');
  const failure = t.throws(() => env.run(), {
    instanceOf: Failure,
    message: "process 'B' failed at 5 ns: boom",
  });
  t.is(failure.cause, boom);
  t.deepEqual([failure.atNs, failure.processName], [5, 'B']);
  t.throws(() => env.run(), { message: /^nothing is pending: the run ended at 5 ns/ });

  // Passed on by whoever joins without catching, it still names B.
  const passing = stage().env;
  passing.process(join(passing.process(join(passing.process(failing(), 'B')), 'A')), 'top');
  t.throws(() => passing.run(), { message: "process 'B' failed at 5 ns: boom" });

  const odd = stage().env;
  odd.process(
    (function* (): ProcessSteps {
      yield 0;
      throw 'a string';
    })(),
    'odd',
  );
  t.throws(() => odd.run(), { message: "process 'odd' failed at 0 ns: threw a string" });
});

test('a failed event throws into whoever waits; unless somebody waits or it is defused, the run stops', (t) => {
  const { env, log, say } = stage();
  function* waiting(name: string, event: Event): ProcessSteps {
    try {
      yield* event;
    } catch (error) {
      say(`${name} caught ${(error as Error).message}`);
    }
  }
  const event = env.event();
  env.process(waiting('a', event));
  env.process(waiting('b', event));
  env.simulation.schedule(3, () => event.fail(new Error('no')));
  env.run();
  env.process(waiting('late', event));
  env.run();
  t.deepEqual(log, ['3 a caught no', '3 b caught no', '3 late caught no']);
  t.false(event.ok);
  t.throws(() => event.value, { message: 'no' });

  env.event().fail(new Error('dealt with')).defuse();
  t.is(env.run().kind, 'drained');
  env.event().fail(new Error('forgotten'));
  t.throws(() => env.run(), { message: 'an event failed at 3 ns: forgotten' });
  env.process(
    (function* (): ProcessSteps {
      yield 4;
      env.event().fail(new Error('mine'));
    })(),
    'X',
  );
  t.throws(() => env.run(), { message: "an event of process 'X' failed at 7 ns: mine" });
});

test('a wrong yield throws at the yield, with numbers, and finally blocks run', (t) => {
  const other = new Environment();
  const wrongs: [unknown, RegExp][] = [
    [-5, /cannot wait for -5 ns at 10 ns: a delay is a whole number, zero or more/],
    [Number.NaN, /cannot wait for NaN ns at 10 ns: a delay is/],
    [0.5, /cannot wait for 0.5 ns at 10 ns: a delay is/],
    [Infinity, /cannot wait for Infinity ns at 10 ns: a delay is/],
    [Number.MAX_SAFE_INTEGER, /cannot wait for 9007199254740991 ns at 10 ns: time ends at 2\^53 ns/],
    ['5', /cannot wait for 5 at 10 ns: yield a delay in ns or an event/],
    [undefined, /cannot wait for undefined at 10 ns/],
    [other.event(), /an event of another environment/],
    ['itself', /a process cannot wait for its own end/],
  ];
  for (const [wrong, message] of wrongs) {
    const { env, log, say } = stage();
    function* steps(caught: boolean): ProcessSteps {
      try {
        yield 10;
        yield (wrong === 'itself' ? env.activeProcess : wrong) as number;
      } catch (error) {
        t.regex((error as Error).message, message);
        if (!caught) throw error;
        yield 1;
        say('goes on');
      } finally {
        say('finally');
      }
    }
    env.process(steps(true), 'careful');
    env.process(steps(false), 'careless');
    t.throws(() => env.run(), { instanceOf: Failure, message: /^process 'careless' failed at 10 ns: / });
    env.run();
    t.deepEqual(log, ['10 finally', '11 goes on', '11 finally']);
  }
  const { env } = stage();
  t.throws(() => env.timeout(-1), { instanceOf: RangeError, message: /cannot wait for -1 ns at 0 ns/ });
  t.throws(() => env.process((() => undefined) as unknown as ProcessSteps, 'f'), {
    message: /'f' needs a generator/,
  });
});

test('an interrupt reaches a process whatever it waits for, and leaves nothing of a delay behind', (t) => {
  const { env, log, say } = stage();
  const counter = new Resource(env, { capacity: 1 });
  const tank = new Container(env, { capacity: 10, level: 5 });
  const shelf = new Store<string>(env, { capacity: 1 });
  const event = env.event();
  counter.request();
  shelf.put('full');
  env.run();
  const put = shelf.put('more');
  const get = tank.get(6);
  const claim = counter.request();
  const waits: Record<string, () => number | Event<unknown>> = {
    delay: () => 100,
    event: () => event,
    request: () => claim,
    'container get': () => get,
    'store put': () => put,
    'store get': () => new Store(env).get(),
    any: () => env.any([event, claim]),
    all: () => env.all([event, claim]),
    process: () => env.process(sleeper(), 'sleeper'),
  };
  function* sleeper(): ProcessSteps {
    yield* event;
  }
  function* victim(name: string, wait: () => number | Event<unknown>): ProcessSteps {
    const what = wait();
    try {
      yield what;
      t.fail();
    } catch (error) {
      t.true(error instanceof Interrupt);
      say(`${name}: ${String((error as Interrupt).cause)} by ${(error as Interrupt).by}`);
    }
  }
  const victims = Object.entries(waits).map(([name, wait]) => env.process(victim(name, wait), name));
  env.process(
    (function* (): ProcessSteps {
      yield 5;
      for (const each of victims) each.interrupt('wake up');
    })(),
    'alarm',
  );
  const { nowNs } = env.run();
  t.is(nowNs, 5);
  t.is(env.simulation.pending, 0);
  t.deepEqual(
    log,
    Object.keys(waits).map((name) => `5 ${name}: wake up by alarm`),
  );
  // What was waited for is as it was: the claims are still in line, until withdrawn.
  t.deepEqual([counter.waiting, tank.waiting, shelf.waiting], [1, 1, 1]);
  claim.leave();
  t.true(get.withdraw() && put.withdraw());
  t.false(get.withdraw() || put.withdraw());
  t.deepEqual([counter.waiting, tank.waiting, shelf.waiting], [0, 0, 0]);
});

test('an interrupt comes before the ordinary events of its instant, also before what was waited for', (t) => {
  const { env, log, say } = stage();
  function* victim(): ProcessSteps {
    for (const step of [1, 2, 3]) {
      try {
        yield 5;
        say(`slept ${step}`);
      } catch (error) {
        say(`interrupted ${step} ${String((error as Interrupt).cause)}`);
      }
    }
  }
  env.simulation.schedule(5, () => {
    sleeper.interrupt('first');
    sleeper.interrupt('second');
  });
  const sleeper = env.process(victim(), 'victim');
  env.run();
  t.deepEqual(log, ['5 interrupted 1 first', '5 interrupted 2 second', '10 slept 3']);

  // One that has not started is started first; one that ends before its turn loses the interrupt.
  const fresh = env.process(victim(), 'fresh');
  fresh.interrupt('early');
  log.length = 0;
  env.run();
  t.deepEqual(log, ['10 interrupted 1 early', '15 slept 2', '20 slept 3']);
  const short = env.process(
    (function* (): ProcessSteps {
      try {
        yield 1;
      } catch {
        say('once');
      }
    })(),
  );
  short.interrupt();
  short.interrupt();
  env.run();
  t.is(log.at(-1), '20 once');
});

test('interrupting the ended, or oneself, is refused; an interrupt that is not caught is a failure', (t) => {
  const { env } = stage();
  const ended = env.process(sleep(5), 'M1');
  env.run({ untilNs: 9 });
  t.throws(() => ended.interrupt(), { message: "cannot interrupt process 'M1' at 9 ns: it ended at 5 ns" });
  env.process(
    (function* (): ProcessSteps {
      yield 1;
      env.activeProcess!.interrupt();
    })(),
    'Narcissus',
  );
  t.throws(() => env.run(), {
    message: "process 'Narcissus' failed at 10 ns: process 'Narcissus' cannot interrupt itself at 10 ns",
  });
  env.process(sleep(5), 'M2').interrupt('why');
  const failure = t.throws<Failure>(() => env.run(), {
    message: "process 'M2' failed at 10 ns: interrupted by no process",
  });
  t.is((failure.cause as Interrupt).cause, 'why');
});

test('any happens with the first, and holds all that have happened by its turn; all gives the values in order', (t) => {
  const { env, log, say } = stage();
  function* steps(): ProcessSteps {
    const [a, b, c] = [env.timeout(3, 'a'), env.timeout(3, 'b'), env.timeout(4, 'c')];
    const happened = yield* env.any([a, c, b]);
    say([...happened].map((event) => event.value).join(' '));
    t.true(happened.has(a) && happened.has(b));
    t.false(happened.has(c));
    const [x, y, again] = yield* env.all([c, env.timeout(2, 2), a]);
    say(`${x} ${y + 1} ${again}`);
    t.is((yield* env.any([])).size, 0);
    t.deepEqual(yield* env.all([]), []);
    const nested = yield* env.any([env.all([env.timeout(1), env.timeout(2)]), env.timeout(9)]);
    say(`nested ${nested.size}`);
    t.deepEqual([...(yield* env.any([c, env.event()]))], [c]);
    say('what has happened before counts at once');
  }
  env.runUntil(env.process(steps()));
  t.deepEqual(log, ['3 a b', '5 c 3 a', '7 nested 1', '7 what has happened before counts at once']);
  t.throws(() => env.any([env.event(), new Environment().event()]), { message: /two environments/ });
});

test('a condition fails with the first failure among its events, and lets go of the others', (t) => {
  const { env, log, say } = stage();
  const [a, b, c] = [env.event(), env.event(), env.event()];
  function* waiting(): ProcessSteps {
    for (const condition of [env.all([a, b, c]), env.any([c, b])]) {
      try {
        yield* condition as Event<unknown>;
        say('happened');
      } catch (error) {
        say((error as Error).message);
      }
    }
  }
  env.process(waiting(), 'w');
  env.simulation.schedule(1, () => a.succeed());
  env.simulation.schedule(2, () => b.fail(new Error('b broke')));
  env.run();
  t.deepEqual(log, ['2 b broke', '2 b broke']);
  c.fail(new Error('c too'));
  t.throws(() => env.run(), { message: 'an event failed at 2 ns: c too' });

  // Long-lived events do not collect the callbacks of conditions that are settled.
  const forever = env.event();
  let registered = 0;
  const { whenProcessed, forget } = forever;
  forever.whenProcessed = (callback) => {
    registered++;
    whenProcessed.call(forever, callback);
  };
  forever.forget = (callback) => {
    const known = forget.call(forever, callback);
    if (known) registered--;
    return known;
  };
  env.process(
    (function* (): ProcessSteps {
      for (let i = 0; i < 10; i++) yield* env.any([forever, env.timeout(1)]);
    })(),
  );
  env.run();
  t.is(registered, 0);
});

test('running until the past is refused; runUntil says what never happened and who still waits', (t) => {
  const { env } = stage();
  env.run({ untilNs: 10 });
  t.throws(() => env.run({ untilNs: 5 }), { message: 'cannot run until 5 ns: it is 10 ns already' });
  const never = env.event();
  for (let i = 0; i < 7; i++) {
    env.process(
      (function* (): ProcessSteps {
        yield* never;
      })(),
      `P${i}`,
    );
  }
  t.throws(() => env.runUntil(never), {
    message:
      "the awaited event has not happened at 10 ns (drained); still waiting: 'P0', 'P1', 'P2', 'P3', 'P4' and 2 more",
  });
  const failing = env.process(
    (function* (): ProcessSteps<number> {
      yield 1;
      throw new Error('boom');
    })(),
    'F',
  );
  t.throws(() => env.runUntil(failing), { message: "process 'F' failed at 11 ns: boom" });
  t.throws(() => env.runUntil(failing), { message: "process 'F' failed at 11 ns: boom" });
  // Until its end, not until the run's.
  env.timeout(100);
  t.is(env.runUntil(env.timeout(3, 'x')), 'x');
  t.is(env.nowNs, 14);
  t.true(env.step());
  t.false(env.step());
  t.is(env.nowNs, 111);
});

const jobs = fc.array(
  fc.record({
    gapNs: fc.nat(4),
    holdNs: fc.integer({ min: 1, max: 9 }),
    priority: fc.integer({ min: -1, max: 2 }),
  }),
  { maxLength: 40 },
);

test('a resource without priorities serves as the FIFO recursion of several servers says', (t) => {
  fc.assert(
    fc.property(jobs, fc.integer({ min: 1, max: 4 }), (drawn, capacity) => {
      const env = new Environment();
      const resource = new Resource(env, { capacity });
      const started: number[] = [];
      function* job(index: number, holdNs: number): ProcessSteps {
        using place = resource.request();
        yield* place;
        started[index] = env.nowNs;
        yield holdNs;
      }
      function* source(): ProcessSteps {
        for (const [index, { gapNs, holdNs }] of drawn.entries()) {
          yield gapNs;
          env.process(job(index, holdNs));
        }
      }
      env.process(source());
      while (env.step())
        t.true(resource.held <= capacity && (resource.waiting === 0 || resource.held === capacity));
      t.deepEqual([resource.held, resource.waiting], [0, 0]);
      // Kiefer and Wolfowitz: each job starts when it is there and the server that is free first is.
      const freeNs = Array.from({ length: capacity }, () => 0);
      let nowNs = 0;
      const expected = drawn.map(({ gapNs, holdNs }) => {
        nowNs += gapNs;
        freeNs.sort((x, y) => x - y);
        const startNs = Math.max(nowNs, freeNs[0]!);
        freeNs[0] = startNs + holdNs;
        return startNs;
      });
      t.deepEqual(started, expected);
    }),
    { seed: 42, numRuns: 200 },
  );
});

test('a resource grants by priority, then first come first, whoever loses patience', (t) => {
  const impatient = fc.array(
    fc.record({
      gapNs: fc.nat(3),
      holdNs: fc.nat(9),
      priority: fc.integer({ min: -1, max: 2 }),
      patienceNs: fc.nat(12),
    }),
    { maxLength: 40 },
  );
  fc.assert(
    fc.property(impatient, fc.integer({ min: 1, max: 3 }), (drawn, capacity) => {
      const env = new Environment();
      const resource = new Resource(env, { capacity });
      let [served, gone] = [0, 0];
      function* job(holdNs: number, priority: number, patienceNs: number): ProcessSteps {
        const request = resource.request({ priority });
        // Whoever is granted precedes all who wait.
        request.whenProcessed(() => {
          t.true(
            resource.line.every((other) => other.askedNs >= request.grantedNs! || request.precedes(other)),
          );
        });
        try {
          const happened = yield* env.any([request, env.timeout(patienceNs)]);
          if (!happened.has(request)) {
            gone++;
            return;
          }
          yield holdNs;
          served++;
        } finally {
          request.leave();
          request.leave();
        }
      }
      function* source(): ProcessSteps {
        for (const { gapNs, holdNs, priority, patienceNs } of drawn) {
          yield gapNs;
          env.process(job(holdNs, priority, patienceNs));
        }
      }
      env.process(source());
      while (env.step()) {
        const { line, holders } = resource;
        t.true(holders.length <= capacity && (line.length === 0 || holders.length === capacity));
        for (let i = 1; i < line.length; i++) {
          const [x, y]: Request[] = [line[i - 1]!, line[i]!];
          t.true(x!.priority < y!.priority || (x!.priority === y!.priority && x!.sequence < y!.sequence));
        }
      }
      t.is(served + gone, drawn.length);
      t.deepEqual([resource.held, resource.waiting], [0, 0]);
    }),
    { seed: 42, numRuns: 200 },
  );
});

test('when all preempt, holders precede all who wait, and every job gets its whole time', (t) => {
  fc.assert(
    fc.property(jobs, fc.integer({ min: 1, max: 3 }), (drawn, capacity) => {
      const env = new Environment();
      const resource = new Resource(env, { capacity });
      let done = 0;
      let workedNs = 0;
      function* job(leftNs: number, priority: number): ProcessSteps {
        while (leftNs > 0) {
          using place = resource.request({ priority, preempt: true });
          try {
            yield* place;
            yield leftNs;
            workedNs += leftNs;
            leftNs = 0;
          } catch (error) {
            const { cause } = error as Interrupt;
            t.true(
              cause instanceof Preempted && cause.resource === resource && cause.sinceNs === place.grantedNs,
            );
            t.false(resource.heldBy(place));
            // It may have been granted and lost within one instant, before the process knew.
            const partNs = env.nowNs - (cause as Preempted).sinceNs;
            workedNs += partNs;
            leftNs -= partNs;
          }
        }
        done++;
      }
      function* source(): ProcessSteps {
        for (const { gapNs, holdNs, priority } of drawn) {
          yield gapNs;
          env.process(job(holdNs, priority));
        }
      }
      env.process(source());
      while (env.step()) {
        const { line, holders } = resource;
        t.true(holders.length <= capacity);
        if (line.length > 0) t.true(holders.every((holder) => holder.precedes(line[0]!)));
      }
      t.is(done, drawn.length);
      t.is(
        workedNs,
        drawn.reduce((sum, { holdNs }) => sum + holdNs, 0),
      );
    }),
    { seed: 42, numRuns: 200 },
  );
});

test('preemption says by whom and since when, spares equals, ended owners and oneself, and others do not overtake', (t) => {
  const { env, log, say } = stage();
  const one = new Resource(env, { capacity: 1, name: 'lathe' });
  function* hold(name: string, priority: number, preempt: boolean, startNs: number): ProcessSteps {
    yield startNs;
    using place = one.request({ priority, preempt });
    try {
      yield* place;
      say(`${name} has it`);
      yield 10;
      say(`${name} is done`);
    } catch (error) {
      const cause = (error as Interrupt).cause as Preempted;
      say(`${name} lost it to ${cause.by!.name}, had it since ${cause.sinceNs}`);
    }
  }
  env.process(hold('low', 2, false, 0), 'low');
  env.process(hold('equal', 2, true, 1), 'equal');
  env.process(hold('polite', 0, false, 2), 'polite');
  env.process(hold('rude', 1, true, 3), 'rude');
  env.process(hold('chief', -1, true, 4), 'chief');
  env.run();
  t.deepEqual(log, [
    '0 low has it',
    '4 low lost it to chief, had it since 0',
    '4 chief has it',
    '14 chief is done',
    '14 polite has it',
    '24 polite is done',
    '24 rude has it',
    '34 rude is done',
    '34 equal has it',
    '44 equal is done',
  ]);
  // The place of an owner that has ended without leaving, and of no process at all, is kept.
  const stray = new Resource(env, { capacity: 1 }).request();
  t.is(stray.resource.request({ priority: -9, preempt: true }).grantedNs, undefined);
});

test('releasing what is not held, no capacity, and a priority that is no number are refused', (t) => {
  const { env } = stage();
  const pumps = new Resource(env, { capacity: 1, name: 'pumps' });
  const held = pumps.request();
  const queued = pumps.request();
  const message = /cannot release pumps at 0 ns: .* \(1 of 1 held, 1 waiting\)/;
  t.throws(() => pumps.release(queued), { message });
  t.true(pumps.withdraw(queued));
  t.false(pumps.withdraw(queued));
  pumps.release(held);
  t.throws(() => pumps.release(held), { message: /\(0 of 1 held, 0 waiting\)/ });
  t.throws(() => new Resource(env, { capacity: 0 }), { message: /cannot have 0 places/ });
  t.throws(() => pumps.request({ priority: Number.NaN }), { message: /priority NaN/ });
  t.throws(() => new Container(env, { capacity: 5, level: 6 }), {
    message: /cannot start at 6; it holds 0 to 5/,
  });
  t.throws(() => new Container(env, { capacity: 0 }), { message: /capacity of 0/ });
  t.throws(() => new Container(env, { capacity: 5 }).get(6), {
    message: /cannot get 6 at 0 ns: .* holds 0 to 5/,
  });
  t.throws(() => new Container(env).put(-1), { message: /cannot put -1/ });
  t.throws(() => new Container(env).put(Number.NaN), { message: /cannot put NaN/ });
  t.throws(() => new Store(env, { capacity: 0 }), { message: /room for 0 items/ });
});

test('a container stays within its bounds, loses nothing, and meets each line in its order', (t) => {
  const claims = fc.array(
    fc.record({
      put: fc.boolean(),
      amount: fc.integer({ min: 1, max: 10 }),
      withdraw: fc.option(fc.nat(60)),
    }),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(claims, fc.nat(10), (drawn, level) => {
      const env = new Environment();
      const tank = new Container(env, { capacity: 10, level });
      const made: { put: boolean; amount: number; event: Event; withdrawn: boolean }[] = [];
      for (const { put, amount, withdraw } of drawn) {
        const claim = put ? tank.put(amount) : tank.get(amount);
        made.push({ put, amount, event: claim, withdrawn: false });
        if (withdraw !== null && withdraw < made.length) {
          const victim = made[withdraw]!;
          const pending = !victim.event.triggered && !victim.withdrawn;
          t.is(tank.withdraw(victim.event as typeof claim), pending);
          victim.withdrawn ||= pending;
        }
        let expected = level;
        for (const each of made) if (each.event.triggered) expected += each.put ? each.amount : -each.amount;
        t.is(tank.level, expected);
        t.true(tank.level >= 0 && tank.level <= 10);
        for (const line of [true, false]) {
          const mine = made.filter((each) => each.put === line && !each.withdrawn);
          const first = mine.findIndex((each) => !each.event.triggered);
          if (first === -1) continue;
          t.true(mine.slice(first).every((each) => !each.event.triggered));
          t.true(line ? tank.level + mine[first]!.amount > 10 : tank.level < mine[first]!.amount);
        }
      }
      t.is(env.run().kind, 'drained');
    }),
    { seed: 42, numRuns: 300 },
  );
});

test('a store conserves its items, hands them over in order, and lets no get wait that wants one of them', (t) => {
  const step = fc.record({
    put: fc.boolean(),
    residue: fc.option(fc.nat(2)),
    withdraw: fc.option(fc.nat(60)),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 4 }), (drawn, capacity) => {
      const env = new Environment();
      const shelf = new Store<number>(env, { capacity });
      const puts: ReturnType<typeof shelf.put>[] = [];
      const gets: ReturnType<typeof shelf.get>[] = [];
      const lost = new Set<unknown>();
      for (const [item, { put, residue, withdraw }] of drawn.entries()) {
        if (put) puts.push(shelf.put(item));
        else gets.push(shelf.get(residue === null ? undefined : (each) => each % 3 === residue));
        const victim = withdraw === null ? undefined : (put ? gets : puts)[withdraw];
        if (victim !== undefined) {
          t.is(victim.withdraw(), !victim.triggered && !lost.has(victim));
          if (!victim.triggered) lost.add(victim);
        }
        const entered = puts.filter((each) => each.triggered).map((each) => each.item);
        const got = gets.filter((each) => each.triggered).map((each) => each.value);
        t.deepEqual(
          [...got, ...shelf.items].sort((x, y) => x - y),
          entered,
        );
        t.deepEqual(
          shelf.items,
          [...shelf.items].sort((x, y) => x - y),
        );
        t.true(shelf.size <= capacity);
        const waitingPuts = puts.filter((each) => !each.triggered && !lost.has(each));
        const waitingGets = gets.filter((each) => !each.triggered && !lost.has(each));
        t.is(shelf.waiting, waitingPuts.length + waitingGets.length);
        if (waitingPuts.length > 0)
          t.true(shelf.size === capacity && waitingPuts[0]!.item > (entered.at(-1) ?? -1));
        for (const { wanted } of waitingGets) t.false(shelf.items.some(wanted ?? (() => true)));
        for (const { wanted, triggered, value } of gets.filter((each) => each.triggered)) {
          t.true(triggered && (wanted === undefined || wanted(value)));
        }
      }
      t.is(env.run().kind, 'drained');
    }),
    { seed: 42, numRuns: 300 },
  );
});

test('a long line costs no shift of those who wait: 100,000 wait for one place and for items, in order', (t) => {
  const env = new Environment();
  const counter = new Resource(env, { capacity: 1 });
  const shelf = new Store<number>(env);
  const order: number[] = [];
  function* customer(number: number): ProcessSteps {
    using turn = counter.request();
    yield* turn;
    order.push(yield* shelf.get());
    yield 1;
    shelf.put(number);
  }
  for (let number = 0; number < 100_000; number++) env.process(customer(number));
  for (let number = 0; number < 50_000; number++) shelf.put(-1);
  t.is(env.run().nowNs, 100_000);
  t.is(order.length, 100_000);
  t.true(order.slice(50_000).every((item, index) => item === index));
});

test('an environment shares a simulation with whoever else schedules there', (t) => {
  const simulation = new Simulation();
  const [one, two] = [new Environment(simulation), new Environment(simulation)];
  const log: string[] = [];
  function* steps(env: Environment, name: string): ProcessSteps {
    yield 2 * NS_PER_S;
    log.push(`${name} ${env.nowNs}`);
  }
  one.process(steps(one, 'one'));
  two.process(steps(two, 'two'));
  simulation.run();
  t.deepEqual(log, ['one 2000000000', 'two 2000000000']);
});

const EXAMPLES = new URL('../examples/', import.meta.url);

for (const file of readdirSync(EXAMPLES).filter((name) => name.endsWith('.ts'))) {
  test(`the example ${file} prints what its .out says`, async (t) => {
    const example = (await import(new URL(file, EXAMPLES).href)) as {
      run(print: (line: string) => void): void;
    };
    const lines: string[] = [];
    example.run((line) => lines.push(line));
    t.is(`${lines.join('\n')}\n`, readFileSync(new URL(file.replace('.ts', '.out'), EXAMPLES), 'utf8'));
  });
}
