import { longer, Streams, type Packet } from '@vipsim/sim-core';
import type { Cluster, CostProfile, Mode, SyncPlan, Verdict } from '@vipsim/proxiers';
import { planDay, type ClusterDay } from '../cluster/cluster-day.ts';
import type { Scenario } from '../scenario/scenario.ts';
import { CountLog } from './count-log.ts';
import { runMode } from './node-run.ts';
import { PacketLog } from './packet-log.ts';

/** `ending` of a connection that was open when the run ended. */
export const UNFINISHED = 255;

export const TRACE_CONNECTIONS = 1_000;

interface TracedSync {
  readonly atNs: number;
  readonly scope: SyncPlan['scope'];
  readonly servicePorts: number;
  readonly failure: string;
  /** Its first row in the columns of stages, and how many have begun. */
  readonly firstStage: number;
  stages: number;
}

/**
 * What one run of a mode did, in the detail that viewers need: packets of the first connections, and everything
 * that the control half did. It only listens: nothing in a run reads it.
 */
export class RunTrace {
  readonly mode: Mode;
  readonly day: ClusterDay;
  readonly scenario: Scenario;
  readonly packets = new PacketLog();
  readonly packetCounts: CountLog;
  readonly stageCounts: CountLog;

  /** Connections seen, at most those that were asked for; the rows of the three columns. */
  connections = 0;
  servicePort: Uint32Array = new Uint32Array(0);
  openedNs: Float64Array = new Float64Array(0);
  closedNs: Float64Array = new Float64Array(0);
  ending: Uint8Array = new Uint8Array(0);

  readonly syncs: TracedSync[] = [];
  stages = 0;
  stageNs: Float64Array = new Float64Array(1024);
  stageCostNs: Float64Array = new Float64Array(1024);
  /** EndpointSlice updates that the watch delivered. */
  readonly deliveries: { readonly atNs: number; readonly endpoints: number }[] = [];
  /** Changes of pods, and when the tables on the node had followed them. */
  readonly followed: { readonly changedNs: number; readonly inForceNs: number }[] = [];

  readonly #connectionsMax: number;

  constructor(mode: Mode, day: ClusterDay, scenario: Scenario, connectionsMax: number) {
    this.mode = mode;
    this.day = day;
    this.scenario = scenario;
    this.#connectionsMax = connectionsMax;
    this.packetCounts = new CountLog(mode.operations);
    this.stageCounts = new CountLog(mode.operations);
  }

  opened(connection: number, servicePort: number, nowNs: number): void {
    if (connection >= this.#connectionsMax) return;
    if (connection >= this.ending.length) this.#widen(Math.max(1024, 2 * this.ending.length));
    this.connections = connection + 1;
    this.servicePort[connection] = servicePort;
    this.openedNs[connection] = nowNs;
    this.ending[connection] = UNFINISHED;
  }

  closed(connection: number, ending: number, nowNs: number): void {
    if (connection >= this.#connectionsMax) return;
    this.closedNs[connection] = nowNs;
    this.ending[connection] = ending;
  }

  processed(
    connection: number,
    packet: Packet,
    reply: boolean,
    work: { core: number; atNs: number; doneNs: number; costNs: number; dataplaneNs: number },
    verdict: Verdict,
  ): void {
    if (connection >= this.#connectionsMax) return;
    this.packets.addProcessed(connection, packet, reply, work, verdict, this.packetCounts.length);
    this.packetCounts.add(verdict.counts);
  }

  refused(connection: number, packet: Packet, reply: boolean, core: number, nowNs: number): void {
    if (connection >= this.#connectionsMax) return;
    this.packets.addRefused(connection, packet, reply, core, nowNs);
  }

  delivered(endpoints: number, nowNs: number): void {
    this.deliveries.push({ atNs: nowNs, endpoints });
  }

  syncStarts(plan: SyncPlan, servicePorts: number, nowNs: number): void {
    const failure = plan.failure === undefined ? '' : plan.failure.error;
    const { scope } = plan;
    this.syncs.push({ atNs: nowNs, scope, servicePorts, failure, firstStage: this.stages, stages: 0 });
  }

  stageStarts(counts: Float64Array, costNs: number, nowNs: number): void {
    if (this.stages === this.stageNs.length) {
      this.stageNs = longer(this.stageNs, 2 * this.stages);
      this.stageCostNs = longer(this.stageCostNs, 2 * this.stages);
    }
    this.stageNs[this.stages] = nowNs;
    this.stageCostNs[this.stages++] = costNs;
    this.stageCounts.add(counts);
    this.syncs.at(-1)!.stages++;
  }

  inForce(changedNs: number, nowNs: number): void {
    this.followed.push({ changedNs, inForceNs: nowNs });
  }

  #widen(capacity: number): void {
    this.servicePort = longer(this.servicePort, capacity);
    this.openedNs = longer(this.openedNs, capacity);
    this.closedNs = longer(this.closedNs, capacity);
    this.ending = longer(this.ending, capacity);
  }
}

/** A mode through the day that a comparison would show it, with a trace of its first connections. */
export function traceRun(
  mode: Mode,
  cluster: Cluster,
  scenario: Scenario,
  profile: CostProfile,
  connectionsMax = TRACE_CONNECTIONS,
): RunTrace {
  const day = planDay(cluster, scenario, new Streams(scenario.seed));
  const trace = new RunTrace(mode, day, scenario, connectionsMax);
  runMode(mode, day, scenario, profile, undefined, trace);
  return trace;
}
