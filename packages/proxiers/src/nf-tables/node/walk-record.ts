import {
  CT_KEYS,
  FIELDS,
  META_KEYS,
  swapped,
  typeNamed,
  valueFrom,
  valueText,
} from '../language/datatypes.ts';
import { tupleFrom, verdictFrom } from '../language/delinearize-set.ts';
import type { DelinearizeContext } from '../language/delinearize.ts';
import { expressionText } from '../kernel/expression-text.ts';
import { tupleText, verdictText } from '../language/listing-rule.ts';
import { loadedRuleText, namesOf } from './loaded-listing.ts';
import type { NodeRecorder } from './node.ts';
import * as program from '../kernel/program.ts';
import type { ChainPlace, LoadedBase, NftRuleset } from './ruleset.ts';

export interface WalkedExpression {
  /** In the words of `nft --debug=netlink`. */
  readonly text: string;
  /** What it gave: the value in its register, `yes` or `no` of a test; empty where there is nothing to say. */
  readonly value: string;
}

/** A rule that the packet met. */
export interface WalkedRule {
  readonly kind: 'rule';
  /** `ip kube-proxy services` */
  readonly where: string;
  /** From 1, of so many in its chain. */
  readonly index: number;
  readonly rules: number;
  /** As nft lists it. */
  readonly text: string;
  readonly expressions: WalkedExpression[];
  /** `accept`, `drop`, `jump CHAIN`, `continue`; empty if an expression broke it off. */
  verdict: string;
}

export type WalkStep =
  WalkedRule | { readonly kind: 'enter' | 'policy' | 'event'; readonly where: string; readonly text: string };

/** Writes down what a packet meets at a node: rules whole, with what each expression made of it. */
export class WalkRecord implements NodeRecorder {
  readonly steps: WalkStep[] = [];
  readonly #ruleset: NftRuleset;
  readonly #registers: Uint32Array;
  readonly #names = new Map<ChainPlace['table'], DelinearizeContext>();
  readonly #places = new Map<number, readonly number[]>();
  #rule: WalkedRule | undefined;

  /** `registers`: those of the node whose recorder it becomes. */
  constructor(ruleset: NftRuleset, registers: Uint32Array) {
    this.#ruleset = ruleset;
    this.#registers = registers;
  }

  enter({ title, hook, type, priority }: LoadedBase): void {
    this.#rule = undefined;
    this.steps.push({ kind: 'enter', where: title, text: `${type} at ${hook}, priority ${priority}` });
  }

  leave({ title }: LoadedBase, accepted: boolean): void {
    if (this.#rule !== undefined && ['accept', 'drop'].includes(this.#rule.verdict)) return;
    this.steps.push({ kind: 'policy', where: title, text: `policy ${accepted ? 'accept' : 'drop'}` });
  }

  event(where: string, text: string): void {
    this.steps.push({ kind: 'event', where, text });
  }

  expression(chain: number, rule: number, at: number, broke: boolean): void {
    const { arena } = this.#ruleset.kernel.chains;
    const place = this.#ruleset.chain(chain);
    const names = this.#namesOf(place);
    if (at === rule + program.RULE_HEADER) this.#begin(place, chain, rule, names);
    const walked = this.#rule!;
    const value = this.#value(at, broke, names);
    const objects = { chain: names.chainName, set: (id: number) => names.set(id).name || '{ … }' };
    walked.expressions.push({ text: expressionText(arena, at, objects), value });
    walked.verdict = broke ? '' : this.#verdict(at, names);
  }

  #begin({ table, chain }: ChainPlace, id: number, rule: number, names: DelinearizeContext): void {
    const places = this.#placesOf(id);
    const index = places.indexOf(rule);
    this.#rule = {
      kind: 'rule',
      where: `${table.family} ${table.name} ${chain.name}`,
      index: index + 1,
      rules: places.length,
      text: loadedRuleText(this.#ruleset, names, rule, chain.rules[index]?.source.comment),
      expressions: [],
      verdict: '',
    };
    this.steps.push(this.#rule);
  }

  /** What the rule says if this was its last expression. */
  #verdict(at: number, names: DelinearizeContext): string {
    const { arena } = this.#ruleset.kernel.chains;
    const word = arena[at]!;
    switch (word & 255) {
      case program.IMMEDIATE_VERDICT:
        return verdictText(verdictFrom(arena[at + 1]!, names));
      case program.LOOKUP: {
        const found = ((word >>> 16) & 255) === program.VERDICT ? this.#data(at) : undefined;
        return found === undefined ? 'continue' : verdictText(verdictFrom(found[0]!, names));
      }
      case program.NAT:
      case program.MASQ:
      case program.REDIR:
        return 'accept';
      case program.REJECT:
        return 'drop';
      default:
        return 'continue';
    }
  }

