/** Slots that two tables of the same size give to different backends. */
export function changedSlots(before: ArrayLike<number>, after: ArrayLike<number>): number {
  let changed = 0;
  for (let slot = 0; slot < after.length; slot++) {
    if (before[slot] !== after[slot]) changed++;
  }
  return changed;
}
