import { formatAddress } from '../../netfilter/address.ts';
import { numberOf, typeNamed, typesOf, valueText, type DataType } from './datatypes.ts';
import { jsonElement } from './json.ts';
import { dataTypesOf } from './linearize-set.ts';
import { inListingOrder } from './listing-order.ts';
import type { Expression, Family, Statement, Value, Verdict } from './statement.ts';

export type Json = null | number | string | boolean | readonly Json[] | { readonly [name: string]: Json };

/** A statement of a listed rule. */
export function jsonStatement(statement: Statement, family: Family): Json {
  switch (statement.kind) {
    case 'match': {
      const types = typesOf(statement.left);
      return {
        match: {
          op: matchOperator(statement),
          left: jsonExpression(statement.left),
          right: jsonRight(statement, types),
        },
      };
    }
    case 'verdict':
      return jsonVerdict(statement.verdict);
    case 'vmap':
      return {
        vmap: {
          key: jsonExpression(statement.key),
          data: jsonOperand(typesOf(statement.key), ['verdict'], statement.map),
        },
      };
    case 'mangle':
      return {
        mangle: { key: jsonExpression(statement.key), value: jsonValued(statement.value, ['mark']) },
      };
    case 'nat':
      return jsonNat(statement);
    case 'masquerade':
    case 'redirect': {
      const { port, flags } = statement;
      if (port === undefined && flags.length === 0) return { [statement.kind]: null };
      return {
        [statement.kind]: {
          ...(port === undefined ? {} : { port: jsonValued(port, ['inet_service']) }),
          ...jsonFlags(flags),
        },
      };
    }
    case 'reject': {
      if (statement.type === 'tcp reset') return { reject: { type: 'tcp reset' } };
      const plain = family === 'ip' ? 'icmp' : family === 'ip6' ? 'icmpv6' : 'icmpx';
      return { reject: { type: statement.type ?? plain, expr: statement.code ?? 'port-unreachable' } };
    }
    case 'counter':
      return { counter: { packets: statement.packets, bytes: statement.bytes } };
    case 'dynset': {
      const key = jsonExpression(statement.key);
      const { timeoutMs } = statement;
      const elem =
        timeoutMs === undefined ? key : { elem: { val: key, timeout: Math.floor(timeoutMs / 1000) } };
      return { set: { op: statement.operation, elem, set: `@${statement.set}` } };
    }
  }
}

export function jsonVerdict(verdict: Verdict): Json {
  return verdict.kind === 'jump' || verdict.kind === 'goto'
    ? { [verdict.kind]: { target: verdict.chain } }
    : { [verdict.kind]: null };
}

export function jsonExpression(expression: Expression): Json {
  switch (expression.kind) {
    case 'payload': {
      if (!expression.header.startsWith('@')) {
        return { payload: { protocol: expression.header, field: expression.field } };
      }
      const [offset, len] = expression.field.split(',').map(Number);
      return { payload: { base: expression.header.slice(1), offset: offset!, len: len! } };
    }
    case 'meta':
      return { meta: { key: expression.key } };
    case 'ct':
      return { ct: { key: expression.key } };
    case 'fib':
      return { fib: { result: expression.result, flags: expression.flags } };
    case 'numgen':
      return { numgen: { mode: expression.mode, mod: expression.modulus, offset: expression.offset } };
    case 'concat':
      return { concat: expression.parts.map(jsonExpression) };
    case 'binary': {
      const right = jsonOperand(typesOf(expression), undefined, expression.right);
      return { [expression.operator]: [jsonExpression(expression.left), right] };
    }
    case 'map':
      return jsonValued(expression, ['integer']);
    case 'value':
      return jsonOperand(['integer'], undefined, expression.value);
  }
}

/** A value, or the values of the parts of a concatenation. */
export function jsonTuple(types: readonly string[], value: Value): Json {
  if (value.kind !== 'tuple') return jsonOperand(types, undefined, value);
  return { concat: value.parts.map((part, i) => jsonOperand([types[i] ?? 'integer'], undefined, part)) };
}

