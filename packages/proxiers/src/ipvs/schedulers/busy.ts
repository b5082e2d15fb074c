import type { Lists } from './scheduler.ts';

/** More active connections than weight: lblc and lblcr then ask whether another server has room. */
export function isBusy({ servers }: Lists, server: number): boolean {
  return servers.active[server]! > servers.weight[server]!;
}

/**
 * Look for a server with fewer active connections than half its weight: how many were looked at with it, or
 * negated, how many there are, if there is none.
 * Source: is_overloaded, net/netfilter/ipvs/ip_vs_lblc.c.
 */
export function walkToIdle({ services, servers }: Lists, service: number): number {
  const { next, weight, active } = servers;
  let examined = 0;
  for (let at = services.head[service]!; at >= 0; at = next[at]!) {
    examined++;
    if (active[at]! * 2 < weight[at]!) return examined;
  }
  return -examined;
}
