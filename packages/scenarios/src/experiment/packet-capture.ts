// The trace part of sim-core, until its index exports it.
import { Conversations, MSS, WirePacket, headersOf, pcapng, type CapturedPacket } from '@vipsim/sim-core';
import { FROM_POD } from '@vipsim/sim-core';
import { FORWARD, servicePortName } from '@vipsim/proxiers';
import { VERSION } from './document.ts';
import { OBSERVED_NODE } from './node-run.ts';
import { FATES, bannerOf, tupleText } from './perfetto-trace.ts';
import { NO_ROOM } from './packet-log.ts';
import type { RunTrace } from './run-trace.ts';

/** A run decides how many packets a request and its answer have; how long they are matters to no cost. */
const REQUEST_BYTES = 200;
const RESPONSE_BYTES = MSS;

const PODS = 0;
const NETWORK = 1;

/**
 * A run as a capture on the two sides of the observed node: each packet as it reaches the node, and again as it
 * leaves if it was translated. What leaves as it came is written once, for a reader would take the second sight
 * of it for a retransmission. Headers only; lengths are stated.
 * Not modelled: the ICMP message or reset that tells a client of a rejected packet.
 */
export function packetCapture(trace: RunTrace): Generator<Uint8Array> {
  const node = trace.day.cluster.nodes[OBSERVED_NODE]!.name;
  return pcapng({
    application: `vipsim ${VERSION}`,
    comment: bannerOf(trace).join('\n'),
    interfaces: [
      { name: 'pods', description: `pods of ${node}` },
      { name: 'network', description: `network side of ${node}` },
    ],
    packets: capturedPackets(trace),
  });
}

function* capturedPackets(trace: RunTrace): Generator<CapturedPacket> {
  const { packets } = trace;
  const numbers = new Numbers(trace);
  const local = localAddresses(trace);
  const wire = new WirePacket();
  for (const sight of inTimeOrder(trace)) {
    const row = sight >>> 1;
    const leaves = (sight & 1) === 1;
    numbers.writeTo(wire, row);
    // A socket that connect() has moved to an endpoint never sends to the Service's address.
    const after = leaves || packets.connected[row] === 1;
    wire.source = (after ? packets.sourceAfter : packets.source)[row]!;
    wire.sourcePort = (after ? packets.sourcePortAfter : packets.sourcePort)[row]!;
    wire.destination = (after ? packets.destinationAfter : packets.destination)[row]!;
    wire.destinationPort = (after ? packets.destinationPortAfter : packets.destinationPort)[row]!;
    wire.ttl = leaves ? 63 : 64;
    const bytes = headersOf(wire);
    const fromPod = packets.origin[row] === FROM_POD;
    const toPod = local.has(packets.destinationAfter[row]!);
    yield {
      interface: (leaves ? toPod : fromPod) ? PODS : NETWORK,
      atNs: leaves ? packets.doneNs[row]! : packets.atNs[row]!,
      inbound: !leaves,
      bytes,
      originalBytes: bytes.length + wire.payloadBytes,
      comment: leaves ? `was ${tupleText(packets, row, false)}` : commentOf(trace, row),
    };
  }
}

/** What happened to a packet: `default/web:http, core 3, first packet, forwarded after 1234 ns: …`. */
function commentOf(trace: RunTrace, row: number): string {
  const { packets } = trace;
  const service = servicePortName(trace.day.cluster, trace.servicePort[packets.connection[row]!]!);
  const place = `${service}, core ${packets.core[row]!}`;
  const fate = FATES[packets.fate[row]!]!;
  if (packets.fate[row] === NO_ROOM) return `${place}, ${fate}`;
  const way = packets.connected[row] === 1 ? ', connected to its endpoint at the socket' : '';
  const what = packets.isUnchanged(row) ? `${fate} unchanged` : fate;
  const afterNs = packets.doneNs[row]! - packets.atNs[row]!;
  const kind = packets.first[row] === 1 ? 'first packet' : 'established';
  return `${place}, ${kind}${way}, ${what} after ${afterNs} ns: ${trace.packetCounts.text(packets.counts[row]!)}`;
}

/** Twice the row of every packet, plus one for its leaving, by time and then as the run saw them. */
function inTimeOrder(trace: RunTrace): Float64Array {
  const { packets } = trace;
  const atNs = (sight: number): number => (sight % 2 === 1 ? packets.doneNs : packets.atNs)[sight >>> 1]!;
  const sights: number[] = [];
  for (let row = 0; row < packets.length; row++) {
    sights.push(2 * row);
    const translated =
      packets.fate[row] === FORWARD && packets.connected[row] === 0 && !packets.isUnchanged(row);
    if (translated) sights.push(2 * row + 1);
  }
  return Float64Array.from(sights).sort((x, y) => atNs(x) - atNs(y) || x - y);
}

/** Everything that hangs on the node's own side: its pods of the whole day, clients among them. */
function localAddresses(trace: RunTrace): ReadonlySet<number> {
  const { cluster, clients } = trace.day;
  const { pods } = cluster;
  const local = new Set<number>(clients);
  for (let pod = 0; pod < pods.count; pod++) {
    if (pods.node[pod] === OBSERVED_NODE) local.add(pods.address[pod]!);
  }
  return local;
}

/** The numbers of every packet, which depend on those that its connection sent before. */
class Numbers {
  readonly #trace: RunTrace;
  readonly #sequence: Uint32Array;
  readonly #acknowledgement: Uint32Array;
  readonly #payloadBytes: Uint16Array;
  readonly #identification: Uint16Array;

  constructor(trace: RunTrace) {
    const { packets } = trace;
    this.#trace = trace;
    this.#sequence = new Uint32Array(packets.length);
    this.#acknowledgement = new Uint32Array(packets.length);
    this.#payloadBytes = new Uint16Array(packets.length);
    this.#identification = new Uint16Array(packets.length);
    const sizes = { requestBytes: REQUEST_BYTES, responseBytes: RESPONSE_BYTES };
    const conversations = new Conversations(trace.connections, sizes);
    const wire = new WirePacket();
    for (let row = 0; row < packets.length; row++) {
      const fromServer = packets.reply[row] === 1;
      const connection = packets.connection[row]!;
      wire.flags = packets.flags[row]!;
      wire.protocol = packets.protocol[row]!;
      conversations.send(connection, fromServer, wire);
      if (packets.fate[row] !== FORWARD) conversations.lose(connection, fromServer);
      this.#sequence[row] = wire.sequence;
      this.#acknowledgement[row] = wire.acknowledgement;
      this.#payloadBytes[row] = wire.payloadBytes;
      this.#identification[row] = wire.identification;
    }
  }

  writeTo(wire: WirePacket, row: number): void {
    const { packets } = this.#trace;
    wire.protocol = packets.protocol[row]!;
    wire.flags = packets.flags[row]!;
    wire.sequence = this.#sequence[row]!;
    wire.acknowledgement = this.#acknowledgement[row]!;
    wire.payloadBytes = this.#payloadBytes[row]!;
    wire.identification = this.#identification[row]!;
  }
}
