import { CT_KEYS, META_KEYS, fieldOf } from './datatypes.ts';
import { readOperand, readSingle, readTuple, readVerdict } from './reader-value.ts';
import { readName, readNumber, readTime } from './reader-word.ts';
import type { Expression, MatchOperator, Rule, Statement, Value } from './statement.ts';
import type { Tokens } from './tokens.ts';

const COMPARISONS: ReadonlyMap<string, MatchOperator> = new Map([
  ['==', '=='],
  ['eq', '=='],
  ['!=', '!='],
  ['ne', '!='],
  ['<', '<'],
  ['lt', '<'],
  ['>', '>'],
  ['gt', '>'],
  ['<=', '<='],
  ['le', '<='],
  ['>=', '>='],
  ['ge', '>='],
]);
// Weakest first.
const BINARY: readonly ReadonlyMap<string, '&' | '|' | '^'>[] = [
  new Map([
    ['|', '|'],
    ['or', '|'],
  ]),
  new Map([
    ['^', '^'],
    ['xor', '^'],
  ]),
  new Map([
    ['&', '&'],
    ['and', '&'],
  ]),
];
const NAT_FLAGS: readonly string[] = ['random', 'fully-random', 'persistent'];
/** meta keys that may stand without `meta`. */
const BARE: readonly string[] = ['mark', 'iif', 'oif', 'iifname', 'oifname'];
const REFUSED: readonly string[] =
  'log limit quota meter queue notrack flow dup fwd tproxy synproxy last socket rt symhash jhash osf exthdr ether vlan arp icmp icmpv6 ah esp comp rt0 hbh frag dst mh ipsec xfrm time hour day skuid skgid nftrace rtclassid pkttype cpu cgroup length protocol priority secmark secpath ibrname obrname'.split(
    ' ',
  );

/** The statements of one rule, up to the end of its line or a `;`. */
export function readRule(tokens: Tokens): Rule {
  const statements: Statement[] = [];
  let comment: string | undefined;
  while (!tokens.atEnd) {
    if (tokens.take('comment')) {
      if (tokens.kind !== 'quoted' && tokens.kind !== 'word') {
        throw tokens.fault(`${tokens.shown()} is no comment`, 'write comment "text"');
      }
      comment = tokens.text;
      tokens.next();
      break;
    }
    statements.push(readStatement(tokens));
  }
  if (statements.length === 0) throw tokens.fault('a rule without a statement', 'write what it is to do');
  return comment === undefined ? { statements } : { statements, comment };
}

function readStatement(tokens: Tokens): Statement {
  const { text } = tokens;
  if (tokens.kind === 'word') {
    const verdict = readVerdict(tokens);
    if (verdict !== undefined) return { kind: 'verdict', verdict };
    switch (text) {
      case 'counter':
        return readCounter(tokens);
      case 'masquerade':
      case 'redirect':
        return readMasquerade(tokens, text);
      case 'dnat':
      case 'snat':
        return readNat(tokens, text);
      case 'reject':
        return readReject(tokens);
      case 'add':
      case 'update':
      case 'delete':
        return readDynset(tokens, text);
    }
    if (REFUSED.includes(text)) throw refused(tokens, text);
  }
  if (tokens.is('}')) throw tokens.fault('"}" right behind a rule', 'end each rule by a new line or by ;');
  return readExpressionStatement(tokens);
}

function readExpressionStatement(tokens: Tokens): Statement {
  const start = tokens.start;
  const line = tokens.line;
  const left = readExpression(tokens);
  if (tokens.take('vmap')) return { kind: 'vmap', key: left, map: readMapOperand(tokens) };
  if (tokens.take('set')) {
    if (left.kind !== 'meta' || left.key !== 'mark') {
      throw tokens.fault('only meta mark can be set here', 'write meta mark set …', start, line);
    }
    return { kind: 'mangle', key: left, value: readMapped(tokens) };
  }
  const operator =
    tokens.kind === 'sign' || tokens.kind === 'word' ? COMPARISONS.get(tokens.text) : undefined;
  if (operator !== undefined) tokens.next();
  const right = readBits(tokens, readOperand(tokens));
  const bits = left.kind === 'ct' && left.key !== 'mark';
  const exactly = operator === '==' && bits && (right.kind === 'symbol' || right.kind === 'flags');
  return { kind: 'match', left, operator: operator ?? '==', right, ...(exactly ? { exactly } : {}) };
}

/** `established | related`, as a comparison with exactly these bits is listed. */
function readBits(tokens: Tokens, first: Value): Value {
  if (first.kind !== 'symbol' || !tokens.is('|')) return first;
  const names = [first.text];
  while (tokens.take('|')) names.push(readName(tokens, 'a bit'));
  return { kind: 'flags', names };
}

/** `a . b`, each with its operators. */
function readExpression(tokens: Tokens): Expression {
  const first = readBinary(tokens, 0);
  if (!tokens.is('.')) return first;
  const parts = [first];
  while (tokens.take('.')) parts.push(readBinary(tokens, 0));
  return { kind: 'concat', parts };
}