  #value(at: number, broke: boolean, names: DelinearizeContext): string {
    const { arena } = this.#ruleset.kernel.chains;
    const word = arena[at]!;
    const [a, b, c] = [(word >>> 8) & 255, (word >>> 16) & 255, word >>> 24];
    switch (word & 255) {
      case program.CMP:
      case program.RANGE:
        return broke ? 'no' : 'yes';
      case program.PAYLOAD:
        return this.#field(c >>> 5, b, c & 31, a, names);
      case program.META_LOAD:
        return this.#typed(keyType(META_KEYS, a), b, names);
      case program.CT_LOAD:
        return this.#typed(keyType(CT_KEYS, a), b, names);
      case program.FIB:
        return this.#typed('fib_addrtype', c, names);
      case program.NUMGEN:
        return String(this.#registers[b]);
      case program.BITWISE:
        return hex(this.#registers.subarray(b, b + c));
      case program.LOOKUP:
        return this.#found(at, broke, c === 1, names);
      default:
        return '';
    }
  }

  #field(base: number, offset: number, bytes: number, register: number, names: DelinearizeContext): string {
    const headers = names.family === 'ip6' ? ['ip6', 'th'] : ['ip', 'ip6', 'th'];
    const field = FIELDS.find(
      (known) => headers.includes(known.header) && known.base === base && known.offset === offset,
    );
    const words = this.#registers.subarray(register, register + ((bytes + 3) >> 2));
    if (field?.bytes === bytes) return this.#typed(field.type, register, names);
    // The beginning of an address: a test of a prefix that ends between bytes.
    return field?.type === 'ipv4_addr' ? beginning(words[0]!, bytes) : hex(words);
  }

  #found(at: number, broke: boolean, inverted: boolean, names: DelinearizeContext): string {
    const { arena } = this.#ruleset.kernel.chains;
    const { data } = names.set(arena[at + 1]!);
    if (broke !== inverted) return 'not found';
    const words = this.#data(at);
    if (words === undefined || data === undefined) return 'found';
    if (data[0] === 'verdict') return `found: ${verdictText(verdictFrom(words[0]!, names))}`;
    return `found: ${tupleText(data, tupleFrom(data, words, names))}`;
  }

  /** What a lookup that hit gave: the registers of its key are as they were, so it is made once more. */
  #data(at: number): number[] | undefined {
    const { chains, sets } = this.#ruleset.kernel;
    const set = sets[chains.arena[at + 1]!]!;
    const dreg = (chains.arena[at]! >>> 16) & 255;
    if (dreg === program.NO_REGISTER) return undefined;
    if (dreg !== program.VERDICT) return Array.from(this.#registers.subarray(dreg, dreg + set.dataWords));
    const found = set.lookup(this.#registers, (chains.arena[at]! >>> 8) & 255, 0);
    return found < 0 ? undefined : [set.data(found, 0)];
  }

  #typed(typeName: string, register: number, names: DelinearizeContext): string {
    const type = typeNamed(typeName);
    const words = this.#registers.subarray(register, register + ((type.bytes + 3) >> 2));
    const host = Array.from(words, (word) => swapped(type, word));
    return valueText(type, valueFrom(type, host, names.interfaceName));
  }

  #namesOf({ table }: ChainPlace): DelinearizeContext {
    let names = this.#names.get(table);
    if (names === undefined) this.#names.set(table, (names = namesOf(this.#ruleset, table)));
    return names;
  }

  /** Where each rule of a chain is. */
  #placesOf(chain: number): readonly number[] {
    const known = this.#places.get(chain);
    if (known !== undefined) return known;
    const { arena, start, words } = this.#ruleset.kernel.chains;
    const places: number[] = [];
    program.forEachRule(arena, start[chain]!, words[chain]!, (at) => places.push(at));
    this.#places.set(chain, places);
    return places;
  }
}

function keyType(keys: typeof META_KEYS, key: number): string {
  for (const known of keys.values()) if (known.key === key) return known.type;
  return 'integer';
}

/** `10.180.*` */
function beginning(word: number, bytes: number): string {
  const octets = Array.from({ length: bytes }, (_, i) => (word >>> (8 * i)) & 255);
  return `${octets.join('.')}.*`;
}

function hex(words: Iterable<number>): string {
  return Array.from(words, (word) => `0x${word.toString(16).padStart(8, '0')}`).join(' ');
}
