import { longer } from '@vipsim/sim-core';
import { BUILT_IN_CHAINS, FIXED_CHAINS, KUBE_SERVICES } from './chains.ts';
import { CandidateIndex } from './candidate-index.ts';
import { entryBytesOf, type EntryBytes } from './entry-bytes.ts';
import { RECENT_CHECK, RECENT_SET, SERVICE_SHAPE } from './rule.ts';
import { RuleColumns } from './rule-columns.ts';
import type { RuleSizes } from './rule-sizes.ts';

/** How much a table holds. */
export interface Holding {
  rules: number;
  /** User chains. */
  chains: number;
  builtIns: number;
  bytes: number;
}

/** Is told which rows come into force and which cease, first all that come; only of tables with recent rules. */
export interface CommitObserver {
  added(chain: number, first: number, count: number): void;
  removed(chain: number, first: number, count: number): void;
  committed(): void;
}

/**
 * One table (nat or filter): an arena of rules, and chains as segments of it. New contents of chains are *staged*
 * behind the live rows and come into force together by `commit`, as a table's COMMIT line does; until then a
 * packet sees the old rules.
 *
 *     rows  |SVC a|SEP|SEP|KUBE-SERVICES|  waste  |SVC b|..live..|   staged: SVC a', SEP   |   free
 *                                                                ^ staged from              ^ used
 */
export class RuleTable {
  readonly name: string;
  rules = new RuleColumns(64);
  // By chain. A chain that is not live has no rows.
  kind: Uint8Array = new Uint8Array(64);
  /** The service port, or for SEP the endpoint row. */
  subject: Int32Array = new Int32Array(64);
  first: Uint32Array = new Uint32Array(64);
  count: Uint32Array = new Uint32Array(64);
  /** Rows before this one in KUBE-SERVICES all have the shape of a service rule. */
  servicesEnd = 0;
  /** The one protocol of those rows; 0 when they have several. */
  servicesProtocol = 0;
  readonly entryBytes: EntryBytes;
  /** How often what packets meet has changed. */
  commits = 0;
  readonly holds: Holding = { rules: 0, chains: 0, builtIns: 0, bytes: 0 };
  observer: CommitObserver | undefined = undefined;

  /** Tests that any rule ever had. */
  #tests = 0;
  /** By long chain that a packet met: its index, or undefined if it has none. Dropped when the chain changes. */
  readonly #candidates = new Map<number, CandidateIndex | undefined>();
  readonly #sizes: RuleSizes;
  /** By row, modulo 2^32: what packets pass of the rows before it. Made when asked for, dropped with a commit. */
  #bytesBefore: Uint32Array | undefined = undefined;
  #live: Uint8Array = new Uint8Array(64);
  /** By chain: what its rules take in the kernel. */
  #bytes: Float64Array = new Float64Array(64);
  #chains = FIXED_CHAINS;
  #freeChains: number[] = [];
  #used = 0;
  #stagedFrom = 0;
  #waste = 0;
  #stagedChains: number[] = [];
  #stagedCounts: number[] = [];
  #stagedBytes: number[] = [];
  #stagedNew: number[] = [];
  /** By chain that exists once: where it is among the staged, or -1. */
  readonly #stagedAt = new Int32Array(FIXED_CHAINS).fill(-1);
  #dropped: number[] = [];

  constructor(name: string, sizes: RuleSizes) {
    this.name = name;
    this.#sizes = sizes;
    this.entryBytes = entryBytesOf(sizes);
    this.holds.bytes = sizes.table;
    for (let chain = 0; chain < FIXED_CHAINS; chain++) this.kind[chain] = chain;
  }

