import { formatIpv4, type Packet, type Stream } from '@vipsim/sim-core';
import type { HashMap } from '../maps/hash-map.ts';
import { calicoIndex, CALICO_SLOTS } from '../maglev/calico-ring.ts';
import { AFFINITY_LOOKUP, AFFINITY_UPDATE, BACKENDS_LOOKUP, IPCACHE_LOOKUP, PRANDOM } from '../operations.ts';
import { ANY_NODE, DROP_COUNT, EXTERNAL_LOCAL, INTERNAL_LOCAL, MAGLEV, type NatMaps } from './nat-maps.ts';
import { FRONTEND_LOOKUP, MAGLEV_LOOKUP } from './operations.ts';
import type { CalicoWalk } from './walk.ts';

/** What a lookup comes to. */
export const NO_SERVICE = 0;
export const FOUND = 1;
/** No endpoint, or none at the ordinal that was drawn. */
export const NO_BACKEND = 2;
/** The client is in none of the source ranges. */
export const FORBIDDEN = 3;

/** Where the program stands that asks. */
export const AT_SOCKET = 0;
export const AT_WORKLOAD = 1;
export const AT_DEVICE = 2;

const SECOND = 1_000_000_000;
const HALF = 4_294_967_296;

/**
 * From a service's address to an endpoint, for the first packet of a flow.
 * Models: the trie with source ranges and their drop entry; node ports of other nodes by a route and the surrogate
 * 255.255.255.255 for what leaves this node; the local count where a policy is Local (local endpoints come first);
 * an ordinal by chance, from 0, once; clients that stick; Maglev for frontends outside.
 * Source: calico_nat_lookup, felix/bpf-gpl/nat_lookup.h; maglev.h. Sockets ask as 0.0.0.0, so that all of a node's
 * stick together. Not modelled: a node that gets a flow through the tunnel draws once more among its own endpoints.
 */
export class NatLookup {
  /** Of the last lookup that found an endpoint; the row is -1 if it is not known. */
  address = 0;
  port = 0;
  endpoint = -1;
  /** It was a Maglev table that gave it. */
  byTable = false;
  readonly #walk: CalicoWalk;
  readonly #maps: NatMaps;
  readonly #prandom: Stream;

  constructor(walk: CalicoWalk, maps: NatMaps, prandom: Stream) {
    this.#walk = walk;
    this.#maps = maps;
    this.#prandom = prandom;
  }

