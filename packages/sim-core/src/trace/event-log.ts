import { fixedPoint } from './fixed-point.ts';

export type EventObserver = (atNs: number, kind: number, a: number, b: number) => void;

/** What a log needs of a `Simulation`. */
export interface ObservedSimulation {
  observer: EventObserver | undefined;
  kindName(kind: number): string;
}

export interface EventLogOptions {
  /** Events kept; of more, the last ones stay. */
  readonly capacity?: number;
  /** Only events of these kinds; all when absent. */
  readonly kinds?: readonly number[];
  /** Only events at or after this time. */
  readonly fromNs?: number;
  /** Only events before this time. */
  readonly untilNs?: number;
  /** Only events whose two integers satisfy this. */
  readonly where?: (a: number, b: number) => boolean;
}

export interface LoggedEvent {
  readonly atNs: number;
  readonly kind: number;
  readonly name: string;
  readonly a: number;
  readonly b: number;
}

export const EVENT_LOG_CAPACITY = 65_536;

/**
 * The last events that a simulation fired, in columns: 28 bytes an event, none allocated as events fire. An
 * observer that was there before is still called.
 */
export class EventLog {
  /** Events that passed the filters, kept or not. */
  matched = 0;

  readonly #simulation: ObservedSimulation;
  readonly #before: EventObserver | undefined;
  readonly #observer: EventObserver;
  readonly #capacity: number;
  readonly #kinds: ReadonlySet<number> | undefined;
  readonly #fromNs: number;
  readonly #untilNs: number;
  readonly #where: ((a: number, b: number) => boolean) | undefined;
  readonly #atNs: Float64Array;
  readonly #kind: Int32Array;
  readonly #a: Float64Array;
  readonly #b: Float64Array;
  #recording = true;
  /** Where the next event goes. */
  #next = 0;

  /** @throws RangeError unless the capacity is a whole number of at least one. */
  constructor(simulation: ObservedSimulation, options: EventLogOptions = {}) {
    const capacity = options.capacity ?? EVENT_LOG_CAPACITY;
    if (!Number.isSafeInteger(capacity) || capacity < 1)
      throw new RangeError(`an event log cannot keep ${capacity} events; wanted a whole number from 1`);
    this.#simulation = simulation;
    this.#capacity = capacity;
    this.#kinds = options.kinds === undefined ? undefined : new Set(options.kinds);
    this.#fromNs = options.fromNs ?? 0;
    this.#untilNs = options.untilNs ?? Infinity;
    this.#where = options.where;
    this.#atNs = new Float64Array(capacity);
    this.#kind = new Int32Array(capacity);
    this.#a = new Float64Array(capacity);
    this.#b = new Float64Array(capacity);
    const before = simulation.observer;
    this.#before = before;
    this.#observer = (atNs, kind, a, b) => {
      before?.(atNs, kind, a, b);
      if (this.#recording) this.#record(atNs, kind, a, b);
    };
    simulation.observer = this.#observer;
  }

  /** Events kept. */
  get length(): number {
    return Math.min(this.matched, this.#capacity);
  }

  /** Events that passed the filters and had to make room for later ones. */
  get dropped(): number {
    return this.matched - this.length;
  }

  /** Listen no longer; what was kept stays. */
  detach(): void {
    this.#recording = false;
    if (this.#simulation.observer === this.#observer) this.#simulation.observer = this.#before;
  }

  /** The kept events, oldest first. */
  *[Symbol.iterator](): Generator<LoggedEvent> {
    const { length } = this;
    const first = length < this.#capacity ? 0 : this.#next;
    for (let i = 0; i < length; i++) {
      const row = (first + i) % this.#capacity;
      const kind = this.#kind[row]!;
      yield {
        atNs: this.#atNs[row]!,
        kind,
        name: this.#simulation.kindName(kind),
        a: this.#a[row]!,
        b: this.#b[row]!,
      };
    }
  }

  /** `12.345678901 s  packet  a=3 b=0`, oldest first; says first what is missing. */
  *lines(): Generator<string> {
    if (this.dropped > 0) yield `(${this.dropped} earlier events not kept)`;
    for (const { atNs, name, a, b } of this) yield `${fixedPoint(atNs, 9)} s  ${name}  a=${a} b=${b}`;
  }

  #record(atNs: number, kind: number, a: number, b: number): void {
    if (atNs < this.#fromNs || atNs >= this.#untilNs) return;
    if (this.#kinds !== undefined && !this.#kinds.has(kind)) return;
    if (this.#where !== undefined && !this.#where(a, b)) return;
    const row = this.#next;
    this.#atNs[row] = atNs;
    this.#kind[row] = kind;
    this.#a[row] = a;
    this.#b[row] = b;
    this.#next = row + 1 === this.#capacity ? 0 : row + 1;
    this.matched++;
  }
}
