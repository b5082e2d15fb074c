import type { NodeContext } from '../../proxier.ts';
import { MAGLEV_PROBE } from '../agent/operations.ts';
import { calicoRing, CALICO_SLOTS } from '../maglev/calico-ring.ts';
import { GC_ENTRY, SYSCALL_DELETE, SYSCALL_INSERT, SYSCALL_UPDATE } from '../operations.ts';
import type { ActiveEndpoints } from './active-endpoints.ts';
import { valueOf } from './frontends.ts';
import { MAGLEV_ENTRIES, writeEndpoint, type NatMaps } from './nat-maps.ts';
import type { Backends, ServiceState } from './service-state.ts';
import type { Phase } from './sync-phases.ts';

export type FullMap = 'frontends' | 'backends' | 'maglev';

/**
 * What a sync writes, service port by service port, against what it wrote before. It knows beforehand which call will
 * find a map full: opened when all earlier plans have come into force.
 */
export class SyncWriter {
  readonly fullMaps = new Set<FullMap>();
  readonly #node: NodeContext;
  readonly #maps: NatMaps;
  #backendRoom: number;
  #frontendRoom: number;
  #tableRoom: number;

  constructor(node: NodeContext, maps: NatMaps) {
    this.#node = node;
    this.#maps = maps;
    this.#backendRoom = maps.backends.maxEntries - maps.backends.count;
    this.#frontendRoom = maps.frontends.maxEntries - maps.frontends.count;
    this.#tableRoom = MAGLEV_ENTRIES - maps.maglev.count;
  }

  get full(): boolean {
    return this.fullMaps.size > 0;
  }

  /** Endpoints under their ordinals, and in the slots of Maglev tables. */
  endpoints(state: ServiceState, { rows }: Backends, phase: Phase): void {
    const before = state.rows;
    const after = new Int32Array(Math.max(before.length, rows.length));
    after.set(before);
    const written: number[] = [];
    for (let ordinal = 0; ordinal < rows.length; ordinal++) {
      const old = ordinal < before.length ? before[ordinal]! : -1;
      if (old === rows[ordinal]) continue;
      if (old < 0 && this.#backendRoom === 0) {
        this.fullMaps.add('backends');
        after[ordinal] = -1;
        continue;
      }
      if (old < 0) this.#backendRoom--;
      phase.count(old < 0 ? SYSCALL_INSERT : SYSCALL_UPDATE, 1);
      after[ordinal] = rows[ordinal]!;
      written.push(ordinal);
    }
    if (written.length > 0) {
      phase.enact(() => {
        for (const ordinal of written) this.#put(state.id, ordinal, after[ordinal]!);
        state.rows = after;
      });
    }
    if (state.tabled.length > 0 && rows.length > 0) this.#table(state, rows, phase);
  }

  /** Frontends whose counts differ. */
  frontends(state: ServiceState, { rows, local }: Backends, phase: Phase): void {
    state.frontends.forEach((frontend, index) => {
      const old = state.counts[index]!;
      if (old === rows.length && state.locals[index] === local) return;
      if (frontend.drops && old >= 0) return;
      if (old < 0 && this.#frontendRoom === 0) {
        this.fullMaps.add('frontends');
        return;
      }
      if (old < 0) this.#frontendRoom--;
      phase.count(old < 0 ? SYSCALL_INSERT : SYSCALL_UPDATE, 1);
      phase.enact(() => {
        const { address, port, protocol, range } = frontend;
        const value = valueOf(frontend, state.id, rows.length, local, state.affinityS);
        this.#maps.writeFrontend(address, port, protocol, range, value);
        state.counts[index] = rows.length;
        state.locals[index] = local;
      });
    });
  }

  /** Ordinals that no frontend counts any more, and the slots of tables without endpoints. */
  surplus(state: ServiceState, { rows }: Backends, phase: Phase): void {
    const surplus = state.rows.length - rows.length;
    if (surplus > 0) {
      phase.count(SYSCALL_DELETE, surplus);
      phase.enact(() => {
        for (let ordinal = rows.length; ordinal < state.rows.length; ordinal++) {
          this.#maps.backend(state.id, ordinal).remove();
        }
        state.rows = state.rows.slice(0, rows.length);
      });
    }
    if (rows.length > 0 || state.table === undefined) return;
    phase.count(SYSCALL_DELETE, CALICO_SLOTS * state.tabled.length);
    phase.enact(() => {
      this.#eachSlot(state, (address, port, protocol) => {
        for (let slot = 0; slot < CALICO_SLOTS; slot++) {
          this.#maps.slot(address, port, protocol, slot).remove();
        }
      });
      state.table = undefined;
    });
  }

  /** cleanupSticky: after each sync the whole affinity map is walked, and clients of endpoints that are gone forgotten. */
  affinity(states: readonly ServiceState[], active: ActiveEndpoints, phase: Phase): void {
    const { affinity } = this.#maps;
    if (affinity.count === 0 || !states.some(({ affinityS }) => affinityS > 0)) return;
    phase.count(GC_ENTRY, affinity.count);
    const isGone = (element: number): boolean => !active.isActive(affinity.value(element, 2) | 0);
    for (const element of affinity.elements()) if (isGone(element)) phase.count(SYSCALL_DELETE, 1);
    phase.enact(() => {
      for (const element of [...affinity.elements()].filter(isGone)) {
        affinity.loadKey(element);
        affinity.remove();
      }
    });
  }

  /** M entries of a hash map for each frontend that has a table, each with a system call of its own. */
  #table(state: ServiceState, rows: Int32Array, phase: Phase): void {
    const { cluster } = this.#node;
    const byName = new Map(Array.from(rows, (row) => [cluster.endpoints.text(row), row]));
    const { names, slots, probes } = calicoRing([...byName.keys()]);
    phase.count(MAGLEV_PROBE, probes);
    const rowsOfNames = names.map((name) => byName.get(name)!);
    const before = state.table;
    const after = Int32Array.from(slots, (name) => rowsOfNames[name]!);
    const changed: number[] = [];
    for (let slot = 0; slot < after.length; slot++) if (before?.[slot] !== after[slot]) changed.push(slot);
    if (changed.length === 0) return;
    const calls = changed.length * state.tabled.length;
    if (before === undefined && calls > this.#tableRoom) {
      this.fullMaps.add('maglev');
      return;
    }
    if (before === undefined) this.#tableRoom -= calls;
    phase.count(before === undefined ? SYSCALL_INSERT : SYSCALL_UPDATE, calls);
    phase.enact(() => {
      this.#eachSlot(state, (address, port, protocol) => {
        for (const slot of changed) {
          const map = this.#maps.slot(address, port, protocol, slot);
          this.#write(map, map.update(), after[slot]!);
        }
      });
      state.table = after;
    });
  }

  #eachSlot(state: ServiceState, take: (address: number, port: number, protocol: number) => void): void {
    const { port, protocol } = state.frontends[0]!;
    for (const address of state.tabled) take(address, port, protocol);
  }

  #put(id: number, ordinal: number, row: number): void {
    const map = this.#maps.backend(id, ordinal);
    this.#write(map, map.update(), row);
    const { cluster, node } = this.#node;
    // Felix routes to a pod of this node as soon as there is one.
    if (cluster.pods.node[cluster.endpoints.pod[row]!] === node) {
      this.#maps.routeToLocalPod(cluster.endpoints.address[row]!);
    }
  }

  #write(map: NatMaps['backends'], element: number, row: number): void {
    const { address, port } = this.#node.cluster.endpoints;
    writeEndpoint(map, element, address[row]!, port[row]!, row);
  }
}
