/** Sizes of the maps that hold flows. */
export interface MapSizes {
  /** bpf-ct-global-tcp-max. */
  readonly ctTcp: number;
  /** bpf-ct-global-any-max. */
  readonly ctAny: number;
  /** bpf-nat-global-max. */
  readonly nat: number;
  /** bpf-neigh-global-max. */
  readonly neigh: number;
  /** bpf-sock-rev-map-max. */
  readonly sockRev: number;
}

export interface MapSizing {
  /** Memory of the machine. */
  readonly memoryBytes: number;
  /** bpf-map-dynamic-size-ratio, above 0 to 1; 0 turns dynamic sizing off. */
  readonly ratio: number;
  /** bpf-distributed-lru. */
  readonly distributedLru: boolean;
  /** Possible CPUs. */
  readonly cpus: number;
  /** Sizes set by hand; 0 is as good as not set. */
  readonly overrides?: Partial<MapSizes>;
  /** Key and value of the socket map: 48 in Cilium's own table of sizes, 52 as its IPv6 structs add up. */
  readonly sockRevBytes?: 48 | 52;
}

/** Sizes with dynamic sizing off, and the proportions of those with it on. */
export const STATIC_MAP_SIZES: MapSizes = {
  ctTcp: 524_288,
  ctAny: 262_144,
  nat: 524_288,
  neigh: 524_288,
  sockRev: 262_144,
};

/** Least sizes that the formula gives. */
const DYNAMIC_MIN: MapSizes = {
  ctTcp: 131_072,
  ctAny: 65_536,
  nat: 131_072,
  neigh: 131_072,
  sockRev: 65_536,
};

/** Limits of all sizes. */
const MAP_MIN = 1024;
const MAP_MAX = 16_777_216;

// Key and value of one entry, IPv6.
const CT_BYTES = 94;
const NAT_BYTES = 94;
const NEIGH_BYTES = 24;

const NAMES = ['ctTcp', 'ctAny', 'nat', 'neigh', 'sockRev'] as const;

/**
 * How many entries the agent gives the maps of flows: a share of the machine's memory in fixed proportions, within
 * limits, or fixed sizes.
 * Source: pkg/option/config.go of Cilium (calculateDynamicBPFMapSizes, checkMapSizeLimits), pkg/maps/mapsize.
 * @throws RangeError for a size, ratio or combination that the agent refuses to start with.
 */
export function mapSizes(sizing: MapSizing): MapSizes {
  const { memoryBytes, ratio, distributedLru, cpus, overrides = {}, sockRevBytes = 48 } = sizing;
  if (!(ratio >= 0 && ratio <= 1)) {
    throw new RangeError(`bpf-map-dynamic-size-ratio ${ratio}: wanted 0 (off) to 1`);
  }
  for (const name of NAMES) checkSize(name, overrides[name] ?? 0);
  const available = Math.trunc(memoryBytes * ratio);
  const all = defaultBytes(sockRevBytes);
  const size = (name: keyof MapSizes): number => {
    const set = overrides[name] ?? 0;
    if (set > 0) return set;
    if (ratio === 0) return STATIC_MAP_SIZES[name];
    const entries = Math.floor((STATIC_MAP_SIZES[name] * available) / all);
    const rounded = distributedLru ? Math.ceil(entries / cpus) * cpus : entries;
    return Math.min(MAP_MAX, Math.max(DYNAMIC_MIN[name], rounded));
  };
  const ctTcp = size('ctTcp');
  const ctAny = size('ctAny');
  const nat = natSize(size('nat'), ctTcp + ctAny, overrides.nat ?? 0);
  const neigh = (overrides.neigh ?? 0) > 0 ? overrides.neigh! : nat;
  return { ctTcp, ctAny, nat, neigh, sockRev: size('sockRev') };
}

function checkSize(name: string, size: number): void {
  if (size === 0 || (Number.isInteger(size) && size >= MAP_MIN && size <= MAP_MAX)) return;
  throw new RangeError(
    `map size ${name} ${size}: wanted 0 (automatic) or an integer from ${MAP_MIN} to ${MAP_MAX}`,
  );
}

/** Bytes of all maps at their default sizes, what the available memory is measured against. */
function defaultBytes(sockRevBytes: number): number {
  const { ctTcp, ctAny, nat, neigh, sockRev } = STATIC_MAP_SIZES;
  return ctTcp * CT_BYTES + ctAny * CT_BYTES + nat * NAT_BYTES + neigh * NEIGH_BYTES + sockRev * sockRevBytes;
}

/** NAT keeps up with conntrack at two thirds of it; only a size set by hand may be refused. */
function natSize(nat: number, connections: number, set: number): number {
  if (nat <= connections) return nat;
  if (set > 0 && set !== STATIC_MAP_SIZES.nat) {
    throw new RangeError(
      `map size nat ${nat} exceeds those of conntrack together (${connections}); lower it or raise them`,
    );
  }
  return Math.floor((connections * 2) / 3);
}
