import { UDP } from '@vipsim/sim-core';
import type { BackendList } from './backend-list.ts';
import type { BackendRegistry } from './backend-registry.ts';
import { putMaster, putReverse, putSourceRanges, putTable, putWildcard } from './frontend-steps.ts';
import type { Frontend } from './frontends.ts';
import type { MaglevTables } from './maglev-tables.ts';
import type { LedgerMap, MapLedger } from './map-ledger.ts';
import {
  AGENT_BACKEND,
  AGENT_FRONTEND,
  SYSCALL_DELETE,
  SYSCALL_INSERT,
  SYSCALL_MISSING,
  SYSCALL_UPDATE,
} from '../operations.ts';
import { BACKEND_ACTIVE, BACKEND_TERMINATING, SOURCE_RANGE } from '../service-maps.ts';
import type { ServiceWriter } from './service-writer.ts';
import type { StageList } from './stage-list.ts';

export type AgentOrder = '1.18+' | 'pre-1.18';

/** Slots written before they become visible together; small enough for a window of loss to be seen shrinking. */
export const SLOTS_PER_STAGE = 256;

/** What an update may use; one for all updates of a sync. */
export interface UpdateContext {
  readonly registry: BackendRegistry;
  readonly writer: ServiceWriter;
  readonly ledger: MapLedger;
  readonly tables: MaglevTables;
  readonly stages: StageList;
  readonly order: AgentOrder;
  /** Of the kernel, after a Maglev table was put in place or taken away, in ns. */
  readonly gracePeriodNs: number;
  /** Positions of permutations that other threads compute. */
  besides: number;
  /** UDP backends that went away. */
  udpGone: number;
}

/**
 * One frontend brought up to date, in the agent's order of map operations. When it is planned the agent's books are
 * put in order; the maps follow as the stages commit.
 *
 *     1.18+      orphan backends and their pairs deleted │ for each backend: it, its slot, its pair │ Maglev table │
 *                source ranges, reverse NAT, master, wildcard │ surplus slots
 *     pre-1.18   pairs deleted, source ranges, new backends │ Maglev table │ slots │ reverse NAT, master │
 *                surplus slots │ pairs │ orphan backends deleted
 *
 * A backend is written if it changed; its slot always; and its affinity pair always takes one call, which writes it
 * or else deletes it, whether it is there or not. The pair of a backend that left this frontend and serves another
 * stays. The first call that finds its map full ends the update.
 * Source: updateFrontend of pkg/loadbalancer/reconciler/bpf_reconciler.go (1.18); pkg/service/service.go before.
 * Not modelled: what a failed update leaves behind in the agent's books until the next pruning.
 */
export class FrontendUpdate {
  readonly #frontend: Frontend;
  readonly #context: UpdateContext;
  readonly #list: BackendList;
  readonly #old: BackendList;
  readonly #sticky: boolean;
  /** Backends that no frontend refers to now, each with whether the map holds it. */
  readonly #orphans: number[] = [];
  #orphansHeld = 0;

  constructor(frontend: Frontend, list: BackendList, context: UpdateContext) {
    this.#frontend = frontend;
    this.#context = context;
    this.#list = list;
    this.#old = frontend.list;
    this.#sticky = frontend.affinityS > 0;
    this.#settleReferences();
  }

  /** Add it to the context's stages. Returns the map that was full, or undefined when all of it fits. */
  plan(): LedgerMap | undefined {
    const { stages, order } = this.#context;
    stages.count(AGENT_FRONTEND, 1);
    const full = order === '1.18+' ? this.#planModern() : this.#planLegacy();
    if (full !== undefined) stages.count(SYSCALL_MISSING, 1);
    stages.cut();
    return full;
  }

