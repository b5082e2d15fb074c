/**
 * Operations are what a dataplane or a proxier is seen to do: a rule evaluated, a hash chain step, a system
 * call. Each mode names its own; names that several modes share (`conntrack.lookup`) have one price. A count
 * vector holds one number per operation of the mode, in the order of its names.
 */

/** Counts by operation, indexed as the mode's operation names. */
export type Counts = Float64Array;

export type OperationIndex<Names extends readonly string[]> = Readonly<Record<Names[number], number>>;

/** `{ 'conntrack.lookup': 0, … }`: read the constants from it once, at module level. */
export function operationIndex<const Names extends readonly string[]>(names: Names): OperationIndex<Names> {
  return Object.fromEntries(names.map((name, index) => [name, index])) as OperationIndex<Names>;
}
