import { NS_PER_S, type Histogram } from '@vipsim/sim-core';
import {
  READY,
  servicePortName,
  type Mode,
  type PriceList,
  type Proxier,
  type SyncFailure,
} from '@vipsim/proxiers';
import type { ClusterDay } from '../cluster/cluster-day.ts';
import type { Distribution, ModeResult } from '../report/result.ts';
import { modeOptions, type Scenario } from '../scenario/scenario.ts';
import { BROKEN, OK, REFUSED, TIMED_OUT, type Observations } from './observations.ts';
import type { Traffic } from './traffic.ts';

/** Turn what a run saw into its part of the result document. */
export function modeResult(run: {
  readonly mode: Mode;
  readonly proxier: Proxier;
  readonly day: ClusterDay;
  readonly scenario: Scenario;
  readonly prices: PriceList;
  readonly observations: Observations;
  readonly traffic: Traffic;
  readonly initialFailure: SyncFailure | undefined;
}): ModeResult {
  const { mode, proxier, day, scenario, observations, traffic } = run;
  const { dataplane } = proxier;
  const options = modeOptions(scenario, mode.name);
  const tables = dataplane
    .tables()
    .map(({ name, entries, bytes }) => ({ name, entries, bytes: Math.round(bytes) }));
  const { peak, inserts, drops, earlyDrops, portExhaustions } = dataplane.connections();
  return {
    mode: mode.name,
    title: titleOf(mode, options),
    options,
    outcome:
      run.initialFailure === undefined
        ? { kind: 'ok' }
        : { kind: 'failed', error: run.initialFailure.error, message: run.initialFailure.message },
    notes: [...(proxier.remarks?.() ?? []), ...trafficRemarks(run)],
    tables,
    memoryBytes: tables.reduce((sum, table) => sum + table.bytes, 0),
    lookup: {
      first: distribution(observations.firstNs),
      established: distribution(observations.establishedNs),
      operations: operationMeans(mode, observations),
    },
    connectLatency: distribution(observations.connectNs),
    cpu: cpuOf(scenario, observations),
    throughput: throughputOf(scenario, observations, traffic),
    sync: {
      initialNs: observations.initialSyncNs,
      full: { count: observations.fullSyncNs.count, duration: distribution(observations.fullSyncNs) },
      partial: {
        count: observations.partialSyncNs.count,
        duration: distribution(observations.partialSyncNs),
      },
      failures: observations.syncFailures,
      lastFailure: lastFailureText(observations.lastFailure),
      operations: mode.operations
        .map((name, i) => ({ name, total: observations.controlCounts[i]! }))
        .filter(({ total }) => total > 0),
    },
    programmingLatency: distribution(observations.programmingNs),
    connections: connectionsOf(observations, traffic),
    conntrack: { peak, inserts, drops, earlyDrops, portExhaustions },
    balance: balanceOf(day, observations),
    timeline: observations.seconds.map((second, i) => ({ atNs: i * NS_PER_S, ...second })),
  };
}

function lastFailureText(failure: SyncFailure | undefined): string {
  return failure === undefined ? '' : `${failure.error}: ${failure.message}`;
}

/** What overflowed on the observed node, and what would have held it. */
function trafficRemarks(run: { proxier: Proxier; scenario: Scenario; traffic: Traffic }): string[] {
  const { drops } = run.proxier.dataplane.connections();
  const remarks: string[] = [];
  if (drops > 0) {
    const { maxPerCore, min } = run.scenario.conntrack;
    const max = Math.max(min, maxPerCore * run.scenario.node.cores);
    remarks.push(
      `Connection tracking dropped ${drops} packets; the table holds ${max} connections (conntrack.maxPerCore × node.cores, at least conntrack.min).`,
    );
  }
  if (run.traffic.host.drops > 0) {
    remarks.push(
      `${run.traffic.host.drops} packets found the backlog of their core full (node.backlog ${run.scenario.node.backlog}).`,
    );
  }
  return remarks;
}

/** The mode's title, with the choices that are not the default or that name a variant: `iptables (nft backend)`. */
function titleOf(mode: Mode, options: Readonly<Record<string, string | number | boolean>>): string {
  const variants = Object.entries(mode.options)
    .filter(
      ([name, spec]) => spec.kind === 'choice' && (name === 'backend' || options[name] !== spec.default),
    )
    .map(([name]) => `${String(options[name])} ${name}`);
  return variants.length === 0 ? mode.title : `${mode.title} (${variants.join(', ')})`;
}

