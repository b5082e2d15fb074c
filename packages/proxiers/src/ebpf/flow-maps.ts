import { swap16, swap32, TCP, type Stream } from '@vipsim/sim-core';
import type { MapSpec } from './buckets.ts';
import { HashMap } from './hash-map.ts';
import { LruHashMap } from './lru-hash-map.ts';

/** Entries with dynamic sizing off (pkg/option): CT TCP, CT any, SNAT and neighbours, sockets. */
export const CT_TCP_MAX = 524_288;
export const CT_ANY_MAX = 262_144;
export const SNAT_MAX = 524_288;
export const REVERSE_SK_MAX = 262_144;
/** ENDPOINTS_MAP_SIZE: local endpoints of a node. */
export const LXC_MAX = 65_535;

/** Flags of a tuple. */
export const TUPLE_OUT = 0;
export const TUPLE_IN = 1;
export const TUPLE_RELATED = 2;
export const TUPLE_SERVICE = 4;

/**
 * The maps that programs write as packets and sockets come: tracked connections, translations of sources, sockets
 * that were connected to a service, neighbours; and the node's own endpoints, which the agent writes.
 * Layouts: tuples are destination 4, source 4, destination port 2, source port 2, protocol 1, flags 1 (14 bytes,
 * ports in network order); a socket's key is cookie 8, address 4, port 2, pad 2.
 * Source: bpf/lib/conntrack_map.h, bpf/lib/nat.h, bpf/bpf_sock.c. The values keep the words that are modelled.
 */
export class FlowMaps {
  readonly ctTcp: LruHashMap;
  readonly ctAny: LruHashMap;
  readonly snat: LruHashMap;
  readonly reverseSk: LruHashMap;
  readonly neighbours: LruHashMap;
  readonly lxc: HashMap;

  constructor(cpus: number, seeds: Stream) {
    const lru = (spec: MapSpec): LruHashMap => new LruHashMap(spec, seeds.uint32(), cpus);
    const tuple = { keyBytes: 14, valueBytes: 56, valueWords: 4 };
    this.ctTcp = lru({ name: 'cilium_ct4_global', ...tuple, maxEntries: CT_TCP_MAX });
    this.ctAny = lru({ name: 'cilium_ct_any4_global', ...tuple, maxEntries: CT_ANY_MAX });
    const snat = { keyBytes: 14, valueBytes: 40, valueWords: 2 };
    this.snat = lru({ name: 'cilium_snat_v4_external', ...snat, maxEntries: SNAT_MAX });
    const socket = { keyBytes: 16, valueBytes: 8, valueWords: 2 };
    this.reverseSk = lru({ name: 'cilium_lb4_reverse_sk', ...socket, maxEntries: REVERSE_SK_MAX });
    const neighbour = { keyBytes: 4, valueBytes: 8, valueWords: 1 };
    this.neighbours = lru({ name: 'cilium_nodeport_neigh4', ...neighbour, maxEntries: SNAT_MAX });
    const endpoint = { keyBytes: 20, valueBytes: 48, valueWords: 1 };
    this.lxc = new HashMap({ name: 'cilium_lxc', ...endpoint, maxEntries: LXC_MAX }, seeds.uint32());
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
