import { FROM_HOST, FROM_POD, formatIpv4, swap32, type Packet } from '@vipsim/sim-core';
import { CONNECTION_OPERATIONS, ConnectionPath, DONE } from '../netfilter/connection-path.ts';
import {
  CT_ESTABLISHED,
  CT_INVALID,
  CT_NEW,
  Link,
  NO_LINK,
  STATUS_DNAT,
  Skb,
} from '../nf-tables/kernel/skb.ts';
import {
  DROP,
  FORWARD,
  REJECT,
  type ConnectionStats,
  type Dataplane,
  type NodeContext,
  type Recorder,
  type TableSize,
  type Verdict,
} from '../proxier.ts';
import { baseChains } from './fixed-rules.ts';
import type { KernelTable } from './kernel-table.ts';
import { fixedChain } from './names.ts';
import { OPERATION } from './operations.ts';
import type { Programmed } from './programmed.ts';
import type { LocalDetector, RulesetOptions } from './settings.ts';
import { Walk } from './walk.ts';

const LOOKUP = CONNECTION_OPERATIONS.indexOf('conntrack.lookup');
const STEP = CONNECTION_OPERATIONS.indexOf('conntrack.step');
const SET_STEP = OPERATION['nftables.set.step'];
const SYNC_OPERATION = OPERATION['nftables.sync.operation'];
const KERNEL_STEPS = [OPERATION['nftables.kernel.set-step'], OPERATION['nftables.kernel.loop-step']];
const LOOPBACK_NET = 127;
/** About as long is a line of a transaction. */
const TEXT_BYTES = 150;

/** Base chains of one hook, in the order of their priorities; those before DNAT see packets untranslated. */
interface HookChains {
  readonly early: readonly number[];
  readonly nat: number;
  readonly late: readonly number[];
}

/**
 * The packet's way through a node whose Services are kube-proxy's nftables rules.
 *
 * Models: base chains at their hooks in the order of priorities: filter chains before and after DNAT for every packet,
 * nat chains for packets that open a connection; conntrack around them; packets from this host to itself, which pass
 * output and postrouting and then come in through the loopback, where nat is not asked again.
 * Source: pkg/proxy/nftables/proxier.go (priorities); net/netfilter/nf_nat_core.c, which asks nat only while the
 * connection's mapping is undecided.
 * Not modelled: tables of others; policies other than accept.
 */
export class NftablesDataplane implements Dataplane {
  /** When the dataplane was last told the time. */
  nowNs = 0;
  recorder: Recorder | undefined = undefined;
  readonly #path: ConnectionPath;
  readonly #walk: Walk;
  readonly #table: KernelTable;
  readonly #skb = new Skb();
  readonly #nodeAddress: number;
  readonly #podLink: Link;
  readonly #outsideLink: Link;
  readonly #prerouting: HookChains;
  readonly #input: HookChains;
  readonly #forward: HookChains;
  readonly #output: HookChains;
  readonly #postrouting: HookChains;

  constructor(node: NodeContext, options: RulesetOptions, table: KernelTable, programmed: Programmed) {
    this.#path = new ConnectionPath(node);
    this.#table = table;
    this.#nodeAddress = options.nodeAddress;
    this.#walk = new Walk(node, table, programmed);
    const [podLink, outsideLink] = linksOf(options.detector);
    this.#podLink = new Link(3, podLink);
    this.#outsideLink = new Link(2, outsideLink);
    this.#skb.isLocal = (words) => this.#isLocal(swap32(words[0]!));
    const at = (hook: string): HookChains => chainsAt(options, hook);
    this.#prerouting = at('prerouting');
    this.#input = at('input');
    this.#forward = at('forward');
    this.#output = at('output');
    this.#postrouting = at('postrouting');
  }

  classify(packet: Packet, nowNs: number, verdict: Verdict): void {
    this.nowNs = nowNs;
    const entry = this.#path.enter(packet, nowNs, verdict);
    const skb = this.#skb;
    skb.protocol = packet.protocol;
    skb.source[0] = swap32(packet.source);
    skb.sourcePort = packet.sourcePort;
    skb.mark = 0;
    this.#aim(packet.destination, packet.destinationPort);
    const walk = this.#walk;
    walk.nowNs = nowNs;
    walk.recorder = this.recorder;
    walk.begin(verdict.counts);
    if (entry !== DONE) this.#open(packet, entry, verdict);
    else if (verdict.fate === FORWARD) this.#passKnown(packet, verdict);
  }

  expire(nowNs: number): void {
    this.nowNs = nowNs;
    this.#path.conntrack.expire(nowNs);
    this.#table.tables.collect(nowNs / 1e6);
  }

  workingSets(out: Float64Array): void {
    out.fill(0);
    const connections = this.#path.workingSet();
    out[LOOKUP] = connections;
    out[STEP] = connections;
    const bytes = this.#table.bytes();
    out[SET_STEP] = bytes.sharedSets;
    out[SYNC_OPERATION] = this.#table.plannedOperations * TEXT_BYTES;
    for (const operation of KERNEL_STEPS) out[operation] = bytes.setHeads;
  }

  tables(): readonly TableSize[] {
    const { conntrack } = this.#path;
    return [
      ...this.#table.sizes(),
      { name: 'conntrack', entries: conntrack.count, bytes: conntrack.memory() },
    ];
  }

  connections(): ConnectionStats {
    return this.#path.stats();
  }

