import type { Address } from '../netfilter/address.ts';
import type { RecentTables } from './recent.ts';

/** Bits of `--ctstate`. */
export const CT_INVALID = 1;
export const CT_NEW = 2;
export const CT_RELATED = 4;
export const CT_ESTABLISHED = 8;
export const CT_UNTRACKED = 16;
export const CT_SNAT = 32;
export const CT_DNAT = 64;

/** A packet on its way through the hooks, with what netfilter hangs on it. */
export interface Skb {
  readonly protocol: number;
  source: Address;
  sourcePort: number;
  destination: Address;
  destinationPort: number;
  readonly flags: number;
  readonly bytes: number;
  mark: number;
  /** Bits above. */
  state: number;
  /** Empty where the hook has none. */
  inLink: string;
  outLink: string;
  untracked: boolean;
}

/** What matches may ask besides the packet. */
export interface World {
  /** The kernel's clock in ticks: xt_recent and xt_limit know no finer time. */
  readonly jiffies: number;
  readonly hz: number;
  readonly recent: RecentTables;
  /** A dry walk answers what would happen and changes nothing. */
  readonly dry: boolean;
  /** Whether 31 random bits, drawn now, are below a threshold. */
  drawsBelow(threshold: number): boolean;
  isLocal(address: Address): boolean;
  isBroadcast(address: Address): boolean;
}
