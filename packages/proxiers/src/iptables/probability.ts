/**
 * The probability of a dispatch rule, from text to the number that the kernel compares.
 * Source: kube-proxy's computeProbability (`%0.10f` of 1/n); extensions/libxt_statistic.c (lround of p × 2^31);
 * net/netfilter/xt_statistic.c (a rule matches when 31 random bits are below the threshold).
 */

let thresholds = new Uint32Array(0);

/** 1/n with ten decimals: 3 → `0.3333333333`. */
export function probabilityText(n: number): string {
  // Go rounds exact halves to even, toFixed rounds them up. 1/2048 is the only reciprocal that has one.
  return n === 2048 ? '0.0004882812' : (1 / n).toFixed(10);
}

/** A probability as 31-bit threshold, halves away from zero. Scaling by 2^31 is exact. */
export function thresholdOf(text: string): number {
  return Math.round(Number(text) * 2147483648);
}

/** Threshold of the rule that has `n` endpoints left to choose from, itself included. */
export function threshold(n: number): number {
  if (n >= thresholds.length) {
    const wider = new Uint32Array(Math.max(1024, n + 1, thresholds.length * 2));
    wider.set(thresholds);
    thresholds = wider;
  }
  const held = thresholds[n]!;
  if (held !== 0) return held;
  const computed = thresholdOf(probabilityText(n));
  thresholds[n] = computed;
  return computed;
}
