import { readFileSync } from 'node:fs';
import { jhash } from '@vipsim/sim-core';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { ArrayMap } from '../src/ebpf/maps/array-map.ts';
import {
  ABSENT,
  ANY,
  EXIST,
  EXISTS,
  FULL,
  NOEXIST,
  type MapSpec,
  type UpdateFlag,
} from '../src/ebpf/maps/buckets.ts';
import { ElementCount } from '../src/ebpf/maps/element-count.ts';
import { FreeLists } from '../src/ebpf/maps/free-lists.ts';
import { HashMap } from '../src/ebpf/maps/hash-map.ts';
import { HashOfMaps } from '../src/ebpf/maps/hash-of-maps.ts';
import { LpmTrie } from '../src/ebpf/maps/lpm-trie.ts';
import { LruHashMap } from '../src/ebpf/maps/lru-hash-map.ts';
import { LruLists } from '../src/ebpf/maps/lru-lists.ts';
import { mapSizes, STATIC_MAP_SIZES } from '../src/ebpf/maps/map-sizing.ts';

// What a kernel did (Linux 6.18.44, 2 CPUs): fixtures/bpf-maps/record.c says how it was recorded.

interface Recording {
  readonly map: 'hash' | 'hash-no-prealloc' | 'lru' | 'lru-per-cpu' | 'trie';
  readonly max: number;
  readonly cpus: number;
  /** Operation, CPU, key, prefix length, result. */
  readonly ops: readonly (readonly [number, number, number, number, number])[];
  /** By the number of an operation: all keys after it, as BPF_MAP_GET_NEXT_KEY gives them. */
  readonly keys: Readonly<Record<string, readonly number[]>>;
}

const [DELETE, SYSTEM_LOOKUP, PROGRAM_LOOKUP] = [3, 4, 5];
const [ENOENT, E2BIG, EEXIST, ENOSPC] = [-2, -7, -17, -28];

const RECORDINGS: readonly Recording[] = readFileSync(
  new URL('fixtures/bpf-maps/linux-6.18.jsonl', import.meta.url),
  'utf8',
)
  .trimEnd()
  .split('\n')
  .map((line) => JSON.parse(line) as Recording);

const smallSpec = (maxEntries: number): MapSpec => ({
  name: 'm',
  keyBytes: 4,
  valueBytes: 4,
  valueWords: 1,
  maxEntries,
});

function errno(element: number, full: number): number {
  if (element >= 0) return 0;
  return element === FULL ? full : element === EXISTS ? EEXIST : element === ABSENT ? ENOENT : NaN;
}

function replayHash(map: HashMap | LruHashMap, recording: Recording): string[] {
  const wrong: string[] = [];
  const lookup = (operation: number): number =>
    operation === PROGRAM_LOOKUP && map instanceof LruHashMap ? map.lookup() : map.find();
  recording.ops.forEach(([operation, cpu, key, , wanted], i) => {
    map.key[0] = key;
    let result: number;
    if (operation === SYSTEM_LOOKUP || operation === PROGRAM_LOOKUP) {
      const element = lookup(operation);
      result = element < 0 ? ENOENT : map.value(element, 0);
    } else if (operation === DELETE) {
      result = map.remove(cpu) ? 0 : ENOENT;
    } else {
      const element = map.update(cpu, operation as UpdateFlag);
      if (element >= 0) map.setValue(element, 0, i);
      result = errno(element, map instanceof LruHashMap ? -12 : E2BIG);
    }
    if (result !== wanted) wrong.push(`op ${i}: ${result}, wanted ${wanted}`);
    const keys = recording.keys[i];
    if (keys === undefined) return;
    const held = [...map.elements()].map((element) => map.keyWord(element, 0));
    if (held.join() !== keys.join()) wrong.push(`keys after ${i}: ${held.join()}, wanted ${keys.join()}`);
  });
  return wrong;
}

function replayTrie(trie: LpmTrie, { ops }: Recording): string[] {
  const wrong: string[] = [];
  ops.forEach(([operation, , pattern, bits, wanted], i) => {
    const byte = (n: number): number => (((pattern >> (n % 6)) & 1) === 1 ? 0xa5 : 0xa7);
    for (let word = 0; word < 2; word++) {
      trie.key[word] = [0, 1, 2, 3].reduce((sum, n) => sum * 256 + byte(4 * word + n), 0);
    }
    let result: number;
    if (operation === SYSTEM_LOOKUP) {
      const element = trie.lookup();
      result = element < 0 ? ENOENT : trie.value(element, 0);
    } else if (operation === DELETE) {
      result = trie.remove(bits) ? 0 : ENOENT;
    } else {
      const element = trie.update(bits, operation as UpdateFlag);
      if (element >= 0) trie.setValue(element, 0, i);
      result = errno(element, ENOSPC);
    }
    if (result !== wanted) wrong.push(`op ${i}: ${result}, wanted ${wanted}`);
  });
  return wrong;
}

