import type { Origin } from '@vipsim/sim-core';
import type { Address, Network } from './address.ts';
import type { Tuple } from './flows.ts';

/** A node that walks rules of any origin, as its routing and its interfaces make it. */
export interface NodeFacts {
  /** Its own addresses, loopback apart; masquerade and redirect take the first. */
  readonly addresses: readonly Address[];
  /** Pods of this node are reached by `podLink`, everything else by `outsideLink`. */
  readonly podNetwork?: Network;
  readonly podLink: string;
  readonly outsideLink: string;
}

/** A packet as it comes to the node. */
export interface LiteralPacket {
  readonly protocol: number;
  readonly source: Address;
  readonly sourcePort: number;
  readonly destination: Address;
  readonly destinationPort: number;
  /** TCP flags as sim-core's packets carry them. */
  readonly flags: number;
  readonly origin: Origin;
  /** Length of the IP packet: what byte counters add up. */
  readonly bytes: number;
  /** The interface by which it comes in; without it the node's own guess. */
  readonly inLink?: string;
}

/** What became of a packet. */
export interface LiteralOutcome {
  readonly fate: 'accept' | 'drop' | 'reject';
  /** Where it ended, `filter FORWARD` or `ip kube-proxy filter-forward`; empty for accept. */
  readonly where: string;
  /** What the sender is told, `icmp-port-unreachable` or `tcp-reset`; empty otherwise. */
  readonly answer: string;
  /** It opened a flow. */
  readonly first: boolean;
  /** A rule chose the source it leaves with. */
  readonly masqueraded: boolean;
  readonly leaves: Tuple;
}
