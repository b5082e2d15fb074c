import type { SyncFailure } from '../../proxier.ts';
import type { Cluster } from '../../kubernetes/cluster.ts';
import { nextPowerOfTwo } from '../maps/buckets.ts';
import { CALICO_SLOTS } from '../maglev/calico-ring.ts';
import { BACKENDS_DEFAULT, FRONTENDS_DEFAULT, type NatMaps } from './nat-maps.ts';
import type { ServiceState } from './service-state.ts';
import type { FullMap } from './sync-writer.ts';

const NEAR = 0.8;
const RATIO = BACKENDS_DEFAULT / FRONTENDS_DEFAULT;
/** bpfMaglevMaxServices and bpfMaglevMaxEndpointsPerService as they are shipped; 1 to 3000. */
const MAGLEV_SERVICES = 100;
const MAGLEV_ENDPOINTS = 100;

/** Why a sync failed, with the sizes and the way out. */
export function overflowOf(
  full: ReadonlySet<FullMap>,
  maps: NatMaps,
  frontends: number,
  backends: number,
): SyncFailure {
  const reasons: string[] = [];
  const option = Math.max(nextPowerOfTwo(frontends), nextPowerOfTwo(Math.ceil(backends / RATIO)));
  if (full.has('backends')) {
    reasons.push(
      `update map cali_v4_nat_be: argument list too long: the cluster needs ${backends} entries, the map holds ${maps.backends.maxEntries}, and no frontend is written before all endpoints are; set bpfMapSizeNATBackend to ${nextPowerOfTwo(backends)} (--set ebpf.lbMapMax=${option}).`,
    );
  }
  if (full.has('frontends')) {
    reasons.push(
      `update map cali_v4_nat_fe: no space left on device: the cluster needs ${frontends} entries, the map holds ${maps.frontends.maxEntries}; set bpfMapSizeNATFrontend to ${nextPowerOfTwo(frontends)} (--set ebpf.lbMapMax=${option}).`,
    );
  }
  if (full.has('maglev')) {
    reasons.push(
      `update map cali_v4_mag_be: argument list too long: it has room for the tables of ${MAGLEV_SERVICES} frontends of ${CALICO_SLOTS} slots; raise bpfMaglevMaxServices, or use algorithm random.`,
    );
  }
  const onlyTrie = full.size === 1 && full.has('frontends');
  return { error: onlyTrie ? 'ENOSPC' : 'E2BIG', message: reasons.join(' ') };
}

/** What a reader of results must know. */
export function calicoRemarks(
  cluster: Cluster,
  maps: NatMaps,
  states: readonly ServiceState[],
  frontends: number,
  backends: number,
): readonly string[] {
  const remarks = [
    'Calico: each sync builds the wanted state of the whole cluster in memory and writes the difference; a failed sync is assumed to be repeated after 30 s.',
  ];
  const { maxEntries } = maps.backends;
  if (maxEntries > BACKENDS_DEFAULT || maps.frontends.maxEntries > FRONTENDS_DEFAULT) {
    remarks.push(
      `Calico's NAT maps are made for ${maps.frontends.maxEntries} frontends and ${maxEntries} backends (bpfMapSizeNATFrontend, bpfMapSizeNATBackend); shipped are ${FRONTENDS_DEFAULT} and ${BACKENDS_DEFAULT}, this cluster needs ${frontends} and ${backends}.`,
    );
  } else if (backends > maxEntries * NEAR || frontends > maps.frontends.maxEntries * NEAR) {
    remarks.push(
      `Calico's NAT maps are nearly full: ${frontends} of ${maps.frontends.maxEntries} frontends, ${backends} of ${maxEntries} backends.`,
    );
  }
  const tabled = states.filter((state) => state.tabled.length > 0);
  if (tabled.length > 0) {
    remarks.push(
      `Calico's Maglev tables have ${CALICO_SLOTS} slots and are filled by the hashes of Calico's own tests (FNV-1); both are assumed. Each slot is a system call. They need external service mode DSR, so answers do not come back here.`,
    );
    const wide = tabled.filter(({ rows }) => rows.length > MAGLEV_ENDPOINTS).length;
    if (wide > 0) {
      remarks.push(
        `${wide} service ports have more than ${MAGLEV_ENDPOINTS} endpoints in a Maglev table (bpfMaglevMaxEndpointsPerService).`,
      );
    }
  }
  const restricted = cluster.services.filter(
    ({ externalPolicyLocal, externalIps }) => externalPolicyLocal && externalIps.length > 0,
  ).length;
  if (restricted > 0) {
    remarks.push(
      `${restricted} Services have external IPs and externalTrafficPolicy Local: Calico heeds the policy at load balancer addresses and node ports only.`,
    );
  }
  return remarks;
}
