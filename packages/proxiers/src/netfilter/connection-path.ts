import {
  ConntrackTable,
  INVALID_PACKET,
  ORIGINAL,
  REPLY,
  REOPENED,
  type Packet,
  type Stream,
} from '@vipsim/sim-core';
import type { NodeContext, ConnectionStats, Verdict } from '../proxier.ts';
import { DROP } from '../proxier.ts';
import type { Counts } from '../cost/operations.ts';

/** Operations of connection tracking and NAT, shared by every mode that stands on netfilter. A mode lists them first. */
export const CONNECTION_OPERATIONS = [
  'conntrack.lookup',
  'conntrack.step',
  'conntrack.create',
  'nat.binding',
  'nat.rewrite',
] as const;

const LOOKUP = 0;
const STEP = 1;
const CREATE = 2;
const BINDING = 3;
const REWRITE = 4;

/** `enter` dealt with the packet: its connection exists, it was invalid, or the table is full (fate DROP). */
export const DONE = -1;

/**
 * What netfilter does with a packet around the NAT hooks: look the connection up at PREROUTING or OUTPUT, apply
 * an existing mapping, or make a new entry and hand it to the mode; at the end confirm it.
 * Source: nf_conntrack_core.c, nf_nat_core.c; kube-proxy masquerades with --random-fully.
 */
export class ConnectionPath {
  readonly conntrack: ConntrackTable;
  /** The packet that entered last fits no state of its connection, or opens none: it goes on without one. */
  invalid = false;
  /** The connection of the packet that entered last was translated to another destination. */
  destinationTranslated = false;
  /**
   * The packet that entered last belongs to a connection that was answered, or is itself the answer: ESTABLISHED;
   * before that, also the later packets of a connection are NEW (resolve_normal_ct).
   */
  established = false;
  readonly #ports: Stream;

  constructor(node: NodeContext) {
    this.conntrack = new ConntrackTable(node.streams.stream('conntrack.key'), node.conntrack);
    this.#ports = node.streams.stream('masquerade.ports');
  }

  /**
   * Look the packet up. Returns DONE when nothing is left to decide, else the new entry (unconfirmed) of a packet
   * that now meets the service tables: follow with `accept` or `refuse`.
   */
  enter(packet: Packet, nowNs: number, verdict: Verdict): number {
    const { conntrack } = this;
    const counts: Counts = verdict.counts;
    this.invalid = false;
    this.destinationTranslated = false;
    this.established = false;
    conntrack.steps = 0;
    const node = conntrack.find(packet, nowNs);
    counts[LOOKUP]! += 1;
    counts[STEP]! += conntrack.steps;
    if (node >= 0) {
      const established = (node & 1) === REPLY || conntrack.answered(node >> 1);
      const tracked = conntrack.track(node >> 1, node & 1, packet, nowNs);
      if (tracked === INVALID_PACKET) {
        this.invalid = true;
        return DONE;
      }
      if (tracked !== REOPENED) {
        this.established = established;
        this.destinationTranslated = this.#hasNewDestination(node >> 1);
        this.#translate(node, verdict);
        return DONE;
      }
    }
    const entry = conntrack.allocate(packet, nowNs);
    if (entry < 0) {
      verdict.fate = DROP;
      return DONE;
    }
    counts[CREATE]! += 1;
    if (conntrack.track(entry, ORIGINAL, packet, nowNs) === INVALID_PACKET) {
      conntrack.discard(entry);
      this.invalid = true;
      return DONE;
    }
    counts[BINDING]! += 2;
    verdict.first = true;
    return entry;
  }

  /** The packet goes on: to `address`:`port` if that is not 0, from `masqueradeAs` if that is not 0. */
  accept(entry: number, address: number, port: number, masqueradeAs: number, verdict: Verdict): void {
    const { conntrack } = this;
    if (address !== 0) conntrack.translateDestination(entry, address, port);
    if (masqueradeAs !== 0) conntrack.masquerade(entry, masqueradeAs, true, this.#ports);
    else conntrack.keepSource(entry, this.#ports);
    const node = entry * 2;
    this.#translate(node, verdict);
    if (!conntrack.confirm(entry)) verdict.fate = DROP;
  }

  /** The packet goes nowhere: `fate` REJECT or DROP; its entry never reaches the table. */
  refuse(entry: number, fate: Verdict['fate'], verdict: Verdict): void {
    this.conntrack.discard(entry);
    verdict.fate = fate;
  }

  stats(): ConnectionStats {
    const { count, peak, inserts, drops, earlyDrops, portExhaustions } = this.conntrack;
    return { entries: count, peak, inserts, drops, earlyDrops, portExhaustions };
  }

  /** Bytes that a lookup's cost depends on: both nodes' cache lines and the buckets in use. */
  workingSet(): number {
    return this.conntrack.count * (256 + 16);
  }

  /** IPS_DST_NAT: replies come from elsewhere than the first packet went to. */
  #hasNewDestination(entry: number): boolean {
    const { conntrack } = this;
    const first = entry * 2;
    const reply = first + 1;
    return (
      conntrack.source(reply) !== conntrack.destination(first) ||
      conntrack.sourcePort(reply) !== conntrack.destinationPort(first)
    );
  }

  #translate(node: number, verdict: Verdict): void {
    const { conntrack } = this;
    if (!conntrack.translated(node >> 1)) return;
    const other = node ^ 1;
    verdict.source = conntrack.destination(other);
    verdict.sourcePort = conntrack.destinationPort(other);
    verdict.destination = conntrack.source(other);
    verdict.destinationPort = conntrack.sourcePort(other);
    verdict.counts[REWRITE]! += 1;
  }
}
