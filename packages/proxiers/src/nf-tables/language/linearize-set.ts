import { bytesOf, swapped, typeNamed, wordsOf, type DataType } from './datatypes.ts';
import {
  compareWords,
  hostWords,
  isWide,
  linearizeError,
  memoryWords,
  partsOf,
  single,
  spanOf,
  tupleWords,
  verdictData,
  type NameLookup,
  type Span,
} from './linearize-value.ts';
import type { SetDescription } from '../kernel/set-backend.ts';
import type { Element, SetSpec, Value } from './statement.ts';

/**
 * Sets and elements as nft hands them to the kernel.
 * Models: plain elements in the order written; intervals of one part as starts and exclusive ends, sorted, those of
 * an anonymous set joined where they touch; concatenations with ranges as first and last key.
 * Source: nftables 1.0.6, src/segtree.c (set_to_intervals), src/intervals.c, src/mnl.c.
 */
export interface KernelElement {
  /** Key as registers hold it. */
  readonly key: readonly number[];
  /** Last key of the range, in a concatenation with ranges. */
  readonly keyEnd?: readonly number[];
  /** The key is where an interval has ended. */
  readonly intervalEnd: boolean;
  /** A verdict word, or data as registers hold them; absent in sets and at ends. */
  readonly data?: readonly number[];
  readonly comment?: string;
  readonly timeoutMs?: number;
  readonly expiresMs?: number;
}

export interface KernelSet {
  readonly types: readonly string[];
  /** ['verdict'] or types, of a map. */
  readonly data?: readonly string[];
  readonly description: SetDescription;
  readonly elements: readonly KernelElement[];
}

type Shape = Pick<SetSpec, 'types' | 'data'>;

/** `{ … }` of a rule. */
export function anonymousKernelSet(shape: Shape, elements: readonly Element[], names: NameLookup): KernelSet {
  const wide = elements.some(({ key }) => isWideKey(shape.types, key, names));
  const interval = wide && shape.types.length === 1;
  const spans = interval ? intervals(shape, elements, names) : undefined;
  const kernel = spans
    ? joined(shape, spans, names)
    : elements.map((element) => elementWords(shape, element, wide, names));
  const first = spans?.[0];
  const size =
    first === undefined ? kernel.length : 2 * spanCount(shape, spans!) + (isZero(first.from) ? 0 : 1);
  return {
    types: shape.types,
    ...(shape.data === undefined ? {} : { data: shape.data }),
    description: { ...describe({ ...shape, flags: wide ? ['interval'] : [] }, wide), anonymous: true, size },
    elements: kernel,
  };
}

/** A named set or map as it is made; its elements come by themselves. */
export function namedSetDescription(spec: SetSpec): SetDescription {
  return describe(spec, spec.flags.includes('interval'), spec);
}

/**
 * Elements of a named set as a command adds or deletes them. `first`: the set is empty and they are added; a set of
 * intervals then begins with an end at zero, unless an interval starts there.
 */
export function kernelElements(
  spec: SetSpec,
  elements: readonly Element[],
  names: NameLookup,
  first = false,
): KernelElement[] {
  for (const { data } of elements) {
    if (data !== undefined && spec.data === undefined) {
      throw linearizeError(names, `set ${spec.name} is no map`, 'write the keys alone');
    }
  }
  if (!spec.flags.includes('interval')) {
    return elements.map((element) => elementWords(spec, element, false, names));
  }
  if (spec.types.length > 1) return elements.map((element) => elementWords(spec, element, true, names));
  const spans = intervals(spec, elements, names);
  checkApart(spec, spans, names);
  return separate(spec, spans, names, first);
}

