import { DYNSET, IMMEDIATE_VERDICT, LOOKUP, RULE_HEADER, expressionWords, verdictChain } from './program.ts';
import { isJump } from './references.ts';
import type { NfTables } from './tables.ts';
import type { TransactionCounts } from './transaction-counts.ts';

/** Who uses chains and sets: jumps lead to chains, rules look sets up, and a map knows the chains of its rules. */

/** A jump or goto to its chain comes (1) or goes (-1); other verdicts use nothing. */
export function useChain(tables: NfTables, verdict: number, change: number): void {
  if (isJump(verdict)) tables.chains.uses[verdictChain(verdict)]! += change;
}

/** A map leaves the next generation: its jumps are no users any more. How many elements were walked. */
export function forgetJumps(tables: NfTables, id: number): number {
  const set = tables.sets[id]!;
  if (!set.description.verdicts) return 0;
  set.forEach((element) => {
    if (!set.isLeaving(element) && !set.isIntervalEnd(element)) useChain(tables, set.data(element, 0), -1);
  });
  return set.count;
}

/**
 * A rule of the chain becomes a user of the map. Its users are searched for the same chain; unless that is among
 * them, all elements are looked at (nf_tables_bind_set).
 */
export function bindMap(tables: NfTables, counts: TransactionCounts, id: number, chain: number): void {
  const first = tables.firstBinding[id]!;
  if (first === 0) {
    tables.firstBinding[id] = chain + 1;
    counts.elementsWalked += tables.sets[id]!.count;
    return;
  }
  let more = tables.moreBindings.get(id);
  if (more === undefined) tables.moreBindings.set(id, (more = []));
  const place = first === chain + 1 ? 0 : more.indexOf(chain) + 1;
  const found = first === chain + 1 || place > 0;
  counts.bindingSteps += found ? place + 1 : more.length + 1;
  if (!found) counts.elementsWalked += tables.sets[id]!.count;
  more.push(chain);
}

export function unbindMap(tables: NfTables, id: number, chain: number): void {
  const more = tables.moreBindings.get(id);
  if (tables.firstBinding[id] === chain + 1) {
    tables.firstBinding[id] = more === undefined || more.length === 0 ? 0 : more.shift()! + 1;
  } else if (more !== undefined) more.splice(more.indexOf(chain), 1);
  if (more?.length === 0) tables.moreBindings.delete(id);
}

/** Count the users of chains and sets from the generation in force. */
export function countUses(tables: NfTables): void {
  const { chains } = tables;
  chains.uses.fill(0);
  tables.setUses.fill(0);
  const use = (verdict: number): void => {
    if (isJump(verdict)) chains.uses[verdictChain(verdict)]!++;
  };
  for (let chain = 0; chain < chains.count; chain++) {
    const end = chains.start[chain]! + chains.words[chain]!;
    for (let rule = chains.start[chain]!; rule < end; rule += chains.arena[rule]!) {
      const ruleEnd = rule + chains.arena[rule]!;
      for (let at = rule + RULE_HEADER; at < ruleEnd; at += expressionWords(chains.arena, at)) {
        const opcode = chains.arena[at]! & 255;
        if (opcode === IMMEDIATE_VERDICT) use(chains.arena[at + 1]!);
        else if (opcode === LOOKUP || opcode === DYNSET) tables.setUses[chains.arena[at + 1]!]!++;
      }
    }
  }
  for (const set of tables.sets) {
    if (set === undefined || !set.description.verdicts) continue;
    set.forEach((element) => {
      if (!set.isIntervalEnd(element)) use(set.data(element, 0));
    });
  }
}
