import { Ipv6Family, type AddressFamily, type Cidr } from '@vipsim/sim-core';
import { NARROW_POD_CIDR, PodAddresses } from './allocate.ts';

/** Gives addresses to pods that come without. */
export interface PodAllocator {
  /** The smallest network that holds all blocks handed out; undefined while there are none. */
  readonly network: Cidr | undefined;
  /** All that it could ever hand out, as text. */
  readonly widest: string;
  /** The next address on a node, out of its own CIDR if it has one; 0 if the whole network is used up. */
  next(node: number, own: Cidr | undefined): number;
}

/** Where addresses of a family come from that the input leaves out. */
export interface AddressPlan {
  readonly serviceCidr: Cidr;
  /** Of a cluster whose nodes and pods say nothing else. */
  readonly podCidr: Cidr;
  /** `owned` are the nodes' own CIDRs. */
  podAddresses(nodes: number, taken: ReadonlySet<number>, owned: readonly Cidr[]): PodAllocator;
}

/** What kind gives to pods of dual-stack clusters, and a wider network around it for more than 256 nodes. */
const POD_NETWORK = 'fd00:10:244::/56';
const WIDE_POD_NETWORK = 'fd00:10:244::/48';
const NODES_MAX = 65_536;
/**
 * kind's IPv6 Service network at the largest size that the API server's bitmap took, 20 bits: as many addresses as
 * 10.96.0.0/12 has.
 */
const SERVICE_NETWORK = 'fd00:10:96::/108';

/** `serviceCidr` counts for IPv4, whose numbers need no book. */
export function planOf(family: AddressFamily, serviceCidr: Cidr): AddressPlan {
  if (!(family instanceof Ipv6Family)) {
    return {
      serviceCidr,
      podCidr: NARROW_POD_CIDR,
      podAddresses: (nodes, taken, owned) => new PodAddresses(nodes, taken, owned),
    };
  }
  return {
    serviceCidr: family.parseCidr(SERVICE_NETWORK)!,
    podCidr: family.parseCidr(POD_NETWORK)!,
    podAddresses: (nodes, taken) => new Ipv6PodAddresses(family, nodes, taken),
  };
}

/** From a /64 for each node, as kube-controller-manager cuts them by default; ::2 is the first pod of each. */
class Ipv6PodAddresses implements PodAllocator {
  network: Cidr | undefined;
  readonly widest = WIDE_POD_NETWORK;
  readonly #family: Ipv6Family;
  readonly #all: Cidr;
  readonly #taken: ReadonlySet<number>;
  readonly #given: Float64Array;

  constructor(family: Ipv6Family, nodes: number, taken: ReadonlySet<number>) {
    this.#family = family;
    this.#all = family.parseCidr(nodes <= 256 ? POD_NETWORK : WIDE_POD_NETWORK)!;
    this.#taken = taken;
    this.#given = new Float64Array(nodes).fill(2);
  }

  next(node: number, own: Cidr | undefined): number {
    if (own === undefined && node >= NODES_MAX) return 0;
    if (own === undefined) this.network = this.#all;
    const block = own ?? this.#family.subnet(this.#all, node);
    while (this.#given[node]! < this.#family.size(block)) {
      const address = this.#family.nth(block, this.#given[node]!++);
      if (!this.#taken.has(address)) return address;
    }
    return 0;
  }
}
