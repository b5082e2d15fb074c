import { longer } from '../columns/longer.ts';
import { BucketEventQueue } from './bucket-event-queue.ts';
import { KINDS_MAX } from './event-store.ts';
import { FiredEvent, type EventHandle, type EventQueue } from './event-queue.ts';

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

/** Sees an event before it is handled. */
export type Observer = (atNs: number, kind: number, a: number, b: number) => void;

const CALLBACK = 0;

/**
 * A virtual clock and the events that move it. Events fire in the order of time, then priority (lower first),
 * then scheduling. An event may schedule others at its own instant; they fire after those already there.
 */
export class Simulation {
  /** The most events that were ever pending. */
  peakPending = 0;
  /** Set to follow a run event by event; undefined costs nothing. */
  observer: Observer | undefined = undefined;

  private readonly queue: EventQueue;
  private readonly limits: Limits;
  private readonly event = new FiredEvent();
  private readonly handlers: EventHandler[] = [];
  private readonly names: string[] = [];
  private counts: Float64Array = new Float64Array(16);
  private readonly callbacks: ((() => void) | undefined)[] = [];
  private readonly freeCallbacks: number[] = [];
  private running = false;
  private stopReason: string | undefined = undefined;

  constructor(options: { readonly queue?: EventQueue; readonly limits?: Partial<Limits> } = {}) {
    this.queue = options.queue ?? new BucketEventQueue();
    this.limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.on((slot) => {
      const callback = this.callbacks[slot]!;
      this.callbacks[slot] = undefined;
      this.freeCallbacks.push(slot);
      callback();
    }, 'callback');
  }

  /** Events fired so far. */
  get fired(): number {
    return this.counts.reduce((total, count) => total + count, 0);
  }

  get nowNs(): number {
    return this.queue.nowNs;
  }

  /** Events that will still fire. */
  get pending(): number {
    return this.queue.size;
  }

  /** Declare a kind of event: returns its number for `at`. Events of a kind cost no allocation. */
  on(handler: EventHandler, name = `kind ${this.handlers.length}`): number {
    if (this.handlers.length === KINDS_MAX) throw new RangeError(`more than ${KINDS_MAX} event kinds`);
    const kind = this.handlers.push(handler) - 1;
    this.names.push(name);
    if (kind === this.counts.length) this.counts = longer(this.counts, kind * 2);
    return kind;
  }

  kindName(kind: number): string {
    return this.names[kind] ?? `kind ${kind}`;
  }

  /** How many events of each kind have fired, in the order of declaration. */
  firedByKind(): readonly { readonly name: string; readonly fired: number }[] {
    return this.names.map((name, kind) => ({ name, fired: this.counts[kind]! }));
  }

  /**
   * Schedule an event of a kind at an absolute time, which may be now; `a` and `b` are 32-bit integers.
   * @throws RangeError for a time in the past, beyond 2^53, or not whole, and for a kind that was not declared.
   */
  at(timeNs: number, kind: number, a = 0, b = 0, priority = NORMAL): EventHandle {
    if (!(timeNs >= this.queue.nowNs) || !Number.isSafeInteger(timeNs)) this.refuse(timeNs);
    if (!(kind < this.handlers.length)) this.refuseKind(kind);
    this.queue.dueNs = timeNs;
    const handle = this.queue.pushNamed(priority, kind, a, b);
    if (this.queue.size > this.peakPending) this.peakPending = this.queue.size;
    return handle;
  }

  /**
   * Schedule an event of a kind after a delay, for good: without a handle, nothing is allocated, whatever the
   * compiler inlines. The way of hot loops.
   * @throws RangeError as `at` does.
   */
  post(delayNs: number, kind: number, a = 0, b = 0, priority = NORMAL): void {
    const timeNs = this.queue.nowNs + delayNs;
    if (!(delayNs >= 0) || !Number.isSafeInteger(timeNs)) this.refuse(timeNs);
    if (!(kind < this.handlers.length)) this.refuseKind(kind);
    this.queue.dueNs = timeNs;
    this.queue.pushDue(priority, kind, a, b);
    if (this.queue.size > this.peakPending) this.peakPending = this.queue.size;
  }

