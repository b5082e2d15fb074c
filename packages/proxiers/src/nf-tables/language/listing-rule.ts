import { typeNamed, typesOf, valueText } from './datatypes.ts';
import { dataTypesOf } from './linearize-set.ts';
import { inListingOrder } from './listing-order.ts';
import { timeText } from './reader-word.ts';
import type { Element, Expression, Rule, Statement, Value, Verdict } from './statement.ts';

/** A rule as `nft list` prints it, without its handle. */
export function ruleText(rule: Rule): string {
  const text = rule.statements.map(statementText).join(' ');
  return rule.comment === undefined ? text : `${text} comment "${rule.comment}"`;
}

export function verdictText(verdict: Verdict): string {
  return verdict.kind === 'jump' || verdict.kind === 'goto'
    ? `${verdict.kind} ${verdict.chain}`
    : verdict.kind;
}

/** An element as it stands in a listed set: `key [timeout …] [expires …] [comment …] [: data]`. */
export function elementText(
  types: readonly string[],
  data: readonly string[] | undefined,
  element: Element,
): string {
  let text = tupleText(types, element.key);
  if (element.timeoutMs !== undefined) text += ` timeout ${timeText(element.timeoutMs)}`;
  if (element.expiresMs !== undefined) text += ` expires ${timeText(element.expiresMs)}`;
  if (element.comment !== undefined) text += ` comment "${element.comment}"`;
  return element.data === undefined ? text : `${text} : ${tupleText(data ?? ['integer'], element.data)}`;
}

export function tupleText(types: readonly string[], value: Value): string {
  if (value.kind === 'verdict') return verdictText(value.verdict);
  if (value.kind !== 'tuple') return valueText(typeNamed(types[0]!), value);
  return value.parts.map((part, i) => valueText(typeNamed(types[i] ?? 'integer'), part)).join(' . ');
}

function statementText(statement: Statement): string {
  switch (statement.kind) {
    case 'match':
      return matchText(statement);
    case 'verdict':
      return verdictText(statement.verdict);
    case 'vmap':
      return `${expressionText(statement.key)} vmap ${mapText(statement.key, statement.map, ['verdict'])}`;
    case 'mangle':
      return `${expressionText(statement.key)} set ${operandText(statement.value, ['mark'])}`;
    case 'nat':
      return natText(statement);
    case 'masquerade':
    case 'redirect': {
      const port = statement.port ? ` to :${operandText(statement.port, ['inet_service'])}` : '';
      return `${statement.kind}${port}${flagsText(statement.flags)}`;
    }
    case 'reject': {
      if (statement.type === undefined) return 'reject';
      return `reject with ${statement.type}${statement.code === undefined ? '' : ` ${statement.code}`}`;
    }
    case 'counter':
      return `counter packets ${statement.packets} bytes ${statement.bytes}`;
    case 'dynset': {
      const timeout = statement.timeoutMs === undefined ? '' : ` timeout ${timeText(statement.timeoutMs)}`;
      return `${statement.operation} @${statement.set} { ${expressionText(statement.key)}${timeout} }`;
    }
  }
}

function matchText(match: Extract<Statement, { kind: 'match' }>): string {
  const left = expressionText(match.left);
  const types = typesOf(match.left);
  const type = typeNamed(types[0]!);
  const { operator, right } = match;
  // A bit field with several bits after == or != : they are joined as a number is, and == is not written.
  if (right.kind === 'flags' && (operator === '!=' || match.exactly)) {
    return `${left} ${operator === '!=' ? '!= ' : ''}${right.names.join(' | ')}`;
  }
  const masked = match.left.kind === 'binary';
  const written = operator !== '==' || (match.exactly ?? false) || masked ? `${operator} ` : '';
  if (right.kind === 'set') return `${left} ${written}${setText(types, undefined, right.elements)}`;
  if (right.kind === 'reference') return `${left} ${written}@${right.name}`;
  if (right.kind === 'tuple') return `${left} ${written}${tupleText(types, right)}`;
  if (match.left.kind === 'payload' && match.left.header.startsWith('@') && right.kind === 'integer') {
    return `${left} ${written}0x${right.value.toString(16)}`;
  }
  return `${left} ${written}${valueText(type, right)}`;
}

