import type { Counts } from '../../cost/operations.ts';
import type { SyncStage } from '../../proxier.ts';
import { CALICO_OPERATIONS } from './operations.ts';

/** One of a sync's stages in the making: what it counts, and what it does when its time has passed. */
export class Phase implements SyncStage {
  readonly counts: Counts = new Float64Array(CALICO_OPERATIONS.length);
  readonly #actions: (() => void)[] = [];

  count(operation: number, times: number): void {
    this.counts[operation]! += times;
  }

  enact(action: () => void): void {
    this.#actions.push(action);
  }

  commit(): void {
    for (const action of this.#actions) action();
  }

  get isEmpty(): boolean {
    return this.#actions.length === 0 && this.counts.every((count) => count === 0);
  }
}
