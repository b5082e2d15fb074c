import { TRANSPORTS, fieldOf, numberOf, typeNamed } from './datatypes.ts';
import { hostWords, linearizeError, type NameLookup } from './linearize-value.ts';
import type { Expression, Family, Rule, Statement } from './statement.ts';

/** What is known of a packet at some place of a rule, by the table and by the matches before. */
interface Protocols {
  network: 'ip' | 'ip6' | undefined;
  transport: number | undefined;
}

interface EvaluateContext extends NameLookup {
  readonly family: Family;
}

type Match = Extract<Statement, { kind: 'match' }>;

const PROTOCOL_NAMES = new Map([...TRANSPORTS].map(([name, number]) => [number, name]));

/**
 * The rule with all that nft adds to it and takes from it before it makes expressions: tests of protocols that a
 * header implies, sets of one element opened, ports that lie side by side tested together, families filled in.
 * Source: nftables 1.0.6, src/evaluate.c, src/payload.c (payload_gen_dependency), src/rule.c (payload_try_merge).
 */
export function evaluated(rule: Rule, context: EvaluateContext): readonly Statement[] {
  const { statements } = rule;
  const known: Protocols = {
    network: context.family === 'inet' ? undefined : context.family,
    transport: undefined,
  };
  const out: Statement[] = [];
  for (let i = 0; i < statements.length; i++) {
    const before = out.at(-1);
    if (before?.kind === 'verdict' && before.verdict.kind !== 'continue') {
      throw linearizeError(context, 'a statement behind a verdict has no effect', 'put the verdict last');
    }
    evaluate(opened(statements[i]!), known, context, out);
  }
  return merged(out, context);
}

function evaluate(statement: Statement, known: Protocols, context: EvaluateContext, out: Statement[]): void {
  switch (statement.kind) {
    case 'match':
      imply(statement.left, known, context, out);
      out.push(statement);
      learn(statement, known);
      return;
    case 'vmap':
    case 'dynset':
      imply(statement.key, known, context, out);
      break;
    case 'mangle':
      imply(statement.value, known, context, out);
      break;
    case 'nat': {
      if (statement.address) imply(statement.address, known, context, out);
      if (statement.port) imply(statement.port, known, context, out);
      const family = statement.family ?? known.network;
      if (family === undefined) {
        throw linearizeError(
          context,
          `${statement.type} in a table of family inet needs a family`,
          `write ${statement.type} ip to … or ${statement.type} ip6 to …`,
        );
      }
      if (context.family !== 'inet' && family !== context.family) {
        throw linearizeError(
          context,
          `${family} in a table of family ${context.family}`,
          'use its own family',
        );
      }
      if (statement.port || statement.concatenated) needTransport(known, context);
      out.push({ ...statement, family });
      return;
    }
    case 'masquerade':
    case 'redirect':
      if (statement.port) {
        imply(statement.port, known, context, out);
        needTransport(known, context);
      }
      break;
    case 'reject':
      out.push(evaluatedReject(statement, known, context, out));
      return;
  }
  out.push(statement);
}

/** Tests of protocols that must come before an expression can be read. */
function imply(expression: Expression, known: Protocols, context: EvaluateContext, out: Statement[]): void {
  switch (expression.kind) {
    case 'concat':
      for (const part of expression.parts) imply(part, known, context, out);
      return;
    case 'binary':
      imply(expression.left, known, context, out);
      return;
    case 'map':
      imply(expression.key, known, context, out);
      return;
    case 'payload':
      implyHeader(expression.header, known, context, out);
  }
}

function implyHeader(header: string, known: Protocols, context: EvaluateContext, out: Statement[]): void {
  if (header === 'th') return;
  if (header === 'ip' || header === 'ip6') {
    if (known.network === header) return;
    if (known.network !== undefined) throw conflict(known.network, header, context);
    out.push(test('nfproto', header === 'ip' ? 'ipv4' : 'ipv6'));
    known.network = header;
    return;
  }
  const wanted = TRANSPORTS.get(header);
  if (known.transport === wanted || wanted === undefined) return;
  if (known.transport !== undefined) {
    throw conflict(PROTOCOL_NAMES.get(known.transport) ?? String(known.transport), header, context);
  }
  out.push(test('l4proto', header));
  known.transport = wanted;
}

/** What a match that held tells about the packet. */
function learn(match: Match, known: Protocols): void {
  if (match.operator !== '==') return;
  const { left, right } = match;
  if (left.kind === 'meta' && left.key === 'nfproto') {
    const family = numberOf(typeNamed('nf_proto'), right);
    if (family !== undefined) known.network = family === 2 ? 'ip' : 'ip6';
  }
  const names = left.kind === 'meta' && left.key === 'l4proto';
  const field = left.kind === 'payload' ? fieldOf(left.header, left.field) : undefined;
  if (names || field?.type === 'inet_proto') {
    known.transport = numberOf(typeNamed('inet_proto'), right) ?? known.transport;
  }
}

