/**
 * Programs of nf_tables expressions, as runs of 32-bit words.
 * Models: a chain's rules, one after the other, each a header and its expressions with their operands, as the
 * kernel lays them out in one blob per chain.
 * Source: net/netfilter/nf_tables_core.c, nf_tables_api.c (nf_tables_commit_chain_prepare), nft_*.c; operands
 * as `nft --debug=netlink` prints them.
 *
 *   rule:        length in words, handle, expressions
 *   expression:  opcode | a << 8 | b << 16 | c << 24, then words by opcode
 *
 * A register is a word 0 to 15: reg 1, 2, 3, 4 of nft are words 0, 4, 8, 12, and reg 8 + i is word i. A word in a
 * register is what the kernel has in memory, read little-endian: 10.180.0.3 is 0x0300b40a, port 80 is 0x5000, a
 * mark or a protocol is the plain number.
 */

export const PAYLOAD = 1;
export const CMP = 2;
export const BITWISE = 3;
export const META_LOAD = 4;
export const META_SET = 5;
export const CT_LOAD = 6;
export const FIB = 7;
export const NUMGEN = 8;
export const LOOKUP = 9;
export const IMMEDIATE = 10;
/** An immediate whose destination is the verdict register. */
export const IMMEDIATE_VERDICT = 11;
export const NAT = 12;
export const MASQ = 13;
export const REDIR = 14;
export const REJECT = 15;
export const DYNSET = 16;
export const COUNTER = 17;
export const RANGE = 18;
/** Opcodes are below this. */
export const OPCODES = 19;

/** Words of a rule before its first expression. */
export const RULE_HEADER = 2;

/** Registers that are no data word. */
export const VERDICT = 16;
export const NO_REGISTER = 255;

// enum nft_payload_bases
export const NETWORK = 1;
export const TRANSPORT = 2;

// enum nft_cmp_ops; a range knows EQ and NEQ.
export const EQ = 0;
export const NEQ = 1;
export const LT = 2;
export const LTE = 3;
export const GT = 4;
export const GTE = 5;

// enum nft_meta_keys
export const META_MARK = 3;
export const META_IIF = 4;
export const META_OIF = 5;
export const META_IIFNAME = 6;
export const META_OIFNAME = 7;
export const META_NFPROTO = 15;
export const META_L4PROTO = 16;

// enum nft_ct_keys
export const CT_STATE = 0;
export const CT_STATUS = 2;
export const CT_MARK = 3;

// enum nft_fib_flags and nft_fib_result
export const FIB_SADDR = 1;
export const FIB_DADDR = 2;
export const FIB_MARK = 4;
export const FIB_IIF = 8;
export const FIB_OIF = 16;
export const FIB_RESULT_TYPE = 3;

// enum nft_ng_types
export const NUMGEN_INC = 0;
export const NUMGEN_RANDOM = 1;

// enum nft_nat_types; families as NFPROTO_IPV4 and NFPROTO_IPV6; flags NF_NAT_RANGE_*
export const SNAT = 0;
export const DNAT = 1;
export const NFPROTO_IPV4 = 2;
export const NFPROTO_IPV6 = 10;
export const NAT_PROTO_SPECIFIED = 2;
export const NAT_RANDOM = 4;
export const NAT_PERSISTENT = 8;
export const NAT_FULLY_RANDOM = 16;

// enum nft_reject_types
export const REJECT_ICMP_UNREACH = 0;
export const REJECT_TCP_RST = 1;
export const REJECT_ICMPX_UNREACH = 2;

// enum nft_dynset_ops
export const DYNSET_ADD = 0;
export const DYNSET_UPDATE = 1;
export const DYNSET_DELETE = 2;

// What a verdict register or the data of a verdict map holds; the kernel's negative codes are counted on here.
export const DROP = 0;
export const ACCEPT = 1;
export const CONTINUE = 2;
export const BREAK = 3;
export const JUMP = 4;
export const GOTO = 5;
export const RETURN = 6;

/** A verdict as one word: its kind, and for JUMP and GOTO the chain. */
export function verdictWord(kind: number, chain = 0): number {
  return (chain << 3) | kind;
}

export function verdictKind(word: number): number {
  return word & 7;
}

export function verdictChain(word: number): number {
  return word >>> 3;
}

/** Register ranges of nat, masq and redir: the second of each pair is absent unless a range is written. */
export interface NatRegisters {
  readonly addressMin?: number;
  readonly addressMax?: number;
  readonly portMin?: number;
  readonly portMax?: number;
}

/**
 * Writes rules, one expression a call, into a reusable run of words: `words` up to `length`. `reset` empties it.
 * Operands are those that `nft --debug=netlink` prints, with registers as words.
 */
export class ProgramBuilder {
  words = new Int32Array(256);
  length = 0;
  #rule = -1;

  reset(): this {
    this.length = 0;
    this.#rule = -1;
    return this;
  }

  /** Begin a rule. The handle is the caller's: 0 asks the kernel for the next one of the table. */
  rule(handle = 0): this {
    this.#rule = this.length;
    return this.#put(0).#put(handle);
  }

