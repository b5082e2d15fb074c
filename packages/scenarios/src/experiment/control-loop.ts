import type { Simulation, Streams } from '@vipsim/sim-core';
import {
  PriceList,
  startSyncRunner,
  type EndpointsMap,
  type Proxier,
  type SyncFailure,
  type SyncPlan,
  type SyncRunner,
  type Wait,
} from '@vipsim/proxiers';
import type { ClusterDay } from '../cluster/cluster-day.ts';
import { REMOVED, type SliceDelivery } from '../cluster/control-plane.ts';
import type { Observations } from './observations.ts';
import type { RunTrace } from './run-trace.ts';

const AT_ONCE: Wait = { ns: 0 };

/**
 * The node's control half in virtual time: the watch delivers slices, the runner decides when to sync, the stages
 * of the plan take the time of their counts and come into force one after another. Until then packets meet the
 * old tables. A sync has a core of its own: it neither slows packets down nor is slowed by them.
 *
 * A sync that fails is repeated in full, when the runner says so. kube-proxy has emptied its trackers by then: the
 * changes are in its maps, but the times at which they were triggered are gone, so that they never show in the
 * network programming latency (EndpointsMap.Update in pkg/proxy/endpointschangetracker.go). Cilium's reconciler
 * keeps what it could not write.
 */
export class ControlLoop {
  readonly #simulation: Simulation;
  readonly #day: ClusterDay;
  readonly #endpoints: EndpointsMap;
  readonly #proxier: Proxier;
  readonly #prices: PriceList;
  readonly #workingSets: Float64Array;
  readonly #observations: Observations;
  readonly #trace: RunTrace | undefined;
  readonly #runner: SyncRunner;
  /** Service ports that differ from what was last programmed. */
  readonly #changed = new Set<number>();
  #changeTimes: number[] = [];
  #needsFull = false;
  /** When the other thread will have done what it was given. */
  #asideUntilNs = 0;
  readonly #endNs: number;

  constructor(setup: {
    readonly simulation: Simulation;
    readonly day: ClusterDay;
    readonly endpoints: EndpointsMap;
    readonly proxier: Proxier;
    readonly prices: PriceList;
    readonly operations: number;
    readonly observations: Observations;
    readonly streams: Streams;
    readonly endNs: number;
    readonly trace: RunTrace | undefined;
  }) {
    const { simulation, day, proxier } = setup;
    this.#simulation = simulation;
    this.#day = day;
    this.#endpoints = setup.endpoints;
    this.#proxier = proxier;
    this.#prices = setup.prices;
    this.#workingSets = new Float64Array(setup.operations);
    this.#observations = setup.observations;
    this.#trace = setup.trace;
    this.#endNs = setup.endNs;
    this.#programAll();
    const { trigger } = proxier;
    const phase =
      trigger.kind === 'ticker' ? setup.streams.stream('ticker.phase').below(trigger.periodNs) : 0;
    this.#runner = startSyncRunner(simulation, trigger, phase, (finished) => this.#sync(finished));
    if (this.#needsFull) simulation.schedule(trigger.retryNs, () => this.#runner.request());
    const { watch } = this.#proxier;
    if (watch !== undefined && watch.periodNs > 0) this.#keepWatch(watch.periodNs, watch.counts);
    const deliver = simulation.on((index) => this.#receive(day.deliveries[index]!), 'slice delivery');
    day.deliveries.forEach((delivery, index) => simulation.at(delivery.atNs, deliver, index));
  }

  /** Price operations by the tables as they are now. */
  refreshPrices(): void {
    this.#proxier.dataplane.workingSets(this.#workingSets);
    this.#prices.refresh(this.#workingSets);
  }

  /** The first, full sync, before the run begins: its duration is reported, not waited for. */
  #programAll(): void {
    const all = Array.from({ length: this.#day.cluster.ports.count }, (_, port) => port);
    const plan = this.#proxier.sync(all, true);
    this.refreshPrices();
    if (plan.aside !== undefined) this.#addCounts(plan.aside);
    for (const stage of plan.stages) {
      this.#observations.initialSyncNs += this.#prices.total(stage.counts);
      this.#addCounts(stage.counts);
      stage.commit();
    }
    if (plan.failure !== undefined) this.#fail(plan.failure);
    this.refreshPrices();
  }

  #receive(delivery: SliceDelivery): void {
    delivery.endpoints.forEach((endpoint, i) => {
      const conditions = delivery.conditions[i]!;
      if (conditions === REMOVED) this.#endpoints.remove(endpoint);
      else this.#endpoints.add(endpoint, conditions);
      this.#changed.add(this.#day.cluster.endpoints.servicePort[endpoint]!);
    });
    this.#changeTimes.push(delivery.changedNs);
    this.#trace?.delivered(delivery.endpoints.length, this.#simulation.nowNs);
    this.#observations.second(this.#simulation.nowNs).endpointChanges += delivery.endpoints.length;
    this.#runner.request();
  }

  #sync(finished: (succeeded: boolean) => void): void {
    const changed = [...this.#changed].sort((x, y) => x - y);
    const changeTimes = this.#changeTimes;
    this.#changed.clear();
    this.#changeTimes = [];
    this.#proxier.tell?.(this.#simulation.nowNs);
    const plan = this.#proxier.sync(changed, this.#needsFull);
    if (plan.aside !== undefined) this.#doAside(plan.aside);
    this.#observations.second(this.#simulation.nowNs).syncs++;
    this.#trace?.syncStarts(plan, changed.length, this.#simulation.nowNs);
    this.#perform(plan, 0, this.#simulation.nowNs, (failure) => {
      if (failure === undefined) {
        this.#needsFull = false;
        for (const changedNs of changeTimes) {
          this.#observations.programmingNs.record(this.#simulation.nowNs - changedNs);
          this.#trace?.inForce(changedNs, this.#simulation.nowNs);
        }
      } else {
        for (const port of changed) this.#changed.add(port);
        if (this.#proxier.trigger.kind !== 'bounded')
          this.#changeTimes = [...changeTimes, ...this.#changeTimes];
        this.#fail(failure);
      }
      finished(failure === undefined);
    });
  }

  #perform(plan: SyncPlan, index: number, startNs: number, done: (failure?: SyncFailure) => void): void {
    const stage = plan.stages[index];
    if (stage === undefined) {
      this.#end(plan, startNs);
      done(plan.failure);
      return;
    }
    this.#proxier.tell?.(this.#simulation.nowNs);
    const { ns, failure } = stage.wait?.() ?? AT_ONCE;
    const begin = (): void => this.#work(plan, index, startNs, done);
    const giveUp = (): void => {
      this.#end(plan, startNs);
      this.#traceFailure(failure!);
      done(failure);
    };
    if (failure !== undefined) this.#simulation.schedule(ns, giveUp);
    else if (ns > 0) this.#simulation.schedule(ns, begin);
    else begin();
  }