function describe(
  spec: Pick<SetSpec, 'types' | 'data' | 'flags'>,
  wide: boolean,
  own?: SetSpec,
): SetDescription {
  return {
    keyBytes: bytesOf(spec.types),
    dataWords: spec.data === undefined ? 0 : spec.data[0] === 'verdict' ? 1 : wordsOf(spec.data),
    verdicts: spec.data?.[0] === 'verdict',
    interval: spec.flags.includes('interval'),
    timeout: spec.flags.includes('timeout') || (own?.timeoutMs ?? 0) > 0,
    dynamic: spec.flags.includes('dynamic'),
    anonymous: false,
    // The kernel gives a set that rules fill its limit of 65535 with the first of these rules.
    size: own?.size ?? 0,
    timeoutMs: own?.timeoutMs ?? 0,
    gcIntervalMs: own?.gcIntervalMs ?? 0,
    fields: wide && spec.types.length > 1 ? spec.types.map((name) => typeNamed(name).bytes) : [],
  };
}

interface Interval extends Span {
  readonly element: Element;
}

function intervals(shape: Shape, elements: readonly Element[], names: NameLookup): Interval[] {
  const type = typeNamed(shape.types[0]!);
  if (type.order === 'host') {
    throw linearizeError(
      names,
      `intervals of ${type.name} are not modelled`,
      'they need the expression byteorder: list the values one by one',
    );
  }
  return elements
    .map((element) => ({ ...spanOf(type, element.key, names), element }))
    .sort((a, b) => compareWords(a.from, b.from) || compareWords(a.to, b.to));
}

/** Of an anonymous set, what touches or overlaps is one; of a map, what overlaps is an error. */
function joined(shape: Shape, spans: readonly Interval[], names: NameLookup): KernelElement[] {
  const type = typeNamed(shape.types[0]!);
  const apart = shape.data === undefined ? merged(type, spans) : spans;
  if (shape.data !== undefined) checkApart(shape, spans, names);
  const out: KernelElement[] = [];
  if (apart.length > 0 && !isZero(apart[0]!.from))
    out.push(
      endAt(
        type,
        apart[0]!.from.map(() => 0),
      ),
    );
  for (let i = 0; i < apart.length; i++) {
    const span = apart[i]!;
    out.push(startOf(shape, type, span, names));
    const after = successor(type, span.to);
    if (after === undefined) continue;
    if (i + 1 < apart.length && compareWords(after, apart[i + 1]!.from) === 0) continue;
    out.push(endAt(type, after));
  }
  return out;
}

function separate(
  shape: Shape,
  spans: readonly Interval[],
  names: NameLookup,
  first: boolean,
): KernelElement[] {
  const type = typeNamed(shape.types[0]!);
  const out: KernelElement[] = [];
  if (first && spans.length > 0 && !isZero(spans[0]!.from))
    out.push(
      endAt(
        type,
        spans[0]!.from.map(() => 0),
      ),
    );
  for (const span of spans) {
    out.push(startOf(shape, type, span, names));
    const after = successor(type, span.to);
    if (after !== undefined) out.push(endAt(type, after));
  }
  return out;
}

function merged(type: DataType, spans: readonly Interval[]): Interval[] {
  const out: Interval[] = [];
  for (const span of spans) {
    const last = out.at(-1);
    const after = last === undefined ? undefined : successor(type, last.to);
    if (last === undefined || (after !== undefined && compareWords(after, span.from) < 0)) out.push(span);
    else if (compareWords(span.to, last.to) > 0) out[out.length - 1] = { ...last, to: span.to };
  }
  return out;
}

/** Intervals that nft counts for the size of a set: overlapping ones are one, and so are touching ones of a set. */
function spanCount(shape: Shape, spans: readonly Interval[]): number {
  return shape.data === undefined ? merged(typeNamed(shape.types[0]!), spans).length : spans.length;
}

