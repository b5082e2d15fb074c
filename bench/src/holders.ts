import { BucketEventQueue, FiredEvent, HeapEventQueue, Simulation, type EventQueue } from '@vipsim/sim-core';
import FastPriorityQueue from 'fastpriorityqueue';
import FlatQueue from 'flatqueue';
import { Heap } from 'heap-js';
import TinyQueue from 'tinyqueue';

/**
 * The hold model (pop the earliest event, push it again later) on each structure, in the loop that its user would
 * write. Rivals get the kindest treatment: their records are reused unless the name says otherwise, so that they pay for no allocation, and know
 * neither cancelling nor priorities. A turn has a process of its own, so no loop ever sees two structures.
 */
export interface Holder {
  /** One event for each time; its number is the place in `times`. */
  fill(times: Float64Array): void;
  /** Returns the running checksum of the numbers popped, in order. */
  hold(steps: number): number;
  /** What the structure itself says it holds. */
  readonly ownBytes?: number;
}

/** The queue that users get: the one place to change when the default changes. */
export const defaultQueue = (): BucketEventQueue => new BucketEventQueue();
export const OURS = 'vipsim';

interface Structure {
  readonly name: string;
  readonly note?: string;
  /** Pops equal times in the order of pushing. */
  readonly stable: boolean;
  readonly make: (increments: Float64Array) => Holder;
}

export const STRUCTURES: readonly Structure[] = [
  {
    name: OURS,
    note: 'BucketEventQueue, the default',
    stable: true,
    make: (increments) => {
      const queue = defaultQueue();
      return new EventQueueHolder(queue, increments, () => queue.bytes);
    },
  },
  {
    name: 'vipsim, handles',
    note: 'every event can be cancelled: `pushNamed`',
    stable: true,
    make: (increments) => new NamedHolder(defaultQueue(), increments),
  },
  {
    name: 'vipsim Simulation',
    note: 'the same queue with checks, dispatch and clock: `run` and `at`',
    stable: true,
    make: (increments) => new SimulationHolder(increments),
  },
  {
    name: 'vipsim HeapEventQueue',
    note: 'the reference: fastpriorityqueue with order, handles and cancelling',
    stable: true,
    make: (increments) => new EventQueueHolder(new HeapEventQueue(), increments),
  },
  {
    name: 'fastpriorityqueue',
    stable: true,
    make: (increments) => new EntryHeapHolder(newFastPriorityQueue(), increments),
  },
  {
    name: 'fastpriorityqueue, new records',
    note: 'a new object for each event, as one would write it',
    stable: true,
    make: (increments) => new EntryHeapHolder(newFastPriorityQueue(), increments, false),
  },
  {
    name: 'heap-js',
    stable: true,
    make: (increments) => new EntryHeapHolder(new Heap(byTimeAndSequence), increments),
  },
  {
    name: 'tinyqueue',
    stable: true,
    make: (increments) => new EntryHeapHolder(new TinyQueue([], byTimeAndSequence), increments),
  },
  {
    name: 'flatqueue',
    note: 'times and numbers only, room for no more; equal times in no order',
    stable: false,
    make: (increments) => new FlatQueueHolder(increments),
  },
];

export function structureNamed(name: string): Structure {
  const structure = STRUCTURES.find((candidate) => candidate.name === name);
  if (structure === undefined) throw new RangeError(`no structure is named ${name}`);
  return structure;
}

class EventQueueHolder implements Holder {
  readonly #queue: EventQueue;
  readonly #increments: Float64Array;
  readonly #bytes: (() => number) | undefined;
  readonly #event = new FiredEvent();
  #at = 0;
  #order = 0;

  constructor(queue: EventQueue, increments: Float64Array, bytes?: () => number) {
    this.#queue = queue;
    this.#increments = increments;
    this.#bytes = bytes;
  }

  get ownBytes(): number {
    return this.#bytes?.() ?? NaN;
  }

  fill(times: Float64Array): void {
    for (let id = 0; id < times.length; id++) this.#queue.push(times[id]!, 0, 1, id, 0);
  }

  hold(steps: number): number {
    const queue = this.#queue;
    const event = this.#event;
    const increments = this.#increments;
    const mask = increments.length - 1;
    let at = this.#at;
    let order = this.#order;
    for (let step = 0; step < steps; step++) {
      queue.pop(event);
      order = (Math.imul(order, 31) + event.a) | 0;
      queue.dueNs = queue.nowNs + increments[at]!;
      queue.pushDue(0, event.kind, event.a, event.b);
      at = (at + 1) & mask;
    }
    this.#at = at;
    this.#order = order;
    return order;
  }
}

class NamedHolder implements Holder {
  readonly #queue: EventQueue;
  readonly #increments: Float64Array;
  readonly #event = new FiredEvent();
  #at = 0;
  #order = 0;

  constructor(queue: EventQueue, increments: Float64Array) {
    this.#queue = queue;
    this.#increments = increments;
  }

