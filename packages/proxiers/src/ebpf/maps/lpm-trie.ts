import { longer } from '@vipsim/sim-core';
import {
  ABSENT,
  ANY,
  EXIST,
  EXISTS,
  FULL,
  nextPowerOfTwo,
  NOEXIST,
  type MapSpec,
  type UpdateFlag,
} from './buckets.ts';

const NONE = -1;
/** The prefix length at the head of a kernel's key. */
const LENGTH_BYTES = 4;
/** Words of a node; its key follows. LEFT and RIGHT are the children for a bit of 0 and of 1. */
const LEFT = 0;
const RIGHT = 1;
const PREFIX = 2;
const KIND = 3;
const KEY = 4;
/** What a node is. A node that lost its entry to become intermediate keeps the room for a value. */
const ENTRY = 0;
const INTERMEDIATE = 1;
const WITHOUT_VALUE = 2;

export interface LpmOptions {
  /** sizeof(struct lpm_trie_node): 40 in Linux 6.1, 24 in 6.18. */
  readonly nodeBytes?: 24 | 40;
}

/**
 * BPF_MAP_TYPE_LPM_TRIE: prefixes in a binary trie with path compression. Fill `key` with the data that follow the
 * prefix length in the kernel's key, most significant word first, in host order; then call. An element's value
 * words are read and written by its number, which holds until its prefix is updated again or removed.
 *
 *     10.0.0.0/8 ──0──► (10.0.0.0/11) ──0──► 10.1.0.0/16
 *                             └────────1──► 10.16.0.0/12        (…) intermediate: no entry, always two children
 *
 * Models: nodes and the order of visits, intermediate nodes and how they come and go, ENOSPC, memory.
 * Source: kernel/bpf/lpm_trie.c (a full trie takes updates of what it holds, as since Linux 6.13 and its backports).
 * Not modelled: the lock of updates.
 */
export class LpmTrie {
  readonly spec: MapSpec;
  readonly key: Uint32Array;
  /** Bits of a full key. */
  readonly maxPrefix: number;
  maxEntries: number;
  /** Prefixes held; intermediate nodes come on top. */
  count = 0;
  /** Nodes that the last operation visited. */
  steps = 0;

  readonly #nodeBytes: number;
  readonly #valueWords: number;
  #root = NONE;
  #used = 0;
  /** Nodes given back, linked through their left child. */
  #free = NONE;
  #bytes = 0;
  /** Nodes as records, so that a visit touches one place in memory, as it does in the kernel. */
  #nodes: Int32Array;
  readonly #stride: number;
  #values: Uint32Array;
  // Where the last `#descend` ended: the node, its parent, how many bits they share with the key.
  #node = NONE;
  #parent = NONE;
  #grandparent = NONE;
  #shared = 0;

  /** @param spec `keyBytes` includes the 4 of the prefix length; 1 to 20 bytes of data follow. */
  constructor(spec: MapSpec, { nodeBytes = 24 }: LpmOptions = {}) {
    const dataBytes = spec.keyBytes - LENGTH_BYTES;
    if (!(dataBytes >= 1 && dataBytes <= 20)) {
      throw new RangeError(`${spec.name}: a trie's key has 1 to 20 bytes behind its prefix length`);
    }
    this.spec = spec;
    this.maxEntries = spec.maxEntries;
    this.#nodeBytes = nodeBytes + dataBytes;
    this.maxPrefix = dataBytes * 8;
    this.#valueWords = spec.valueWords;
    this.key = new Uint32Array(Math.ceil(dataBytes / 4));
    this.#stride = KEY + this.key.length;
    this.#nodes = new Int32Array(16 * this.#stride);
    this.#values = new Uint32Array(16 * this.#valueWords);
  }

