import type { BaseChain, Chains } from './chains.ts';
import { countRules, needsOf } from './references.ts';
import type { Run } from './validation.ts';

/** Words of a segment: where it begins (twice, plus one if in the queue), its length, the next segment plus one. */
const SEGMENT = 3;

/**
 * The rules of changed chains while a transaction is prepared: for each such chain a list of segments, of its rules
 * in force and of the queue. At the end each is written as one run, which the commit puts in force.
 */
export class StagedRules {
  readonly #chains: Chains;
  readonly #queue: Int32Array;
  readonly #changed: number[] = [];
  readonly #heads: number[] = [];
  readonly #tails: number[] = [];
  readonly #segments: number[] = [];
  readonly #starts: number[] = [];
  readonly #words: number[] = [];
  readonly #rules: number[] = [];
  readonly #needs: number[] = [];
  readonly #policies = new Map<number, BaseChain>();
  /** All rules of changed chains. */
  rules = 0;

  constructor(chains: Chains, queue: Int32Array) {
    this.#chains = chains;
    this.#queue = queue;
  }

  /** Changed chains. */
  get count(): number {
    return this.#changed.length;
  }

  setPolicy(chain: number, base: BaseChain): void {
    this.#policies.set(chain, base);
  }

  append(chain: number, at: number, length: number): void {
    if (length === 0) return;
    const slot = this.#slot(chain);
    const segment = this.#segment(2 * at + 1, length, 0);
    const tail = this.#tails[slot]!;
    if (tail === 0) this.#heads[slot] = segment;
    else this.#segments[(tail - 1) * SEGMENT + 2] = segment;
    this.#tails[slot] = segment;
  }

  prepend(chain: number, at: number, length: number): void {
    const slot = this.#slot(chain);
    const segment = this.#segment(2 * at + 1, length, this.#heads[slot]!);
    this.#heads[slot] = segment;
    if (this.#tails[slot] === 0) this.#tails[slot] = segment;
  }

  /** Take all rules out, telling of each. */
  flush(chain: number, visit: (words: Int32Array, rule: number) => void): void {
    if (this.#chains.staged[chain] === 0 && this.#chains.words[chain] === 0) return;
    const slot = this.#slot(chain);
    for (let segment = this.#heads[slot]!; segment !== 0;) {
      const words = this.#source(segment);
      const start = this.#start(segment);
      const end = start + this.#length(segment);
      for (let rule = start; rule < end; rule += words[rule]!) visit(words, rule);
      segment = this.#segments[(segment - 1) * SEGMENT + 2]!;
    }
    this.#heads[slot] = 0;
    this.#tails[slot] = 0;
  }

  /** Take the rule of this handle out; whether there was one. */
  take(chain: number, handle: number, visit: (words: Int32Array, rule: number) => void): boolean {
    const slot = this.#slot(chain);
    for (let segment = this.#heads[slot]!; segment !== 0;) {
      const words = this.#source(segment);
      const start = this.#start(segment);
      const end = start + this.#length(segment);
      for (let rule = start; rule < end; rule += words[rule]!) {
        if (words[rule + 1] !== handle) continue;
        visit(words, rule);
        this.#split(slot, segment, rule, rule + words[rule]!, end);
        return true;
      }
      segment = this.#segments[(segment - 1) * SEGMENT + 2]!;
    }
    return false;
  }

  /** Write each changed chain's rules as one run. */
  build(): void {
    const chains = this.#chains;
    for (let slot = 0; slot < this.#changed.length; slot++) {
      let start = -1;
      let total = 0;
      for (let segment = this.#heads[slot]!; segment !== 0;) {
        const length = this.#length(segment);
        const source = (this.#segments[(segment - 1) * SEGMENT]! & 1) === 1 ? this.#queue : chains.arena;
        const at = chains.append(source, this.#start(segment), length);
        if (start < 0) start = at;
        total += length;
        segment = this.#segments[(segment - 1) * SEGMENT + 2]!;
      }
      const rules = countRules(chains.arena, start, total);
      this.#starts.push(start);
      this.#words.push(total);
      this.#rules.push(rules);
      this.#needs.push(needsOf(chains.arena, start, total));
      this.rules += rules;
    }
  }

  /** The rules of a chain as they will be. */
  run(chain: number, out: Run): void {
    const chains = this.#chains;
    const slot = chains.staged[chain]! - 1;
    out.start = slot < 0 ? chains.start[chain]! : this.#starts[slot]!;
    out.words = slot < 0 ? chains.words[chain]! : this.#words[slot]!;
    out.rules = slot < 0 ? chains.rules[chain]! : this.#rules[slot]!;
    out.needs = slot < 0 ? chains.needs[chain]! : this.#needs[slot]!;
  }

  commit(): void {
    const chains = this.#chains;
    for (let slot = 0; slot < this.#changed.length; slot++) {
      const chain = this.#changed[slot]!;
      chains.discard(chains.words[chain]!);
      chains.start[chain] = this.#starts[slot]!;
      chains.words[chain] = this.#words[slot]!;
      chains.rules[chain] = this.#rules[slot]!;
      chains.needs[chain] = this.#needs[slot]!;
      chains.staged[chain] = 0;
    }
    for (const [chain, base] of this.#policies) chains.bases.set(chain, base);
  }

  abort(): void {
    for (let slot = 0; slot < this.#changed.length; slot++) {
      this.#chains.discard(this.#words[slot] ?? 0);
      this.#chains.staged[this.#changed[slot]!] = 0;
    }
  }

  /** The chain's place among the changed ones; its rules in force are its first segment. */
  #slot(chain: number): number {
    const known = this.#chains.staged[chain]!;
    if (known !== 0) return known - 1;
    const length = this.#chains.words[chain]!;
    const segment = length === 0 ? 0 : this.#segment(2 * this.#chains.start[chain]!, length, 0);
    this.#heads.push(segment);
    this.#tails.push(segment);
    this.#chains.staged[chain] = this.#changed.push(chain);
    return this.#changed.length - 1;
  }

  /** Leave out `from` to `to` of a segment. */
  #split(slot: number, segment: number, from: number, to: number, end: number): void {
    const base = (segment - 1) * SEGMENT;
    const kind = this.#segments[base]! & 1;
    const rest = this.#segment(2 * to + kind, end - to, this.#segments[base + 2]!);
    this.#segments[base + 1] = from - this.#start(segment);
    this.#segments[base + 2] = rest;
    if (this.#tails[slot] === segment) this.#tails[slot] = rest;
  }

  #segment(start: number, length: number, next: number): number {
    this.#segments.push(start, length, next);
    return this.#segments.length / SEGMENT;
  }

  #source(segment: number): Int32Array {
    return (this.#segments[(segment - 1) * SEGMENT]! & 1) === 1 ? this.#queue : this.#chains.arena;
  }

  #start(segment: number): number {
    return this.#segments[(segment - 1) * SEGMENT]! >>> 1;
  }

  #length(segment: number): number {
    return this.#segments[(segment - 1) * SEGMENT + 1]!;
  }
}
