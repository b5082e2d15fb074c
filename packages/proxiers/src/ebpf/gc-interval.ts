const SECOND = 1_000_000_000;
export const GC_START_NS = 300 * SECOND;
const GC_MIN_S = 10;
const GC_MAX_S = 12 * 3600;

/**
 * When the agent sweeps the conntrack maps next.
 * Source: GetInterval and calculateInterval, pkg/maps/ctmap/ctmap.go: sooner when a quarter of the map's size was
 * deleted, later when hardly any, unchanged when nothing.
 * @param intervalNs the present interval. @param ratio deleted ÷ size of the map, the highest of all maps.
 */
export function nextGcInterval(intervalNs: number, ratio: number): number {
  if (ratio === 0) return intervalNs;
  const seconds = intervalNs / SECOND;
  if (ratio > 0.25) return Math.max(GC_MIN_S, Math.round(seconds * (1 - Math.min(ratio, 0.9)))) * SECOND;
  if (ratio < 0.05) return Math.min(GC_MAX_S, Math.round(seconds * 1.5)) * SECOND;
  return intervalNs;
}