function replay(recording: Recording): string[] {
  const { map, max, cpus } = recording;
  switch (map) {
    case 'hash':
      return replayHash(new HashMap(smallSpec(max), 0, true, cpus), recording);
    case 'hash-no-prealloc':
      return replayHash(new HashMap(smallSpec(max), 0, false, cpus), recording);
    case 'lru':
      return replayHash(new LruHashMap(smallSpec(max), 0, cpus), recording);
    case 'lru-per-cpu':
      return replayHash(new LruHashMap(smallSpec(max), 0, cpus, { perCpu: true }), recording);
    case 'trie':
      return replayTrie(new LpmTrie({ ...smallSpec(max), keyBytes: 12 }), recording);
  }
}

test('maps answer every operation as the kernel did, and hold its keys in its order', (t) => {
  for (const [i, recording] of RECORDINGS.entries()) {
    t.deepEqual(replay(recording).slice(0, 3), [], `recording ${i}: ${recording.map} of ${recording.max}`);
  }
  t.is(new Set(RECORDINGS.map(({ map }) => map)).size, 5);
});

// Hash maps.

const hashStep = fc.record({
  kind: fc.constantFrom('update', 'update', 'find', 'remove'),
  key: fc.nat(40),
  cpu: fc.nat(3),
  flag: fc.constantFrom<UpdateFlag>(ANY, ANY, NOEXIST, EXIST),
});

test('a hash map agrees with a plain one: contents, flags, chains, limits, elements, with and without preallocation', (t) => {
  fc.assert(
    fc.property(
      fc.array(hashStep, { maxLength: 150, size: 'max' }),
      fc.constantFrom(1, 3, 8, 24),
      fc.integer({ min: 1, max: 4 }),
      fc.boolean(),
      (steps, maxEntries, cpus, preallocated) => {
        const map = new HashMap({ ...smallSpec(maxEntries), keyBytes: 6 }, 77, preallocated, cpus);
        const truth = new Map<number, { value: number; element: number }>();
        const buckets = 2 ** Math.ceil(Math.log2(maxEntries));
        const chains: number[][] = Array.from({ length: buckets }, () => []);
        const words = new Uint32Array(2);
        const elements = new Set<number>();
        steps.forEach(({ kind, key, cpu, flag }, at) => {
          words[0] = map.key[0] = key * 7919;
          words[1] = map.key[1] = key & 3;
          const chain = chains[jhash(words, 6, 77) & (buckets - 1)]!;
          const position = chain.indexOf(key);
          const held = truth.get(key);
          if (kind === 'find') {
            const found = map.find();
            t.is(found, held?.element ?? -1);
            if (held !== undefined) t.is(map.value(found, 0), held.value);
          } else if (kind === 'remove') {
            t.is(map.remove(cpu % cpus), truth.delete(key));
          } else {
            const element = map.update(cpu % cpus, flag);
            if (held !== undefined && flag === NOEXIST) t.is(element, EXISTS);
            else if (held === undefined && flag === EXIST) t.is(element, ABSENT);
            else if (held === undefined && truth.size === maxEntries) t.is(element, FULL);
            else {
              t.true(element >= 0);
              t.not(element, held?.element, 'the new element is in place before the old one goes');
              t.false([...truth.values()].some((other) => other.element === element));
              map.setValue(element, 0, at);
              elements.add(element);
              truth.set(key, { value: at, element });
            }
          }
          t.is(map.steps, position < 0 ? chain.length : position + 1);
          if (position >= 0 && truth.get(key)?.element !== held!.element) chain.splice(position, 1);
          if (truth.has(key) && truth.get(key)!.element !== held?.element) chain.unshift(key);
          t.is(map.count, truth.size);
          const order = [...map.elements()].map((element) => map.keyWord(element, 0) / 7919);
          t.deepEqual(order, chains.flat());
        });
        const area = 64 * (preallocated ? maxEntries + cpus : truth.size);
        t.is(map.bytes(), 16 * buckets + area);
        t.true(elements.size <= maxEntries + (preallocated ? cpus : 1));
      },
    ),
    { seed: 42, numRuns: 200 },
  );
});

test("a full preallocated map is updated in place with the CPU's spare, and what it replaced is the next spare", (t) => {
  const map = new HashMap(smallSpec(2), 0, true, 2);
  const put = (key: number, cpu: number): number => {
    map.key[0] = key;
    return map.update(cpu);
  };
  const first = put(1, 0);
  put(2, 0);
  t.is(put(3, 0), FULL);
  const second = put(1, 0);
  t.is(put(1, 0), first, 'the first element was the spare of CPU 0');
  t.is(put(1, 0), second);
  const third = put(1, 1);
  t.false([first, second].includes(third), 'CPU 1 has a spare of its own');
  const other = put(2, 0);
  map.key[0] = 1;
  t.true(map.remove(1));
  map.key[0] = 2;
  t.true(map.remove(0));
  t.is(put(4, 1), third, 'what a CPU frees it takes first');
  t.is(put(5, 0), other);
  t.is(put(6, 0), FULL);
});

