import { jhash1, longer } from '@vipsim/sim-core';
import { Chains, HOOKS, NEXT, NOW, type BaseChain, type Hook } from './chains.ts';
import { newSet, type AnySet } from './new-set.ts';
import { expressionsBytes } from './expression-sizes.ts';
import { FixedHash } from './sets/fixed-hash.ts';
import { Rhash } from './sets/rhash.ts';
import { SetArena } from './sets/set-arena.ts';
import { SetList } from './set-list.ts';
import type { SetDescription } from './set-backend.ts';
import type { Family } from '../language/statement.ts';

/**
 * The rulesets of one network namespace, as nf_tables holds them.
 * Models: tables, chains with their rules, sets with their elements and users, base chains by hook; what a packet
 * meets changes only by the commit of a Transaction.
 * Source: net/netfilter/nf_tables_api.c; order of hooks net/netfilter/core.c (nf_hook_entries_grow).
 * Not modelled: objects (quotas, named counters), flowtables, families other than ip, ip6 and inet, ownership.
 *
 * Chains and sets are numbers. Their names live with whoever writes the ruleset.
 */

export interface NfTable {
  readonly family: Family;
  readonly name: string;
  state: number;
  /** Handles of the table's objects count from 1. */
  handle: number;
  chains: number;
  readonly sets: SetList;
}

/** Bytes of struct nft_chain, nft_base_chain and nft_set on x86-64, Linux 6.18; names not included. */
const CHAIN_BYTES = 128;
const BASE_CHAIN_BYTES = 256;
const SET_BYTES = 256;

export class NfTables {
  readonly tables: NfTable[] = [];
  readonly chains = new Chains();
  /** By id; undefined where no set has the id. */
  readonly sets: (AnySet | undefined)[] = [];
  setState = new Uint8Array(16);
  setTable = new Uint16Array(16);
  /** Rules that refer to the set, as the transaction sees it. */
  setUses = new Int32Array(16);
  /** Most elements: the size that userspace gave, or 65535 once a rule adds elements to a set without one. */
  setLimit = new Float64Array(16);
  /** Number in the name of an anonymous set. */
  setNumber = new Int32Array(16);
  /** Chains of the rules that look a map up: the first plus one, the others. */
  firstBinding = new Int32Array(16);
  readonly moreBindings = new Map<number, number[]>();
  /** Packets and bytes of each counter. */
  counters = new Float64Array(16);
  #counters = 0;
  #freeSets: number[] = [];
  readonly #arena = new SetArena();
  readonly #seed: number;
  readonly #descriptions = new Map<number, SetDescription>();
  /** Base chains of each hook, for IPv4 and for IPv6 packets. */
  readonly #hooks = HOOKS.map(() => [[] as number[], [] as number[]]);
  /** Sets whose elements may expire. */
  readonly #aging = new Set<number>();

  /** `seed`: sets hash with seeds made from it. */
  constructor(seed = 0) {
    this.#seed = seed;
  }

  /** Chains that a packet meets at a hook, in order, whatever their types. */
  baseChains(hook: Hook, ipv6 = false): readonly number[] {
    return this.#hooks[HOOKS.indexOf(hook)]![ipv6 ? 1 : 0]!;
  }

  /** An id that no set has; Transaction.addSet makes the set. */
  reserveSet(): number {
    const reused = this.#freeSets.pop();
    if (reused !== undefined) return reused;
    const id = this.sets.push(undefined) - 1;
    if (id >= this.setState.length) {
      const capacity = 2 * this.setState.length;
      this.setState = longer(this.setState, capacity);
      this.setTable = longer(this.setTable, capacity);
      this.setUses = longer(this.setUses, capacity);
      this.setLimit = longer(this.setLimit, capacity);
      this.setNumber = longer(this.setNumber, capacity);
      this.firstBinding = longer(this.firstBinding, capacity);
    }
    return id;
  }

  /** The number of a table, a new one if there is none of the family and name. */
  tableNumber(family: Family, name: string): number {
    const found = this.tables.findIndex((table) => table.family === family && table.name === name);
    if (found >= 0) return found;
    return this.tables.push({ family, name, state: 0, handle: 0, chains: 0, sets: new SetList() }) - 1;
  }