  /** Make room for `rows` more rules, so that a large build does not copy its columns again and again. */
  reserve(rows: number): void {
    const { capacity } = this.rules;
    if (this.#used + rows > capacity)
      this.rules.grow(Math.max(this.#used + rows, capacity + (capacity >> 2)));
  }

  isLive(chain: number): boolean {
    return this.#live[chain] === 1;
  }

  liveChains(): number[] {
    const live: number[] = [];
    for (let chain = 0; chain < this.#chains; chain++) if (this.#live[chain] === 1) live.push(chain);
    return live;
  }

  /** A chain to stage, which exists from the next commit on. */
  newChain(kind: number, subject: number): number {
    const chain = this.#freeChains.pop() ?? this.#chains++;
    if (chain === this.kind.length) this.#growChains(chain * 2);
    this.kind[chain] = kind;
    this.subject[chain] = subject;
    this.#stagedNew.push(chain);
    return chain;
  }

  /** The rules added from now on are the new contents of `chain`. */
  begin(chain: number): void {
    if (chain < FIXED_CHAINS) this.#stagedAt[chain] = this.#stagedChains.length;
    this.#stagedChains.push(chain);
    this.#stagedCounts.push(0);
    this.#stagedBytes.push(0);
  }

  /** Add a rule to the chain begun last; returns its row, whose other columns may then be set. */
  add(match: number, target: number, argument: number, about: number): number {
    const row = this.#used++;
    if (row === this.rules.capacity) this.rules.grow(row + (row >> 1));
    this.rules.write(row, match, target, argument, about);
    this.#tests |= match;
    const last = this.#stagedCounts.length - 1;
    this.#stagedCounts[last]! += 1;
    this.#stagedBytes[last]! += this.#sizes.rule(match, target);
    return row;
  }

  /** Delete a chain with the next commit. */
  drop(chain: number): void {
    this.#dropped.push(chain);
  }

  /** What the table will hold after the commit. */
  planned(): Holding {
    const planned = { ...this.holds };
    for (let i = 0; i < this.#stagedChains.length; i++) {
      const chain = this.#stagedChains[i]!;
      this.#account(planned, chain, -1);
      const bytes = this.#stagedBytes[i]! + this.#overhead(chain);
      addRows(planned, chain, this.#stagedCounts[i]!, bytes, 1);
    }
    for (const chain of this.#dropped) this.#account(planned, chain, -1);
    return planned;
  }

  /** Chains and rules that are staged. */
  staged(): { readonly chains: number; readonly rules: number; readonly dropped: number } {
    return {
      chains: this.#stagedChains.length,
      rules: this.#used - this.#stagedFrom,
      dropped: this.#dropped.length,
    };
  }

  eachStaged(visit: (chain: number) => void): void {
    for (const chain of this.#stagedChains) visit(chain);
  }

  /** Rules that a chain which exists once will have after the commit. */
  countAfter(chain: number): number {
    const at = this.#stagedAt[chain]!;
    return at < 0 ? this.count[chain]! : this.#stagedCounts[at]!;
  }

  /** The index over a long chain, made when it is first asked for; undefined where it would not help. */
  candidates(chain: number): CandidateIndex | undefined {
    const known = this.#candidates.get(chain);
    if (known !== undefined) {
      if (known.length !== this.count[chain])
        throw new Error(
          `the index of chain ${chain} has ${known.length} rules, the chain ${this.count[chain]!}`,
        );
      return known;
    }
    if (this.#candidates.has(chain)) return undefined;
    const index = CandidateIndex.over(this.rules, this.first[chain]!, this.count[chain]!);
    this.#candidates.set(chain, index);
    return index;
  }

  /** Put what is staged in force. Returns the chains that are gone. */
  commit(): readonly number[] {
    if ((this.#tests & (RECENT_CHECK | RECENT_SET)) !== 0) this.#tellObserver();
    this.commits++;
    this.#bytesBefore = undefined;
    let row = this.#stagedFrom;
    for (let i = 0; i < this.#stagedChains.length; i++) {
      const chain = this.#stagedChains[i]!;
      this.#account(this.holds, chain, -1);
      this.#waste += this.count[chain]!;
      this.first[chain] = row;
      this.count[chain] = this.#stagedCounts[i]!;
      this.#bytes[chain] = this.#stagedBytes[i]!;
      this.#live[chain] = 1;
      this.#account(this.holds, chain, 1);
      row += this.count[chain]!;
      this.#candidates.delete(chain);
      if (chain === KUBE_SERVICES) this.#measureServices();
    }
    for (const chain of this.#dropped) {
      this.#account(this.holds, chain, -1);
      this.#waste += this.count[chain]!;
      this.count[chain] = 0;
      this.#bytes[chain] = 0;
      this.#live[chain] = 0;
      this.#candidates.delete(chain);
      this.#freeChains.push(chain);
    }
    const gone = this.#dropped;
    this.#stagedFrom = this.#used;
    this.#forgetStaged();
    if (this.#waste > 65536 && this.#waste * 2 > this.#used) this.#compact();
    return gone;
  }

  /** Forget what is staged. Returns the new chains that will not be. */
  rollback(): readonly number[] {
    this.#used = this.#stagedFrom;
    const unborn = this.#stagedNew;
    for (const chain of unborn) this.#freeChains.push(chain);
    this.#forgetStaged();
    return unborn;
  }

  /** Bytes of rules in the kernel. */
  bytesOf(first: number, count: number): number {
    return this.#rowBytes(first, count, this.#sizes);
  }

  /** Bytes that a packet passes which meets the rules of the live rows [from, to). */
  bytesPassed(from: number, to: number): number {
    this.#bytesBefore ??= this.#sumBytes();
    return (this.#bytesBefore[to]! - this.#bytesBefore[from]!) >>> 0;
  }

  /** Bytes that the live table would take in a kernel of other sizes. */
  bytesIn(sizes: RuleSizes): number {
    let bytes = sizes.table;
    for (const chain of this.liveChains()) {
      bytes += chain < BUILT_IN_CHAINS ? sizes.builtIn : sizes.chain;
      bytes += this.#rowBytes(this.first[chain]!, this.count[chain]!, sizes);
    }
    return bytes;
  }

  #sumBytes(): Uint32Array {
    const { match, target } = this.rules;
    const before = new Uint32Array(this.#stagedFrom + 1);
    let bytes = 0;
    for (let row = 0; row < this.#stagedFrom; row++) {
      bytes += this.entryBytes.rule(match[row]!, target[row]!);
      before[row + 1] = bytes;
    }
    return before;
  }

  #rowBytes(first: number, count: number, sizes: RuleSizes): number {
    const { match, target } = this.rules;
    let bytes = 0;
    for (let row = first; row < first + count; row++) bytes += sizes.rule(match[row]!, target[row]!);
    return bytes;
  }

  #tellObserver(): void {
    const { observer } = this;
    if (observer === undefined) return;
    let row = this.#stagedFrom;
    for (let i = 0; i < this.#stagedChains.length; i++) {
      observer.added(this.#stagedChains[i]!, row, this.#stagedCounts[i]!);
      row += this.#stagedCounts[i]!;
    }
    for (const chains of [this.#stagedChains, this.#dropped]) {
      for (const chain of chains) observer.removed(chain, this.first[chain]!, this.count[chain]!);
    }
    observer.committed();
  }

  #forgetStaged(): void {
    this.#stagedChains = [];
    this.#stagedCounts = [];
    this.#stagedBytes = [];
    this.#stagedNew = [];
    this.#stagedAt.fill(-1);
    this.#dropped = [];
  }

  #account(holding: Holding, chain: number, sign: number): void {
    if (this.#live[chain] === 0) return;
    addRows(holding, chain, this.count[chain]!, this.#bytes[chain]! + this.#overhead(chain), sign);
  }

  #overhead(chain: number): number {
    return chain < BUILT_IN_CHAINS ? this.#sizes.builtIn : this.#sizes.chain;
  }

  #measureServices(): void {
    const { match, protocol, destinationMask } = this.rules;
    const first = this.first[KUBE_SERVICES]!;
    const end = first + this.count[KUBE_SERVICES]!;
    let row = first;
    this.servicesProtocol = first < end ? protocol[first]! : 0;
    while (row < end && match[row] === SERVICE_SHAPE && destinationMask[row] === 0xffffffff) {
      if (protocol[row] !== this.servicesProtocol) this.servicesProtocol = 0;
      row++;
    }
    this.servicesEnd = row;
  }

  /** Copy the live rows, chain after chain, into an arena that fits. */
  #compact(): void {
    const packed = new RuleColumns(this.holds.rules + (this.holds.rules >> 2) + 64);
    let to = 0;
    for (let chain = 0; chain < this.#chains; chain++) {
      const count = this.count[chain]!;
      packed.copy(this.rules, this.first[chain]!, count, to);
      this.first[chain] = to;
      to += count;
    }
    this.rules = packed;
    this.#used = to;
    this.#stagedFrom = to;
    this.#waste = 0;
    if (this.#live[KUBE_SERVICES] === 1) this.#measureServices();
  }

  #growChains(capacity: number): void {
    this.kind = longer(this.kind, capacity);
    this.subject = longer(this.subject, capacity);
    this.first = longer(this.first, capacity);
    this.count = longer(this.count, capacity);
    this.#live = longer(this.#live, capacity);
    this.#bytes = longer(this.#bytes, capacity);
  }
}

function addRows(holding: Holding, chain: number, rules: number, bytes: number, sign: number): void {
  holding.rules += sign * rules;
  holding.bytes += sign * bytes;
  if (chain < BUILT_IN_CHAINS) holding.builtIns += sign;
  else holding.chains += sign;
}
