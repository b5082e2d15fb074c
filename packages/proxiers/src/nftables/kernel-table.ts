import { swap16, swap32 } from '@vipsim/sim-core';
import { NfTables } from '../nf-tables/kernel/tables.ts';
import type { NodeContext, TableSize } from '../proxier.ts';
import {
  CLUSTER_IPS,
  HAIRPIN,
  NODEPORT_IPS,
  NO_ENDPOINT_NODEPORTS,
  SERVICE_NODEPORTS,
  addressOf,
  portOf,
  protocolOf,
} from './elements.ts';
import { FIXED_SETS, type ObjectNames } from './names.ts';
import type { RulesetOptions } from './settings.ts';
import { Terms } from './terms.ts';

/** Objects of the table, by kind. */
export interface Listed {
  readonly chains: number;
  readonly rules: number;
  readonly named: number;
  readonly anonymous: number;
}

/** Sizes that prices depend on, in bytes. */
export interface TableBytes {
  /** Elements of the shared sets, which every first packet looks up. */
  readonly sharedSets: number;
  /** Heads of all sets, which are walked when one is looked for by name. */
  readonly setHeads: number;
}

/** Of chains and sets that are not there. */
export const NO_ID = -1;
/** It is the only table. */
export const TABLE_NUMBER = 0;
/** struct nft_set with its name. */
const SET_HEAD_BYTES = 256;

/**
 * kube-proxy's table in the kernel: from its own numbers of chains and sets (names.ts) to the kernel's and back.
 */
export class KernelTable {
  readonly tables: NfTables;
  readonly names: ObjectNames;
  readonly options: RulesetOptions;
  readonly #terms: Terms;
  /** Operations of the sync that is being priced. */
  plannedOperations = 0;
  /** By own number: the kernel's, or -1. */
  #chains: Int32Array = new Int32Array(64).fill(NO_ID);
  readonly #sets = new Map<number, number>();
  /** By the kernel's number: the own one, and when it got it. */
  #ownChains: Int32Array = new Int32Array(64).fill(NO_ID);
  #born: Int32Array = new Int32Array(64).fill(NO_ID);
  #births = 0;
  readonly #ownSets = new Map<number, number>();
  #open: { abort(): void } | undefined;

  constructor(node: NodeContext, options: RulesetOptions, names: ObjectNames) {
    this.tables = new NfTables(node.streams.stream('nftables.sets').uint32());
    this.options = options;
    this.names = names;
    this.#terms = new Terms(options);
  }

  /** A transaction begins; one that was prepared and not committed is dropped. */
  open(transaction: { abort(): void }): void {
    this.#open?.abort();
    this.#open = transaction;
  }

  closed(): void {
    this.#open = undefined;
  }

  /** As registers hold the key: addresses and ports in network order, read little-endian. */
  keyWords(set: number, key: number): number[] {
    const address = Array.from(this.#terms.words(addressOf(key)), swap32);
    if (set === CLUSTER_IPS || set === NODEPORT_IPS) return address;
    const service = [protocolOf(key), swap16(portOf(key))];
    if (set === SERVICE_NODEPORTS || set === NO_ENDPOINT_NODEPORTS) return service;
    return set === HAIRPIN ? [...address, ...address, ...service] : [...address, ...service];
  }

  /** The kernel's number of a chain; -1 if it has none. */
  chain(number: number): number {
    return number < this.#chains.length ? this.#chains[number]! : NO_ID;
  }

  set(number: number): number {
    return this.#sets.get(number) ?? NO_ID;
  }

  /** The own number of a kernel's chain, set; -1 for anonymous sets. */
  ownChain(id: number): number {
    return this.#ownChains[id]!;
  }

  ownSet(id: number): number {
    return this.#ownSets.get(id) ?? NO_ID;
  }

  nameChain(number: number, id: number): void {
    this.#chains = holding(this.#chains, number);
    this.#chains[number] = id;
    if (id === NO_ID) return;
    this.#ownChains = holding(this.#ownChains, id);
    this.#ownChains[id] = number;
  }

  /** A chain with this number of the kernel is made. */
  bear(id: number): void {
    this.#born = holding(this.#born, id);
    this.#born[id] = this.#births++;
  }

  nameSet(number: number, id: number): void {
    if (id === NO_ID) {
      this.#ownSets.delete(this.set(number));
      this.#sets.delete(number);
    } else {
      this.#sets.set(number, id);
      this.#ownSets.set(id, number);
    }
  }

  /** Own numbers of the sets that have names, in the order of their making. */
  namedSets(): Iterable<number> {
    return this.#sets.keys();
  }

  /** The kernel's numbers of chains in force, in the order of their making. */
  chainsInOrder(): Int32Array {
    const { chains } = this.tables;
    const ids = Int32Array.from({ length: chains.count }, (_, id) => id).filter((id) =>
      this.tables.hasChain(id),
    );
    return ids.sort((a, b) => this.#born[a]! - this.#born[b]!);
  }

  counted(): Listed {
    const named = this.#sets.size;
    return { chains: this.chainCount, rules: this.#rules(), named, anonymous: this.setCount - named };
  }

  /** All sets of the table, anonymous ones too. */
  get setCount(): number {
    return this.tables.tables[TABLE_NUMBER]?.sets.length ?? 0;
  }

  get chainCount(): number {
    return this.tables.tables[TABLE_NUMBER]?.chains ?? 0;
  }

  bytes(): TableBytes {
    let sharedSets = 0;
    for (let number = 0; number < FIXED_SETS.length; number++) {
      const id = this.set(number);
      if (id !== NO_ID) sharedSets += this.tables.sets[id]!.kernelBytes();
    }
    return { sharedSets, setHeads: this.setCount * SET_HEAD_BYTES };
  }

  sizes(): readonly TableSize[] {
    const { rules, chains, sets } = this.tables.kernelBytes();
    let elements = 0;
    for (const set of this.tables.sets) elements += set?.count ?? 0;
    return [
      { name: 'rules', entries: this.#rules(), bytes: rules },
      { name: 'chains', entries: this.chainCount, bytes: chains },
      { name: 'sets', entries: elements, bytes: sets },
    ];
  }

  #rules(): number {
    const { chains } = this.tables;
    let count = 0;
    for (let chain = 0; chain < chains.count; chain++) {
      if (this.tables.hasChain(chain)) count += chains.rules[chain]!;
    }
    return count;
  }
}

function holding(column: Int32Array, at: number): Int32Array {
  if (at < column.length) return column;
  const wider = new Int32Array(Math.max(at + 1, column.length * 2)).fill(NO_ID);
  wider.set(column);
  return wider;
}
