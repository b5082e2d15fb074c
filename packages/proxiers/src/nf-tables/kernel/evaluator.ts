import { compareRegisters, fibType, inRange, loadMeta, loadPayload } from './expression-loads.ts';
import { OPCODES } from './program.ts';
import { scaled } from './sets/links.ts';
import { Rhash } from './sets/rhash.ts';
import { Skb, networkOrder } from './skb.ts';
import type { ElementWords } from './set-backend.ts';
import type { NfTables } from './tables.ts';

/**
 * The walk of a packet through one base chain.
 * Models: nft_do_chain: rule by rule, expression by expression, until one breaks; jumps that return, gotos that do
 * not; the policy at the end.
 * Source: net/netfilter/nf_tables_core.c, nft_payload.c, nft_cmp.c, nft_bitwise.c, nft_meta.c, nft_ct.c, nft_fib.c,
 * nft_numgen.c, nft_lookup.c, nft_dynset.c, nft_nat.c, nft_masq.c, nft_redir.c, nft_reject.c.
 * Not modelled: route types other than local and unicast; that reading a register which no expression of the rule has
 * written is refused when the rule is added; that a translation may fail for want of a port (whoever tracks the connection finds out), tracing.
 */

export const DROP = 0;
export const ACCEPT = 1;

/** What a nat expression asked for. */
export const NO_NAT = 0;
export const NAT_SOURCE = 1;
export const NAT_DESTINATION = 2;

/** Operations that the counts are kept in, by index; -1 for what is not counted. */
export interface EvaluatorOperations {
  /** By opcode. */
  readonly expressions: ArrayLike<number>;
  readonly rule: number;
  readonly lookup: number;
  /** Elements compared, tree levels, words of bitmaps. */
  readonly step: number;
}

/** Where `numgen random` gets its 32 bits: a named stream, or a recording. */
export interface RandomBits {
  uint32(): number;
}

/** Told of each expression right after it was evaluated; registers and skb may be read. */
export interface ExpressionRecorder {
  /** `chain`, and where in NfTables.chains.arena the rule and the expression are; `broke`: the rule ends here. */
  expression(chain: number, rule: number, at: number, broke: boolean): void;
}

/** NFT_JUMP_STACK_SIZE */
const STACK = 16;

// Constants of this module: an imported one is loaded anew at each use in optimised code.
const PAYLOAD = 1;
const CMP = 2;
const BITWISE = 3;
const META_LOAD = 4;
const META_SET = 5;
const CT_LOAD = 6;
const FIB = 7;
const NUMGEN = 8;
const LOOKUP = 9;
const IMMEDIATE = 10;
const IMMEDIATE_VERDICT = 11;
const NAT = 12;
const MASQ = 13;
const REDIR = 14;
const REJECT = 15;
const DYNSET = 16;
const COUNTER = 17;
const RANGE = 18;
const VERDICT = 16;
const NONE = 255;
const CONTINUE = 2;
const BREAK = 3;
const JUMP = 4;
const GOTO = 5;
const RULE_HEADER = 2;
/** Length and base of a load of 4 bytes of the network header, as they stand in the word's top byte. */
const NETWORK_WORD = 36;
/** Length 4 and an operator below 2, above the operator's lowest bit: eq and neq of one word. */
const EQUALITY_OF_WORD = 4 << 7;
const NEQ_BIT = 1 << 16;
const CT_STATE = 0;
const CT_STATUS = 2;
const DNAT = 1;
const DYNSET_DELETE = 2;
const DYNSET_UPDATE = 1;
const EQ = 0;
const META_MARK = 3;
const NFPROTO_IPV6 = 10;
const NUMGEN_RANDOM = 1;

export class Evaluator {
  readonly registers = new Uint32Array(16);
  recorder: ExpressionRecorder | undefined;
  /** Bytes of the packet at hand, for counters. */
  bytes = 0;

