import seedrandom from 'seedrandom';

/**
 * One independent sequence of random numbers, named for what it decides. Johannes Baagøe's Alea, as
 * `seedrandom` implements it: 32 bits a draw, the same on every engine.
 */
export class Stream {
  readonly name: string;
  readonly #draw: seedrandom.PRNG;
  readonly #seed: string;

  constructor(seed: string, name: string) {
    this.name = name;
    this.#seed = seed;
    this.#draw = seedrandom.alea(`${seed}\u0000${name}`);
    // Alea's first number hangs on one pass over the seed: those of similar names are weakly correlated.
    this.#draw();
  }

  /** Uniform on [0, 1), 53 bits. */
  uniform(): number {
    return this.#draw.double();
  }

  /** Uniform over all 32-bit unsigned integers. */
  uint32(): number {
    return this.#draw.int32() >>> 0;
  }

  /** Uniform integer in [0, bound); bound up to 2^32. */
  below(bound: number): number {
    return Math.floor(this.#draw.double() * bound);
  }

  /** The sub-stream `index` of this stream: independent of how many draws this one has made. */
  sub(index: number | string): Stream {
    return new Stream(this.#seed, `${this.name}/${index}`);
  }
}

/**
 * All streams of a run, from one seed. A stream depends on the seed and its name only, never on when it was
 * made, so that a new purpose for chance leaves the draws of every other purpose alone.
 */
export class Streams {
  readonly seed: string;

  constructor(seed: string) {
    this.seed = seed;
  }

  stream(name: string): Stream {
    return new Stream(this.seed, name);
  }
}