test('free elements: equal shares, last in first out, and from the next CPU when one has none', (t) => {
  const step = fc.record({ take: fc.boolean(), cpu: fc.nat(3), pick: fc.nat(99) });
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 120, size: 'max' }),
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 1, max: 4 }),
      (steps, size, cpus) => {
        const lists = new FreeLists(size, cpus);
        // Addresses in one area; each CPU's share is pushed in the order of addresses.
        let address = 0;
        const stacks = Array.from({ length: cpus }, (_, cpu) => {
          const share = Math.floor(size / cpus) + (cpu < size % cpus ? 1 : 0);
          return Array.from({ length: share }, () => address++);
        });
        const addressOf = new Map<number, number>();
        const taken: number[] = [];
        for (const { take, cpu: any, pick } of steps) {
          const cpu = any % cpus;
          if (take) {
            const turn = Array.from({ length: cpus }, (_, i) => (cpu + i) % cpus);
            const wanted = stacks[turn.find((from) => stacks[from]!.length > 0) ?? 0]!.pop();
            const element = lists.pop(cpu);
            t.is(element < 0, wanted === undefined);
            if (wanted === undefined) continue;
            if (!addressOf.has(element)) addressOf.set(element, wanted);
            t.is(addressOf.get(element), wanted);
            taken.push(element);
          } else if (taken.length > 0) {
            const [element] = taken.splice(pick % taken.length, 1) as [number];
            lists.push(cpu, element);
            stacks[cpu]!.push(addressOf.get(element)!);
          }
        }
        t.is(new Set(addressOf.values()).size, addressOf.size);
        t.is(lists.used, addressOf.size);
      },
    ),
    { seed: 42, numRuns: 200 },
  );
});

test('the count that is split by CPU is never wrong about a full map, and is summed near the limit only', (t) => {
  t.false(new ElementCount(129, 2).batched, 'half of 129 is 64: not more than 2 × 32');
  t.true(new ElementCount(130, 2).batched);
  const count = new ElementCount(1000, 2);
  const summedAt: number[] = [];
  for (let i = 0; i < 1000; i++) {
    t.false(count.isFull());
    if (count.sums > summedAt.length) summedAt.push(i);
    count.add(i % 2, 1);
  }
  t.true(count.isFull());
  t.is(summedAt[0], 960, 'then both CPUs have handed in 15 × 32, within 64 of the limit');
  t.is(summedAt.length, 40);
  fc.assert(
    fc.property(
      fc.array(fc.record({ cpu: fc.nat(2), amount: fc.constantFrom(-1, 1, 1) }), {
        maxLength: 1200,
        size: 'max',
      }),
      fc.constantFrom(100, 194, 300),
      (steps, max) => {
        const split = new ElementCount(max, 3);
        let truth = 0;
        for (const { cpu, amount } of steps) {
          if (truth + amount < 0) continue;
          split.add(cpu, amount);
          truth += amount;
          t.is(split.isFull(), truth >= max);
          t.is(split.sum(), truth);
        }
      },
    ),
    { seed: 42, numRuns: 60 },
  );
});

test('an enlarged map holds what it held, and has room', (t) => {
  for (const preallocated of [false, true]) {
    const map = new HashMap(smallSpec(200), 5, preallocated, 2);
    for (let key = 0; key <= 200; key++) {
      map.key[0] = key;
      const element = map.update(key % 2);
      t.is(element < 0, key === 200);
      if (element >= 0) map.setValue(element, 0, key + 1);
    }
    map.enlarge(400);
    for (let key = 0; key < 401; key++) {
      map.key[0] = key;
      if (key < 200) t.is(map.value(map.find(), 0), key + 1);
      else t.is(map.update(0) < 0, key === 400);
    }
    t.is(map.bytes(), 16 * 512 + 64 * (preallocated ? 402 : 400));
  }
});

// LRU maps. Here is the algorithm of kernel/bpf/bpf_lru_list.c once more, in plain arrays with the head at index 0.

interface Entry {
  readonly key: number;
  ref: boolean;
  cpu: number;
  on: 'free' | 'local' | 'pending' | 'inactive' | 'active';
}

interface Order {
  readonly free: object[];
  readonly inactive: Entry[];
  readonly active: Entry[];
  /** Where the rotation goes on; undefined stands for the list's sentinel. */
  cursor: Entry | undefined;
}

type Outcome = 'new' | 'replaced' | 'exists' | 'absent' | 'no memory';

class PlainLruMap {
  evictions = 0;
  forced = 0;
  steals = 0;
  held = new Map<number, Entry>();
  readonly #perCpu: boolean;
  readonly #target: number;
  readonly #scans: number;
  readonly #cpus: number;
  /** One order for all, or one for each CPU. */
  readonly #orders: readonly Order[];
  readonly #local: object[][];
  readonly #pending: Entry[][];
  readonly #stealAt: number[];

