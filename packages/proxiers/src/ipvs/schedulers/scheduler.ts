import type { RealServers } from '../real-servers.ts';
import type { VirtualServers } from '../virtual-servers.ts';

/** No server can be chosen. */
export const NO_SERVER = -1;

/**
 * How a virtual server chooses among its real servers. One scheduler serves any number of virtual servers and
 * keeps its state by virtual server; each is told of changes after they have been made. A virtual server that it
 * has not been told of counts as started at time 0, when it was empty.
 */
export interface Scheduler {
  readonly name: string;
  /** Real servers, slots and cache entries examined by `pick` since the caller last set it to zero. */
  steps: number;
  /**
   * The server for a new connection of a client, or NO_SERVER.
   * @param destination where the packet goes; left out, the virtual server's own address. They differ for
   *   virtual servers by firewall mark only; dh, lblc and lblcr look at it.
   * @param nowNs virtual time, never falling; lblc and lblcr age their caches by it. Left out, time stands still.
   */
  pick(service: number, client: number, clientPort: number, destination?: number, nowNs?: number): number;
  /** This virtual server uses the scheduler from now on, with the servers that it has (init_service). */
  started(service: number, nowNs: number): void;
  /** It uses it no longer: it is deleted, or has another scheduler now (done_service). */
  stopped(service: number): void;
  added(service: number, server: number): void;
  /** `predecessor`: what stood before the server in the list, -1 if it was the head. */
  removed(service: number, server: number, predecessor: number): void;
  /** Weight or thresholds were set. Connections and the overload flag are no change in this sense. */
  updated(service: number, server: number): void;
  /**
   * Steps over servers or slots that one change costs the kernel in a list of `servers`; of `service`, where it
   * also depends on what is in the list (mh, which without it tells the least that it can be).
   */
  changeSteps(servers: number, service?: number): number;
}

/** The servers that schedulers walk. */
export interface Lists {
  readonly services: VirtualServers;
  readonly servers: RealServers;
}
