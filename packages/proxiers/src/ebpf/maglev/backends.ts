import { longer, type AddressFamily } from '@vipsim/sim-core';
import { modulo64, murmur3 } from './murmur3.ts';

const BRACKET = 0x5b;
const COLON = 0x3a;
const DOT = 0x2e;
const ZERO = 0x30;
/** No name is longer: IPv6 in brackets, port, SCTP, and the rest. */
const NAME_MAX = 80;

/**
 * The backends of one Maglev table, each with the text that stands for it: `[10.0.0.1:8080/TCP,State:active]`,
 * `[[fd00::1]:8080/TCP,State:active]`. The text is hashed, and its order of bytes is the order of turns: 10.0.0.10
 * comes before 10.0.0.1, because '0' is less than ':'. It says active whatever the state is.
 * Holds no more than a list at a time; `clear` it and use it again, so that no table allocates.
 * Source: Backend.String and L3n4Addr.StringWithProtocol of pkg/loadbalancer, pkg/maglev/maglev.go.
 * Not modelled: the cluster id that cluster mesh adds to addresses of other clusters.
 *
 *     names  bytes of all texts; that of row r is [ends[r], ends[r + 1])
 *     order  rows, sorted; valid until a row is added
 */
export class MaglevBackends {
  count = 0;
  ids: Uint32Array = new Uint32Array(64);
  weights: Uint32Array = new Uint32Array(64);
  readonly #family: AddressFamily;
  #names: Uint8Array = new Uint8Array(64 * NAME_MAX);
  #ends: Uint32Array = new Uint32Array(65);
  #order: Uint32Array = new Uint32Array(64);
  #aside: Uint32Array = new Uint32Array(64);
  #sorted = false;
  readonly #hash: Uint32Array = new Uint32Array(4);

  constructor(family: AddressFamily) {
    this.#family = family;
  }

  clear(): void {
    this.count = 0;
    this.#sorted = false;
  }

  /** `protocol` as Kubernetes spells it: TCP, UDP, SCTP. No two rows may agree in address, port and protocol. */
  add(address: number, port: number, protocol: string, id: number, weight = 1): void {
    const row = this.count++;
    if (row === this.ids.length) this.#grow(row * 2);
    this.ids[row] = id;
    this.weights[row] = weight;
    this.#sorted = false;
    const start = this.#ends[row]!;
    if (start + NAME_MAX > this.#names.length) this.#names = longer(this.#names, this.#names.length * 2);
    this.#ends[row + 1] = this.#writeName(start, address, port, protocol);
  }

  /** The text of a row. */
  name(row: number): string {
    return String.fromCharCode(...this.#names.subarray(this.#ends[row]!, this.#ends[row + 1]!));
  }

  /** Rows in the order of their texts, in the first `count` places. */
  order(): Uint32Array {
    if (!this.#sorted) this.#sort();
    this.#sorted = true;
    return this.#order;
  }

  /** Where each backend's permutation of the slots starts, and its step, backends in their order. */
  permutations(m: number, seed: number, offset: Int32Array, skip: Int32Array): void {
    const order = this.order();
    const names = this.#names;
    const ends = this.#ends;
    const hash = this.#hash;
    for (let i = 0; i < this.count; i++) {
      const row = order[i]!;
      murmur3(names, ends[row]!, ends[row + 1]!, seed, hash);
      offset[i] = modulo64(hash[0]!, hash[1]!, m);
      skip[i] = modulo64(hash[2]!, hash[3]!, m - 1) + 1;
    }
  }

  #writeName(at: number, address: number, port: number, protocol: string): number {
    const names = this.#names;
    names[at++] = BRACKET;
    if (this.#family.name === 'ipv4') {
      at = writeDecimal(names, at, address >>> 24);
      names[at++] = DOT;
      at = writeDecimal(names, at, (address >>> 16) & 0xff);
      names[at++] = DOT;
      at = writeDecimal(names, at, (address >>> 8) & 0xff);
      names[at++] = DOT;
      at = writeDecimal(names, at, address & 0xff);
      names[at++] = COLON;
      at = writeDecimal(names, at, port);
    } else {
      at = writeText(names, at, this.#family.hostPort(address, port));
    }
    at = writeText(names, at, '/');
    at = writeText(names, at, protocol);
    return writeText(names, at, ',State:active]');
  }

  /** Runs of doubling length merged, from one array to the other and back. */
  #sort(): void {
    const { count } = this;
    let from = this.#order;
    let to = this.#aside;
    for (let row = 0; row < count; row++) from[row] = row;
    for (let run = 1; run < count; run *= 2) {
      for (let start = 0; start < count; start += run * 2) {
        const middle = Math.min(start + run, count);
        this.#merge(from, to, start, middle, Math.min(middle + run, count));
      }
      [from, to] = [to, from];
    }
    this.#order = from;
    this.#aside = to;
  }

  #merge(from: Uint32Array, to: Uint32Array, start: number, middle: number, end: number): void {
    let left = start;
    let right = middle;
    for (let at = start; at < end; at++) {
      const leftFirst = left < middle && (right >= end || !this.#isBefore(from[right]!, from[left]!));
      to[at] = leftFirst ? from[left++]! : from[right++]!;
    }
  }

  #isBefore(one: number, other: number): boolean {
    const names = this.#names;
    let at = this.#ends[one]!;
    let against = this.#ends[other]!;
    const end = this.#ends[one + 1]!;
    const endAgainst = this.#ends[other + 1]!;
    while (at < end && against < endAgainst) {
      const difference = names[at++]! - names[against++]!;
      if (difference !== 0) return difference < 0;
    }
    return against < endAgainst;
  }

  #grow(rows: number): void {
    this.ids = longer(this.ids, rows);
    this.weights = longer(this.weights, rows);
    this.#ends = longer(this.#ends, rows + 1);
    this.#order = new Uint32Array(rows);
    this.#aside = new Uint32Array(rows);
  }
}

function writeText(bytes: Uint8Array, at: number, text: string): number {
  for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i);
  return at + text.length;
}

/** A number from 0 to 65,535. */
function writeDecimal(bytes: Uint8Array, at: number, number: number): number {
  const digits = number < 10 ? 1 : number < 100 ? 2 : number < 1000 ? 3 : number < 10_000 ? 4 : 5;
  for (let i = at + digits - 1; i >= at; i--) {
    bytes[i] = ZERO + (number % 10);
    number = (number / 10) | 0;
  }
  return at + digits;
}
