import { NEXT, NOW } from './chains.ts';
import { ElementChanges } from './element-changes.ts';
import { NfTablesError, type Errno, type Fail } from './nf-error.ts';
import { DYNSET, IMMEDIATE_VERDICT, LOOKUP, RULE_HEADER, expressionWords, verdictChain } from './program.ts';
import { isJump, readsMap } from './references.ts';
import { SetChanges } from './set-changes.ts';
import { StagedRules } from './staged-rules.ts';
import type { NfTables } from './tables.ts';
import { TransactionCounts } from './transaction-counts.ts';
import * as op from './transaction.ts';
import { bindMap, countUses, unbindMap, useChain } from './uses.ts';
import { Validation, type Run, type ValidationMode } from './validation.ts';

/** Elements a dynamic set may hold when nobody says how many: nft_dynset.c. */
const DYNAMIC_LIMIT = 65535;

/**
 * The two phases of a commit: every message is applied to the next generation, then the generations change places.
 * Source: net/netfilter/nf_tables_api.c (nf_tables_new* and del*, nf_tables_bind_set, nf_tables_commit, abort).
 * Not modelled: the search for sets of the same batch by id, which newer kernels begin at the batch's end; the walks
 * through the ruleset for each jump (nf_tables_check_loops), said to have gone with 6.11: kube-proxy's mode counts them.
 */
export class Preparation {
  readonly #tables: NfTables;
  readonly #batch: op.Transaction;
  readonly #mode: ValidationMode;
  readonly #counts = new TransactionCounts();
  readonly #staged: StagedRules;
  readonly #newTables: number[] = [];
  readonly #goneTables: number[] = [];
  readonly #newChains: number[] = [];
  readonly #goneChains: number[] = [];
  readonly #sets: SetChanges;
  /** Pairs of set and chain. */
  readonly #bound: number[] = [];
  readonly #unbound: number[] = [];
  /** Tables whose jumps or translations changed. */
  readonly #unsure = new Set<number>();
  readonly #elements: ElementChanges;
  #operation = 0;

  constructor(tables: NfTables, batch: op.Transaction, mode: ValidationMode) {
    this.#tables = tables;
    this.#batch = batch;
    this.#mode = mode;
    this.#staged = new StagedRules(tables.chains, batch.queue);
    const fail: Fail = (errno, what) => this.#fail(errno, what);
    this.#elements = new ElementChanges(tables, batch, this.#counts, fail);
    this.#sets = new SetChanges(tables, this.#counts, fail);
  }

