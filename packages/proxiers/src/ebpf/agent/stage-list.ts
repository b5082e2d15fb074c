import type { Counts } from '../../cost/operations.ts';
import type { SyncStage } from '../../proxier.ts';
import { MODE_OPERATIONS } from './operations.ts';

/**
 * Stages in the making: count into `counts`, say what is to be done, and cut where what was done becomes visible.
 * A whole list has a single stage and no waits: the start, when nobody uses the maps yet.
 */
export class StageList {
  counts: Counts = newCounts();
  /** Time waited in all, in ns; of a whole list, that would have been waited. */
  waitedNs = 0;
  readonly stages: SyncStage[] = [];
  readonly #whole: boolean;
  #commits: (() => void)[] = [];
  #waitNs = 0;
  #counted = false;

  constructor(whole: boolean) {
    this.#whole = whole;
  }

  count(operation: number, times: number): void {
    if (times === 0) return;
    this.counts[operation]! += times;
    this.#counted = true;
  }

  enact(commit: () => void): void {
    this.#commits.push(commit);
  }

  cut(): void {
    if (!this.#whole) this.#close();
  }

  /** What follows begins so much after what came before is done. */
  wait(ns: number): void {
    this.waitedNs += ns;
    if (this.#whole || ns === 0) return;
    this.#close();
    this.#waitNs += ns;
  }

  finish(): readonly SyncStage[] {
    this.#close();
    return this.stages;
  }

  #close(): void {
    if (!this.#counted && this.#commits.length === 0 && this.#waitNs === 0) return;
    const commits = this.#commits;
    const ns = this.#waitNs;
    this.stages.push({
      counts: this.counts,
      ...(ns > 0 && { wait: () => ({ ns }) }),
      commit: () => {
        for (const commit of commits) commit();
      },
    });
    this.counts = newCounts();
    this.#commits = [];
    this.#waitNs = 0;
    this.#counted = false;
  }
}

export function newCounts(): Counts {
  return new Float64Array(MODE_OPERATIONS.length);
}
