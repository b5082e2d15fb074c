import { CT_KEYS, META_KEYS, fieldOf, swapped, typeNamed, typesOf } from './datatypes.ts';
import { evaluated } from './linearize-evaluate.ts';
import { linearizeNat, linearizeRedirect, linearizeReject } from './linearize-nat.ts';
import { anonymousKernelSet, type KernelSet } from './linearize-set.ts';
import {
  VERDICT_KINDS,
  chainNumber,
  hostWords,
  isWildcard,
  linearizeError,
  maskWord,
  memoryWords,
  single,
  type NameLookup,
} from './linearize-value.ts';
import {
  DYNSET_ADD,
  DYNSET_DELETE,
  DYNSET_UPDATE,
  EQ,
  FIB_DADDR,
  FIB_IIF,
  FIB_MARK,
  FIB_OIF,
  FIB_RESULT_TYPE,
  FIB_SADDR,
  GT,
  GTE,
  LT,
  LTE,
  NEQ,
  NO_REGISTER,
  NUMGEN_INC,
  NUMGEN_RANDOM,
  VERDICT,
  type ProgramBuilder,
} from '../kernel/program.ts';
import type { Expression, Family, MatchOperator, Rule, Statement, Value } from './statement.ts';

/** A named set or map of the table. */
export interface NamedSet {
  readonly id: number;
  readonly types: readonly string[];
  readonly data?: readonly string[];
  readonly interval: boolean;
}

/** The table to which a rule belongs. */
export interface LinearizeContext extends NameLookup {
  readonly family: Family;
  set(name: string): NamedSet | undefined;
  /** Hands an anonymous set or map to the kernel, before the rule that refers to it; its number. */
  anonymousSet(set: KernelSet): number;
  /** Makes a counter that starts at these figures; its number. Without it, counters are number 0. */
  counter?(packets: number, bytes: number): number;
}

const OPERATORS: Readonly<Record<MatchOperator, number>> = {
  '==': EQ,
  '!=': NEQ,
  '<': LT,
  '>': GT,
  '<=': LTE,
  '>=': GTE,
};
const FIB_FLAGS: Readonly<Record<string, number>> = {
  saddr: FIB_SADDR,
  daddr: FIB_DADDR,
  mark: FIB_MARK,
  iif: FIB_IIF,
  oif: FIB_OIF,
};
const DYNSET_OPS = { add: DYNSET_ADD, update: DYNSET_UPDATE, delete: DYNSET_DELETE } as const;

/**
 * A rule as expressions for the kernel, appended to `builder` from its `rule()` to its `end()`.
 * Models: exactly what nft 1.0.6 sends: protocol tests that a header implies, sets of one element as a plain test,
 * prefixes at byte boundaries as shorter loads, adjacent ports as one load.
 * Source: nftables 1.0.6, src/evaluate.c, src/netlink_linearize.c, src/payload.c; `nft --debug=netlink`.
 * Not modelled: expressions that need `byteorder` (ranges of marks and of numgen): refused.
 * @throws InputError at the context's place.
 */
export function linearize(rule: Rule, context: LinearizeContext, builder: ProgramBuilder): void {
  builder.rule(rule.handle ?? 0);
  for (const statement of evaluated(rule, context)) linearizeStatement(statement, context, builder);
  builder.end();
}

function linearizeStatement(statement: Statement, context: LinearizeContext, builder: ProgramBuilder): void {
  switch (statement.kind) {
    case 'match':
      linearizeMatch(statement, context, builder);
      return;
    case 'verdict': {
      const { verdict } = statement;
      const jumps = verdict.kind === 'jump' || verdict.kind === 'goto';
      builder.verdict(VERDICT_KINDS[verdict.kind], jumps ? chainNumber(verdict.chain, context) : 0);
      return;
    }
    case 'vmap':
      load(statement.key, 0, context, builder);
      builder.lookup(mapNumber(statement.key, statement.map, ['verdict'], context).id, 0, VERDICT);
      return;
    case 'mangle':
      loadValue(statement.value, ['mark'], 0, context, builder);
      builder.metaSet(META_KEYS.get('mark')!.key, 0);
      return;
    case 'counter':
      builder.counter(context.counter?.(statement.packets, statement.bytes) ?? 0);
      return;
    case 'nat':
      linearizeNat(statement, context, builder);
      return;
    case 'masquerade':
    case 'redirect':
      linearizeRedirect(statement, context, builder);
      return;
    case 'reject':
      linearizeReject(statement, context, builder);
      return;
    case 'dynset': {
      load(statement.key, 0, context, builder);
      const set = setNamed(statement.set, typesOf(statement.key), context);
      builder.dynset(DYNSET_OPS[statement.operation], set.id, 0, statement.timeoutMs ?? 0);
    }
  }
}

