import { REALS_MAX } from './maps.ts';

/** A real: its number in the array, and how many VIPs use it. */
interface Real {
  readonly number: number;
  uses: number;
}

/**
 * Numbers of reals, from 1: a new real takes the one that has been free for longest, and gives it back when no VIP uses
 * it any more. Source: increaseRefCountForReal and decreaseRefCountForReal, katran/lib/KatranLb.cpp.
 */
export class Reals {
  readonly #byAddress = new Map<number, Real>();
  /** A ring of free numbers: the next one to take, and how many there are. */
  readonly #free = Uint16Array.from({ length: REALS_MAX - 1 }, (_, index) => index + 1);
  #first = 0;
  #length = REALS_MAX - 1;

  get count(): number {
    return this.#byAddress.size;
  }

  /** The number of an address, 0 when it is no real. */
  numberOf(address: number): number {
    return this.#byAddress.get(address)?.number ?? 0;
  }

  /** One more VIP uses an address: its number, 0 when there are no numbers left. `isNew`: the array is to be written. */
  take(address: number): { readonly number: number; readonly isNew: boolean } {
    const known = this.#byAddress.get(address);
    if (known !== undefined) {
      known.uses++;
      return { number: known.number, isNew: false };
    }
    if (this.#length === 0) return { number: 0, isNew: false };
    const number = this.#free[this.#first]!;
    this.#first = (this.#first + 1) % this.#free.length;
    this.#length--;
    this.#byAddress.set(address, { number, uses: 1 });
    return { number, isNew: true };
  }

  /** One VIP fewer. */
  give(address: number): void {
    const real = this.#byAddress.get(address);
    if (real === undefined || --real.uses > 0) return;
    this.#byAddress.delete(address);
    this.#free[(this.#first + this.#length++) % this.#free.length] = real.number;
  }
}
