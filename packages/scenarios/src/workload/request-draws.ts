import { exp, jhash3, ln, standardNormalQuantile, type Streams } from '@vipsim/sim-core';
import type { Scenario } from '../scenario/scenario.ts';

const SPREAD = 0.5;

/**
 * How long a server takes for a request and how long the client pauses after it. Requests reach servers in another
 * order in every mode, so these are drawn by hashing the names of connection and request, not from a sequence.
 */
export class RequestDraws {
  readonly #serviceTimeNs: number;
  readonly #thinkTimeNs: number;
  readonly #serviceKey: number;
  readonly #thinkKey: number;

  constructor(scenario: Scenario, streams: Streams) {
    this.#serviceTimeNs = scenario.workload.serviceTime;
    this.#thinkTimeNs = scenario.workload.thinkTime;
    this.#serviceKey = streams.stream('workload.service-times').uint32();
    this.#thinkKey = streams.stream('workload.think-times').uint32();
  }

  /** Lognormal around the scenario's median, ns. */
  serviceTime(connection: number, request: number): number {
    return Math.round(
      this.#serviceTimeNs *
        exp(SPREAD * standardNormalQuantile(share(connection, request, this.#serviceKey))),
    );
  }

  /** Exponential around the scenario's mean, ns. */
  thinkTime(connection: number, request: number): number {
    return Math.round(-this.#thinkTimeNs * ln(share(connection, request, this.#thinkKey)));
  }
}

/** Uniform on (0, 1). */
function share(connection: number, request: number, key: number): number {
  return (jhash3(connection, request, key, key) + 0.5) / 4294967296;
}
