import type { Cluster } from '@vipsim/proxiers';
import { targetPorts } from '../workload/arrivals.ts';

/** What a reader must know of the cluster before reading figures: the reader's notes, and who gets no traffic. */
export function clusterRemarks(cluster: Cluster): string[] {
  const silent = cluster.ports.count - targetPorts(cluster).length;
  if (silent === 0) return [...cluster.notes];
  const ports = silent === 1 ? '1 service port gets' : `${silent} service ports get`;
  return [...cluster.notes, `${ports} no connections: without endpoints, or neither TCP nor UDP`];
}