  constructor(size: number, cpus: number, target: number, perCpu: boolean) {
    this.#perCpu = perCpu;
    this.#target = target;
    this.#scans = perCpu ? 4 : 128;
    this.#cpus = cpus;
    const orders = perCpu ? cpus : 1;
    this.#orders = Array.from({ length: orders }, () => ({
      free: Array.from({ length: size / orders }, () => ({})),
      inactive: [],
      active: [],
      cursor: undefined,
    }));
    this.#local = Array.from({ length: cpus }, () => []);
    this.#pending = Array.from({ length: cpus }, () => []);
    this.#stealAt = Array.from({ length: cpus }, (_, cpu) => cpu);
  }

  update(key: number, cpu: number, flag: UpdateFlag): Outcome {
    const entry: Entry = { key, ref: false, cpu, on: 'pending' };
    if (!(this.#perCpu ? this.#takeOwn(cpu, entry) : this.#take(cpu, entry))) return 'no memory';
    const old = this.held.get(key);
    if (old !== undefined && flag === NOEXIST) return this.#release(entry, 'exists');
    if (old === undefined && flag === EXIST) return this.#release(entry, 'absent');
    this.held.set(key, entry);
    if (old === undefined) return 'new';
    entry.ref = true;
    return this.#release(old, 'replaced');
  }

  lookup(key: number): void {
    const entry = this.held.get(key);
    if (entry !== undefined) entry.ref = true;
  }

  remove(key: number): boolean {
    const entry = this.held.get(key);
    if (entry === undefined) return false;
    this.held.delete(key);
    this.#release(entry, 'absent');
    return true;
  }

  #take(cpu: number, entry: Entry): boolean {
    if (this.#local[cpu]!.length === 0) this.#refill(cpu);
    let found = this.#local[cpu]!.shift() !== undefined;
    if (!found) {
      const first = this.#stealAt[cpu]!;
      let from = first;
      do {
        found = this.#local[from]!.shift() !== undefined || this.#stealPending(from);
        from = (from + 1) % this.#cpus;
      } while (!found && from !== first);
      this.#stealAt[cpu] = from;
      if (found) this.steals++;
    }
    if (found) this.#pending[cpu]!.unshift(entry);
    return found;
  }

  #stealPending(cpu: number): boolean {
    const queue = this.#pending[cpu]!;
    const victim = queue.findLast((entry) => !entry.ref) ?? queue.at(-1);
    if (victim === undefined) return false;
    this.#forget(victim, victim.ref);
    queue.splice(queue.indexOf(victim), 1);
    return true;
  }

  #takeOwn(cpu: number, entry: Entry): boolean {
    const order = this.#orders[cpu]!;
    this.#rotate(order);
    if (order.free.length === 0) this.#shrink(order, 4, order.free);
    if (order.free.shift() === undefined) return false;
    entry.on = 'inactive';
    order.inactive.unshift(entry);
    return true;
  }

  #refill(cpu: number): void {
    const order = this.#orders[0]!;
    for (const entry of this.#pending[cpu]!.splice(0).toReversed()) this.#enter(order, entry);
    this.#rotate(order);
    let moved = 0;
    for (; moved < this.#target && order.free.length > 0; moved++)
      this.#local[cpu]!.unshift(order.free.shift()!);
    if (moved < this.#target) this.#shrink(order, this.#target - moved, this.#local[cpu]!);
  }

  #rotate(order: Order): void {
    if (order.inactive.length < order.active.length) {
      // Not beyond what was at the head: as many as there were.
      for (const entry of order.active.toReversed().slice(0, this.#scans)) {
        this.#leave(order, entry);
        this.#enter(order, entry);
      }
    }
    const size = order.inactive.length;
    if (size === 0) return;
    const at = order.cursor === undefined ? size - 1 : order.inactive.indexOf(order.cursor);
    const turn = Array.from({ length: size }, (_, i) => order.inactive[(at - i + size) % size]!);
    const seen = turn.slice(0, this.#scans);
    const beyond = order.inactive.indexOf(seen.at(-1)!) - 1;
    let rest = beyond < 0 ? undefined : order.inactive[beyond];
    for (const entry of seen) {
      if (!entry.ref) continue;
      if (entry === rest) rest = this.#before(order, entry);
      this.#leave(order, entry);
      this.#enter(order, entry);
    }
    order.cursor = rest;
  }

  #shrink(order: Order, wanted: number, to: object[]): void {
    let evicted = 0;
    for (const entry of order.inactive.toReversed().slice(0, this.#scans)) {
      if (evicted === wanted) return;
      this.#leave(order, entry);
      if (entry.ref) {
        this.#enter(order, entry);
      } else {
        this.#forget(entry, false);
        to.unshift({});
        evicted++;
      }
    }
    if (evicted > 0) return;
    const victim = order.inactive.at(-1) ?? order.active.at(-1);
    if (victim === undefined) return;
    this.#leave(order, victim);
    this.#forget(victim, true);
    to.unshift({});
  }

  #release<T>(entry: Entry, outcome: T): T {
    if (entry.on === 'pending') {
      const queue = this.#pending[entry.cpu]!;
      queue.splice(queue.indexOf(entry), 1);
      this.#local[entry.cpu]!.unshift({});
    } else {
      const order = this.#orders[this.#perCpu ? entry.cpu : 0]!;
      this.#leave(order, entry);
      order.free.unshift({});
    }
    return outcome;
  }

  #forget(entry: Entry, forced: boolean): void {
    this.held.delete(entry.key);
    this.evictions++;
    if (forced) this.forced++;
  }

  #enter(order: Order, entry: Entry): void {
    entry.on = entry.ref ? 'active' : 'inactive';
    entry.ref = false;
    order[entry.on].unshift(entry);
  }

  #leave(order: Order, entry: Entry): void {
    if (order.cursor === entry) order.cursor = this.#before(order, entry);
    const list = entry.on === 'active' ? order.active : order.inactive;
    list.splice(list.indexOf(entry), 1);
  }

  /** The one nearer to the head; undefined stands for the sentinel. */
  #before(order: Order, entry: Entry): Entry | undefined {
    const at = order.inactive.indexOf(entry);
    return at <= 0 ? undefined : order.inactive[at - 1];
  }
}

