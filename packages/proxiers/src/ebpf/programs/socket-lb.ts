import { formatIpv4, FROM_HOST, swap16, swap32, UDP, type Packet, type Stream } from '@vipsim/sim-core';
import { REJECT, type Verdict } from '../../proxier.ts';
import { Affinity } from './affinity.ts';
import type { BackendChoice } from './backend-choice.ts';
import {
  CONNECT,
  GETPEERNAME,
  PRANDOM,
  RECVMSG,
  REVERSE_SK_DELETE,
  REVERSE_SK_LOOKUP,
  REVERSE_SK_UPDATE,
  SENDMSG,
} from '../operations.ts';
import { AFFINITY, EXTERNAL, EXTERNAL_IP, INTERNAL, NODE_PORT, TWO_SCOPES } from '../service-maps.ts';
import type { Walk } from './walk.ts';

const HOST_PORT = 0x08;
/** The first port of the default NodePort range. */
const NODE_PORT_MIN = 30_000;
/** Cookie of the host's own network namespace, the first that the kernel gave. */
const HOST_NETNS = 1;
const LOOPBACK_NETWORK = 127;

/**
 * The programs at connect(2), sendmsg(2), recvmsg(2) and getpeername(2): a socket's peer is translated once, and its
 * packets carry the backend's address from the start; an unconnected UDP socket is translated with each datagram.
 * Models: master, second scope, surrogate 0.0.0.0 for node ports and host ports, choice of a slot (a random number for
 * TCP, the socket's cookie for UDP; never Maglev), affinity by network namespace, backend, reverse entry written only
 * when it is absent or different; EHOSTUNREACH and ENOMEM; answers told from the service's address while the service
 * exists, entries of services that do not deleted.
 * Source: __sock4_xlate_fwd, __sock4_xlate_rev and sock4_wildcard_lookup_full, bpf/bpf_sock.c.
 * Not modelled: bind(2), services of layer 7, IPv6 sockets that carry IPv4. Cookies count up from 1 over the node; a
 * pod's network namespace is known by its address.
 */
export class SocketLb {
  /** Cookie of the socket that connected last. */
  cookie = 0;
  readonly #walk: Walk;
  readonly #prandom: Stream;
  readonly #choice: BackendChoice;
  readonly #affinity: Affinity;
  readonly #nodePortMax: number;
  /** Cookies of UDP sockets that do not connect, by address × 65536 + port. */
  readonly #unconnected = new Map<number, number>();
  /** Of the last `#master`: what its key held. */
  #address = 0;
  #scope: number = EXTERNAL;
  #lastCookie = 0;

  constructor(walk: Walk, prandom: Stream, choice: BackendChoice, nodePortMax: number) {
    this.#walk = walk;
    this.#prandom = prandom;
    this.#choice = choice;
    this.#affinity = new Affinity(walk);
    this.#nodePortMax = nodePortMax;
  }

  /** False when connect(2) fails and nothing is sent. */
  connect(packet: Packet, verdict: Verdict): boolean {
    this.#walk.counts[CONNECT]! += 1;
    verdict.first = true;
    this.cookie = this.#newCookie();
    return this.#forward('connect4', packet, this.cookie, verdict);
  }

