import { InputError } from '../../kubernetes/input-error.ts';
import { numberOf, swapped, textWords, typeNamed, type DataType } from './datatypes.ts';
import type { Value, Verdict } from './statement.ts';
import { ACCEPT, CONTINUE, DROP, GOTO, JUMP, RETURN, verdictWord } from '../kernel/program.ts';

/** Where a rule or an element comes from, for errors. */
export interface SourcePlace {
  readonly file: string;
  /** From 1; 0 where there is none. */
  readonly line: number;
}

/** What names stand for, when values become words. */
export interface NameLookup {
  readonly place?: SourcePlace;
  /** Number of a chain of the table; undefined if there is none. */
  chain(name: string): number | undefined;
  /** Index of an interface, for iif and oif; absent where no interface is known. */
  interfaceIndex?(name: string): number | undefined;
}

/** First and last value that a key means, each as words in host order, most significant first. */
export interface Span {
  readonly from: readonly number[];
  readonly to: readonly number[];
}

export const VERDICT_KINDS = {
  accept: ACCEPT,
  drop: DROP,
  continue: CONTINUE,
  return: RETURN,
  jump: JUMP,
  goto: GOTO,
} as const;

export function linearizeError(names: NameLookup, problem: string, hint: string): InputError {
  return new InputError({
    file: names.place?.file ?? 'rule',
    document: 0,
    line: names.place?.line ?? 0,
    subject: '',
    field: '',
    problem,
    hint,
  });
}

/** Words in host order of a single value. */
export function hostWords(type: DataType, value: Value, names: NameLookup): readonly number[] {
  if (type.print === 'address') {
    if (value.kind === 'address' && 4 * value.words.length === type.bytes) return value.words;
    throw mismatch(type, value, names);
  }
  if (type.order === 'text') return nameWords(type, value, names);
  if (type.name === 'mark' && value.kind === 'address' && value.words.length === 1) return value.words;
  const number =
    type.print === 'interface' && value.kind === 'symbol'
      ? names.interfaceIndex?.(value.text)
      : numberOf(type, value);
  if (number === undefined && type.print === 'interface' && value.kind === 'symbol') {
    throw linearizeError(
      names,
      `interface ${value.text} does not exist`,
      'match it by name: iifname, oifname',
    );
  }
  if (number === undefined) throw mismatch(type, value, names);
  if (number < 0 || number > (type.bytes >= 4 ? 0xffffffff : (1 << (8 * type.bytes)) - 1)) {
    throw linearizeError(names, `${number} is too large for ${type.name}`, `it has ${8 * type.bytes} bits`);
  }
  return [number];
}

function nameWords(type: DataType, value: Value, names: NameLookup): readonly number[] {
  if (value.kind !== 'symbol') throw mismatch(type, value, names);
  if (value.text.length >= type.bytes || !/^[\x21-\x7e]+$/.test(value.text)) {
    throw linearizeError(
      names,
      `${JSON.stringify(value.text)} is no name of an interface`,
      `names have 1 to ${type.bytes - 1} printable characters`,
    );
  }
  return textWords(value.text);
}

/** What a value, prefix, range or `name*` covers. */
export function spanOf(type: DataType, value: Value, names: NameLookup): Span {
  if (value.kind === 'prefix') {
    if (type.print !== 'address' || 4 * value.words.length !== type.bytes) throw mismatch(type, value, names);
    return {
      from: value.words,
      to: value.words.map((word, i) => (word | ~maskWord(value.length - 32 * i)) >>> 0),
    };
  }
  if (value.kind === 'range') {
    const from = hostWords(type, value.from, names);
    const to = hostWords(type, value.to, names);
    if (compareWords(from, to) > 0) {
      throw linearizeError(names, 'a range that ends before it begins', 'write the smaller value first');
    }
    return { from, to };
  }
  if (isWildcard(type, value)) {
    const text = (value as { readonly text: string }).text.slice(0, -1);
    const from = textWords(text);
    return { from, to: from.map((word, i) => (word | ~maskWord(8 * text.length - 32 * i)) >>> 0) };
  }
  const words = hostWords(type, value, names);
  return { from: words, to: words };
}

export function isWildcard(type: DataType, value: Value): boolean {
  return type.order === 'text' && value.kind === 'symbol' && value.text.endsWith('*');
}

/** A value that stands for more than one key. */
export function isWide(type: DataType, value: Value): boolean {
  if (value.kind === 'prefix') return value.length < 32 * value.words.length;
  return value.kind === 'range' || isWildcard(type, value);
}

/** Words as registers hold them. */
export function memoryWords(type: DataType, words: readonly number[]): number[] {
  return words.map((word) => swapped(type, word));
}

/** One key or datum, part by part, as registers hold it. */
export function tupleWords(types: readonly string[], value: Value, names: NameLookup): number[] {
  if (types.length === 1) {
    const type = typeNamed(types[0]!);
    return memoryWords(type, hostWords(type, single(value), names));
  }
  const parts = partsOf(types, value, names);
  return types.flatMap((name, i) => {
    const type = typeNamed(name);
    return memoryWords(type, hostWords(type, single(parts[i]!), names));
  });
}

export function partsOf(types: readonly string[], value: Value, names: NameLookup): readonly Value[] {
  const parts = value.kind === 'tuple' ? value.parts : [value];
  if (parts.length === types.length) return parts;
  throw linearizeError(
    names,
    `a value of ${parts.length} parts where ${types.length} are wanted`,
    `write ${types.join(' . ')}`,
  );
}

/** A prefix of full length is the address. */
export function single(value: Value): Value {
  if (value.kind !== 'prefix' || value.length !== 32 * value.words.length) return value;
  return { kind: 'address', words: value.words };
}

export function verdictData(verdict: Verdict, names: NameLookup): number {
  if (verdict.kind !== 'jump' && verdict.kind !== 'goto') return verdictWord(VERDICT_KINDS[verdict.kind]);
  return verdictWord(VERDICT_KINDS[verdict.kind], chainNumber(verdict.chain, names));
}

export function chainNumber(name: string, names: NameLookup): number {
  const chain = names.chain(name);
  if (chain !== undefined) return chain;
  throw linearizeError(names, `chain ${name} does not exist in this table`, `add chain … ${name} first`);
}

export function compareWords(one: readonly number[], other: readonly number[]): number {
  for (let i = 0; i < one.length; i++) {
    if (one[i]! !== other[i]!) return one[i]! - other[i]!;
  }
  return 0;
}

/** The highest `bits` of a word; none below 1, all above 31. */
export function maskWord(bits: number): number {
  return bits <= 0 ? 0 : bits >= 32 ? 0xffffffff : (-1 << (32 - bits)) >>> 0;
}

function mismatch(type: DataType, value: Value, names: NameLookup): InputError {
  const text = value.kind === 'symbol' ? JSON.stringify(value.text) : `a value of kind ${value.kind}`;
  const known = type.symbols === undefined ? '' : `: ${[...type.symbols.keys()].slice(0, 8).join(', ')}, …`;
  return linearizeError(names, `${text} is no ${type.name}`, `write a ${type.name}${known}`);
}
