import { TCP } from '@vipsim/sim-core';
import type { Cluster } from '../../packages/proxiers/src/kubernetes/cluster.ts';
import { EndpointsMap } from '../../packages/proxiers/src/kubernetes/endpoints-map.ts';
import { agentOf, clusterOf } from './ebpf-paths-courses.ts';
import { processorNs } from './processor-time.ts';
import type { TurnResult } from './turn.ts';

/** Tables of the eBPF mode by themselves, in a process of their own. */
export type EbpfTablesRequest =
  /** Built by a first sync, then changed by an endpoint at a time. */
  | {
      readonly bench: 'ebpf-build';
      readonly services: number;
      readonly endpoints: number;
      readonly changes: number;
    }
  /** The entry of one Service after another in a scattered order: in our map, or in a Map. */
  | {
      readonly bench: 'ebpf-lookup';
      readonly way: LookupWay;
      readonly services: number;
      readonly endpoints: number;
      readonly lookups: number;
    };

/** The services map; a Map under a number, and under a text that is put together for each lookup. */
export const LOOKUP_WAYS = ['map', 'number', 'string'] as const;
export type LookupWay = (typeof LOOKUP_WAYS)[number];

const STRIDE = 7919;
/** In the key of the Map, which stays a whole number below 2^53. */
const PORTS = 0x10000;

export function takeEbpfTablesTurn(request: EbpfTablesRequest): TurnResult {
  return request.bench === 'ebpf-build' ? takeBuildTurn(request) : takeLookupTurn(request);
}

/**
 * ns of the first sync and, as a part, of a change; bytes held by the agent and its maps, `ownBytes` what the kernel
 * would need for the service maps. The result is how many entries those have.
 */
function takeBuildTurn(request: EbpfTablesRequest & { readonly bench: 'ebpf-build' }): TurnResult {
  const cluster = clusterOf(request.services, request.endpoints);
  const endpoints = new EndpointsMap(cluster);
  const before = bytesHeld();
  const start = processorNs();
  const agent = agentOf(cluster, endpoints, {});
  for (const stage of agent.sync([], true).stages) stage.commit();
  const ns = processorNs() - start;
  const bytes = bytesHeld() - before;
  const tables = agent.dataplane.services.tables();
  const change = (at: number): void => {
    const row = (Math.floor(at / 2) * STRIDE) % cluster.endpoints.count;
    const conditions = cluster.endpoints.conditions[row]!;
    if (at % 2 === 0) endpoints.remove(row);
    else endpoints.add(row, conditions);
    for (const stage of agent.sync([cluster.endpoints.servicePort[row]!], false).stages) stage.commit();
  };
  for (let at = 0; at < request.changes; at++) change(at);
  const changesStart = processorNs();
  for (let at = 0; at < request.changes; at++) change(at);
  const changeNs = (processorNs() - changesStart) / request.changes;
  return {
    ns,
    parts: [changeNs],
    bytes,
    ownBytes: tables.reduce((sum, table) => sum + table.bytes, 0),
    result: tables.reduce((sum, table) => sum + table.entries, 0),
  };
}

/** ns per lookup; the result is the sum of the services found. */
function takeLookupTurn(request: EbpfTablesRequest & { readonly bench: 'ebpf-lookup' }): TurnResult {
  const { services, endpoints, way, lookups } = request;
  const cluster = clusterOf(services, endpoints);
  const { clusterIp, port } = cluster.ports;
  const look =
    way === 'map' ? ourLook(cluster) : way === 'number' ? numberLook(cluster) : stringLook(cluster);
  const run = (times: number): number => {
    let sum = 0;
    let service = 0;
    for (let i = 0; i < times; i++) {
      service = (service + STRIDE) % services;
      sum += look(clusterIp[service]!, port[service]!);
    }
    return sum;
  };
  run(lookups);
  const start = processorNs();
  const result = run(lookups);
  return { ns: (processorNs() - start) / lookups, result };
}

type Look = (address: number, port: number) => number;

/** Frontends have the ids of their services, from 1 on. */
function ourLook(cluster: Cluster): Look {
  const agent = agentOf(cluster, new EndpointsMap(cluster), {});
  for (const stage of agent.sync([], true).stages) stage.commit();
  const maps = agent.dataplane.services;
  return (address, port) => maps.revNat(maps.service(address, port, 0, TCP, 0).find());
}

function numberLook({ ports }: Cluster): Look {
  const map = new Map<number, number>();
  for (let at = 0; at < ports.count; at++) map.set(ports.clusterIp[at]! * PORTS + ports.port[at]!, at + 1);
  return (address, port) => map.get(address * PORTS + port)!;
}

function stringLook({ ports }: Cluster): Look {
  const map = new Map<string, number>();
  for (let at = 0; at < ports.count; at++) map.set(`${ports.clusterIp[at]}:${ports.port[at]}/TCP`, at + 1);
  return (address, port) => map.get(`${address}:${port}/TCP`)!;
}

/** On the heap and outside of it, typed arrays included. */
function bytesHeld(): number {
  globalThis.gc?.();
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
