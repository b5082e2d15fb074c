import { FROM_HOST, RST, TCP, type Stream, type Streams } from '@vipsim/sim-core';
import type { Recorder } from '../proxier.ts';
import {
  formatAddress,
  isInside,
  parseNetwork,
  sameAddress,
  type Address,
  type Network,
} from '../netfilter/address.ts';
import {
  Flows,
  advance,
  inverse,
  isDestinationTranslated,
  isSourceTranslated,
  openFlow,
  reopens,
  type Flow,
  type Found,
  type Tuple,
} from '../netfilter/flows.ts';
import type { LiteralOutcome, LiteralPacket, NodeFacts } from '../netfilter/literal-node.ts';
import { bind, destinationOf, sourceOf } from '../netfilter/nat.ts';
import type { Ruleset } from './ruleset.ts';
import {
  CT_DNAT,
  CT_ESTABLISHED,
  CT_INVALID,
  CT_NEW,
  CT_SNAT,
  CT_UNTRACKED,
  type Skb,
  type World,
} from './skb.ts';
import { walkTable, type TableVerdict } from './walk.ts';

export interface XtNodeOptions {
  readonly rules: Ruleset;
  readonly facts: NodeFacts;
  /** x_tables counts policies, nf_tables does not. */
  readonly backend: 'legacy' | 'nft';
  readonly streams: Streams;
  /** The kernel's ticks per second: xt_recent and xt_limit tell time by them. */
  readonly hz: number;
}

interface Run {
  readonly packet: LiteralPacket;
  readonly skb: Skb;
  readonly world: World;
  readonly nowNs: number;
  found: Found | undefined;
  isNew: boolean;
  destinationDecided: boolean;
  sourceDecided: boolean;
  masqueraded: boolean;
}

/**
 * A node whose netfilter holds any rules: what a packet meets on its way, hook by hook.
 *
 * Models: raw, connection tracking, mangle, nat, filter, security in the order of their priorities; nat for the
 * packets that open a flow, once for each side; packets of known flows translated back and forth; the way of a
 * host's packet to itself, which passes PREROUTING and INPUT after POSTROUTING. Source:
 * include/uapi/linux/netfilter_ipv4.h, nf_nat_core.c, nf_conntrack_core.c.
 * Not modelled: routes beyond local, pod network and outside; RELATED flows; fragments; bridges' own tables.
 */
export class XtNode {
  readonly rules: Ruleset;
  readonly flows = new Flows();
  recorder: Recorder | undefined = undefined;
  /** Decides `statistic --mode random` in place of the stream: replays follow what a kernel drew. */
  chance: ((threshold: number) => boolean) | undefined = undefined;
  /** Likewise for ports: a whole number below the bound, where the search for a free one begins. */
  offset: ((bound: number) => number) | undefined = undefined;
  readonly #options: XtNodeOptions;
  readonly #statistic: Stream;
  readonly #ports: Stream;
  readonly #loopback: Network;

  constructor(options: XtNodeOptions) {
    this.#options = options;
    this.rules = options.rules;
    this.#statistic = options.streams.stream('iptables.statistic');
    this.#ports = options.streams.stream('masquerade.ports');
    this.#loopback =
      options.rules.family === 4 ? parseNetwork('127.0.0.0/8', 4)! : parseNetwork('::1/128', 6)!;
  }

  /** Let a packet through: tables count, lists remember, flows are opened. */
  send(packet: LiteralPacket, nowNs: number): LiteralOutcome {
    return this.#send(packet, nowNs, false);
  }

  /** What `send` would do, for a packet that opens a flow; nothing is changed. */
  foresee(packet: LiteralPacket, nowNs: number): LiteralOutcome {
    return this.#send(packet, nowNs, true);
  }

  isLocal(address: Address): boolean {
    return (
      isInside(this.#loopback, address) ||
      this.#options.facts.addresses.some((own) => sameAddress(own, address))
    );
  }

  #send(packet: LiteralPacket, nowNs: number, dry: boolean): LiteralOutcome {
    const run = this.#begin(packet, nowNs, dry);
    const fromHost = packet.origin === FROM_HOST;
    const first = fromHost ? 'OUTPUT' : 'PREROUTING';
    let stopped = this.#pass(run, 'raw', first);
    if (stopped) return stopped;
    this.#track(run);
    stopped = this.#pass(run, 'mangle', first) ?? this.#translateDestination(run, first);
    if (stopped) return stopped;
    const isLocal = this.isLocal(run.skb.destination);
    const outLink = isLocal ? 'lo' : this.#linkTo(run.skb.destination);
    if (fromHost) {
      run.skb.outLink = outLink;
      stopped = this.#passAll(run, ['filter', 'security'], 'OUTPUT') ?? this.#leave(run);
      if (stopped || !isLocal) return stopped ?? this.#accept(run);
      run.skb.outLink = '';
      run.skb.inLink = 'lo';
      stopped = this.#passAll(run, ['raw', 'mangle'], 'PREROUTING') ?? this.#arrive(run);
      return stopped ?? this.#accept(run);
    }
    if (isLocal) return this.#arrive(run) ?? this.#accept(run);
    run.skb.outLink = outLink;
    return (
      this.#passAll(run, ['mangle', 'filter', 'security'], 'FORWARD') ?? this.#leave(run) ?? this.#accept(run)
    );
  }

