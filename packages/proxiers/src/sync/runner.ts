import type { Simulation } from '@vipsim/sim-core';
import type { SyncTrigger } from '../proxier.ts';

/** One sync: takes virtual time, then reports whether it succeeded. */
export type SyncWork = (finished: (succeeded: boolean) => void) => void;

/** Decides when a proxier syncs; `request` says that something changed. */
export interface SyncRunner {
  request(): void;
}

export function startSyncRunner(
  simulation: Simulation,
  trigger: SyncTrigger,
  phaseNs: number,
  work: SyncWork,
): SyncRunner {
  return trigger.kind === 'bounded'
    ? new BoundedFrequencyRunner(simulation, trigger, work)
    : new Ticker(simulation, trigger, phaseNs, work);
}

/**
 * kube-proxy's limiter: one queued request at most; after idle it runs at once, and between the end of one run
 * and the start of the next lie at least minIntervalNs. A failed run is tried again after retryNs, or at the
 * next request. Without a request it runs once every maxIntervalNs.
 * Source: pkg/proxy/runner/bounded_frequency_runner.go (1.34 and later; before, a token bucket with burst 2).
 */
class BoundedFrequencyRunner implements SyncRunner {
  readonly #simulation: Simulation;
  readonly #trigger: Extract<SyncTrigger, { kind: 'bounded' }>;
  readonly #work: SyncWork;
  #queued = false;
  /** Running, or waiting out the minimum interval. */
  #held = false;
  #timer: number | undefined;

  constructor(simulation: Simulation, trigger: Extract<SyncTrigger, { kind: 'bounded' }>, work: SyncWork) {
    this.#simulation = simulation;
    this.#trigger = trigger;
    this.#work = work;
    this.#wake(trigger.maxIntervalNs);
  }

  request(): void {
    this.#queued = true;
    if (!this.#held) this.#run();
  }

  #run(): void {
    this.#queued = false;
    this.#held = true;
    if (this.#timer !== undefined) this.#simulation.cancel(this.#timer);
    this.#timer = undefined;
    this.#work((succeeded) => {
      const { maxIntervalNs, retryNs, minIntervalNs } = this.#trigger;
      this.#wake(succeeded ? maxIntervalNs : Math.min(retryNs, maxIntervalNs));
      this.#simulation.schedule(minIntervalNs, () => {
        this.#held = false;
        if (this.#queued) this.#run();
      });
    });
  }

  #wake(delayNs: number): void {
    this.#timer = this.#simulation.schedule(delayNs, () => {
      this.#timer = undefined;
      this.request();
    });
  }
}

/**
 * A free-running ticker, started at its own phase, that works off what has gathered since the last tick. Ticks
 * that fall into a running sync are lost. A failed sync is tried again after retryNs.
 * Source: Cilium 1.18 and later, the load-balancing reflector's buffer (cilium/stream operators.go).
 */
class Ticker implements SyncRunner {
  readonly #simulation: Simulation;
  readonly #trigger: Extract<SyncTrigger, { kind: 'ticker' }>;
  readonly #work: SyncWork;
  #queued = false;
  #running = false;

  constructor(
    simulation: Simulation,
    trigger: Extract<SyncTrigger, { kind: 'ticker' }>,
    phaseNs: number,
    work: SyncWork,
  ) {
    this.#simulation = simulation;
    this.#trigger = trigger;
    this.#work = work;
    const tick = simulation.on(() => {
      simulation.at(simulation.nowNs + trigger.periodNs, tick);
      if (this.#queued && !this.#running) this.#run();
    }, 'tick');
    simulation.at(simulation.nowNs + phaseNs, tick);
  }

  request(): void {
    this.#queued = true;
  }

  #run(): void {
    this.#queued = false;
    this.#running = true;
    this.#work((succeeded) => {
      this.#running = false;
      if (!succeeded) this.#simulation.schedule(this.#trigger.retryNs, () => this.request());
    });
  }
}
