import { FROM_HOST, RST, TCP, type Stream, type Streams } from '@vipsim/sim-core';
import {
  formatAddress,
  isInside,
  parseNetwork,
  sameAddress,
  type Address,
  type Family,
  type Network,
} from '../../netfilter/address.ts';
import { Flows, advance, openFlow, reopens, type Found, type Tuple } from '../../netfilter/flows.ts';
import type { LiteralPacket, NodeFacts } from '../../netfilter/literal-node.ts';
import { bind, destinationOf, sourceOf, type Binding, type NatTarget } from '../../netfilter/nat.ts';
import { dryRun } from './dry-run.ts';
import { ACCEPT, Evaluator, type ExpressionRecorder } from '../kernel/evaluator.ts';
import { flowStatus } from './flow-status.ts';
import type { HookName } from './hooks.ts';
import { addressOf, wordsInto } from '../kernel/memory-words.ts';
import { natRequest } from './nat-request.ts';
import { NumberSource } from './number-source.ts';
import type { NftOutcome } from './outcome.ts';
import { OPCODES } from '../kernel/program.ts';
import { rejectAnswer } from './reject-answer.ts';
import type { LoadedBase, NftRuleset } from './ruleset.ts';
import { CT_ESTABLISHED, CT_INVALID, CT_NEW, NO_LINK, Skb } from '../kernel/skb.ts';

export type { NftOutcome } from './outcome.ts';

/** Where NftNode.counts has what is no expression. */
export const RULES_ENTERED = OPCODES;
export const LOOKUPS = OPCODES + 1;
export const STEPS = OPCODES + 2;
const COUNTED = Array.from({ length: OPCODES }, (_, opcode) => opcode);

export interface NftNodeOptions {
  readonly rules: NftRuleset;
  readonly family: Family;
  readonly facts: NodeFacts;
  readonly streams: Streams;
}

/** Told what a packet meets, in order. */
export interface NodeRecorder extends ExpressionRecorder {
  enter(base: LoadedBase): void;
  leave(base: LoadedBase, accepted: boolean): void;
  /** Of connection tracking and NAT. */
  event(where: string, what: string): void;
}

interface Run {
  readonly packet: LiteralPacket;
  readonly nowNs: number;
  readonly dry: boolean;
  readonly leaves: { -readonly [Field in keyof Tuple]: Tuple[Field] };
  tracked: boolean;
  found: Found | undefined;
  isNew: boolean;
  destinationDecided: boolean;
  sourceDecided: boolean;
  confirmed: boolean;
  masqueraded: boolean;
}

/**
 * A node whose netfilter holds any nft ruleset: what a packet meets on its way, hook by hook.
 *
 * Models: the base chains of all tables at each hook in the order of their priorities; connection tracking; nat
 * chains for the packets that open a flow, once for each side; packets of known flows translated back and forth; the
 * way of a host's packet to itself, which passes prerouting and input after postrouting.
 * Source: net/netfilter/core.c, nf_nat_core.c, nf_conntrack_core.c, nf_nat_redirect.c, nf_nat_masquerade.c.
 * Not modelled: routes beyond local, pod network and outside; rerouting by mark; RELATED flows; fragments; tables of
 * the families bridge, arp and netdev; conntrack marks and untracked packets.
 */
export class NftNode {
  readonly rules: NftRuleset;
  readonly flows = new Flows();
  recorder: NodeRecorder | undefined = undefined;
  /** Gives the 32 bits of each `numgen random` in place of the stream: replays follow a kernel. */
  bits: (() => number) | undefined = undefined;
  /** Likewise for ports: a whole number below the bound, where the search for a free one begins. */
  offset: ((bound: number) => number) | undefined = undefined;
  /** Since the node was made, foreseen walks included: expressions by opcode, then rules, lookups and their steps. */
  readonly counts = new Float64Array(OPCODES + 4);
  readonly #options: NftNodeOptions;
  readonly #skb = new Skb();
  readonly #numbers: NumberSource;
  readonly #evaluator: Evaluator;
  readonly #ports: Stream;
  readonly #loopback: Network;
  readonly #words: number;