  #planModern(): LedgerMap | undefined {
    const { stages } = this.#context;
    this.#deleteOrphans();
    stages.cut();
    const full =
      this.#eachChunk((from, to) => this.#putEntries(from, to)) ??
      putTable(this.#frontend, this.#context) ??
      putSourceRanges(this.#frontend, this.#context) ??
      putReverse(this.#frontend, this.#context) ??
      putMaster(this.#frontend, this.#context) ??
      putWildcard(this.#frontend, this.#context);
    if (full !== undefined) return full;
    stages.cut();
    this.#deleteSurplus();
    return undefined;
  }

  #planLegacy(): LedgerMap | undefined {
    const { stages } = this.#context;
    if (this.#sticky) this.#deleteOldPairs();
    const full =
      ((this.#frontend.flags & SOURCE_RANGE) !== 0
        ? putSourceRanges(this.#frontend, this.#context)
        : undefined) ??
      this.#putBackends() ??
      putTable(this.#frontend, this.#context) ??
      this.#eachChunk((from, to) => this.#putSlots(from, to)) ??
      putReverse(this.#frontend, this.#context) ??
      putMaster(this.#frontend, this.#context);
    if (full === undefined) {
      stages.cut();
      this.#deleteSurplus();
    }
    const unpaired = full ?? (this.#sticky ? this.#putPairs() : undefined);
    // Also when the update failed: the references are settled, and nobody would come back for them.
    stages.cut();
    this.#deleteOrphans();
    return unpaired;
  }

  /** Refer to the new list's backends, then let go of the old one's. */
  #settleReferences(): void {
    const { registry } = this.#context;
    const { ids } = this.#list;
    for (let i = 0; i < ids.length; i++) registry.refer(ids[i]!);
    const old = this.#old.ids;
    for (let i = 0; i < old.length; i++) {
      const id = old[i]!;
      if (!registry.release(id)) continue;
      this.#orphans.push(id);
      if (registry.written(id) !== 0) this.#orphansHeld++;
      registry.setWritten(id, 0);
    }
    this.#frontend.list = this.#list;
    if (this.#frontend.protocol === UDP) this.#context.udpGone += this.#orphans.length;
  }

  #deleteOrphans(): void {
    const { stages, ledger, writer, order } = this.#context;
    const orphans = this.#orphans;
    if (orphans.length === 0) return;
    stages.count(SYSCALL_DELETE, this.#orphansHeld);
    stages.count(SYSCALL_MISSING, orphans.length - this.#orphansHeld);
    ledger.give('backends', this.#orphansHeld);
    const modern = order === '1.18+';
    if (modern) for (const id of orphans) this.#dropPair(id);
    stages.enact(() => {
      for (const id of orphans) {
        writer.deleteBackend(id);
        if (modern && this.#sticky) writer.deletePair(this.#frontend, id);
      }
    });
  }

  #eachChunk(put: (from: number, to: number) => LedgerMap | undefined): LedgerMap | undefined {
    const { length } = this.#list.ids;
    for (let from = 0; from < length; from += SLOTS_PER_STAGE) {
      const full = put(from, Math.min(length, from + SLOTS_PER_STAGE));
      if (full !== undefined) return full;
      this.#context.stages.cut();
    }
    return undefined;
  }

  /** Backend, slot and pair of each position. */
  #putEntries(from: number, to: number): LedgerMap | undefined {
    const { stages } = this.#context;
    const changed = new Uint8Array(to - from);
    let full: LedgerMap | undefined;
    let backends = from;
    let slots = from;
    let pairs = from;
    for (let i = from; i < to; i++) {
      full = this.#takeBackend(i, changed, from);
      if (full !== undefined) break;
      backends++;
      full = this.#takeSlot(i);
      if (full !== undefined) break;
      slots++;
      full = this.#takePair(i);
      if (full !== undefined) break;
      pairs++;
    }
    stages.count(AGENT_BACKEND, pairs - from + (full === undefined ? 0 : 1));
    stages.enact(() => {
      this.#writeBackends(from, backends, changed);
      this.#writeSlots(from, slots);
      if (this.#sticky) this.#writePairs(from, pairs);
    });
    return full;
  }

  #putBackends(): LedgerMap | undefined {
    const { stages } = this.#context;
    const { length } = this.#list.ids;
    const changed = new Uint8Array(length);
    let full: LedgerMap | undefined;
    let done = 0;
    for (; done < length; done++) {
      full = this.#takeBackend(done, changed, 0);
      if (full !== undefined) break;
    }
    stages.count(AGENT_BACKEND, length);
    stages.enact(() => this.#writeBackends(0, done, changed));
    stages.cut();
    return full;
  }

  #putSlots(from: number, to: number): LedgerMap | undefined {
    let full: LedgerMap | undefined;
    let slots = from;
    for (; slots < to; slots++) {
      full = this.#takeSlot(slots);
      if (full !== undefined) break;
    }
    this.#context.stages.enact(() => this.#writeSlots(from, slots));
    return full;
  }

  #deleteSurplus(): void {
    const { stages, ledger, writer } = this.#context;
    const frontend = this.#frontend;
    const { length } = this.#list.ids;
    const before = frontend.written;
    if (before <= length) return;
    frontend.written = length;
    stages.count(SYSCALL_DELETE, before - length);
    ledger.give('services', before - length);
    stages.enact(() => {
      for (let slot = before; slot > length; slot--) writer.deleteSlot(frontend, slot);
    });
  }

  /** Pairs of backends that are no longer active. */
  #deleteOldPairs(): void {
    const { stages, writer } = this.#context;
    const active = new Set(this.#list.ids.subarray(0, this.#list.active));
    const gone = [...this.#old.ids].filter((id) => !active.has(id));
    for (const id of gone) this.#dropPair(id);
    stages.enact(() => {
      for (const id of gone) writer.deletePair(this.#frontend, id);
    });
  }

  #putPairs(): LedgerMap | undefined {
    let full: LedgerMap | undefined;
    let pairs = 0;
    for (; pairs < this.#list.active; pairs++) {
      full = this.#takePair(pairs);
      if (full !== undefined) break;
    }
    this.#context.stages.enact(() => this.#writePairs(0, pairs));
    return full;
  }

  // Single entries, as they are planned.

  #takeBackend(position: number, changed: Uint8Array, from: number): LedgerMap | undefined {
    const { registry, ledger, stages } = this.#context;
    const id = this.#list.ids[position]!;
    const before = registry.written(id);
    const now = this.#state(position) + 1;
    if (before === now) return undefined;
    if (before === 0 && !ledger.take('backends')) return 'backends';
    stages.count(before === 0 ? SYSCALL_INSERT : SYSCALL_UPDATE, 1);
    registry.setWritten(id, now);
    changed[position - from] = 1;
    return undefined;
  }

  #takeSlot(position: number): LedgerMap | undefined {
    const { ledger, stages } = this.#context;
    if (position < this.#frontend.written) {
      stages.count(SYSCALL_UPDATE, 1);
      return undefined;
    }
    if (!ledger.take('services')) return 'services';
    stages.count(SYSCALL_INSERT, 1);
    this.#frontend.written = position + 1;
    return undefined;
  }

  #takePair(position: number): LedgerMap | undefined {
    const { ledger, stages, writer } = this.#context;
    const id = this.#list.ids[position]!;
    if (!this.#sticky || position >= this.#list.active) {
      this.#dropPair(id);
      return undefined;
    }
    const held = writer.hasPair(this.#frontend, id);
    if (!held && !ledger.take('affinityMatch')) return 'affinityMatch';
    stages.count(held ? SYSCALL_UPDATE : SYSCALL_INSERT, 1);
    return undefined;
  }

  /** One call in any case. */
  #dropPair(id: number): void {
    const { ledger, stages, writer } = this.#context;
    const held = this.#sticky && writer.hasPair(this.#frontend, id);
    stages.count(held ? SYSCALL_DELETE : SYSCALL_MISSING, 1);
    if (held) ledger.give('affinityMatch', 1);
  }

  // The same, as they come into force.

  #writeBackends(from: number, to: number, changed: Uint8Array): void {
    const { ids, rows } = this.#list;
    for (let i = from; i < to; i++) {
      if (changed[i - from] === 0) continue;
      this.#context.writer.writeBackend(ids[i]!, rows[i]!, this.#frontend.protocol, this.#state(i));
    }
  }

  #writeSlots(from: number, to: number): void {
    const { ids, rows } = this.#list;
    for (let i = from; i < to; i++) this.#context.writer.writeSlot(this.#frontend, i + 1, ids[i]!, rows[i]!);
  }

  #writePairs(from: number, to: number): void {
    const { ids, active } = this.#list;
    for (let i = from; i < to; i++) {
      if (i < active) this.#context.writer.writePair(this.#frontend, ids[i]!);
      else this.#context.writer.deletePair(this.#frontend, ids[i]!);
    }
  }

  #state(position: number): number {
    return position < this.#list.active ? BACKEND_ACTIVE : BACKEND_TERMINATING;
  }
}