const lruStep = fc.record({
  kind: fc.constantFrom('update', 'update', 'update', 'lookup', 'find', 'remove'),
  key: fc.nat(999),
  cpu: fc.nat(3),
  flag: fc.constantFrom<UpdateFlag>(ANY, ANY, ANY, NOEXIST, EXIST),
  /** Keys in a row: longer than a scan of 128, now and then. */
  run: fc.constantFrom(1, 1, 1, 1, 1, 1, 150),
});

const OUTCOMES = new Map<number, Outcome>([
  [EXISTS, 'exists'],
  [ABSENT, 'absent'],
  [-1, 'no memory'],
]);

interface LruCase {
  readonly steps: readonly { kind: string; key: number; cpu: number; flag: UpdateFlag; run: number }[];
  readonly size: number;
  readonly cpus: number;
  /** Keys per element. */
  readonly crowd: number;
  readonly perCpu: boolean;
  readonly target: number | undefined;
}

const lruCase: fc.Arbitrary<LruCase> = fc.record({
  steps: fc.array(lruStep, { maxLength: 200, size: 'max' }),
  size: fc.oneof(fc.integer({ min: 1, max: 24 }), fc.integer({ min: 1, max: 600 })),
  cpus: fc.integer({ min: 1, max: 4 }),
  crowd: fc.constantFrom(1, 1.5, 3),
  perCpu: fc.boolean(),
  target: fc.constantFrom(undefined, 128),
});

function lruStepAgrees(
  t: ExecutionContext,
  map: LruHashMap,
  plain: PlainLruMap,
  kind: string,
  key: number,
  cpu: number,
  flag: UpdateFlag,
): void {
  map.key[0] = key;
  if (kind === 'find') t.is(map.find() >= 0, plain.held.has(key));
  if (kind === 'lookup') plain.lookup(key);
  if (kind === 'lookup') t.is(map.lookup() >= 0, plain.held.has(key));
  if (kind === 'remove') t.is(map.remove(), plain.remove(key));
  if (kind !== 'update') return;
  const before = map.count + map.evictions;
  const wanted = plain.update(key, cpu, flag);
  const element = map.update(cpu, flag);
  const added = map.count + map.evictions - before;
  t.is(OUTCOMES.get(element) ?? (added === 1 ? 'new' : 'replaced'), wanted);
}

test('an LRU map evicts, parks, promotes and steals as the plain algorithm does, entry by entry', (t) => {
  let steals = 0;
  let forced = 0;
  fc.assert(
    fc.property(lruCase, ({ steps, size, cpus, crowd, perCpu, target }) => {
      const options = perCpu ? { perCpu } : target === undefined ? {} : { batch: target };
      const map = new LruHashMap(smallSpec(size), 5, cpus, options);
      const rounded = perCpu ? Math.ceil(size / cpus) * cpus : size;
      t.is(map.maxEntries, rounded);
      const fitted = Math.min(128, Math.max(1, Math.floor(Math.floor(size / cpus) / 2)));
      const plain = new PlainLruMap(rounded, cpus, perCpu ? 4 : (target ?? fitted), perCpu);
      const keys = Math.max(2, Math.ceil(size * crowd));
      for (const { kind, key, cpu, flag, run } of steps) {
        for (let i = 0; i < run; i++) lruStepAgrees(t, map, plain, kind, (key + i) % keys, cpu % cpus, flag);
        t.deepEqual(
          [map.evictions, map.forcedEvictions, map.steals],
          [plain.evictions, plain.forced, plain.steals],
        );
        t.is(map.count, plain.held.size);
        t.true(map.count <= rounded);
        const places = [...map.elements()].map(
          (element) => [map.keyWord(element, 0), map.where(element)] as const,
        );
        t.true(places.every(([held, where]) => plain.held.get(held)?.on === where));
      }
      steals += map.steals;
      forced += map.forcedEvictions;
      t.is(map.failures, 0);
    }),
    { seed: 42, numRuns: 250 },
  );
  t.true(steals > 0 && forced > 0, 'the schedules reach the rare branches');
});

