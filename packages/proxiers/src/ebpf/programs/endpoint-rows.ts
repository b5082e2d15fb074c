import type { Endpoints } from '../../kubernetes/cluster.ts';

const EMPTY = -1;

/**
 * Which endpoint row stands behind a backend that was not chosen by its slot, but by a Maglev table or for its
 * client: backends know addresses alone, and runs count their connections by row. An open-addressing index, made when
 * it is first asked; the latest row of an address wins.
 */
export class EndpointRows {
  readonly #endpoints: Endpoints;
  #slots: Int32Array = new Int32Array(0);
  #indexed = 0;

  constructor(endpoints: Endpoints) {
    this.#endpoints = endpoints;
  }

  /** The row of a service port at an address, -1 for none. */
  rowOf(servicePort: number, address: number, port: number): number {
    if (this.#indexed < this.#endpoints.count) this.#extend();
    return this.#indexed === 0 ? EMPTY : this.#slots[this.#place(servicePort, address, port)]!;
  }

  /** Where the row is, or would be. */
  #place(servicePort: number, address: number, port: number): number {
    const endpoints = this.#endpoints;
    const mask = this.#slots.length - 1;
    let at = (Math.imul(address, 0x9e3779b1) ^ Math.imul(servicePort, 0x85ebca6b) ^ port) >>> 0;
    at = (at ^ (at >>> 15)) & mask;
    for (;;) {
      const row = this.#slots[at]!;
      if (row === EMPTY) return at;
      if (
        endpoints.address[row] === address &&
        endpoints.servicePort[row] === servicePort &&
        endpoints.port[row] === port
      ) {
        return at;
      }
      at = (at + 1) & mask;
    }
  }

  #extend(): void {
    const endpoints = this.#endpoints;
    if (endpoints.count * 2 > this.#slots.length) {
      let size = 64;
      while (size < endpoints.count * 2) size *= 2;
      this.#slots = new Int32Array(size).fill(EMPTY);
      this.#indexed = 0;
    }
    for (let row = this.#indexed; row < endpoints.count; row++) {
      const at = this.#place(endpoints.servicePort[row]!, endpoints.address[row]!, endpoints.port[row]!);
      this.#slots[at] = row;
    }
    this.#indexed = endpoints.count;
  }
}
