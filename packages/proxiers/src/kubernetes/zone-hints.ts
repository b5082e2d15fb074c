import { NO_HINT, READY, type Endpoints, type Pods } from './cluster.ts';
import type { NodeTable } from './node-table.ts';

/** An endpoint may carry this much more than its share of a zone's load. */
const OVERLOAD = 0.2;

/**
 * Hint the endpoints from row `first` on, all of one Service, as the EndpointSlice controller does for topology
 * aware routing: each for its own zone, then some given to zones that have fewer than their share of CPUs asks
 * for. Where that cannot be, none is hinted.
 * Source: AddHints and redistributeHints, staging/src/k8s.io/endpointslice/topologycache. Upstream walks maps where
 * zones tie; here they come in the order of the nodes.
 */
export function hintByZone(endpoints: Endpoints, first: number, pods: Pods, nodes: NodeTable): void {
  const members = readyPods(endpoints, first);
  const zones = new Map(members.map((pod) => [pod, nodes.zone(pods.node[pod]!)]));
  const desired = desiredByZone(members.length, nodes.cpuShares());
  const possible = desired !== undefined && ![...zones.values()].includes('');
  if (possible) moveSome(zones, desired);
  for (let row = first; row < endpoints.count; row++) {
    const zone = possible ? zones.get(endpoints.pod[row]!) : undefined;
    endpoints.hint[row] = zone === undefined ? NO_HINT : endpoints.intern([zone], []);
  }
}

/** Each pod once, whatever the number of ports. */
function readyPods(endpoints: Endpoints, first: number): number[] {
  const pods = new Set<number>();
  for (let row = first; row < endpoints.count; row++) {
    if ((endpoints.conditions[row]! & READY) !== 0) pods.add(endpoints.pod[row]!);
  }
  return [...pods];
}

/** Endpoints that each zone is to have; undefined where some zone would get too few. */
function desiredByZone(
  count: number,
  shares: ReadonlyMap<string, number> | undefined,
): ReadonlyMap<string, number> | undefined {
  if (shares === undefined || shares.size > count) return undefined;
  const desired = new Map<string, number>();
  let left = count;
  for (const [zone, share] of shares) {
    const minimum = Math.ceil(share * count * (1 / (1 + OVERLOAD)));
    left -= minimum;
    if (left < 0) return undefined;
    desired.set(zone, Math.max(share * count, minimum));
  }
  return desired;
}

function moveSome(zones: Map<number, string>, desired: ReadonlyMap<string, number>): void {
  const { giving, receiving } = balance(zones, desired);
  for (const [pod, zone] of zones) {
    const gives = giving.get(zone) ?? 0;
    const receiver = [...receiving].find(([, count]) => count > 0)?.[0];
    if (gives === 0 || receiver === undefined) continue;
    giving.set(zone, gives - 1);
    receiving.set(receiver, receiving.get(receiver)! - 1);
    zones.set(pod, receiver);
  }
}

/** Whole endpoints to give and to receive, the greatest difference first, until less than half of one is left. */
function balance(
  zones: ReadonlyMap<number, string>,
  desired: ReadonlyMap<string, number>,
): { giving: Map<string, number>; receiving: Map<string, number> } {
  const have = new Map<string, number>();
  for (const zone of zones.values()) have.set(zone, (have.get(zone) ?? 0) + 1);
  const surplus = new Map<string, number>();
  const lack = new Map<string, number>();
  for (const [zone, target] of desired) {
    const more = (have.get(zone) ?? 0) - target;
    if (more > 0) surplus.set(zone, more);
    else if (more < 0) lack.set(zone, -more);
  }
  const giving = new Map<string, number>();
  const receiving = new Map<string, number>();
  for (;;) {
    const [from, give] = most(surplus);
    const [to, take] = most(lack);
    if ((give < 1 && take < 1) || give < 0.5 || take < 0.5) return { giving, receiving };
    giving.set(from, (giving.get(from) ?? 0) + 1);
    receiving.set(to, (receiving.get(to) ?? 0) + 1);
    surplus.set(from, give - 1);
    lack.set(to, take - 1);
  }
}

function most(zones: ReadonlyMap<string, number>): readonly [string, number] {
  let best: readonly [string, number] = ['', 0];
  for (const entry of zones) if (entry[1] > best[1]) best = entry;
  return best;
}
