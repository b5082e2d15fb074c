import { FROM_HOST, FROM_POD, formatIpv4, type Packet } from '@vipsim/sim-core';
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
import { RecentLists } from './recent-lists.ts';
import { RecentRules } from './recent-rules.ts';
import {
  ACCEPT,
  CT_DNAT,
  CT_ESTABLISHED,
  CT_INVALID,
  CT_NEW,
  DNAT,
  DROP_PACKET,
  MASQUERADE,
  SNAT,
} from './rule.ts';
import { LEGACY_ENTRIES, nftBlobBytes } from './rule-sizes.ts';
import type { Holding, RuleTable } from './rule-table.ts';
import { RuleText } from './rule-text.ts';
import type { Ruleset } from './ruleset.ts';
import { Walk } from './walk.ts';

const LOOKUP = CONNECTION_OPERATIONS.indexOf('conntrack.lookup');
const NFT_RULE = OPERATION['iptables.nft.rule'];
const SKIPPED = OPERATION['iptables.legacy.skipped'];
const LINE_LEGACY = OPERATION['iptables.sync.line-legacy'];
const READ = OPERATION['iptables.kernel.read'];
const REPLACED = OPERATION['iptables.kernel.replaced'];
const RECENT_ENTRY = OPERATION['iptables.recent.entry'];
const STEP = CONNECTION_OPERATIONS.indexOf('conntrack.step');

/**
 * The packet's way through a node whose Services are iptables rules.
 *
 * Models: nat for packets that open a connection (PREROUTING or OUTPUT, then POSTROUTING or INPUT), filter for
 * every packet (FORWARD, INPUT or OUTPUT), conntrack around them; packets from this host to itself, which pass
 * OUTPUT and POSTROUTING and then come in through the loopback; invalid packets, which meet filter untranslated.
 * Source: hook order and priorities of include/uapi/linux/netfilter_ipv4.h; net/netfilter/nf_nat_core.c, which
 * asks nat only while the connection's mapping is undecided.
 * Not modelled: raw and mangle tables, rules of others than kube-proxy, FORWARD policies other than ACCEPT.
 */
export class IptablesDataplane implements Dataplane {
  /** When the dataplane was last told the time. */
  nowNs = 0;
  /** What packets meet. */
  readonly ruleset: Ruleset;
  readonly #path: ConnectionPath;
  readonly #walk: Walk;
  readonly #recent: RecentLists;
  readonly #nft: boolean;
  readonly #cores: number;
  readonly #nodeAddress: number;
  readonly #endpoints: NodeContext['cluster']['endpoints'];
  /** Bytes that the sync being priced hands to the kernel, 0 before any. */
  plannedBytes = 0;

