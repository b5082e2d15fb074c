/** PERCPU_COUNTER_BATCH of kernel/bpf/hashtab.c. */
const BATCH = 32;

/**
 * How a map without preallocation knows that it is full. A large map counts in each CPU up to 32 either way before
 * it touches the shared sum; near the limit, where the shared sum could mislead, all CPUs are summed.
 * Models: which maps count so (half the entries must exceed 32 × online CPUs), and each sum over all CPUs.
 * Source: is_map_full and inc_elem_count of kernel/bpf/hashtab.c; lib/percpu_counter.c.
 * Not modelled: CPUs that are possible but offline.
 */
export class ElementCount {
  /** Times that the counters of all CPUs were summed to decide. */
  sums = 0;
  #max: number;
  #shared = 0;
  #batched: boolean;
  readonly #local: Int32Array;

  constructor(maxEntries: number, cpus: number) {
    this.#local = new Int32Array(cpus);
    this.#max = maxEntries;
    this.#batched = Math.floor(maxEntries / 2) > cpus * BATCH;
  }

  /** Whether counting is split by CPU. */
  get batched(): boolean {
    return this.#batched;
  }

  add(cpu: number, amount: number): void {
    if (!this.#batched) {
      this.#shared += amount;
      return;
    }
    const local = this.#local[cpu]! + amount;
    if (local >= BATCH || local <= -BATCH) {
      this.#shared += local;
      this.#local[cpu] = 0;
    } else {
      this.#local[cpu] = local;
    }
  }

  isFull(): boolean {
    if (!this.#batched) return this.#shared >= this.#max;
    const distance = this.#shared - this.#max;
    const doubt = BATCH * this.#local.length;
    if (distance > doubt) return true;
    if (distance < -doubt) return false;
    this.sums++;
    return this.sum() >= this.#max;
  }

  /** The exact count: percpu_counter_sum. */
  sum(): number {
    let total = this.#shared;
    for (const local of this.#local) total += local;
    return total;
  }

  /** The count of a map of more entries into which one CPU copied what this one holds. */
  enlarge(maxEntries: number): void {
    const held = this.sum();
    this.#max = maxEntries;
    this.#batched = Math.floor(maxEntries / 2) > this.#local.length * BATCH;
    this.#local.fill(0);
    this.#local[0] = this.#batched ? held % BATCH : 0;
    this.#shared = held - this.#local[0]!;
  }
}
