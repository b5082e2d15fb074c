import { swap32, type Stream } from '@vipsim/sim-core';
import { HashMap } from '../maps/hash-map.ts';
import { LruHashMap } from '../maps/lru-hash-map.ts';
import { KATRAN_RING_SIZE, KATRAN_VIPS_MAX } from '../maglev/katran-ring.ts';

export const VIPS_MAX = KATRAN_VIPS_MAX;
/** Places in the array of reals; number 0 means none, so that one is lost. */
export const REALS_MAX = 4096;
/** Connections that all forwarding cores remember together (KatranConfig::LruSize). */
export const LRU_SIZE = 8_000_000;
/** Cores that have a map of their own; others share a small one. */
export const CORES_MAX = 128;
const FALLBACK_LRU_SIZE = 1000;
export const RING_SIZE = KATRAN_RING_SIZE;

/** vip_meta flags: leave the client's port out of the hash (F_HASH_NO_SRC_PORT). */
export const HASH_NO_SOURCE_PORT = 1;

/** Bytes that an array map charges besides its values. */
const ARRAY_HEADER = 312;

/**
 * Katran's maps. Source: katran/lib/bpf/{balancer_maps,balancer_structs,balancer_consts}.h.
 * The kernel takes the rings of all 512 VIPs at once; the model holds those in use, as 16-bit numbers.
 * Not modelled: maps of QUIC, source routing, decapsulation and the optional global LRU.
 */
export class KatranMaps {
  readonly vips: HashMap;
  /** Connections by core; the last one is of all cores beyond. */
  readonly lru: readonly LruHashMap[];
  /** Addresses by number. What is deleted stays until its number is given to another. */
  readonly reals = new Uint32Array(REALS_MAX);
  readonly #rings: (Uint16Array | undefined)[] = [];

  constructor(seeds: Stream, cores: number) {
    const vip = { keyBytes: 20, valueBytes: 8, valueWords: 2 };
    this.vips = new HashMap({ name: 'vip_map', ...vip, maxEntries: VIPS_MAX }, seeds.uint32(), true, cores);
    const own = Math.min(cores, CORES_MAX);
    const flow = { keyBytes: 40, valueBytes: 16, valueWords: 3 };
    const lru = Array.from(
      { length: own },
      () =>
        new LruHashMap(
          { name: 'katran_lru', ...flow, maxEntries: Math.floor(LRU_SIZE / own) },
          seeds.uint32(),
          cores,
        ),
    );
    if (cores > CORES_MAX) {
      const fallback = { name: 'fallback_cache', ...flow, maxEntries: FALLBACK_LRU_SIZE };
      lru.push(new LruHashMap(fallback, seeds.uint32(), cores));
    }
    this.lru = lru;
  }

  /** Set the key of `vips`. */
  vip(address: number, port: number, protocol: number): HashMap {
    const { key } = this.vips;
    key[0] = swap32(address);
    key[4] = port | (protocol << 16);
    return this.vips;
  }

  vipFlags(element: number): number {
    return this.vips.value(element, 0);
  }

  vipNumber(element: number): number {
    return this.vips.value(element, 1);
  }

  /** The LRU map of a core, its key set. */
  flow(
    core: number,
    source: number,
    sourcePort: number,
    destination: number,
    destinationPort: number,
    protocol: number,
  ): LruHashMap {
    const map = this.lru[core < CORES_MAX ? core : CORES_MAX]!;
    const { key } = map;
    key[0] = source;
    key[4] = destination;
    key[8] = sourcePort | (destinationPort << 16);
    key[9] = protocol;
    return map;
  }

  /** A real's number at a position of a VIP's ring; 0 where nothing was ever written. */
  ringAt(vip: number, position: number): number {
    const ring = this.#rings[vip];
    return ring === undefined ? 0 : ring[position]!;
  }

  /** The ring of a VIP, to be written. */
  ring(vip: number): Uint16Array {
    return (this.#rings[vip] ??= new Uint16Array(RING_SIZE));
  }

  get ringsUsed(): number {
    return this.#rings.filter((ring) => ring !== undefined).length;
  }

  /** Kernel memory of the rings, used or not. */
  get ringBytes(): number {
    return ARRAY_HEADER + VIPS_MAX * RING_SIZE * 8;
  }

  get realBytes(): number {
    return ARRAY_HEADER + REALS_MAX * 24;
  }
}
