import type { Environment } from './environment.ts';
import { Event, type EventCallback } from './event.ts';

/** The values of some events, in their order. */
export type ValuesOf<E extends readonly Event<unknown>[]> = {
  -readonly [K in keyof E]: E[K] extends Event<infer T> ? T : never;
};

/**
 * Counts which of some events have happened. The first failure among them fails the condition and counts as
 * dealt with. Once the outcome is settled the condition lets go of the others, so that one of those that fails
 * later is again everybody's concern.
 */
abstract class Condition<T> extends Event<T> {
  protected readonly events: readonly Event<unknown>[];
  #missing = 0;
  readonly #check: EventCallback = (event) => this.#count(event);

  constructor(env: Environment, events: readonly Event<unknown>[], needed: number) {
    super(env);
    for (const event of events) {
      if (event.env !== env) throw new TypeError('a condition cannot join events of two environments');
    }
    this.events = events;
    this.#missing = needed;
  }

  protected abstract result(): T;

  /** Look at what has happened already, and watch the rest. Called once, at the end of construction. */
  protected watch(): void {
    if (this.#missing === 0) this.succeed(this.result());
    for (const event of this.events) {
      if (this.triggered) return;
      if (event.processed) this.#count(event);
      else event.whenProcessed(this.#check);
    }
  }

  #count(event: Event<unknown>): void {
    if (event.failure !== undefined) {
      event.defuse();
      this.settleFailure(event.failure);
    } else {
      this.#missing--;
      if (this.#missing > 0) return;
      this.succeed(this.result());
    }
    for (const other of this.events) other.forget(this.#check);
  }
}

/** Happens when one of its events has; its value holds all that have happened by then. */
export class AnyOf<E extends Event<unknown>> extends Condition<ReadonlySet<E>> {
  readonly #happened = new Set<E>();

  /** Of no events at all: happens at once. */
  constructor(env: Environment, events: readonly E[]) {
    super(env, events, Math.min(1, events.length));
    // Its turn comes later in the instant in which it was triggered: what else has happened until then counts.
    this.whenProcessed(() => {
      for (const event of events) if (event.processed && event.ok) this.#happened.add(event);
    });
    this.watch();
  }

  protected override result(): ReadonlySet<E> {
    return this.#happened;
  }
}

/** Happens when all of its events have; its value is the list of theirs. */
export class AllOf<const E extends readonly Event<unknown>[]> extends Condition<ValuesOf<E>> {
  /** Of no events at all: happens at once. */
  constructor(env: Environment, events: E) {
    super(env, events, events.length);
    this.watch();
  }

  protected override result(): ValuesOf<E> {
    return this.events.map((event) => event.value) as ValuesOf<E>;
  }
}
