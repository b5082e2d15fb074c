import { swap16, swap32, type Packet, type Stream } from '@vipsim/sim-core';
import type { Verdict } from '../../proxier.ts';
import { setTuple, TUPLE_IN, TUPLE_OUT, type FlowMaps } from './flow-maps.ts';
import { PRANDOM, SNAT_DELETE, SNAT_LOOKUP, SNAT_RETRIES, SNAT_UPDATE } from '../operations.ts';
import type { Tuple } from './connection-tracking.ts';
import type { Walk } from './walk.ts';

export const SNAT_PORT_MAX = 65_535;
/** More tries than this wake the agent's sweep (SNAT_SIGNAL_THRES). */
const SIGNAL_TRIES = 16;

export interface SourceNatOptions {
  /** The last port of the NodePort range; translated flows leave from those above. */
  readonly nodePortMax: number;
  readonly snatTries: number;
  readonly snatClamp: 'recent' | 'old';
}

/** A 16-bit number into the ports from `min`, by multiplication: not linear, so that the search for a port is not. */
export function clampPort(value: number, min = 32_768): number {
  return min + (((value & 0xffff) * (SNAT_PORT_MAX - min + 1)) >>> 16);
}

/** As older releases did: by remainder, which never gives the last port. */
export function clampPortByRemainder(value: number, min = 32_768): number {
  return min + ((value & 0xffff) % (SNAT_PORT_MAX - min));
}

/**
 * Source translation of flows that leave for a backend elsewhere, so that answers return through this node.
 * Models: forward and reverse entry in one LRU map; a number of tries for a port (the client's own, a random one, then
 * each from the one before) and their histogram; the signal to the agent after 16; entries that are repaired from each
 * other, and replaced when the node's address has changed.
 * Source: snat_v4_new_mapping and snat_v4_nat_handle_mapping, bpf/lib/nat.h.
 * Not modelled: masquerading of pods.
 */
export class SourceNat {
  /** Flows for which no port was found. */
  exhaustions = 0;
  /** Address that flows leave from. */
  address: number;
  /** cilium_snat_v4_alloc_retries: searches by the tries that failed; the last cell holds those that found nothing. */
  readonly retries: Float64Array;
  readonly portMin: number;
  readonly #tries: number;
  readonly #clamp: typeof clampPort;
  readonly #walk: Walk;
  readonly #flows: FlowMaps;
  readonly #ports: Stream;

  constructor(walk: Walk, address: number, ports: Stream, options: SourceNatOptions) {
    this.#walk = walk;
    this.#flows = walk.flows;
    this.address = address;
    this.#ports = ports;
    this.portMin = options.nodePortMax + 1;
    this.#tries = options.snatTries;
    this.#clamp = options.snatClamp === 'recent' ? clampPort : clampPortByRemainder;
    this.retries = new Float64Array(options.snatTries + 1);
  }

  /** Translate the source of `verdict`; false when no port or no memory was to be had. */
  translate(protocol: number, verdict: Verdict): boolean {
    const walk = this.#walk;
    const map = this.#flows.snat;
    this.#forward(verdict, protocol);
    const forward = walk.lookup(map, SNAT_LOOKUP);
    if (forward < 0) return this.#allocate(protocol, verdict);
    const address = swap32(map.value(forward, 0));
    const port = swap16(map.value(forward, 1));
    if (address !== this.address) {
      walk.remove(map, SNAT_DELETE);
      this.#reverse(verdict, address, port, protocol);
      walk.remove(map, SNAT_DELETE);
      return this.#allocate(protocol, verdict);
    }
    this.#reverse(verdict, address, port, protocol);
    if (walk.lookup(map, SNAT_LOOKUP) < 0) {
      const element = walk.update(map, SNAT_UPDATE, true);
      if (element < 0) return false;
      this.#fill(element, verdict.source, verdict.sourcePort);
    }
    verdict.source = address;
    verdict.sourcePort = port;
    return true;
  }

  /** Whether a packet answers a flow that this node translated. */
  isAnswer(packet: Packet): boolean {
    if (!this.mayAnswer(packet)) return false;
    this.#answerKey(packet);
    return this.#flows.snat.find() >= 0;
  }

  /** Whether a packet comes to an address and port that flows leave from: else nobody looks. */
  mayAnswer(packet: Packet): boolean {
    return packet.destination === this.address && packet.destinationPort >= this.portMin;
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

  /** Delete both entries of a flow, as the agent does with its connection. Returns how many there were. */
  purge(tuple: Tuple, protocol: number): number {
    const map = this.#flows.snat;
    this.#forward(tuple, protocol);
    const forward = map.find();
    if (forward < 0) return 0;
    const address = swap32(map.value(forward, 0));
    const port = swap16(map.value(forward, 1));
    map.remove();
    this.#reverse(tuple, address, port, protocol);
    return map.remove() ? 2 : 1;
  }

  #allocate(protocol: number, verdict: Verdict): boolean {
    const walk = this.#walk;
    const map = this.#flows.snat;
    const { address } = this;
    const tries = this.#tries;
    let port = verdict.sourcePort >= this.portMin ? verdict.sourcePort : this.#randomPort();
    for (let attempt = 0; attempt < tries; attempt++) {
      if (attempt === 1) port = this.#randomPort();
      else if (attempt > 1) port = this.#clamp(port + 1, this.portMin);
      this.#reverse(verdict, address, port, protocol);
      const reverse = walk.update(map, SNAT_UPDATE, true);
      if (reverse < 0) continue;
      this.#fill(reverse, verdict.source, verdict.sourcePort);
      this.#note(attempt);
      this.#forward(verdict, protocol);
      const forward = walk.update(map, SNAT_UPDATE, false);
      if (forward < 0) {
        this.#reverse(verdict, address, port, protocol);
        walk.remove(map, SNAT_DELETE);
        return false;
      }
      this.#fill(forward, address, port);
      verdict.source = address;
      verdict.sourcePort = port;
      return true;
    }
    this.#note(tries);
    this.exhaustions++;
    return false;
  }

  #note(failed: number): void {
    const walk = this.#walk;
    walk.counts[SNAT_RETRIES]! += 1;
    this.retries[failed]! += 1;
    if (failed > SIGNAL_TRIES) walk.signal(`a port after ${failed} tries`);
  }

  #randomPort(): number {
    this.#walk.counts[PRANDOM]! += 1;
    return this.#clamp(this.#ports.uint32(), this.portMin);
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

  /** Key of the backend's answers to the address and port that the flow left from. */
  #reverse(tuple: Tuple, address: number, port: number, protocol: number): void {
    const { destination, destinationPort } = tuple;
    setTuple(this.#flows.snat.key, address, destination, port, destinationPort, protocol, TUPLE_IN);
  }

  #fill(element: number, address: number, port: number): void {
    this.#flows.snat.setValue(element, 0, swap32(address));
    this.#flows.snat.setValue(element, 1, swap16(port));
  }
}