function checkApart(shape: Shape, spans: readonly Interval[], names: NameLookup): void {
  for (let i = 1; i < spans.length; i++) {
    if (compareWords(spans[i - 1]!.to, spans[i]!.from) < 0) continue;
    const same = shape.data === undefined && compareWords(spans[i - 1]!.from, spans[i]!.from) === 0;
    if (same && compareWords(spans[i - 1]!.to, spans[i]!.to) === 0) continue;
    throw linearizeError(names, 'intervals overlap', 'make them disjoint');
  }
}

function startOf(shape: Shape, type: DataType, span: Interval, names: NameLookup): KernelElement {
  return {
    key: memoryWords(type, span.from),
    intervalEnd: false,
    ...dataWords(shape, span.element, names),
    ...extras(span.element),
  };
}

function endAt(type: DataType, words: readonly number[]): KernelElement {
  return { key: memoryWords(type, words), intervalEnd: true };
}

function elementWords(shape: Shape, element: Element, wide: boolean, names: NameLookup): KernelElement {
  const { types } = shape;
  const data = dataWords(shape, element, names);
  if (!wide) {
    if (isWideKey(types, element.key, names)) {
      throw linearizeError(names, 'a range or prefix in a set without intervals', 'add flags interval');
    }
    return { key: tupleWords(types, element.key, names), intervalEnd: false, ...data, ...extras(element) };
  }
  const spans = partsOf(types, element.key, names).map((part, i) => {
    const type = typeNamed(types[i]!);
    // Unlike a tree, the fields of pipapo know nothing of order: a value in host order is a range of one.
    const span = isWide(type, part) ? spanOf(type, part, names) : undefined;
    const words = span ?? { from: hostWords(type, single(part), names), to: undefined };
    const from = words.from.map((word) => swapped(type, word));
    return { from, to: words.to === undefined ? from : memoryWords(type, words.to) };
  });
  return {
    key: spans.flatMap(({ from }) => from),
    keyEnd: spans.flatMap(({ to }) => to),
    intervalEnd: false,
    ...data,
    ...extras(element),
  };
}

function dataWords(shape: Shape, element: Element, names: NameLookup): { data?: readonly number[] } {
  if (shape.data === undefined || element.data === undefined) return {};
  if (shape.data[0] !== 'verdict') return { data: tupleWords(shape.data, element.data, names) };
  if (element.data.kind === 'verdict') return { data: [verdictData(element.data.verdict, names)] };
  throw linearizeError(names, 'a value in a map of verdicts', 'write accept, drop, jump CHAIN or goto CHAIN');
}

function extras(element: Element): Pick<KernelElement, 'comment' | 'timeoutMs' | 'expiresMs'> {
  return {
    ...(element.comment === undefined ? {} : { comment: element.comment }),
    ...(element.timeoutMs === undefined ? {} : { timeoutMs: element.timeoutMs }),
    ...(element.expiresMs === undefined ? {} : { expiresMs: element.expiresMs }),
  };
}

function isWideKey(types: readonly string[], key: Value, names: NameLookup): boolean {
  if (types.length === 1) return isWide(typeNamed(types[0]!), key);
  return partsOf(types, key, names).some((part, i) => isWide(typeNamed(types[i]!), part));
}

/** The value after; undefined after the last one of the type. */
function successor(type: DataType, words: readonly number[]): number[] | undefined {
  const out = [...words];
  if (type.bytes < 4) {
    out[0]!++;
    return out[0]! >= 1 << (8 * type.bytes) ? undefined : out;
  }
  for (let i = out.length - 1; i >= 0; i--) {
    out[i] = (out[i]! + 1) >>> 0;
    if (out[i] !== 0) return out;
  }
  return undefined;
}

function isZero(words: readonly number[]): boolean {
  return words.every((word) => word === 0);
}

/** Types of the data of a map, as its elements show them: an address and a port make two. */
export function dataTypesOf(wanted: readonly string[], map: Value): readonly string[] {
  const data = map.kind === 'set' ? map.elements[0]?.data : undefined;
  return data?.kind === 'tuple' ? wanted : wanted.slice(0, 1);
}