  /** End the rule. */
  end(): this {
    this.words[this.#rule] = this.length - this.#rule;
    this.#rule = -1;
    return this;
  }

  payload(base: number, offset: number, byteLength: number, dreg: number): this {
    return this.#operation(PAYLOAD, dreg, offset, byteLength | (base << 5));
  }

  cmp(op: number, sreg: number, words: ArrayLike<number>, byteLength: number): this {
    return this.#operation(CMP, sreg, op, byteLength).#all(words, (byteLength + 3) >> 2);
  }

  range(op: number, sreg: number, from: ArrayLike<number>, to: ArrayLike<number>, byteLength: number): this {
    const count = (byteLength + 3) >> 2;
    return this.#operation(RANGE, sreg, op, byteLength).#all(from, count).#all(to, count);
  }

  bitwise(sreg: number, dreg: number, mask: ArrayLike<number>, xor: ArrayLike<number>): this {
    return this.#operation(BITWISE, sreg, dreg, mask.length).#all(mask, mask.length).#all(xor, mask.length);
  }

  metaLoad(key: number, dreg: number): this {
    return this.#operation(META_LOAD, key, dreg, 0);
  }

  metaSet(key: number, sreg: number): this {
    return this.#operation(META_SET, key, sreg, 0);
  }

  ctLoad(key: number, dreg: number): this {
    return this.#operation(CT_LOAD, key, dreg, 0);
  }

  fib(flags: number, result: number, dreg: number): this {
    return this.#operation(FIB, flags, result, dreg);
  }

  /** The fourth word is the counter of `inc`: it starts at the last number, so that the first one is `offset`. */
  numgen(mode: number, modulus: number, offset: number, dreg: number): this {
    return this.#operation(NUMGEN, mode, dreg, 0)
      .#put(modulus)
      .#put(offset)
      .#put(modulus - 1);
  }

  /** `dreg`: NO_REGISTER for a set, VERDICT or a word for a map. */
  lookup(set: number, sreg: number, dreg = NO_REGISTER, inverted = false): this {
    return this.#operation(LOOKUP, sreg, dreg, inverted ? 1 : 0).#put(set);
  }

  immediate(dreg: number, words: ArrayLike<number>): this {
    return this.#operation(IMMEDIATE, dreg, words.length, 0).#all(words, words.length);
  }

  verdict(kind: number, chain = 0): this {
    return this.#operation(IMMEDIATE_VERDICT, 0, 0, 0).#put(verdictWord(kind, chain));
  }

  nat(type: number, family: number, addressReg: number, portReg: number, flags = 0): this {
    return this.natRange(type, family, { addressMin: addressReg, portMin: portReg }, flags);
  }

  /** A register that is not given is not set by the translation. */
  natRange(type: number, family: number, registers: NatRegisters, flags: number): this {
    const { addressMin, addressMax, portMin, portMax } = registers;
    return this.#operation(NAT, type, family, flags).#put(
      (addressMin ?? NO_REGISTER) |
        ((addressMax ?? NO_REGISTER) << 8) |
        ((portMin ?? NO_REGISTER) << 16) |
        ((portMax ?? NO_REGISTER) << 24),
    );
  }

  masq(flags: number, portMin = NO_REGISTER, portMax = NO_REGISTER): this {
    return this.#operation(MASQ, flags, portMin, portMax);
  }

  redir(flags: number, portMin = NO_REGISTER, portMax = NO_REGISTER): this {
    return this.#operation(REDIR, flags, portMin, portMax);
  }

  reject(type: number, code: number): this {
    return this.#operation(REJECT, type, code, 0);
  }

  /** `timeoutMs` 0: that of the set. */
  dynset(op: number, set: number, keyReg: number, timeoutMs = 0): this {
    return this.#operation(DYNSET, op, keyReg, 0).#put(set).#put(timeoutMs);
  }

  /** `index` names a pair of counts outside, see NfTables.counters. */
  counter(index: number): this {
    return this.#operation(COUNTER, 0, 0, 0).#put(index);
  }

  #operation(opcode: number, a: number, b: number, c: number): this {
    return this.#put(opcode | (a << 8) | (b << 16) | (c << 24));
  }

  #all(words: ArrayLike<number>, count: number): this {
    for (let i = 0; i < count; i++) this.#put(words[i]!);
    return this;
  }

  #put(word: number): this {
    if (this.length === this.words.length) {
      const longer = new Int32Array(2 * this.length);
      longer.set(this.words);
      this.words = longer;
    }
    this.words[this.length++] = word;
    return this;
  }
}

/** Words of the expression at `at`, its first included. */
export function expressionWords(words: Int32Array, at: number): number {
  const word = words[at]!;
  const c = word >>> 24;
  switch (word & 255) {
    case CMP:
      return 1 + ((c + 3) >> 2);
    case RANGE:
      return 1 + 2 * ((c + 3) >> 2);
    case BITWISE:
      return 1 + 2 * c;
    case IMMEDIATE:
      return 1 + ((word >>> 16) & 255);
    case NUMGEN:
      return 4;
    case DYNSET:
      return 3;
    case LOOKUP:
    case IMMEDIATE_VERDICT:
    case NAT:
    case COUNTER:
      return 2;
    default:
      return 1;
  }
}

/** Each rule of a run of rules: where its header is, its handle and its end. */
export function forEachRule(
  words: Int32Array,
  start: number,
  length: number,
  visit: (at: number, handle: number, end: number) => void,
): void {
  for (let at = start; at < start + length; at += words[at]!) visit(at, words[at + 1]!, at + words[at]!);
}

/** Each expression of the rule whose header is at `rule`: where it is, and its opcode. */
export function forEachExpression(
  words: Int32Array,
  rule: number,
  visit: (at: number, opcode: number) => void,
): void {
  const end = rule + words[rule]!;
  for (let at = rule + RULE_HEADER; at < end; at += expressionWords(words, at)) visit(at, words[at]! & 255);
}
