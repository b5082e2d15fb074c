import { Stream } from '@vipsim/sim-core';
import type { ExpressionRecorder } from '../kernel/evaluator.ts';
import { NUMGEN, NUMGEN_RANDOM } from '../kernel/program.ts';
import type { NfTables } from '../kernel/tables.ts';

const TWO_TO_32 = 4_294_967_296;

/** What a `numgen random` drew: a whole number below the modulus. */
export interface NumberDraw {
  readonly number: number;
  readonly modulus: number;
}

/**
 * The random bits of `numgen random`, its own or given from outside, and a record of what became of them. It listens
 * to the walk, as only the expression knows the modulus, and passes on what it hears.
 */
export class NumberSource extends Stream implements ExpressionRecorder {
  draws: NumberDraw[] = [];
  readonly #tables: NfTables;
  #given: (() => number) | undefined;
  #next: ExpressionRecorder | undefined;
  #bits = 0;

  constructor(seed: string, tables: NfTables) {
    super(seed, 'nftables.numgen');
    this.#tables = tables;
  }

  /** Begin a walk: bits come from `given` if there is one, `next` hears each expression, too. */
  begin(given: (() => number) | undefined, next: ExpressionRecorder | undefined): void {
    this.draws = [];
    this.#given = given;
    this.#next = next;
  }

  override uint32(): number {
    this.#bits = this.#given === undefined ? super.uint32() : this.#given();
    return this.#bits;
  }

  expression(chain: number, rule: number, at: number, broke: boolean): void {
    const { arena } = this.#tables.chains;
    const word = arena[at]!;
    if ((word & 255) === NUMGEN && ((word >>> 8) & 255) === NUMGEN_RANDOM) {
      const modulus = arena[at + 1]! >>> 0;
      this.draws.push({ number: Math.floor((this.#bits * modulus) / TWO_TO_32), modulus });
    }
    this.#next?.expression(chain, rule, at, broke);
  }
}

/** The least bits from which a number below a modulus is made: reciprocal_scale turned round. */
export function bitsFor({ number, modulus }: NumberDraw): number {
  return Math.ceil((number * TWO_TO_32) / modulus);
}
