import type { Counts } from '../cost/operations.ts';
import type { SyncStage } from '../proxier.ts';
import type { BackendList } from './backend-list.ts';
import type { BackendRegistry } from './backend-registry.ts';
import type { Frontend } from './frontends.ts';
import {
  AGENT_BACKEND,
  AGENT_FRONTEND,
  EBPF_OPERATIONS,
  SYSCALL_DELETE,
  SYSCALL_INSERT,
  SYSCALL_MISSING,
  SYSCALL_UPDATE,
} from './operations.ts';
import { BACKEND_ACTIVE, BACKEND_TERMINATING } from './service-maps.ts';
import type { ServiceWriter } from './service-writer.ts';

export type AgentOrder = '1.18+' | 'pre-1.18';

/** Slots written before they become visible together; small enough for a window of loss to be seen shrinking. */
export const SLOTS_PER_STAGE = 256;

/** What an update may use. */
export interface UpdateContext {
  readonly registry: BackendRegistry;
  readonly writer: ServiceWriter;
  readonly order: AgentOrder;
  /** Entries that the services map still takes. */
  readonly room: number;
}

/**
 * One frontend brought up to date, in the agent's order of map operations. Made when the sync is planned: the agent's
 * books are in order from then on; the maps follow as the stages commit.
 *
 *     1.18+      orphan backends deleted │ backends, slots 1..N │ reverse NAT, master, wildcard │ surplus slots
 *     pre-1.18   new backends │ slots 1..N │ reverse NAT, master │ surplus slots │ orphan backends deleted
 *
 * Source: bpf_reconciler.go of pkg/loadbalancer/reconciler (1.18); pkg/service/service.go before. Every slot is
 * written whether it changed or not, and each backend's pair in the affinity map is deleted, present or not.
 * When the services map is full the update ends at the slot or master that did not fit.
 */
export class FrontendUpdate {
  readonly frontend: Frontend;
  /** The services map was too small. */
  readonly overflowed: boolean;
  /** Entries that the services map gains at most: before surplus slots go, and after. */
  readonly added: number;
  readonly surplus: number;
  readonly #context: UpdateContext;
  readonly #list: BackendList;
  readonly #orphans: number[] = [];
  readonly #orphansMissing: number;
  /** By position: 0 unchanged, 1 state changed, 2 new in the backends map. */
  readonly #changes: Uint8Array;
  readonly #slots: number;
  readonly #writtenBefore: number;
  readonly #programmedBefore: boolean;
  readonly #newWildcard: boolean;

