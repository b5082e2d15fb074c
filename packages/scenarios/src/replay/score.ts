/** Agreements among comparisons. */
export interface Tally {
  readonly agree: number;
  readonly compared: number;
}

export interface Difference {
  /** Index in the recording, from 0. */
  readonly step: number;
  readonly op: string;
  readonly what: string;
  readonly recorded: string;
  readonly ours: string;
}

/** A distribution held against counts: chi-square at 1 %. */
export interface Distribution {
  readonly what: string;
  readonly chiSquare: number;
  readonly freedom: number;
  readonly limit: number;
}

export interface ReplayResult {
  readonly file: string;
  readonly name: string;
  readonly kernel: string;
  /** Who replayed it; empty if nobody can. */
  readonly player: string;
  /** By what was compared: connects, drawn, counters, rows, states, answers, distributions. */
  readonly tallies: ReadonlyMap<string, Tally>;
  readonly distributions: readonly Distribution[];
  /** Steps that were not replayed, by op, with the reason where it is not plain. */
  readonly skipped: ReadonlyMap<string, number>;
  /** What a recording does not tell and was fitted to it, a sentence each. */
  readonly fitted: readonly string[];
  readonly firstDifference: Difference | undefined;
}

/** Collects what a replay compares; the first difference is kept in full. */
export class Score {
  readonly tallies = new Map<string, { agree: number; compared: number }>();
  readonly distributions: Distribution[] = [];
  readonly skipped = new Map<string, number>();
  readonly fitted: string[] = [];
  firstDifference: Difference | undefined;
  #step = 0;
  #op = '';

  at(step: number, op: string): void {
    this.#step = step;
    this.#op = op;
  }

  compare(kind: string, what: string, recorded: string, ours: string): void {
    const tally = this.tallies.get(kind) ?? { agree: 0, compared: 0 };
    this.tallies.set(kind, tally);
    tally.compared++;
    if (recorded === ours) tally.agree++;
    else this.firstDifference ??= { step: this.#step, op: this.#op, what, recorded, ours };
  }

  /** The step is not replayed; `reason` where it takes one to see why. */
  skip(reason = ''): void {
    const name = reason === '' ? this.#op : `${this.#op} (${reason})`;
    this.skipped.set(name, (this.skipped.get(name) ?? 0) + 1);
  }

  get disagreements(): number {
    let sum = 0;
    for (const { agree, compared } of this.tallies.values()) sum += compared - agree;
    return sum;
  }

  /** Hold counts against what was expected of them; too few to tell are left out. */
  distribution(
    what: string,
    counts: ReadonlyMap<string, number>,
    expected: ReadonlyMap<string, number>,
  ): void {
    const values = [...expected.values()];
    if (values.length < 2 || Math.min(...values) < EXPECTED_MIN) return;
    let chiSquare = 0;
    for (const [name, wanted] of expected) {
      const off = (counts.get(name) ?? 0) - wanted;
      chiSquare += (off * off) / wanted;
    }
    const freedom = values.length - 1;
    const limit = chiSquareLimit(freedom);
    this.distributions.push({ what, chiSquare, freedom, limit });
    this.compare(
      'distributions',
      what,
      `chi-square at most ${limit.toFixed(2)} with ${freedom} degrees of freedom`,
      chiSquare <= limit
        ? `chi-square at most ${limit.toFixed(2)} with ${freedom} degrees of freedom`
        : `chi-square ${chiSquare.toFixed(2)}`,
    );
  }
}

export function disagreements(result: ReplayResult): number {
  return [...result.tallies.values()].reduce((sum, { agree, compared }) => sum + compared - agree, 0);
}

/** Below this expectation the chi-square approximation is not to be trusted. */
const EXPECTED_MIN = 5;

/** The upper 1 % points of chi-square, for 1 to 30 degrees of freedom. */
const LIMITS = [
  6.635, 9.21, 11.345, 13.277, 15.086, 16.812, 18.475, 20.09, 21.666, 23.209, 24.725, 26.217, 27.688, 29.141,
  30.578, 32, 33.409, 34.805, 36.191, 37.566, 38.932, 40.289, 41.638, 42.98, 44.314, 45.642, 46.963, 48.278,
  49.588, 50.892,
];
const NORMAL_99 = 2.3263478740408408;

/** Beyond the table the cube of a normal deviate (Wilson and Hilferty 1931): right to three digits there. */
export function chiSquareLimit(freedom: number): number {
  const known = LIMITS[freedom - 1];
  if (known !== undefined) return known;
  const part = 2 / (9 * freedom);
  const root = 1 - part + NORMAL_99 * Math.sqrt(part);
  return freedom * root * root * root;
}
