import FastPriorityQueue from 'fastpriorityqueue';

/** Names a scheduled event for `cancel`. Never reused while the event it named could still be meant. */
export type EventHandle = number;

/** The record that `pop` fills: an event is a kind and two integers. */
export class FiredEvent {
  atNs = 0.5;
  kind = 0;
  a = 0;
  b = 0;

  constructor() {
    // Started with a fraction so that V8 keeps the field unboxed as a double.
    this.atNs = 0;
  }
}

/**
 * Pending events in the order (time, priority, sequence of scheduling): a total order, so that every
 * implementation fires the same events in the same order.
 */
export interface EventQueue {
  /** Events that will still fire. */
  readonly size: number;
  /**
   * Set before `pushDue`: the time of the event to be scheduled. Not an argument, since V8 boxes a double that is
   * passed to a function it does not inline: 16 bytes an event.
   */
  dueNs: number;
  /** Set before `pop`: the time before which an event must fire to be popped; Infinity at first. */
  limitNs: number;
  /** Schedule at `dueNs`; returns the event's slot, which `handleOf` turns into a handle while it is pending. */
  pushDue(priority: number, kind: number, a: number, b: number): number;
  /** Schedule at `atNs`: `pushDue` for those who do not count bytes. */
  push(atNs: number, priority: number, kind: number, a: number, b: number): number;
  handleOf(slot: number): EventHandle;
  /** False for a handle whose event has fired or was cancelled. */
  isPending(handle: EventHandle): boolean;
  /** True if the event was pending and will now not fire; false for a handle already fired or cancelled. */
  cancel(handle: EventHandle): boolean;
  /** When the first event fires; Infinity when there is none. */
  peekNs(): number;
  /** Remove the first event into `into`, if it fires before `limitNs`; else false. */
  pop(into: FiredEvent): boolean;
}

interface Entry {
  atNs: number;
  priority: number;
  sequence: number;
  kind: number;
  a: number;
  b: number;
  readonly slot: number;
  generation: number;
  pending: boolean;
}

/** Slots a handle can tell apart: the most events that may be pending at once. */
const SLOTS = 16_777_216;

/**
 * The reference implementation, on `fastpriorityqueue`'s binary heap. That heap keeps no order among equals and
 * removes in O(n), so the comparator is total and a cancelled entry stays until it is met. Push and pop O(log n),
 * cancel O(1).
 */
export class HeapEventQueue implements EventQueue {
  dueNs = 0.5;
  limitNs = Infinity;
  readonly #heap = new FastPriorityQueue<Entry>(firesBefore);
  readonly #slots: Entry[] = [];
  readonly #free: Entry[] = [];
  #sequence = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  push(atNs: number, priority: number, kind: number, a: number, b: number): number {
    this.dueNs = atNs;
    return this.pushDue(priority, kind, a, b);
  }

  pushDue(priority: number, kind: number, a: number, b: number): number {
    const entry = this.#free.pop() ?? this.#newEntry();
    entry.atNs = this.dueNs;
    entry.priority = priority;
    entry.sequence = this.#sequence++;
    entry.kind = kind;
    entry.a = a;
    entry.b = b;
    entry.pending = true;
    this.#heap.add(entry);
    this.#size++;
    return entry.slot;
  }

  handleOf(slot: number): EventHandle {
    return this.#slots[slot]!.generation * SLOTS + slot;
  }

  isPending(handle: EventHandle): boolean {
    const entry = this.#slots[handle % SLOTS];
    return entry !== undefined && entry.pending && entry.generation === Math.floor(handle / SLOTS);
  }

  cancel(handle: EventHandle): boolean {
    if (!this.isPending(handle)) return false;
    this.#slots[handle % SLOTS]!.pending = false;
    this.#size--;
    return true;
  }

  peekNs(): number {
    this.#dropCancelled();
    return this.#heap.peek()?.atNs ?? Infinity;
  }

  pop(into: FiredEvent): boolean {
    if (!(this.peekNs() < this.limitNs)) return false;
    const entry = this.#heap.poll()!;
    into.atNs = entry.atNs;
    into.kind = entry.kind;
    into.a = entry.a;
    into.b = entry.b;
    entry.pending = false;
    this.#size--;
    this.#recycle(entry);
    return true;
  }

  #dropCancelled(): void {
    for (let first = this.#heap.peek(); first !== undefined && !first.pending; first = this.#heap.peek()) {
      this.#heap.poll();
      this.#recycle(first);
    }
  }

  #recycle(entry: Entry): void {
    entry.generation++;
    this.#free.push(entry);
  }

  #newEntry(): Entry {
    if (this.#slots.length === SLOTS) throw new RangeError(`more than ${SLOTS} events pending`);
    const entry: Entry = {
      atNs: 0.5,
      priority: 0,
      sequence: 0.5,
      kind: 0,
      a: 0,
      b: 0,
      slot: this.#slots.length,
      generation: 0,
      pending: false,
    };
    this.#slots.push(entry);
    return entry;
  }
}

function firesBefore(x: Entry, y: Entry): boolean {
  if (x.atNs !== y.atNs) return x.atNs < y.atNs;
  if (x.priority !== y.priority) return x.priority < y.priority;
  return x.sequence < y.sequence;
}
