import {
  exponential,
  lognormal,
  NS_PER_S,
  type Simulation,
  type Stream,
  type Streams,
} from '@vipsim/sim-core';
import type { Cluster } from '@vipsim/proxiers';
import type { ControlPlane } from '../cluster/control-plane.ts';
import type { FreeAddresses } from '../cluster/free-addresses.ts';
import type { PodIndex } from '../cluster/pod-index.ts';
import type { Scenario } from '../scenario/scenario.ts';

const MINUTE = 60 * NS_PER_S;

/**
 * What happens to workloads: rolling restarts, scaling and crashes, each a Poisson process over the workloads that
 * have endpoints. A workload in the middle of a rollout is left alone by the others.
 * Source: Deployment defaults maxSurge 25 % (rounded up) and maxUnavailable 25 % (rounded down); StatefulSets and
 * DaemonSets replace one pod at a time.
 */
export class Churn {
  readonly #cluster: Cluster;
  readonly #index: PodIndex;
  readonly #controlPlane: ControlPlane;
  readonly #addresses: FreeAddresses;
  readonly #simulation: Simulation;
  readonly #options: Scenario['churn'];
  readonly #starts: Stream;
  readonly #nodes: Stream;
  readonly #eligible: number[] = [];
  readonly #members = new Map<number, number[]>();
  readonly #busy = new Set<number>();

  constructor(
    cluster: Cluster,
    index: PodIndex,
    controlPlane: ControlPlane,
    addresses: FreeAddresses,
    simulation: Simulation,
    streams: Streams,
    options: Scenario['churn'],
  ) {
    this.#cluster = cluster;
    this.#index = index;
    this.#controlPlane = controlPlane;
    this.#addresses = addresses;
    this.#simulation = simulation;
    this.#options = options;
    this.#starts = streams.stream('churn.starts');
    this.#nodes = streams.stream('churn.nodes');
    cluster.workloads.forEach((workload, i) => {
      if (workload.pods.some((pod) => index.endpointsOf(pod).length > 0)) this.#eligible.push(i);
    });
  }

  /** Schedule the first of each kind; each schedules the next of its kind. */
  start(streams: Streams): void {
    const { rolloutsPerMinute, scalingsPerMinute, crashesPerMinute } = this.#options;
    if (this.#eligible.length === 0) return;
    this.#repeat(rolloutsPerMinute, streams.stream('churn.rollouts'), (workload) => this.#rollOut(workload));
    const scalings = streams.stream('churn.scalings');
    this.#repeat(scalingsPerMinute, scalings, (workload) => this.#scale(workload, scalings.uniform() < 0.5));
    const crashes = streams.stream('churn.crashes');
    this.#repeat(crashesPerMinute, crashes, (workload) => this.#crash(workload, crashes));
  }

  #repeat(perMinute: number, stream: Stream, act: (workload: number) => void): void {
    if (perMinute <= 0) return;
    const next = (): void => {
      this.#simulation.schedule(Math.round(exponential(stream, MINUTE / perMinute)), () => {
        const workload = this.#eligible[stream.below(this.#eligible.length)]!;
        if (!this.#busy.has(workload)) act(workload);
        next();
      });
    };
    next();
  }

  #rollOut(workload: number): void {
    const old = [...this.#pods(workload)];
    if (old.length === 0) return;
    this.#busy.add(workload);
    const size = old.length;
    const oneByOne = this.#cluster.workloads[workload]!.kind !== 'Deployment';
    const surge = oneByOne ? 0 : Math.ceil(size / 4);
    const unavailable = oneByOne ? 1 : Math.floor(size / 4);
    let created = 0;
    let ready = size;
    let total = size;
    const advance = (): void => {
      while (old.length > 0 && ready > size - unavailable) {
        this.#remove(workload, old.shift()!);
        ready--;
        total--;
      }
      while (created < size && total < size + surge) {
        created++;
        total++;
        this.#add(workload, () => {
          ready++;
          if (old.length === 0 && ready === size) this.#busy.delete(workload);
          advance();
        });
      }
    };
    advance();
  }

  /** A quarter more, or a quarter fewer, at least one pod and never down to none. */
  #scale(workload: number, up: boolean): void {
    const pods = this.#pods(workload);
    const by = Math.max(1, Math.round(pods.length / 4));
    if (up) for (let i = 0; i < by; i++) this.#add(workload, () => undefined);
    else for (let i = 0; i < by && pods.length > 1; i++) this.#remove(workload, pods.at(-1)!);
  }

  #crash(workload: number, stream: Stream): void {
    const pods = this.#pods(workload);
    if (pods.length === 0) return;
    this.#busy.add(workload);
    const pod = pods[stream.below(pods.length)]!;
    this.#controlPlane.crash(pod, this.#startTime(), () => this.#busy.delete(workload));
  }

  #add(workload: number, onReady: () => void): void {
    const { pods, nodes } = this.#cluster;
    const like = this.#cluster.workloads[workload]!.pods[0]!;
    const pod = pods.add(this.#addresses.take(), this.#nodes.below(nodes.length), workload);
    this.#index.addLike(pod, like);
    this.#pods(workload).push(pod);
    this.#controlPlane.create(pod, this.#startTime(), onReady);
  }

  #remove(workload: number, pod: number): void {
    const pods = this.#pods(workload);
    pods.splice(pods.indexOf(pod), 1);
    this.#controlPlane.terminate(pod);
  }

  #pods(workload: number): number[] {
    let pods = this.#members.get(workload);
    if (pods === undefined) {
      pods = Array.from(this.#cluster.workloads[workload]!.pods);
      this.#members.set(workload, pods);
    }
    return pods;
  }

  #startTime(): number {
    return Math.round(lognormal(this.#starts, this.#options.podStartTime, 0.5));
  }
}
