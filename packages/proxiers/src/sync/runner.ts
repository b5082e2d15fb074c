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
  switch (trigger.kind) {
    case 'bounded':
      return new BoundedFrequencyRunner(simulation, trigger, work);
    case 'ticker':
      return new Ticker(simulation, trigger, phaseNs, work);
    case 'timer':
      return new FirstEventTimer(simulation, trigger, work);
  }
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

/** What gathers requests and then syncs. */
type GatheringTrigger = Exclude<SyncTrigger, { kind: 'bounded' }>;

/**
 * What the two runners below share: a buffer of requests that is handed over when its time has come or when it is
 * full, but never into a running sync. A sync that failed is tried again when the trigger's retryNs is over, of its
 * own accord: retries do not pass through the buffer.
 * Source: Cilium 1.18 and later, the load-balancing reflector's buffer (cilium/stream operators.go) and the retries
 * of cilium/statedb's reconciler.
 */
abstract class GatheringRunner implements SyncRunner {
  protected readonly simulation: Simulation;
  readonly #trigger: GatheringTrigger;
  readonly #work: SyncWork;
  #gathered = 0;
  #running = false;
  #retryDue = false;
  #retryTimer: number | undefined;

  constructor(simulation: Simulation, trigger: GatheringTrigger, work: SyncWork) {
    this.simulation = simulation;
    this.#trigger = trigger;
    this.#work = work;
  }

  request(): void {
    this.#gathered++;
    if (this.#running) return;
    if (this.#gathered >= this.#trigger.eventsMax) this.#run();
    else if (this.#gathered === 1) this.gathers();
  }

  /** The first request came into the empty buffer, or waited in it when a sync ended. */
  protected abstract gathers(): void;

  /** The time has come. */
  protected flush(): void {
    if (this.#gathered > 0 && !this.#running) this.#run();
  }

  #run(): void {
    this.#gathered = 0;
    this.#retryDue = false;
    this.#running = true;
    this.#work((succeeded) => {
      this.#running = false;
      if (!succeeded) this.#retryLater();
      if (this.#retryDue || this.#gathered >= this.#trigger.eventsMax) this.#run();
      else if (this.#gathered > 0) this.gathers();
    });
  }

  /** One timer: the trigger knows which of all failures is due first. */
  #retryLater(): void {
    if (this.#retryTimer !== undefined) this.simulation.cancel(this.#retryTimer);
    this.#retryTimer = this.simulation.schedule(this.#trigger.retryNs, () => {
      this.#retryTimer = undefined;
      if (this.#running) this.#retryDue = true;
      else this.#run();
    });
  }
}

/** A free-running ticker, started at its own phase. Ticks that fall into a running sync are lost. */
class Ticker extends GatheringRunner {
  constructor(
    simulation: Simulation,
    trigger: Extract<SyncTrigger, { kind: 'ticker' }>,
    phaseNs: number,
    work: SyncWork,
  ) {
    super(simulation, trigger, work);
    const tick = simulation.on(() => {
      simulation.at(simulation.nowNs + trigger.periodNs, tick);
      this.flush();
    }, 'tick');
    simulation.at(simulation.nowNs + phaseNs, tick);
  }

  protected gathers(): void {}
}

/** A timer that the first request starts; requests that wait while a sync runs start it when that ends. */
class FirstEventTimer extends GatheringRunner {
  readonly #delayNs: number;
  #timer: number | undefined;

  constructor(simulation: Simulation, trigger: Extract<SyncTrigger, { kind: 'timer' }>, work: SyncWork) {
    super(simulation, trigger, work);
    this.#delayNs = trigger.delayNs;
  }

  protected gathers(): void {
    if (this.#timer !== undefined) this.simulation.cancel(this.#timer);
    this.#timer = this.simulation.schedule(this.#delayNs, () => {
      this.#timer = undefined;
      this.flush();
    });
  }
}
