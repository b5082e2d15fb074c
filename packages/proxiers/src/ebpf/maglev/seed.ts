/** Cilium's --bpf-lb-maglev-hash-seed: three 32-bit seeds in one text. */
export interface MaglevSeed {
  /** Of the backends' permutations. */
  readonly murmur: number;
  /** Of the packets' hashes, by address family. */
  readonly ipv4: number;
  readonly ipv6: number;
}

/** As Cilium ships it: every node of every cluster that leaves it alone builds the same tables. */
export const DEFAULT_MAGLEV_SEED = 'JLfvgnHc2kaSUFaI';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const CHARACTERS = 16;

/**
 * Base64 of 12 bytes, three big-endian numbers (pkg/maglev/maglev.go).
 * @throws RangeError with what was wanted.
 */
export function readMaglevSeed(text: string): MaglevSeed {
  const wanted = wantedOfSeed(text);
  if (wanted !== '') throw new RangeError(`Maglev hash seed ${JSON.stringify(text)}: wanted ${wanted}`);
  const bytes: number[] = [];
  for (let at = 0; at < CHARACTERS; at += 4) {
    let bits = 0;
    for (let i = 0; i < 4; i++) bits = (bits << 6) | ALPHABET.indexOf(text[at + i]!);
    bytes.push(bits >>> 16, (bits >>> 8) & 0xff, bits & 0xff);
  }
  const number = (at: number): number =>
    ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
  return { murmur: number(0), ipv4: number(4), ipv6: number(8) };
}

/** What was wanted instead of this text; empty if it will do. 12 bytes fill 16 characters without padding. */
export function wantedOfSeed(text: string): string {
  const fits = text.length === CHARACTERS && [...text].every((character) => ALPHABET.includes(character));
  return fits ? '' : 'base64 of 12 bytes, which is 16 characters (head -c12 /dev/urandom | base64)';
}