  run(nowMs: number): TransactionCounts {
    try {
      this.#applyAll(nowMs);
      this.#operation = -1;
      this.#buildBlobs();
      const validation = new Validation(this.#tables, this.#counts, this.#mode, (chain, out) =>
        this.#runOf(chain, out),
      );
      for (const table of this.#unsure) {
        if ((this.#tables.tables[table]!.state & NEXT) !== 0) validation.check(table);
      }
    } catch (error) {
      this.abort();
      throw error;
    }
    for (const table of this.#tables.tables) this.#counts.chainsPublished += table.chains;
    return this.#counts;
  }

  commit(): void {
    const tables = this.#tables;
    const { chains } = tables;
    this.#staged.commit();
    this.#elements.commit();
    for (let i = 0; i < this.#unbound.length; i += 2)
      unbindMap(tables, this.#unbound[i]!, this.#unbound[i + 1]!);
    this.#sets.commit();
    for (const chain of this.#newChains) {
      if ((chains.state[chain]! & NEXT) === 0) continue;
      chains.state[chain]! |= NOW;
      const base = chains.bases.get(chain);
      if (base !== undefined) tables.hook(chain, base);
    }
    for (const chain of this.#goneChains) this.#freeChain(chain);
    for (const table of this.#newTables) tables.tables[table]!.state = NOW | NEXT;
    for (const table of this.#goneTables) tables.tables[table]!.state &= ~NOW;
    chains.pack();
  }

  /** Undo everything. Users are counted anew from the generation that stays. */
  abort(): void {
    const tables = this.#tables;
    const { chains } = tables;
    this.#staged.abort();
    this.#elements.abort();
    for (let i = this.#bound.length - 2; i >= 0; i -= 2)
      unbindMap(tables, this.#bound[i]!, this.#bound[i + 1]!);
    this.#sets.abort();
    for (const chain of this.#goneChains)
      if ((chains.state[chain]! & NOW) !== 0) chains.state[chain]! |= NEXT;
    for (const chain of this.#newChains) {
      tables.tables[chains.table[chain]!]!.chains--;
      chains.release(chain);
    }
    for (const table of this.#goneTables) tables.tables[table]!.state |= NEXT;
    for (const table of this.#newTables) tables.tables[table]!.state = 0;
    countUses(tables);
  }

  // The messages, one after the other.

  #applyAll(nowMs: number): void {
    const { queue, length } = this.#batch;
    for (let at = 0; at < length; this.#operation++) {
      const kind = queue[at]! & 255;
      const flags = queue[at]! >> 8;
      const a = queue[at + 1]!;
      const b = queue[at + 2]!;
      at += 3;
      switch (kind) {
        case op.ADD_TABLE:
          this.#addTable(a, flags);
          break;
        case op.DELETE_TABLE:
          this.#deleteTable(a, flags);
          break;
        case op.ADD_CHAIN:
          this.#addChain(a, b, flags);
          break;
        case op.FLUSH_CHAIN:
          this.#needChain(a);
          this.#counts.ruleDeletions++;
          this.#flushRules(a);
          break;
        case op.DELETE_CHAIN:
          this.#deleteChain(a, flags);
          break;
        case op.ADD_RULES:
        case op.INSERT_RULES:
          this.#addRules(a, at, b, kind === op.INSERT_RULES);
          at += b;
          break;
        case op.DELETE_RULE:
          this.#deleteRule(a, b, flags);
          break;
        case op.ADD_SET:
          this.#needTable(a);
          this.#sets.add(a, b, this.#batch.descriptions.get(this.#operation)!, flags);
          break;
        case op.DELETE_SET:
          this.#sets.delete(a, flags);
          break;
        case op.FLUSH_SET:
          this.#needSet(a);
          this.#elements.flush(a);
          break;
        case op.ADD_ELEMENT:
        case op.DELETE_ELEMENT:
          this.#changeElement(kind === op.ADD_ELEMENT, a, b, flags, at, nowMs);
          at += 1 + (queue[at]! & (op.WITH_END - 1));
          break;
      }
    }
  }

  #addTable(table: number, flags: number): void {
    const it = this.#tables.tables[table]!;
    this.#counts.tables++;
    if ((it.state & NEXT) !== 0) {
      if ((flags & op.EXCLUSIVE) !== 0) this.#fail('EEXIST', `table ${it.family} ${it.name}`);
      return;
    }
    if (it.state === NOW) this.#fail('EBUSY', `table ${it.name} was deleted in this transaction`);
    it.state = NEXT;
    it.handle = 0;
    this.#newTables.push(table);
  }

  #deleteTable(table: number, flags: number): void {
    const it = this.#tables.tables[table]!;
    this.#counts.tables++;
    if ((it.state & NEXT) === 0) {
      if ((flags & op.IF_EXISTS) !== 0) return;
      this.#fail('ENOENT', `table ${it.family} ${it.name}`);
    }
    const { chains } = this.#tables;
    const own: number[] = [];
    for (let chain = 0; chain < chains.count; chain++) {
      if (chains.table[chain] === table && (chains.state[chain]! & NEXT) !== 0) own.push(chain);
    }
    for (const chain of own) this.#flushRules(chain);
    for (const set of it.sets) if ((this.#tables.setState[set]! & NEXT) !== 0) this.#sets.dismiss(set);
    for (const chain of own) this.#dismissChain(chain);
    it.state &= ~NEXT;
    this.#goneTables.push(table);
  }

  #addChain(table: number, chain: number, flags: number): void {
    const { chains } = this.#tables;
    const base = this.#batch.bases.get(this.#operation);
    this.#needTable(table);
    this.#counts.newChains++;
    if ((chains.state[chain]! & NEXT) !== 0) {
      if ((flags & op.EXCLUSIVE) !== 0) this.#fail('EEXIST', 'chain');
      const old = chains.bases.get(chain);
      if (base !== undefined) {
        const same = old?.type === base.type && old.hook === base.hook && old.priority === base.priority;
        if (!same) this.#fail('EOPNOTSUPP', 'a chain keeps its type, hook and priority');
        this.#staged.setPolicy(chain, base);
      }
      return;
    }
    if (chains.state[chain] !== 0) this.#fail('EBUSY', 'the id of a chain that this transaction deletes');
    if (base !== undefined && base.type === 'nat' && base.priority <= -200) {
      this.#fail('EOPNOTSUPP', 'a nat chain before connection tracking');
    }
    chains.state[chain] = NEXT;
    chains.table[chain] = table;
    if (base !== undefined) chains.bases.set(chain, base);
    this.#tables.tables[table]!.handle++;
    this.#tables.tables[table]!.chains++;
    this.#newChains.push(chain);
  }

  #deleteChain(chain: number, flags: number): void {
    const { chains } = this.#tables;
    this.#counts.deletedChains++;
    if ((chains.state[chain]! & NEXT) === 0 && (flags & op.IF_EXISTS) !== 0) return;
    this.#needChain(chain);
    this.#flushRules(chain);
    if (chains.uses[chain]! > 0) this.#fail('EBUSY', 'rules or elements jump to the chain');
    this.#dismissChain(chain);
  }

  #dismissChain(chain: number): void {
    this.#tables.chains.state[chain]! &= ~NEXT;
    this.#goneChains.push(chain);
  }

  #addRules(chain: number, at: number, length: number, first: boolean): void {
    this.#needChain(chain);
    const { queue } = this.#batch;
    const table = this.#tables.tables[this.#tables.chains.table[chain]!]!;
    for (let rule = at; rule < at + length; rule += queue[rule]!) {
      this.#counts.newRules++;
      table.handle++;
      if (queue[rule + 1] === 0) queue[rule + 1] = table.handle;
      else if (queue[rule + 1]! > table.handle) table.handle = queue[rule + 1]!;
      this.#enter(chain, queue, rule);
      if (first) this.#staged.prepend(chain, rule, queue[rule]!);
    }
    if (!first) this.#staged.append(chain, at, length);
    this.#unsure.add(this.#tables.chains.table[chain]!);
  }

  #deleteRule(chain: number, handle: number, flags: number): void {
    this.#needChain(chain);
    this.#counts.ruleDeletions++;
    const found = this.#staged.take(chain, handle, (words, rule) => this.#leave(chain, words, rule));
    if (!found && (flags & op.IF_EXISTS) === 0) this.#fail('ENOENT', `rule ${handle}`);
    if (found) this.#counts.deletedRules++;
  }

  #flushRules(chain: number): void {
    this.#staged.flush(chain, (words, rule) => {
      this.#leave(chain, words, rule);
      this.#counts.deletedRules++;
    });
  }

  #changeElement(add: boolean, set: number, extra: number, flags: number, at: number, nowMs: number): void {
    this.#needSet(set);
    if ((flags & op.CONTINUED) === 0) {
      this.#counts.elementMessages++;
      this.#counts.setListSteps += this.#sets.steps(set);
    }
    const verdict = this.#elements.change(add, set, extra, flags, at, nowMs);
    if (verdict < 0) return;
    this.#needTarget(verdict);
    useChain(this.#tables, verdict, 1);
    if (isJump(verdict)) this.#unsure.add(this.#tables.setTable[set]!);
  }

  // Users of chains and sets.

  /** A rule comes into the next generation: its jumps and sets are used. */
  #enter(chain: number, words: Int32Array, rule: number): void {
    const end = rule + words[rule]!;
    for (let at = rule + RULE_HEADER; at < end; at += expressionWords(words, at)) {
      this.#counts.expressions++;
      switch (words[at]! & 255) {
        case IMMEDIATE_VERDICT:
          this.#needTarget(words[at + 1]!);
          useChain(this.#tables, words[at + 1]!, 1);
          break;
        case LOOKUP:
          this.#useSet(words[at + 1]!);
          if (readsMap(words[at]!)) {
            this.#bound.push(words[at + 1]!, chain);
            bindMap(this.#tables, this.#counts, words[at + 1]!, chain);
          }
          break;
        case DYNSET: {
          const set = words[at + 1]!;
          this.#useSet(set);
          const { backend, dataWords } = this.#tables.sets[set]!;
          if (backend !== 'rhash' || dataWords > 0) this.#fail('EOPNOTSUPP', 'rules cannot change the set');
          if (this.#tables.setLimit[set] === Infinity) this.#tables.setLimit[set] = DYNAMIC_LIMIT;
          break;
        }
      }
    }
  }

  /** A rule leaves; an anonymous set leaves with it. */
  #leave(chain: number, words: Int32Array, rule: number): void {
    const end = rule + words[rule]!;
    for (let at = rule + RULE_HEADER; at < end; at += expressionWords(words, at)) {
      const opcode = words[at]! & 255;
      if (opcode === IMMEDIATE_VERDICT) useChain(this.#tables, words[at + 1]!, -1);
      if (opcode !== LOOKUP && opcode !== DYNSET) continue;
      const set = words[at + 1]!;
      this.#tables.setUses[set]!--;
      if (opcode === LOOKUP && readsMap(words[at]!)) this.#unbound.push(set, chain);
      if (this.#tables.sets[set]!.description.anonymous) this.#sets.dismiss(set);
    }
  }

  #useSet(set: number): void {
    this.#needSet(set);
    this.#counts.setListSteps += this.#sets.steps(set);
    this.#tables.setUses[set]!++;
  }

  #needTarget(verdict: number): void {
    if (!isJump(verdict)) return;
    const { chains } = this.#tables;
    const target = verdictChain(verdict);
    this.#needChain(target);
    if (chains.bases.has(target)) this.#fail('EOPNOTSUPP', 'a jump to a base chain');
  }

  #needTable(table: number): void {
    if ((this.#tables.tables[table]!.state & NEXT) === 0) this.#fail('ENOENT', 'table');
  }

  #needChain(chain: number): void {
    if ((this.#tables.chains.state[chain]! & NEXT) === 0) this.#fail('ENOENT', 'chain');
  }

  #needSet(set: number): void {
    if ((this.#tables.setState[set]! & NEXT) === 0) this.#fail('ENOENT', 'set');
  }

  #freeChain(chain: number): void {
    const tables = this.#tables;
    const base = tables.chains.bases.get(chain);
    if (base !== undefined && (tables.chains.state[chain]! & NOW) !== 0) tables.unhook(chain, base);
    tables.tables[tables.chains.table[chain]!]!.chains--;
    tables.chains.release(chain);
  }

  // Rules of the next generation.

  #buildBlobs(): void {
    this.#staged.build();
    this.#counts.chainsRewritten = this.#staged.count;
    this.#counts.rulesRewritten = this.#staged.rules;
  }

  #runOf(chain: number, out: Run): void {
    this.#staged.run(chain, out);
  }

  #fail(errno: Errno, what: string): never {
    throw new NfTablesError(errno, this.#operation, what);
  }
}