export function expressionText(expression: Expression): string {
  switch (expression.kind) {
    case 'payload':
      return expression.header.startsWith('@')
        ? `${expression.header},${expression.field}`
        : `${expression.header} ${expression.field}`;
    case 'meta':
      return expression.key.startsWith('iif') || expression.key.startsWith('oif')
        ? expression.key
        : `meta ${expression.key}`;
    case 'ct':
      return `ct ${expression.key}`;
    case 'fib':
      return `fib ${expression.flags.join(' . ')} ${expression.result}`;
    case 'numgen': {
      const offset = expression.offset === 0 ? '' : ` offset ${expression.offset}`;
      return `numgen ${expression.mode} mod ${expression.modulus}${offset}`;
    }
    case 'concat':
      return expression.parts.map(expressionText).join(' . ');
    case 'binary': {
      const type = typeNamed(typesOf(expression)[0]!);
      return `${expressionText(expression.left)} ${expression.operator} ${valueText(type, expression.right)}`;
    }
    case 'map':
      return `${expressionText(expression.key)} map ${mapText(expression.key, expression.map, ['integer'])}`;
    case 'value':
      return valueText(typeNamed('integer'), expression.value);
  }
}

function natText(nat: Extract<Statement, { kind: 'nat' }>): string {
  const six = isSix(nat);
  const types = [six ? 'ipv6_addr' : 'ipv4_addr', 'inet_service'];
  const family = nat.family === undefined ? '' : ` ${nat.family}`;
  let address = '';
  if (nat.address !== undefined) {
    const wanted = nat.address.kind === 'map' ? dataTypesOf(types, nat.address.map) : types.slice(0, 1);
    address = operandText(nat.address, wanted);
    if (nat.port !== undefined && six && nat.address.kind === 'value')
      address = bracketed(nat.address, address);
  }
  const port = nat.port === undefined ? '' : `:${operandText(nat.port, ['inet_service'])}`;
  return `${nat.type}${family} to ${address}${port}${flagsText(nat.flags)}`;
}

/** `[fd00::1]`, `[fd00::1]-[fd00::5]` before a port. */
function bracketed(expression: Expression, text: string): string {
  const range = expression.kind === 'value' && expression.value.kind === 'range';
  return range ? text.replace(/^(.*)-(.*)$/, '[$1]-[$2]') : `[${text}]`;
}

function isSix(nat: Extract<Statement, { kind: 'nat' }>): boolean {
  if (nat.family !== undefined) return nat.family === 'ip6';
  const address = nat.address;
  if (address?.kind !== 'value') return false;
  const value = address.value.kind === 'range' ? address.value.from : address.value;
  return value.kind === 'address' && value.words.length === 4;
}

function operandText(expression: Expression, types: readonly string[]): string {
  if (expression.kind === 'value') return tupleText(types, expression.value);
  if (expression.kind !== 'map') return expressionText(expression);
  return `${expressionText(expression.key)} map ${mapText(expression.key, expression.map, types)}`;
}

function mapText(key: Expression, map: Value, data: readonly string[]): string {
  if (map.kind === 'reference') return `@${map.name}`;
  return map.kind === 'set' ? setText(typesOf(key), data, map.elements) : '';
}

function setText(
  types: readonly string[],
  data: readonly string[] | undefined,
  elements: readonly Element[],
): string {
  const texts = inListingOrder(types, elements).map((element) => elementText(types, data, element));
  return `{ ${texts.join(', ')} }`;
}

function flagsText(flags: readonly string[]): string {
  return flags.length === 0 ? '' : ` ${flags.join(',')}`;
}