  constructor(node: NodeContext, ruleset: Ruleset, nft: boolean) {
    this.ruleset = ruleset;
    this.#path = new ConnectionPath(node);
    this.#nft = nft;
    this.#cores = node.cores;
    this.#nodeAddress = node.cluster.nodes[node.node]!.address;
    this.#endpoints = node.cluster.endpoints;
    this.#recent = new RecentLists(node.streams.stream('iptables.recent').uint32());
    const text = new RuleText(node.cluster, ruleset.style);
    ruleset.nat.observer = new RecentRules(ruleset.nat, this.#recent, nft ? undefined : text);
    this.#walk = new Walk({
      nft,
      nodeAddress: this.#nodeAddress,
      statistic: node.streams.stream('iptables.statistic'),
      recent: this.#recent,
      text,
    });
  }

  /** Visit every rule of long chains too; verdicts, counts and draws are the same, only slower. */
  set literal(literal: boolean) {
    this.#walk.literal = literal;
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
    const walk = this.#walk;
    walk.nowNs = nowNs;
    walk.source = packet.source;
    walk.destination = verdict.destination;
    walk.destinationPort = verdict.destinationPort;
    walk.protocol = packet.protocol;
    walk.fromPod = packet.origin === FROM_POD;
    walk.mark = 0;
    if (entry !== DONE) this.#open(packet, entry, verdict);
    else if (verdict.fate === FORWARDED) this.#filterKnown(packet, verdict);
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
    out[RECENT_ENTRY] = this.#recent.memory();
    const { nat } = this.ruleset;
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
    for (const { name, holds } of [this.ruleset.nat, this.ruleset.filter]) {
      sizes.push({ name, entries: this.#nft ? holds.rules : legacyEntries(holds), bytes: holds.bytes });
      const perCpu = this.#nft ? holds.rules * 16 : legacyEntries(holds) * 16 + (holds.chains + 1) * 16;
      sizes.push({ name: `${name} per-CPU`, entries: this.#cores, bytes: perCpu * this.#cores });
    }
    if (this.#recent.lists > 0) {
      sizes.push({ name: 'recent', entries: this.#recent.entries, bytes: this.#recent.memory() });
    }
    const { conntrack } = this.#path;
    sizes.push({ name: 'conntrack', entries: conntrack.count, bytes: conntrack.memory() });
    return sizes;
  }

  connections(): ConnectionStats {
    return this.#path.stats();
  }

  /** The first packet of a connection: nat decides where it goes and as whom, filter whether it may. */
  #open(packet: Packet, entry: number, verdict: Verdict): void {
    const walk = this.#walk;
    const { nat, filter } = this.ruleset;
    const { counts } = verdict;
    const fromHost = packet.origin === FROM_HOST;
    walk.state = CT_NEW;
    walk.run(nat, fromHost ? OUTPUT : PREROUTING, counts);
    const endpoint = walk.endpoint;
    if (walk.fate === DNAT) {
      walk.destination = this.#endpoints.address[endpoint]!;
      walk.destinationPort = this.#endpoints.port[endpoint]!;
      walk.state |= CT_DNAT;
    }
    const local = walk.isLocal(walk.destination);
    if (!this.#passes(filter, fromHost ? OUTPUT : local ? INPUT : FORWARD, counts)) {
      this.#path.refuse(entry, this.#refusal(), verdict);
      return;
    }
    walk.run(nat, fromHost || !local ? POSTROUTING : INPUT, counts);
    const masqueradeAs = walk.fate === MASQUERADE || walk.fate === SNAT ? this.#nodeAddress : 0;
    if (fromHost && local) {
      if (masqueradeAs !== 0) walk.source = masqueradeAs;
      if (!this.#passes(filter, INPUT, counts)) {
        this.#path.refuse(entry, this.#refusal(), verdict);
        return;
      }
    }
    verdict.endpoint = endpoint;
    if (endpoint < 0) this.#path.accept(entry, 0, 0, masqueradeAs, verdict);
    else this.#path.accept(entry, walk.destination, walk.destinationPort, masqueradeAs, verdict);
  }

  /** A packet of a known connection, or of none that it could belong to, meets the filter table only. */
  #filterKnown(packet: Packet, verdict: Verdict): void {
    const walk = this.#walk;
    const { filter } = this.ruleset;
    const { invalid, established, destinationTranslated } = this.#path;
    if (invalid) walk.state = CT_INVALID;
    else walk.state = (established ? CT_ESTABLISHED : CT_NEW) | (destinationTranslated ? CT_DNAT : 0);
    if (invalid && walk.recorder !== undefined) {
      walk.recorder.step('conntrack', 'the packet fits no state of a connection: INVALID, not translated');
    }
    const fromHost = packet.origin === FROM_HOST;
    const local = walk.isLocal(walk.destination);
    let passes = this.#passes(filter, fromHost ? OUTPUT : local ? INPUT : FORWARD, verdict.counts);
    if (passes && fromHost && local) passes = this.#passes(filter, INPUT, verdict.counts);
    if (!passes) verdict.fate = this.#refusal();
  }

  #passes(table: RuleTable, hook: number, counts: Verdict['counts']): boolean {
    this.#walk.run(table, hook, counts);
    return this.#walk.fate === ACCEPT;
  }

  /** What becomes of a packet that filter stopped. */
  #refusal(): Verdict['fate'] {
    const walk = this.#walk;
    if (walk.fate === DROP_PACKET) return DROP;
    // The default of REJECT, for TCP as well as UDP.
    if (walk.recorder !== undefined) {
      walk.recorder.step('reject', `ICMP port unreachable to ${formatIpv4(walk.source)}`);
    }
    return REJECT;
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
