import { FIELDS, swapped, typeNamed, typesOf, valueFrom, wordsText, type DataType } from './datatypes.ts';
import { prefixLength, type NameGiver } from './delinearize-set.ts';
import { EQ, GT, GTE, LT, LTE, NEQ } from '../kernel/program.ts';
import type { Expression, MatchOperator, Statement, Value } from './statement.ts';

/** What a register holds, as far as it can be said in nft's words. */
export interface Held {
  /** A field, a key or what a map gave; absent for a constant. */
  readonly expression?: Expression;
  /** Bytes read, when they are fewer than the field has: the beginning of a prefix. */
  readonly bytes?: number;
  readonly mask?: readonly number[];
  readonly xor?: readonly number[];
  /** A constant, as registers hold it. */
  readonly words?: readonly number[];
  /** Types of what a map gave. */
  readonly data?: readonly string[];
}

export const OPERATORS: ReadonlyMap<number, MatchOperator> = new Map<number, MatchOperator>([
  [EQ, '=='],
  [NEQ, '!='],
  [LT, '<'],
  [GT, '>'],
  [LTE, '<='],
  [GTE, '>='],
]);

/** Matches that a comparison of a register says: two if it compared both ports at once. */
export function matchesFrom(
  held: Held,
  operator: MatchOperator,
  words: readonly number[],
  byteLength: number,
  names: NameGiver,
): Statement[] {
  const left = held.expression!;
  const type = typeNamed(typesOf(left)[0]!);
  const host = words.map((word) => swapped(type, word));
  if (left.kind === 'payload' && left.field === 'ports') return portMatches(left, operator, host[0]!);
  if (held.mask !== undefined) return [maskedMatch(held, type, operator, host, names)];
  if (held.bytes !== undefined) {
    return [match(left, operator, { kind: 'prefix', words: padded(host, type), length: 8 * held.bytes })];
  }
  if (type.order === 'text' && byteLength < type.bytes) {
    return [match(left, operator, { kind: 'symbol', text: `${wordsText(host)}*` })];
  }
  const statement = match(left, operator, value(type, host, names));
  return [type.bits && operator === '==' ? { ...statement, exactly: true } : statement];
}

export function rangeMatch(
  held: Held,
  operator: MatchOperator,
  from: readonly number[],
  to: readonly number[],
  names: NameGiver,
): Statement {
  const left = held.expression!;
  const type = typeNamed(typesOf(left)[0]!);
  const ends = [from, to].map((words) =>
    value(
      type,
      words.map((word) => swapped(type, word)),
      names,
    ),
  );
  return match(left, operator, { kind: 'range', from: plain(type, ends[0]!), to: plain(type, ends[1]!) });
}

/** What was masked and flipped on its way, as operators: nft turns the pair into and, xor and or. */
export function masked(held: Held): Expression {
  const { expression, mask, xor } = held;
  if (expression === undefined || mask === undefined || xor === undefined) return expression!;
  const type = typeNamed(typesOf(expression)[0]!);
  // Source: nftables 1.0.6, src/netlink_delinearize.c, netlink_parse_bitwise_mask_xor.
  const or = mask.map((word, i) => ((word & xor[i]!) ^ xor[i]!) >>> 0);
  const flips = xor.map((word, i) => (word & mask[i]!) >>> 0);
  const kept = mask.map((word, i) => (word | or[i]!) >>> 0);
  const all = kept.every((word) => word === 0xffffffff);
  const steps: ['&' | '|' | '^', readonly number[]][] = [];
  if (!all) steps.push(['&', kept]);
  if (flips.some((word) => word !== 0)) steps.push(['^', flips]);
  if (or.some((word) => word !== 0)) steps.push(['|', or]);
  return steps.reduce<Expression>(
    (left, [operator, words]) => ({
      kind: 'binary',
      operator,
      left,
      right: constant(
        type,
        words.map((word) => swapped(type, word)),
      ),
    }),
    expression,
  );
}

function maskedMatch(
  held: Held,
  type: DataType,
  operator: MatchOperator,
  host: readonly number[],
  names: NameGiver,
): Statement {
  const left = held.expression!;
  const mask = held.mask!.map((word) => swapped(type, word));
  const unflipped = held.xor!.every((word) => word === 0);
  if (unflipped && type.bits && operator === '!=' && host[0] === 0 && mask[0] !== 0) {
    return match(left, '==', value(type, mask, names));
  }
  if (unflipped && (type.print === 'address' || type.name === 'mark')) {
    const length = prefixLength(
      mask.map(() => 0),
      mask.map((word) => ~word >>> 0),
    );
    if (length !== undefined) return match(left, operator, { kind: 'prefix', words: host, length });
  }
  const statement = match(masked(held), operator, value(type, host, names));
  return type.bits && operator === '==' ? { ...statement, exactly: true } : statement;
}

function portMatches(
  left: Extract<Expression, { kind: 'payload' }>,
  operator: MatchOperator,
  both: number,
): Statement[] {
  if (left.header === 'th') {
    const raw: Expression = { kind: 'payload', header: '@th', field: '0,32' };
    return [match(raw, operator, { kind: 'integer', value: both })];
  }
  const { header } = left;
  return [
    match({ kind: 'payload', header, field: 'sport' }, operator, { kind: 'integer', value: both >>> 16 }),
    match({ kind: 'payload', header, field: 'dport' }, operator, { kind: 'integer', value: both & 0xffff }),
  ];
}

/** The field that a load reads, whole or from its beginning. */
export function fieldAt(
  header: (base: number) => string,
  base: number,
  offset: number,
  bytes: number,
): Held | undefined {
  const wanted = header(base);
  const field = FIELDS.find(
    (candidate) =>
      candidate.header === wanted &&
      candidate.base === base &&
      candidate.offset === offset &&
      (candidate.bytes === bytes || (candidate.bytes > bytes && candidate.type.endsWith('_addr'))),
  );
  if (field === undefined) return undefined;
  const expression: Expression = { kind: 'payload', header: field.header, field: field.field };
  return field.bytes === bytes ? { expression } : { expression, bytes };
}

function match(
  left: Expression,
  operator: MatchOperator,
  right: Value,
): Extract<Statement, { kind: 'match' }> {
  return { kind: 'match', left, operator, right };
}

function value(type: DataType, host: readonly number[], names: NameGiver): Value {
  return valueFrom(type, host, names.interfaceName && ((index) => names.interfaceName!(index)));
}

/** Ends of a range of protocols are printed as numbers. */
function plain(type: DataType, end: Value): Value {
  if (end.kind !== 'symbol' || type.symbols === undefined) return end;
  return { kind: 'integer', value: type.symbols.get(end.text)! };
}

function constant(type: DataType, host: readonly number[]): Value {
  return type.print === 'address' ? { kind: 'address', words: host } : valueFrom(type, host);
}

function padded(words: readonly number[], type: DataType): number[] {
  return Array.from({ length: type.bytes / 4 }, (_, i) => words[i] ?? 0);
}
