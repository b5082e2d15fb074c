import { NORMAL, URGENT } from '../engine/simulation.ts';
import type { Environment } from './environment.ts';
import { Event, type EventCallback } from './event.ts';
import { errorOf, Failure } from './failure.ts';
import { Interrupt } from './interrupt.ts';
import { delayRefused } from './timeout.ts';

/**
 * What a process runs: `yield 5 * NS_PER_S` waits that long, `yield* event` waits for an event and is its value,
 * `yield* steps()` runs other steps in between.
 */
export type ProcessSteps<R = void> = Generator<number | Event<unknown>, R, unknown>;

/** How the environment resumes a process after a delay; not for others. */
export const RESUME: unique symbol = Symbol('resume');

/**
 * A generator that advances in virtual time, and the event of its end: `yield* other` joins a process and is what
 * it returned. It starts at the present instant, before ordinary events; until then none of its code runs.
 */
export class Process<R = void> extends Event<R> {
  readonly name: string;
  readonly #steps: ProcessSteps<R>;
  readonly #row: number;
  /** What it waits for, unless that is a delay. */
  #target: Event<unknown> | undefined = undefined;
  #endNs: number | undefined = undefined;
  readonly #wake: EventCallback = (event) => {
    this.#target = undefined;
    if (event.failure === undefined) this.#advance(event.value, undefined);
    else this.#advance(undefined, event.defuse().failure);
  };

  /** Use `env.process`. */
  constructor(env: Environment, steps: ProcessSteps<R>, name: string) {
    super(env);
    if (typeof steps?.next !== 'function' || typeof steps.throw !== 'function') {
      throw new TypeError(`process '${name}' needs a generator: call the function* and pass what it returns`);
    }
    this.name = name;
    this.#steps = steps;
    this.#row = env.admit(this);
    env.resumeAfter(this.#row, 0, URGENT);
  }

  /** Its generator has not returned or thrown yet. */
  get alive(): boolean {
    return this.#endNs === undefined;
  }

  /** The event that it waits for; undefined while it waits for a delay, and after its end. */
  get target(): Event<unknown> | undefined {
    return this.#target;
  }

  /**
   * Throw an `Interrupt` into the process, at this instant, before ordinary events. What it waited for stays as
   * it is: the process may wait for it again. Several interrupts of one instant arrive one after the other; those
   * that find the process at its end are dropped with it.
   * @throws Error when the process has ended, or is the one at work.
   */
  interrupt(cause?: unknown): void {
    const { env } = this;
    const by = env.activeProcess;
    const now = `at ${env.nowNs} ns`;
    if (!this.alive) {
      throw new Error(`cannot interrupt process '${this.name}' ${now}: it ended at ${this.#endNs} ns`);
    }
    if (by === this) throw new Error(`process '${this.name}' cannot interrupt itself ${now}`);
    const interruption = new Interruption(env, new Interrupt(cause, by?.name));
    interruption.whenProcessed(() => this.#interrupted(interruption.value));
  }

  [RESUME](): void {
    this.#advance(undefined, undefined);
  }

  #interrupted(interrupt: Interrupt): void {
    if (!this.alive) return;
    if (this.#target === undefined) this.env.cancelResume(this.#row);
    else this.#target.forget(this.#wake);
    this.#target = undefined;
    this.#advance(undefined, interrupt);
  }

  /** Run the generator up to its next wait, beginning with a value, or with what is to be thrown. */
  #advance(value: unknown, thrown: Failure | Error | undefined): void {
    const { env } = this;
    env.activeProcess = this;
    try {
      for (;;) {
        const step =
          thrown === undefined
            ? this.#steps.next(value)
            : this.#steps.throw(thrown instanceof Failure ? thrown.cause : thrown);
        if (step.done === true) {
          this.#end();
          this.settle(step.value, 0, NORMAL);
          return;
        }
        const wait = step.value;
        if (typeof wait === 'number') {
          if (env.resumeAfter(this.#row, wait, NORMAL)) return;
          thrown = new RangeError(delayRefused(wait, env.nowNs));
        } else if (!(wait instanceof Event) || wait.env !== env || wait === (this as Event<unknown>)) {
          thrown = new TypeError(this.#whyNot(wait));
        } else if (!wait.processed) {
          wait.whenProcessed(this.#wake);
          this.#target = wait;
          return;
        } else if (wait.failure === undefined) {
          thrown = undefined;
          value = wait.value;
        } else {
          thrown = wait.defuse().failure;
        }
      }
    } catch (error) {
      this.#crash(error, thrown);
    } finally {
      env.activeProcess = undefined;
    }
  }

  #crash(error: unknown, thrown: Failure | Error | undefined): void {
    this.#end();
    // A failure that only passes through keeps the time and the process of its beginning.
    const passing = thrown instanceof Failure && thrown.cause === error;
    this.settleFailure(
      passing ? thrown : new Failure(`process '${this.name}'`, this.#endNs!, this.name, errorOf(error)),
    );
  }

  #end(): void {
    this.#endNs = this.env.nowNs;
    this.env.dismiss(this.#row);
  }

  #whyNot(wait: unknown): string {
    if (!(wait instanceof Event))
      return `cannot wait for ${String(wait)} at ${this.env.nowNs} ns: yield a delay in ns or an event`;
    if (wait.env !== this.env) return 'cannot wait for an event of another environment';
    return 'a process cannot wait for its own end';
  }
}

/** Carries an interrupt to its process ahead of the ordinary events of the instant. */
class Interruption extends Event<Interrupt> {
  constructor(env: Environment, interrupt: Interrupt) {
    super(env);
    this.settle(interrupt, 0, URGENT);
  }
}
