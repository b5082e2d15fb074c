import { escapeTerminal } from '../report/index.ts';

/** Of more steps than this in a row at one place, the first and the last few are shown. */
const RUN_MAX = 12;
const ENDS = 4;

/** The steps of a walk, one line each; a long run at one place, such as draw after draw, is folded. */
export function* stepLines(
  steps: readonly { readonly where: string; readonly what: string }[],
): Generator<string> {
  const width = steps.reduce((widest, { where }) => Math.max(widest, where.length), 0);
  const line = (where: string, what: string): string => escapeTerminal(`  ${where.padEnd(width)}  ${what}`);
  for (let first = 0; first < steps.length;) {
    const { where } = steps[first]!;
    let end = first + 1;
    while (end < steps.length && steps[end]!.where === where) end++;
    const folded = end - first > RUN_MAX ? end - first - 2 * ENDS : 0;
    for (let i = first; i < end; i++) {
      if (folded > 0 && i === first + ENDS) {
        yield line(where, `… and ${folded} more here`);
        i += folded;
      }
      yield line(steps[i]!.where, steps[i]!.what);
    }
    first = end;
  }
}
