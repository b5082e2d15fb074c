import { longer } from '@vipsim/sim-core';

/** Hooks and types of base chains, as the kernel numbers hooks. */
export const HOOKS = ['prerouting', 'input', 'forward', 'output', 'postrouting'] as const;
export type Hook = (typeof HOOKS)[number];

export interface BaseChain {
  readonly type: 'filter' | 'nat' | 'route';
  readonly hook: Hook;
  readonly priority: number;
  readonly policy: 'accept' | 'drop';
}

/** An object of a transaction is in force now, in the next generation, in both or in none. */
export const NOW = 1;
export const NEXT = 2;

/** Demands of a chain's expressions on the base chains that reach it: allowed hooks (5 bits), chain of type nat. */
export const ALL_HOOKS = 31;
export const NEEDS_NAT = 32;
/** Some rule jumps, or looks up a map of verdicts. */
export const REFERS = 64;

const WORDS_MIN = 256;

/**
 * Chains as columns, and their rules as runs of words in one arena. A changed chain's rules are written anew at the
 * end, as the kernel builds a new blob; when half of the arena is garbage, it is packed.
 */
export class Chains {
  arena = new Int32Array(WORDS_MIN);
  #used = 0;
  #garbage = 0;
  #count = 0;
  #free: number[] = [];
  /** NOW and NEXT bits. */
  state = new Uint8Array(16);
  table = new Uint16Array(16);
  start = new Int32Array(16);
  words = new Int32Array(16);
  rules = new Int32Array(16);
  /** Jumps of rules and elements that lead here, as the transaction sees it. */
  uses = new Int32Array(16);
  needs = new Uint8Array(16);
  /** Place in the running transaction's changes plus one; 0 for none. */
  staged = new Int32Array(16);
  readonly bases = new Map<number, BaseChain>();

  /** Chains ever reserved; ids are below. */
  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.arena.byteLength + this.state.length * (1 + 2 + 4 * 5 + 1);
  }

  /** An id that no chain has. */
  reserve(): number {
    const reused = this.#free.pop();
    if (reused !== undefined) return reused;
    if (this.#count === this.state.length) this.#grow();
    return this.#count++;
  }

  /** The chain is gone from both generations: its id may serve another one. */
  release(chain: number): void {
    this.discard(this.words[chain]!);
    this.words[chain] = 0;
    this.rules[chain] = 0;
    this.needs[chain] = ALL_HOOKS;
    this.uses[chain] = 0;
    this.state[chain] = 0;
    this.bases.delete(chain);
    this.#free.push(chain);
  }

  /** Write a run of rules at the end of the arena; where it begins. */
  append(source: Int32Array, from: number, length: number): number {
    if (this.#used + length > this.arena.length) {
      const step = this.arena.length >> (this.arena.length > 1 << 22 ? 2 : 0);
      const larger = longer(this.arena, Math.max(this.arena.length + step, this.#used + length));
      // The source may be the arena itself.
      if (source === this.arena) source = larger;
      this.arena = larger;
    }
    this.arena.set(source.subarray(from, from + length), this.#used);
    this.#used += length;
    return this.#used - length;
  }

  /** So many words of the arena are no longer referred to. */
  discard(length: number): void {
    this.#garbage += length;
  }

  /** Pack the arena if half of it is garbage. To be called when no run is held outside the columns. */
  pack(): void {
    if (2 * this.#garbage <= this.#used || this.#used < 2 * WORDS_MIN) return;
    const packed = new Int32Array(Math.max(WORDS_MIN, this.#used - this.#garbage));
    let at = 0;
    for (let chain = 0; chain < this.#count; chain++) {
      const length = this.words[chain]!;
      if (length === 0) continue;
      const start = this.start[chain]!;
      packed.set(this.arena.subarray(start, start + length), at);
      this.start[chain] = at;
      at += length;
    }
    this.arena = packed;
    this.#used = at;
    this.#garbage = 0;
  }

  #grow(): void {
    const capacity = 2 * this.state.length;
    this.state = longer(this.state, capacity);
    this.table = longer(this.table, capacity);
    this.start = longer(this.start, capacity);
    this.words = longer(this.words, capacity);
    this.rules = longer(this.rules, capacity);
    this.uses = longer(this.uses, capacity);
    this.needs = longer(this.needs, capacity);
    this.staged = longer(this.staged, capacity);
    this.needs.fill(ALL_HOOKS, this.#count);
  }

  constructor() {
    this.needs.fill(ALL_HOOKS);
  }
}