  constructor(options: NftNodeOptions) {
    const { family, rules, streams } = options;
    this.#options = options;
    this.rules = rules;
    this.#numbers = new NumberSource(streams.seed, rules.kernel);
    const operations = { expressions: COUNTED, rule: RULES_ENTERED, lookup: LOOKUPS, step: STEPS };
    this.#evaluator = new Evaluator(rules.kernel, operations, this.counts, this.#numbers);
    this.#ports = streams.stream('masquerade.ports');
    this.#words = family === 4 ? 1 : 4;
    this.#loopback = family === 4 ? parseNetwork('127.0.0.0/8', 4)! : parseNetwork('::1/128', 6)!;
    this.#skb.ipv6 = family === 6;
    this.#skb.isLocal = (words) => this.isLocal(addressOf(words, this.#words));
  }

  /** The registers of its walks, as they are while a recorder hears of an expression. */
  get registers(): Uint32Array {
    return this.#evaluator.registers;
  }

  /** Let a packet through: rules count, sets remember, flows are opened. */
  send(packet: LiteralPacket, nowNs: number): NftOutcome {
    return this.#send(packet, nowNs, false);
  }

  /** What `send` would do, for a packet that opens a flow; nothing is changed. */
  foresee(packet: LiteralPacket, nowNs: number): NftOutcome {
    return dryRun(this.rules.kernel, () => this.#send(packet, nowNs, true));
  }

  isLocal(address: Address): boolean {
    const { addresses } = this.#options.facts;
    return isInside(this.#loopback, address) || addresses.some((own) => sameAddress(own, address));
  }

  #send(packet: LiteralPacket, nowNs: number, dry: boolean): NftOutcome {
    const run = this.#begin(packet, nowNs, dry);
    const { leaves } = run;
    if (packet.origin !== FROM_HOST) {
      this.#links(packet.inLink ?? this.#linkOf(packet.source), '');
      const stopped = this.#hook(run, 'prerouting');
      if (stopped) return stopped;
      if (this.isLocal(leaves.destination)) return this.#arrive(run);
      this.#skb.outLink = this.rules.link(this.#linkOf(leaves.destination));
      return this.#hook(run, 'forward') ?? this.#leave(run) ?? this.#outcome(run, 'accept', '', '');
    }
    // A packet of the host is routed by the destination that it was sent to; chains of output see that link.
    this.#links('', this.#routeOf(packet.destination));
    const stopped = this.#hook(run, 'output');
    if (stopped) return stopped;
    this.#links('', this.#routeOf(leaves.destination));
    const left = this.#leave(run);
    if (left || !this.isLocal(leaves.destination)) return left ?? this.#outcome(run, 'accept', '', '');
    this.#links('lo', '');
    return this.#hook(run, 'prerouting') ?? this.#arrive(run);
  }

  #begin(packet: LiteralPacket, nowNs: number, dry: boolean): Run {
    const { protocol, source, sourcePort, destination, destinationPort } = packet;
    const leaves = { source, sourcePort, destination, destinationPort };
    const skb = this.#skb;
    skb.protocol = protocol;
    skb.mark = 0;
    skb.ctState = CT_INVALID;
    skb.ctStatus = 0;
    // A dry walk must not move the stream.
    this.#numbers.begin(this.bits ?? (dry ? () => 0 : undefined), this.recorder);
    this.#evaluator.recorder = this.#numbers;
    this.#evaluator.bytes = packet.bytes;
    const run: Run = {
      packet,
      nowNs,
      dry,
      leaves,
      tracked: false,
      found: undefined,
      isNew: false,
      destinationDecided: false,
      sourceDecided: false,
      confirmed: false,
      masqueraded: false,
    };
    this.#rewrite(run, leaves);
    return run;
  }

