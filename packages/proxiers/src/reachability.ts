/** What a SYN or datagram to an endpoint meets. */
export const ACCEPTS = 0;
/** A reset at once. */
export const REFUSES = 1;
/** Nothing: the dial runs into its timeout. */
export const SILENT = 2;
export type Answer = typeof ACCEPTS | typeof REFUSES | typeof SILENT;

/**
 * What the network would answer to a dial. A kernel dataplane never learns it, the userspace proxy does, before it
 * decides anything: it stands at the far end of the client's connection.
 */
export interface Reachability {
  /** To what leaves for the endpoint row at `atNs`. */
  answer(endpoint: number, atNs: number): Answer;
  /** From the node to the endpoint and back. */
  roundTripNs(endpoint: number): number;
}

/** Without anybody to ask: every dial is taken to succeed at once, until the client's own packets tell otherwise. */
export const EVERY_DIAL_ANSWERED: Reachability = {
  answer: () => ACCEPTS,
  roundTripNs: () => 0,
};
