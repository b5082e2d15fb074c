import type { ConntrackTable } from '@vipsim/sim-core';
import type { TableSize } from '../proxier.ts';
import type { Director } from './director.ts';
import {
  CONNTRACK_CREATE,
  CONNTRACK_LOOKUP,
  CONNTRACK_STEP,
  CREATE,
  FLUSH_STEP,
  LIST_STEP,
  LOOKUP,
  PROBE,
  SCHEDULE_STEP,
  SERVICE_PROBE,
  SET_COMPARE,
  SET_LOOKUP,
} from './operations.ts';
import type { Sets } from './sets.ts';

/** Slab sizes of ip_vs_conn, ip_vs_dest and ip_vs_service, Linux 6.1 on x86-64; statistics are per CPU. */
const CONNECTION_BYTES = 320;
const SERVER_BYTES = 512;
const SERVICE_BYTES = 512;
const STATISTICS_BYTES = 40;

/** The kernel's tables with the bytes that they hold. */
export function ipvsTables(
  director: Director,
  sets: Sets,
  conntrack: ConntrackTable,
  cores: number,
): readonly TableSize[] {
  const { services, servers, connections, trash } = director;
  const statistics = STATISTICS_BYTES * cores;
  const tables = [
    {
      name: 'virtual servers',
      entries: services.count,
      bytes: services.count * (SERVICE_BYTES + statistics),
    },
    { name: 'real servers', entries: servers.count, bytes: servers.count * (SERVER_BYTES + statistics) },
    { name: 'removed servers', entries: trash.size, bytes: trash.size * (SERVER_BYTES + statistics) },
    {
      name: 'IPVS connections',
      entries: connections.count,
      bytes: connections.count * CONNECTION_BYTES + connections.buckets * 8,
    },
    { name: 'conntrack', entries: conntrack.count, bytes: conntrack.memory() },
  ];
  for (const set of Object.values(sets)) {
    tables.push({ name: `ipset ${set.name}`, entries: set.count, bytes: set.memory() });
  }
  return tables;
}

/** Bytes behind each operation. */
export function ipvsWorkingSets(
  director: Director,
  sets: Sets,
  conntrackBytes: number,
  out: Float64Array,
): void {
  const { services, servers, connections } = director;
  const connectionBytes = connections.count * CONNECTION_BYTES;
  const setBytes = sets['KUBE-CLUSTER-IP'].memory();
  out.fill(0);
  out[CONNTRACK_LOOKUP] = conntrackBytes;
  out[CONNTRACK_STEP] = conntrackBytes;
  out[CONNTRACK_CREATE] = conntrackBytes;
  out[SET_LOOKUP] = setBytes;
  out[SET_COMPARE] = setBytes;
  out[LOOKUP] = connections.buckets * 8;
  out[PROBE] = connectionBytes;
  out[CREATE] = connectionBytes;
  out[FLUSH_STEP] = connectionBytes;
  out[SERVICE_PROBE] = services.count * SERVICE_BYTES;
  out[SCHEDULE_STEP] = servers.count * SERVER_BYTES;
  out[LIST_STEP] = servers.count * SERVER_BYTES;
}
