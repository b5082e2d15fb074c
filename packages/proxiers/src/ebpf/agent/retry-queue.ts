const SECOND = 1_000_000_000;
const MIN_NS = SECOND;
const MAX_NS = 60 * SECOND;

interface Retry {
  readonly attempts: number;
  readonly dueNs: number;
}

/**
 * Objects whose reconciliation failed, each with the time of its next attempt: 1 s after the first failure, twice as
 * long after each further one, 1 min at most; for ever.
 * Source: cilium/statedb reconciler (retries, exponential backoff), lb-retry-backoff-min and -max.
 */
export class RetryQueue {
  readonly #retries = new Map<number, Retry>();

  objects(): Iterable<number> {
    return this.#retries.keys();
  }

  fail(object: number, nowNs: number): void {
    const attempts = (this.#retries.get(object)?.attempts ?? 0) + 1;
    // Beyond six doublings the delay stays at its longest.
    const delayNs = Math.min(MAX_NS, MIN_NS * (1 << Math.min(6, attempts - 1)));
    this.#retries.delete(object);
    this.#retries.set(object, { attempts, dueNs: nowNs + delayNs });
  }

  succeed(object: number): void {
    this.#retries.delete(object);
  }

  clear(): void {
    this.#retries.clear();
  }

  /** Whose time has come, the longest due first. */
  due(nowNs: number): number[] {
    const due = [...this.#retries].filter(([, { dueNs }]) => dueNs <= nowNs);
    return due.sort(([, a], [, b]) => a.dueNs - b.dueNs).map(([object]) => object);
  }

  /** From `nowNs` to the next attempt; the shortest delay when there is none. */
  nextNs(nowNs: number): number {
    let next = Infinity;
    for (const { dueNs } of this.#retries.values()) next = Math.min(next, dueNs);
    return next === Infinity ? MIN_NS : Math.max(0, next - nowNs);
  }
}
