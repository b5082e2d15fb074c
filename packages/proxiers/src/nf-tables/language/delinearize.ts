import { CT_KEYS, META_KEYS, TRANSPORTS, numberOf, typeNamed, wordsOf } from './datatypes.ts';
import { fieldAt, masked, matchesFrom, OPERATORS, rangeMatch, type Held } from './delinearize-match.ts';
import { elementsFrom, tupleFrom, verdictFrom, type NameGiver } from './delinearize-set.ts';
import { REJECT_CODES } from './linearize-nat.ts';
import type { KernelElement } from './linearize-set.ts';
import * as P from '../kernel/program.ts';
import type { Expression, Family, Rule, Statement, Value } from './statement.ts';

/** A set as it is loaded. */
export interface LoadedSet {
  readonly name: string;
  readonly types: readonly string[];
  readonly data?: readonly string[];
  readonly anonymous: boolean;
  readonly interval: boolean;
  /** Asked of anonymous sets only. */
  elements(): Iterable<KernelElement>;
}

export interface DelinearizeContext extends NameGiver {
  readonly family: Family;
  set(set: number): LoadedSet;
  counter?(counter: number): { readonly packets: number; readonly bytes: number };
}

const META_NAMES = new Map([...META_KEYS].map(([name, { key }]) => [key, name]));
const CT_NAMES = new Map([...CT_KEYS].map(([name, { key }]) => [key, name]));
const TRANSPORT_NAMES = new Map([...TRANSPORTS].map(([name, number]) => [number, name]));
const FIB_NAMES = ['saddr', 'daddr', 'mark', 'iif', 'oif'];
const DYNSETS = ['add', 'update', 'delete'] as const;

/**
 * A rule of a program in nft's words, as `nft list` prints it.
 * Models: loads and comparisons put together to matches, tests of protocols dropped where a header says the same,
 * anonymous sets written out.
 * Source: nftables 1.0.6, src/netlink_delinearize.c, src/payload.c (payload_dependency_kill).
 * `rule` is where the rule's header lies in `words`. The comment and the handle are the caller's to add.
 */
export function delinearize(words: Int32Array, rule: number, context: DelinearizeContext): Rule {
  const reader = new ProgramReader(words, context);
  P.forEachExpression(words, rule, (at, opcode) => reader.expression(at, opcode));
  return { statements: reader.statements() };
}

interface LowerEnd {
  readonly register: number;
  readonly words: readonly number[];
  /** Where its match stands, should no upper end follow. */
  readonly at: number;
}

class ProgramReader {
  readonly #words: Int32Array;
  readonly #context: DelinearizeContext;
  readonly #held: (Held | undefined)[] = [];
  readonly #out: (Statement | undefined)[] = [];
  #network: 'ip' | 'ip6' | undefined;
  #transport: number | undefined;
  // Places in the list of matches that only say which protocol a header belongs to.
  #networkTest = -1;
  #transportTest = -1;
  /** The lower end of a range, until its upper end follows. */
  #from: LowerEnd | undefined;

  constructor(words: Int32Array, context: DelinearizeContext) {
    this.#words = words;
    this.#context = context;
    if (context.family !== 'inet') this.#network = context.family;
  }

  statements(): Statement[] {
    return this.#out.filter((statement) => statement !== undefined);
  }

