const SECOND = 1_000_000_000;
/** Slots of a level, less one: what the first level reaches. */
const LEVEL_SPAN = 63;
/** Each level is eight times as coarse as the one below. */
const COARSER = 8;
const LEVELS_MAX = 8;

/**
 * The level of the timer wheel that a timer goes to which is to expire in so many ticks:
 *
 *     level     0     1     2     3      4       5        6
 *     ticks   <63  <504 <4032 <32256 <258048 <2064384 …
 *     slots of  1     8    64    512    4096    32768   262144 ticks
 *
 * Source: calc_wheel_index, kernel/time/timer.c, Linux 4.8 and later.
 */
export function wheelLevel(ticks: number): number {
  let level = 0;
  for (let reach = LEVEL_SPAN; ticks >= reach && level < LEVELS_MAX; reach *= COARSER) level++;
  return level;
}

/** The tick at which a timer runs that is to expire at tick `expires`: never early, up to a slot later. */
export function wheelExpiry(expires: number, level: number): number {
  let slot = 1;
  for (let i = 0; i < level; i++) slot *= COARSER;
  return (Math.floor(expires / slot) + 1) * slot;
}

/** The kernel's clock: jiffies, HZ of them in a second, which begin 300 s before they overflow 32 bits. */
export class Jiffies {
  readonly hz: number;
  readonly tickNs: number;
  /** Jiffies at virtual time 0. */
  readonly first: number;

  constructor(hz: number, first = 4_294_967_296 - 300 * hz) {
    this.hz = hz;
    this.tickNs = SECOND / hz;
    this.first = first;
  }

  at(nowNs: number): number {
    return this.first + Math.floor(nowNs / this.tickNs);
  }
}
