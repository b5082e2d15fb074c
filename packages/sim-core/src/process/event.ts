import { NORMAL } from '../engine/simulation.ts';
import type { Environment } from './environment.ts';
import { errorOf, Failure } from './failure.ts';

/** How the environment makes an event happen; not for others. */
export const FIRE: unique symbol = Symbol('fire');

/** May happen; is going to happen, with its outcome known; has happened. */
export type EventState = 'pending' | 'triggered' | 'processed';

export type EventCallback = (event: Event<unknown>) => void;

/**
 * Something that happens at most once. `succeed` or `fail` settles the outcome and queues the event for the
 * present instant, behind what is queued there already; when its turn comes it calls its callbacks in the order
 * of their registration. A process waits for it with `yield* event`, which is the event's value, or throws what
 * the event failed with.
 *
 * A failure must reach somebody: an event that failed, and that no process or condition waited for, throws its
 * `Failure` out of the run, unless `defuse` was called.
 */
export class Event<T = void> {
  readonly env: Environment;
  #state: EventState = 'pending';
  #value: T | undefined = undefined;
  #failure: Failure | undefined = undefined;
  #defused = false;
  /** The first callback; most events have no other. */
  #callback: EventCallback | undefined = undefined;
  #others: EventCallback[] | undefined = undefined;

  constructor(env: Environment) {
    this.env = env;
  }

  get state(): EventState {
    return this.#state;
  }

  /** The outcome is known. */
  get triggered(): boolean {
    return this.#state !== 'pending';
  }

  /** The event has happened: its callbacks were called, or are being called. */
  get processed(): boolean {
    return this.#state === 'processed';
  }

  /** Triggered, and not by a failure. */
  get ok(): boolean {
    return this.#state !== 'pending' && this.#failure === undefined;
  }

  /** What the event failed with; undefined while pending and after success. */
  get failure(): Failure | undefined {
    return this.#failure;
  }

  /**
   * What the event succeeded with.
   * @throws Error while the event is pending; what it failed with after a failure.
   */
  get value(): T {
    if (this.#failure !== undefined) throw this.#failure.cause;
    if (this.#state === 'pending')
      throw new Error(`the event has no value at ${this.env.nowNs} ns: it is pending`);
    return this.#value as T;
  }

  /** @throws Error when the outcome is settled already. */
  succeed(value: T): this {
    this.settle(value, 0, NORMAL);
    return this;
  }

  /** @throws Error when the outcome is settled already. */
  fail(error: Error): this {
    const by = this.env.activeProcess;
    const subject = by === undefined ? 'an event' : `an event of process '${by.name}'`;
    this.settleFailure(new Failure(subject, this.env.nowNs, by?.name, errorOf(error)));
    return this;
  }

  /** Declare a failure of this event dealt with: it will not stop the run. */
  defuse(): this {
    this.#defused = true;
    return this;
  }

  /**
   * Call `callback` when the event happens, after those registered before.
   * @throws Error when the event has happened.
   */
  whenProcessed(callback: EventCallback): void {
    if (this.#state === 'processed') throw new Error(`the event had happened before ${this.env.nowNs} ns`);
    if (this.#callback === undefined) this.#callback = callback;
    else (this.#others ??= []).push(callback);
  }

  /** Take one registration of `callback` back; false when there is none. */
  forget(callback: EventCallback): boolean {
    if (this.#callback === callback) {
      this.#callback = this.#others?.shift();
      return true;
    }
    const index = this.#others?.indexOf(callback) ?? -1;
    if (index === -1) return false;
    this.#others!.splice(index, 1);
    return true;
  }

  /** `yield* event`: wait for the event; its value. */
  *[Symbol.iterator](): Generator<Event<T>, T, unknown> {
    return (yield this) as T;
  }

  [FIRE](): void {
    const first = this.#callback;
    const others = this.#others;
    this.#callback = undefined;
    this.#others = undefined;
    this.#state = 'processed';
    if (first !== undefined) first(this);
    if (others !== undefined) for (const callback of others) callback(this);
    if (this.#failure !== undefined && !this.#defused) throw this.#failure;
  }

  /** Settle with a value and queue the event for `delayNs` from now. */
  protected settle(value: T, delayNs: number, priority: number): void {
    this.#refuseSecondOutcome();
    this.env.enqueue(this, delayNs, priority);
    this.#state = 'triggered';
    this.#value = value;
  }

  /** Settle with a failure, which may have begun in another event. */
  protected settleFailure(failure: Failure): void {
    this.#refuseSecondOutcome();
    this.env.enqueue(this, 0, NORMAL);
    this.#state = 'triggered';
    this.#failure = failure;
  }

  #refuseSecondOutcome(): void {
    if (this.#state === 'pending') return;
    const outcome = this.#failure === undefined ? 'succeeded' : 'failed';
    throw new Error(`cannot settle an event twice: at ${this.env.nowNs} ns it has ${outcome} already`);
  }
}
