import type { RealServers } from '../real-servers.ts';
import type { VirtualServers } from '../virtual-servers.ts';

/** No server can be chosen. */
export const NO_SERVER = -1;

/**
 * How a virtual server chooses among its real servers. One scheduler serves all virtual servers and keeps its
 * state by virtual server; each is told of changes after they have been made.
 */
export interface Scheduler {
  readonly name: string;
  /** Real servers examined by `pick` since the caller last set it to zero. */
  steps: number;
  /** The server for a new connection of a client, or NO_SERVER. Allocates nothing. */
  pick(service: number, client: number, clientPort: number): number;
  added(service: number, server: number): void;
  /** `predecessor`: what stood before the server in the list, -1 if it was the head. */
  removed(service: number, server: number, predecessor: number): void;
  updated(service: number, server: number): void;
  /** Steps over servers or slots that one change costs the kernel in a list of `servers`. */
  changeSteps(servers: number): number;
}

/** The servers that schedulers walk. */
export interface Lists {
  readonly services: VirtualServers;
  readonly servers: RealServers;
}
