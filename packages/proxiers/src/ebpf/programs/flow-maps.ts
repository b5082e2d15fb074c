import { swap16, swap32, TCP, type Stream } from '@vipsim/sim-core';
import type { MapSpec } from '../maps/buckets.ts';
import { HashMap } from '../maps/hash-map.ts';
import { LruHashMap } from '../maps/lru-hash-map.ts';

/** Entries of the maps that packets fill. */
export interface FlowMapSizes {
  readonly ctTcp: number;
  readonly ctAny: number;
  readonly nat: number;
  readonly neigh: number;
  readonly sockRev: number;
}

export interface FlowMapsOptions {
  readonly sizes?: FlowMapSizes;
  /** Entries of the affinity map. */
  readonly affinity?: number;
  /** bpf-distributed-lru: an LRU list for each CPU. */
  readonly distributedLru?: boolean;
}

/** With dynamic sizing off (pkg/option): two thirds of the connections for NAT, which two entries a flow share. */
export const FLOW_MAP_DEFAULTS: FlowMapSizes = {
  ctTcp: 524_288,
  ctAny: 262_144,
  nat: 524_288,
  neigh: 524_288,
  sockRev: 262_144,
};
/** ENDPOINTS_MAP_SIZE: local endpoints of a node. */
export const LXC_MAX = 65_535;
/** Cilium's default of bpf-lb-affinity-map-max. */
const AFFINITY_MAX = 65_536;

/** Flags of a tuple. */
export const TUPLE_OUT = 0;
export const TUPLE_IN = 1;
export const TUPLE_RELATED = 2;
export const TUPLE_SERVICE = 4;

/** Beside the reverse NAT id in an affinity key: the client is a netns cookie, no address. */
const NETNS_COOKIE = 1 << 16;

/**
 * The maps that programs write as packets and sockets come: tracked connections, translations of sources, sockets
 * that were connected to a service, clients that stick to a backend, neighbours; and the node's own endpoints, which
 * the agent writes.
 * Layouts: tuples are destination 4, source 4, destination port 2, source port 2, protocol 1, flags 1 (14 bytes,
 * ports in network order); a socket's key is cookie 8, address 4, port 2, pad 2, its value address 4, port 2, reverse
 * NAT id 2; an affinity key is client 8, reverse NAT id 2 (network order), flag 1, pad 5, its value last use 8,
 * backend id 4, pad 4.
 * Source: bpf/lib/conntrack_map.h, bpf/lib/nat.h, bpf/lib/lb.h, bpf/bpf_sock.c. The values keep the words that are
 * modelled: conntrack entries those of connection-tracking.ts.
 */
export class FlowMaps {
  readonly ctTcp: LruHashMap;
  readonly ctAny: LruHashMap;
  readonly snat: LruHashMap;
  readonly reverseSk: LruHashMap;
  readonly neighbours: LruHashMap;
  readonly lxc: HashMap;
  /** Value words: second of the last use, backend id. */
  readonly affinity: LruHashMap;

  constructor(cpus: number, seeds: Stream, options: FlowMapsOptions = {}) {
    const { sizes = FLOW_MAP_DEFAULTS, affinity: affinityMax = AFFINITY_MAX } = options;
    const perCpu = options.distributedLru ?? false;
    const lru = (spec: MapSpec): LruHashMap => new LruHashMap(spec, seeds.uint32(), cpus, { perCpu });
    const tuple = { keyBytes: 14, valueBytes: 56, valueWords: 6 };
    this.ctTcp = lru({ name: 'cilium_ct4_global', ...tuple, maxEntries: sizes.ctTcp });
    this.ctAny = lru({ name: 'cilium_ct_any4_global', ...tuple, maxEntries: sizes.ctAny });
    const snat = { keyBytes: 14, valueBytes: 40, valueWords: 2 };
    this.snat = lru({ name: 'cilium_snat_v4_external', ...snat, maxEntries: sizes.nat });
    const socket = { keyBytes: 16, valueBytes: 8, valueWords: 2 };
    this.reverseSk = lru({ name: 'cilium_lb4_reverse_sk', ...socket, maxEntries: sizes.sockRev });
    const neighbour = { keyBytes: 4, valueBytes: 8, valueWords: 1 };
    this.neighbours = lru({ name: 'cilium_nodeport_neigh4', ...neighbour, maxEntries: sizes.neigh });
    const endpoint = { keyBytes: 20, valueBytes: 48, valueWords: 1 };
    this.lxc = new HashMap({ name: 'cilium_lxc', ...endpoint, maxEntries: LXC_MAX }, seeds.uint32());
    const affinity = { keyBytes: 16, valueBytes: 16, valueWords: 2 };
    this.affinity = lru({ name: 'cilium_lb4_affinity', ...affinity, maxEntries: affinityMax });
  }

  /** The conntrack map of a protocol. */
  ct(protocol: number): LruHashMap {
    return protocol === TCP ? this.ctTcp : this.ctAny;
  }

  /** Set the key of `lxc`: the address, then padding and the family (1 is IPv4). */
  endpoint(address: number): HashMap {
    this.lxc.key[0] = swap32(address);
    this.lxc.key[4] = 1;
    return this.lxc;
  }

  /** Set the key of `affinity` for a client's address. */
  affinityOfAddress(address: number, revNat: number): LruHashMap {
    const { key } = this.affinity;
    key[0] = swap32(address);
    key[1] = 0;
    key[2] = swap16(revNat);
    key[3] = 0;
    return this.affinity;
  }

  /** Set the key of `affinity` for the sockets of a network namespace. */
  affinityOfNetns(cookie: number, revNat: number): LruHashMap {
    const { key } = this.affinity;
    key[0] = cookie;
    key[1] = 0;
    key[2] = swap16(revNat) | NETNS_COOKIE;
    key[3] = 0;
    return this.affinity;
  }

  /** Set the key of `reverseSk`: a socket and the backend that it talks to. */
  socket(cookie: number, address: number, port: number): LruHashMap {
    const { key } = this.reverseSk;
    key[0] = cookie;
    key[1] = Math.floor(cookie / 4_294_967_296);
    key[2] = swap32(address);
    key[3] = swap16(port);
    return this.reverseSk;
  }
}

/** Write a tuple into a 14-byte key. Conntrack passes the ports exchanged, NAT as in the packet. */
export function setTuple(
  key: Uint32Array,
  destination: number,
  source: number,
  destinationPort: number,
  sourcePort: number,
  protocol: number,
  flags: number,
): void {
  key[0] = swap32(destination);
  key[1] = swap32(source);
  key[2] = swap16(destinationPort) | (swap16(sourcePort) << 16);
  key[3] = protocol | (flags << 8);
}
