import { swapped, typeNamed, valueFrom, wordsOf, wordsText, type DataType } from './datatypes.ts';
import type { KernelElement } from './linearize-set.ts';
import { compareWords, maskWord } from './linearize-value.ts';
import { ACCEPT, CONTINUE, DROP, GOTO, JUMP, RETURN, verdictChain, verdictKind } from '../kernel/program.ts';
import type { Element, Value, Verdict } from './statement.ts';

/** What numbers stand for, when words become values. */
export interface NameGiver {
  chainName(chain: number): string;
  interfaceName?(index: number): string | undefined;
}

interface Shape {
  readonly types: readonly string[];
  readonly data?: readonly string[];
}

const KINDS = new Map<number, Verdict['kind']>([
  [DROP, 'drop'],
  [ACCEPT, 'accept'],
  [CONTINUE, 'continue'],
  [JUMP, 'jump'],
  [GOTO, 'goto'],
  [RETURN, 'return'],
]);

export function verdictFrom(word: number, names: NameGiver): Verdict {
  const kind = KINDS.get(verdictKind(word))!;
  if (kind !== 'jump' && kind !== 'goto') return { kind };
  return { kind, chain: names.chainName(verdictChain(word)) };
}

/**
 * Elements of a set as they are listed. Starts and ends of intervals are put together to values, prefixes and
 * ranges, in ascending order; plain elements stay in the order given (the listing sorts).
 * Source: nftables 1.0.6, src/segtree.c (interval_map_decompose), src/netlink.c (netlink_delinearize_setelem).
 */
export function elementsFrom(
  shape: Shape,
  interval: boolean,
  elements: Iterable<KernelElement>,
  names: NameGiver,
): Element[] {
  if (!interval) {
    const out: Element[] = [];
    for (const element of elements)
      out.push(listed(shape, tupleFrom(shape.types, element.key, names), element, names));
    return out;
  }
  if (shape.types.length > 1) {
    return Array.from(elements, (element) =>
      listed(shape, rangedTuple(shape.types, element, names), element, names),
    );
  }
  return spans(shape, [...elements], names);
}

function spans(shape: Shape, elements: KernelElement[], names: NameGiver): Element[] {
  const type = typeNamed(shape.types[0]!);
  // Where one interval ends and the next begins at the same key, the end comes first.
  const edges = elements
    .map((element) => ({ element, at: element.key.map((word) => swapped(type, word)) }))
    .sort(
      (a, b) => compareWords(a.at, b.at) || Number(b.element.intervalEnd) - Number(a.element.intervalEnd),
    );
  const out: Element[] = [];
  for (let i = 0; i < edges.length; i++) {
    const { element, at } = edges[i]!;
    if (element.intervalEnd) continue;
    const next = edges[i + 1]?.at;
    const last = next === undefined ? largest(type) : predecessor(next);
    out.push(listed(shape, spanValue(type, at, last, names), element, names));
  }
  return out;
}

function listed(shape: Shape, key: Value, element: KernelElement, names: NameGiver): Element {
  const { data, comment, timeoutMs, expiresMs } = element;
  return {
    key,
    ...(data === undefined || shape.data === undefined ? {} : { data: dataFrom(shape.data, data, names) }),
    ...(comment === undefined ? {} : { comment }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(expiresMs === undefined ? {} : { expiresMs }),
  };
}

export function dataFrom(types: readonly string[], words: readonly number[], names: NameGiver): Value {
  if (types[0] === 'verdict') return { kind: 'verdict', verdict: verdictFrom(words[0]!, names) };
  return tupleFrom(types, words, names);
}

/** One value, or one for each part, from words as registers hold them. */
export function tupleFrom(types: readonly string[], words: readonly number[], names: NameGiver): Value {
  const parts = split(types, words).map((part, i) => valueOf(typeNamed(types[i]!), part, names));
  return parts.length === 1 ? parts[0]! : { kind: 'tuple', parts };
}

function rangedTuple(types: readonly string[], element: KernelElement, names: NameGiver): Value {
  const ends = split(types, element.keyEnd ?? element.key);
  const parts = split(types, element.key).map((part, i) => {
    const type = typeNamed(types[i]!);
    const from = part.map((word) => swapped(type, word));
    return spanValue(
      type,
      from,
      ends[i]!.map((word) => swapped(type, word)),
      names,
    );
  });
  return { kind: 'tuple', parts };
}

function split(types: readonly string[], words: readonly number[]): number[][] {
  let at = 0;
  return types.map((name) => {
    const count = wordsOf([name]);
    at += count;
    return words.slice(at - count, at);
  });
}

function valueOf(type: DataType, words: readonly number[], names: NameGiver): Value {
  return valueFrom(
    type,
    words.map((word) => swapped(type, word)),
    names.interfaceName && ((index) => names.interfaceName!(index)),
  );
}

/** A single value, a prefix, `name*` or a range; words in host order. */
function spanValue(type: DataType, from: readonly number[], to: readonly number[], names: NameGiver): Value {
  const value = (words: readonly number[]): Value =>
    valueFrom(type, words, names.interfaceName && ((index) => names.interfaceName!(index)));
  if (compareWords(from, to) === 0) return value(from);
  const length = prefixLength(from, to);
  if (type.print === 'address' && length !== undefined) return { kind: 'prefix', words: from, length };
  if (type.order === 'text') return { kind: 'symbol', text: `${wordsText(from)}*` };
  return { kind: 'range', from: value(from), to: value(to) };
}

/** Length of the prefix that is exactly from … to; undefined if there is none. */
export function prefixLength(from: readonly number[], to: readonly number[]): number | undefined {
  let length = 0;
  for (let i = 0; i < from.length; i++) length += Math.clz32(from[i]! ^ to[i]!) * Number(length === 32 * i);
  for (let i = 0; i < from.length; i++) {
    const host = ~maskWord(length - 32 * i) >>> 0;
    if ((from[i]! & host) !== 0 || (to[i]! & host) >>> 0 !== host) return undefined;
  }
  return length;
}

function predecessor(words: readonly number[]): number[] {
  const out = [...words];
  for (let i = out.length - 1; i >= 0; i--) {
    const borrow = out[i] === 0;
    out[i] = (out[i]! - 1) >>> 0;
    if (!borrow) break;
  }
  return out;
}

function largest(type: DataType): number[] {
  if (type.bytes < 4) return [(1 << (8 * type.bytes)) - 1];
  return Array.from({ length: type.bytes / 4 }, () => 0xffffffff);
}