  // What nat, masq and redir asked for in the last run; the verdict is then ACCEPT.
  nat = NO_NAT;
  /** The address is one of the node's own: masquerade on the way out, redirect on the way in. */
  masquerade = false;
  redirect = false;
  /** Words of the address as in memory; without one, only the port is translated. */
  readonly natAddress = new Uint32Array(4);
  readonly natAddressMax = new Uint32Array(4);
  natHasAddress = false;
  /** Host order; -1 for none. */
  natPortMin = -1;
  natPortMax = -1;
  natFlags = 0;
  // What reject asked for; the verdict is then DROP.
  rejected = false;
  rejectType = 0;
  rejectCode = 0;
  /** Calls of the random generator in all runs. */
  draws = 0;

  private readonly tables: NfTables;
  private readonly counts: Float64Array;
  private readonly operations: Int32Array;
  private readonly ruleOperation: number;
  private readonly lookupOperation: number;
  private readonly stepOperation: number;
  private readonly stream: RandomBits;
  private readonly stackRules = new Int32Array(STACK);
  private readonly stackEnds = new Int32Array(STACK);
  private readonly stackChains = new Int32Array(STACK);
  private readonly element: ElementWords = {
    words: new Int32Array(16),
    at: 0,
    expiresMs: Infinity,
    timeoutMs: 0,
    intervalEnd: false,
    pending: false,
  };
  /** Chain that the last verdict leads to. */
  private target = 0;
  private readonly sink: number;

  /** Counts are added to `counts`, which has one place more than operations: for what is not counted. */
  constructor(tables: NfTables, operations: EvaluatorOperations, counts: Float64Array, stream: RandomBits) {
    this.tables = tables;
    this.counts = counts;
    this.stream = stream;
    this.sink = counts.length - 1;
    this.operations = new Int32Array(OPCODES).fill(this.sink);
    for (let i = 0; i < OPCODES; i++) this.operations[i] = this.place(operations.expressions[i] ?? -1);
    this.ruleOperation = this.place(operations.rule);
    this.lookupOperation = this.place(operations.lookup);
    this.stepOperation = this.place(operations.step);
  }

  /** Let a packet through a base chain: ACCEPT or DROP. `nowNs` is virtual time. */
  run(chain: number, skb: Skb, nowNs: number): typeof ACCEPT | typeof DROP {
    const { chains } = this.tables;
    const words = chains.arena;
    const counts = this.counts;
    const operations = this.operations;
    const ruleOperation = this.ruleOperation;
    const registers = this.registers;
    const recorder = this.recorder;
    this.nat = NO_NAT;
    this.rejected = false;
    const base = chain;
    let depth = 0;
    let rule = chains.start[chain]!;
    let chainEnd = rule + chains.words[chain]!;
    for (;;) {
      let verdict = CONTINUE;
      while (rule < chainEnd) {
        const end = rule + words[rule]!;
        counts[ruleOperation]!++;
        let at = rule + RULE_HEADER;
        while (at < end) {
          const word = words[at]!;
          const opcode = word & 255;
          counts[operations[opcode]!]!++;
          // The kernel, too, has a way around the indirect call for these two.
          if (opcode === PAYLOAD && word >>> 24 === NETWORK_WORD) {
            registers[(word >>> 8) & 255] = skb.networkWord((word >>> 16) & 255);
            verdict = CONTINUE;
            this.width = 1;
          } else if (opcode === CMP && word >>> 17 === EQUALITY_OF_WORD) {
            const same = (registers[(word >>> 8) & 255]! | 0) === words[at + 1]!;
            verdict = same === ((word & NEQ_BIT) === 0) ? CONTINUE : BREAK;
            this.width = 2;
          } else verdict = this.evaluate(words, at, word, skb, nowNs);
          if (recorder !== undefined) recorder.expression(chain, rule, at, verdict === BREAK);
          if (verdict !== CONTINUE) break;
          at += this.width;
        }
        rule = end;
        if (verdict === BREAK) verdict = CONTINUE;
        else if (verdict !== CONTINUE) break;
      }
      if (verdict === ACCEPT || verdict === DROP) return verdict;
      if (verdict === JUMP || verdict === GOTO) {
        if (verdict === JUMP) {
          this.stackRules[depth] = rule;
          this.stackEnds[depth] = chainEnd;
          this.stackChains[depth++] = chain;
        }
        chain = this.target;
        rule = chains.start[chain]!;
        chainEnd = rule + chains.words[chain]!;
        continue;
      }
      // The chain is at its end, or a rule said return.
      if (depth === 0) return chains.bases.get(base)?.policy === 'drop' ? DROP : ACCEPT;
      rule = this.stackRules[--depth]!;
      chainEnd = this.stackEnds[depth]!;
      chain = this.stackChains[depth]!;
    }
  }