type Match = Extract<Statement, { kind: 'match' }>;

function linearizeMatch(match: Match, context: LinearizeContext, builder: ProgramBuilder): void {
  const { left, right } = match;
  const types = typesOf(left);
  if (right.kind === 'reference' || right.kind === 'set') {
    if (match.operator !== '==' && match.operator !== '!=') {
      throw linearizeError(
        context,
        `${match.operator} before a set`,
        'a set is matched with nothing or with !=',
      );
    }
    load(left, 0, context, builder);
    const set =
      right.kind === 'reference'
        ? setNamed(right.name, types, context).id
        : context.anonymousSet(anonymousKernelSet({ types }, right.elements, context));
    builder.lookup(set, 0, NO_REGISTER, match.operator === '!=');
    return;
  }
  if (left.kind === 'concat') {
    throw linearizeError(context, 'a concatenation beside a single value', 'write it in braces: { a . b }');
  }
  const type = typeNamed(types[0]!);
  const value = single(right);
  if (value.kind === 'prefix') return matchPrefix(match, value, context, builder);
  if (isWildcard(type, value)) {
    const bytes = (value as { readonly text: string }).text.length - 1;
    if (bytes === 0) throw linearizeError(context, '"*" matches every name', 'leave the match out');
    load(left, 0, context, builder);
    const words = hostWords(
      type,
      { kind: 'symbol', text: (value as { text: string }).text.slice(0, -1) },
      context,
    );
    builder.cmp(OPERATORS[match.operator], 0, memoryWords(type, words), bytes);
    return;
  }
  if (type.order === 'host' && (value.kind === 'range' || !['==', '!='].includes(match.operator))) {
    throw linearizeError(
      context,
      `an order among values of ${type.name} is not modelled`,
      'it needs the expression byteorder: test with == or with a mask',
    );
  }
  load(left, 0, context, builder);
  if (value.kind === 'range') {
    const from = memoryWords(type, hostWords(type, value.from, context));
    const to = memoryWords(type, hostWords(type, value.to, context));
    if (match.operator === '!=') builder.range(NEQ, 0, from, to, type.bytes);
    else builder.cmp(GTE, 0, from, type.bytes).cmp(LTE, 0, to, type.bytes);
    return;
  }
  const words = memoryWords(type, hostWords(type, value, context));
  // A bit field without an operator: is any of these bits set?
  if (type.bits && left.kind === 'ct' && match.operator === '==' && !match.exactly) {
    builder.bitwise(0, 0, words, [0]).cmp(NEQ, 0, [0], type.bytes);
    return;
  }
  builder.cmp(OPERATORS[match.operator], 0, words, type.bytes);
}

function matchPrefix(
  match: Match,
  prefix: Extract<Value, { kind: 'prefix' }>,
  context: LinearizeContext,
  builder: ProgramBuilder,
): void {
  const { left } = match;
  const type = typeNamed(typesOf(left)[0]!);
  if (type.name !== 'mark' && type.print !== 'address') hostWords(type, prefix, context);
  if (4 * prefix.words.length !== type.bytes) hostWords(type, prefix, context);
  const op = OPERATORS[match.operator];
  const words = memoryWords(type, prefix.words);
  if (left.kind === 'payload' && prefix.length > 0 && prefix.length % 8 === 0) {
    const field = fieldOf(left.header, left.field)!;
    builder.payload(field.base, field.offset, prefix.length / 8, 0).cmp(op, 0, words, prefix.length / 8);
    return;
  }
  load(left, 0, context, builder);
  const mask = prefix.words.map((_, i) => swapped(type, maskWord(prefix.length - 32 * i)));
  builder
    .bitwise(
      0,
      0,
      mask,
      mask.map(() => 0),
    )
    .cmp(op, 0, words, type.bytes);
}

