import { longer } from '@vipsim/sim-core';
import { FIXED_CHAINS, SEP, SVC } from './chains.ts';
import type { RuleTable } from './rule-table.ts';

/** Which chain of the nat table belongs to which service port and endpoint. */
export class ChainIndex {
  readonly #table: RuleTable;
  readonly #ports: number;
  /** By (kind − SVC) × ports + service port; 0 for none. */
  readonly #ofPort: Int32Array;
  #ofEndpoint: Int32Array;

  constructor(table: RuleTable, ports: number, endpoints: number) {
    this.#table = table;
    this.#ports = ports;
    this.#ofPort = new Int32Array((SEP - SVC) * ports);
    this.#ofEndpoint = new Int32Array(endpoints + 1);
  }

  /** The chain, or 0. For SEP the subject is an endpoint row, else a service port. */
  find(kind: number, subject: number): number {
    if (kind === SEP) return this.#ofEndpoint[subject] ?? 0;
    return this.#ofPort[(kind - SVC) * this.#ports + subject]!;
  }

  /** The chain, made if need be. */
  ensure(kind: number, subject: number): number {
    const found = this.find(kind, subject);
    if (found !== 0) return found;
    const chain = this.#table.newChain(kind, subject);
    this.#set(kind, subject, chain);
    return chain;
  }

  /** The chains are no more. */
  forget(chains: readonly number[]): void {
    for (const chain of chains) {
      if (chain >= FIXED_CHAINS) this.#set(this.#table.kind[chain]!, this.#table.subject[chain]!, 0);
    }
  }

  #set(kind: number, subject: number, chain: number): void {
    if (kind !== SEP) {
      this.#ofPort[(kind - SVC) * this.#ports + subject] = chain;
      return;
    }
    if (subject >= this.#ofEndpoint.length) {
      this.#ofEndpoint = longer(this.#ofEndpoint, subject * 2);
    }
    this.#ofEndpoint[subject] = chain;
  }
}
