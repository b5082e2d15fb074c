import type { SyncFailure } from '../../proxier.ts';
import { nextPowerOfTwo } from '../maps/buckets.ts';
import { FRONTENDS_MAX } from './frontends.ts';
import type { LedgerMap } from './map-ledger.ts';
import { SERVICE_MAP_NAMES, type ServiceMaps } from '../service-maps.ts';

/** Slots and counts are 16 bits wide. */
export const BACKENDS_MAX = 65_535;

/** What could not be written, and what the cluster wants. */
export interface Overflow {
  /** Maps that this sync found full. */
  readonly full: ReadonlySet<LedgerMap>;
  /** Frontends that wait for another attempt; wide ones apart. */
  readonly waiting: number;
  /** Of all that wait, those without a master: their addresses are no service's. */
  readonly absent: number;
  /** Frontends with more backends than a count can say. */
  readonly wide: number;
  /** Frontends that the cluster needs on this node, if it has too many; else 0. */
  readonly frontends: number;
  /** Entries that the cluster needs in the services map. */
  readonly needed: number;
}

/** Why a sync failed, as the agent's log says it, with the sizes and the way out. */
export function overflowFailure(overflow: Overflow, maps: ServiceMaps): SyncFailure {
  const { full, wide, frontends } = overflow;
  const reasons: string[] = [];
  if (full.size > 0) reasons.push(...fullText(overflow, maps));
  if (wide > 0) {
    reasons.push(
      `${wide} frontends have more than ${BACKENDS_MAX} backends, the most that a 16-bit count allows; split their Services.`,
    );
  }
  if (frontends > 0) {
    reasons.push(
      `failed to allocate id: the cluster needs ${frontends} frontends on this node; reverse NAT ids are 16 bits wide and number ${FRONTENDS_MAX}.`,
    );
  }
  const onlyRanges = full.size === 1 && full.has('sourceRanges') && wide === 0 && frontends === 0;
  return { error: onlyRanges ? 'ENOSPC' : 'E2BIG', message: reasons.join(' ') };
}

function* fullText({ full, waiting, absent, needed }: Overflow, maps: ServiceMaps): Generator<string> {
  const { maxEntries } = maps;
  // Slots that failed updates left behind may fill a map that is large enough.
  const size = nextPowerOfTwo(Math.max(maxEntries + 1, needed));
  const errors = [...full].map((map) => `update map ${SERVICE_MAP_NAMES[map]}: ${errorText(map)}`);
  yield `Updating frontend failed: ${errors.join('; ')}.`;
  const mebibytes = Math.ceil(maps.servicesBytes(size, needed) / 1_048_576);
  yield (
    `${waiting} ${waiting === 1 ? 'frontend' : 'frontends'} did not fit, ${absent} without a master, to be tried again for ever: ` +
    `the cluster needs ${needed} entries in ${SERVICE_MAP_NAMES.services}, which holds ${maxEntries}; ` +
    `set bpf-lb-map-max to ${size} (--set ebpf.lbMapMax=${size}; the services map then takes ${mebibytes} MiB).`
  );
}

/** strerror of what bpf(2) returns: tries have an error of their own. */
function errorText(map: LedgerMap): string {
  return map === 'sourceRanges' ? 'no space left on device' : 'argument list too long';
}
