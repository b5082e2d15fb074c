import { swap16, swap32 } from '@vipsim/sim-core';
import type { Counts } from '../cost/operations.ts';
import { Evaluator as Machine, type EvaluatorOperations } from '../nf-tables/kernel/evaluator.ts';
import {
  BITWISE,
  CMP,
  CT_LOAD,
  DYNSET,
  FIB,
  IMMEDIATE,
  IMMEDIATE_VERDICT,
  LOOKUP,
  MASQ,
  META_LOAD,
  META_SET,
  NAT,
  NUMGEN,
  OPCODES,
  PAYLOAD,
  REJECT,
  verdictChain,
} from '../nf-tables/kernel/program.ts';
import type { Skb } from '../nf-tables/kernel/skb.ts';
import type { NodeContext, Recorder } from '../proxier.ts';
import { SERVICE_IPS, SERVICE_NODEPORTS } from './elements.ts';
import { EndpointFinder } from './endpoint-finder.ts';
import type { KernelTable } from './kernel-table.ts';
import { FIXED_CHAINS } from './names.ts';
import { NFTABLES_OPERATIONS, OPERATION } from './operations.ts';
import type { Programmed } from './programmed.ts';
import { WalkRecord } from './walk-record.ts';

const HOOK = OPERATION['nftables.hook'];
const FIRST = OPERATION['nftables.rule'];
const LAST = OPERATION['nftables.set.step'];

/**
 * Runs of base chains, and what came of them for the packet at hand: the endpoint row that a translation chose,
 * masquerading, a reject.
 */
export class Walk {
  nowNs = 0;
  /** The last run of a nat chain translated the destination, to these. */
  aimed = false;
  address = 0;
  port = 0;
  /** Row of the endpoint; -1 where none was chosen. */
  endpoint = -1;
  /** The last run of a nat chain wants the node's own address as source. */
  masquerades = false;
  rejected = false;
  readonly #table: KernelTable;
  readonly #machine: Machine;
  /** Counts of the runs since `begin`, one place more than operations. */
  readonly #counts = new Float64Array(NFTABLES_OPERATIONS.length + 1);
  readonly #finder: EndpointFinder;
  readonly #record: WalkRecord;
  #verdictCounts: Counts = this.#counts;
  readonly #key = new Uint32Array(3);

  constructor(node: NodeContext, table: KernelTable, programmed: Programmed) {
    this.#table = table;
    this.#machine = new Machine(
      table.tables,
      OPERATIONS,
      this.#counts,
      node.streams.stream('nftables.numgen'),
    );
    this.#finder = new EndpointFinder(node.cluster.endpoints, programmed);
    this.#record = new WalkRecord(node.cluster, table, programmed);
  }

  get recorder(): Recorder | undefined {
    return this.#record.recorder;
  }

  set recorder(recorder: Recorder | undefined) {
    this.#record.recorder = recorder;
    this.#machine.recorder = recorder === undefined ? undefined : this.#record;
  }

  /** A packet's first run is next; counts are added to `counts`. */
  begin(counts: Counts): void {
    this.#verdictCounts = counts;
    this.aimed = false;
    this.endpoint = -1;
    this.masquerades = false;
    this.rejected = false;
  }

  /** Let the packet through a base chain of type filter: whether it may go on. */
  filter(chain: number, skb: Skb): boolean {
    return this.#run(chain, skb);
  }

  /** The destination, by a base chain of type nat. False: the packet goes nowhere. */
  aim(chain: number, skb: Skb): boolean {
    const machine = this.#machine;
    if (!this.#run(chain, skb)) return false;
    if (machine.nat === 0) return true;
    this.aimed = true;
    this.address = swap32(machine.natAddress[0]!);
    this.port = machine.natPortMin;
    this.endpoint = this.#finder.find(this.#servicePortOf(skb), this.address, this.port);
    return true;
  }

  /** The source, likewise. */
  mask(chain: number, skb: Skb): boolean {
    if (!this.#run(chain, skb)) return false;
    this.masquerades = this.#machine.masquerade && this.#machine.nat !== 0;
    return true;
  }

  #run(chain: number, skb: Skb): boolean {
    const counts = this.#counts;
    counts.fill(0);
    const id = this.#table.chain(chain);
    this.#record.begin();
    const passes = this.#machine.run(id, skb, this.nowNs) !== 0;
    this.#record.end(id, passes, this.#machine);
    const total = this.#verdictCounts;
    total[HOOK]! += 1;
    for (let i = FIRST; i <= LAST; i++) total[i]! += counts[i]!;
    this.rejected = this.#machine.rejected;
    return passes;
  }

  /** Which service port's chains the packet went through: as the map that it hit says. */
  #servicePortOf(skb: Skb): number {
    const key = this.#key;
    const service = this.#table.set(SERVICE_IPS);
    key[0] = skb.destination[0]!;
    key[1] = skb.protocol;
    key[2] = swap16(skb.destinationPort);
    const { sets } = this.#table.tables;
    const nowMs = this.nowNs / 1e6;
    let found = sets[service]!.lookup(key, 0, nowMs);
    let data = 0;
    if (found >= 0) data = sets[service]!.data(found, 0);
    else {
      const nodePorts = sets[this.#table.set(SERVICE_NODEPORTS)]!;
      found = nodePorts.lookup(key, 1, nowMs);
      if (found < 0) return -1;
      data = nodePorts.data(found, 0);
    }
    return (this.#table.ownChain(verdictChain(data)) - FIXED_CHAINS.length) >> 2;
  }
}

const OPERATIONS: EvaluatorOperations = {
  expressions: expressionOperations(),
  rule: OPERATION['nftables.rule'],
  // Counted as the expression.
  lookup: -1,
  step: OPERATION['nftables.set.step'],
};

function expressionOperations(): Int32Array {
  const operations = new Int32Array(OPCODES).fill(-1);
  operations[PAYLOAD] = OPERATION['nftables.payload'];
  operations[CMP] = OPERATION['nftables.cmp'];
  operations[BITWISE] = OPERATION['nftables.bitwise'];
  operations[META_LOAD] = OPERATION['nftables.meta'];
  operations[META_SET] = OPERATION['nftables.meta'];
  operations[CT_LOAD] = OPERATION['nftables.ct'];
  operations[FIB] = OPERATION['nftables.fib'];
  operations[NUMGEN] = OPERATION['nftables.numgen'];
  operations[LOOKUP] = OPERATION['nftables.lookup'];
  operations[IMMEDIATE] = OPERATION['nftables.immediate'];
  operations[IMMEDIATE_VERDICT] = OPERATION['nftables.immediate'];
  operations[NAT] = OPERATION['nftables.nat'];
  operations[MASQ] = OPERATION['nftables.masq'];
  operations[REJECT] = OPERATION['nftables.reject'];
  operations[DYNSET] = OPERATION['nftables.dynset'];
  return operations;
}