  /** Words of the expression that was evaluated last. */
  private width = 1;

  /** One expression: CONTINUE, BREAK, or the verdict that it sets. */
  private evaluate(words: Int32Array, at: number, word: number, skb: Skb, nowNs: number): number {
    const a = (word >>> 8) & 255;
    const b = (word >>> 16) & 255;
    const c = word >>> 24;
    const registers = this.registers;
    this.width = 1;
    switch (word & 255) {
      case PAYLOAD:
        loadPayload(registers, skb, a, b, c & 31, c >>> 5);
        return CONTINUE;
      case CMP:
        this.width = 1 + ((c + 3) >> 2);
        return compareRegisters(registers, words, at + 1, a, b, c) ? CONTINUE : BREAK;
      case META_LOAD:
        loadMeta(registers, skb, a, b);
        return CONTINUE;
      case META_SET:
        if (a === META_MARK) skb.mark = registers[b]!;
        return CONTINUE;
      case LOOKUP:
        this.width = 2;
        return this.lookup(words[at + 1]!, a, b, c === 1, nowNs);
      case IMMEDIATE_VERDICT: {
        const verdict = words[at + 1]!;
        this.width = 2;
        this.target = verdict >>> 3;
        return verdict & 7;
      }
      case IMMEDIATE:
        this.width = 1 + b;
        for (let i = 0; i < b; i++) registers[a + i] = words[at + 1 + i]!;
        return CONTINUE;
      case BITWISE:
        this.width = 1 + 2 * c;
        for (let i = 0; i < c; i++) {
          registers[b + i] = (registers[a + i]! & words[at + 1 + i]!) ^ words[at + 1 + c + i]!;
        }
        return CONTINUE;
      case CT_LOAD:
        registers[b] = a === CT_STATE ? skb.ctState : a === CT_STATUS ? skb.ctStatus : skb.ctMark;
        return CONTINUE;
      case NUMGEN:
        this.width = 4;
        registers[b] = this.numgen(words, at, a);
        return CONTINUE;
      case FIB:
        registers[c] = fibType(skb, a);
        return CONTINUE;
      case NAT:
        this.width = 2;
        return this.translate(a, b, c, words[at + 1]!);
      case MASQ:
      case REDIR:
        return this.own((word & 255) === MASQ, a, b, c);
      case REJECT:
        this.rejected = true;
        this.rejectType = a;
        this.rejectCode = b;
        return DROP;
      case DYNSET:
        this.width = 3;
        return this.dynset(a, words[at + 1]!, b, words[at + 2]!, nowNs);
      case COUNTER: {
        const { counters } = this.tables;
        this.width = 2;
        counters[2 * words[at + 1]!]!++;
        counters[2 * words[at + 1]! + 1]! += this.bytes;
        return CONTINUE;
      }
      case RANGE:
        this.width = 1 + 2 * ((c + 3) >> 2);
        return inRange(registers, words, at + 1, a, c) === (b === EQ) ? CONTINUE : BREAK;
      default:
        throw new Error(`no expression has opcode ${word & 255}`);
    }
  }

