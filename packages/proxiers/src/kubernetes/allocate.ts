import { formatCidr, IPV4, sizeOf, type AddressFamily, type Cidr } from '@vipsim/sim-core';
import { POD_CIDR } from './synthetic.ts';

/** kube-apiserver's default --service-node-port-range. */
export const NODE_PORT_MIN = 30000;
export const NODE_PORT_MAX = 32767;
/** kubeadm with flannel's default: 256 nodes with a /24 each. */
export const NARROW_POD_CIDR: Cidr = { address: 0x0af40000, prefix: 16 };
/** Nodes without an address: kind's network, for IPv6 as docker makes it. The first address is the router's. */
const NODE_NETWORK: Cidr = { address: 0xac100000, prefix: 12 };
const IPV6_NODE_NETWORK = 'fc00:f853:ccd:e793::/64';
/** Pods of a /24: .2 to .254, as the first address is the node's bridge. */
const PODS_PER_BLOCK = 253;

/**
 * ClusterIPs that the input leaves out: upwards from the end of the band that is kept for static addresses
 * (10.96.1.1 in 10.96.0.0/12), and from that band only when the rest is used up (KEP-3070). The API server
 * draws from the upper band at random; here the order is fixed. IPv6 has no broadcast address to leave out.
 */
export class ClusterIps {
  readonly #cidr: Cidr;
  readonly #taken: ReadonlySet<number>;
  readonly #family: AddressFamily;
  readonly #band: number;
  readonly #usable: number;
  #given = 0;

  constructor(cidr: Cidr, taken: ReadonlySet<number>, family: AddressFamily = IPV4) {
    const size = family.size(cidr);
    this.#cidr = cidr;
    this.#taken = taken;
    this.#family = family;
    this.#usable = Math.max(0, size - (family.name === 'ipv4' ? 2 : 1));
    this.#band = this.#usable <= 16 ? 0 : Math.min(Math.max(16, Math.floor(size / 16)), 256);
  }

  /** The next free address; 0 if there is none. */
  next(): number {
    while (this.#given < this.#usable) {
      const offset = 1 + ((this.#band + this.#given++) % this.#usable);
      const address = this.#family.nth(this.#cidr, offset);
      if (!this.#taken.has(address)) return address;
    }
    return 0;
  }
}

/**
 * NodePorts that the input leaves out: upwards from the end of the band kept for static ports (30086 of
 * 30000-32767), then from that band (KEP-3668). A number is used once, whatever the protocol.
 */
export class NodePorts {
  allocated = 0;
  readonly #taken = new Uint8Array(65536);
  #given = 0;

  take(port: number): void {
    this.#taken[port] = 1;
  }

  /** The next free port; 0 if there is none. */
  next(): number {
    const size = NODE_PORT_MAX - NODE_PORT_MIN + 1;
    const band = Math.min(Math.max(16, Math.floor(size / 32)), 128);
    while (this.#given < size) {
      const port = NODE_PORT_MIN + ((band + this.#given++) % size);
      if (this.#taken[port] === 1) continue;
      this.#taken[port] = 1;
      this.allocated++;
      return port;
    }
    return 0;
  }
}

/** Addresses of nodes that come without: from 172.16.0.2 or fc00:f853:ccd:e793::2 upwards. */
export class NodeAddresses {
  readonly #taken: ReadonlySet<number>;
  readonly #family: AddressFamily;
  readonly #network: Cidr;
  #next = 2;

  constructor(taken: ReadonlySet<number>, family: AddressFamily = IPV4) {
    this.#taken = taken;
    this.#family = family;
    this.#network = family.name === 'ipv4' ? NODE_NETWORK : family.parseCidr(IPV6_NODE_NETWORK)!;
  }

  next(): number {
    for (;;) {
      const address = this.#family.nth(this.#network, this.#next++);
      if (!this.#taken.has(address)) return address;
    }
  }
}

/**
 * Pod addresses: a node's own CIDR first; where it has none or no more, /24 blocks of the pod network, node
 * after node, then a second round of blocks. The network is 10.244.0.0/16 until its 256 blocks are used up,
 * and 10.128.0.0/9 around it after that.
 */
export class PodAddresses {
  /** The smallest network that holds all blocks handed out; undefined while there are none. */
  network: Cidr | undefined;
  readonly widest = formatCidr(POD_CIDR);
  readonly #taken: ReadonlySet<number>;
  readonly #nodes: number;
  /** /24 blocks, by their leading bits, that lie in some node's own CIDR. */
  readonly #owned = new Set<number>();
  readonly #own: Float64Array;
  readonly #blocks: Float64Array;

  constructor(nodes: number, taken: ReadonlySet<number>, owned: readonly Cidr[] = []) {
    this.#nodes = nodes;
    this.#taken = taken;
    for (const cidr of owned) {
      const last = cidr.address + sizeOf(cidr) - 1;
      for (let block = cidr.address >>> 8; block <= last >>> 8; block++) this.#owned.add(block);
    }
    this.#own = new Float64Array(nodes).fill(2);
    this.#blocks = new Float64Array(nodes);
  }

  /** The next address on a node; 0 if the whole network is used up. */
  next(node: number, own: Cidr | undefined): number {
    const size = own === undefined ? 0 : sizeOf(own);
    while (this.#own[node]! < size - 1) {
      const address = own!.address + this.#own[node]!++;
      if (!this.#taken.has(address)) return address;
    }
    for (;;) {
      const index = this.#blocks[node]!++;
      const block = Math.floor(index / PODS_PER_BLOCK) * this.#nodes + node;
      const address = this.#blockAddress(block);
      if (address === 0) return 0;
      if (this.#owned.has(address >>> 8)) continue;
      const candidate = address + 2 + (index % PODS_PER_BLOCK);
      if (!this.#taken.has(candidate)) return candidate;
    }
  }

  #blockAddress(block: number): number {
    const narrow = sizeOf(NARROW_POD_CIDR);
    if (block * 256 < narrow) {
      this.network ??= NARROW_POD_CIDR;
      return NARROW_POD_CIDR.address + block * 256;
    }
    this.network = POD_CIDR;
    // The narrow network lies inside the wide one: its blocks are used up, so step over them.
    const below = (NARROW_POD_CIDR.address - POD_CIDR.address) / 256;
    const rest = block - narrow / 256;
    const offset = (rest < below ? rest : rest + narrow / 256) * 256;
    return offset < sizeOf(POD_CIDR) ? POD_CIDR.address + offset : 0;
  }
}

/** The smallest CIDR around all; undefined for none, or where they have less than 8 leading bits in common. */
export function covering(cidrs: readonly Cidr[], family: AddressFamily = IPV4): Cidr | undefined {
  const first = cidrs[0];
  if (first === undefined) return undefined;
  let prefix = first.prefix;
  for (const { address, prefix: bits } of cidrs) {
    prefix = Math.min(prefix, bits, family.commonBits(first.address, address));
  }
  return prefix < 8 ? undefined : family.network(first.address, prefix);
}
