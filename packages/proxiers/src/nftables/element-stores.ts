import { FIXED_SETS } from './names.ts';
import {
  CLUSTER_IPS,
  FIREWALL_IPS,
  HAIRPIN,
  NO_ENDPOINT_NODEPORTS,
  NO_ENDPOINT_SERVICES,
  SERVICE_IPS,
  SERVICE_NODEPORTS,
} from './elements.ts';

/** Element operations of one sync: four numbers each, so that a first sync of many Services stays small. */
export class ElementOperations {
  readonly #numbers: number[] = [];

  get count(): number {
    return this.#numbers.length / 4;
  }

  push(adds: boolean, set: number, key: number, value: number): void {
    this.#numbers.push(adds ? 1 : 0, set, key, value);
  }

  /** Operations [from, to), in order. */
  visit(
    from: number,
    to: number,
    visitor: (adds: boolean, set: number, key: number, value: number) => void,
  ): void {
    const numbers = this.#numbers;
    for (let at = from * 4; at < to * 4; at += 4) {
      visitor(numbers[at] === 1, numbers[at + 1]!, numbers[at + 2]!, numbers[at + 3]!);
    }
  }
}

/** The order in which leftover elements are deleted. */
const LEFTOVER_ORDER = [
  CLUSTER_IPS,
  SERVICE_IPS,
  FIREWALL_IPS,
  NO_ENDPOINT_SERVICES,
  NO_ENDPOINT_NODEPORTS,
  SERVICE_NODEPORTS,
  HAIRPIN,
];

/**
 * kube-proxy's memory of what the shared sets and maps hold, with the number of service ports that want each
 * element: ports of one Service share its ClusterIP. Changes are undone unless they are kept.
 * Source: nftElementStorage in pkg/proxy/nftables/proxier.go, which walks all Services where this counts.
 * Not modelled: two Services with the same external address and port, which upstream lets win in random order.
 */
export class ElementStores {
  readonly #values: readonly Map<number, number>[] = FIXED_SETS.map(() => new Map<number, number>());
  /** By element that more than one wants: how many. */
  readonly #owners: readonly Map<number, number>[] = FIXED_SETS.map(() => new Map<number, number>());
  /** Elements that nobody wants since the last `take`, by set. */
  readonly #left: readonly Set<number>[] = FIXED_SETS.map(() => new Set<number>());
  #journal: number[] = [];

  sizeOf(set: number): number {
    return this.#values[set]!.size;
  }

  /** A service port no longer wants it. */
  release(set: number, key: number): void {
    const owners = this.#owners[set]!;
    const count = owners.get(key) ?? 1;
    this.#note(set, key);
    if (count > 2) owners.set(key, count - 1);
    else if (count === 2) owners.delete(key);
    else this.#left[set]!.add(key);
  }

  /** A service port wants it: what is missing is added, what differs is deleted and added. */
  want(set: number, key: number, value: number, operations: ElementOperations): void {
    const values = this.#values[set]!;
    const known = values.get(key);
    this.#note(set, key);
    if (this.#left[set]!.delete(key)) {
      // Its only owner released it in this sync.
    } else if (known !== undefined) {
      this.#owners[set]!.set(key, (this.#owners[set]!.get(key) ?? 1) + 1);
    }
    if (known === value) return;
    if (known !== undefined) operations.push(false, set, key, value);
    operations.push(true, set, key, value);
    values.set(key, value);
  }

  /** Delete what nobody wants. */
  sweep(operations: ElementOperations): void {
    for (const set of LEFTOVER_ORDER) {
      const left = this.#left[set]!;
      for (const key of left) {
        this.#values[set]!.delete(key);
        operations.push(false, set, key, -1);
      }
      left.clear();
    }
  }

  keep(): void {
    this.#journal = [];
  }

  undo(): void {
    const journal = this.#journal;
    for (let at = journal.length - 4; at >= 0; at -= 4) {
      const set = journal[at]!;
      const key = journal[at + 1]!;
      restore(this.#values[set]!, key, journal[at + 2]!);
      restore(this.#owners[set]!, key, journal[at + 3]!);
      this.#left[set]!.delete(key);
    }
    this.#journal = [];
  }

  /** What was before a change. */
  #note(set: number, key: number): void {
    this.#journal.push(set, key, this.#values[set]!.get(key) ?? -1, this.#owners[set]!.get(key) ?? -1);
  }
}

function restore(map: Map<number, number>, key: number, value: number): void {
  if (value < 0) map.delete(key);
  else map.set(key, value);
}
