import { lognormal, type Simulation, type Stream, type Streams } from '@vipsim/sim-core';
import { READY, SERVING, TERMINATING, type Cluster } from '@vipsim/proxiers';
import type { Scenario } from '../scenario/scenario.ts';
import { ServiceSlices } from './endpoint-slices.ts';
import { CLOSING, DOWN, GONE, LISTENING, PodTimeline } from './pod-timeline.ts';
import { PodIndex } from './pod-index.ts';

/** The endpoint left its slice. */
export const REMOVED = 255;

/** One EndpointSlice event as the watch of the observed node delivers it. */
export interface SliceDelivery {
  readonly atNs: number;
  /** The earliest change of a pod that it tells of. */
  readonly changedNs: number;
  readonly endpoints: readonly number[];
  /** By endpoint: READY | SERVING | TERMINATING, or REMOVED. */
  readonly conditions: readonly number[];
}

const SPREAD = 0.5;

/**
 * From a pod's change to the node's watch: kubelet status, EndpointSlice controller, API server fan-out. Every
 * mode sees what this delivers, at the same instants.
 * Models: one work-queue entry per Service, slices of at most 100 endpoints, writes one after another, an ordered
 * watch. Delays are lognormal around the scenario's medians (sigma 0.5).
 * Source: pkg/controller/endpointslice, staging/src/k8s.io/endpointslice.
 * Not modelled: API server load, retries, leader changes, hints.
 */
export class ControlPlane {
  readonly deliveries: SliceDelivery[] = [];
  readonly timeline = new PodTimeline();
  endpointChanges = 0;

  readonly #cluster: Cluster;
  readonly #simulation: Simulation;
  readonly #options: Scenario['controlPlane'];
  readonly #index: PodIndex;
  readonly #delays: Stream;
  readonly #conditions = new Map<number, number>();
  readonly #slices = new Map<number, ServiceSlices>();
  /** Services whose queue entry waits: by pod, when it first changed. */
  readonly #dirty = new Map<number, Map<number, number>>();
  #watchNs = 0;

  constructor(
    cluster: Cluster,
    index: PodIndex,
    simulation: Simulation,
    streams: Streams,
    options: Scenario['controlPlane'],
  ) {
    this.#cluster = cluster;
    this.#index = index;
    this.#simulation = simulation;
    this.#options = options;
    this.#delays = streams.stream('control-plane.delays');
  }

  /** A pod was created now and will be ready after `startNs`; `onReady` runs then. */
  create(pod: number, startNs: number, onReady: () => void): void {
    this.timeline.set(pod, this.#simulation.nowNs, DOWN);
    this.#set(pod, 0, this.#simulation.nowNs);
    this.#simulation.schedule(startNs, () => {
      this.timeline.set(pod, this.#simulation.nowNs, LISTENING);
      this.#report(pod, READY | SERVING);
      onReady();
    });
  }

  /**
   * A pod is deleted now: the API server marks it terminating and the kubelet signals it at once, without order
   * between the two. It serves what it has until it exits.
   */
  terminate(pod: number): void {
    const nowNs = this.#simulation.nowNs;
    this.timeline.set(pod, nowNs + this.#options.shutdownDelay, CLOSING);
    this.#set(pod, SERVING | TERMINATING, nowNs);
    this.#simulation.schedule(this.#options.shutdownDelay + this.#options.terminationTime, () => {
      this.timeline.set(pod, this.#simulation.nowNs, GONE);
      this.#set(pod, REMOVED, this.#simulation.nowNs);
    });
  }

  /** A pod's process dies now and is back after `restartNs`. */
  crash(pod: number, restartNs: number, onReady: () => void): void {
    this.timeline.set(pod, this.#simulation.nowNs, DOWN);
    this.#report(pod, 0);
    this.#simulation.schedule(restartNs, () => {
      this.timeline.set(pod, this.#simulation.nowNs, LISTENING);
      this.#report(pod, READY | SERVING);
      onReady();
    });
  }

  /** The kubelet notices a change of readiness and tells the API server. */
  #report(pod: number, conditions: number): void {
    const changedNs = this.#simulation.nowNs;
    this.#simulation.schedule(this.#delay(this.#options.statusDelay), () => {
      const known = this.#conditions.get(pod) ?? READY | SERVING;
      // A pod already marked for deletion is not made ready again by a late report.
      if (known !== REMOVED && (known & TERMINATING) === 0) this.#set(pod, conditions, changedNs);
    });
  }

  #set(pod: number, conditions: number, changedNs: number): void {
    this.#conditions.set(pod, conditions);
    for (const service of this.#index.servicesOf(pod)) {
      const waiting = this.#dirty.get(service);
      if (waiting !== undefined) {
        if (!waiting.has(pod)) waiting.set(pod, changedNs);
        continue;
      }
      this.#dirty.set(service, new Map([[pod, changedNs]]));
      this.#simulation.schedule(this.#delay(this.#options.controllerDelay), () => this.#syncService(service));
    }
  }

  #syncService(service: number): void {
    const dirty = this.#dirty.get(service)!;
    this.#dirty.delete(service);
    const slices = this.#slicesOf(service);
    const pods = [...dirty.keys()];
    const gone = pods.filter((pod) => this.#conditions.get(pod) === REMOVED);
    const present = pods.filter((pod) => this.#conditions.get(pod) !== REMOVED);
    for (const written of slices.reconcile(present, gone)) this.#deliver(service, written, dirty);
  }

  #deliver(service: number, pods: readonly number[], changed: ReadonlyMap<number, number>): void {
    const endpoints: number[] = [];
    const conditions: number[] = [];
    let changedNs = Infinity;
    for (const pod of pods) {
      changedNs = Math.min(changedNs, changed.get(pod)!);
      for (const endpoint of this.#index.endpointsOf(pod)) {
        const port = this.#cluster.endpoints.servicePort[endpoint]!;
        if (this.#cluster.ports.service[port] !== service) continue;
        endpoints.push(endpoint);
        conditions.push(this.#conditions.get(pod)!);
      }
    }
    this.endpointChanges += endpoints.length;
    // A watch is a stream: what was written first arrives first.
    this.#watchNs = Math.max(this.#watchNs, this.#simulation.nowNs + this.#delay(this.#options.watchDelay));
    this.deliveries.push({ atNs: this.#watchNs, changedNs, endpoints, conditions });
  }

  /** The Service's slices, laid out from the pods that it had before the first change. */
  #slicesOf(service: number): ServiceSlices {
    let slices = this.#slices.get(service);
    if (slices === undefined) {
      slices = new ServiceSlices(this.#index.initialPodsOf(service), this.#options.endpointsPerSlice);
      this.#slices.set(service, slices);
    }
    return slices;
  }

  #delay(medianNs: number): number {
    return Math.round(lognormal(this.#delays, medianNs, SPREAD));
  }
}
