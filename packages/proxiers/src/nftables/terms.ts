import { Ipv6Family, type Cidr } from '@vipsim/sim-core';
import type { Element, Expression, Statement, Value, Verdict } from '../nf-tables/language/statement.ts';
import type { RulesetOptions } from './settings.ts';

/** Terms of nft as kube-proxy puts them together. */

export const PROTOCOL: Expression = { kind: 'meta', key: 'l4proto' };
export const PORT: Expression = { kind: 'payload', header: 'th', field: 'dport' };
export const MARK: Expression = { kind: 'meta', key: 'mark' };
export const NEW: Statement = match({ kind: 'ct', key: 'state' }, symbol('new'));
export const SOURCE_IS_LOCAL: Statement = match(
  { kind: 'fib', flags: ['saddr'], result: 'type' },
  symbol('local'),
);
export const DESTINATION_IS_LOCAL: Statement = match(
  { kind: 'fib', flags: ['daddr'], result: 'type' },
  symbol('local'),
);
export const FULLY_RANDOM: Statement = { kind: 'masquerade', flags: ['fully-random'] };
export const RETURN: Statement = verdict({ kind: 'return' });
export const DROP: Statement = verdict({ kind: 'drop' });
export const REJECT: Statement = { kind: 'reject' };

export function match(left: Expression, right: Value, operator: '==' | '!=' = '=='): Statement {
  return { kind: 'match', left, operator, right };
}

export function verdict(decision: Verdict): Statement {
  return { kind: 'verdict', verdict: decision };
}

export function symbol(text: string): Value {
  return { kind: 'symbol', text };
}

export function integer(value: number): Value {
  return { kind: 'integer', value };
}

export function goTo(chain: string): Verdict {
  return { kind: 'goto', chain };
}

export function jump(chain: string): Statement {
  return verdict({ kind: 'jump', chain });
}

export function elementsOf(elements: readonly Element[]): Value {
  return { kind: 'set', elements };
}

export function vmap(key: Expression, map: Value): Statement {
  return { kind: 'vmap', key, map };
}

export function concat(...parts: Expression[]): Expression {
  return { kind: 'concat', parts };
}

/** `numgen random mod N`. */
export function random(modulus: number): Expression {
  return { kind: 'numgen', mode: 'random', modulus, offset: 0 };
}

/** Terms that depend on the family and on the configuration. */
export class Terms {
  readonly ip: 'ip' | 'ip6';
  readonly source: Expression;
  readonly destination: Expression;
  /** `mark set mark or 0x4000`. */
  readonly setMark: Statement;
  /** `mark set mark xor 0x4000`. */
  readonly clearMark: Statement;
  /** What tells packets of pods from others; none where nothing does. */
  readonly ifLocal: readonly Statement[];
  readonly ifNotLocal: readonly Statement[];
  readonly #options: RulesetOptions;

  constructor(options: RulesetOptions) {
    this.#options = options;
    this.ip = options.family.name === 'ipv4' ? 'ip' : 'ip6';
    this.source = { kind: 'payload', header: this.ip, field: 'saddr' };
    this.destination = { kind: 'payload', header: this.ip, field: 'daddr' };
    const right = integer(options.mark);
    this.setMark = { kind: 'mangle', key: MARK, value: { kind: 'binary', operator: '|', left: MARK, right } };
    this.clearMark = {
      kind: 'mangle',
      key: MARK,
      value: { kind: 'binary', operator: '^', left: MARK, right },
    };
    this.ifLocal = this.#local('==');
    this.ifNotLocal = this.#local('!=');
  }

  /** `mark and 0x4000 == 0`, or != 0. */
  marked(operator: '==' | '!='): Statement {
    const right = integer(this.#options.mark);
    return match({ kind: 'binary', operator: '&', left: MARK, right }, integer(0), operator);
  }

  address(address: number): Value {
    return { kind: 'address', words: this.words(address) };
  }

  /** In host order, most significant word first. */
  words(address: number): readonly number[] {
    const { family } = this.#options;
    return family instanceof Ipv6Family ? family.book.words(address) : [address];
  }

  prefix({ address, prefix }: Cidr): Value {
    return { kind: 'prefix', words: this.words(address), length: prefix };
  }

  #local(operator: '==' | '!='): readonly Statement[] {
    const { detector } = this.#options;
    if (detector.kind === 'none') return [];
    if (detector.kind === 'cidr') return [match(this.source, this.prefix(detector.cidr), operator)];
    return [match({ kind: 'meta', key: 'iifname' }, symbol(detector.link), operator)];
  }
}