  /** The first packet of a connection: nat decides where it goes and as whom, filter whether it may. */
  #open(packet: Packet, entry: number, verdict: Verdict): void {
    const walk = this.#walk;
    const skb = this.#skb;
    const fromHost = packet.origin === FROM_HOST;
    skb.ctState = CT_NEW;
    skb.ctStatus = 0;
    this.#enter(packet);
    const hook = fromHost ? this.#output : this.#prerouting;
    if (!this.#passes(hook.early)) return this.#path.refuse(entry, this.#refusal(), verdict);
    if (!walk.aim(hook.nat, skb)) return this.#path.refuse(entry, this.#refusal(), verdict);
    const { endpoint } = walk;
    if (walk.aimed) {
      this.#aim(walk.address, walk.port);
      skb.ctStatus |= STATUS_DNAT;
    }
    const destination = swap32(skb.destination[0]!);
    const local = this.#isLocal(destination);
    const next = fromHost ? this.#output : local ? this.#input : this.#forward;
    if (!this.#passes(next.late)) return this.#path.refuse(entry, this.#refusal(), verdict);
    let masqueradeAs = 0;
    if (fromHost || !local) {
      if (!walk.mask(this.#postrouting.nat, skb)) {
        return this.#path.refuse(entry, this.#refusal(), verdict);
      }
      if (walk.masquerades) masqueradeAs = this.#nodeAddress;
    }
    if (fromHost && local) {
      if (masqueradeAs !== 0) skb.source[0] = swap32(masqueradeAs);
      skb.inLink = LO;
      skb.outLink = NO_LINK;
      if (!this.#passes(this.#prerouting.early) || !this.#passes(this.#input.late)) {
        return this.#path.refuse(entry, this.#refusal(), verdict);
      }
    }
    verdict.endpoint = endpoint;
    const dnat = walk.aimed;
    this.#path.accept(entry, dnat ? destination : 0, dnat ? skb.destinationPort : 0, masqueradeAs, verdict);
  }

  /** A packet of a known connection, or of none that it could belong to, meets the filter chains only. */
  #passKnown(packet: Packet, verdict: Verdict): void {
    const skb = this.#skb;
    const { invalid, established, destinationTranslated } = this.#path;
    skb.ctState = invalid ? CT_INVALID : established ? CT_ESTABLISHED : CT_NEW;
    skb.ctStatus = destinationTranslated ? STATUS_DNAT : 0;
    if (invalid) {
      this.recorder?.step('conntrack', 'the packet fits no state of a connection: INVALID, not translated');
    }
    const fromHost = packet.origin === FROM_HOST;
    this.#enter(packet);
    let passes = this.#passes((fromHost ? this.#output : this.#prerouting).early);
    this.#aim(verdict.destination, verdict.destinationPort);
    const local = this.#isLocal(verdict.destination);
    passes &&= this.#passes((fromHost ? this.#output : local ? this.#input : this.#forward).late);
    if (passes && fromHost && local) {
      skb.inLink = LO;
      skb.outLink = NO_LINK;
      passes = this.#passes(this.#prerouting.early) && this.#passes(this.#input.late);
    }
    if (!passes) verdict.fate = this.#refusal();
  }

  #enter(packet: Packet): void {
    const skb = this.#skb;
    const fromHost = packet.origin === FROM_HOST;
    skb.inLink = fromHost ? NO_LINK : packet.origin === FROM_POD ? this.#podLink : this.#outsideLink;
    skb.outLink = NO_LINK;
  }

  #aim(address: number, port: number): void {
    this.#skb.destination[0] = swap32(address);
    this.#skb.destinationPort = port;
  }

  #passes(chains: readonly number[]): boolean {
    for (let i = 0; i < chains.length; i++) if (!this.#walk.filter(chains[i]!, this.#skb)) return false;
    return true;
  }

  /** What becomes of a packet that a chain stopped. */
  #refusal(): Verdict['fate'] {
    const walk = this.#walk;
    if (!walk.rejected) return DROP;
    // The default of reject, for TCP as well as UDP.
    if (this.recorder !== undefined) {
      const sender = formatIpv4(swap32(this.#skb.source[0]!));
      this.recorder.step('reject', `ICMP port unreachable to ${sender}`);
    }
    return REJECT;
  }

  #isLocal(address: number): boolean {
    return address === this.#nodeAddress || address >>> 24 === LOOPBACK_NET;
  }
}

const LO = new Link(1, 'lo');

/** Links of pods and of the outside, so named that the detector tells them apart. */
function linksOf(detector: LocalDetector): readonly [string, string] {
  if (detector.kind !== 'link') return ['veth0', 'eth0'];
  const prefix = detector.link.endsWith('*') ? detector.link.slice(0, -1) : '';
  const pod = prefix === '' ? detector.link : `${prefix}0`;
  return [pod, prefix !== '' && 'eth0'.startsWith(prefix) ? 'uplink' : pod === 'eth0' ? 'uplink' : 'eth0'];
}

function chainsAt({ layout }: RulesetOptions, hook: string): HookChains {
  const all = baseChains(layout).filter((chain) => chain.hook === hook);
  const filters = all.filter(({ type }) => type === 'filter');
  const nat = all.find(({ type }) => type === 'nat');
  // Until 1.33 filters of input and forward have the early priority, too, but these hooks come after DNAT.
  const isFirst = hook === 'prerouting' || hook === 'output';
  const isEarly = ({ priority }: { readonly priority: number }): boolean => isFirst && priority < -100;
  return {
    early: filters.filter(isEarly).map(({ chain }) => fixedChain(chain)),
    nat: nat === undefined ? -1 : fixedChain(nat.chain),
    late: filters.filter((chain) => !isEarly(chain)).map(({ chain }) => fixedChain(chain)),
  };
}