/** Load what an expression reads into registers from a word on; the word behind it. */
export function load(
  expression: Expression,
  register: number,
  context: LinearizeContext,
  builder: ProgramBuilder,
): number {
  switch (expression.kind) {
    case 'payload': {
      const field = fieldOf(expression.header, expression.field);
      if (field === undefined) {
        throw linearizeError(context, `no ${expression.header} ${expression.field}`, 'see datatypes.ts');
      }
      builder.payload(field.base, field.offset, field.bytes, register);
      return register + ((field.bytes + 3) >> 2);
    }
    case 'meta': {
      const { key, type } = META_KEYS.get(expression.key)!;
      builder.metaLoad(key, register);
      return register + ((typeNamed(type).bytes + 3) >> 2);
    }
    case 'ct':
      builder.ctLoad(CT_KEYS.get(expression.key)!.key, register);
      return register + 1;
    case 'fib': {
      const flags = expression.flags.reduce((bits, flag) => bits | FIB_FLAGS[flag]!, 0);
      builder.fib(flags, FIB_RESULT_TYPE, register);
      return register + 1;
    }
    case 'numgen':
      builder.numgen(
        expression.mode === 'inc' ? NUMGEN_INC : NUMGEN_RANDOM,
        expression.modulus,
        expression.offset,
        register,
      );
      return register + 1;
    case 'concat': {
      let at = register;
      for (const part of expression.parts) at = load(part, at, context, builder);
      return at;
    }
    case 'binary':
      return loadBinary(expression, register, context, builder);
    case 'map':
    case 'value':
      throw linearizeError(
        context,
        `a ${expression.kind} where a field was wanted`,
        'write what is to be tested',
      );
  }
}

/** All operators of a chain of them become one: mask, then xor. */
function loadBinary(
  expression: Extract<Expression, { kind: 'binary' }>,
  register: number,
  context: LinearizeContext,
  builder: ProgramBuilder,
): number {
  const type = typeNamed(typesOf(expression)[0]!);
  const steps: (typeof expression)[] = [];
  let inner: Expression = expression;
  for (; inner.kind === 'binary'; inner = inner.left) steps.push(inner);
  const end = load(inner, register, context, builder);
  const mask = Array.from({ length: end - register }, () => 0xffffffff);
  const xor = Array.from({ length: end - register }, () => 0);
  for (const { operator, right } of steps.toReversed()) {
    const words = memoryWords(type, hostWords(type, single(right), context));
    for (let i = 0; i < words.length; i++) {
      const word = words[i]!;
      if (operator === '&') {
        mask[i] = (mask[i]! & word) >>> 0;
        xor[i] = (xor[i]! & word) >>> 0;
      } else if (operator === '|') {
        mask[i] = (mask[i]! & ~word) >>> 0;
        xor[i] = ((xor[i]! & ~word) | word) >>> 0;
      } else xor[i] = (xor[i]! ^ word) >>> 0;
    }
  }
  builder.bitwise(register, register, mask, xor);
  return end;
}

/** A constant, a field, or what a map gives for one: into registers from a word on; the number of words. */
export function loadValue(
  expression: Expression,
  types: readonly string[],
  register: number,
  context: LinearizeContext,
  builder: ProgramBuilder,
): number {
  if (expression.kind === 'value') {
    const type = typeNamed(types[0]!);
    const words = memoryWords(type, hostWords(type, single(expression.value), context));
    builder.immediate(register, words);
    return words.length;
  }
  if (expression.kind !== 'map') return load(expression, register, context, builder) - register;
  load(expression.key, register, context, builder);
  const set = mapNumber(expression.key, expression.map, types, context);
  builder.lookup(set.id, register, register);
  return 1;
}

function mapNumber(
  key: Expression,
  map: Value,
  data: readonly string[],
  context: LinearizeContext,
): { readonly id: number } {
  const types = typesOf(key);
  if (map.kind === 'reference') {
    const set = setNamed(map.name, types, context);
    if (set.data?.join(' . ') === data.join(' . ')) return set;
    throw linearizeError(context, `${map.name} is no map to ${data.join(' . ')}`, 'refer to another map');
  }
  if (map.kind !== 'set') throw linearizeError(context, 'a map is wanted', 'write { key : data } or @name');
  if (map.elements.some((element) => element.data === undefined)) {
    throw linearizeError(context, 'an element of the map has no data', 'write each as key : data');
  }
  return { id: context.anonymousSet(anonymousKernelSet({ types, data }, map.elements, context)) };
}

function setNamed(name: string, types: readonly string[], context: LinearizeContext): NamedSet {
  const set = context.set(name);
  if (set === undefined) {
    throw linearizeError(context, `set ${name} does not exist in this table`, `add set … ${name} first`);
  }
  const same = set.types.length === types.length && types.every((type, i) => type === set.types[i]);
  if (!same) {
    throw linearizeError(
      context,
      `set ${name} holds ${set.types.join(' . ')}, and ${types.join(' . ')} is looked up in it`,
      'the types must be the same',
    );
  }
  if (set.interval && set.types.length === 1 && typeNamed(types[0]!).order === 'host') {
    throw linearizeError(context, `intervals of ${types[0]} are not modelled`, 'use a set without intervals');
  }
  return set;
}
