import { jsonStatement, jsonTuple, jsonVerdict, type Json } from './json-rule.ts';
import { inListingOrder } from './listing-order.ts';
import { listedSize, type ListedTable } from './listing.ts';
import type { ChainSpec, Element, Expression, Rule, SetSpec, Statement } from './statement.ts';

const METAINFO = { version: '1.0.6', release_name: 'Lester Gooch #5', json_schema_version: 1 };

/**
 * What `nft -j list ruleset` prints, in pieces that make one line: each table, its sets, its chains, and then the
 * rules of all its chains. Handles that the specs do not give are those of a table that was loaded as a whole.
 * Source: nftables 1.0.6, src/json.c; compared with the tool. It tells neither comments of tables and chains nor
 * the flag dynamic.
 */
export function* jsonRuleset(tables: Iterable<ListedTable>): Generator<string> {
  yield `{"nftables": [${jsonText({ metainfo: METAINFO })}`;
  let number = 0;
  for (const table of tables) yield* jsonTable(table, ++number);
  yield ']}';
}

function* jsonTable(table: ListedTable, number: number): Generator<string> {
  const { family, name } = table;
  const chains = [...table.chains];
  yield `, ${jsonText({ table: { family, name, handle: table.handle ?? number } })}`;
  let handle = chains.length;
  for (const set of table.sets) {
    handle++;
    yield `, ${jsonText(jsonSet(table, set, set.handle ?? handle))}`;
  }
  for (const [i, chain] of chains.entries()) {
    yield `, ${jsonText(jsonChain(table, chain, chain.handle ?? i + 1))}`;
  }
  for (const chain of chains) {
    for (const rule of chain.rules) {
      handle += anonymousSets(rule) + 1;
      yield `, ${jsonText(jsonRule(table, chain, rule, rule.handle ?? handle))}`;
    }
  }
}

function jsonSet(table: ListedTable, set: SetSpec, handle: number): Json {
  const types = set.types.length === 1 ? set.types[0]! : set.types;
  const flags = (['constant', 'interval', 'timeout'] as const).filter(
    (flag) => set.flags.includes(flag) || (flag === 'timeout' && set.timeoutMs !== undefined),
  );
  const size = set.flags.includes('constant') ? undefined : listedSize(set);
  const elements = inListingOrder(set.types, set.elements);
  return {
    [set.data === undefined ? 'set' : 'map']: {
      family: table.family,
      name: set.name,
      table: table.name,
      type: types,
      handle,
      ...(set.comment === undefined ? {} : { comment: set.comment }),
      ...(set.data === undefined ? {} : { map: set.data.join(' . ') }),
      ...(set.policy === undefined ? {} : { policy: set.policy }),
      ...(size === undefined ? {} : { size }),
      ...(flags.length === 0 ? {} : { flags }),
      ...(set.timeoutMs === undefined ? {} : { timeout: seconds(set.timeoutMs) }),
      ...(set.gcIntervalMs === undefined ? {} : { 'gc-interval': seconds(set.gcIntervalMs) }),
      ...(elements.length === 0
        ? {}
        : { elem: elements.map((element) => jsonElement(set.types, set.data, element)) }),
    },
  };
}

export function jsonElement(
  types: readonly string[],
  data: readonly string[] | undefined,
  element: Element,
): Json {
  let key = jsonTuple(types, element.key);
  const { timeoutMs, expiresMs, comment } = element;
  if (timeoutMs !== undefined || expiresMs !== undefined || comment !== undefined) {
    key = {
      elem: {
        val: key,
        ...(timeoutMs === undefined ? {} : { timeout: seconds(timeoutMs) }),
        ...(expiresMs === undefined ? {} : { expires: seconds(expiresMs) }),
        ...(comment === undefined ? {} : { comment }),
      },
    };
  }
  if (element.data === undefined) return key;
  if (element.data.kind === 'verdict') return [key, jsonVerdict(element.data.verdict)];
  return [key, jsonTuple(data ?? ['integer'], element.data)];
}

function jsonChain(table: ListedTable, chain: ChainSpec, handle: number): Json {
  const { base } = chain;
  return {
    chain: {
      family: table.family,
      table: table.name,
      name: chain.name,
      handle,
      ...(base === undefined
        ? {}
        : { type: base.type, hook: base.hook, prio: base.priority, policy: base.policy }),
    },
  };
}

function jsonRule(table: ListedTable, chain: ChainSpec, rule: Rule, handle: number): Json {
  return {
    rule: {
      family: table.family,
      table: table.name,
      chain: chain.name,
      handle,
      ...(rule.comment === undefined ? {} : { comment: rule.comment }),
      expr: rule.statements.map((statement) => jsonStatement(statement, table.family)),
    },
  };
}

/** Each anonymous set of a rule takes a handle before the rule does; sets of one element are none. */
function anonymousSets(rule: Rule): number {
  return rule.statements.reduce((count, statement) => count + setsOf(statement), 0);
}

function setsOf(statement: Statement): number {
  switch (statement.kind) {
    case 'match': {
      const { left, right } = statement;
      if (right.kind !== 'set') return 0;
      return right.elements.length === 1 && left.kind !== 'concat' ? 0 : 1;
    }
    case 'vmap':
      return statement.map.kind === 'set' ? 1 : 0;
    case 'mangle':
      return mapsOf(statement.value);
    case 'nat':
      return mapsOf(statement.address) + mapsOf(statement.port);
    case 'masquerade':
    case 'redirect':
      return mapsOf(statement.port);
    default:
      return 0;
  }
}

function mapsOf(expression: Expression | undefined): number {
  return expression?.kind === 'map' && expression.map.kind === 'set' ? 1 : 0;
}

function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}

/** As jansson writes it: a blank behind each comma and colon. */
export function jsonText(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(jsonText).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value as Readonly<Record<string, Json>>);
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}: ${jsonText(member)}`).join(', ')}}`;
}