  /** The element of the longest prefix that holds all bits of `key`, or -1. */
  lookup(): number {
    const nodes = this.#nodes;
    const stride = this.#stride;
    const full = this.maxPrefix;
    let found = NONE;
    let steps = 0;
    for (let node = this.#root; node !== NONE;) {
      steps++;
      const prefix = nodes[node * stride + PREFIX]!;
      const shared = this.#match(node, full);
      if (shared === full) {
        found = node;
        break;
      }
      if (shared < prefix) break;
      if (nodes[node * stride + KIND] === ENTRY) found = node;
      node = nodes[node * stride + this.#keyBit(prefix)]!;
    }
    this.steps = steps;
    return found;
  }

  /**
   * The element now under the first `prefixBits` of `key`, a new one, its value words undefined; else FULL (ENOSPC),
   * EXISTS or ABSENT.
   */
  update(prefixBits: number, flag: UpdateFlag = ANY): number {
    this.#descend(prefixBits);
    const at = this.#node;
    const replaces = at !== NONE && this.#get(at, PREFIX) === this.#shared;
    if (replaces && this.#get(at, KIND) === ENTRY) {
      if (flag === NOEXIST) return EXISTS;
    } else {
      if (flag === EXIST) return ABSENT;
      if (this.count >= this.maxEntries) return FULL;
      this.count++;
    }
    const parent = this.#parent;
    const element = this.#create(prefixBits, ENTRY);
    if (replaces) {
      this.#set(element, LEFT, this.#get(at, LEFT));
      this.#set(element, RIGHT, this.#get(at, RIGHT));
      this.#replaceChild(parent, at, element);
      this.#discard(at);
    } else {
      this.#attach(element, parent, at, prefixBits);
    }
    return element;
  }

  /** Take the first `prefixBits` of `key` out. False when they are absent: ENOENT. */
  remove(prefixBits: number): boolean {
    this.#descend(prefixBits);
    const node = this.#node;
    if (node === NONE || this.#shared !== prefixBits || this.#get(node, PREFIX) !== prefixBits) return false;
    if (this.#get(node, KIND) !== ENTRY) return false;
    this.count--;
    const left = this.#get(node, LEFT);
    const right = this.#get(node, RIGHT);
    const parent = this.#parent;
    if (left !== NONE && right !== NONE) {
      this.#set(node, KIND, INTERMEDIATE);
    } else if (left === NONE && right === NONE && parent !== NONE && this.#get(parent, KIND) !== ENTRY) {
      // An intermediate node has two children or none would need it: the other child moves up.
      const other = this.#get(parent, this.#get(parent, LEFT) === node ? RIGHT : LEFT);
      this.#replaceChild(this.#grandparent, parent, other);
      this.#discard(parent);
      this.#discard(node);
    } else {
      this.#replaceChild(parent, node, left !== NONE ? left : right);
      this.#discard(node);
    }
    return true;
  }

  value(element: number, word: number): number {
    return this.#values[element * this.#valueWords + word]!;
  }

  setValue(element: number, word: number, value: number): void {
    this.#values[element * this.#valueWords + word] = value;
  }

  /** The same content in a trie of more entries. */
  enlarge(maxEntries: number): void {
    this.maxEntries = maxEntries;
  }

  /** Kernel memory: every node, each allocated for itself; an intermediate one has no value. */
  bytes(): number {
    return this.#bytes;
  }

  /** To the node that is the prefix, or below whose parent it belongs. */
  #descend(prefixBits: number): void {
    if (!(prefixBits >= 0 && prefixBits <= this.maxPrefix)) {
      throw new RangeError(`${this.spec.name}: a prefix of ${prefixBits} bits, of at most ${this.maxPrefix}`);
    }
    let node = this.#root;
    let parent = NONE;
    let grandparent = NONE;
    let shared = 0;
    let steps = 0;
    while (node !== NONE) {
      steps++;
      const prefix = this.#get(node, PREFIX);
      shared = this.#match(node, prefixBits);
      if (prefix !== shared || prefix === prefixBits) break;
      grandparent = parent;
      parent = node;
      node = this.#get(node, this.#keyBit(prefix));
    }
    this.#node = node;
    this.#parent = parent;
    this.#grandparent = grandparent;
    this.#shared = shared;
    this.steps = steps;
  }

  /** Bits that a node's prefix and the first `limit` of `key` have in common. */
  #match(node: number, limit: number): number {
    const nodes = this.#nodes;
    const from = node * this.#stride;
    const prefix = nodes[from + PREFIX]!;
    const most = prefix < limit ? prefix : limit;
    for (let word = 0; word * 32 < most; word++) {
      const difference = nodes[from + KEY + word]! ^ this.key[word]!;
      if (difference !== 0) {
        const shared = word * 32 + Math.clz32(difference);
        return shared < most ? shared : most;
      }
    }
    return most;
  }

  /** Hang a new element where the descent ended: on a free branch, above a node, or beside it. */
  #attach(element: number, parent: number, at: number, prefixBits: number): void {
    if (at === NONE) {
      if (parent === NONE) this.#root = element;
      else this.#set(parent, this.#keyBit(this.#get(parent, PREFIX)), element);
    } else if (this.#shared === prefixBits) {
      this.#set(element, this.#nodeBit(at, prefixBits), at);
      this.#replaceChild(parent, at, element);
    } else {
      const shared = this.#shared;
      const between = this.#create(shared, WITHOUT_VALUE);
      const side = this.#keyBit(shared);
      this.#set(between, side, element);
      this.#set(between, 1 - side, at);
      this.#replaceChild(parent, at, between);
    }
  }

  #replaceChild(parent: number, child: number, by: number): void {
    if (parent === NONE) this.#root = by;
    else this.#set(parent, this.#get(parent, LEFT) === child ? LEFT : RIGHT, by);
  }

  /** A node for the first `prefixBits` of `key`, without children. */
  #create(prefixBits: number, kind: typeof ENTRY | typeof WITHOUT_VALUE): number {
    let node = this.#free;
    if (node !== NONE) {
      this.#free = this.#get(node, LEFT);
    } else {
      node = this.#used++;
      if ((node + 1) * this.#stride > this.#nodes.length) this.#grow(node + 1);
    }
    this.#set(node, PREFIX, prefixBits);
    this.#set(node, KIND, kind);
    this.#set(node, LEFT, NONE);
    this.#set(node, RIGHT, NONE);
    this.#nodes.set(this.key, node * this.#stride + KEY);
    this.#bytes += this.#bytesOf(kind);
    return node;
  }

  #discard(node: number): void {
    this.#bytes -= this.#bytesOf(this.#get(node, KIND));
    this.#set(node, LEFT, this.#free);
    this.#free = node;
  }

  #bytesOf(kind: number): number {
    return this.#nodeBytes + (kind === WITHOUT_VALUE ? 0 : this.spec.valueBytes);
  }

  #get(node: number, field: number): number {
    return this.#nodes[node * this.#stride + field]!;
  }

  #set(node: number, field: number, value: number): void {
    this.#nodes[node * this.#stride + field] = value;
  }

  #keyBit(bit: number): number {
    return (this.key[bit >>> 5]! >>> (31 - (bit & 31))) & 1;
  }

  #nodeBit(node: number, bit: number): number {
    return (this.#nodes[node * this.#stride + KEY + (bit >>> 5)]! >>> (31 - (bit & 31))) & 1;
  }

  #grow(needed: number): void {
    const capacity = nextPowerOfTwo(needed);
    this.#nodes = longer(this.#nodes, capacity * this.#stride);
    this.#values = longer(this.#values, capacity * this.#valueWords);
  }
}
