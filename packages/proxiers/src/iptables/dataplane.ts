import { FROM_HOST, type Packet } from '@vipsim/sim-core';
import { CONNECTION_OPERATIONS, ConnectionPath, DONE } from '../netfilter/connection-path.ts';
import {
  DROP,
  FORWARD as FORWARDED,
  REJECT,
  type ConnectionStats,
  type Dataplane,
  type NodeContext,
  type Recorder,
  type TableSize,
  type Verdict,
} from '../proxier.ts';
import { FORWARD, INPUT, KUBE_SERVICES, OUTPUT, POSTROUTING, PREROUTING } from './chains.ts';
import { OPERATION } from './operations.ts';
import { ACCEPT, CT_DNAT, CT_ESTABLISHED, CT_NEW, DNAT, DROP_PACKET, MASQUERADE } from './rule.ts';
import { LEGACY_ENTRIES, nftBlobBytes } from './rule-sizes.ts';
import type { Holding, RuleTable } from './rule-table.ts';
import { PRODUCTION_STYLE, RuleText } from './rule-text.ts';
import type { Ruleset } from './ruleset.ts';
import { Walk } from './walk.ts';

const LOOKUP = CONNECTION_OPERATIONS.indexOf('conntrack.lookup');
const NFT_RULE = OPERATION['iptables.nft.rule'];
const SKIPPED = OPERATION['iptables.legacy.skipped'];
const LINE_LEGACY = OPERATION['iptables.sync.line-legacy'];
const READ = OPERATION['iptables.kernel.read'];
const REPLACED = OPERATION['iptables.kernel.replaced'];
const STEP = CONNECTION_OPERATIONS.indexOf('conntrack.step');

/**
 * The packet's way through a node whose Services are iptables rules.
 *
 * Models: nat for packets that open a connection (PREROUTING or OUTPUT, then POSTROUTING or INPUT), filter for
 * every packet (FORWARD, INPUT or OUTPUT), conntrack around them.
 * Source: hook order and priorities of include/uapi/linux/netfilter_ipv4.h; net/netfilter/nf_nat_core.c, which
 * asks nat only while the connection's mapping is undecided.
 * Not modelled: raw and mangle tables, rules of others than kube-proxy, FORWARD policies other than ACCEPT;
 * unanswered packets of a known connection count as ESTABLISHED, invalid ones pass (KUBE-FORWARD would drop them).
 */
export class IptablesDataplane implements Dataplane {
  /** When the dataplane was last told the time. */
  nowNs = 0;
  readonly #ruleset: Ruleset;
  readonly #path: ConnectionPath;
  readonly #walk: Walk;
  readonly #nft: boolean;
  readonly #cores: number;
  readonly #nodeAddress: number;
  readonly #endpoints: NodeContext['cluster']['endpoints'];
  /** Bytes that the sync being priced hands to the kernel, 0 before any. */
  plannedBytes = 0;

