import { formatIpv4 } from '@vipsim/sim-core';
import type { Counts } from '../cost/operations.ts';
import type { Recorder } from '../proxier.ts';
import { OPERATION } from './operations.ts';
import {
  ACCEPT,
  NODEPORT_CONTAINER,
  NODEPORT_HOST,
  NODEPORT_NON_LOCAL,
  NOT_FROM_BRIDGE,
  PORTALS_CONTAINER,
  PORTALS_HOST,
  STATE_NEW,
  TO_LOCAL,
  type PortalChain,
} from './portal-chain.ts';
import { portalRule } from './portal-text.ts';
import type { Portals } from './portals.ts';

const HOOK = OPERATION['iptables.hook'];
const SKIPPED = OPERATION['iptables.legacy.skipped'];
const SELECTED = OPERATION['iptables.legacy.selected'];
const MATCHED = OPERATION['iptables.legacy.matched'];
const COMMENT = OPERATION['iptables.match.comment'];
const TRANSPORT = OPERATION['iptables.match.transport'];
const PHYSDEV = OPERATION['iptables.match.physdev'];
const ADDRTYPE = OPERATION['iptables.match.addrtype'];
const STATE = OPERATION['iptables.match.conntrack'];
const TARGET = OPERATION['iptables.target'];
const JUMP = OPERATION['iptables.jump'];

const LOOPBACK = 127;
const NONE = -1;

/**
 * A packet's way through the portal rules in x_tables: each rule's selector (destination, protocol), then its
 * matches in the order of the command line, to the first that fails.
 * Source: ipt_do_table, net/ipv4/netfilter/ip_tables.c.
 * `literal` looks at every rule; otherwise a rule is found by its key, and those passed are counted by position:
 * the same verdict and the same counts.
 */
export class PortalWalk {
  // The packet as the rules see it.
  destination = 0;
  destinationPort = 0;
  protocol = 0;
  opening = false;
  /** It entered by a port of the pods' bridge. */
  fromBridge = false;
  /** The service port that a rule led to, or -1. */
  servicePort = NONE;
  recorder: Recorder | undefined;
  readonly #portals: Portals;
  readonly #nodeAddress: number;
  readonly #literal: boolean;

  constructor(portals: Portals, nodeAddress: number, literal = false) {
    this.#portals = portals;
    this.#nodeAddress = nodeAddress;
    this.#literal = literal;
  }

  isLocal(address: number): boolean {
    return address === this.#nodeAddress || address >>> 24 === LOOPBACK;
  }