  /** One datagram of an unconnected UDP socket. False when sendmsg(2) fails. */
  sendmsg(packet: Packet, verdict: Verdict): boolean {
    this.#walk.counts[SENDMSG]! += 1;
    const passed = this.#forward(
      'sendmsg4',
      packet,
      this.#cookieOf(packet.source, packet.sourcePort),
      verdict,
    );
    verdict.connected = false;
    return passed;
  }

  /** Whether the address and port are an unconnected UDP socket that has sent something. */
  isUnconnected(address: number, port: number): boolean {
    return this.#unconnected.has(address * 65_536 + port);
  }

  /** A datagram for an unconnected UDP socket: the application is told of the service, if one sent it. */
  recvmsg(packet: Packet, verdict: Verdict): void {
    this.#walk.counts[RECVMSG]! += 1;
    const cookie = this.#cookieOf(packet.destination, packet.destinationPort);
    const element = this.#reverse('recvmsg4', cookie, verdict.source, verdict.sourcePort, packet);
    if (element < 0) return;
    const { reverseSk } = this.#walk.flows;
    verdict.source = swap32(reverseSk.value(element, 0));
    verdict.sourcePort = swap16(reverseSk.value(element, 1) & 0xffff);
  }

  /** Whom a socket is told to be connected to: `verdict.destination` is the peer as the kernel knows it. */
  getpeername(packet: Packet, cookie: number, verdict: Verdict): void {
    this.#walk.counts[GETPEERNAME]! += 1;
    const { destination, destinationPort } = packet;
    const element = this.#reverse('getpeername4', cookie, destination, destinationPort, packet);
    if (element < 0) return;
    const { reverseSk } = this.#walk.flows;
    verdict.destination = swap32(reverseSk.value(element, 0));
    verdict.destinationPort = swap16(reverseSk.value(element, 1) & 0xffff);
  }

  #forward(hook: string, packet: Packet, cookie: number, verdict: Verdict): boolean {
    const walk = this.#walk;
    const { services } = walk;
    const { destination, destinationPort, protocol } = packet;
    const inHost = packet.origin === FROM_HOST;
    let master = this.#master(destination, destinationPort, protocol);
    if (master < 0) master = this.#surrogate(destination, destinationPort, protocol, inHost);
    if (master < 0) return true;
    if (services.count(master) === 0) return this.#refuse(hook, verdict, 'no backends: EHOSTUNREACH');
    // External IPs and host ports are taken for services only where they are this host's own address.
    const flags = services.flags(master);
    const own = (flags & EXTERNAL_IP) !== 0 || ((flags & HOST_PORT) !== 0 && !isLoopback(destination));
    if (own && !walk.isThisHost(destination)) return true;

    const revNat = services.revNat(master);
    const netns = inHost ? HOST_NETNS : packet.source;
    const sticks = (flags & AFFINITY) !== 0;
    let backend = -1;
    let id = sticks ? this.#affinity.ofNetns(netns, revNat, services.affinitySeconds(master)) : 0;
    if (id !== 0) backend = this.#stuck(id, destinationPort, protocol, verdict);
    const stuck = backend >= 0;
    if (!stuck) {
      const slot = ((protocol === UDP ? cookie : this.#random()) % services.count(master)) + 1;
      const entry = walk.service(this.#address, destinationPort, slot, protocol, this.#scope);
      if (entry < 0) return this.#refuse(hook, verdict, 'slot missing: EHOSTUNREACH');
      verdict.endpoint = services.endpoint(entry);
      id = services.backendId(entry);
      backend = walk.backend(id);
      if (backend < 0) return this.#refuse(hook, verdict, 'backend missing: EHOSTUNREACH');
    }
    if (sticks && !stuck) this.#affinity.keepNetns(netns, revNat, id);
    verdict.destination = services.backendAddress(backend);
    verdict.destinationPort = services.backendPort(backend);
    if (!this.#remember(packet, cookie, revNat, verdict)) {
      return this.#refuse(hook, verdict, 'no reverse entry: ENOMEM');
    }
    verdict.connected = true;
    walk.recorder?.step(hook, `to ${formatIpv4(verdict.destination)}:${verdict.destinationPort}`);
    return true;
  }

  /** The frontend at an address: its master, in the inner scope where there are two. Element, or -1. */
  #master(address: number, port: number, protocol: number): number {
    const walk = this.#walk;
    this.#address = address;
    this.#scope = EXTERNAL;
    const master = walk.service(address, port, 0, protocol, EXTERNAL);
    if (master < 0 || ((walk.services.flags(master) >>> 8) & TWO_SCOPES) === 0) return master;
    this.#scope = INTERNAL;
    return walk.service(address, port, 0, protocol, INTERNAL);
  }

  /** A node port at an address of any node, or a host port at one of this host, under 0.0.0.0. */
  #surrogate(address: number, port: number, protocol: number, inHost: boolean): number {
    const walk = this.#walk;
    const inRange = port >= NODE_PORT_MIN && port <= this.#nodePortMax;
    const loopback = inHost && isLoopback(address);
    if (inRange ? !loopback && !walk.isNode(address) : !loopback && !walk.isThisHost(address)) return -1;
    const master = this.#master(0, port, protocol);
    const kind = inRange ? NODE_PORT : HOST_PORT;
    return master >= 0 && (walk.services.flags(master) & kind) !== 0 ? master : -1;
  }

  /** The backend of an affinity entry, -1 when it is gone. */
  #stuck(id: number, port: number, protocol: number, verdict: Verdict): number {
    const element = this.#walk.backend(id);
    if (element >= 0)
      verdict.endpoint = this.#choice.rowOf(element, this.#address, port, protocol, this.#scope);
    return element;
  }

  /** What recvmsg(2) and getpeername(2) will answer: the service's address. */
  #remember(packet: Packet, cookie: number, revNat: number, verdict: Verdict): boolean {
    const walk = this.#walk;
    const map = walk.flows.socket(cookie, verdict.destination, verdict.destinationPort);
    const address = swap32(packet.destination);
    const rest = (swap16(packet.destinationPort) | (swap16(revNat) << 16)) >>> 0;
    let element = walk.lookup(map, REVERSE_SK_LOOKUP);
    if (element >= 0 && map.value(element, 0) === address && map.value(element, 1) === rest) return true;
    element = walk.update(map, REVERSE_SK_UPDATE, false);
    if (element < 0) return false;
    map.setValue(element, 0, address);
    map.setValue(element, 1, rest);
    return true;
  }

  /** Element of `reverseSk` for a socket's peer, while its service is the same and has backends; else -1. */
  #reverse(hook: string, cookie: number, peer: number, peerPort: number, packet: Packet): number {
    const walk = this.#walk;
    const map = walk.flows.socket(cookie, peer, peerPort);
    const element = walk.lookup(map, REVERSE_SK_LOOKUP);
    if (element < 0) return -1;
    const address = swap32(map.value(element, 0));
    const port = swap16(map.value(element, 1) & 0xffff);
    const revNat = swap16(map.value(element, 1) >>> 16);
    let master = this.#master(address, port, packet.protocol);
    if (master < 0) master = this.#surrogate(address, port, packet.protocol, packet.origin === FROM_HOST);
    const { services } = walk;
    if (master >= 0 && services.revNat(master) === revNat && services.count(master) > 0) {
      walk.recorder?.step(hook, `told as ${formatIpv4(address)}:${port}`);
      return element;
    }
    walk.flows.socket(cookie, peer, peerPort);
    walk.remove(map, REVERSE_SK_DELETE);
    return -1;
  }

  #cookieOf(address: number, port: number): number {
    const socket = address * 65_536 + port;
    let cookie = this.#unconnected.get(socket);
    if (cookie === undefined) {
      cookie = this.#newCookie();
      this.#unconnected.set(socket, cookie);
    }
    return cookie;
  }

  #newCookie(): number {
    return ++this.#lastCookie;
  }

  #random(): number {
    this.#walk.counts[PRANDOM]! += 1;
    return this.#prandom.uint32();
  }

  #refuse(hook: string, verdict: Verdict, why: string): false {
    verdict.fate = REJECT;
    this.#walk.recorder?.step(hook, why);
    return false;
  }
}

function isLoopback(address: number): boolean {
  return address >>> 24 === LOOPBACK_NETWORK;
}
