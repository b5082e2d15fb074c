const RATIO = /^(?:0|1|1\.0+|0?\.\d+)$/;

/** What was wanted of a share of memory, empty if it is one: 0, or above 0 up to 1. */
export function wantedRatio(text: string): string {
  return RATIO.test(text) ? '' : 'wanted a number from 0 to 1, such as 0.0025';
}