  /** Schedule a callback after a delay; for scripts, where a closure per event does not hurt. */
  schedule(delayNs: number, callback: () => void, priority = NORMAL): EventHandle {
    const slot = this.freeCallbacks.pop() ?? this.callbacks.length;
    this.callbacks[slot] = callback;
    return this.at(this.queue.nowNs + delayNs, CALLBACK, slot, 0, priority);
  }

  /**
   * Make sure that an event which is pending does not fire.
   * @throws RangeError for a stale handle: its event has fired or was cancelled before. `isPending` tells.
   */
  cancel(handle: EventHandle): void {
    if (!this.queue.cancel(handle)) {
      throw new RangeError(
        `cannot cancel event ${handle} at ${this.nowNs} ns: it has fired or was cancelled before`,
      );
    }
  }

  isPending(handle: EventHandle): boolean {
    return this.queue.isPending(handle);
  }

  /** When the next event fires; Infinity when there is none. */
  peekNs(): number {
    return this.queue.peekNs();
  }

  /** Fire the next event; false when there is none. */
  step(): boolean {
    if (this.running) this.refuseNested('step');
    if (!this.queue.pop(this.event)) return false;
    this.running = true;
    try {
      this.fire();
    } finally {
      this.running = false;
      this.queue.limitNs = Infinity;
    }
    return true;
  }

  /**
   * Fire events until none is left, `stop` is called, or a limit is hit. With `untilNs`, events strictly before
   * it fire and the clock then stands at it; events at that very instant are left for the next run, so that runs
   * over [0, a) and [a, b) together equal one over [0, b).
   * @throws Error when called from an event, for a time that has passed, or again when nothing is left to run.
   */
  run(options: { readonly untilNs?: number } = {}): RunOutcome {
    const untilNs = options.untilNs ?? Infinity;
    if (this.running) this.refuseNested('run');
    if (untilNs < this.nowNs)
      throw new RangeError(`cannot run until ${untilNs} ns: it is ${this.nowNs} ns already`);
    if (untilNs === Infinity && this.fired > 0 && this.queue.size === 0) {
      throw new Error(`nothing is pending: the run ended at ${this.nowNs} ns after ${this.fired} events`);
    }
    this.running = true;
    this.stopReason = undefined;
    try {
      return this.runUntil(untilNs);
    } finally {
      this.running = false;
      this.queue.limitNs = Infinity;
    }
  }

  /** End the present `run` after the event that calls this. */
  stop(reason: string): void {
    this.stopReason = reason;
    if (this.running) this.queue.limitNs = -Infinity;
  }

  private runUntil(untilNs: number): RunOutcome {
    const { queue, event, limits } = this;
    let left = limits.events;
    queue.limitNs = Math.min(untilNs, limits.timeNs + 1);
    while (left > 0 && queue.pop(event)) {
      left--;
      this.fire();
    }
    const events = limits.events - left;
    const reason = this.stopReason;
    if (reason !== undefined) return { kind: 'stopped', nowNs: this.nowNs, events, reason };
    const nextNs = queue.peekNs();
    if (nextNs >= untilNs) {
      if (untilNs === Infinity) return { kind: 'drained', nowNs: this.nowNs, events };
      queue.nowNs = untilNs;
      return { kind: 'until', nowNs: untilNs, events };
    }
    if (nextNs > limits.timeNs)
      return { kind: 'time-limit', nowNs: this.nowNs, events, limit: limits.timeNs };
    return { kind: 'event-limit', nowNs: this.nowNs, events, limit: limits.events };
  }

  private fire(): void {
    const { kind, a, b } = this.event;
    this.counts[kind]! += 1;
    if (this.observer !== undefined) this.observer(this.nowNs, kind, a, b);
    this.handlers[kind]!(a, b);
  }

  private refuse(timeNs: number): never {
    if (timeNs < this.nowNs) {
      throw new RangeError(`cannot schedule at ${timeNs} ns: it is ${this.nowNs} ns already`);
    }
    throw new RangeError(
      `cannot schedule at ${timeNs} ns: a time is a whole number of nanoseconds below 2^53`,
    );
  }

  private refuseKind(kind: number): never {
    throw new RangeError(`no event kind ${kind}: there are ${this.handlers.length}`);
  }

  private refuseNested(name: string): never {
    throw new Error(`${name} is called at ${this.nowNs} ns from an event of the run that is under way`);
  }
}
