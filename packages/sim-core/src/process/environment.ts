import { NORMAL, Simulation, type RunOutcome } from '../engine/simulation.ts';
import { AllOf, AnyOf } from './condition.ts';
import { Event, FIRE } from './event.ts';
import { Process, RESUME, type ProcessSteps } from './process.ts';
import { isDelay, Timeout } from './timeout.ts';

/**
 * Where processes live: the way from generators and events to a simulation's clock and queue.
 * Models: what SimPy 4 calls Environment, with its order of things: starts and interrupts come before the
 * ordinary events of an instant, all else in the order of scheduling.
 * Not modelled: real-time runs; a release of a resource as an event of its own (it is immediate).
 *
 * A process that yields a number costs one event of the queue, addressed by the process's row: no event object,
 * no callback.
 */
export class Environment {
  readonly simulation: Simulation;
  /** The process whose code is running. Written by processes only. */
  activeProcess: Process<unknown> | undefined = undefined;

  readonly #resumeKind: number;
  readonly #eventKind: number;
  // By row: a living process, and the handle of its pending resumption.
  readonly #processes: (Process<unknown> | undefined)[] = [];
  readonly #freeRows: number[] = [];
  #resumptions = new Float64Array(16);
  // By slot: an event that is queued.
  readonly #queued: (Event<unknown> | undefined)[] = [];
  readonly #freeSlots: number[] = [];
  #named = 0;

  constructor(simulation: Simulation = new Simulation()) {
    this.simulation = simulation;
    const kindOf: (handler: (a: number) => void, name: string) => number = simulation.on.bind(simulation);
    this.#resumeKind = kindOf((row) => this.#processes[row]![RESUME](), 'process-resume');
    this.#eventKind = kindOf((slot) => {
      const event = this.#queued[slot]!;
      this.#queued[slot] = undefined;
      this.#freeSlots.push(slot);
      event[FIRE]();
    }, 'process-event');
  }

  get nowNs(): number {
    return this.simulation.nowNs;
  }

  /** Processes that have not ended, at most of whom the run may wait in vain; in no particular order. */
  get living(): readonly Process<unknown>[] {
    return this.#processes.filter((row) => row !== undefined);
  }

  /** Start a process: `env.process(customer(env, counter), 'Customer01')`. Names need not differ. */
  process<R>(steps: ProcessSteps<R>, name = `process-${++this.#named}`): Process<R> {
    return new Process(this, steps, name);
  }

  /** An event that is for the caller to settle. */
  event<T = void>(): Event<T> {
    return new Event<T>(this);
  }

  /** An event that happens after a delay; to wait for nothing else, yield the number. */
  timeout(delayNs: number): Timeout;
  timeout<T>(delayNs: number, value: T): Timeout<T>;
  timeout(delayNs: number, value?: unknown): Timeout<unknown> {
    return new Timeout(this, delayNs, value);
  }

  /** Happens when one of the events has: `const happened = yield* env.any([a, b]); if (happened.has(a)) …`. */
  any<E extends Event<unknown>>(events: readonly E[]): AnyOf<E> {
    return new AnyOf(this, events);
  }

  /** Happens when all of the events have: `const [x, y] = yield* env.all([a, b])`. */
  all<const E extends readonly Event<unknown>[]>(events: E): AllOf<E> {
    return new AllOf(this, events);
  }

  /**
   * As `Simulation.run`: events strictly before `untilNs` happen.
   * @throws Failure when an event failed and nobody had waited for it. RangeError for a time in the past.
   */
  run(options: { readonly untilNs?: number } = {}): RunOutcome {
    return this.simulation.run(options);
  }

  /**
   * Run until the event has happened; its value.
   * @throws Failure when it, or an event that nobody had waited for, failed; Error when the run ends without it.
   */
  runUntil<T>(event: Event<T>): T {
    const stop = (): void => {
      event.defuse();
      this.simulation.stop('the awaited event has happened');
    };
    if (!event.processed) {
      event.whenProcessed(stop);
      let outcome: RunOutcome;
      try {
        outcome = this.simulation.run();
      } finally {
        event.forget(stop);
      }
      if (!event.processed) throw new Error(this.#unhappened(outcome));
    }
    if (event.failure !== undefined) throw event.failure;
    return event.value;
  }

  /** Let the next event happen; false when there is none. */
  step(): boolean {
    return this.simulation.step();
  }

  /** Queue an event whose outcome is settled; `succeed`, `fail` and `timeout` do it. */
  enqueue(event: Event<unknown>, delayNs: number, priority = NORMAL): void {
    const slot = this.#freeSlots.pop() ?? this.#queued.push(undefined) - 1;
    this.#queued[slot] = event;
    this.simulation.post(delayNs, this.#eventKind, slot, 0, priority);
  }

  /** For processes: a row of their own. */
  admit(newcomer: Process<unknown>): number {
    const row = this.#freeRows.pop() ?? this.#processes.push(undefined) - 1;
    this.#processes[row] = newcomer;
    if (row === this.#resumptions.length) {
      const longer = new Float64Array(row * 2);
      longer.set(this.#resumptions);
      this.#resumptions = longer;
    }
    return row;
  }

  /** For processes: resume that of `row` after a delay; false if that is none. */
  resumeAfter(row: number, delayNs: number, priority: number): boolean {
    const { nowNs } = this.simulation;
    if (!isDelay(delayNs, nowNs)) return false;
    this.#resumptions[row] = this.simulation.at(nowNs + delayNs, this.#resumeKind, row, 0, priority);
    return true;
  }

  /** For processes: resume that of `row` not at all. */
  cancelResume(row: number): void {
    this.simulation.cancel(this.#resumptions[row]!);
  }

  /** For processes: the row is free again. */
  dismiss(row: number): void {
    this.#processes[row] = undefined;
    this.#freeRows.push(row);
  }

  #unhappened({ nowNs, kind }: RunOutcome): string {
    const names = this.living.map(({ name }) => `'${name}'`);
    const more = names.length > 5 ? ` and ${names.length - 5} more` : '';
    const waiting = names.length === 0 ? '' : `; still waiting: ${names.slice(0, 5).join(', ')}${more}`;
    return `the awaited event has not happened at ${nowNs} ns (${kind})${waiting}`;
  }
}
