import { SCTP, TCP, UDP, formatIpv4, formatIpv6, type Ipv6 } from '@vipsim/sim-core';

/** What a listing of IPVS says, whoever made it: the kernel behind `ipvsadm`, a file, or a director here. */
export interface ListedService extends Selected {
  readonly scheduler: string;
  /** Scheduler flags in ipvsadm's spelling and order, `mh-fallback,mh-port`; empty without. */
  readonly flags: string;
  /** Seconds; 0 without persistence. */
  readonly persistentS: number;
  /** Prefix length that clients share a template by: 32 or 128 where each has its own. */
  readonly clientPrefix: number;
  /** Persistence engine, empty without. */
  readonly engine: string;
  readonly onePacket: boolean;
  readonly traffic: Traffic;
  readonly servers: readonly ListedServer[];
}

/** What packets a virtual server takes. */
export interface Selected extends Place {
  /** TCP, UDP or SCTP; 0 for a firewall mark. */
  readonly protocol: number;
  /** The firewall mark; 0 for a service with an address. */
  readonly mark: number;
}

/** An address as one word (IPv4) or four (IPv6), and a port. */
export interface Place {
  readonly address: readonly number[];
  readonly port: number;
}

export interface ListedServer extends Place {
  readonly forward: Forward;
  /** What follows `--tun-type`: `ipip`, `gue --tun-port 6080 --tun-nocsum`; empty unless by tunnel. */
  readonly tunnel: string;
  readonly weight: number;
  readonly active: number;
  readonly inactive: number;
  /** Persistence templates that point here. */
  readonly persistent: number;
  readonly upperThreshold: number;
  readonly lowerThreshold: number;
  readonly traffic: Traffic;
}

export type Forward = 'Masq' | 'Local' | 'Tunnel' | 'Route';

/** Counters since the start, or an estimator's figures for each second. */
export interface Traffic {
  readonly connections: number;
  readonly packetsIn: number;
  readonly packetsOut: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

export interface ListedConnection {
  readonly protocol: number;
  readonly expiresS: number;
  readonly state: string;
  readonly client: Place;
  readonly virtual: Place;
  readonly server: Place;
}

export const NO_TRAFFIC: Traffic = { connections: 0, packetsIn: 0, packetsOut: 0, bytesIn: 0, bytesOut: 0 };

const PROTOCOLS = new Map([
  [TCP, 'TCP'],
  [UDP, 'UDP'],
  [SCTP, 'SCTP'],
]);

/** As ipvsadm spells it; IP where it has no name for it. */
export function protocolText(protocol: number): string {
  return PROTOCOLS.get(protocol) ?? 'IP';
}

/** `10.96.0.1:80`, `[fd00::1]:80`. */
export function placeText({ address, port }: Place): string {
  return address.length === 1
    ? `${formatIpv4(address[0]!)}:${port}`
    : `[${formatIpv6(address as Ipv6)}]:${port}`;
}

/**
 * In the order in which ipvsadm prints: firewall marks last, then by family, protocol, address, port. Each
 * difference is taken as a signed 32-bit number, so that 172.16.0.1 comes before 10.0.0.1, and 10.0.0.1 before
 * 127.0.0.1. Source: ipvs_cmp_services and ipvs_cmp_dests, libipvs/libipvs.c of ipvsadm.
 */
export function compareServices(one: ListedService, other: ListedService): number {
  const byMark = (one.mark - other.mark) | 0;
  if (byMark !== 0) return byMark;
  return (
    one.address.length - other.address.length || one.protocol - other.protocol || comparePlaces(one, other)
  );
}

export function comparePlaces(one: Place, other: Place): number {
  for (let i = 0; i < one.address.length; i++) {
    const difference = (one.address[i]! - (other.address[i] ?? 0)) | 0;
    if (difference !== 0) return difference;
  }
  return one.port - other.port;
}

/**
 * Sorted as glibc's qsort does it, by merging. That order is no order over the whole range of addresses (of three,
 * each may come before the next), so the method decides, and a built-in sort may differ from it.
 * Source: msort_with_tmp, stdlib/msort.c of glibc up to 2.36.
 */
export function mergeSorted<T>(items: readonly T[], compare: (one: T, other: T) => number): readonly T[] {
  if (items.length <= 1) return items;
  const half = items.length >>> 1;
  const left = mergeSorted(items.slice(0, half), compare);
  const right = mergeSorted(items.slice(half), compare);
  const merged: T[] = [];
  let [l, r] = [0, 0];
  while (l < left.length && r < right.length) {
    merged.push(compare(left[l]!, right[r]!) <= 0 ? left[l++]! : right[r++]!);
  }
  while (l < left.length) merged.push(left[l++]!);
  while (r < right.length) merged.push(right[r++]!);
  return merged;
}
