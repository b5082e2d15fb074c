import { longer } from '@vipsim/sim-core';
import { HashMap } from '../maps/hash-map.ts';
import type { ServiceMaps } from '../service-maps.ts';

const UNBOUNDED = 1_048_576;
/** In the backends map, in a state that nobody remembers. */
const HELD = 255;

/**
 * The agent's book of backends: one id for each address, port and protocol, counted up from 1 and never given twice
 * to different ones, and how many frontends refer to it.
 * Source: backendReferences and the backend id allocator, pkg/loadbalancer/reconciler/bpf_reconciler.go.
 */
export class BackendRegistry {
  /** By address, port | protocol << 16: the chains of a BPF hash map serve the agent as well. */
  readonly #ids: HashMap;
  #references: Int32Array = new Int32Array(64);
  /** By id: what the backends map holds, 0 nothing, else state + 1, or HELD. */
  #written: Uint8Array = new Uint8Array(64);
  #addresses: Uint32Array = new Uint32Array(64);
  #ports: Uint32Array = new Uint32Array(64);
  #lastId = 0;

  constructor() {
    this.#ids = new HashMap(
      { name: 'agent', keyBytes: 8, valueBytes: 4, valueWords: 1, maxEntries: UNBOUNDED },
      0,
    );
  }

  /** The book after a restart: ids as the backends map has them, referred to by nobody yet. */
  static restored(maps: ServiceMaps): BackendRegistry {
    const registry = new BackendRegistry();
    for (const element of maps.backends.elements()) {
      const id = maps.backends.keyWord(element, 0);
      const port = maps.backendPort(element) | (maps.backendProtocol(element) << 16);
      registry.#enter(id, maps.backendAddress(element), port);
      registry.setWritten(id, HELD);
    }
    return registry;
  }

  get count(): number {
    return this.#ids.count;
  }

  /** The id of a backend, a new one if it has none. */
  idOf(address: number, port: number, protocol: number): number {
    this.#ids.key[0] = address;
    this.#ids.key[1] = port | (protocol << 16);
    const found = this.#ids.find();
    if (found >= 0) return this.#ids.value(found, 0);
    const id = this.#lastId + 1;
    this.#enter(id, address, port | (protocol << 16));
    return id;
  }

  /** Ids in the backends map that nobody refers to. */
  unused(): number[] {
    const unused: number[] = [];
    for (let id = 1; id <= this.#lastId; id++)
      if (this.#written[id] !== 0 && this.#references[id] === 0) unused.push(id);
    return unused;
  }

  refer(id: number): void {
    this.#references[id]! += 1;
  }

  /** Drop one reference; true when it was the last, and the id is gone. */
  release(id: number): boolean {
    this.#references[id]! -= 1;
    if (this.#references[id] !== 0) return false;
    this.#ids.key[0] = this.#addresses[id]!;
    this.#ids.key[1] = this.#ports[id]!;
    this.#ids.remove();
    return true;
  }

  /** State + 1 that the backends map holds, 0 for nothing. */
  written(id: number): number {
    return this.#written[id]!;
  }

  setWritten(id: number, value: number): void {
    this.#written[id] = value;
  }

  #enter(id: number, address: number, port: number): void {
    if (this.#ids.count === this.#ids.maxEntries) this.#ids.enlarge(this.#ids.maxEntries * 2);
    while (id >= this.#references.length) this.#grow();
    this.#lastId = Math.max(this.#lastId, id);
    this.#ids.key[0] = address;
    this.#ids.key[1] = port;
    this.#ids.setValue(this.#ids.update(), 0, id);
    this.#addresses[id] = address;
    this.#ports[id] = port;
  }

  #grow(): void {
    const size = this.#references.length * 2;
    this.#references = longer(this.#references, size);
    this.#written = longer(this.#written, size);
    this.#addresses = longer(this.#addresses, size);
    this.#ports = longer(this.#ports, size);
  }
}
