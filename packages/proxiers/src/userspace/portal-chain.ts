import { longer } from '@vipsim/sim-core';

export const PORTALS_CONTAINER = 0;
export const PORTALS_HOST = 1;
export const NODEPORT_CONTAINER = 2;
export const NODEPORT_HOST = 3;
export const NODEPORT_NON_LOCAL = 4;

/** What a rule tests besides its destination, protocol and port. */
export const NOT_FROM_BRIDGE = 1;
export const TO_LOCAL = 2;
export const STATE_NEW = 4;

export const REDIRECT = 0;
export const DNAT = 1;
export const ACCEPT = 2;
export type PortalTarget = typeof REDIRECT | typeof DNAT | typeof ACCEPT;

/** The rules of one chain in order, as columns, and where the first with a given key stands. */
export class PortalChain {
  readonly name: string;
  /** Rules here name a destination: the key is that address. Otherwise it is protocol and port. */
  readonly addressed: boolean;
  count = 0;
  /** 0 where a rule names none. */
  destination: Uint32Array = new Uint32Array(16);
  protocol: Uint8Array = new Uint8Array(16);
  port: Uint16Array = new Uint16Array(16);
  tests: Uint8Array = new Uint8Array(16);
  target: Uint8Array = new Uint8Array(16);
  servicePort: Uint32Array = new Uint32Array(16);
  /** The next rule with the same key, -1 after the last. */
  next: Int32Array = new Int32Array(16);
  /** Of the same protocol, how many rules stand before this one. */
  ordinal: Uint32Array = new Uint32Array(16);
  /** Rules by protocol number. */
  readonly ofProtocol = new Uint32Array(256);
  readonly #first = new Map<number, number>();
  readonly #last = new Map<number, number>();

  constructor(name: string, addressed: boolean) {
    this.name = name;
    this.addressed = addressed;
  }

  add(rule: {
    readonly destination: number;
    readonly protocol: number;
    readonly port: number;
    readonly tests: number;
    readonly target: PortalTarget;
    readonly servicePort: number;
  }): void {
    const row = this.count++;
    if (row === this.protocol.length) this.#grow(row * 2);
    this.destination[row] = rule.destination;
    this.protocol[row] = rule.protocol;
    this.port[row] = rule.port;
    this.tests[row] = rule.tests;
    this.target[row] = rule.target;
    this.servicePort[row] = rule.servicePort;
    this.next[row] = -1;
    this.ordinal[row] = this.ofProtocol[rule.protocol]!++;
    const key = this.addressed ? rule.destination : rule.protocol * 65536 + rule.port;
    const last = this.#last.get(key);
    if (last === undefined) this.#first.set(key, row);
    else this.next[last] = row;
    this.#last.set(key, row);
  }

  /** The first rule that a packet's key leads to, or -1. */
  firstFor(destination: number, protocol: number, port: number): number {
    return this.#first.get(this.addressed ? destination : protocol * 65536 + port) ?? -1;
  }

  #grow(capacity: number): void {
    this.destination = longer(this.destination, capacity);
    this.protocol = longer(this.protocol, capacity);
    this.port = longer(this.port, capacity);
    this.tests = longer(this.tests, capacity);
    this.target = longer(this.target, capacity);
    this.servicePort = longer(this.servicePort, capacity);
    this.next = longer(this.next, capacity);
    this.ordinal = longer(this.ordinal, capacity);
  }
}
