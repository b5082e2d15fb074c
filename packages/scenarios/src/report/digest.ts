import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js';
import type { ResultDocument } from './result.ts';

/**
 * One text for one value, whatever the order of its keys: keys sorted by code units, no white space, numbers and
 * strings as JSON.stringify writes them; properties that are undefined are left out.
 * @throws TypeError naming the place of a number that is not finite or a value that JSON cannot hold.
 */
export function canonicalJson(value: unknown): string {
  return write(value, '$');
}

/** Hex SHA-256 of a text's UTF-8. */
export function sha256Hex(text: string): string {
  return bytesToHex(sha256(utf8ToBytes(text)));
}

/** Hex SHA-256 of the canonical JSON of all but `digest`, `command` and `environment`. */
export function resultDigest(document: ResultDocument): string {
  const { digest: _digest, command: _command, environment: _environment, ...rest } = document;
  return sha256Hex(canonicalJson(rest));
}

/** The same document with its digest in place. */
export function sealed(document: ResultDocument): ResultDocument {
  return { ...document, digest: resultDigest(document) };
}

function write(value: unknown, path: string): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number' && Number.isFinite(value)) return JSON.stringify(value);
  if (Array.isArray(value))
    return `[${value.map((item, index) => write(item, `${path}[${index}]`)).join(',')}]`;
  if (typeof value === 'object') return writeObject(value, path);
  throw new TypeError(`${path} is ${String(value)}, which JSON cannot hold`);
}

function writeObject(value: object, path: string): string {
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    .map(([key, member]) => `${JSON.stringify(key)}:${write(member, `${path}.${key}`)}`);
  return `{${members.join(',')}}`;
}
