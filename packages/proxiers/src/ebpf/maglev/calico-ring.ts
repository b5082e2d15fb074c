import { jhash } from '@vipsim/sim-core';
import { swapped } from './maglev-index.ts';
import { takeTurns } from './turns.ts';

/**
 * Calico's Maglev table: endpoints, named `10.0.0.1:8080` or `[fd00::1]:8080`, sorted by name, take slots in turn,
 * without weights. In the kernel a table is as many entries of a hash map, {address, port, protocol, slot} to an
 * endpoint, each written by a system call of its own; so a change of backends becomes visible slot by slot.
 * Source: felix/bpf/consistenthash/consistenthash.go, felix/bpf-gpl/maglev.h and jenkins_hash.h.
 * Not certain: the two hash functions, which whoever builds the table hands in; by default the ones of Calico's own
 * tests, 32-bit FNV-1 twice. How many slots there are follows from bpfMaglevMaxEndpointsPerService; an earlier
 * version had 65,521.
 */

/** A 32-bit hash of bytes, as the number that a little-endian processor reads of the digest. */
export type CalicoHash = (bytes: Uint8Array) => number;

export interface CalicoHashes {
  readonly offset: CalicoHash;
  readonly skip: CalicoHash;
}

export const CALICO_TEST_HASHES: CalicoHashes = { offset: fnv1, skip: fnv1 };
export const CALICO_SLOTS = 65_521;

/** Written before the name: the two hashes differ by that alone, if they are of the same kind. */
const OFFSET_SEED = 0x00;
const SKIP_SEED = 0x0a;
const JHASH_SEED = 0xca71c0;

export interface CalicoRing {
  /** Endpoint names, sorted, each once. */
  readonly names: readonly string[];
  /** Index into `names` by slot. */
  readonly slots: Uint32Array;
  /** Slots looked at. */
  readonly probes: number;
}

/**
 * `slots` is a prime.
 * @throws RangeError without endpoints: there is no table then.
 */
export function calicoRing(
  endpoints: readonly string[],
  slots: number = CALICO_SLOTS,
  hashes: CalicoHashes = CALICO_TEST_HASHES,
): CalicoRing {
  if (endpoints.length === 0) throw new RangeError('Maglev table without endpoints');
  const names = [...new Set(endpoints)].sort();
  const table = new Uint32Array(slots);
  const probes = takeTurns(
    {
      places: Int32Array.from(names, (name) => hashes.offset(named(OFFSET_SEED, name)) % slots),
      skips: Int32Array.from(names, (name) => (hashes.skip(named(SKIP_SEED, name)) % (slots - 1)) + 1),
      ids: Uint32Array.from(names, (_, index) => index),
      count: names.length,
    },
    table,
    new Uint8Array(slots),
  );
  return { names, slots: table, probes };
}

const words = new Uint32Array(5);

/**
 * The slot that an IPv4 packet selects, addresses and ports in host order. Unlike Cilium's it depends on the
 * destination address; ports are hashed in host order.
 */
export function calicoIndex(
  source: number,
  sourcePort: number,
  destination: number,
  destinationPort: number,
  protocol: number,
  slots: number,
): number {
  words[0] = swapped(source);
  words[1] = swapped(destination);
  words[2] = sourcePort;
  words[3] = destinationPort;
  words[4] = protocol;
  return jhash(words, 20, JHASH_SEED) % slots;
}

/** FNV-1, 32 bits: the digest is big-endian, and read as if it were not. */
export function fnv1(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < bytes.length; i++) hash = Math.imul(hash, 0x01000193) ^ bytes[i]!;
  return swapped(hash);
}

function named(seed: number, name: string): Uint8Array {
  const bytes = new Uint8Array(name.length + 1);
  bytes[0] = seed;
  for (let i = 0; i < name.length; i++) bytes[i + 1] = name.charCodeAt(i);
  return bytes;
}