  /** nat PREROUTING, or OUTPUT for what the node itself sends: portals, then node ports of local addresses. */
  translate(fromHost: boolean, counts: Counts): void {
    counts[HOOK]! += 1;
    this.servicePort = NONE;
    this.#jump(counts);
    counts[COMMENT]! += 1;
    if (this.#chain(fromHost ? PORTALS_HOST : PORTALS_CONTAINER, counts)) return;
    counts[ADDRTYPE]! += 1;
    if (this.isLocal(this.destination)) {
      this.#jump(counts);
      counts[COMMENT]! += 1;
      if (this.#chain(fromHost ? NODEPORT_HOST : NODEPORT_CONTAINER, counts)) return;
    } else {
      counts[SELECTED]! += 1;
    }
    this.#endOfChain(counts);
  }

  /** filter INPUT: every packet for the node meets a rule for each node port. */
  input(counts: Counts): void {
    counts[HOOK]! += 1;
    this.#jump(counts);
    counts[COMMENT]! += 1;
    if (!this.#chain(NODEPORT_NON_LOCAL, counts)) this.#endOfChain(counts);
  }

  /** A built-in chain without rules: its policy. */
  policy(counts: Counts): void {
    counts[HOOK]! += 1;
    this.#endOfChain(counts);
  }

  /** True when a rule ends the walk of the table. */
  #chain(index: number, counts: Counts): boolean {
    const chain = this.#portals.chains[index]!;
    const row = this.#literal
      ? this.#scan(chain, counts)
      : chain.addressed
        ? this.#seekAddress(chain, counts)
        : this.#seekPort(chain, counts);
    if (this.recorder !== undefined) this.#record(chain, row);
    if (row === NONE) {
      this.#endOfChain(counts);
      return false;
    }
    counts[MATCHED]! += 1;
    if (chain.target[row] === ACCEPT) return true;
    counts[TARGET]! += 1;
    this.servicePort = chain.servicePort[row]!;
    return true;
  }

  #scan(chain: PortalChain, counts: Counts): number {
    for (let row = 0; row < chain.count; row++) {
      const otherAddress = chain.destination[row] !== 0 && chain.destination[row] !== this.destination;
      if (otherAddress || chain.protocol[row] !== this.protocol) counts[SKIPPED]! += 1;
      else if (this.#fits(chain, row, counts)) return row;
    }
    return NONE;
  }

  #seekAddress(chain: PortalChain, counts: Counts): number {
    let passed = 0;
    let row = chain.firstFor(this.destination, this.protocol, this.destinationPort);
    for (; row !== NONE; row = chain.next[row]!) {
      if (chain.protocol[row] !== this.protocol) continue;
      if (this.#fits(chain, row, counts)) {
        counts[SKIPPED]! += row - passed;
        return row;
      }
      passed++;
    }
    counts[SKIPPED]! += chain.count - passed;
    return NONE;
  }

  /** Rules without an address: all of the packet's protocol are evaluated as far as the port. */
  #seekPort(chain: PortalChain, counts: Counts): number {
    let evaluated = 0;
    let row = chain.firstFor(this.destination, this.protocol, this.destinationPort);
    for (; row !== NONE; row = chain.next[row]!) {
      evaluated++;
      if (!this.#fits(chain, row, counts)) continue;
      const before = chain.ordinal[row]!;
      this.#passPorts(before + 1 - evaluated, row - before, counts);
      return row;
    }
    const all = chain.ofProtocol[this.protocol]!;
    this.#passPorts(all - evaluated, chain.count - all, counts);
    return NONE;
  }

  #passPorts(evaluated: number, skipped: number, counts: Counts): void {
    counts[SELECTED]! += evaluated;
    counts[COMMENT]! += evaluated;
    counts[TRANSPORT]! += evaluated;
    counts[SKIPPED]! += skipped;
  }

  /** The matches of a rule whose selector fits. */
  #fits(chain: PortalChain, row: number, counts: Counts): boolean {
    counts[SELECTED]! += 1;
    counts[COMMENT]! += 1;
    counts[TRANSPORT]! += 1;
    if (chain.port[row] !== this.destinationPort) return false;
    const tests = chain.tests[row]!;
    if (tests === 0) return true;
    if ((tests & NOT_FROM_BRIDGE) !== 0) {
      counts[PHYSDEV]! += 1;
      if (this.fromBridge) return false;
    }
    if ((tests & TO_LOCAL) !== 0) {
      counts[ADDRTYPE]! += 1;
      if (!this.isLocal(this.destination)) return false;
    }
    if ((tests & STATE_NEW) === 0) return true;
    counts[STATE]! += 1;
    return this.opening;
  }

  #jump(counts: Counts): void {
    counts[SELECTED]! += 1;
    counts[MATCHED]! += 1;
    counts[JUMP]! += 1;
  }

  /** The RETURN entry of a user chain, the policy of a built-in one. */
  #endOfChain(counts: Counts): void {
    counts[SELECTED]! += 1;
    counts[MATCHED]! += 1;
  }

  #record(chain: PortalChain, row: number): void {
    const packet = `${formatIpv4(this.destination)}:${this.destinationPort}`;
    const what =
      row === NONE
        ? `none of ${chain.count} rules fits a packet to ${packet}`
        : `rule ${row + 1} of ${chain.count}: ${portalRule(this.#portals, chain, row, formatIpv4(this.#nodeAddress))}`;
    this.recorder!.step(chain.name, what);
  }
}
