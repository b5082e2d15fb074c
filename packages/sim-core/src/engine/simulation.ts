import { FiredEvent, HeapEventQueue, type EventHandle, type EventQueue } from './event-queue.ts';

/** Virtual time is an integer number of nanoseconds; 2^53 of them are 104 days. */
export const NS_PER_US = 1_000;
export const NS_PER_MS = 1_000_000;
export const NS_PER_S = 1_000_000_000;

export interface Limits {
  /** Events fired in one `run` at most. */
  readonly events: number;
  /** Virtual time at most. */
  readonly timeNs: number;
}

export const DEFAULT_LIMITS: Limits = { events: 1_000_000_000, timeNs: Number.MAX_SAFE_INTEGER };

/** Why a run ended; hitting a limit is an outcome, not an exception. */
export type RunOutcome =
  | { readonly kind: 'drained'; readonly nowNs: number; readonly events: number }
  | { readonly kind: 'until'; readonly nowNs: number; readonly events: number }
  | { readonly kind: 'stopped'; readonly nowNs: number; readonly events: number; readonly reason: string }
  | { readonly kind: 'event-limit'; readonly nowNs: number; readonly events: number; readonly limit: number }
  | { readonly kind: 'time-limit'; readonly nowNs: number; readonly events: number; readonly limit: number };

/** What an event kind does: two integers, usually row numbers. */
export type EventHandler = (a: number, b: number) => void;

/** Before ordinary events of the same instant. */
export const URGENT = -1;
export const NORMAL = 0;

const CLOSURE = 0;

/**
 * A virtual clock and the events that move it. Events fire in the order of time, then priority (lower first),
 * then scheduling. An event may schedule others at its own instant; they fire after those already there.
 */
export class Simulation {
  /** Events fired so far. */
  fired = 0;
  /** The most events that were ever pending. */
  peakPending = 0;

  readonly #queue: EventQueue;
  readonly #limits: Limits;
  readonly #event = new FiredEvent();
  readonly #handlers: EventHandler[] = [];
  readonly #closures: ((() => void) | undefined)[] = [];
  readonly #freeClosures: number[] = [];
  #nowNs = 0;
  #stopReason: string | undefined;

  constructor(options: { readonly queue?: EventQueue; readonly limits?: Partial<Limits> } = {}) {
    this.#queue = options.queue ?? new HeapEventQueue();
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.on((slot) => {
      const callback = this.#closures[slot]!;
      this.#closures[slot] = undefined;
      this.#freeClosures.push(slot);
      callback();
    });
  }

  get nowNs(): number {
    return this.#nowNs;
  }

  /** Events that will still fire. */
  get pending(): number {
    return this.#queue.size;
  }

  /** Declare a kind of event: returns its number for `at`. Events of a kind cost no allocation. */
  on(handler: EventHandler): number {
    return this.#handlers.push(handler) - 1;
  }

  /**
   * Schedule an event of a kind at an absolute time, which may be now.
   * @throws RangeError for a time in the past, beyond 2^53, or not whole.
   */
  at(timeNs: number, kind: number, a = 0, b = 0, priority = NORMAL): EventHandle {
    if (!(timeNs >= this.#nowNs) || !Number.isSafeInteger(timeNs)) this.#refuse(timeNs);
    const handle = this.#queue.push(timeNs, priority, kind, a, b);
    if (this.#queue.size > this.peakPending) this.peakPending = this.#queue.size;
    return handle;
  }

  /** Schedule a callback after a delay; for scripts, where a closure per event does not hurt. */
  schedule(delayNs: number, callback: () => void, priority = NORMAL): EventHandle {
    const slot = this.#freeClosures.pop() ?? this.#closures.length;
    this.#closures[slot] = callback;
    return this.at(this.#nowNs + delayNs, CLOSURE, slot, 0, priority);
  }

  /** True if the event was pending and will now not fire. */
  cancel(handle: EventHandle): boolean {
    return this.#queue.cancel(handle);
  }

  /** When the next event fires; Infinity when there is none. */
  peekNs(): number {
    return this.#queue.peekNs();
  }

  /** Fire the next event; false when there is none. */
  step(): boolean {
    if (!this.#queue.pop(this.#event)) return false;
    this.#nowNs = this.#event.atNs;
    this.fired++;
    this.#handlers[this.#event.kind]!(this.#event.a, this.#event.b);
    return true;
  }

  /**
   * Fire events until none is left, `stop` is called, or a limit is hit. With `untilNs`, events strictly before
   * it fire and the clock then stands at it; events at that very instant are left for the next run, so that runs
   * over [0, a) and [a, b) together equal one over [0, b).
   */
  run(options: { readonly untilNs?: number } = {}): RunOutcome {
    const untilNs = options.untilNs ?? Infinity;
    if (untilNs < this.#nowNs)
      throw new RangeError(`cannot run until ${untilNs} ns: it is ${this.#nowNs} ns already`);
    const first = this.fired;
    this.#stopReason = undefined;
    for (;;) {
      const nextNs = this.#queue.peekNs();
      const nowNs = this.#nowNs;
      const events = this.fired - first;
      if (nextNs >= untilNs) {
        if (untilNs === Infinity) return { kind: 'drained', nowNs, events };
        this.#nowNs = untilNs;
        return { kind: 'until', nowNs: untilNs, events };
      }
      if (nextNs > this.#limits.timeNs)
        return { kind: 'time-limit', nowNs, events, limit: this.#limits.timeNs };
      if (events >= this.#limits.events)
        return { kind: 'event-limit', nowNs, events, limit: this.#limits.events };
      this.step();
      if (this.#stopReason !== undefined) {
        return { kind: 'stopped', nowNs: this.#nowNs, events: events + 1, reason: this.#stopReason };
      }
    }
  }

  /** End the present `run` after the event that calls this. */
  stop(reason: string): void {
    this.#stopReason = reason;
  }

  #refuse(timeNs: number): never {
    if (timeNs < this.#nowNs) {
      throw new RangeError(`cannot schedule at ${timeNs} ns: it is ${this.#nowNs} ns already`);
    }
    throw new RangeError(
      `cannot schedule at ${timeNs} ns: a time is a whole number of nanoseconds below 2^53`,
    );
  }
}
