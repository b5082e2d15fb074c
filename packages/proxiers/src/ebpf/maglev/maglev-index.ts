import { jhash3 } from '@vipsim/sim-core';

/**
 * The slot of a Maglev table that a packet selects. The destination address is left out, so that a client gets the
 * same backend behind every address of a service whose table is the same; the protocol is not. Words are what a
 * little-endian processor reads of fields in network order. Services with session affinity hash source port 0.
 * Source: hash_from_tuple_v4 and hash_from_tuple_v6, bpf/lib/hash.h; bpf/lib/jhash.h.
 * Not certain: IPv6 in the latest releases, whose function takes the ports apart from the tuple; the order of its
 * words is that of the ones before.
 */

/** Makes jhash3 its final mixing alone: the words are not started from anything. */
const NO_START = -(0xdeadbeef + 12);

/** Address and ports in host order; `seed` is that of IPv4, `m` the number of slots. */
export function maglevIndex(
  source: number,
  sourcePort: number,
  destinationPort: number,
  protocol: number,
  seed: number,
  m: number,
): number {
  return jhash3(swapped(source), portsWord(sourcePort, destinationPort), protocol, seed) % m;
}

/** The source address as four words in host order; `seed` is that of IPv6. */
export function maglevIndexIpv6(
  source1: number,
  source2: number,
  source3: number,
  source4: number,
  sourcePort: number,
  destinationPort: number,
  protocol: number,
  seed: number,
  m: number,
): number {
  let a = swapped(source1) | 0;
  let b = swapped(source2) | 0;
  let c = swapped(source3) | 0;
  for (let round = 0; round < 2; round++) {
    if (round === 1) {
      a = (a + swapped(source4)) | 0;
      b = (b + portsWord(sourcePort, destinationPort)) | 0;
      c = (c + protocol) | 0;
    }
    a = (a - c) ^ rotated(c, 4);
    c = (c + b) | 0;
    b = (b - a) ^ rotated(a, 6);
    a = (a + c) | 0;
    c = (c - b) ^ rotated(b, 8);
    b = (b + a) | 0;
    a = (a - c) ^ rotated(c, 16);
    c = (c + b) | 0;
    b = (b - a) ^ rotated(a, 19);
    a = (a + c) | 0;
    c = (c - b) ^ rotated(b, 4);
    b = (b + a) | 0;
  }
  return jhash3(a + seed, b, c, NO_START) % m;
}

/** Both ports, the source's first, as one word. */
export function portsWord(sourcePort: number, destinationPort: number): number {
  return swapped((sourcePort << 16) | destinationPort);
}

/** The bytes of a word in the opposite order. */
export function swapped(word: number): number {
  return ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
}

function rotated(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}
