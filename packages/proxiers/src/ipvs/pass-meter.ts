import { TCP } from '@vipsim/sim-core';
import type { Counts } from '../cost/operations.ts';
import { ADD, RECALL, RETIRE, type Changes } from './changes.ts';
import type { Director } from './director.ts';
import {
  EXEC,
  IPVS_OPERATIONS,
  LIST_STEP,
  NETLINK,
  NETLINK_RECORD,
  SET_ENTRY,
  SYNC_ENDPOINT,
} from './operations.ts';
import { PrefixSums } from './prefix-sums.ts';
import type { Sets } from './sets.ts';
import type { WantedServers } from './wanted-servers.ts';

/** `iptables -N` for each chain and `iptables -C` for each jump, before anything else. */
const CHAIN_EXECS = 11;
const JUMP_EXECS = 9;

/**
 * Counts the work of a pass from the sizes of the tables, so that each change can be placed after the work that
 * precedes it without doing all that work here. A pass over V virtual servers with D real servers and A addresses:
 * 20 iptables and 17 `ipset create` processes; 2 dumps of the addresses; for each virtual server 2 queries, a
 * dump of its servers and a comparison; 17 `ipset list` and one `ipset` process per changed element; one
 * iptables-restore; a dump of all virtual servers. That is 55 processes when nothing has changed.
 * Source: syncProxyRules, pkg/proxy/ipvs/proxier.go.
 */
export class PassMeter {
  readonly #wantedServers: WantedServers;
  readonly #director: Director;
  readonly #sets: Sets;
  readonly #nodeAddresses: number;
  /** Real servers in the kernel, and endpoints wanted, by virtual server. */
  readonly #listed: PrefixSums;
  readonly #wanted: PrefixSums;
  readonly #wantedOf: Uint32Array;
  #counts: Counts = new Float64Array(IPVS_OPERATIONS.length);
  /** Virtual servers that the pass has come to. */
  #reached = 0;
  /** The virtual server of the last change, and how long its list is by now. */
  #service = -1;
  #servers = 0;
  /** Removed servers that the kernel searches at each NEW_DEST. */
  #trash = 0;

  /** @param nodeAddresses how many addresses the node's other interfaces have. */
  constructor(wanted: WantedServers, director: Director, sets: Sets, nodeAddresses: number) {
    this.#nodeAddresses = nodeAddresses;
    this.#wantedServers = wanted;
    this.#director = director;
    this.#sets = sets;
    this.#listed = new PrefixSums(wanted.count);
    this.#wanted = new PrefixSums(wanted.count);
    this.#wantedOf = new Uint32Array(wanted.count);
  }

  /** A virtual server's list has grown or shrunk. */
  listed(service: number, step: 1 | -1): void {
    this.#listed.add(service, step);
  }

  /** So many endpoints are now wanted behind a virtual server. */
  want(service: number, endpoints: number): void {
    this.#wanted.add(service, endpoints - this.#wantedOf[service]!);
    this.#wantedOf[service] = endpoints;
  }

  /**
   * A pass begins: chains, jumps, sets, addresses. Those of kube-ipvs0 are dumped by themselves, and again with all
   * others, from which they are then left out.
   */
  begin(first: boolean): this {
    const counts = (this.#counts = new Float64Array(IPVS_OPERATIONS.length));
    this.#reached = 0;
    this.#service = -1;
    this.#trash = this.#director.trash.size;
    const sets = Object.keys(this.#sets).length;
    counts[EXEC]! += CHAIN_EXECS + JUMP_EXECS + sets;
    counts[NETLINK]! += 3;
    const bound = first ? 0 : this.#wantedServers.bound.length;
    counts[NETLINK_RECORD]! += 2 * (bound + 1) + this.#nodeAddresses - 1;
    return this;
  }

  /** The first pass: every virtual server is new, every address is to be bound. */
  create(): void {
    this.#counts[NETLINK]! += this.#wantedServers.count + this.#wantedServers.bound.length;
  }

  /** The pass goes on to the virtual server of a change, and makes it. */
  change(changes: Changes, at: number): void {
    const service = changes.service[at]!;
    if (service !== this.#service) {
      this.#reach(service + 1);
      this.#service = service;
      this.#servers = this.#director.services.servers[service] ?? 0;
    }
    const kind = changes.kind[at]!;
    if (kind === RETIRE) this.#retire(changes.server[at]!, changes.position[at]!);
    if (kind === RECALL) this.#delete(changes.position[at]!);
    if (kind === RECALL || kind === ADD) this.#add();
  }

  /** The pass goes through the rest, then through the sets and the rules. */
  sets(changes: number): void {
    this.#reach(this.#wantedServers.count);
    const sets = Object.values(this.#sets);
    this.#counts[EXEC]! += sets.length + changes + 1;
    for (const set of sets) this.#counts[SET_ENTRY]! += set.count;
  }

  /** Cleaning up: a dump of all virtual servers, of which so many are nobody's. */
  end(foreign: number): void {
    this.#counts[NETLINK]! += 1 + foreign;
    this.#counts[NETLINK_RECORD]! += Math.max(this.#wantedServers.count, this.#director.services.count);
  }

  /** What has been counted since the last take. */
  take(): Counts {
    const counts = this.#counts;
    this.#counts = new Float64Array(IPVS_OPERATIONS.length);
    return counts;
  }

  #reach(service: number): void {
    const passed = service - this.#reached;
    const listed = this.#listed.of(service) - this.#listed.of(this.#reached);
    const wanted = this.#wanted.of(service) - this.#wanted.of(this.#reached);
    this.#counts[NETLINK]! += 3 * passed;
    this.#counts[NETLINK_RECORD]! += 2 * passed + listed;
    this.#counts[SYNC_ENDPOINT]! += listed + wanted;
    this.#reached = service;
  }

  /** NEW_DEST: the kernel looks for it in the list and among removed servers, and tells the scheduler. */
  #add(): void {
    this.#counts[NETLINK]! += 1;
    this.#counts[LIST_STEP]! += this.#servers + this.#trash;
    this.#servers++;
    this.#counts[LIST_STEP]! += this.#changeSteps();
  }

  #delete(position: number): void {
    this.#counts[NETLINK]! += 1;
    this.#servers--;
    this.#counts[LIST_STEP]! += position + this.#changeSteps();
    this.#trash++;
  }

  /** A fresh dump tells whether it has connections: DEL_DEST if not, else UPDATE to weight 0. */
  #retire(server: number, position: number): void {
    this.#counts[NETLINK]! += 1;
    this.#counts[NETLINK_RECORD]! += this.#servers;
    const { servers, services } = this.#director;
    const tcpBusy = services.protocol[servers.service[server]!] === TCP && servers.connections(server) > 0;
    if (!tcpBusy) {
      this.#delete(position);
      return;
    }
    this.#counts[NETLINK]! += 1;
    this.#counts[LIST_STEP]! += position + this.#changeSteps();
  }

  /** What the scheduler does on a change of the present list. In the first pass there is no virtual server yet. */
  #changeSteps(): number {
    const { services, schedulers, scheduler } = this.#director;
    const service = this.#service;
    if (service >= services.rows) return scheduler.changeSteps(this.#servers);
    return schedulers.of(service).changeSteps(this.#servers, service);
  }
}
