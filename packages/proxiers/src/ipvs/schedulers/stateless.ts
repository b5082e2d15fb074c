import type { Scheduler } from './scheduler.ts';

/** A scheduler that remembers nothing: each pick looks at the servers as they are. Changes cost it nothing. */
export abstract class StatelessScheduler implements Scheduler {
  abstract readonly name: string;
  steps = 0;

  abstract pick(service: number, client: number, clientPort: number): number;

  started(): void {}

  stopped(): void {}

  added(): void {}

  removed(): void {}

  updated(): void {}

  changeSteps(): number {
    return 0;
  }
}