function readBinary(tokens: Tokens, level: number): Expression {
  const operators = BINARY[level];
  if (operators === undefined) return readPrimary(tokens);
  let left = readBinary(tokens, level + 1);
  for (;;) {
    if (tokens.is('<<') || tokens.is('>>') || tokens.is('lshift') || tokens.is('rshift')) {
      throw tokens.fault('shifts are not read here', 'write the shifted number');
    }
    const operator = operators.get(tokens.text);
    if (operator === undefined || tokens.kind === 'quoted') return left;
    tokens.next();
    left = { kind: 'binary', operator, left, right: readSingle(tokens) };
  }
}

function readPrimary(tokens: Tokens): Expression {
  const { text } = tokens;
  if (tokens.take('(')) {
    const inner = readBinary(tokens, 0);
    tokens.expect(')', 'close the bracket');
    return inner;
  }
  if (tokens.kind !== 'word') {
    throw tokens.fault(
      `${tokens.shown()} where a statement was wanted`,
      'rules read as ip daddr 10.0.0.1 accept',
    );
  }
  if (BARE.includes(text)) {
    tokens.next();
    return { kind: 'meta', key: text };
  }
  if (tokens.take('meta')) return { kind: 'meta', key: readKey(tokens, 'meta', META_KEYS) };
  if (tokens.take('ct')) return { kind: 'ct', key: readKey(tokens, 'ct', CT_KEYS) };
  if (tokens.take('fib')) return readFib(tokens);
  if (tokens.take('numgen')) return readNumgen(tokens);
  const start = tokens.start;
  const line = tokens.line;
  if (['ip', 'ip6', 'tcp', 'udp', 'sctp', 'dccp', 'udplite', 'th'].includes(text)) {
    tokens.next();
    const field = tokens.text;
    if (fieldOf(text, field) === undefined || field === 'ports') {
      const wanted =
        text === 'ip'
          ? 'saddr, daddr and protocol'
          : text === 'ip6'
            ? 'saddr, daddr and nexthdr'
            : 'sport and dport';
      throw tokens.fault(`${text} ${field} is not read here`, `of ${text}, ${wanted} are`, start, line);
    }
    tokens.next();
    return { kind: 'payload', header: text, field };
  }
  throw refused(tokens, text);
}

function refused(tokens: Tokens, text: string): Error {
  return tokens.fault(
    `${JSON.stringify(text)} is not read here`,
    'read are verdicts, vmap, counter, reject, dnat, snat, masquerade, redirect, add/update/delete @set, and ' +
      'matches on ip, ip6, tcp, udp, sctp, th, meta, ct, fib and numgen',
  );
}

function readKey(tokens: Tokens, what: string, keys: ReadonlyMap<string, unknown>): string {
  const { text } = tokens;
  if (!keys.has(text)) {
    throw tokens.fault(`${what} ${text} is not read here`, `of ${what}, ${[...keys.keys()].join(', ')} are`);
  }
  tokens.next();
  return text;
}

/** `fib saddr . iif type` */
function readFib(tokens: Tokens): Expression {
  const flags: string[] = [];
  do {
    if (!['saddr', 'daddr', 'mark', 'iif', 'oif'].includes(tokens.text)) {
      throw tokens.fault(`fib ${tokens.shown()}`, 'fib takes saddr or daddr, and mark, iif or oif');
    }
    flags.push(tokens.text);
    tokens.next();
  } while (tokens.take('.'));
  const result = tokens.text;
  if (result !== 'type') {
    throw tokens.fault(
      `fib … ${result} is not read here`,
      'only the type of an address is: fib daddr type local',
    );
  }
  tokens.next();
  return { kind: 'fib', flags, result };
}

/** `random mod 3 [offset 1]` */
function readNumgen(tokens: Tokens): Expression {
  const mode = tokens.text;
  if (mode !== 'random' && mode !== 'inc') {
    throw tokens.fault(`numgen ${tokens.shown()}`, 'write numgen random mod N or numgen inc mod N');
  }
  tokens.next();
  tokens.expect('mod', `write numgen ${mode} mod N`);
  const modulus = readNumber(tokens, 'the modulus');
  if (modulus < 1 || modulus > 0xffffffff) throw tokens.fault(`mod ${modulus}`, 'the modulus is at least 1');
  return {
    kind: 'numgen',
    mode,
    modulus,
    offset: tokens.take('offset') ? readNumber(tokens, 'the offset') : 0,
  };
}

function readCounter(tokens: Tokens): Statement {
  tokens.next();
  if (tokens.is('name')) throw tokens.fault('named counters are not read here', 'write counter');
  const packets = tokens.take('packets') ? readNumber(tokens, 'a count of packets') : 0;
  const bytes = tokens.take('bytes') ? readNumber(tokens, 'a count of bytes') : 0;
  return { kind: 'counter', packets, bytes };
}