  #begin(packet: LiteralPacket, nowNs: number, dry: boolean): Run {
    const { hz } = this.#options;
    const { facts } = this.#options;
    const guessed = this.#isPod(packet.source) ? facts.podLink : facts.outsideLink;
    const { protocol, source, sourcePort, destination, destinationPort, flags, bytes } = packet;
    const recorder = this.recorder;
    const world: World = {
      jiffies: Math.floor(nowNs / (1_000_000_000 / hz)),
      hz,
      recent: this.rules.recent,
      dry,
      drawsBelow: (threshold) => this.#draw(threshold, recorder),
      isLocal: (address) => this.isLocal(address),
      isBroadcast: (address) => address.length === 1 && address[0] === 0xffffffff,
    };
    const skb = {
      protocol,
      source,
      sourcePort,
      destination,
      destinationPort,
      flags,
      bytes,
      mark: 0,
      state: 0,
      inLink: packet.origin === FROM_HOST ? '' : (packet.inLink ?? guessed),
      // Before NAT a packet of the host is routed by the destination that it was sent to.
      outLink:
        packet.origin === FROM_HOST ? (this.isLocal(destination) ? 'lo' : this.#linkTo(destination)) : '',
      untracked: false,
    };
    return {
      packet,
      skb,
      world,
      nowNs,
      found: undefined,
      isNew: false,
      destinationDecided: false,
      sourceDecided: false,
      masqueraded: false,
    };
  }

