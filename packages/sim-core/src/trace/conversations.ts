import { jhash3 } from '../net/jhash.ts';
import { ACK, FIN, SYN } from '../net/packet.ts';
import type { WirePacket } from './wire-headers.ts';

const CLIENT = 0;
const SERVER = 1;
type Side = typeof CLIENT | typeof SERVER;

/** What a packet carries besides flags when it carries data. */
export interface PayloadSizes {
  readonly requestBytes: number;
  readonly responseBytes: number;
}

/**
 * TCP's numbers for packets that were simulated without any: both sides' sequence numbers, and what each has
 * seen of the other. Packets are given in the order in which they were sent.
 * Models: initial numbers by connection, SYN and FIN counting one, requests and responses of equal segments, a
 * burst of which any packet was lost being sent again from its beginning.
 * Not modelled: acknowledgements of their own (the answer acknowledges), delayed and selective ones.
 */
export class Conversations {
  readonly #sizes: PayloadSizes;
  // Per connection and side: the next number to send, and where the present burst began.
  readonly #next: Uint32Array;
  readonly #burst: Uint32Array;
  readonly #packets: Uint16Array;
  readonly #lastSide: Int8Array;
  /** The client's next ACK ends the handshake or the close, and carries nothing. */
  readonly #bareAck: Uint8Array;

  constructor(connections: number, sizes: PayloadSizes) {
    this.#sizes = sizes;
    this.#next = new Uint32Array(2 * connections);
    this.#burst = new Uint32Array(2 * connections);
    this.#packets = new Uint16Array(2 * connections);
    this.#lastSide = new Int8Array(connections).fill(-1);
    this.#bareAck = new Uint8Array(connections);
  }

  /** Fill the numbers, payload length and identification of the connection's next packet, by its flags. */
  send(connection: number, fromServer: boolean, packet: WirePacket): void {
    const side = fromServer ? SERVER : CLIENT;
    const mine = 2 * connection + side;
    const { flags } = packet;
    if ((flags & SYN) !== 0) this.#next[mine] = initialNumber(connection, side);
    if (this.#lastSide[connection] !== side) this.#burst[mine] = this.#next[mine]!;
    this.#lastSide[connection] = side;
    // A datagram has no flags.
    const data = flags === 0 || (flags === ACK && (fromServer || this.#bareAck[connection] === 0));
    packet.payloadBytes = data ? (fromServer ? this.#sizes.responseBytes : this.#sizes.requestBytes) : 0;
    packet.sequence = this.#next[mine]!;
    packet.acknowledgement = this.#next[mine ^ 1]!;
    packet.identification = this.#packets[mine]!;
    this.#packets[mine]! += 1;
    this.#next[mine]! += packet.payloadBytes + ((flags & (SYN | FIN)) === 0 ? 0 : 1);
    if (!fromServer && flags === ACK) this.#bareAck[connection] = 0;
    if (fromServer && (flags & (SYN | FIN)) !== 0) this.#bareAck[connection] = 1;
  }

  /** The packet just sent got lost: its side starts the burst again. */
  lose(connection: number, fromServer: boolean): void {
    const mine = 2 * connection + (fromServer ? SERVER : CLIENT);
    this.#next[mine] = this.#burst[mine]!;
  }
}

function initialNumber(connection: number, side: Side): number {
  return jhash3(connection, side, 0, 0);
}
