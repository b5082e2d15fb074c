import { typeNamed } from './datatypes.ts';
import { inListingOrder } from './listing-order.ts';
import { elementText, ruleText } from './listing-rule.ts';
import { PRIORITIES } from './reader-block.ts';
import { timeText } from './reader-word.ts';
import type { BaseChain, ChainSpec, SetFlag, SetSpec, TableSpec } from './statement.ts';

/** A table whose sets and chains may be made one by one, as they are printed. */
export type ListedTable = Omit<TableSpec, 'sets' | 'chains'> & {
  readonly sets: Iterable<SetSpec>;
  readonly chains: Iterable<ChainSpec>;
};

/** Wide enough to stand under the first element. */
const CONTINUED = '\t\t\t     ';
const FLAG_ORDER: readonly SetFlag[] = ['constant', 'dynamic', 'interval', 'timeout'];

/**
 * What `nft list ruleset` (or `list table`, of one) prints, line by line.
 * Source: nftables 1.0.6, src/rule.c, src/expression.c (calculate_delim); compared with the tool.
 */
export function* listRuleset(tables: Iterable<ListedTable>): Generator<string> {
  for (const table of tables) yield* listTable(table);
}

function* listTable(table: ListedTable): Generator<string> {
  yield `table ${table.family} ${table.name} {`;
  if (table.comment !== undefined) yield `\tcomment "${table.comment}"`;
  let first = true;
  for (const set of table.sets) {
    if (!first) yield '';
    first = false;
    yield* listSet(set);
  }
  for (const chain of table.chains) {
    if (!first) yield '';
    first = false;
    yield* listChain(chain);
  }
  yield '}';
}

/** A set or map within its table. */
export function* listSet(set: SetSpec): Generator<string> {
  yield `\t${set.data === undefined ? 'set' : 'map'} ${set.name} {`;
  const data = set.data === undefined ? '' : ` : ${set.data.join(' . ')}`;
  yield `\t\ttype ${set.types.join(' . ')}${data}`;
  if (!set.flags.includes('constant')) {
    if (set.policy !== undefined) yield `\t\tpolicy ${set.policy}`;
    const size = listedSize(set);
    if (size !== undefined) yield `\t\tsize ${size}`;
  }
  const flags = listedFlags(set);
  if (flags.length > 0) yield `\t\tflags ${flags.join(',')}`;
  if (set.timeoutMs !== undefined) yield `\t\ttimeout ${timeText(set.timeoutMs)}`;
  if (set.gcIntervalMs !== undefined) yield `\t\tgc-interval ${timeText(set.gcIntervalMs)}`;
  if (set.comment !== undefined) yield `\t\tcomment "${set.comment}"`;
  if (set.elements.length > 0) yield* listElements(set);
  yield '\t}';
}

function* listElements(set: SetSpec): Generator<string> {
  // A concatenation has no type of its own that would let several stand on a line.
  const perLine = set.types.length === 1 ? typeNamed(set.types[0]!).perLine : 1;
  const elements = inListingOrder(set.types, set.elements);
  const pairs = set.data !== undefined && set.types.length === 1 && perLine > 1;
  let line = '\t\telements = { ';
  let count = 0;
  for (let i = 0; i < elements.length; i++) {
    line += elementText(set.types, set.data, elements[i]!);
    if (i === elements.length - 1) break;
    count++;
    if (count < perLine && (perLine > 1 || pairs)) line += ', ';
    else {
      yield `${line},`;
      line = CONTINUED;
      count = 0;
    }
  }
  yield `${line} }`;
}

/** A chain within its table. */
export function* listChain(chain: ChainSpec): Generator<string> {
  yield `\tchain ${chain.name} {`;
  if (chain.comment !== undefined) yield `\t\tcomment "${chain.comment}"`;
  if (chain.base !== undefined) yield `\t\t${baseText(chain.base)}`;
  for (const rule of chain.rules) yield `\t\t${ruleText(rule)}`;
  yield '\t}';
}

function baseText(base: BaseChain): string {
  return `type ${base.type} hook ${base.hook} priority ${priorityText(base)}; policy ${base.policy};`;
}

/** By the name of a standard priority that is at most 10 away and valid at the hook. */
export function priorityText({ hook, priority }: BaseChain): string {
  for (const [name, standard, only] of PRIORITIES) {
    const offset = priority - standard;
    if ((only !== undefined && only !== hook) || Math.abs(offset) > 10) continue;
    return offset === 0 ? name : `${name} ${offset < 0 ? '-' : '+'} ${Math.abs(offset)}`;
  }
  return String(priority);
}

/**
 * A set without a size gets 65535 from the kernel with the first rule that fills it (nft_dynset_init). Sets marked
 * dynamic are listed as if there were such a rule.
 */
export function listedSize(set: SetSpec): number | undefined {
  return set.size ?? (set.flags.includes('dynamic') ? 65535 : undefined);
}

/** `timeout` alone goes without saying where a timeout is given. */
function listedFlags(set: SetSpec): readonly SetFlag[] {
  const flags = FLAG_ORDER.filter((flag) => set.flags.includes(flag));
  return set.timeoutMs !== undefined && flags.length === 1 && flags[0] === 'timeout' ? [] : flags;
}
