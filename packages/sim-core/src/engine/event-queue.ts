import FastPriorityQueue from 'fastpriorityqueue';

/** Names a scheduled event for `cancel`: its number in the order of scheduling, never given again. */
export type EventHandle = number;

/** The record that `pop` fills: an event is a kind and two integers. Its time is the queue's `nowNs`. */
export class FiredEvent {
  kind = 0;
  a = 0;
  b = 0;
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
  /** Time of the event popped last, or what it was set to; 0 at first. */
  nowNs: number;
  /** Schedule at `dueNs`. */
  pushDue(priority: number, kind: number, a: number, b: number): void;
  /** Schedule at `dueNs` an event that can be cancelled. */
  pushNamed(priority: number, kind: number, a: number, b: number): EventHandle;
  /** Schedule at `atNs`: `pushDue` for those who do not count bytes. */
  push(atNs: number, priority: number, kind: number, a: number, b: number): void;
  /** False for a handle whose event has fired or was cancelled. */
  isPending(handle: EventHandle): boolean;
  /** True if the event was pending and will now not fire; false for a handle already fired or cancelled. */
  cancel(handle: EventHandle): boolean;
  /** When the first event fires; Infinity when there is none. */
  peekNs(): number;
  /** Remove the first event into `into`, if it fires before `limitNs`; else false, and `into` means nothing. */
  pop(into: FiredEvent): boolean;
}

interface Entry {
  atNs: number;
  priority: number;
  sequence: number;
  kind: number;
  a: number;
  b: number;
  named: boolean;
}

/**
 * The reference implementation, on `fastpriorityqueue`'s binary heap. That heap keeps no order among equals and
 * removes in O(n), so the comparator is total and a cancelled entry stays until it is met. Push and pop O(log n),
 * cancel O(1).
 */
export class HeapEventQueue implements EventQueue {
  dueNs = 0.5;
  limitNs = Infinity;
  nowNs = 0;
  readonly #heap = new FastPriorityQueue<Entry>(firesBefore);
  readonly #free: Entry[] = [];
  /** Handles of the events that have one and will fire. */
  readonly #named = new Set<EventHandle>();
  #sequence = 0;
  #cancelled = 0;

  get size(): number {
    return this.#heap.size - this.#cancelled;
  }

  push(atNs: number, priority: number, kind: number, a: number, b: number): void {
    this.dueNs = atNs;
    this.pushDue(priority, kind, a, b);
  }

  pushDue(priority: number, kind: number, a: number, b: number): void {
    this.#add(priority, kind, a, b, false);
  }

  pushNamed(priority: number, kind: number, a: number, b: number): EventHandle {
    const handle = this.#sequence;
    this.#named.add(handle);
    this.#add(priority, kind, a, b, true);
    return handle;
  }

  #add(priority: number, kind: number, a: number, b: number, named: boolean): void {
    const entry = this.#free.pop() ?? newEntry();
    entry.atNs = this.dueNs;
    entry.priority = priority;
    entry.sequence = this.#sequence++;
    entry.kind = kind;
    entry.a = a;
    entry.b = b;
    entry.named = named;
    this.#heap.add(entry);
  }

  isPending(handle: EventHandle): boolean {
    return this.#named.has(handle);
  }

  cancel(handle: EventHandle): boolean {
    if (!this.#named.delete(handle)) return false;
    this.#cancelled++;
    return true;
  }

  peekNs(): number {
    this.#dropCancelled();
    return this.#heap.peek()?.atNs ?? Infinity;
  }

  pop(into: FiredEvent): boolean {
    if (!(this.peekNs() < this.limitNs)) return false;
    const entry = this.#heap.poll()!;
    this.nowNs = entry.atNs;
    into.kind = entry.kind;
    into.a = entry.a;
    into.b = entry.b;
    if (entry.named) this.#named.delete(entry.sequence);
    this.#free.push(entry);
    return true;
  }

  #dropCancelled(): void {
    for (
      let first = this.#heap.peek();
      first !== undefined && this.#isCancelled(first);
      first = this.#heap.peek()
    ) {
      this.#heap.poll();
      this.#free.push(first);
      this.#cancelled--;
    }
  }

  #isCancelled(entry: Entry): boolean {
    return entry.named && !this.#named.has(entry.sequence);
  }
}

function newEntry(): Entry {
  // Started with fractions so that V8 keeps these fields as doubles.
  return { atNs: 0.5, priority: 0, sequence: 0.5, kind: 0, a: 0, b: 0, named: false };
}

function firesBefore(x: Entry, y: Entry): boolean {
  if (x.atNs !== y.atNs) return x.atNs < y.atNs;
  if (x.priority !== y.priority) return x.priority < y.priority;
  return x.sequence < y.sequence;
}