function distribution(histogram: Histogram): Distribution {
  const empty = histogram.count === 0;
  return {
    count: histogram.count,
    mean: rounded(histogram.mean()),
    min: empty ? 0 : histogram.min,
    p50: histogram.quantile(0.5),
    p90: histogram.quantile(0.9),
    p99: histogram.quantile(0.99),
    max: histogram.max,
    buckets: Array.from(histogram.buckets(), ([upper, count]) => [upper, count] as [number, number]),
  };
}

function operationMeans(mode: Mode, observations: Observations): ModeResult['lookup']['operations'] {
  const firsts = Math.max(1, observations.firstNs.count);
  const others = Math.max(1, observations.establishedNs.count);
  return mode.operations
    .map((name, i) => ({
      name,
      first: rounded(observations.firstCounts[i]! / firsts),
      established: rounded(observations.establishedCounts[i]! / others),
    }))
    .filter(({ first, established }) => first > 0 || established > 0);
}

function cpuOf(scenario: Scenario, observations: Observations): ModeResult['cpu'] {
  return {
    dataplaneCores: rounded(observations.dataplaneNs / scenario.duration),
    stackCores: rounded(observations.stackNs / scenario.duration),
    controlCores: rounded(observations.controlNs / scenario.duration),
    dataplaneNsPerConnection: rounded(observations.dataplaneNs / Math.max(1, observations.attempted)),
  };
}

function throughputOf(
  scenario: Scenario,
  observations: Observations,
  traffic: Traffic,
): ModeResult['throughput'] {
  const seconds = scenario.duration / NS_PER_S;
  const busiest = Math.max(...traffic.host.busyNs) / scenario.duration;
  const connectionsPerSecond = observations.attempted / seconds;
  return {
    connectionsPerSecond: rounded(connectionsPerSecond),
    packetsPerSecond: rounded(observations.packets / seconds),
    saturationConnectionsPerSecond: busiest === 0 ? 0 : rounded(connectionsPerSecond / busiest),
    busiestCore: rounded(busiest),
  };
}

function connectionsOf(observations: Observations, traffic: Traffic): ModeResult['connections'] {
  const { endings, attempted } = observations;
  const unfinished = traffic.active;
  const ended = endings[OK]! + endings[REFUSED]! + endings[TIMED_OUT]! + endings[BROKEN]!;
  if (ended + unfinished !== attempted) {
    throw new Error(`connections lost: ${attempted} attempted, ${ended} ended, ${unfinished} open`);
  }
  return {
    attempted,
    ok: endings[OK]!,
    refused: endings[REFUSED]!,
    timedOut: endings[TIMED_OUT]!,
    broken: endings[BROKEN]!,
    unfinished,
    sentToDeadEndpoint: observations.sentToDeadEndpoint,
  };
}

/** Over the endpoints of the busiest service port that were ready from the start and had no trouble. */
function balanceOf(day: ClusterDay, observations: Observations): ModeResult['balance'] {
  const { ports, endpoints } = day.cluster;
  let busiest = -1;
  let most = 0;
  for (let port = 0; port < ports.count; port++) {
    let hits = 0;
    for (let row = ports.firstEndpoint[port]!; row < ports.firstEndpoint[port + 1]!; row++)
      hits += observations.hits[row]!;
    if (hits > most) {
      most = hits;
      busiest = port;
    }
  }
  if (busiest < 0)
    return { service: '', endpoints: 0, connections: 0, maxOverMean: 0, coefficientOfVariation: 0 };
  let count = 0;
  let sum = 0;
  let squares = 0;
  let max = 0;
  for (let row = ports.firstEndpoint[busiest]!; row < ports.firstEndpoint[busiest + 1]!; row++) {
    const steady = (endpoints.conditions[row]! & READY) !== 0 && day.timeline.isSteady(endpoints.pod[row]!);
    if (!steady) continue;
    const hits = observations.hits[row]!;
    count++;
    sum += hits;
    squares += hits * hits;
    if (hits > max) max = hits;
  }
  const mean = sum / Math.max(1, count);
  const variance = Math.max(0, squares / Math.max(1, count) - mean * mean);
  return {
    service: servicePortName(day.cluster, busiest),
    endpoints: count,
    connections: sum,
    maxOverMean: mean === 0 ? 0 : rounded(max / mean),
    coefficientOfVariation: mean === 0 ? 0 : rounded(Math.sqrt(variance) / mean),
  };
}

/** Six decimals: enough for every figure shown, and free of noise in the last bit. */
function rounded(value: number): number {
  return Math.round(value * 1e6) / 1e6;
}
