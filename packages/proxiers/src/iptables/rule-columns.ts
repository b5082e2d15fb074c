import { longer } from '@vipsim/sim-core';
/**
 * Rules as columns, one row each. Masks and addresses are unsigned 32-bit integers in host order; a mask of 0
 * tests nothing. `value` is a statistic threshold, a mark or conntrack states; `argument` a chain, an endpoint
 * row or, for rules that end there, the service port that they are about.
 */
export class RuleColumns {
  capacity: number;
  match: Uint32Array;
  protocol: Uint8Array;
  port: Uint16Array;
  source: Uint32Array;
  sourceMask: Uint32Array;
  destination: Uint32Array;
  /** The same memory read as signed integers, which V8 compares without a detour through doubles. */
  destinationBits: Int32Array;
  destinationMask: Uint32Array;
  value: Uint32Array;
  target: Uint8Array;
  argument: Int32Array;
  about: Uint8Array;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.match = new Uint32Array(capacity);
    this.protocol = new Uint8Array(capacity);
    this.port = new Uint16Array(capacity);
    this.source = new Uint32Array(capacity);
    this.sourceMask = new Uint32Array(capacity);
    this.destination = new Uint32Array(capacity);
    this.destinationBits = new Int32Array(this.destination.buffer);
    this.destinationMask = new Uint32Array(capacity);
    this.value = new Uint32Array(capacity);
    this.target = new Uint8Array(capacity);
    this.argument = new Int32Array(capacity);
    this.about = new Uint8Array(capacity);
  }

  grow(capacity: number): void {
    this.match = longer(this.match, capacity);
    this.protocol = longer(this.protocol, capacity);
    this.port = longer(this.port, capacity);
    this.source = longer(this.source, capacity);
    this.sourceMask = longer(this.sourceMask, capacity);
    this.destination = longer(this.destination, capacity);
    this.destinationBits = new Int32Array(this.destination.buffer);
    this.destinationMask = longer(this.destinationMask, capacity);
    this.value = longer(this.value, capacity);
    this.target = longer(this.target, capacity);
    this.argument = longer(this.argument, capacity);
    this.about = longer(this.about, capacity);
    this.capacity = capacity;
  }

  /** A row that tests nothing but what `match` will say; rows are reused, so every column is set. */
  write(row: number, match: number, target: number, argument: number, about: number): void {
    this.match[row] = match;
    this.protocol[row] = 0;
    this.port[row] = 0;
    this.source[row] = 0;
    this.sourceMask[row] = 0;
    this.destination[row] = 0;
    this.destinationMask[row] = 0;
    this.value[row] = 0;
    this.target[row] = target;
    this.argument[row] = argument;
    this.about[row] = about;
  }

  /** Copy `count` rows of `from`, starting at `first`, to `to`. */
  copy(from: RuleColumns, first: number, count: number, to: number): void {
    for (let i = 0; i < count; i++) {
      const row = first + i;
      this.write(to + i, from.match[row]!, from.target[row]!, from.argument[row]!, from.about[row]!);
      this.protocol[to + i] = from.protocol[row]!;
      this.port[to + i] = from.port[row]!;
      this.source[to + i] = from.source[row]!;
      this.sourceMask[to + i] = from.sourceMask[row]!;
      this.destination[to + i] = from.destination[row]!;
      this.destinationMask[to + i] = from.destinationMask[row]!;
      this.value[to + i] = from.value[row]!;
    }
  }
}