  fill(times: Float64Array): void {
    for (let id = 0; id < times.length; id++) {
      this.#queue.dueNs = times[id]!;
      this.#queue.pushNamed(0, 1, id, 0);
    }
  }

  hold(steps: number): number {
    const queue = this.#queue;
    const event = this.#event;
    const mask = this.#increments.length - 1;
    for (let step = 0; step < steps; step++) {
      queue.pop(event);
      this.#order = (Math.imul(this.#order, 31) + event.a) | 0;
      queue.dueNs = queue.nowNs + this.#increments[this.#at]!;
      queue.pushNamed(0, event.kind, event.a, event.b);
      this.#at = (this.#at + 1) & mask;
    }
    return this.#order;
  }
}

class SimulationHolder implements Holder {
  readonly #simulation = new Simulation();
  readonly #kind: number;
  #left = 0;
  #at = 0;
  #order = 0;

  constructor(increments: Float64Array) {
    const mask = increments.length - 1;
    const simulation = this.#simulation;
    const kind = simulation.on((id) => {
      this.#order = (Math.imul(this.#order, 31) + id) | 0;
      simulation.post(increments[this.#at]!, kind, id);
      this.#at = (this.#at + 1) & mask;
      if (--this.#left === 0) simulation.stop('enough');
    });
    this.#kind = kind;
  }

  fill(times: Float64Array): void {
    for (let id = 0; id < times.length; id++) this.#simulation.at(times[id]!, this.#kind, id);
  }

  hold(steps: number): number {
    this.#left = steps;
    this.#simulation.run();
    return this.#order;
  }
}

interface Entry {
  atNs: number;
  sequence: number;
  readonly kind: number;
  readonly a: number;
  readonly b: number;
}

interface EntryHeap {
  push(entry: Entry): unknown;
  pop(): Entry | undefined;
}

function byTimeAndSequence(x: Entry, y: Entry): number {
  return x.atNs - y.atNs || x.sequence - y.sequence;
}

function newFastPriorityQueue(): EntryHeap {
  const queue = new FastPriorityQueue<Entry>((x, y) =>
    x.atNs !== y.atNs ? x.atNs < y.atNs : x.sequence < y.sequence,
  );
  return { push: (entry) => queue.add(entry), pop: () => queue.poll() };
}

function newEntry(atNs: number, sequence: number, a: number): Entry {
  // Started with fractions so that V8 keeps the fields as doubles.
  const entry: Entry = { atNs: 0.5, sequence: 0.5, kind: 1, a, b: 0 };
  entry.atNs = atNs;
  entry.sequence = sequence;
  return entry;
}

/** Records in a heap of a library. */
class EntryHeapHolder implements Holder {
  readonly #queue: EntryHeap;
  readonly #increments: Float64Array;
  readonly #reuse: boolean;
  #at = 0;
  #order = 0;
  #sequence = 0;

  constructor(queue: EntryHeap, increments: Float64Array, reuse = true) {
    this.#queue = queue;
    this.#increments = increments;
    this.#reuse = reuse;
  }

  fill(times: Float64Array): void {
    for (let id = 0; id < times.length; id++) this.#queue.push(newEntry(times[id]!, this.#sequence++, id));
  }

  hold(steps: number): number {
    const queue = this.#queue;
    const increments = this.#increments;
    const mask = increments.length - 1;
    let at = this.#at;
    let order = this.#order;
    let sequence = this.#sequence;
    for (let step = 0; step < steps; step++) {
      const entry = queue.pop()!;
      order = (Math.imul(order, 31) + entry.a) | 0;
      if (this.#reuse) {
        entry.atNs += increments[at]!;
        entry.sequence = sequence++;
        queue.push(entry);
      } else {
        queue.push(newEntry(entry.atNs + increments[at]!, sequence++, entry.a));
      }
      at = (at + 1) & mask;
    }
    this.#at = at;
    this.#order = order;
    this.#sequence = sequence;
    return order;
  }
}

class FlatQueueHolder implements Holder {
  #queue = new FlatQueue<number>();
  readonly #increments: Float64Array;
  #at = 0;
  #order = 0;

  constructor(increments: Float64Array) {
    this.#increments = increments;
  }

  fill(times: Float64Array): void {
    // On typed arrays, which is faster, but cannot grow.
    this.#queue = new FlatQueue(times.length);
    for (let id = 0; id < times.length; id++) this.#queue.push(id, times[id]!);
  }

  hold(steps: number): number {
    const queue = this.#queue;
    const increments = this.#increments;
    const mask = increments.length - 1;
    let at = this.#at;
    let order = this.#order;
    for (let step = 0; step < steps; step++) {
      const atNs = queue.peekValue()!;
      const id = queue.pop()!;
      order = (Math.imul(order, 31) + id) | 0;
      queue.push(id, atNs + increments[at]!);
      at = (at + 1) & mask;
    }
    this.#at = at;
    this.#order = order;
    return order;
  }
}
