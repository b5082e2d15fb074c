const SECOND = 1_000_000_000;
/** When the first sweep comes. */
export const GC_START_NS = 300 * SECOND;
const GC_MIN_NS = 10 * SECOND;
export const GC_MAX_NS = 12 * 3600 * SECOND;

/**
 * When the agent sweeps the conntrack maps next.
 * Source: calculateInterval, pkg/maps/ctmap/ctmap.go: sooner when a quarter of the map's size was deleted, later when
 * hardly any, unchanged when nothing. A pass that came early counts for the whole interval that it was to close.
 * @param intervalNs the present interval. @param ratio deleted ÷ size of the map, the highest of all maps.
 * @param actualNs since the pass before.
 */
export function nextGcInterval(intervalNs: number, ratio: number, actualNs: number = intervalNs): number {
  if (ratio === 0) return intervalNs;
  const adjusted = actualNs < intervalNs ? (ratio * intervalNs) / actualNs : ratio;
  if (adjusted > 0.25) return Math.max(GC_MIN_NS, wholeSeconds(intervalNs * (1 - Math.min(adjusted, 0.9))));
  if (adjusted < 0.05) return Math.min(GC_MAX_NS, wholeSeconds(intervalNs * 1.5));
  return intervalNs;
}

/** Duration.Round(time.Second) of a positive duration that is first cut to whole nanoseconds. */
function wholeSeconds(ns: number): number {
  return Math.round(Math.floor(ns) / SECOND) * SECOND;
}