/** `[to :PORT] [flags]` */
function readMasquerade(tokens: Tokens, kind: 'masquerade' | 'redirect'): Statement {
  tokens.next();
  let port: Expression | undefined;
  if (tokens.take('to')) {
    // The colon may be left out, there being no address.
    tokens.take(':');
    port = readMapped(tokens);
  }
  return { kind, ...(port === undefined ? {} : { port }), flags: readFlags(tokens) };
}

/** `dnat [ip|ip6] [addr . port] [to] address[:port] [flags]` */
function readNat(tokens: Tokens, type: 'dnat' | 'snat'): Statement {
  tokens.next();
  let family: 'ip' | 'ip6' | undefined;
  // `dnat ip to`, `dnat ip addr . port to`; but `dnat ip saddr map { … }`.
  if (tokens.is('ip') || tokens.is('ip6')) {
    const name = tokens.text as 'ip' | 'ip6';
    tokens.next();
    if (!tokens.is('to') && !tokens.is('addr') && !tokens.is('interval') && !tokens.is('prefix')) {
      throw tokens.fault(`${tokens.shown()} after ${type} ${name}`, `write ${type} ${name} to …`);
    }
    family = name;
  }
  if (tokens.is('interval') || tokens.is('prefix')) {
    throw tokens.fault(`${type} … ${tokens.text} is not read here`, 'write single addresses');
  }
  let concatenated = false;
  if (tokens.take('addr')) {
    tokens.expect('.', 'write addr . port');
    tokens.expect('port', 'write addr . port');
    concatenated = true;
  }
  tokens.take('to');
  const address = tokens.is(':') ? undefined : readMapped(tokens);
  const port = tokens.take(':') ? readMapped(tokens) : undefined;
  // A map whose data are pairs says both, whether or not `addr . port` is written.
  if (address?.kind === 'map' && port === undefined) concatenated ||= yieldsPairs(address.map);
  return {
    kind: 'nat',
    type,
    ...(family === undefined ? {} : { family }),
    concatenated,
    ...(address === undefined ? {} : { address }),
    ...(port === undefined ? {} : { port }),
    flags: readFlags(tokens),
  };
}

function yieldsPairs(map: Value): boolean {
  return map.kind === 'set' && map.elements[0]?.data?.kind === 'tuple';
}

/** A value, a range, or an expression, with or without `map { … }`. */
function readMapped(tokens: Tokens): Expression {
  if (tokens.kind !== 'word' || isSymbol(tokens)) {
    return { kind: 'value', value: tokens.is('(') ? readTuple(tokens) : readSingle(tokens) };
  }
  const key = readExpression(tokens);
  if (!tokens.take('map')) return key;
  return { kind: 'map', key, map: readMapOperand(tokens) };
}

function isSymbol(tokens: Tokens): boolean {
  return !/^(?:ip6?|tcp|udp|sctp|dccp|udplite|th|meta|mark|ct|fib|numgen|iif|oif|iifname|oifname)$/.test(
    tokens.text,
  );
}

function readMapOperand(tokens: Tokens): Value {
  if (!tokens.is('{') && !tokens.is('@')) {
    throw tokens.fault(`${tokens.shown()} where a map was wanted`, 'write { key : data, … } or @name');
  }
  return readOperand(tokens);
}

function readFlags(tokens: Tokens): string[] {
  const flags: string[] = [];
  if (!NAT_FLAGS.includes(tokens.text)) return flags;
  do {
    if (!NAT_FLAGS.includes(tokens.text)) {
      throw tokens.fault(`flag ${tokens.shown()}`, `flags are ${NAT_FLAGS.join(', ')}`);
    }
    flags.push(tokens.text);
    tokens.next();
  } while (tokens.take(','));
  return flags;
}

/** `[with tcp reset | with icmp[v6|x] [type] CODE]` */
function readReject(tokens: Tokens): Statement {
  tokens.next();
  if (!tokens.take('with')) return { kind: 'reject' };
  if (tokens.take('tcp')) {
    tokens.expect('reset', 'write reject with tcp reset');
    return { kind: 'reject', type: 'tcp reset' };
  }
  const type = tokens.text;
  if (type !== 'icmp' && type !== 'icmpv6' && type !== 'icmpx') {
    throw tokens.fault(`reject with ${tokens.shown()}`, 'write tcp reset, icmp, icmpv6 or icmpx');
  }
  tokens.next();
  tokens.take('type');
  return { kind: 'reject', type, code: readName(tokens, 'an ICMP code') };
}

/** `update @set { ip saddr [timeout 5s] }` */
function readDynset(tokens: Tokens, operation: 'add' | 'update' | 'delete'): Statement {
  tokens.next();
  tokens.expect('@', `write ${operation} @SET { ip saddr }`);
  const set = readName(tokens, 'a set');
  tokens.expect('{', `write ${operation} @${set} { ip saddr }`);
  const key = readExpression(tokens);
  const timeoutMs = tokens.take('timeout') ? readTime(tokens) : undefined;
  tokens.expect('}', 'a set that a rule fills takes a key and perhaps a timeout: { ip saddr timeout 5s }');
  return { kind: 'dynset', operation, set, key, ...(timeoutMs === undefined ? {} : { timeoutMs }) };
}