  #work(plan: SyncPlan, index: number, startNs: number, done: (failure?: SyncFailure) => void): void {
    const stage = plan.stages[index]!;
    const costNs = this.#spend(stage.counts);
    this.#trace?.stageStarts(stage.counts, costNs, this.#simulation.nowNs);
    this.#simulation.schedule(costNs, () => {
      this.#proxier.tell?.(this.#simulation.nowNs);
      stage.commit();
      this.refreshPrices();
      this.#perform(plan, index + 1, startNs, done);
    });
  }

  #end(plan: SyncPlan, startNs: number): void {
    const { fullSyncNs, partialSyncNs } = this.#observations;
    (plan.scope === 'full' ? fullSyncNs : partialSyncNs).record(this.#simulation.nowNs - startNs);
  }

  /** Another thread's work, one piece at a time: what falls due meanwhile is part of it. */
  #doAside(counts: Float64Array): void {
    const { nowNs } = this.#simulation;
    if (nowNs >= this.#asideUntilNs) this.#asideUntilNs = nowNs + this.#spend(counts);
  }

  #keepWatch(periodNs: number, counts: Float64Array): void {
    const look = this.#simulation.on(() => {
      this.#spend(counts);
      this.#simulation.at(this.#simulation.nowNs + periodNs, look);
    }, 'watch of tables');
    this.#simulation.at(this.#simulation.nowNs + periodNs, look);
  }

  /** Count work of the control half that begins now; returns how long it takes. */
  #spend(counts: Float64Array): number {
    const costNs = this.#prices.total(counts);
    // Work beyond the end of the run is not part of it.
    this.#observations.controlNs += Math.min(costNs, this.#endNs - this.#simulation.nowNs);
    this.#addCounts(counts);
    return costNs;
  }

  /** The plan did not know yet, when the trace was told of it. */
  #traceFailure(failure: SyncFailure): void {
    const syncs = this.#trace?.syncs;
    const last = syncs?.at(-1);
    if (syncs !== undefined && last !== undefined)
      syncs[syncs.length - 1] = { ...last, failure: failure.error };
  }

  #fail(failure: SyncFailure): void {
    this.#needsFull = true;
    this.#observations.syncFailures++;
    this.#observations.lastFailure = failure;
  }

  #addCounts(counts: Float64Array): void {
    const totals = this.#observations.controlCounts;
    for (let i = 0; i < counts.length; i++) totals[i]! += counts[i]!;
  }
}
