import { netmask, swap16, swap32, type Cidr, type Stream } from '@vipsim/sim-core';
import { HashMap } from '../maps/hash-map.ts';
import { LpmTrie } from '../maps/lpm-trie.ts';
import { LruHashMap } from '../maps/lru-hash-map.ts';

/** bpfMapSizeNATFrontend, bpfMapSizeNATBackend, bpfMapSizeNATAffinity, bpfMapSizeConntrack, as they are shipped. */
export const FRONTENDS_DEFAULT = 65_536;
export const BACKENDS_DEFAULT = 262_144;
const AFFINITY_MAX = 65_536;
const CONNTRACK_MAX = 512_000;
const ROUTES_MAX = 262_144;
const SOCKETS_MAX = 510_000;
/** Room for the tables of 100 frontends. */
export const MAGLEV_ENTRIES = 65_537 * 100;

/** Bits of a frontend's key: address, port and protocol; with the client's address behind. */
export const PLAIN_PREFIX = 56;

/** `count` of the entry that drops what no source range holds. */
export const DROP_COUNT = 0xffffffff;
/** Flags of a frontend (NAT_FLG_*). */
export const EXTERNAL_LOCAL = 0x1;
export const INTERNAL_LOCAL = 0x2;
export const MAGLEV = 0x8;

/** The surrogate under which node ports of other nodes are found: 255.255.255.255. */
export const ANY_NODE = 0xffffffff;

// Words of a frontend's value.
const ID = 0;
const COUNT = 1;
const LOCAL = 2;
const AFFINITY_S = 3;
const FLAGS = 4;

/** Flags of a route (routes.h). */
const ROUTE_WORKLOAD = 0x2;
const ROUTE_LOCAL = 0x4;
const ROUTE_HOST = 0x8;

export interface FrontendValue {
  readonly id: number;
  readonly count: number;
  readonly local: number;
  readonly affinityS: number;
  readonly flags: number;
}

/**
 * Calico's maps: the first level from an address (and client) to a service's id and counts, the second from id and
 * ordinal to the endpoint itself; clients that stick; Maglev tables entry by entry; connections; routes.
 * Source: felix/bpf-gpl/{nat_types,conntrack_types,routes,sendrecv}.h. Ports are kept in host order, so their bytes
 * stand low first in a trie's key. Assumed: sizes of the map of sockets that were translated.
 * Not modelled: IP sets and policy; routes of single remote pods (a node's range stands for them).
 */
export class NatMaps {
  readonly frontends: LpmTrie;
  readonly backends: HashMap;
  readonly affinity: LruHashMap;
  readonly maglev: HashMap;
  readonly conntrack: LruHashMap;
  readonly sockets: LruHashMap;
  readonly routes: LpmTrie;

  constructor(seeds: Stream, cpus: number, sizes: { readonly frontends: number; readonly backends: number }) {
    const { frontends, backends } = sizes;
    const lru = (name: string, keyBytes: number, valueBytes: number, valueWords: number, max: number) =>
      new LruHashMap({ name, keyBytes, valueBytes, valueWords, maxEntries: max }, seeds.uint32(), cpus);
    const frontend = { keyBytes: 16, valueBytes: 20, valueWords: 5 };
    this.frontends = new LpmTrie({ name: 'cali_v4_nat_fe', ...frontend, maxEntries: frontends });
    const backend = { keyBytes: 8, valueBytes: 8, valueWords: 3 };
    this.backends = new HashMap({ name: 'cali_v4_nat_be', ...backend, maxEntries: backends }, seeds.uint32());
    this.affinity = lru('cali_v4_nat_aff', 16, 16, 5, AFFINITY_MAX);
    const slot = { keyBytes: 12, valueBytes: 8, valueWords: 3 };
    this.maglev = new HashMap(
      { name: 'cali_v4_mag_be', ...slot, maxEntries: MAGLEV_ENTRIES },
      seeds.uint32(),
    );
    this.conntrack = lru('cali_v4_ct', 16, 88, 11, CONNTRACK_MAX);
    this.sockets = lru('cali_v4_ct_nats', 16, 8, 2, SOCKETS_MAX);
    const route = { keyBytes: 8, valueBytes: 16, valueWords: 2 };
    this.routes = new LpmTrie({ name: 'cali_v4_routes', ...route, maxEntries: ROUTES_MAX });
  }