test('an element in the common order that a program has just looked up is not evicted while a scan finds others', (t) => {
  const step = fc.record({
    take: fc.boolean(),
    touch: fc.array(fc.nat(999), { maxLength: 6 }),
    cpu: fc.nat(2),
  });
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 300, size: 'max' }),
      fc.integer({ min: 4, max: 120 }),
      fc.integer({ min: 1, max: 3 }),
      (steps, size, cpus) => {
        const held = new Set<number>();
        let spared = new Set<number>();
        const lists = new LruLists(size, cpus, (element, forced) => {
          held.delete(element);
          if (!forced) t.false(spared.has(element));
        });
        for (const { touch, cpu } of steps) {
          const elements = [...held];
          // What is still parked by a CPU may yet step down: it joins ACTIVE only to be rotated.
          const touched = elements.length === 0 ? [] : touch.map((any) => elements[any % elements.length]!);
          for (const element of touched) lists.reference(element);
          spared = new Set(touched.filter((element) => lists.where(element) !== 'pending'));
          held.add(lists.take(cpu % cpus));
          t.true(held.size <= size);
        }
      },
    ),
    { seed: 42, numRuns: 200 },
  );
});

function insertedByFour(batch?: number): LruHashMap {
  const map = new LruHashMap(smallSpec(256), 0, 4, batch === undefined ? {} : { batch });
  for (let key = 0; key < 200; key++) {
    map.key[0] = key;
    map.update(key % 4);
  }
  return map;
}

test('with batches of 128 whatever the size, two CPUs take all of a small map and the others keep one entry each', (t) => {
  const old = insertedByFour(128);
  t.is(old.steals, 2);
  t.is(old.evictions, 98, 'each of the other two finds nothing to evict but its own last entry');
  t.is(old.count, 102);
  const fitted = insertedByFour();
  t.is(fitted.steals, 0);
  t.is(fitted.evictions, 0);
});

test('an LRU map of one list per CPU is rounded up, and evicts on one CPU while another has room', (t) => {
  const map = new LruHashMap(smallSpec(1001), 0, 2, { perCpu: true });
  t.is(map.maxEntries, 1002);
  t.is(map.bytes(), 81_408 - 896);
  for (let key = 0; key < 502; key++) {
    map.key[0] = key;
    map.update(0);
  }
  t.is(map.evictions, 4, 'the first 4 of 501 went at once');
  t.is(map.count, 498);
});

// Arrays, maps of maps, tries.

test('an array holds values rounded to 8 bytes and checks its index', (t) => {
  const map = new ArrayMap('m', 12, 3);
  t.deepEqual(
    [0, 1, 2, 3, 0xffffffff].map((index) => map.lookup(index)),
    [0, 4, 8, -1, -1],
  );
  t.is(map.values.length, 12);
  t.true(map.fits(new ArrayMap('template', 12, 3)));
  t.false(map.fits(new ArrayMap('template', 12, 4)));
});

test('a map of maps holds what a plain one holds; each change of it by a system call takes a grace period', (t) => {
  const step = fc.record({ kind: fc.constantFrom('update', 'lookup', 'remove'), key: fc.nat(9) });
  const spec = { name: 'outer', keyBytes: 2, valueBytes: 4, valueWords: 0, maxEntries: 6 };
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80, size: 'max' }), (steps) => {
      const map = new HashOfMaps<ArrayMap>(spec, 3);
      const truth = new Map<number, ArrayMap>();
      let waits = 0;
      for (const { kind, key } of steps) {
        map.key[0] = key;
        t.is(map.lookup(), truth.get(key));
        if (kind === 'update') {
          const inner = new ArrayMap('inner', 8, 1);
          const fits = truth.has(key) || truth.size < 6;
          t.is(map.update(inner), fits);
          if (fits) truth.set(key, inner);
          if (fits) waits++;
        } else if (kind === 'remove') {
          const there = truth.delete(key);
          t.is(map.remove(), there);
          if (there) waits++;
        }
        t.is(map.count, truth.size);
        t.is(map.gracePeriods, waits);
        t.deepEqual(new Set(map.inners()), new Set(truth.values()));
        // An element's value is a pointer of 8 bytes.
        t.is(map.bytes(), 16 * 8 + truth.size * (48 + 8 + 8));
      }
    }),
    { seed: 42, numRuns: 100 },
  );
  const template = new ArrayMap('template', 4 * 16_381, 1);
  const strict = new HashOfMaps<ArrayMap>(spec, 3, { fits: (inner) => inner.fits(template) });
  t.true(strict.update(new ArrayMap('inner', 4 * 16_381, 1)));
  t.throws(() => strict.update(new ArrayMap('inner', 4 * 251, 1)), { message: /outer differs.*EINVAL/ });
});

