import { longer } from '@vipsim/sim-core';

/** NEW_DEST. */
export const ADD = 0;
/** A draining server is wanted again: DEL_DEST and NEW_DEST. */
export const RECALL = 1;
/** No longer wanted: DEL_DEST, or UPDATE to weight 0 while it has connections. */
export const RETIRE = 2;
export type ChangeKind = typeof ADD | typeof RECALL | typeof RETIRE;

/** Changes of real servers in the order in which a pass makes them. */
export class Changes {
  count = 0;
  kind: Uint8Array = new Uint8Array(16);
  /** The virtual server. */
  service: Uint32Array = new Uint32Array(16);
  /** The real server that is there; -1 for ADD. */
  server: Int32Array = new Int32Array(16);
  /** The endpoint row that is wanted; -1 for RETIRE. */
  endpoint: Int32Array = new Int32Array(16);
  /** Where the server stood in the dump, from 1; 0 for ADD. */
  position: Uint32Array = new Uint32Array(16);

  push(kind: ChangeKind, service: number, server: number, endpoint: number, position: number): void {
    const at = this.count++;
    if (at === this.kind.length) this.#grow(at * 2);
    this.kind[at] = kind;
    this.service[at] = service;
    this.server[at] = server;
    this.endpoint[at] = endpoint;
    this.position[at] = position;
  }

  #grow(capacity: number): void {
    this.kind = longer(this.kind, capacity);
    this.service = longer(this.service, capacity);
    this.server = longer(this.server, capacity);
    this.endpoint = longer(this.endpoint, capacity);
    this.position = longer(this.position, capacity);
  }
}
