import type { Origin } from '@vipsim/sim-core';
import type { Address } from '../../netfilter/address.ts';
import type { Tuple } from '../../netfilter/flows.ts';
import type { NumberDraw } from './number-source.ts';

/** A packet as it comes to the node. */
export interface NftPacket {
  readonly protocol: number;
  readonly source: Address;
  readonly sourcePort: number;
  readonly destination: Address;
  readonly destinationPort: number;
  /** TCP flags as sim-core's packets carry them. */
  readonly flags: number;
  readonly origin: Origin;
  /** Length of the IP packet: what counters add up. */
  readonly bytes: number;
  /** The interface by which it comes in; without it the node's own guess. */
  readonly inLink?: string;
}

/** What became of a packet. */
export interface NftOutcome {
  readonly fate: 'accept' | 'drop' | 'reject';
  /** Where it ended, `ip kube-proxy filter-forward`; empty for accept. */
  readonly where: string;
  /** What the sender is told, `icmp-port-unreachable` or `tcp-reset`; empty otherwise. */
  readonly answer: string;
  /** It opened a flow. */
  readonly first: boolean;
  /** A rule chose the source it leaves with. */
  readonly masqueraded: boolean;
  readonly leaves: Tuple;
  /** What `numgen random` drew on the way. */
  readonly draws: readonly NumberDraw[];
}
