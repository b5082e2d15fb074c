/** A way between two hosts: everything arrives, in order, after the same delay. */
export class Link {
  readonly delayNs: number;
  /** Packets carried. */
  packets = 0;

  /** @throws RangeError unless the delay is a whole number of nanoseconds, zero or more. */
  constructor(delayNs: number) {
    if (!Number.isSafeInteger(delayNs) || delayNs < 0)
      throw new RangeError(`a link cannot have a delay of ${delayNs} ns`);
    this.delayNs = delayNs;
  }

  /** When a packet sent at `nowNs` arrives. */
  carry(nowNs: number): number {
    this.packets++;
    return nowNs + this.delayNs;
  }
}
