import { longer, type Packet } from '@vipsim/sim-core';
import { FORWARD, type Verdict } from '@vipsim/proxiers';

/** Beside FORWARD, REJECT and DROP of a verdict: no room on the core, so that no dataplane saw it. */
export const NO_ROOM = 3;

const NUMBERS = ['atNs', 'doneNs', 'costNs', 'dataplaneNs'] as const;
const WORDS = [
  'connection',
  'core',
  'source',
  'destination',
  'sourceAfter',
  'destinationAfter',
  'counts',
] as const;
const HALVES = ['sourcePort', 'destinationPort', 'sourcePortAfter', 'destinationPortAfter'] as const;
const BYTES = ['protocol', 'flags', 'origin', 'reply', 'fate', 'first', 'connected'] as const;

/** Packets that met the node, in the order in which they did, as columns: about 80 bytes each. */
export class PacketLog {
  length = 0;
  /** When it reached the node, and when its core was done with it. */
  atNs: Float64Array = new Float64Array(0);
  doneNs: Float64Array = new Float64Array(0);
  /** What it cost in all, and of that the dataplane. */
  costNs: Float64Array = new Float64Array(0);
  dataplaneNs: Float64Array = new Float64Array(0);
  connection: Uint32Array = new Uint32Array(0);
  core: Uint32Array = new Uint32Array(0);
  source: Uint32Array = new Uint32Array(0);
  destination: Uint32Array = new Uint32Array(0);
  sourcePort: Uint16Array = new Uint16Array(0);
  destinationPort: Uint16Array = new Uint16Array(0);
  /** The tuple as it leaves. */
  sourceAfter: Uint32Array = new Uint32Array(0);
  destinationAfter: Uint32Array = new Uint32Array(0);
  sourcePortAfter: Uint16Array = new Uint16Array(0);
  destinationPortAfter: Uint16Array = new Uint16Array(0);
  /** Row of its counts. */
  counts: Uint32Array = new Uint32Array(0);
  protocol: Uint8Array = new Uint8Array(0);
  flags: Uint8Array = new Uint8Array(0);
  origin: Uint8Array = new Uint8Array(0);
  reply: Uint8Array = new Uint8Array(0);
  fate: Uint8Array = new Uint8Array(0);
  first: Uint8Array = new Uint8Array(0);
  connected: Uint8Array = new Uint8Array(0);

  #capacity = 0;

  /** A packet that a core worked on. */
  addProcessed(
    connection: number,
    packet: Packet,
    reply: boolean,
    work: { core: number; atNs: number; doneNs: number; costNs: number; dataplaneNs: number },
    verdict: Verdict,
    counts: number,
  ): void {
    const row = this.#add(connection, packet, reply, work.core, work.atNs);
    this.doneNs[row] = work.doneNs;
    this.costNs[row] = work.costNs;
    this.dataplaneNs[row] = work.dataplaneNs;
    this.sourceAfter[row] = verdict.source;
    this.destinationAfter[row] = verdict.destination;
    this.sourcePortAfter[row] = verdict.sourcePort;
    this.destinationPortAfter[row] = verdict.destinationPort;
    this.fate[row] = verdict.fate;
    this.first[row] = verdict.first ? 1 : 0;
    this.connected[row] = verdict.connected ? 1 : 0;
    this.counts[row] = counts;
  }

  /** A packet that found its core's backlog full. */
  addRefused(connection: number, packet: Packet, reply: boolean, core: number, atNs: number): void {
    const row = this.#add(connection, packet, reply, core, atNs);
    this.fate[row] = NO_ROOM;
  }

  /** Whether it leaves the node with the tuple with which it reached it. */
  isUnchanged(row: number): boolean {
    return (
      this.fate[row] === FORWARD &&
      this.source[row] === this.sourceAfter[row] &&
      this.destination[row] === this.destinationAfter[row] &&
      this.sourcePort[row] === this.sourcePortAfter[row] &&
      this.destinationPort[row] === this.destinationPortAfter[row]
    );
  }

  #add(connection: number, packet: Packet, reply: boolean, core: number, atNs: number): number {
    if (this.length === this.#capacity) this.#widen(Math.max(1024, 2 * this.#capacity));
    const row = this.length++;
    this.connection[row] = connection;
    this.reply[row] = reply ? 1 : 0;
    this.core[row] = core;
    this.atNs[row] = atNs;
    this.source[row] = packet.source;
    this.destination[row] = packet.destination;
    this.sourcePort[row] = packet.sourcePort;
    this.destinationPort[row] = packet.destinationPort;
    this.protocol[row] = packet.protocol;
    this.flags[row] = packet.flags;
    this.origin[row] = packet.origin;
    return row;
  }

  #widen(capacity: number): void {
    for (const name of NUMBERS) this[name] = longer(this[name], capacity);
    for (const name of WORDS) this[name] = longer(this[name], capacity);
    for (const name of HALVES) this[name] = longer(this[name], capacity);
    for (const name of BYTES) this[name] = longer(this[name], capacity);
    this.#capacity = capacity;
  }
}
