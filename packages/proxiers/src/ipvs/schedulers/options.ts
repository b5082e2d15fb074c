/** `below(n)`: a uniform whole number from 0 to n − 1, as `Stream` of sim-core draws it. */
export interface Draws {
  below(bound: number): number;
}

/** All of a scheduler but its name and its load formula. What one does not know it ignores, as the kernel does with flags. */
export interface SchedulerOptions {
  /** IP_VS_SVC_F_SCHED2: sh-port, mh-port. The client's port is hashed too. */
  readonly port?: boolean;
  /** IP_VS_SVC_F_SCHED1: sh-fallback, mh-fallback. Instead of an unusable server another one is sought. */
  readonly fallback?: boolean;
  /** CONFIG_IP_VS_MH_TAB_INDEX, 8 to 17: which prime is the size of mh's table. 12 for 4093 slots. */
  readonly mhTableIndex?: number;
  /** net/ipv4/vs/lblc_expiration and lblcr_expiration, ns: a day. */
  readonly cacheExpirationNs?: number;
  /** What twos draws from; it cannot do without. */
  readonly draws?: Draws;
  /**
   * The 32 bits that hashes take of what is in an address column. Left out, the column holds IPv4 addresses
   * themselves; for IPv6 it is the exclusive or of the address's four words.
   */
  readonly fold?: (address: number) => number;
}
