import { longer } from '@vipsim/sim-core';

/** Classes of run lengths: four to each doubling, so that a run wastes at most a quarter. */
const CLASSES = 4;

/**
 * Words that many small tables share: runs are taken and given back; a freed run serves the next taker of its class
 * of lengths. Saves what a typed array of its own would cost each table, about 200 bytes.
 */
export class SetArena {
  words = new Int32Array(64);
  #used = 0;
  /** First free run of each class, -1 if none; a free run's first word holds the next one. */
  readonly #free: number[] = [];

  /** A run of at least `length` zero words: where it begins. */
  take(length: number): number {
    const rank = rankOf(length);
    const reused = this.#free[rank] ?? -1;
    if (reused >= 0) {
      this.#free[rank] = this.words[reused]!;
      this.words.fill(0, reused, reused + length);
      return reused;
    }
    const start = this.#used;
    this.#used += lengthOf(rank);
    if (this.#used > this.words.length) {
      const half = this.words.length + (this.words.length >> (this.words.length > 1 << 22 ? 2 : 0));
      this.words = longer(this.words, Math.max(half, this.#used));
    }
    return start;
  }

  give(start: number, length: number): void {
    const rank = rankOf(length);
    while (this.#free.length <= rank) this.#free.push(-1);
    this.words[start] = this.#free[rank]!;
    this.#free[rank] = start;
  }

  get bytes(): number {
    return this.words.byteLength;
  }
}

function rankOf(length: number): number {
  if (length <= CLASSES) return length;
  const doubling = 31 - Math.clz32(length - 1);
  const step = 1 << (doubling - 2);
  return doubling * CLASSES + Math.ceil((length - (1 << doubling)) / step);
}

function lengthOf(rank: number): number {
  if (rank <= CLASSES) return rank;
  const doubling = Math.floor((rank - 1) / CLASSES);
  return (1 << doubling) + (rank - doubling * CLASSES) * (1 << (doubling - 2));
}