  private lookup(id: number, sreg: number, dreg: number, inverted: boolean, nowNs: number): number {
    const set = this.tables.sets[id]!;
    const found = set.lookup(this.registers, sreg, nowNs / 1e6);
    this.counts[this.lookupOperation]!++;
    this.counts[this.stepOperation]! += set.steps;
    if (found >= 0 === inverted) return BREAK;
    if (dreg === NONE || found < 0) return CONTINUE;
    if (dreg === VERDICT) {
      const verdict = set.data(found, 0);
      this.target = verdict >>> 3;
      return verdict & 7;
    }
    for (let i = 0; i < set.dataWords; i++) this.registers[dreg + i] = set.data(found, i);
    return CONTINUE;
  }

  private numgen(words: Int32Array, at: number, mode: number): number {
    const modulus = words[at + 1]! >>> 0;
    const offset = words[at + 2]!;
    if (mode === NUMGEN_RANDOM) {
      this.draws++;
      return scaled(this.stream.uint32(), modulus) + offset;
    }
    const next = words[at + 3]! + 1 < modulus ? words[at + 3]! + 1 : 0;
    words[at + 3] = next;
    return next + offset;
  }

  private translate(type: number, family: number, flags: number, registers: number): number {
    const addressMin = registers & 255;
    const addressMax = (registers >>> 8) & 255;
    const count = family === NFPROTO_IPV6 ? 4 : 1;
    this.nat = type === DNAT ? NAT_DESTINATION : NAT_SOURCE;
    this.masquerade = false;
    this.redirect = false;
    this.natFlags = flags;
    this.natHasAddress = addressMin !== NONE;
    if (this.natHasAddress) {
      const max = addressMax === NONE ? addressMin : addressMax;
      for (let i = 0; i < count; i++) {
        this.natAddress[i] = this.registers[addressMin + i]!;
        this.natAddressMax[i] = this.registers[max + i]!;
      }
    }
    this.ports((registers >>> 16) & 255, registers >>> 24);
    return ACCEPT;
  }

  /** masq and redir: the node's own address, whichever it is. */
  private own(masquerade: boolean, flags: number, portMin: number, portMax: number): number {
    this.nat = masquerade ? NAT_SOURCE : NAT_DESTINATION;
    this.masquerade = masquerade;
    this.redirect = !masquerade;
    this.natFlags = flags;
    this.natHasAddress = false;
    this.ports(portMin, portMax);
    return ACCEPT;
  }

  private ports(min: number, max: number): void {
    this.natPortMin = min === NONE ? -1 : networkOrder(this.registers[min]! & 0xffff);
    this.natPortMax = max === NONE ? this.natPortMin : networkOrder(this.registers[max]! & 0xffff);
  }

  /** A rule adds, refreshes or deletes an element. A full set breaks the rule. */
  private dynset(op: number, id: number, sreg: number, timeoutMs: number, nowNs: number): number {
    const set = this.tables.sets[id] as Rhash;
    const nowMs = nowNs / 1e6;
    let found = set.findAny(this.registers, sreg, nowMs);
    this.counts[this.lookupOperation]!++;
    this.counts[this.stepOperation]! += set.steps;
    if (op === DYNSET_DELETE) {
      if (found >= 0) set.kill(found);
      return CONTINUE;
    }
    const fresh = found < 0;
    if (fresh) {
      if (set.count >= this.tables.setLimit[id]!) return BREAK;
      const { element } = this;
      for (let i = 0; i < set.keyWords; i++) element.words[i] = this.registers[sreg + i]!;
      found = set.insert(element, nowMs);
    }
    if (fresh || op === DYNSET_UPDATE) {
      const lifeMs = timeoutMs > 0 ? timeoutMs : set.description.timeoutMs;
      if (lifeMs > 0) set.setExpiry(found, nowMs + lifeMs, timeoutMs);
    }
    return CONTINUE;
  }

  private place(operation: number): number {
    return operation < 0 ? this.sink : operation;
  }
}