  /** The sizes that the maps would have to have. */
  enlarge(frontends: number, backends: number): void {
    if (frontends > this.frontends.maxEntries) this.frontends.enlarge(frontends);
    if (backends > this.backends.maxEntries) this.backends.enlarge(backends);
  }

  /** Set the key of `frontends`. */
  frontend(address: number, port: number, protocol: number, source: number): LpmTrie {
    const { key } = this.frontends;
    key[0] = address;
    key[1] = (swap16(port) << 16) | (protocol << 8) | (source >>> 24);
    key[2] = source << 8;
    return this.frontends;
  }

  /** Write a frontend, for all clients or those of a range. False when the trie is full: ENOSPC. */
  writeFrontend(
    address: number,
    port: number,
    protocol: number,
    range: Cidr | undefined,
    value: FrontendValue,
  ): boolean {
    const source = range === undefined ? 0 : (range.address & netmask(range.prefix)) >>> 0;
    const trie = this.frontend(address, port, protocol, source);
    const element = trie.update(PLAIN_PREFIX + (range?.prefix ?? 0));
    if (element < 0) return false;
    trie.setValue(element, ID, value.id);
    trie.setValue(element, COUNT, value.count);
    trie.setValue(element, LOCAL, value.local);
    trie.setValue(element, AFFINITY_S, value.affinityS);
    trie.setValue(element, FLAGS, value.flags);
    return true;
  }

  id(element: number): number {
    return this.frontends.value(element, ID);
  }

  count(element: number): number {
    return this.frontends.value(element, COUNT);
  }

  local(element: number): number {
    return this.frontends.value(element, LOCAL);
  }

  affinitySeconds(element: number): number {
    return this.frontends.value(element, AFFINITY_S);
  }

  flags(element: number): number {
    return this.frontends.value(element, FLAGS);
  }

  /** Set the key of `backends`. Ordinals count from 0. */
  backend(id: number, ordinal: number): HashMap {
    this.backends.key[0] = id;
    this.backends.key[1] = ordinal;
    return this.backends;
  }

  /** Set the key of `maglev`. */
  slot(address: number, port: number, protocol: number, ordinal: number): HashMap {
    const { key } = this.maglev;
    key[0] = swap32(address);
    key[1] = port | (protocol << 16);
    key[2] = ordinal;
    return this.maglev;
  }

  /** Set the key of `affinity`: a frontend and a client. */
  client(address: number, port: number, protocol: number, source: number): LruHashMap {
    const { key } = this.affinity;
    key[0] = swap32(address);
    key[1] = port | (protocol << 16);
    key[2] = swap32(source);
    key[3] = 0;
    return this.affinity;
  }

  /** Addresses of a node, or its pods' range. */
  routeToNode(address: number): void {
    this.#route(address, 32, ROUTE_HOST, address);
  }

  routeToPods(range: Cidr, node: number): void {
    this.#route(range.address, range.prefix, ROUTE_WORKLOAD, node);
  }

  routeToLocalPod(address: number): void {
    this.#route(address, 32, ROUTE_WORKLOAD | ROUTE_LOCAL, 0);
  }

  /** Set the key of `routes`. */
  route(address: number): LpmTrie {
    this.routes.key[0] = address;
    return this.routes;
  }

  isHost(route: number): boolean {
    return route >= 0 && (this.routes.value(route, 0) & ROUTE_HOST) !== 0;
  }

  isInCluster(route: number): boolean {
    return route >= 0 && (this.routes.value(route, 0) & (ROUTE_HOST | ROUTE_WORKLOAD)) !== 0;
  }

  /** A pod on another node. */
  isRemotePod(route: number): boolean {
    return route >= 0 && (this.routes.value(route, 0) & (ROUTE_WORKLOAD | ROUTE_LOCAL)) === ROUTE_WORKLOAD;
  }

  #route(address: number, prefix: number, flags: number, nextHop: number): void {
    const trie = this.route((address & netmask(prefix)) >>> 0);
    const element = trie.update(prefix);
    if (element < 0) return;
    trie.setValue(element, 0, flags);
    trie.setValue(element, 1, nextHop);
  }
}

/** Write an endpoint into an element of `backends` or `maglev`; the row is the model's own. */
export function writeEndpoint(
  map: HashMap,
  element: number,
  address: number,
  port: number,
  row: number,
): void {
  map.setValue(element, 0, address);
  map.setValue(element, 1, port);
  map.setValue(element, 2, row);
}