  expression(at: number, opcode: number): void {
    const words = this.#words;
    const a = (words[at]! >>> 8) & 255;
    const b = (words[at]! >>> 16) & 255;
    const c = words[at]! >>> 24;
    const from = this.#from;
    this.#from = undefined;
    switch (opcode) {
      case P.PAYLOAD:
        this.#held[a] = this.#payload(c >> 5, b, c & 31);
        return;
      case P.META_LOAD:
        this.#held[b] = { expression: { kind: 'meta', key: META_NAMES.get(a)! } };
        return;
      case P.CT_LOAD:
        this.#held[b] = { expression: { kind: 'ct', key: CT_NAMES.get(a)! } };
        return;
      case P.FIB: {
        const flags = FIB_NAMES.filter((_, i) => ((a >> i) & 1) === 1);
        this.#held[c] = { expression: { kind: 'fib', flags, result: 'type' } };
        return;
      }
      case P.NUMGEN: {
        const mode = a === P.NUMGEN_INC ? 'inc' : 'random';
        const [modulus, offset] = [words[at + 1]! >>> 0, words[at + 2]! >>> 0];
        this.#held[b] = { expression: { kind: 'numgen', mode, modulus, offset } };
        return;
      }
      case P.IMMEDIATE:
        this.#held[a] = { words: this.#run(at + 1, b) };
        return;
      case P.BITWISE:
        this.#held[b] = { ...this.#held[a], mask: this.#run(at + 1, c), xor: this.#run(at + 1 + c, c) };
        return;
      case P.CMP:
        this.#compare(a, b, this.#run(at + 1, (c + 3) >> 2), c, from);
        return;
      case P.RANGE: {
        const count = (c + 3) >> 2;
        const ends = [this.#run(at + 1, count), this.#run(at + 1 + count, count)] as const;
        this.#match([rangeMatch(this.#at(a), OPERATORS.get(b)!, ...ends, this.#context)]);
        return;
      }
      case P.LOOKUP:
        this.#lookup(a, b, c === 1, words[at + 1]!);
        return;
      default:
        this.#act(at, opcode, a, b, c);
    }
  }

  /** Expressions that are a statement by themselves. */
  #act(at: number, opcode: number, a: number, b: number, c: number): void {
    const next = this.#words[at + 1]!;
    switch (opcode) {
      case P.IMMEDIATE_VERDICT:
        this.#push({ kind: 'verdict', verdict: verdictFrom(next, this.#context) });
        return;
      case P.META_SET:
        this.#push({
          kind: 'mangle',
          key: { kind: 'meta', key: META_NAMES.get(a)! },
          value: this.#operand(b, undefined, ['mark']),
        });
        return;
      case P.COUNTER:
        this.#push({ kind: 'counter', ...(this.#context.counter?.(next) ?? { packets: 0, bytes: 0 }) });
        return;
      case P.NAT:
        this.#nat(a, b, c, next);
        return;
      case P.MASQ:
      case P.REDIR: {
        const port = b === P.NO_REGISTER ? {} : { port: this.#operand(b, absent(c), ['inet_service']) };
        const kind = opcode === P.MASQ ? 'masquerade' : 'redirect';
        this.#push({ kind, ...port, flags: natFlags(a) });
        return;
      }
      case P.REJECT:
        this.#reject(a, b);
        return;
      case P.DYNSET: {
        const set = this.#context.set(next);
        const timeoutMs = this.#words[at + 2]!;
        this.#push({
          kind: 'dynset',
          operation: DYNSETS[a]!,
          set: set.name,
          key: this.#key(set.types, b),
          ...(timeoutMs === 0 ? {} : { timeoutMs }),
        });
        return;
      }
      default:
        throw new Error(`opcode ${opcode} cannot be listed`);
    }
  }

  #payload(base: number, offset: number, bytes: number): Held {
    const held = fieldAt(
      () =>
        base === P.NETWORK
          ? (this.#network ?? (offset >= 12 && bytes <= 4 ? 'ip' : 'ip6'))
          : (TRANSPORT_NAMES.get(this.#transport ?? -1) ?? 'th'),
      base,
      offset,
      bytes,
    );
    if (held === undefined) throw new Error(`a load of ${bytes} bytes at ${offset} cannot be listed`);
    return held;
  }

  #compare(register: number, op: number, words: number[], bytes: number, from: LowerEnd | undefined): void {
    const held = this.#at(register);
    const operator = OPERATORS.get(op)!;
    if (op === P.LTE && from?.register === register) {
      this.#out.length = from.at;
      this.#match([rangeMatch(held, '==', from.words, words, this.#context)]);
      return;
    }
    if (op === P.GTE) this.#from = { register, words, at: this.#out.length };
    this.#match(matchesFrom(held, operator, words, bytes, this.#context));
  }

  #lookup(register: number, dreg: number, inverted: boolean, number: number): void {
    const set = this.#context.set(number);
    const key = this.#key(set.types, register);
    const value: Value = set.anonymous
      ? { kind: 'set', elements: elementsFrom(set, set.interval, set.elements(), this.#context) }
      : { kind: 'reference', name: set.name };
    if (dreg === P.NO_REGISTER) {
      this.#match([{ kind: 'match', left: key, operator: inverted ? '!=' : '==', right: value }]);
    } else if (dreg === P.VERDICT) this.#push({ kind: 'vmap', key, map: value });
    else {
      this.#held[dreg] = {
        expression: { kind: 'map', key, map: value },
        ...(set.data ? { data: set.data } : {}),
      };
    }
  }

  #nat(type: number, family: number, bits: number, registers: number): void {
    const [address, addressMax, port, portMax] = [0, 8, 16, 24].map((shift) => (registers >>> shift) & 255);
    const six = family === P.NFPROTO_IPV6;
    const types = [six ? 'ipv6_addr' : 'ipv4_addr'];
    const both = address === P.NO_REGISTER ? false : (this.#at(address!).data?.length ?? 1) > 1;
    const named = this.#context.family === 'inet' || both;
    this.#push({
      kind: 'nat',
      type: type === P.DNAT ? 'dnat' : 'snat',
      ...(named ? { family: six ? ('ip6' as const) : ('ip' as const) } : {}),
      concatenated: both,
      ...(address === P.NO_REGISTER ? {} : { address: this.#operand(address!, absent(addressMax!), types) }),
      ...(port === P.NO_REGISTER || both
        ? {}
        : { port: this.#operand(port!, absent(portMax!), ['inet_service']) }),
      flags: natFlags(bits),
    });
  }

  #reject(type: number, code: number): void {
    const { family } = this.#context;
    if (type === P.REJECT_TCP_RST) {
      if (family !== 'inet') this.#drop('transport');
      this.#push({ kind: 'reject', type: 'tcp reset' });
      return;
    }
    const name =
      type === P.REJECT_ICMPX_UNREACH ? 'icmpx' : (this.#network ?? 'ip') === 'ip' ? 'icmp' : 'icmpv6';
    const text = [...REJECT_CODES[name]!].find(([, number]) => number === code)?.[0] ?? String(code);
    if (type === P.REJECT_ICMP_UNREACH) this.#drop('network');
    const plain = text === 'port-unreachable' && (family !== 'inet' || name === 'icmpx');
    this.#push(plain ? { kind: 'reject' } : { kind: 'reject', type: name, code: text });
  }

  #match(matches: Statement[]): void {
    for (const match of matches) {
      if (match.kind !== 'match') continue;
      this.#supersede(match.left);
      this.#learn(match);
      this.#out.push(match);
    }
  }

  /** What no match is ends what tests of protocols before it are good for. */
  #push(statement: Statement): void {
    switch (statement.kind) {
      case 'vmap':
      case 'dynset':
        this.#supersede(statement.key);
        break;
      case 'mangle':
        this.#supersede(statement.value);
        break;
      case 'nat':
        if (statement.address) this.#supersede(statement.address);
        if (statement.port) this.#supersede(statement.port);
    }
    this.#networkTest = this.#transportTest = -1;
    this.#out.push(statement);
  }

  /** A header's field makes the test of its protocol superfluous. */
  #supersede(expression: Expression): void {
    switch (expression.kind) {
      case 'concat':
        for (const part of expression.parts) this.#supersede(part);
        return;
      case 'binary':
        this.#supersede(expression.left);
        return;
      case 'map':
        this.#supersede(expression.key);
        return;
      case 'payload':
        if (expression.header === 'ip' || expression.header === 'ip6') this.#drop('network');
        else if (expression.header !== 'th' && expression.header !== '@th') this.#drop('transport');
    }
  }

  #drop(base: 'network' | 'transport'): void {
    if (base === 'network') {
      if (this.#networkTest >= 0) this.#out[this.#networkTest] = undefined;
      this.#networkTest = -1;
      return;
    }
    const at = this.#transportTest;
    const test = at < 0 ? undefined : this.#out[at];
    // In a table of both families `ip protocol tcp` says more than `tcp dport`.
    if (test?.kind !== 'match' || (this.#context.family === 'inet' && test.left.kind === 'payload')) return;
    this.#out[at] = undefined;
    this.#transportTest = -1;
  }

  #learn(match: Extract<Statement, { kind: 'match' }>): void {
    if (match.operator !== '==') return;
    const { left, right } = match;
    if (left.kind === 'meta' && left.key === 'nfproto') {
      const family = numberOf(typeNamed('nf_proto'), right);
      if (family === undefined) return;
      this.#network = family === P.NFPROTO_IPV4 ? 'ip' : 'ip6';
      this.#networkTest = this.#out.length;
    }
    const tests =
      (left.kind === 'meta' && left.key === 'l4proto') ||
      (left.kind === 'payload' && (left.field === 'protocol' || left.field === 'nexthdr'));
    const protocol = tests ? numberOf(typeNamed('inet_proto'), right) : undefined;
    if (protocol === undefined) return;
    this.#transport = protocol;
    this.#transportTest = this.#out.length;
  }

  /** What lies in consecutive registers, type by type. */
  #key(types: readonly string[], register: number): Expression {
    let at = register;
    const parts = types.map((type) => {
      const part = masked(this.#at(at));
      at += wordsOf([type]);
      return part;
    });
    return parts.length === 1 ? parts[0]! : { kind: 'concat', parts };
  }

  /** A constant, a range of constants or an expression. */
  #operand(register: number, max: number | undefined, types: readonly string[]): Expression {
    const held = this.#at(register);
    if (held.words === undefined) return masked(held);
    const from = tupleFrom(types, held.words, this.#context);
    if (max === undefined) return { kind: 'value', value: from };
    const to = tupleFrom(types, this.#at(max).words!, this.#context);
    return { kind: 'value', value: { kind: 'range', from, to } };
  }

  #at(register: number): Held {
    const held = this.#held[register];
    if (held === undefined) throw new Error(`register ${register} is read before it is loaded`);
    return held;
  }

  #run(at: number, count: number): number[] {
    return Array.from({ length: count }, (_, i) => this.#words[at + i]! >>> 0);
  }
}

function absent(register: number): number | undefined {
  return register === P.NO_REGISTER ? undefined : register;
}

function natFlags(bits: number): string[] {
  const flags: string[] = [];
  if ((bits & P.NAT_RANDOM) !== 0) flags.push('random');
  if ((bits & P.NAT_FULLY_RANDOM) !== 0) flags.push('fully-random');
  if ((bits & P.NAT_PERSISTENT) !== 0) flags.push('persistent');
  return flags;
}