/** A set of one element is that element; concatenations stay. */
function opened(statement: Statement): Statement {
  if (statement.kind !== 'match' || statement.right.kind !== 'set') return statement;
  const { elements } = statement.right;
  if (elements.length !== 1 || statement.left.kind === 'concat') return statement;
  return { ...statement, right: elements[0]!.key };
}

type Reject = Extract<Statement, { kind: 'reject' }>;

function evaluatedReject(
  reject: Reject,
  known: Protocols,
  context: EvaluateContext,
  out: Statement[],
): Statement {
  const { type } = reject;
  if (type === undefined) {
    const found = known.network === 'ip' ? 'icmp' : known.network === 'ip6' ? 'icmpv6' : 'icmpx';
    return { kind: 'reject', type: found, code: 'port-unreachable' };
  }
  // These tests come before everything else.
  const first: Statement[] = [];
  if (type === 'tcp reset') implyHeader('tcp', known, context, first);
  else if (type === 'icmpx') {
    if (context.family !== 'inet') {
      throw linearizeError(context, 'icmpx in a table of one family', 'write icmp or icmpv6');
    }
  } else implyHeader(type === 'icmp' ? 'ip' : 'ip6', known, context, first);
  out.unshift(...first);
  return reject;
}

function needTransport(known: Protocols, context: EvaluateContext): void {
  if (known.transport !== undefined) return;
  throw linearizeError(
    context,
    'a port is translated, and no match before says which transport protocol it is',
    'write meta l4proto tcp (or tcp dport …) before it',
  );
}

/**
 * Matches of both ports become one load of four bytes, at the place of the source port. Of several the first ones
 * that suit: nft sorts the matches of single values between two other statements by offset and joins neighbours. Of
 * these statements it minds only those with two such matches or more before them.
 */
function merged(statements: Statement[], names: NameLookup): readonly Statement[] {
  let values: number[] = [];
  const gone: number[] = [];
  for (let i = 0; i <= statements.length; i++) {
    const statement = statements[i];
    if (statement?.kind === 'match') {
      if (testsOneValue(statement)) values.push(i);
    } else if (values.length > 1) {
      gone.push(...mergePorts(statements, values, names));
      values = [];
    }
  }
  return gone.length === 0 ? statements : statements.filter((_, i) => !gone.includes(i));
}

/** The places that became superfluous. */
function mergePorts(statements: Statement[], values: readonly number[], names: NameLookup): number[] {
  const match = (at: number): Match => statements[at] as Match;
  const ports = values.filter((at) => portOffset(match(at)) !== undefined);
  const sorted = ports.sort((a, b) => portOffset(match(a))! - portOffset(match(b))! || a - b);
  for (let i = 1; i < sorted.length; i++) {
    const [source, destination] = [sorted[i - 1]!, sorted[i]!];
    if (portOffset(match(source)) === portOffset(match(destination))) continue;
    if (match(source).operator !== match(destination).operator) return [];
    statements[source] = joinedPorts(match(source), match(destination), names);
    return [destination];
  }
  return [];
}

function portOffset({ left }: Match): number | undefined {
  const field = left.kind === 'payload' ? fieldOf(left.header, left.field) : undefined;
  return field?.base === 2 ? field.offset : undefined;
}

/** A field of a header beside a value that is no prefix and no range. */
function testsOneValue({ left, operator, right }: Match): boolean {
  if (left.kind !== 'payload' || (operator !== '==' && operator !== '!=')) return false;
  return right.kind === 'integer' || right.kind === 'symbol' || right.kind === 'address';
}

function joinedPorts(source: Match, destination: Match, names: NameLookup): Match {
  const type = typeNamed('inet_service');
  const from = hostWords(type, source.right, names)[0]!;
  const to = hostWords(type, destination.right, names)[0]!;
  const header = (source.left as Extract<Expression, { kind: 'payload' }>).header;
  return {
    kind: 'match',
    left: { kind: 'payload', header, field: 'ports' },
    operator: source.operator,
    right: { kind: 'integer', value: ((from << 16) | to) >>> 0 },
  };
}

function test(key: string, text: string): Statement {
  return {
    kind: 'match',
    left: { kind: 'meta', key },
    operator: '==',
    right: { kind: 'symbol', text },
  };
}

function conflict(one: string, other: string, context: EvaluateContext): Error {
  return linearizeError(
    context,
    `conflicting protocols: ${one} and ${other}`,
    'write a rule for each, or use th and meta l4proto',
  );
}