  /** Everything at a hook, until something stops the packet. */
  #hook(run: Run, hook: HookName): NftOutcome | undefined {
    for (const step of this.rules.steps(this.#options.family, hook)) {
      if (step.kind === 'track') this.#track(run);
      else {
        const stopped =
          step.kind === 'nat' ? this.#translate(run, hook, step.chains) : this.#stop(run, step.chain);
        if (stopped) return stopped;
      }
    }
    return undefined;
  }

  /** Look the flow up or open one: nf_conntrack_in. A packet that comes back by the loopback has its flow already. */
  #track(run: Run): void {
    if (run.tracked) return;
    run.tracked = true;
    const { packet, nowNs, dry } = run;
    const tuple = { ...run.leaves };
    let found = this.flows.find(packet.protocol, tuple, nowNs);
    if (found !== undefined && reopens(found, packet.flags)) {
      if (!dry) this.flows.remove(found.flow);
      found = undefined;
    }
    if (found === undefined) {
      const flow = openFlow(packet.protocol, tuple, packet.flags, nowNs);
      this.recorder?.event(
        'conntrack',
        flow === undefined ? 'no flow begins like this: invalid' : 'a new flow',
      );
      if (flow === undefined) return;
      run.isNew = true;
      run.found = { flow, isReply: false };
      this.#skb.ctState = CT_NEW;
    } else {
      const wasAnswered = found.flow.replySeen;
      if (!dry && !advance(found, packet.flags, nowNs)) return;
      // A reset before any answer ends the connection at once: nf_conntrack_tcp_packet.
      if (packet.protocol === TCP && !wasAnswered && (packet.flags & RST) !== 0 && !dry) {
        this.flows.remove(found.flow);
      }
      this.recorder?.event(
        'conntrack',
        `a known flow, ${found.isReply ? 'its answer' : 'its own direction'}`,
      );
      run.found = found;
      run.confirmed = true;
      run.sourceDecided = true;
      run.destinationDecided = true;
      this.#skb.ctState = found.isReply || wasAnswered ? CT_ESTABLISHED : CT_NEW;
    }
    this.#noteStatus(run);
  }

  /** Where NAT stands: chains are asked once for each side of a new flow, its mapping serves the rest. */
  #translate(run: Run, hook: HookName, chains: readonly LoadedBase[]): NftOutcome | undefined {
    const { found, leaves } = run;
    if (found === undefined) return undefined;
    const isSource = hook === 'postrouting' || hook === 'input';
    if (!run.isNew) {
      const mapping = found.isReply ? found.flow.original : found.flow.reply;
      const { source, sourcePort, destination, destinationPort } = mapping;
      this.#rewrite(
        run,
        isSource
          ? { ...leaves, source: destination, sourcePort: destinationPort }
          : { ...leaves, destination: source, destinationPort: sourcePort },
      );
      return undefined;
    }
    if (isSource ? run.sourceDecided : run.destinationDecided) return undefined;
    let target: NatTarget | undefined;
    for (const chain of chains) {
      const stopped = this.#stop(run, chain);
      if (stopped) return stopped;
      target = natRequest(this.#evaluator, this.#words);
      if (target !== undefined) break;
    }
    if (isSource) this.#chooseSource(run, target);
    else this.#chooseDestination(run, target, hook === 'output' ? this.#localhost() : this.#own());
    bind(found.flow, { ...leaves });
    this.#noteStatus(run);
    return undefined;
  }

  #chooseDestination(run: Run, target: NatTarget | undefined, own: Address): void {
    const { leaves, packet } = run;
    run.destinationDecided = true;
    if (target === undefined) return;
    const chosen = destinationOf(target, packet.protocol, leaves, own, this.#binding(run));
    this.#rewrite(run, { ...leaves, ...chosen });
    this.recorder?.event(
      'nat',
      `destination is now ${socketText(leaves.destination, leaves.destinationPort)}`,
    );
  }

  #chooseSource(run: Run, target: NatTarget | undefined): void {
    const { leaves, packet } = run;
    run.sourceDecided = true;
    run.masqueraded = target !== undefined;
    const chosen = sourceOf(target, packet.protocol, leaves, this.#own(), this.#binding(run));
    this.#rewrite(run, { ...leaves, ...chosen });
    if (target === undefined) return;
    this.recorder?.event('nat', `source is now ${socketText(leaves.source, leaves.sourcePort)}`);
  }

  /** Input, and the confirmation of a flow that ends here. */
  #arrive(run: Run): NftOutcome {
    return this.#hook(run, 'input') ?? this.#confirm(run) ?? this.#outcome(run, 'accept', '', '');
  }

  /** Postrouting, and the confirmation of a flow that leaves. */
  #leave(run: Run): NftOutcome | undefined {
    return this.#hook(run, 'postrouting') ?? this.#confirm(run);
  }

  /** A flow whose answers would be taken for another's is dropped. */
  #confirm(run: Run): NftOutcome | undefined {
    const { found, packet, nowNs } = run;
    if (run.confirmed || found === undefined) return undefined;
    run.confirmed = true;
    this.#noteStatus(run);
    if (run.dry) return undefined;
    if (this.flows.isTaken(packet.protocol, found.flow.reply, nowNs)) {
      return this.#outcome(run, 'drop', 'conntrack confirm', '');
    }
    this.flows.add(found.flow);
    return undefined;
  }

  /** Let the packet through one base chain; what becomes of it if that is its end. */
  #stop(run: Run, base: LoadedBase): NftOutcome | undefined {
    const evaluator = this.#evaluator;
    this.recorder?.enter(base);
    const accepted = evaluator.run(base.id, this.#skb, run.nowNs) === ACCEPT;
    this.recorder?.leave(base, accepted);
    if (accepted) return undefined;
    if (!evaluator.rejected) return this.#outcome(run, 'drop', base.title, '');
    const { rejectType, rejectCode } = evaluator;
    const answer = rejectAnswer(rejectType, rejectCode, this.#options.family);
    return this.#outcome(run, 'reject', base.title, answer);
  }

  #outcome(run: Run, fate: NftOutcome['fate'], where: string, answer: string): NftOutcome {
    const { isNew, masqueraded, leaves } = run;
    const draws = this.#numbers.draws;
    return { fate, where, answer, first: isNew, masqueraded, leaves: { ...leaves }, draws };
  }

  #rewrite(run: Run, tuple: Tuple): void {
    const skb = this.#skb;
    Object.assign(run.leaves, tuple);
    wordsInto(skb.source, tuple.source);
    wordsInto(skb.destination, tuple.destination);
    skb.sourcePort = tuple.sourcePort;
    skb.destinationPort = tuple.destinationPort;
  }

  #noteStatus({ found, confirmed, sourceDecided, destinationDecided }: Run): void {
    const decided = { confirmed, source: sourceDecided, destination: destinationDecided };
    this.#skb.ctStatus = flowStatus(found!.flow, decided);
  }

  /** Links of the hook; an empty name is none. */
  #links(inLink: string, outLink: string): void {
    this.#skb.inLink = inLink === '' ? NO_LINK : this.rules.link(inLink);
    this.#skb.outLink = outLink === '' ? NO_LINK : this.rules.link(outLink);
  }

  #binding({ nowNs, dry }: Run): Binding {
    // A dry walk must not move the stream of ports.
    const below = this.offset ?? ((bound: number) => (dry ? 0 : this.#ports.below(bound)));
    return { flows: this.flows, nowNs, below };
  }

  #routeOf(address: Address): string {
    return this.isLocal(address) ? 'lo' : this.#linkOf(address);
  }

  #linkOf(address: Address): string {
    const { podNetwork, podLink, outsideLink } = this.#options.facts;
    return podNetwork !== undefined && isInside(podNetwork, address) ? podLink : outsideLink;
  }

  #own(): Address {
    return this.#options.facts.addresses[0]!;
  }

  #localhost(): Address {
    return this.#options.family === 4 ? [0x7f000001] : [0, 0, 0, 1];
  }
}

function socketText(address: Address, port: number): string {
  const text = formatAddress(address);
  return address.length === 1 ? `${text}:${port}` : `[${text}]:${port}`;
}
