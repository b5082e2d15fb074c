import { sha256 } from '@noble/hashes/sha2.js';
import { utf8ToBytes } from '@noble/hashes/utils.js';
import { addressText, protocolName, type Cluster } from '../kubernetes/cluster.ts';

/**
 * Chains and sets of kube-proxy's table, by number and by name. Names of objects that a service port or an endpoint
 * has are made when text needs them.
 *
 *     chains   fixed | 4 for each service port: service, local, external, firewall | one for each endpoint row
 *     sets     fixed | one for each endpoint row
 *
 * Source: pkg/proxy/nftables/proxier.go (servicePortChainNameBase, servicePortEndpointChainNameBase,
 * hashAndTruncate).
 */

export const FIXED_CHAINS = [
  'filter-prerouting-pre-dnat',
  'filter-output-pre-dnat',
  'filter-input',
  'filter-forward',
  'filter-output',
  'nat-prerouting',
  'nat-output',
  'nat-postrouting',
  // Until 1.33, in place of the first two.
  'filter-prerouting',
  'filter-output-post-dnat',
  'services',
  'firewall-check',
  'service-endpoints-check',
  'nodeport-endpoints-check',
  'cluster-ips-check',
  'masquerading',
  'mark-for-masquerade',
  'reject-chain',
] as const;
export type FixedChain = (typeof FIXED_CHAINS)[number];

export const FIXED_SETS = [
  'cluster-ips',
  'nodeport-ips',
  'hairpin-connections',
  'service-ips',
  'service-nodeports',
  'no-endpoint-services',
  'no-endpoint-nodeports',
  'firewall-ips',
] as const;
export type FixedSet = (typeof FIXED_SETS)[number];

/** Kinds of a service port's chains. */
export const SERVICE = 0;
export const LOCAL = 1;
export const EXTERNAL = 2;
export const FIREWALL = 3;

const PREFIXES = ['service-', 'local-', 'external-', 'firewall-'] as const;
const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
/** nft's longest name less the longest prefix. */
const BASE_LENGTH_MAX = 256 - 16;

export function fixedChain(name: FixedChain): number {
  return FIXED_CHAINS.indexOf(name);
}

export function fixedSet(name: FixedSet): number {
  return FIXED_SETS.indexOf(name);
}

export function serviceChain(servicePort: number, kind: number): number {
  return FIXED_CHAINS.length + servicePort * 4 + kind;
}

export function affinitySet(endpoint: number): number {
  return FIXED_SETS.length + endpoint;
}

/**
 * The first 8 characters of base32(SHA-256(name)), the name, and no more than 240 characters of both. What nft takes
 * in no name, and the API server in none either, is written as `_`: the hash still tells names apart.
 */
export function hashAndTruncate(name: string): string {
  const digest = sha256(utf8ToBytes(name));
  let hash = '';
  let bits = 0;
  let held = 0;
  for (let i = 0; i < 5; i++) {
    bits = ((bits << 8) | digest[i]!) & 0xffff;
    held += 8;
    while (held >= 5) {
      held -= 5;
      hash += BASE32[(bits >>> held) & 31]!;
    }
  }
  const full = `${hash}-${name.replace(/[^A-Za-z0-9._/-]/gu, '_')}`;
  return full.length > BASE_LENGTH_MAX ? `${full.slice(0, BASE_LENGTH_MAX - 3)}...` : full;
}

export class ObjectNames {
  readonly #cluster: Cluster;
  readonly #firstEndpoint: number;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#firstEndpoint = FIXED_CHAINS.length + cluster.ports.count * 4;
  }

  endpointChain(endpoint: number): number {
    return this.#firstEndpoint + endpoint;
  }

  /** The endpoint row whose chain it is; -1 for chains of other kinds. */
  endpointOf(chain: number): number {
    return chain < this.#firstEndpoint ? -1 : chain - this.#firstEndpoint;
  }

  chain = (chain: number): string => {
    if (chain < FIXED_CHAINS.length) return FIXED_CHAINS[chain]!;
    if (chain >= this.#firstEndpoint) return `endpoint-${this.endpointBase(chain - this.#firstEndpoint)}`;
    const at = chain - FIXED_CHAINS.length;
    return PREFIXES[at & 3]! + this.serviceBase(at >> 2);
  };

  set = (set: number): string =>
    set < FIXED_SETS.length ? FIXED_SETS[set]! : `affinity-${this.endpointBase(set - FIXED_SETS.length)}`;

  /** `HASH-ns/svc/proto/portname`. */
  serviceBase(servicePort: number): string {
    return hashAndTruncate(this.#servicePath(servicePort));
  }

  /** `HASH-ns/svc/proto/portname__IP/PORT`; chain names cannot have colons. */
  endpointBase(endpoint: number): string {
    const { endpoints } = this.#cluster;
    const address = addressText(this.#cluster, endpoints.address[endpoint]!).replaceAll(':', '.');
    const service = this.#servicePath(endpoints.servicePort[endpoint]!);
    return hashAndTruncate(`${service}__${address}/${endpoints.port[endpoint]!}`);
  }

  #servicePath(servicePort: number): string {
    const { services, ports } = this.#cluster;
    const { namespace, name } = services[ports.service[servicePort]!]!;
    return `${namespace}/${name}/${protocolName(ports.protocol[servicePort]!)}/${ports.names[servicePort]!}`;
  }
}