  /** @param source of the client; 0 at a socket. */
  lookup(packet: Packet, source: number, where: number): number {
    const maps = this.#maps;
    const { destination, destinationPort, protocol } = packet;
    this.byTable = false;
    this.endpoint = -1;
    let frontend = this.#frontend(destination, destinationPort, protocol, source);
    if (frontend < 0) {
      if (where === AT_DEVICE || destination === ANY_NODE) return NO_SERVICE;
      if (!maps.isHost(this.#route(destination))) return NO_SERVICE;
      frontend = this.#frontend(ANY_NODE, destinationPort, protocol, source);
      if (frontend < 0) return NO_SERVICE;
    }
    let count = maps.count(frontend);
    if (count === DROP_COUNT) return FORBIDDEN;
    const flags = maps.flags(frontend);
    if (where === AT_DEVICE && (flags & MAGLEV) !== 0) return this.#byTable(packet);
    if ((flags & (INTERNAL_LOCAL | EXTERNAL_LOCAL)) !== 0) {
      const inside = where !== AT_DEVICE || maps.isInCluster(this.#route(source));
      if ((flags & (inside ? INTERNAL_LOCAL : EXTERNAL_LOCAL)) !== 0) count = maps.local(frontend);
    }
    if (count === 0) return NO_BACKEND;
    const affinityS = maps.affinitySeconds(frontend);
    if (affinityS > 0 && this.#stuck(packet, source, affinityS)) return FOUND;
    if (!this.#draw(maps.id(frontend), count)) return NO_BACKEND;
    if (affinityS > 0) this.#stick(packet, source);
    return FOUND;
  }

  /** The first packet of a socket that is connected to an endpoint: the trie is asked, and a route, in vain. */
  confirmNoService(
    tuple: { readonly destination: number; readonly destinationPort: number },
    protocol: number,
    source: number,
  ): void {
    if (this.#frontend(tuple.destination, tuple.destinationPort, protocol, source) < 0)
      this.#route(tuple.destination);
  }

  /** Whether an address is a frontend's, for anybody; not counted: no program asks. */
  isFrontend(packet: Packet): boolean {
    return (
      this.#maps
        .frontend(packet.destination, packet.destinationPort, packet.protocol, packet.source)
        .lookup() >= 0
    );
  }

  /** Whether outside packets to an address are given out by a Maglev table, also in the middle of a flow. */
  isTabled(packet: Packet): boolean {
    const { destination, destinationPort, protocol, source } = packet;
    const frontend = this.#maps.frontend(destination, destinationPort, protocol, source).lookup();
    return frontend >= 0 && (this.#maps.flags(frontend) & MAGLEV) !== 0;
  }

  /** Whether an endpoint is on another node: one route. */
  isRemote(address: number): boolean {
    return this.#maps.isRemotePod(this.#route(address));
  }

  #frontend(address: number, port: number, protocol: number, source: number): number {
    const trie = this.#maps.frontend(address, port, protocol, source);
    const walk = this.#walk;
    const element = walk.prefix(
      trie,
      FRONTEND_LOOKUP,
      walk.recorder === undefined
        ? ''
        : `${formatIpv4(address)}:${port} protocol ${protocol} from ${formatIpv4(source)}`,
    );
    if (element >= 0 && walk.recorder !== undefined) {
      const maps = this.#maps;
      const count = maps.count(element) === DROP_COUNT ? 'drop' : String(maps.count(element));
      walk.recorder.step(
        trie.spec.name,
        `id ${maps.id(element)} count ${count} local ${maps.local(element)}`,
      );
    }
    return element;
  }

  #route(address: number): number {
    const walk = this.#walk;
    return walk.prefix(
      this.#maps.route(address),
      IPCACHE_LOOKUP,
      walk.recorder === undefined ? '' : formatIpv4(address),
    );
  }

  #draw(id: number, count: number): boolean {
    const walk = this.#walk;
    walk.counts[PRANDOM]! += 1;
    const ordinal = this.#prandom.uint32() % count;
    const map = this.#maps.backend(id, ordinal);
    return this.#take(
      map,
      walk.hash(map, BACKENDS_LOOKUP, walk.recorder === undefined ? '' : `${id}:${ordinal}`),
    );
  }

  #byTable(packet: Packet): number {
    const walk = this.#walk;
    const { source, sourcePort, destination, destinationPort, protocol } = packet;
    const ordinal = calicoIndex(source, sourcePort, destination, destinationPort, protocol, CALICO_SLOTS);
    const map = this.#maps.slot(destination, destinationPort, protocol, ordinal);
    this.byTable = true;
    const text = walk.recorder === undefined ? '' : `slot ${ordinal} of ${CALICO_SLOTS}`;
    return this.#take(map, walk.hash(map, MAGLEV_LOOKUP, text)) ? FOUND : NO_BACKEND;
  }

  #take(map: HashMap, element: number): boolean {
    if (element < 0) return false;
    this.address = map.value(element, 0);
    this.port = map.value(element, 1);
    this.endpoint = map.value(element, 2) | 0;
    return true;
  }

  #stuck(packet: Packet, source: number, affinityS: number): boolean {
    const walk = this.#walk;
    const { destination, destinationPort, protocol } = packet;
    const map = this.#maps.client(destination, destinationPort, protocol, source);
    const text = walk.recorder === undefined ? '' : `client ${formatIpv4(source)}`;
    const element = walk.lru(map, AFFINITY_LOOKUP, text);
    if (element < 0) return false;
    const sinceNs = map.value(element, 3) + map.value(element, 4) * HALF;
    if (walk.nowNs - sinceNs > affinityS * SECOND) return false;
    this.address = map.value(element, 0);
    this.port = map.value(element, 1);
    this.endpoint = map.value(element, 2) | 0;
    return true;
  }

  #stick(packet: Packet, source: number): void {
    const walk = this.#walk;
    const { destination, destinationPort, protocol } = packet;
    const map = this.#maps.client(destination, destinationPort, protocol, source);
    const element = walk.put(
      map,
      AFFINITY_UPDATE,
      walk.recorder === undefined ? '' : `client ${formatIpv4(source)}`,
    );
    if (element < 0) return;
    map.setValue(element, 0, this.address);
    map.setValue(element, 1, this.port);
    map.setValue(element, 2, this.endpoint);
    map.setValue(element, 3, walk.nowNs % HALF);
    map.setValue(element, 4, Math.floor(walk.nowNs / HALF));
  }
}