  reserveChain(): number {
    return this.chains.reserve();
  }

  /** A pair of counts for a counter expression: its index. */
  newCounter(packets = 0, bytes = 0): number {
    if (2 * this.#counters === this.counters.length)
      this.counters = longer(this.counters, 4 * this.#counters);
    this.counters[2 * this.#counters] = packets;
    this.counters[2 * this.#counters + 1] = bytes;
    return this.#counters++;
  }

  /** Whether packets meet the chain, the set. */
  hasChain(chain: number): boolean {
    return (this.chains.state[chain]! & NOW) !== 0;
  }

  hasSet(set: number): boolean {
    return (this.setState[set]! & NOW) !== 0;
  }

  /** Take expired elements away, as each set's worker does every second. To be called about once a virtual second. */
  collect(nowMs: number): number {
    let collected = 0;
    for (const id of this.#aging) collected += (this.sets[id] as Rhash).collect(nowMs);
    return collected;
  }

  /** Bytes in the kernel: rules with their blobs, chains, sets with their elements. Names are not counted. */
  kernelBytes(): { readonly rules: number; readonly chains: number; readonly sets: number } {
    const { chains } = this;
    let rules = 0;
    let chainBytes = 0;
    for (let chain = 0; chain < chains.count; chain++) {
      if ((chains.state[chain]! & NOW) === 0) continue;
      chainBytes += chains.bases.has(chain) ? BASE_CHAIN_BYTES : CHAIN_BYTES;
      rules += expressionsBytes(chains.arena, chains.start[chain]!, chains.words[chain]!);
    }
    let sets = 0;
    for (const set of this.sets) if (set !== undefined) sets += SET_BYTES + set.kernelBytes();
    return { rules, chains: chainBytes, sets };
  }

  // What follows is for Transaction.

  makeSet(id: number, table: number, description: SetDescription): boolean {
    const set = newSet(this.#shared(description), jhash1(id, this.#seed), this.#arena);
    if (set === undefined) return false;
    this.sets[id] = set;
    this.setState[id] = NEXT;
    this.setTable[id] = table;
    this.setUses[id] = 0;
    this.setLimit[id] = description.size > 0 ? description.size : Infinity;
    this.setNumber[id] = -1;
    this.firstBinding[id] = 0;
    if (set instanceof Rhash && (description.timeout || description.dynamic)) this.#aging.add(id);
    return true;
  }

  dropSet(id: number): void {
    const set = this.sets[id]!;
    if (set instanceof FixedHash) set.destroy();
    this.sets[id] = undefined;
    this.setState[id] = 0;
    this.firstBinding[id] = 0;
    this.moreBindings.delete(id);
    this.#aging.delete(id);
    this.#freeSets.push(id);
  }

  /** Register a base chain: before all of the same or a higher priority, as the kernel inserts a hook. */
  hook(chain: number, base: BaseChain): void {
    const family = this.tables[this.chains.table[chain]!]!.family;
    for (const list of this.#lists(family, base.hook)) {
      let at = list.findIndex((other) => this.chains.bases.get(other)!.priority >= base.priority);
      if (at < 0) at = list.length;
      list.splice(at, 0, chain);
    }
  }

  unhook(chain: number, base: BaseChain): void {
    const family = this.tables[this.chains.table[chain]!]!.family;
    for (const list of this.#lists(family, base.hook)) list.splice(list.indexOf(chain), 1);
  }

  /** Anonymous sets are many and alike: they share what userspace told of them. */
  #shared(description: SetDescription): SetDescription {
    const { anonymous, interval, timeout, dynamic, size, keyBytes, dataWords, verdicts } = description;
    if (!anonymous || interval || timeout || dynamic) return description;
    const key = ((size * 128 + keyBytes) * 32 + dataWords) * 2 + (verdicts ? 1 : 0);
    const known = this.#descriptions.get(key);
    if (known !== undefined) return known;
    this.#descriptions.set(key, description);
    return description;
  }

  #lists(family: Family, hook: Hook): number[][] {
    const [ip, ip6] = this.#hooks[HOOKS.indexOf(hook)]!;
    return family === 'inet' ? [ip!, ip6!] : [family === 'ip' ? ip! : ip6!];
  }
}
