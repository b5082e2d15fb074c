import type { AnySet } from '../kernel/new-set.ts';
import type { NfTables } from '../kernel/tables.ts';

/**
 * Do something with the tables that leaves no trace: counters, `numgen inc` and sets that rules add to are as before.
 * What a walk adds to a set it does not find again in the same walk.
 */
export function dryRun<Result>(tables: NfTables, walk: () => Result): Result {
  const { counters, chains } = tables;
  const { arena } = chains;
  const sets = [...tables.sets];
  tables.counters = counters.slice();
  chains.arena = arena.slice();
  sets.forEach((set, id) => {
    if (set?.description.dynamic === true) tables.sets[id] = untouched(set);
  });
  try {
    return walk();
  } finally {
    tables.counters = counters;
    chains.arena = arena;
    sets.forEach((set, id) => (tables.sets[id] = set));
  }
}

/** The set, but what rules change in it is lost. */
function untouched(set: AnySet): AnySet {
  const lost = { insert: () => 0, setExpiry: () => undefined, kill: () => undefined };
  return new Proxy(set, {
    get: (target, name) => {
      const own: unknown = Reflect.get(lost, name) ?? Reflect.get(target, name, target);
      return typeof own === 'function' ? own.bind(target) : own;
    },
  });
}