  constructor(frontend: Frontend, list: BackendList, context: UpdateContext) {
    const { registry, writer, room } = context;
    this.frontend = frontend;
    this.#context = context;
    this.#list = list;
    this.#writtenBefore = frontend.written;
    this.#programmedBefore = frontend.programmed;
    this.#newWildcard = writer.needsWildcard(frontend);

    const slotsWanted = list.ids.length;
    const slotsNew = Math.max(0, slotsWanted - frontend.written);
    const mastersNew = (frontend.programmed ? 0 : 1) + (this.#newWildcard ? 1 : 0);
    this.overflowed = slotsNew + mastersNew > room;
    this.#slots = slotsNew > room ? frontend.written + room : slotsWanted;
    this.added = Math.min(room, slotsNew + mastersNew);
    this.surplus = this.overflowed ? 0 : Math.max(0, frontend.written - slotsWanted);

    this.#orphansMissing = this.#settleReferences(frontend.list, list, registry);
    this.#changes = this.#noteChanges(registry);
    frontend.list = list;
    frontend.written = this.overflowed ? Math.max(frontend.written, this.#slots) : slotsWanted;
    if (this.#mastersFit()) frontend.programmed = true;
    if (this.#newWildcard && !this.overflowed) writer.claimWildcard(frontend);
  }

  /** In the order in which they become visible. */
  stages(): SyncStage[] {
    const stages: SyncStage[] = [];
    const legacy = this.#context.order === 'pre-1.18';
    const opening = zeroCounts();
    opening[AGENT_FRONTEND]! += 1;
    if (legacy) {
      this.#countBackends(opening, 0, this.#slots);
      stages.push({ counts: opening, commit: () => this.#writeBackends(0, this.#slots) });
    } else {
      this.#countOrphans(opening);
      stages.push({ counts: opening, commit: () => this.#deleteOrphans() });
    }
    for (let from = 0; from < this.#slots; from += SLOTS_PER_STAGE) {
      const to = Math.min(this.#slots, from + SLOTS_PER_STAGE);
      const counts = zeroCounts();
      if (!legacy) this.#countBackends(counts, from, to);
      this.#countSlots(counts, from, to);
      stages.push({
        counts,
        commit: () => {
          if (!legacy) this.#writeBackends(from, to);
          this.#writeSlots(from, to);
        },
      });
    }
    const closing = zeroCounts();
    this.#countMasters(closing);
    stages.push({ counts: closing, commit: () => this.#writeMasters() });
    if (this.surplus > 0) {
      const counts = zeroCounts();
      counts[SYSCALL_DELETE]! += this.surplus;
      stages.push({ counts, commit: () => this.#deleteSurplus() });
    }
    if (legacy && this.#orphans.length > 0) {
      const counts = zeroCounts();
      this.#countOrphans(counts);
      stages.push({ counts, commit: () => this.#deleteOrphans() });
    }
    return stages;
  }

  /** All that the stages count, added to `counts`. */
  count(counts: Counts): void {
    counts[AGENT_FRONTEND]! += 1;
    this.#countOrphans(counts);
    this.#countBackends(counts, 0, this.#slots);
    this.#countSlots(counts, 0, this.#slots);
    this.#countMasters(counts);
    counts[SYSCALL_DELETE]! += this.surplus;
  }

  /** All that the stages commit. */
  commit(): void {
    this.#deleteOrphans();
    this.#writeBackends(0, this.#slots);
    this.#writeSlots(0, this.#slots);
    this.#writeMasters();
    this.#deleteSurplus();
  }

  /** Refer to the new list's backends, then let go of the old one's. Returns how many orphans no map holds. */
  #settleReferences(old: BackendList, list: BackendList, registry: BackendRegistry): number {
    let missing = 0;
    for (let i = 0; i < list.ids.length; i++) registry.refer(list.ids[i]!);
    for (let i = 0; i < old.ids.length; i++) {
      const id = old.ids[i]!;
      if (!registry.release(id)) continue;
      this.#orphans.push(id);
      if (registry.written(id) === 0) missing++;
      registry.setWritten(id, 0);
    }
    return missing;
  }

  #noteChanges(registry: BackendRegistry): Uint8Array {
    const changes = new Uint8Array(this.#slots);
    for (let i = 0; i < this.#slots; i++) {
      const id = this.#list.ids[i]!;
      const before = registry.written(id);
      const now = this.#state(i) + 1;
      if (before === now) continue;
      changes[i] = before === 0 ? 2 : 1;
      registry.setWritten(id, now);
    }
    return changes;
  }

  #countOrphans(counts: Counts): void {
    counts[SYSCALL_DELETE]! += this.#orphans.length - this.#orphansMissing;
    counts[SYSCALL_MISSING]! += this.#orphansMissing;
    if (this.#context.order === '1.18+') counts[SYSCALL_MISSING]! += this.#orphans.length;
  }

  #countBackends(counts: Counts, from: number, to: number): void {
    counts[AGENT_BACKEND]! += to - from;
    for (let i = from; i < to; i++) {
      if (this.#changes[i] === 2) counts[SYSCALL_INSERT]! += 1;
      else if (this.#changes[i] === 1) counts[SYSCALL_UPDATE]! += 1;
    }
  }

  #countSlots(counts: Counts, from: number, to: number): void {
    const updates = Math.max(0, Math.min(to, this.#writtenBefore) - from);
    counts[SYSCALL_UPDATE]! += updates;
    counts[SYSCALL_INSERT]! += to - from - updates;
    if (this.#context.order === '1.18+') counts[SYSCALL_MISSING]! += to - from;
  }

  #countMasters(counts: Counts): void {
    if (this.overflowed) counts[SYSCALL_MISSING]! += 1;
    if (!this.#mastersFit()) return;
    counts[SYSCALL_UPDATE]! += this.frontend.sourceRanges.length;
    counts[this.#programmedBefore ? SYSCALL_UPDATE : SYSCALL_INSERT]! += 2;
    if (!this.overflowed && this.#context.writer.hasWildcard(this.frontend)) {
      counts[this.#newWildcard ? SYSCALL_INSERT : SYSCALL_UPDATE]! += 1;
    }
  }

  /** Whether the update came as far as its master: all slots written, and room for a new master. */
  #mastersFit(): boolean {
    const { room } = this.#context;
    const slotsNew = Math.max(0, this.#list.ids.length - this.#writtenBefore);
    return slotsNew + (this.#programmedBefore ? 0 : 1) <= room;
  }

  #deleteOrphans(): void {
    for (const id of this.#orphans) this.#context.writer.deleteBackend(id);
  }

  #writeBackends(from: number, to: number): void {
    for (let i = from; i < to; i++) {
      if (this.#changes[i] === 0) continue;
      this.#context.writer.writeBackend(
        this.#list.ids[i]!,
        this.#list.rows[i]!,
        this.frontend.protocol,
        this.#state(i),
      );
    }
  }

  #writeSlots(from: number, to: number): void {
    for (let i = from; i < to; i++) {
      this.#context.writer.writeSlot(this.frontend, i + 1, this.#list.ids[i]!, this.#list.rows[i]!);
    }
  }

  #writeMasters(): void {
    const { ids, selectable } = this.#list;
    if (this.#mastersFit())
      this.#context.writer.writeMaster(this.frontend, selectable, ids.length - selectable);
    if (!this.overflowed) this.#context.writer.writeWildcard(this.frontend);
  }

  #deleteSurplus(): void {
    for (let slot = this.#list.ids.length + this.surplus; slot > this.#list.ids.length; slot--) {
      this.#context.writer.deleteSlot(this.frontend, slot);
    }
  }

  #state(position: number): number {
    return position < this.#list.active ? BACKEND_ACTIVE : BACKEND_TERMINATING;
  }
}

function zeroCounts(): Counts {
  return new Float64Array(EBPF_OPERATIONS.length);
}