interface Prefix {
  readonly bits: string;
  value: number;
}

/** The nodes that a path-compressed trie of these prefixes has: they, and wherever two part without a prefix there. */
function trieNodes(prefixes: Iterable<string>): Set<string> {
  const held = [...prefixes];
  const nodes = new Set(held);
  for (const a of held) {
    for (const b of held) {
      let shared = 0;
      while (shared < Math.min(a.length, b.length) && a[shared] === b[shared]) shared++;
      nodes.add(a.slice(0, shared));
    }
  }
  return nodes;
}

/** How many of the nodes a lookup visits: those above the key, and one more that leads astray. */
function visits(nodes: Set<string>, key: string): number {
  const above = [...nodes].filter((node) => key.startsWith(node)).toSorted((a, b) => a.length - b.length);
  const deepest = above.at(-1);
  if (deepest === key) return above.length;
  const branch = deepest === undefined ? '' : key.slice(0, deepest.length + 1);
  const astray = [...nodes].some((node) => node.startsWith(branch) && !key.startsWith(node));
  return above.length + (astray ? 1 : 0);
}

test('a trie finds the longest prefix that a plain search finds, by the nodes that it must have', (t) => {
  const step = fc.record({
    kind: fc.constantFrom('update', 'update', 'lookup', 'remove'),
    pattern: fc.nat(63),
    bits: fc.nat(160),
    flag: fc.constantFrom<UpdateFlag>(ANY, ANY, NOEXIST, EXIST),
  });
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 80, size: 'max' }),
      fc.constantFrom(1, 2, 4, 7, 8, 20),
      fc.integer({ min: 1, max: 24 }),
      (steps, dataBytes, maxEntries) => {
        // Without values every node has the same size, so that bytes count nodes.
        const spec = { name: 'm', keyBytes: 4 + dataBytes, valueBytes: 0, valueWords: 1, maxEntries };
        const trie = new LpmTrie(spec);
        const truth = new Map<string, Prefix>();
        steps.forEach(({ kind, pattern, bits: any, flag }, at) => {
          let text = '';
          for (let word = 0; word < trie.key.length; word++) {
            // Words that differ in few places, so that prefixes part late.
            const value = (0xa5a50000 ^ (((pattern >> (word % 4)) & 7) * 0x00100401)) >>> 0;
            trie.key[word] = value;
            text += value.toString(2).padStart(32, '0');
          }
          const full = text.slice(0, dataBytes * 8);
          const bits = any % (dataBytes * 8 + 1);
          const prefix = full.slice(0, bits);
          const nodes = trieNodes(truth.keys());
          if (kind === 'lookup') {
            const matches = [...truth.values()].filter((one) => full.startsWith(one.bits));
            const longest = matches.toSorted((a, b) => b.bits.length - a.bits.length)[0];
            const element = trie.lookup();
            t.is(element < 0 ? undefined : trie.value(element, 0), longest?.value);
            t.is(trie.steps, visits(nodes, full));
          } else if (kind === 'remove') {
            t.is(trie.remove(bits), truth.delete(prefix));
          } else {
            const held = truth.has(prefix);
            const element = trie.update(bits, flag);
            if (held && flag === NOEXIST) t.is(element, EXISTS);
            else if (!held && flag === EXIST) t.is(element, ABSENT);
            else if (!held && truth.size === maxEntries) t.is(element, FULL);
            else {
              trie.setValue(element, 0, at);
              truth.set(prefix, { bits: prefix, value: at });
            }
          }
          t.is(trie.count, truth.size);
          t.is(trie.bytes(), trieNodes(truth.keys()).size * (24 + dataBytes));
        });
      },
    ),
    { seed: 42, numRuns: 200 },
  );
});

test('an intermediate node has no value, unless it once was an entry; a trie refuses keys it cannot hold', (t) => {
  const spec = { name: 'ranges', keyBytes: 12, valueBytes: 1, valueWords: 1, maxEntries: 65_536 };
  for (const nodeBytes of [24, 40] as const) {
    const trie = new LpmTrie(spec, { nodeBytes });
    const bare = nodeBytes + 8;
    trie.key.set([7, 0x0a000000]);
    trie.update(40);
    t.is(trie.bytes(), bare + 1);
    trie.key.set([7, 0x0b000000]);
    trie.update(40);
    t.is(trie.bytes(), 2 * (bare + 1) + bare, '10/8 and 11/8 part below a node of 39 bits');
    trie.update(39);
    t.is(trie.bytes(), 3 * (bare + 1));
    t.true(trie.remove(39));
    t.is(trie.bytes(), 3 * (bare + 1), 'marked, not made anew');
    t.true(trie.remove(40));
    t.is(trie.bytes(), bare + 1);
    t.false(trie.remove(39), 'what is intermediate is not there');
  }
  t.throws(() => new LpmTrie(spec).update(65), { message: /ranges: a prefix of 65 bits, of at most 64/ });
  t.throws(() => new LpmTrie({ ...spec, keyBytes: 4 }), { instanceOf: RangeError });
});

