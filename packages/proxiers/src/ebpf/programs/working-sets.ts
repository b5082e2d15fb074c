import type { FlowMaps } from './flow-maps.ts';
import type { LruHashMap } from '../maps/lru-hash-map.ts';
import * as operations from '../operations.ts';
import type { ServiceMaps } from '../service-maps.ts';

/** Bytes that lookups and updates of each map move through: live entries, and a bucket for each. */
export function programWorkingSets(services: ServiceMaps, flows: FlowMaps, out: Float64Array): void {
  out.fill(0);
  out[operations.SERVICES_LOOKUP] = services.services.liveBytes();
  out[operations.BACKENDS_LOOKUP] = services.backends.liveBytes();
  out[operations.REVNAT_LOOKUP] = services.reverseNat.liveBytes();
  out[operations.AFFINITY_MATCH_LOOKUP] = services.affinityMatch.liveBytes();
  out[operations.LXC_LOOKUP] = flows.lxc.liveBytes();
  out[operations.MAGLEV_LOOKUP] = services.maglev.count * 80;
  out[operations.MAGLEV_READ] = services.maglev.count * services.innerBytes;
  const tracked = flows.ctTcp.liveBytes() + flows.ctAny.liveBytes();
  out[operations.CT_LOOKUP] = tracked;
  out[operations.CT_UPDATE] = tracked;
  spread(out, flows.reverseSk, [operations.REVERSE_SK_LOOKUP, operations.REVERSE_SK_UPDATE]);
  spread(out, flows.neighbours, [operations.NEIGH_LOOKUP, operations.NEIGH_UPDATE]);
  spread(out, flows.snat, [operations.SNAT_LOOKUP, operations.SNAT_UPDATE]);
  spread(out, flows.affinity, [operations.AFFINITY_LOOKUP, operations.AFFINITY_UPDATE]);
}

function spread(out: Float64Array, map: LruHashMap, [lookup, update]: readonly [number, number]): void {
  const bytes = map.liveBytes();
  out[lookup] = bytes;
  out[update] = bytes;
}
