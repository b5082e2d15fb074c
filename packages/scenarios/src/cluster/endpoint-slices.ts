/**
 * The EndpointSlice controller's bookkeeping for one Service: which pod lies in which slice, at most 100 in each.
 * Source: staging/src/k8s.io/endpointslice/reconciler.go. Slices are never repacked: half-empty ones stay.
 */
export class ServiceSlices {
  readonly #maxPerSlice: number;
  readonly #slices: Set<number>[] = [];
  readonly #sliceOf = new Map<number, Set<number>>();

  constructor(pods: Iterable<number>, maxPerSlice: number) {
    this.#maxPerSlice = maxPerSlice;
    for (const pod of pods) {
      const last = this.#slices.at(-1);
      this.#put(pod, last !== undefined && last.size < maxPerSlice ? last : this.#newSlice());
    }
  }

  get count(): number {
    return this.#slices.length;
  }

  /** Pods in each slice, in the order of creation. */
  sizes(): number[] {
    return this.#slices.map((slice) => slice.size);
  }

  /**
   * Bring the slices up to date: `present` pods are new or have other conditions than before, `gone` ones no longer
   * exist. Returns, for each slice to be written, the pods of it that changed in any way.
   */
  reconcile(present: readonly number[], gone: readonly number[]): number[][] {
    const writes = new Map<Set<number>, number[]>();
    const touch = (slice: Set<number>, pod: number): void => {
      const pods = writes.get(slice);
      if (pods === undefined) writes.set(slice, [pod]);
      else pods.push(pod);
    };
    for (const pod of present) {
      const slice = this.#sliceOf.get(pod);
      if (slice !== undefined) touch(slice, pod);
    }
    for (const pod of gone) {
      const slice = this.#sliceOf.get(pod);
      if (slice === undefined) continue;
      touch(slice, pod);
      slice.delete(pod);
      this.#sliceOf.delete(pod);
    }
    const waiting = present.filter((pod) => !this.#sliceOf.has(pod));
    this.#fill([...writes.keys()], waiting, touch);
    while (waiting.length > 0) {
      const slice = this.#roomiest(waiting.length, writes) ?? this.#newSlice();
      this.#fill([slice], waiting, touch);
    }
    return [...writes.values()];
  }

  /** New endpoints go into the slices that are written anyway, fullest first. */
  #fill(slices: Set<number>[], waiting: number[], touch: (slice: Set<number>, pod: number) => void): void {
    for (const slice of slices.sort((x, y) => y.size - x.size)) {
      while (slice.size < this.#maxPerSlice && waiting.length > 0) {
        const pod = waiting.shift()!;
        this.#put(pod, slice);
        touch(slice, pod);
      }
    }
  }

  /** An untouched slice that ends up fullest when all that wait go into it; none if they do not fit in one. */
  #roomiest(waiting: number, writes: ReadonlyMap<Set<number>, unknown>): Set<number> | undefined {
    let best: Set<number> | undefined;
    for (const slice of this.#slices) {
      if (writes.has(slice) || slice.size + waiting > this.#maxPerSlice) continue;
      if (best === undefined || slice.size > best.size) best = slice;
    }
    return best;
  }

  #put(pod: number, slice: Set<number>): void {
    slice.add(pod);
    this.#sliceOf.set(pod, slice);
  }

  #newSlice(): Set<number> {
    const slice = new Set<number>();
    this.#slices.push(slice);
    return slice;
  }
}