  #draw(threshold: number, recorder: Recorder | undefined): boolean {
    if (this.chance !== undefined) return this.chance(threshold);
    const drawn = this.#statistic.uint32() & 0x7fffffff;
    recorder?.step('statistic', `drew ${drawn}, ${drawn < threshold ? 'below' : 'not below'} ${threshold}`);
    return drawn < threshold;
  }

  /** Look the flow up or open one: nf_conntrack_in. */
  #track(run: Run): void {
    const { skb, packet, nowNs, world } = run;
    if (skb.untracked) {
      skb.state = CT_UNTRACKED;
      return;
    }
    const tuple = tupleOf(packet);
    let found = this.flows.find(skb.protocol, tuple, nowNs);
    if (found !== undefined && reopens(found, skb.flags)) {
      if (!world.dry) this.flows.remove(found.flow);
      found = undefined;
    }
    if (found === undefined) {
      const flow = openFlow(skb.protocol, tuple, skb.flags, nowNs);
      run.isNew = flow !== undefined;
      run.found = flow && { flow, isReply: false };
      skb.state = flow === undefined ? CT_INVALID : CT_NEW;
    } else {
      const wasAnswered = found.flow.replySeen;
      const valid = world.dry || advance(found, skb.flags, nowNs);
      // A reset before any answer ends the connection at once: nf_conntrack_tcp_packet.
      if (skb.protocol === TCP && !wasAnswered && (skb.flags & RST) !== 0 && !world.dry)
        this.flows.remove(found.flow);
      run.found = valid ? found : undefined;
      skb.state = !valid ? CT_INVALID : found.isReply || wasAnswered ? CT_ESTABLISHED : CT_NEW;
    }
    if (run.found !== undefined) this.#markNat(run);
  }

  #markNat(run: Run): void {
    const { flow } = run.found!;
    if (isDestinationTranslated(flow)) run.skb.state |= CT_DNAT;
    if (isSourceTranslated(flow)) run.skb.state |= CT_SNAT;
  }

  /** nat at PREROUTING or OUTPUT: once for a new flow, by its mapping for others. */
  #translateDestination(run: Run, hook: 'PREROUTING' | 'OUTPUT'): LiteralOutcome | undefined {
    const { skb, found } = run;
    if (found === undefined) return undefined;
    if (!run.isNew) {
      const far = found.isReply ? found.flow.original : found.flow.reply;
      skb.destination = far.source;
      skb.destinationPort = far.sourcePort;
      return undefined;
    }
    if (run.destinationDecided) return undefined;
    run.destinationDecided = true;
    const verdict = this.#walk(run, 'nat', hook);
    if (verdict.kind !== 'nat') return this.#stop(run, verdict, `nat ${hook}`);
    const { target } = verdict;
    const own = hook === 'OUTPUT' ? this.#localhost() : this.#own();
    const { destination, destinationPort } = destinationOf(
      target,
      skb.protocol,
      skbTuple(skb),
      own,
      this.#binding(run),
    );
    skb.destination = destination;
    skb.destinationPort = destinationPort;
    bind(found.flow, skbTuple(skb));
    this.#markNat(run);
    return undefined;
  }

  /** INPUT: mangle, filter, security, and nat for the source. */
  #arrive(run: Run): LiteralOutcome | undefined {
    return (
      this.#passAll(run, ['mangle', 'filter', 'security'], 'INPUT') ?? this.#translateSource(run, 'INPUT')
    );
  }

  /** POSTROUTING: mangle, and nat for the source. */
  #leave(run: Run): LiteralOutcome | undefined {
    return this.#pass(run, 'mangle', 'POSTROUTING') ?? this.#translateSource(run, 'POSTROUTING');
  }

  #translateSource(run: Run, hook: 'POSTROUTING' | 'INPUT'): LiteralOutcome | undefined {
    const { skb, found } = run;
    if (found === undefined) return undefined;
    if (!run.isNew) {
      const near = found.isReply ? found.flow.original : found.flow.reply;
      skb.source = near.destination;
      skb.sourcePort = near.destinationPort;
      return undefined;
    }
    if (run.sourceDecided) return undefined;
    run.sourceDecided = true;
    const verdict = this.#walk(run, 'nat', hook);
    const target = verdict.kind === 'nat' ? verdict.target : undefined;
    const stopped = verdict.kind === 'nat' ? undefined : this.#stop(run, verdict, `nat ${hook}`);
    if (stopped) return stopped;
    const { source, sourcePort } = sourceOf(
      target,
      skb.protocol,
      skbTuple(skb),
      this.#own(),
      this.#binding(run),
    );
    skb.source = source;
    skb.sourcePort = sourcePort;
    run.masqueraded = target !== undefined;
    bind(found.flow, skbTuple(skb));
    this.#markNat(run);
    return undefined;
  }

  #accept(run: Run): LiteralOutcome {
    const { found, world, skb, nowNs } = run;
    if (run.isNew && found !== undefined && !world.dry) {
      // Confirmation: a flow whose answers would be another's is dropped.
      if (this.flows.isTaken(skb.protocol, found.flow.reply, nowNs))
        return outcome(run, 'drop', 'confirm', '');
      this.flows.add(found.flow);
    }
    return outcome(run, 'accept', '', '');
  }

  #passAll(run: Run, tables: readonly string[], hook: string): LiteralOutcome | undefined {
    for (const table of tables) {
      const stopped = this.#pass(run, table, hook);
      if (stopped) return stopped;
    }
    return undefined;
  }

  #pass(run: Run, table: string, hook: string): LiteralOutcome | undefined {
    return this.#stop(run, this.#walk(run, table, hook), `${table} ${hook}`);
  }

  #walk(run: Run, name: string, hook: string): TableVerdict {
    const table = this.rules.tables.get(name);
    if (table === undefined || !table.chains.has(hook)) return { kind: 'accept' };
    return walkTable(table, hook, run.skb, run.world, {
      countPolicies: this.#options.backend === 'legacy',
      recorder: this.recorder,
    });
  }

  #stop(run: Run, verdict: TableVerdict, where: string): LiteralOutcome | undefined {
    if (verdict.kind === 'drop') return outcome(run, 'drop', where, '');
    return verdict.kind === 'reject' ? outcome(run, 'reject', where, verdict.answer) : undefined;
  }

  #binding(run: Run): Parameters<typeof sourceOf>[4] {
    const { nowNs, world } = run;
    // A dry walk must not move the stream of ports.
    const below = this.offset ?? ((bound: number) => (world.dry ? 0 : this.#ports.below(bound)));
    return { flows: this.flows, nowNs, below };
  }

  #isPod(address: Address): boolean {
    const { podNetwork } = this.#options.facts;
    return podNetwork !== undefined && isInside(podNetwork, address);
  }

  #linkTo(address: Address): string {
    const { podLink, outsideLink } = this.#options.facts;
    return this.#isPod(address) ? podLink : outsideLink;
  }

  #own(): Address {
    return this.#options.facts.addresses[0]!;
  }

  #localhost(): Address {
    return this.rules.family === 4 ? [0x7f000001] : [0, 0, 0, 1];
  }
}

/** The flow as `conntrack -L` would list it, to tell flows apart in messages. */
export function flowText(flow: Flow): string {
  return `${sideText(flow.original)} ${sideText(flow.reply)}`;
}

function sideText({ source, sourcePort, destination, destinationPort }: Tuple): string {
  return `src=${formatAddress(source)} dst=${formatAddress(destination)} sport=${sourcePort} dport=${destinationPort}`;
}

function outcome(run: Run, fate: LiteralOutcome['fate'], where: string, answer: string): LiteralOutcome {
  return { fate, where, answer, first: run.isNew, masqueraded: run.masqueraded, leaves: skbTuple(run.skb) };
}

function tupleOf(packet: LiteralPacket): Tuple {
  const { source, sourcePort, destination, destinationPort } = packet;
  return { source, sourcePort, destination, destinationPort };
}

function skbTuple(skb: Skb): Tuple {
  const { source, sourcePort, destination, destinationPort } = skb;
  return { source, sourcePort, destination, destinationPort };
}

/** The packet that answers one that left with this tuple. */
export function answerTo(leaves: Tuple): Tuple {
  return inverse(leaves);
}
