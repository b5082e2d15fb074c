import { NORMAL } from '../engine/simulation.ts';
import type { Environment } from './environment.ts';
import { Event } from './event.ts';

/**
 * An event that is triggered from the start and happens after a delay. Worth its allocation inside a condition,
 * or where several wait; a process that only waits yields the number.
 */
export class Timeout<T = void> extends Event<T> {
  /** @throws RangeError unless the delay is a whole number of nanoseconds, zero or more. */
  constructor(env: Environment, delayNs: number, value: T) {
    super(env);
    if (!isDelay(delayNs, env.nowNs)) throw new RangeError(delayRefused(delayNs, env.nowNs));
    this.settle(value, delayNs, NORMAL);
  }
}

export function isDelay(delayNs: number, nowNs: number): boolean {
  return delayNs >= 0 && delayNs <= Number.MAX_SAFE_INTEGER - nowNs && Number.isInteger(delayNs);
}

export function delayRefused(delayNs: number, nowNs: number): string {
  const wanted =
    delayNs > 0 && Number.isInteger(delayNs)
      ? 'time ends at 2^53 ns'
      : 'a delay is a whole number, zero or more';
  return `cannot wait for ${delayNs} ns at ${nowNs} ns: ${wanted}`;
}
