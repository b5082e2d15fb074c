import { log2 } from '@vipsim/sim-core';
import type { Counts } from './operations.ts';

/** What one operation costs: flat, or by the bytes of the structure that it touches (the memory hierarchy). */
export interface Price {
  /** Nanoseconds, or points [working set in bytes, nanoseconds] in rising order. */
  readonly ns: number | readonly (readonly [number, number])[];
  readonly kind: 'measured' | 'published' | 'estimate';
  /** Where the figure comes from. */
  readonly source: string;
}

/** Prices with their provenance: counts are exact, this document turns them into time. */
export interface CostProfile {
  readonly schema: 'vipsim.profile/1';
  readonly name: string;
  readonly title: string;
  readonly machine: string;
  readonly kernel: string;
  readonly date: string;
  readonly spread: string;
  readonly prices: Readonly<Record<string, Price>>;
}

/** The prices of one mode's operations at the present working sets. */
export class PriceList {
  readonly #prices: readonly Price[];
  readonly #ns: Float64Array;

  /** @throws RangeError naming the operations that the profile does not price. */
  constructor(profile: CostProfile, operations: readonly string[]) {
    const missing = operations.filter((name) => !Object.hasOwn(profile.prices, name));
    if (missing.length > 0) {
      throw new RangeError(`profile ${profile.name} has no price for: ${missing.join(', ')}`);
    }
    this.#prices = operations.map((name) => profile.prices[name]!);
    this.#ns = Float64Array.from(this.#prices, (price) => priceAt(price, 0));
  }

  /** Price again after tables have grown or shrunk; `workingSets` in bytes by operation. */
  refresh(workingSets: Float64Array): void {
    for (let i = 0; i < this.#prices.length; i++) this.#ns[i] = priceAt(this.#prices[i]!, workingSets[i]!);
  }

  /** Nanoseconds of one operation. */
  of(operation: number): number {
    return this.#ns[operation]!;
  }

  /** Nanoseconds of all counted operations, rounded to a whole number. */
  total(counts: Counts): number {
    let ns = 0;
    for (let i = 0; i < counts.length; i++) ns += counts[i]! * this.#ns[i]!;
    return Math.round(ns);
  }
}

/** Linear between points in the logarithm of the working set, constant beyond the first and the last. */
export function priceAt(price: Price, bytes: number): number {
  if (typeof price.ns === 'number') return price.ns;
  const points = price.ns;
  let [lowBytes, lowNs] = points[0]!;
  if (bytes <= lowBytes) return lowNs;
  for (const [highBytes, highNs] of points) {
    if (bytes <= highBytes) {
      const share = (log2(bytes) - log2(lowBytes)) / (log2(highBytes) - log2(lowBytes));
      return lowNs + share * (highNs - lowNs);
    }
    lowBytes = highBytes;
    lowNs = highNs;
  }
  return lowNs;
}
