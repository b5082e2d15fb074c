import { delinearize, type DelinearizeContext } from '../language/delinearize.ts';
import { elementsFrom } from '../language/delinearize-set.ts';
import type { LoadedChain, LoadedSet, LoadedTable } from './draft.ts';
import type { KernelElement } from '../language/linearize-set.ts';
import { listRuleset, type ListedTable } from '../language/listing.ts';
import { ruleText } from '../language/listing-rule.ts';
import type { AnySet } from '../kernel/new-set.ts';
import { forEachRule } from '../kernel/program.ts';
import type { NftRuleset } from './ruleset.ts';
import { Rhash } from '../kernel/sets/rhash.ts';
import type { ChainSpec, Rule, SetSpec } from '../language/statement.ts';

/** What `nft list ruleset` prints of what is loaded, line by line. */
export function* listLoaded(ruleset: NftRuleset, nowMs: number): Generator<string> {
  const listed = [...ruleset.tables.values()].map((table) => listedTable(ruleset, table, nowMs));
  yield* listRuleset(listed);
}

/** A rule that is loaded, as nft lists it: `at` is where its header is in the arena. */
export function loadedRuleText(
  ruleset: NftRuleset,
  names: DelinearizeContext,
  at: number,
  comment?: string,
): string {
  return ruleText(loadedRule(ruleset, names, at, comment));
}

/** What numbers in a table's rules stand for. */
export function namesOf(ruleset: NftRuleset, table: LoadedTable): DelinearizeContext {
  const { kernel } = ruleset;
  const sets = new Map([...table.sets.values()].map(({ id, spec }) => [id, spec]));
  return {
    family: table.family,
    chainName: (id) => ruleset.chain(id).chain.name,
    interfaceName: (index) => ruleset.linkName(index),
    counter: (index) => ({ packets: kernel.counters[2 * index]!, bytes: kernel.counters[2 * index + 1]! }),
    set: (id) => {
      const spec = sets.get(id);
      const { types, data } = spec ?? ruleset.anonymous.get(id)!;
      return {
        name: spec?.name ?? '',
        types,
        ...(data && { data }),
        anonymous: spec === undefined,
        interval: kernel.sets[id]!.description.interval,
        elements: () => elementsOf(kernel.sets[id]!),
      };
    },
  };
}

function listedTable(ruleset: NftRuleset, table: LoadedTable, nowMs: number): ListedTable {
  const { family, name, comment } = table;
  const context = namesOf(ruleset, table);
  return {
    family,
    name,
    ...(comment !== undefined && { comment }),
    sets: [...table.sets.values()].map((set) => listedSet(ruleset, set, context, nowMs)),
    chains: [...table.chains.values()].map((chain) => listedChain(ruleset, context, chain)),
  };
}

function listedSet(
  ruleset: NftRuleset,
  { id, spec, comments }: LoadedSet,
  context: DelinearizeContext,
  nowMs: number,
): SetSpec {
  const set = ruleset.kernel.sets[id]!;
  const elements = elementsFrom(spec, set.description.interval, elementsOf(set, nowMs, comments), context);
  return { ...spec, elements };
}

function listedChain(ruleset: NftRuleset, names: DelinearizeContext, chain: LoadedChain): ChainSpec {
  const { name, base, comment } = chain;
  const { arena, start, words } = ruleset.kernel.chains;
  const rules: Rule[] = [];
  forEachRule(arena, start[chain.id]!, words[chain.id]!, (at) => {
    rules.push(loadedRule(ruleset, names, at, chain.rules[rules.length]?.source.comment));
  });
  return { name, ...(base && { base }), ...(comment !== undefined && { comment }), rules };
}

function loadedRule(ruleset: NftRuleset, names: DelinearizeContext, at: number, comment?: string): Rule {
  const rule = delinearize(ruleset.kernel.chains.arena, at, names);
  return comment === undefined ? rule : { ...rule, comment };
}

/** Elements as the kernel would tell of them: those that have not expired. */
function elementsOf(set: AnySet, nowMs = 0, comments?: ReadonlyMap<string, string>): KernelElement[] {
  const elements: KernelElement[] = [];
  set.forEach((element) => {
    const expires = set.expiresMs(element);
    if (expires <= nowMs) return;
    const key = Array.from({ length: set.keyWords }, (_, word) => set.key(element, word) >>> 0);
    const comment = comments?.get(key.join(' '));
    elements.push({
      key,
      keyEnd: key.map((_, word) => set.keyEnd(element, word) >>> 0),
      intervalEnd: set.isIntervalEnd(element),
      ...(set.dataWords > 0 && {
        data: Array.from({ length: set.dataWords }, (_, word) => set.data(element, word) >>> 0),
      }),
      ...(comment !== undefined && { comment }),
      ...(set instanceof Rhash && set.timeoutMs(element) > 0 && { timeoutMs: set.timeoutMs(element) }),
      ...(expires !== Infinity && { expiresMs: Math.floor(expires - nowMs) }),
    });
  });
  return elements;
}
