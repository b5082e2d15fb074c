import { jhash3, longer } from '@vipsim/sim-core';

/** The SYN to the endpoint is out. */
export const DIALLING = 0;
export const OPEN = 1;
/** Both sockets are closed; the kernel keeps the outer one in TIME_WAIT. */
export const CLOSED = 2;

const NONE = -1;

/**
 * The connections that the proxy process holds: a socket towards the client, one towards the endpoint. Found by
 * either: by client address and port on a listening port, and by endpoint, its port and the node's own port.
 */
export class Sessions {
  count = 0;
  peak = 0;
  client: Uint32Array = new Uint32Array(0);
  clientPort: Uint16Array = new Uint16Array(0);
  servicePort: Uint32Array = new Uint32Array(0);
  protocol: Uint8Array = new Uint8Array(0);
  endpoint: Int32Array = new Int32Array(0);
  address: Uint32Array = new Uint32Array(0);
  port: Uint16Array = new Uint16Array(0);
  /** The node's port towards the endpoint. */
  sourcePort: Uint16Array = new Uint16Array(0);
  state: Uint8Array = new Uint8Array(0);
  /** Dials made for this client so far. */
  attempts: Uint8Array = new Uint8Array(0);
  /** The client's own ACK of the handshake has passed: what follows carries data. */
  greeted: Uint8Array = new Uint8Array(0);
  /** UDP: when it ends for want of traffic. TCP: the end of TIME_WAIT. */
  deadlineNs: Float64Array = new Float64Array(0);
  /** By session × 2 + direction: when the last read began, and what it has read. */
  readNs: Float64Array = new Float64Array(0);
  readBytes: Uint32Array = new Uint32Array(0);
  #inUse: Uint8Array = new Uint8Array(0);
  #hasClient: Uint8Array = new Uint8Array(0);
  #byClient: Int32Array = new Int32Array(0);
  #byEndpoint: Int32Array = new Int32Array(0);
  #nextByClient: Int32Array = new Int32Array(0);
  #nextByEndpoint: Int32Array = new Int32Array(0);
  #free: Int32Array = new Int32Array(0);
  #freeCount = 0;
  #capacity = 0;

