/** Behind every position. */
export const NOWHERE = 0x7fffffff;

/** Words of a slot, side by side so that a look-up meets one cache line: key, start, end; end 0 in an empty one. */
const START = 1;
const END = 2;

/**
 * Positions grouped by a 32-bit key, each group in rising order: a hash table of groups over one array.
 *
 *     slots  | key start end · | key start end · | …        order  | 0 7 9 | 2 | 3 4 | …
 */
export class PositionGroups {
  readonly #shift: number;
  readonly #mask: number;
  readonly #slots: Int32Array;
  readonly #order: Int32Array;

  /** `keyOf` is by position; `positions` rise. */
  constructor(keyOf: (position: number) => number, positions: Int32Array) {
    const bits = Math.max(2, 33 - Math.clz32(positions.length));
    this.#shift = 32 - bits;
    this.#mask = (1 << bits) - 1;
    this.#slots = new Int32Array(4 << bits);
    this.#order = new Int32Array(positions.length);
    const slots = this.#slots;
    for (const position of positions) {
      const key = keyOf(position) | 0;
      const slot = this.#slotOf(key);
      slots[slot] = key;
      slots[slot + END]! += 1;
    }
    let start = 0;
    for (let slot = 0; slot < slots.length; slot += 4) {
      const count = slots[slot + END]!;
      if (count === 0) continue;
      slots[slot + START] = start;
      slots[slot + END] = start + count;
      start += count;
    }
    // From the last: each group fills from its end.
    const free = slots.slice();
    for (let i = positions.length - 1; i >= 0; i--) {
      const slot = this.#slotOf(keyOf(positions[i]!) | 0);
      free[slot + END]! -= 1;
      this.#order[free[slot + END]!] = positions[i]!;
    }
  }

  /** The first position of `key`'s group that is not before `from`, or NOWHERE. */
  next(key: number, from: number): number {
    const slots = this.#slots;
    const slot = this.#slotOf(key | 0);
    const end = slots[slot + END]!;
    if (end === 0) return NOWHERE;
    const at = lowerBound(this.#order, slots[slot + START]!, end, from);
    return at < end ? this.#order[at]! : NOWHERE;
  }

  /** Where the key's slot begins, or the empty one where it would be. */
  #slotOf(key: number): number {
    const slots = this.#slots;
    let slot = Math.imul(key ^ (key >>> 15), 0x9e3779b1) >>> this.#shift;
    while (slots[slot * 4 + END] !== 0 && slots[slot * 4] !== key) slot = (slot + 1) & this.#mask;
    return slot * 4;
  }
}

/** The first index in [start, end) of a rising array whose value is not below `value`; `end` if none. */
export function lowerBound(rising: Int32Array, start: number, end: number, value: number): number {
  let low = start;
  let high = end;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (rising[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
