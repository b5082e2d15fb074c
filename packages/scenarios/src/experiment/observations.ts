import { Histogram, NS_PER_S } from '@vipsim/sim-core';
import type { SyncFailure } from '@vipsim/proxiers';

export const OK = 0;
export const REFUSED = 1;
export const TIMED_OUT = 2;
export const BROKEN = 3;
export type Ending = typeof OK | typeof REFUSED | typeof TIMED_OUT | typeof BROKEN;

interface Second {
  attempted: number;
  failed: number;
  endpointChanges: number;
  syncs: number;
}

/** What a run of one mode saw. */
export class Observations {
  readonly firstNs = new Histogram();
  readonly establishedNs = new Histogram();
  readonly connectNs = new Histogram();
  readonly programmingNs = new Histogram();
  readonly fullSyncNs = new Histogram();
  readonly partialSyncNs = new Histogram();
  /** Counts of operations, summed over first packets, over others, and over syncs. */
  readonly firstCounts: Float64Array;
  readonly establishedCounts: Float64Array;
  readonly controlCounts: Float64Array;
  /** Connections that a service sent to each endpoint row. */
  readonly hits: Uint32Array;
  /** Connections by how they ended: OK, REFUSED, TIMED_OUT, BROKEN. */
  readonly endings = new Float64Array(4);
  readonly seconds: Second[] = [];
  attempted = 0;
  sentToDeadEndpoint = 0;
  packets = 0;
  dataplaneNs = 0;
  stackNs = 0;
  controlNs = 0;
  initialSyncNs = 0;
  syncFailures = 0;
  lastFailure: SyncFailure | undefined;

  constructor(operations: number, endpoints: number) {
    this.firstCounts = new Float64Array(operations);
    this.establishedCounts = new Float64Array(operations);
    this.controlCounts = new Float64Array(operations);
    this.hits = new Uint32Array(endpoints);
  }

  second(atNs: number): Second {
    const index = Math.floor(atNs / NS_PER_S);
    while (this.seconds.length <= index) {
      this.seconds.push({ attempted: 0, failed: 0, endpointChanges: 0, syncs: 0 });
    }
    return this.seconds[index]!;
  }

  end(ending: Ending, atNs: number): void {
    this.endings[ending]! += 1;
    if (ending !== OK) this.second(atNs).failed++;
  }
}
