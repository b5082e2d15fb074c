import { longer, TCP, type Origin } from '@vipsim/sim-core';
import type { Arrivals } from '../workload/arrivals.ts';

/** The connections in progress, as columns; rows are reused. */
export class Flows {
  client: Uint32Array = new Uint32Array(0);
  /** Where the client's socket sends to: the service, or already an endpoint. */
  address: Uint32Array = new Uint32Array(0);
  /** The tuple that replies carry as they reach the node. */
  replySource: Uint32Array = new Uint32Array(0);
  replyDestination: Uint32Array = new Uint32Array(0);
  clientPort: Uint16Array = new Uint16Array(0);
  port: Uint16Array = new Uint16Array(0);
  replySourcePort: Uint16Array = new Uint16Array(0);
  replyDestinationPort: Uint16Array = new Uint16Array(0);
  protocol: Uint8Array = new Uint8Array(0);
  origin: Uint8Array = new Uint8Array(0);
  servicePort: Uint32Array = new Uint32Array(0);
  /** Index of the arrival, for draws that belong to the connection. */
  connection: Uint32Array = new Uint32Array(0);
  /** The pod that serves it, -1 while none does. */
  pod: Int32Array = new Int32Array(0);
  requestsLeft: Uint32Array = new Uint32Array(0);
  /** SYNs (or datagrams) sent. */
  attempts: Uint8Array = new Uint8Array(0);
  established: Uint8Array = new Uint8Array(0);
  sentToDead: Uint8Array = new Uint8Array(0);
  startNs: Float64Array = new Float64Array(0);
  /** The pod that accepted it: packets may be led to another. */
  acceptedBy: Int32Array = new Int32Array(0);
  /** When the pod accepted it; when the request that is waited for was sent. */
  acceptedNs: Float64Array = new Float64Array(0);
  requestNs: Float64Array = new Float64Array(0);
  active = 0;

  #free: Int32Array = new Int32Array(0);
  #freeCount = 0;
  #capacity = 0;

  open(arrival: Arrivals): number {
    if (this.#freeCount === 0) this.#widen(Math.max(1024, this.#capacity * 2));
    const flow = this.#free[--this.#freeCount]!;
    this.client[flow] = arrival.client;
    this.clientPort[flow] = arrival.clientPort;
    this.address[flow] = arrival.address;
    this.port[flow] = arrival.port;
    this.protocol[flow] = arrival.protocol;
    this.origin[flow] = arrival.origin;
    this.servicePort[flow] = arrival.servicePort;
    this.connection[flow] = arrival.index;
    this.pod[flow] = -1;
    this.requestsLeft[flow] = arrival.requests;
    this.attempts[flow] = 0;
    this.established[flow] = 0;
    this.sentToDead[flow] = 0;
    this.startNs[flow] = arrival.atNs;
    this.active++;
    return flow;
  }

  close(flow: number): void {
    this.#free[this.#freeCount++] = flow;
    this.active--;
  }

  originOf(flow: number): Origin {
    return this.origin[flow] as Origin;
  }

  isTcp(flow: number): boolean {
    return this.protocol[flow] === TCP;
  }

  #widen(capacity: number): void {
    for (const name of [
      'client',
      'address',
      'replySource',
      'replyDestination',
      'servicePort',
      'connection',
      'requestsLeft',
    ] as const) {
      this[name] = longer(this[name], capacity);
    }
    for (const name of ['clientPort', 'port', 'replySourcePort', 'replyDestinationPort'] as const) {
      this[name] = longer(this[name], capacity);
    }
    for (const name of ['protocol', 'origin', 'attempts', 'established', 'sentToDead'] as const) {
      this[name] = longer(this[name], capacity);
    }
    this.pod = longer(this.pod, capacity);
    this.acceptedBy = longer(this.acceptedBy, capacity);
    this.startNs = longer(this.startNs, capacity);
    this.acceptedNs = longer(this.acceptedNs, capacity);
    this.requestNs = longer(this.requestNs, capacity);
    this.#free = longer(this.#free, capacity);
    for (let flow = capacity - 1; flow >= this.#capacity; flow--) this.#free[this.#freeCount++] = flow;
    this.#capacity = capacity;
  }
}