  /** A session of a client; `connect` follows. */
  open(protocol: number, client: number, clientPort: number, servicePort: number): number {
    if (this.#freeCount === 0) this.#widen(Math.max(1024, this.#capacity * 2));
    const session = this.#free[--this.#freeCount]!;
    this.#inUse[session] = 1;
    this.protocol[session] = protocol;
    this.client[session] = client;
    this.clientPort[session] = clientPort;
    this.servicePort[session] = servicePort;
    this.endpoint[session] = NONE;
    this.state[session] = DIALLING;
    this.attempts[session] = 0;
    this.greeted[session] = 0;
    this.deadlineNs[session] = Infinity;
    this.readNs[session * 2] = this.readNs[session * 2 + 1] = NONE;
    this.#linkClient(session);
    this.count++;
    if (this.count > this.peak) this.peak = this.count;
    return session;
  }

  /** Give it a socket towards an endpoint; one that it has goes. */
  connect(session: number, endpoint: number, address: number, port: number, sourcePort: number): void {
    if (this.endpoint[session] !== NONE) this.disconnect(session);
    this.endpoint[session] = endpoint;
    this.address[session] = address;
    this.port[session] = port;
    this.sourcePort[session] = sourcePort;
    this.#linkEndpoint(session);
  }

  disconnect(session: number): void {
    const bucket = this.#endpointBucket(
      this.protocol[session]!,
      this.address[session]!,
      this.port[session]!,
      this.sourcePort[session]!,
    );
    unlink(this.#byEndpoint, this.#nextByEndpoint, bucket, session);
    this.endpoint[session] = NONE;
  }

  /** The client's side is gone; the endpoint's side stays, as TIME_WAIT does. */
  leaveClient(session: number): void {
    const bucket = this.#clientBucket(
      this.protocol[session]!,
      this.client[session]!,
      this.clientPort[session]!,
      this.servicePort[session]!,
    );
    unlink(this.#byClient, this.#nextByClient, bucket, session);
    this.#hasClient[session] = 0;
  }

  /** Both sides are gone. */
  close(session: number): void {
    if (this.endpoint[session] !== NONE) this.disconnect(session);
    if (this.#hasClient[session] === 1) this.leaveClient(session);
    this.#inUse[session] = 0;
    this.#free[this.#freeCount++] = session;
    this.count--;
  }

  ofClient(protocol: number, client: number, clientPort: number, servicePort: number): number {
    if (this.#capacity === 0) return NONE;
    let at = this.#byClient[this.#clientBucket(protocol, client, clientPort, servicePort)]!;
    for (; at !== NONE; at = this.#nextByClient[at]!) {
      if (
        this.client[at] === client &&
        this.clientPort[at] === clientPort &&
        this.servicePort[at] === servicePort &&
        this.protocol[at] === protocol
      ) {
        return at;
      }
    }
    return NONE;
  }

  ofEndpoint(protocol: number, address: number, port: number, sourcePort: number): number {
    if (this.#capacity === 0) return NONE;
    let at = this.#byEndpoint[this.#endpointBucket(protocol, address, port, sourcePort)]!;
    for (; at !== NONE; at = this.#nextByEndpoint[at]!) {
      if (
        this.address[at] === address &&
        this.sourcePort[at] === sourcePort &&
        this.port[at] === port &&
        this.protocol[at] === protocol
      ) {
        return at;
      }
    }
    return NONE;
  }

  /** Call `expired` for each session whose deadline has passed, by rising row. */
  expire(nowNs: number, expired: (session: number) => void): void {
    for (let session = 0; session < this.#capacity; session++) {
      if (this.#inUse[session] === 1 && this.deadlineNs[session]! <= nowNs) expired(session);
    }
  }

  #clientBucket(protocol: number, client: number, clientPort: number, servicePort: number): number {
    return jhash3(client, clientPort * 65536 + protocol, servicePort, 0) & (this.#capacity - 1);
  }

  #endpointBucket(protocol: number, address: number, port: number, sourcePort: number): number {
    return jhash3(address, port * 65536 + sourcePort, protocol, 0) & (this.#capacity - 1);
  }

  #linkClient(session: number): void {
    const bucket = this.#clientBucket(
      this.protocol[session]!,
      this.client[session]!,
      this.clientPort[session]!,
      this.servicePort[session]!,
    );
    this.#hasClient[session] = 1;
    this.#nextByClient[session] = this.#byClient[bucket]!;
    this.#byClient[bucket] = session;
  }

  #linkEndpoint(session: number): void {
    const bucket = this.#endpointBucket(
      this.protocol[session]!,
      this.address[session]!,
      this.port[session]!,
      this.sourcePort[session]!,
    );
    this.#nextByEndpoint[session] = this.#byEndpoint[bucket]!;
    this.#byEndpoint[bucket] = session;
  }

  #widen(capacity: number): void {
    const held = this.#capacity;
    for (const name of ['client', 'servicePort', 'address'] as const)
      this[name] = longer(this[name], capacity);
    for (const name of ['clientPort', 'port', 'sourcePort'] as const)
      this[name] = longer(this[name], capacity);
    for (const name of ['protocol', 'state', 'attempts', 'greeted'] as const) {
      this[name] = longer(this[name], capacity);
    }
    this.endpoint = longer(this.endpoint, capacity);
    this.deadlineNs = longer(this.deadlineNs, capacity);
    this.readNs = longer(this.readNs, capacity * 2);
    this.readBytes = longer(this.readBytes, capacity * 2);
    this.#inUse = longer(this.#inUse, capacity);
    this.#hasClient = longer(this.#hasClient, capacity);
    this.#nextByClient = longer(this.#nextByClient, capacity);
    this.#nextByEndpoint = longer(this.#nextByEndpoint, capacity);
    this.#free = longer(this.#free, capacity);
    this.#capacity = capacity;
    // As many chains as rows: all are linked anew.
    this.#byClient = new Int32Array(capacity).fill(NONE);
    this.#byEndpoint = new Int32Array(capacity).fill(NONE);
    for (let session = 0; session < held; session++) {
      if (this.#inUse[session] === 0) continue;
      if (this.#hasClient[session] === 1) this.#linkClient(session);
      if (this.endpoint[session] !== NONE) this.#linkEndpoint(session);
    }
    for (let session = capacity - 1; session >= held; session--) this.#free[this.#freeCount++] = session;
  }
}

function unlink(heads: Int32Array, next: Int32Array, bucket: number, session: number): void {
  let at = heads[bucket]!;
  if (at === session) {
    heads[bucket] = next[session]!;
    return;
  }
  while (next[at] !== session) at = next[at]!;
  next[at] = next[session]!;
}