// Sizes.

const flowMap = (keyBytes: number, valueBytes: number): LruHashMap =>
  new LruHashMap({ name: 'm', keyBytes, valueBytes, valueWords: 0, maxEntries: 524_288 }, 0, 2);

test('maps take the memory that the kernel charges for them', (t) => {
  t.is(flowMap(14, 56).bytes(), 71_303_168);
  t.is(flowMap(14, 40).bytes(), 62_914_560);
  t.is(flowMap(38, 56).bytes(), 83_886_080);
  t.is(new ArrayMap('maglev', 4 * 16_381, 1).bytes(), 65_840);
  t.is(new ArrayMap('maglev', 4 * 131_071, 1).bytes(), 524_600);
  const spec = { name: 'example', keyBytes: 8, valueBytes: 8, valueWords: 2, maxEntries: 65_536 };
  t.is(new HashMap(spec, 0, true, 8).bytes(), 1_048_576 + 65_544 * 64);
  // memlock in fdinfo, Linux 6.18 with 2 CPUs, less the 896 of the map's own record and its CPUs' lock counters;
  // a preallocated map that is no LRU has a pointer to a spare for each CPU besides.
  t.is(flowMap(14, 56).bytes(), 71_304_064 - 896);
  t.is(flowMap(14, 40).bytes(), 62_915_456 - 896);
  t.is(flowMap(38, 56).bytes(), 83_886_976 - 896);
  t.is(new HashMap(spec, 0, true, 2).bytes(), 5_243_920 - 896 - 16);
  t.is(new HashMap(spec, 0, false, 2).bytes(), 1_049_472 - 896);
  const trie = new LpmTrie({ ...spec, keyBytes: 12, valueBytes: 1 });
  for (let i = 0; i < 1000; i++) {
    trie.key[0] = i;
    trie.update(32);
  }
  // 33,000 are charged for 1000 entries of this trie; the intermediate nodes are there all the same.
  t.is(trie.bytes(), 33_000 + 999 * 32);
});

const GIB = 1_073_741_824;
const sized = (gib: number, more: object = {}): ReturnType<typeof mapSizes> =>
  mapSizes({ memoryBytes: gib * GIB, ratio: 0.0025, distributedLru: false, cpus: 2, ...more });

test('maps of flows are sized by the memory of the machine', (t) => {
  const rows: readonly [number, number, number][] = [
    [1, 131_072, 65_536],
    [8, 131_072, 65_536],
    [16, 151_765, 75_882],
    [30, 284_560, 142_280],
    [64, 607_062, 303_531],
    [120, 1_138_242, 569_121],
    [128, 1_214_125, 607_062],
    [240, 2_276_484, 1_138_242],
    [360, 3_414_726, 1_707_363],
  ];
  for (const [gib, large, small] of rows) {
    t.deepEqual(
      sized(gib),
      { ctTcp: large, ctAny: small, nat: large, neigh: large, sockRev: small },
      `${gib} GiB`,
    );
  }
  const wider = sized(16, { sockRevBytes: 52 });
  t.deepEqual(wider, { ctTcp: 150_700, ctAny: 75_350, nat: 150_700, neigh: 150_700, sockRev: 75_350 });
  t.is(sized(4000, { ratio: 1 }).ctAny, 16_777_216);
});

test('sizes are rounded for lists per CPU, fixed without a ratio, set by hand, and NAT keeps to conntrack', (t) => {
  t.is(sized(16, { distributedLru: true, cpus: 7 }).ctTcp, 151_767);
  t.is(sized(8, { distributedLru: true, cpus: 7 }).ctTcp, 131_072, 'the limits come after the rounding');
  t.deepEqual(sized(16, { ratio: 0 }), STATIC_MAP_SIZES);
  const small = sized(64, { overrides: { ctTcp: 131_072, ctAny: 65_536 } });
  t.deepEqual(small, { ctTcp: 131_072, ctAny: 65_536, nat: 131_072, neigh: 131_072, sockRev: 303_531 });
  t.is(sized(64, { ratio: 0, overrides: { ctTcp: 1024, ctAny: 1024 } }).nat, 1365);
  t.is(sized(64, { overrides: { neigh: 4096, ctTcp: 0 } }).neigh, 4096);
  t.throws(() => sized(64, { overrides: { ctTcp: 1023 } }), { message: /ctTcp 1023.*1024 to 16777216/ });
  t.throws(() => sized(64, { overrides: { nat: 16_777_217 } }), { instanceOf: RangeError });
  t.throws(() => sized(64, { overrides: { ctTcp: 1024, ctAny: 1024, nat: 4096 } }), {
    message: /nat 4096 exceeds/,
  });
  t.throws(() => sized(64, { ratio: 1.5 }), { message: /ratio 1.5: wanted 0 \(off\) to 1/ });
});
