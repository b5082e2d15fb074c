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
  let place = '';
  for (const step of foldedRuns(steps, ({ where }) => where)) {
    if (typeof step === 'number') yield line(place, `… and ${step} more here`);
    else yield line((place = step.where), step.what);
  }
}

/** Items in order; of a long run at one place the ends, with the number of those between in their stead. */
export function* foldedRuns<Item extends object>(
  items: readonly Item[],
  placeOf: (item: Item, index: number) => string,
): Generator<Item | number> {
  for (let first = 0; first < items.length;) {
    const place = placeOf(items[first]!, first);
    let end = first + 1;
    while (end < items.length && placeOf(items[end]!, end) === place) end++;
    const folded = end - first > RUN_MAX ? end - first - 2 * ENDS : 0;
    for (let i = first; i < end; i++) {
      if (folded > 0 && i === first + ENDS) {
        yield folded;
        i += folded;
      }
      yield items[i]!;
    }
    first = end;
  }
}
