import { READY, TERMINATING, type Cluster } from '../../kubernetes/cluster.ts';
import type { NodeContext } from '../../proxier.ts';
import { tabledAddresses, type Frontend } from './frontends.ts';

/** What the syncer has written for a service port. */
export interface ServiceState {
  readonly id: number;
  readonly affinityS: number;
  readonly frontends: readonly Frontend[];
  /** Addresses with a Maglev table. */
  readonly tabled: readonly number[];
  /** Endpoint rows by ordinal; -1 where the map was full. */
  rows: Int32Array;
  /** Of each frontend entry: count and local count as written, -1 while it is not. */
  readonly counts: Int32Array;
  readonly locals: Int32Array;
  /** Endpoint rows by slot of the tables. */
  table: Int32Array | undefined;
}

export const NO_ROWS = new Int32Array(0);

export function newState(id: number, affinityS: number, frontends: readonly Frontend[]): ServiceState {
  return {
    id,
    affinityS,
    frontends,
    tabled: tabledAddresses(frontends),
    rows: NO_ROWS,
    counts: new Int32Array(frontends.length).fill(-1),
    locals: new Int32Array(frontends.length).fill(-1),
    table: undefined,
  };
}

export interface Backends {
  /** Ready endpoints: those of this node, then the others, both in the order of their texts. */
  readonly rows: Int32Array;
  readonly local: number;
}

/**
 * The endpoints of a service port by ordinal. There is no fallback to terminating ones.
 * Source: updateService, felix/bpf/proxy/syncer.go, which is given them sorted as `address:port`.
 * Not modelled: topology hints.
 */
export function backendsOf({ cluster, endpoints, node }: NodeContext, servicePort: number): Backends {
  const ready = endpoints.of(servicePort).filter((row) => (endpoints.conditions[row]! & READY) !== 0);
  const isLocal = (row: number): boolean => cluster.pods.node[cluster.endpoints.pod[row]!] === node;
  const sorted = sortedByText(cluster, ready);
  const rows = new Int32Array(sorted.length);
  let local = 0;
  for (const row of sorted) if (isLocal(row)) rows[local++] = row;
  let at = local;
  for (const row of sorted) if (!isLocal(row)) rows[at++] = row;
  return { rows, local };
}

/** Whether connections to an endpoint may stay. */
export function mayStay(conditions: number): boolean {
  return (conditions & (READY | TERMINATING)) !== 0;
}

function sortedByText(cluster: Cluster, rows: Int32Array): number[] {
  const texts = Array.from(rows, (row) => cluster.endpoints.text(row));
  const order = Array.from(rows, (_, index) => index);
  order.sort((a, b) => (texts[a]! < texts[b]! ? -1 : texts[a]! > texts[b]! ? 1 : a - b));
  return order.map((index) => rows[index]!);
}
