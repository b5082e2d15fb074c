import { formatIpv4, swap16, swap32, UDP, type Packet, type Stream } from '@vipsim/sim-core';
import { REJECT, type Verdict } from '../proxier.ts';
import { CONNECT, PRANDOM, REVERSE_SK_LOOKUP, REVERSE_SK_UPDATE } from './operations.ts';
import { EXTERNAL, EXTERNAL_IP, INTERNAL, TWO_SCOPES } from './service-maps.ts';
import type { Walk } from './walk.ts';

/**
 * The programs at connect(2) and sendto(2): a socket's peer is translated once, and its packets carry the backend's
 * address from the start.
 * Models: connect4 of TCP and UDP: master, second scope, surrogate 0.0.0.0 for node ports, choice of a slot (a random
 * number for TCP, the socket's cookie for UDP), backend, reverse entry; EHOSTUNREACH and ENOMEM.
 * Source: bpf/bpf_sock.c.
 * Not modelled: unconnected UDP (each datagram to a service counts as a new connected socket), HostPorts,
 * getpeername and recvmsg, ending sockets of deleted UDP backends, affinity.
 */
export class SocketLb {
  readonly #walk: Walk;
  readonly #prandom: Stream;
  #cookies = 0;

  constructor(walk: Walk, prandom: Stream) {
    this.#walk = walk;
    this.#prandom = prandom;
  }

  /** False when connect(2) fails and nothing is sent. */
  connect(packet: Packet, verdict: Verdict): boolean {
    const walk = this.#walk;
    const { counts } = walk;
    counts[CONNECT]! += 1;
    const cookie = ++this.#cookies;
    let address = packet.destination;
    let scope: number = EXTERNAL;
    let master = walk.service(address, packet.destinationPort, 0, packet.protocol, EXTERNAL);
    if (master < 0 && walk.isNode(address)) {
      address = 0;
      master = walk.service(0, packet.destinationPort, 0, packet.protocol, EXTERNAL);
    }
    if (master >= 0 && ((walk.services.flags(master) >>> 8) & TWO_SCOPES) !== 0) {
      scope = INTERNAL;
      master = walk.service(address, packet.destinationPort, 0, packet.protocol, INTERNAL);
    }
    verdict.first = true;
    if (master < 0) return true;
    // An external IP is taken for a service only where it is this host's own address.
    if ((walk.services.flags(master) & EXTERNAL_IP) !== 0 && !walk.isThisHost(packet.destination))
      return true;

    const count = walk.services.count(master);
    if (count === 0) return this.#refuse(verdict, 'no backends: EHOSTUNREACH');
    const slot = (packet.protocol === UDP ? cookie : this.#random()) % count;
    const entry = walk.service(address, packet.destinationPort, slot + 1, packet.protocol, scope);
    if (entry < 0) return this.#refuse(verdict, 'slot missing: EHOSTUNREACH');
    verdict.endpoint = walk.services.endpoint(entry);
    const backend = walk.backend(walk.services.backendId(entry));
    if (backend < 0) return this.#refuse(verdict, 'backend missing: EHOSTUNREACH');
    verdict.destination = walk.services.backendAddress(backend);
    verdict.destinationPort = walk.services.backendPort(backend);
    if (!this.#remember(packet, cookie, verdict)) return this.#refuse(verdict, 'no reverse entry: ENOMEM');
    verdict.connected = true;
    walk.recorder?.step('connect4', `to ${formatIpv4(verdict.destination)}:${verdict.destinationPort}`);
    return true;
  }

  /** What getpeername(2) will answer: the service's address. */
  #remember(packet: Packet, cookie: number, verdict: Verdict): boolean {
    const map = this.#walk.flows.reverseSk;
    map.key[0] = cookie;
    map.key[1] = Math.floor(cookie / 4294967296);
    map.key[2] = swap32(verdict.destination);
    map.key[3] = swap16(verdict.destinationPort);
    if (this.#walk.lookup(map, REVERSE_SK_LOOKUP) >= 0) return true;
    const element = this.#walk.update(map, REVERSE_SK_UPDATE, false);
    if (element < 0) return false;
    map.setValue(element, 0, swap32(packet.destination));
    map.setValue(element, 1, swap16(packet.destinationPort));
    return true;
  }

  #random(): number {
    this.#walk.counts[PRANDOM]! += 1;
    return this.#prandom.uint32();
  }

  #refuse(verdict: Verdict, why: string): false {
    verdict.fate = REJECT;
    this.#walk.recorder?.step('connect4', why);
    return false;
  }
}
