/**
 * Backends take slots in turn, each the next free one of its own permutation of them: offset, offset + skip, ...
 * modulo the number of slots, which is a prime. Only the place that a backend has come to is kept.
 */
export interface Turns {
  /** The places in their permutations; moved on. */
  readonly places: Int32Array;
  readonly skips: Int32Array;
  /** What a slot is given: the ids of the backends. */
  readonly ids: Uint32Array;
  readonly count: number;
}

/**
 * One slot a turn, until all are taken (with more backends than slots, only the first ones come to their turn).
 * `taken`: a byte for each slot, cleared here. Returns how many slots were looked at.
 */
export function takeTurns(turns: Turns, table: Uint32Array, taken: Uint8Array): number {
  const { places, skips, ids, count } = turns;
  const slots = table.length;
  taken.fill(0, 0, slots);
  let probes = 0;
  let i = 0;
  for (let n = 0; n < slots; n++) {
    const skip = skips[i]!;
    let slot = places[i]!;
    for (probes++; taken[slot] !== 0; probes++) {
      slot += skip;
      if (slot >= slots) slot -= slots;
    }
    taken[slot] = 1;
    table[slot] = ids[i]!;
    slot += skip;
    places[i] = slot >= slots ? slot - slots : slot;
    if (++i === count) i = 0;
  }
  return probes;
}

/** What weighted turns took. */
export interface WeightedTurns {
  /** Slots looked at. */
  readonly probes: number;
  /** Times that a backend was ahead of its weight and let the next one have the turn. */
  readonly passes: number;
}

/**
 * The same by weights. Each backend has a counter that starts at its weight / count and grows by the sum of all
 * weights with each slot that it takes; at turn n it must wait while (n + 1) * its weight is less than its counter,
 * cut to a whole number. Doubles, as in the agent: their rounding decides some slots.
 */
export function takeWeightedTurns(
  turns: Turns,
  weights: Uint32Array,
  counters: Float64Array,
  table: Uint32Array,
  taken: Uint8Array,
): WeightedTurns {
  const { places, skips, ids, count } = turns;
  const slots = table.length;
  taken.fill(0, 0, slots);
  let sum = 0;
  for (let i = 0; i < count; i++) sum += weights[i]!;
  for (let i = 0; i < count; i++) counters[i] = weights[i]! / count;
  let probes = 0;
  let passes = 0;
  for (let n = 0; n < slots; n++) {
    let i = n % count;
    while ((n + 1) * weights[i]! < Math.floor(counters[i]!)) {
      passes++;
      if (++i === count) i = 0;
    }
    counters[i]! += sum;
    const skip = skips[i]!;
    let slot = places[i]!;
    for (probes++; taken[slot] !== 0; probes++) {
      slot += skip;
      if (slot >= slots) slot -= slots;
    }
    taken[slot] = 1;
    table[slot] = ids[i]!;
    slot += skip;
    places[i] = slot >= slots ? slot - slots : slot;
  }
  return { probes, passes };
}
