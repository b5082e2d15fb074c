import type { MaglevBackends } from './backends.ts';
import type { MaglevSeed } from './seed.ts';
import { takeTurns, takeWeightedTurns } from './turns.ts';

/** What --bpf-lb-maglev-table-size may be; more than 100 slots for each backend are advised. */
export const MAGLEV_SIZES = [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071] as const;
export const DEFAULT_MAGLEV_SIZE = 16381;

/** What the agent does for a table, counted as it does it. */
export interface MaglevWork {
  /** Entries of permutations that are computed, one after another: backends x slots. */
  readonly permutationEntries: number;
  /** Entries of permutations that the filling reads. */
  readonly probes: number;
  /** Turns let go by backends ahead of their weight. */
  readonly passes: number;
  /** Of the array of permutations, 8 bytes an entry. The agent keeps the largest that it needed so far. */
  readonly matrixBytes: number;
}

export interface MaglevTable {
  /** Backend ids by slot. */
  readonly ids: Uint32Array;
  readonly work: MaglevWork;
}

// Of the table under construction; nothing stays in them.
let places = new Int32Array(0);
let skips = new Int32Array(0);
let ids = new Uint32Array(0);
let weights = new Uint32Array(0);
let counters = new Float64Array(0);
let taken = new Uint8Array(0);

/**
 * The table of one frontend, as Cilium's agent computes it: the backends in the order of their texts take slots in
 * turn. Weights count only if the average weight, rounded down, is above 1; equal weights change nothing, whatever
 * they are, nor do 1, 1, 2. A weight of 0 among others still gets one slot.
 * The agent first writes down every backend's whole permutation, backends x slots of 64 bits, and then fills the
 * table from them. Here a backend's place and step are enough: the same table, and the agent's work in numbers.
 * Source: GetLookupTable, getPermutation and derivePermutationSliceLen, pkg/maglev/maglev.go (Cilium
 * 1.17).
 * Not modelled: releases before, which set the least array aside at the start, on nodes of more than 8 GiB only.
 * `table`, if given, is filled and returned; its length is the number of slots.
 * @throws RangeError without backends (the agent then deletes the frontend's table), or with a size not permitted.
 */
export function buildMaglev(
  backends: MaglevBackends,
  slots: number,
  seed: MaglevSeed,
  table: Uint32Array = new Uint32Array(slots),
): MaglevTable {
  const { count } = backends;
  if (!(MAGLEV_SIZES as readonly number[]).includes(slots) || table.length !== slots) {
    throw new RangeError(`Maglev table of ${slots} slots: wanted one of ${MAGLEV_SIZES.join(', ')}`);
  }
  if (count === 0) throw new RangeError('Maglev table without backends');
  reserve(count, slots);
  const order = backends.order();
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const row = order[i]!;
    ids[i] = backends.ids[row]!;
    weights[i] = backends.weights[row]!;
    sum += weights[i]!;
  }
  backends.permutations(slots, seed.murmur, places, skips);
  const turns = { places, skips, ids, count };
  const { probes, passes } =
    Math.floor(sum / count) > 1
      ? takeWeightedTurns(turns, weights, counters, table, taken)
      : { probes: takeTurns(turns, table, taken), passes: 0 };
  const work = { permutationEntries: count * slots, probes, passes, matrixBytes: matrixBytes(count, slots) };
  return { ids: table, work };
}

/** Bytes of the array of permutations: room for a hundredth as many backends as slots at least. */
export function matrixBytes(backends: number, slots: number): number {
  return 8 * slots * Math.max(backends, Math.floor(slots / 100));
}

/**
 * Backends whose permutations are computed one after another, the others beside them: lists of backends / cores,
 * rounded down, or one of all where there are fewer backends than cores, are handed out to as many workers as
 * there are cores.
 */
export function backendsInARow(backends: number, cores: number): number {
  const list = Math.floor(backends / cores) || backends;
  const lists = Math.ceil(backends / list);
  const rounds = Math.ceil(lists / cores);
  // What is left for the last list is shorter, and is the last round only where it stands there alone.
  const last = backends - (lists - 1) * list;
  return rounds > 1 && lists === (rounds - 1) * cores + 1 ? (rounds - 1) * list + last : rounds * list;
}

function reserve(count: number, slots: number): void {
  if (taken.length < slots) taken = new Uint8Array(slots);
  if (places.length >= count) return;
  const rows = Math.max(count, 2 * places.length);
  places = new Int32Array(rows);
  skips = new Int32Array(rows);
  ids = new Uint32Array(rows);
  weights = new Uint32Array(rows);
  counters = new Float64Array(rows);
}
