/**
 * What differs between releases of kube-proxy.
 *
 * Models: three layouts of the rules. L1 (to 1.35): a chain for each endpoint, jumps to mark-for-masquerade. L2
 * (1.36): Services translate by a map, endpoints have chains for affinity alone, hairpin traffic is found by a set.
 * L3 (1.37): as L2, but a Service with one endpoint has no map. Base chains as before and since 1.34.
 * Source: pkg/proxy/nftables/proxier.go; kubernetes pull requests 126013 (partial syncs), 130119
 * (restarts), 132456 (base chains), 135800, 136499 (L2), 140723 (L3).
 * Not modelled: the chain endpoints-check of 1.29, which later releases split in two; how the full syncs of 1.29 and
 * 1.30 differed from later ones.
 */
export interface Layout {
  /** 36 of 1.36. */
  readonly minor: number;
  /** L1. */
  readonly endpointChains: boolean;
  /** L3: `dnat to` without a map where there is one endpoint. */
  readonly plainSingle: boolean;
  /** The rule that masquerades traffic to a ClusterIP matches the port, too. */
  readonly matchesPort: boolean;
  /** Filter base chains that see packets as they were before DNAT alone. */
  readonly earlyFilters: boolean;
  /** Unchanged Services are left alone; before, every sync was a full one. */
  readonly partialSyncs: boolean;
  /** The first sync after a restart leaves endpoint chains that are there. */
  readonly keepsEndpointChains: boolean;
  /** How kube-proxy learns what chains and sets there are: two listings, one of the table, or from its memory. */
  readonly lists: 'chains and sets' | 'table' | 'memory';
  /** Messages go to the kernel without nft. */
  readonly netlink: boolean;
}

export const VERSIONS = ['1.29', '1.30', '1.31', '1.32', '1.33', '1.34', '1.35', '1.36', '1.37'] as const;
export type Version = (typeof VERSIONS)[number];

export function layoutOf(version: Version): Layout {
  const minor = Number(version.slice(2));
  return {
    minor,
    endpointChains: minor < 36,
    plainSingle: minor >= 37,
    matchesPort: minor < 33,
    earlyFilters: minor < 34,
    partialSyncs: minor >= 31,
    keepsEndpointChains: minor >= 33 && minor < 36,
    lists: minor < 36 ? 'chains and sets' : minor < 37 ? 'table' : 'memory',
    netlink: minor >= 37,
  };
}
