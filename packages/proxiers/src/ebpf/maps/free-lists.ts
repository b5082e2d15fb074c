import { longer } from '@vipsim/sim-core';
import { nextPowerOfTwo } from './buckets.ts';

const NONE = -1;

/**
 * The elements of a preallocated map that are not in use, one stack for each CPU. A CPU frees to its own and takes
 * from its own; when that is empty, from the next CPU that has any.
 * Models: equal initial shares (the first CPUs have one more if the division leaves a rest), last in first out.
 * Source: kernel/bpf/percpu_freelist.c. Not modelled: its locks, and what it does in an NMI.
 *
 * Elements are numbered as they are first taken: what was never taken takes none of our memory.
 */
export class FreeLists {
  readonly #cpus: number;
  readonly #tops: Int32Array;
  /** Elements at the bottom of each CPU's stack that nobody has had yet. */
  readonly #untouched: Int32Array;
  #below: Int32Array = new Int32Array(64);
  #used = 0;

  constructor(elements: number, cpus: number) {
    this.#cpus = cpus;
    this.#tops = new Int32Array(cpus).fill(NONE);
    this.#untouched = new Int32Array(cpus);
    this.add(elements);
  }

  /** Elements that were ever taken: all have lower numbers. */
  get used(): number {
    return this.#used;
  }

  /** An element for `cpu`; -1 when every list is empty. */
  pop(cpu: number): number {
    let from = cpu;
    do {
      const top = this.#tops[from]!;
      if (top !== NONE) {
        this.#tops[from] = this.#below[top]!;
        return top;
      }
      if (this.#untouched[from]! > 0) {
        this.#untouched[from]!--;
        return this.#used++;
      }
      from = from + 1 === this.#cpus ? 0 : from + 1;
    } while (from !== cpu);
    return NONE;
  }

  push(cpu: number, element: number): void {
    if (element >= this.#below.length) this.#below = longer(this.#below, nextPowerOfTwo(element + 1));
    this.#below[element] = this.#tops[cpu]!;
    this.#tops[cpu] = element;
  }

  /** Share out more elements. */
  add(elements: number): void {
    const share = Math.floor(elements / this.#cpus);
    const rest = elements % this.#cpus;
    for (let cpu = 0; cpu < this.#cpus; cpu++) this.#untouched[cpu]! += share + (cpu < rest ? 1 : 0);
  }
}
