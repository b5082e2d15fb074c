import type { ServiceMaps } from '../service-maps.ts';

/** The maps that an update writes. */
export type LedgerMap = 'services' | 'backends' | 'reverseNat' | 'affinityMatch' | 'sourceRanges' | 'maglev';

/**
 * What the maps will hold when everything that is planned has been done: decides which call will be the first to
 * find a map full. Opened when all earlier plans have come into force.
 */
export class MapLedger {
  readonly #room: Record<LedgerMap, number>;

  constructor(maps: ServiceMaps) {
    const { maxEntries, services, backends, reverseNat, affinityMatch, sourceRanges, maglev } = maps;
    this.#room = {
      services: maxEntries - services.count,
      backends: maxEntries - backends.count,
      reverseNat: maxEntries - reverseNat.count,
      affinityMatch: maxEntries - affinityMatch.count,
      sourceRanges: sourceRanges.maxEntries - sourceRanges.count,
      maglev: maglev.maxEntries - maglev.count,
    };
  }

  /** One entry more; false when there is no room for it. */
  take(map: LedgerMap): boolean {
    if (this.#room[map] <= 0) return false;
    this.#room[map]--;
    return true;
  }

  give(map: LedgerMap, entries: number): void {
    this.#room[map] += entries;
  }
}