  constructor(node: NodeContext, ruleset: Ruleset, nft: boolean) {
    this.#ruleset = ruleset;
    this.#path = new ConnectionPath(node);
    this.#nft = nft;
    this.#cores = node.cores;
    this.#nodeAddress = node.cluster.nodes[node.node]!.address;
    this.#endpoints = node.cluster.endpoints;
    this.#walk = new Walk({
      nft,
      nodeAddress: this.#nodeAddress,
      statistic: node.streams.stream('iptables.statistic'),
      text: new RuleText(node.cluster, PRODUCTION_STYLE),
    });
  }

  get recorder(): Recorder | undefined {
    return this.#walk.recorder;
  }

  set recorder(recorder: Recorder | undefined) {
    this.#walk.recorder = recorder;
  }

  classify(packet: Packet, nowNs: number, verdict: Verdict): void {
    this.nowNs = nowNs;
    const entry = this.#path.enter(packet, nowNs, verdict);
    if (entry === DONE) {
      if (verdict.fate === FORWARDED) this.#filterKnown(packet, verdict);
      return;
    }
    const walk = this.#walk;
    const fromHost = packet.origin === FROM_HOST;
    walk.source = packet.source;
    walk.destination = packet.destination;
    walk.destinationPort = packet.destinationPort;
    walk.protocol = packet.protocol;
    walk.state = CT_NEW;
    walk.mark = 0;
    walk.run(this.#ruleset.nat, fromHost ? OUTPUT : PREROUTING, verdict.counts);
    const endpoint = walk.endpoint;
    if (walk.fate === DNAT) {
      walk.destination = this.#endpoints.address[endpoint]!;
      walk.destinationPort = this.#endpoints.port[endpoint]!;
      walk.state |= CT_DNAT;
    }
    if (!this.#filterPasses(fromHost, verdict)) {
      this.#path.refuse(entry, walk.fate === DROP_PACKET ? DROP : REJECT, verdict);
      return;
    }
    const leaves = fromHost || !walk.isLocal(walk.destination);
    walk.run(this.#ruleset.nat, leaves ? POSTROUTING : INPUT, verdict.counts);
    const masqueradeAs = walk.fate === MASQUERADE ? this.#nodeAddress : 0;
    verdict.endpoint = endpoint;
    if (endpoint < 0) this.#path.accept(entry, 0, 0, masqueradeAs, verdict);
    else this.#path.accept(entry, walk.destination, walk.destinationPort, masqueradeAs, verdict);
  }

  expire(nowNs: number): void {
    this.nowNs = nowNs;
    this.#path.conntrack.expire(nowNs);
  }

  workingSets(out: Float64Array): void {
    out.fill(0);
    const connections = this.#path.workingSet();
    out[LOOKUP] = connections;
    out[STEP] = connections;
    const { nat } = this.#ruleset;
    if (this.#nft) out[NFT_RULE] = blobBytes(nat, KUBE_SERVICES);
    else out[SKIPPED] = nat.bytesOf(nat.first[KUBE_SERVICES]!, nat.count[KUBE_SERVICES]!);
    out[LINE_LEGACY] = this.plannedBytes;
    out[READ] = this.plannedBytes;
    out[REPLACED] = this.plannedBytes;
  }

  /**
   * Legacy tables to the byte as `struct xt_table_info` counts them, and what goes with each on every CPU: 16
   * bytes of counters an entry, two 8-byte jump stack slots a chain. nft bytes are estimates (rule-sizes.ts).
   */
  tables(): readonly TableSize[] {
    const sizes: TableSize[] = [];
    for (const { name, holds } of [this.#ruleset.nat, this.#ruleset.filter]) {
      sizes.push({ name, entries: this.#nft ? holds.rules : legacyEntries(holds), bytes: holds.bytes });
      const perCpu = this.#nft ? holds.rules * 16 : legacyEntries(holds) * 16 + (holds.chains + 1) * 16;
      sizes.push({ name: `${name} per-CPU`, entries: this.#cores, bytes: perCpu * this.#cores });
    }
    const { conntrack } = this.#path;
    sizes.push({ name: 'conntrack', entries: conntrack.count, bytes: conntrack.memory() });
    return sizes;
  }

  connections(): ConnectionStats {
    return this.#path.stats();
  }

  /** A packet of a known connection meets the filter table only. */
  #filterKnown(packet: Packet, verdict: Verdict): void {
    const walk = this.#walk;
    walk.source = packet.source;
    walk.destination = verdict.destination;
    walk.destinationPort = verdict.destinationPort;
    walk.protocol = packet.protocol;
    walk.state = CT_ESTABLISHED;
    walk.mark = 0;
    if (!this.#filterPasses(packet.origin === FROM_HOST, verdict)) {
      verdict.fate = walk.fate === DROP_PACKET ? DROP : REJECT;
    }
  }

  /** A packet from this host to itself passes OUTPUT, then arrives through the loopback and passes INPUT. */
  #filterPasses(fromHost: boolean, verdict: Verdict): boolean {
    const walk = this.#walk;
    const { filter } = this.#ruleset;
    const local = walk.isLocal(walk.destination);
    if (fromHost) {
      walk.run(filter, OUTPUT, verdict.counts);
      if (!local || walk.fate !== ACCEPT) return walk.fate === ACCEPT;
    }
    walk.run(filter, local ? INPUT : FORWARD, verdict.counts);
    return walk.fate === ACCEPT;
  }
}

/** Entries as the kernel counts them: rules, two for each chain's ends, a policy for each built-in chain, one more. */
export function legacyEntries(holds: Holding): number {
  const { chain, builtIn, table } = LEGACY_ENTRIES;
  return holds.rules + holds.chains * chain + holds.builtIns * builtIn + table;
}

function blobBytes(table: RuleTable, chain: number): number {
  const { match, target } = table.rules;
  const end = table.first[chain]! + table.count[chain]!;
  let bytes = 0;
  for (let row = table.first[chain]!; row < end; row++) bytes += nftBlobBytes(match[row]!, target[row]!);
  return bytes;
}
