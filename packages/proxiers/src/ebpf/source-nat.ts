import { swap16, swap32, type Packet, type Stream } from '@vipsim/sim-core';
import type { Verdict } from '../proxier.ts';
import { setTuple, TUPLE_IN, TUPLE_OUT, type FlowMaps } from './flow-maps.ts';
import { PRANDOM, SNAT_LOOKUP, SNAT_RETRIES, SNAT_UPDATE } from './operations.ts';
import type { Tuple } from './connection-tracking.ts';
import type { Walk } from './walk.ts';

/** The first port above the default NodePort range. */
export const SNAT_PORT_MIN = 32_768;
export const SNAT_PORT_MAX = 65_535;
export const SNAT_TRIES = 32;
const PORTS = SNAT_PORT_MAX - SNAT_PORT_MIN + 1;

/** A 16-bit number into the port range, by multiplication: not linear, which is why the search for a port is not. */
export function clampPort(value: number): number {
  return SNAT_PORT_MIN + (((value & 0xffff) * PORTS) >>> 16);
}

/**
 * Source translation of flows that leave for a backend elsewhere, so that answers return through this node.
 * Models: forward and reverse entry in one LRU map; 32 tries for a port (the client's own, a random one, then each
 * from the one before); entries that are repaired from each other.
 * Source: snat_v4_new_mapping and snat_v4_nat_handle_mapping, bpf/lib/nat.h.
 * Not modelled: the signal that wakes the sweep after 16 tries; masquerading of pods.
 */
export class SourceNat {
  /** Flows for which no port was found. */
  exhaustions = 0;
  readonly #walk: Walk;
  readonly #flows: FlowMaps;
  readonly #address: number;
  readonly #ports: Stream;

  /** @param address that flows leave from. */
  constructor(walk: Walk, address: number, ports: Stream) {
    this.#walk = walk;
    this.#flows = walk.flows;
    this.#address = address;
    this.#ports = ports;
  }

  /** Translate the source of `verdict`; false when no port or no memory was to be had. */
  translate(protocol: number, verdict: Verdict): boolean {
    const walk = this.#walk;
    const map = this.#flows.snat;
    this.#forward(verdict, protocol);
    const forward = walk.lookup(map, SNAT_LOOKUP);
    if (forward < 0) return this.#allocate(protocol, verdict);
    const port = swap16(map.value(forward, 1));
    this.#reverse(verdict, port, protocol);
    if (walk.lookup(map, SNAT_LOOKUP) < 0) {
      const element = walk.update(map, SNAT_UPDATE, true);
      if (element < 0) return false;
      this.#fill(element, verdict.source, verdict.sourcePort);
    }
    verdict.source = this.#address;
    verdict.sourcePort = port;
    return true;
  }

  /** Whether a packet answers a flow that this node translated. */
  isAnswer(packet: Packet): boolean {
    if (packet.destination !== this.#address || packet.destinationPort < SNAT_PORT_MIN) return false;
    this.#answerKey(packet);
    return this.#flows.snat.find() >= 0;
  }

  /** Translate the destination of an answer back to the client; false when it answers nothing. */
  restore(packet: Packet, verdict: Verdict): boolean {
    const walk = this.#walk;
    const map = this.#flows.snat;
    const { protocol } = packet;
    this.#answerKey(packet);
    const reverse = walk.lookup(map, SNAT_LOOKUP);
    if (reverse < 0) return false;
    verdict.destination = swap32(map.value(reverse, 0));
    verdict.destinationPort = swap16(map.value(reverse, 1));
    setTuple(
      map.key,
      verdict.source,
      verdict.destination,
      verdict.sourcePort,
      verdict.destinationPort,
      protocol,
      TUPLE_OUT,
    );
    if (walk.lookup(map, SNAT_LOOKUP) < 0) {
      const element = walk.update(map, SNAT_UPDATE, false);
      if (element >= 0) this.#fill(element, packet.destination, packet.destinationPort);
    }
    return true;
  }

  /** Delete both entries of a flow, as the agent does with its connection. */
  purge(tuple: Tuple, protocol: number): void {
    const map = this.#flows.snat;
    this.#forward(tuple, protocol);
    const forward = map.find();
    if (forward < 0) return;
    const port = swap16(map.value(forward, 1));
    map.remove();
    this.#reverse(tuple, port, protocol);
    map.remove();
  }

  #allocate(protocol: number, verdict: Verdict): boolean {
    const walk = this.#walk;
    const map = this.#flows.snat;
    let port = verdict.sourcePort >= SNAT_PORT_MIN ? verdict.sourcePort : this.#randomPort();
    for (let tries = 0; tries < SNAT_TRIES; tries++) {
      if (tries === 1) port = this.#randomPort();
      else if (tries > 1) port = clampPort(port + 1);
      this.#reverse(verdict, port, protocol);
      const reverse = walk.update(map, SNAT_UPDATE, true);
      if (reverse < 0) continue;
      this.#fill(reverse, verdict.source, verdict.sourcePort);
      walk.counts[SNAT_RETRIES]! += 1;
      this.#forward(verdict, protocol);
      const forward = walk.update(map, SNAT_UPDATE, false);
      if (forward < 0) {
        this.#reverse(verdict, port, protocol);
        map.remove();
        return false;
      }
      this.#fill(forward, this.#address, port);
      verdict.source = this.#address;
      verdict.sourcePort = port;
      return true;
    }
    walk.counts[SNAT_RETRIES]! += 1;
    this.exhaustions++;
    return false;
  }

  #randomPort(): number {
    this.#walk.counts[PRANDOM]! += 1;
    return clampPort(this.#ports.uint32());
  }

  #answerKey(packet: Packet): void {
    const { destination, source, destinationPort, sourcePort, protocol } = packet;
    setTuple(this.#flows.snat.key, destination, source, destinationPort, sourcePort, protocol, TUPLE_IN);
  }

  /** Key of the client's packets to the backend. */
  #forward(tuple: Tuple, protocol: number): void {
    const { destination, source, destinationPort, sourcePort } = tuple;
    setTuple(this.#flows.snat.key, destination, source, destinationPort, sourcePort, protocol, TUPLE_OUT);
  }

  /** Key of the backend's answers to this node. */
  #reverse(tuple: Tuple, port: number, protocol: number): void {
    const { destination, destinationPort } = tuple;
    setTuple(this.#flows.snat.key, this.#address, destination, port, destinationPort, protocol, TUPLE_IN);
  }

  #fill(element: number, address: number, port: number): void {
    this.#flows.snat.setValue(element, 0, swap32(address));
    this.#flows.snat.setValue(element, 1, swap16(port));
  }
}