function jsonNat(nat: Extract<Statement, { kind: 'nat' }>): Json {
  const six = nat.family === 'ip6' || sixWords(nat.address);
  const types = [six ? 'ipv6_addr' : 'ipv4_addr', 'inet_service'];
  const data = nat.address?.kind === 'map' ? dataTypesOf(types, nat.address.map) : types.slice(0, 1);
  return {
    [nat.type]: {
      ...(nat.family === undefined ? {} : { family: nat.family }),
      ...(nat.address === undefined ? {} : { addr: jsonValued(nat.address, data) }),
      ...(nat.port === undefined ? {} : { port: jsonValued(nat.port, ['inet_service']) }),
      ...jsonFlags(nat.flags),
    },
  };
}

function sixWords(address: Expression | undefined): boolean {
  if (address?.kind !== 'value') return false;
  const value = address.value.kind === 'range' ? address.value.from : address.value;
  return value.kind === 'address' && value.words.length === 4;
}

function jsonValued(expression: Expression, types: readonly string[]): Json {
  if (expression.kind === 'value') return jsonTuple(types, expression.value);
  if (expression.kind !== 'map') return jsonExpression(expression);
  const keys = typesOf(expression.key);
  return {
    map: { key: jsonExpression(expression.key), data: jsonOperand(keys, types, expression.map) },
  };
}

function jsonOperand(types: readonly string[], data: readonly string[] | undefined, value: Value): Json {
  const type = typeNamed(types[0]!);
  switch (value.kind) {
    case 'set':
      return {
        set: inListingOrder(types, value.elements).map((element) => jsonElement(types, data, element)),
      };
    case 'reference':
      return `@${value.name}`;
    case 'tuple':
      return jsonTuple(types, value);
    case 'prefix':
      return {
        prefix: {
          addr: type.print === 'address' ? formatAddress(value.words) : value.words[0]!,
          len: value.length,
        },
      };
    case 'range':
      return { range: [jsonEnd(type, value.from), jsonEnd(type, value.to)] };
    case 'flags':
      return value.names;
    case 'integer':
    case 'symbol': {
      // A number is one where it is listed as one; indices of interfaces are names to nft even when they have none.
      if (type.order === 'text') return value.kind === 'symbol' ? value.text : String(value.value);
      if (type.print === 'interface') return value.kind === 'symbol' ? value.text : String(value.value);
      if (type.print === 'hex' || type.print === 'decimal') return numberOf(type, value) ?? 0;
      const text = valueText(type, value);
      return /^\d+$/.test(text) ? Number(text) : text;
    }
    case 'address':
      return formatAddress(value.words);
    case 'verdict':
      return jsonVerdict(value.verdict);
  }
}

/** Bits after == or != are joined as numbers are. */
function jsonRight(match: Extract<Statement, { kind: 'match' }>, types: readonly string[]): Json {
  const { right } = match;
  if (right.kind !== 'flags' || (match.operator === '==' && !match.exactly)) {
    return jsonOperand(types, undefined, right);
  }
  return right.names.slice(1).reduce<Json>((left, name) => ({ '|': [left, name] }), right.names[0]!);
}

/** Ends of ranges are numbers where they can be. */
function jsonEnd(type: DataType, value: Value): Json {
  if (type.order === 'text' || type.print === 'interface') return jsonOperand([type.name], undefined, value);
  return numberOf(type, value) ?? jsonOperand([type.name], undefined, value);
}

function jsonFlags(flags: readonly string[]): { readonly [name: string]: Json } {
  if (flags.length === 0) return {};
  return { flags: flags.length === 1 ? flags[0]! : flags };
}

function matchOperator(match: Extract<Statement, { kind: 'match' }>): string {
  const bits = typeNamed(typesOf(match.left)[0]!).bits === true;
  const implicit = match.operator === '==' && !match.exactly && bits && match.left.kind === 'ct';
  const single =
    match.right.kind === 'symbol' || match.right.kind === 'flags' || match.right.kind === 'integer';
  return implicit && single ? 'in' : match.operator;
}
