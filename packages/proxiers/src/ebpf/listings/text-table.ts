/** Go's tabwriter as cilium-dbg sets it up: cells padded to the widest of their column and 3 spaces, at least 5. */
const PADDING = 3;
const CELL_MIN = 5;

/** A cell of a column whose widest text has `width` characters. */
export function cell(text: string, width: number): string {
  return text.padEnd(Math.max(CELL_MIN, width + PADDING));
}

/**
 * `TablePrinter` of cilium-dbg/cmd: two columns, keys in the order of their text, without spaces at line ends.
 * @param rows key and value; equal keys in their order, with the key on the first line only.
 */
export function* twoColumns(
  first: string,
  second: string,
  rows: readonly (readonly [string, string])[],
): Generator<string> {
  const sorted = rows.toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  const width = sorted.reduce((widest, [key]) => Math.max(widest, key.length), first.length);
  yield `${cell(first, width)}${second}`.trimEnd();
  let last: string | undefined;
  for (const [key, value] of sorted) {
    yield `${cell(key === last ? '' : key, width)}${value}`.trimEnd();
    last = key;
  }
}
