import { FROM_POD, contains, type Packet } from '@vipsim/sim-core';
import type { Counts } from '../cost/operations.ts';
import type { Recorder } from '../proxier.ts';
import type { IpSet } from './ipset.ts';
import { ADDRTYPE, MATCH, RULE, SET_COMPARE, SET_LOOKUP } from './operations.ts';
import { ruleText } from './rule-text.ts';
import type { Rule, Table } from './rules.ts';
import type { Sets } from './sets.ts';

/** The walk came to the end of the built-in chain: its policy, which is ACCEPT. */
export const CONTINUE = 0;
export const ACCEPTED = 1;
export const REJECTED = 2;
export const DROPPED = 3;
export const MASQUERADED = 4;
const RETURNED = 5;
export type Walked =
  typeof CONTINUE | typeof ACCEPTED | typeof REJECTED | typeof DROPPED | typeof MASQUERADED;

/** A rule bound to its sets and chains. */
interface Step {
  readonly rule: Rule;
  readonly set: IpSet | undefined;
  readonly commented: boolean;
  readonly target: Step[] | undefined;
  readonly verdict: number;
  readonly text: string;
  readonly where: string;
}

const VERDICTS: Readonly<Record<string, number>> = {
  ACCEPT: ACCEPTED,
  REJECT: REJECTED,
  DROP: DROPPED,
  MASQUERADE: MASQUERADED,
  'MASQUERADE-RANDOM': MASQUERADED,
  RETURN: RETURNED,
};

/**
 * One iptables table, walked literally: rule by rule, match by match, with real set lookups.
 * Source: ipt_do_table, net/ipv4/netfilter/ip_tables.c; xt_set.c, xt_ipvs.c.
 * Not modelled: rules of other programs, br_netfilter, links other than those of pods.
 */
export class RuleWalk {
  recorder: Recorder | undefined;
  /** The packet's mark; the caller zeroes it for each packet. */
  mark = 0;
  #table: Table;
  readonly #sets: Sets;
  /** Addresses that are the node's own. */
  readonly #local: IpSet;
  #chains = new Map<string, Step[]>();

  constructor(table: Table, sets: Sets, local: IpSet) {
    this.#table = table;
    this.#sets = sets;
    this.#local = local;
    this.load();
  }

  /** Take the rules that iptables-restore would now load: a rule goes with the wanted elements of its set. */
  load(table = this.#table): void {
    this.#table = table;
    const chains = new Map<string, Step[]>();
    const chainOf = (name: string): Step[] => {
      let chain = chains.get(name);
      if (chain === undefined) chains.set(name, (chain = []));
      return chain;
    };
    for (const rule of this.#rules()) {
      const { target } = rule;
      const set = rule.set === undefined ? undefined : this.#sets[rule.set.name];
      chainOf(rule.chain).push({
        rule,
        set,
        commented: rule.comment !== undefined || (set !== undefined && rule.plain !== true),
        target: typeof target === 'object' ? chainOf(target.jump) : undefined,
        verdict: typeof target === 'object' ? CONTINUE : (VERDICTS[target] ?? CONTINUE),
        text: ruleText(rule, table, this.#sets),
        where: `${this.#table.name} ${rule.chain}`,
      });
    }
    this.#chains = chains;
  }

  /** kube-proxy's input for iptables-restore. */
  *dump(): Generator<string> {
    yield `*${this.#table.name}`;
    for (const chain of this.#table.chains) yield `:${chain} - [0:0]`;
    for (const rule of this.#table.rules) {
      if (this.#isLoaded(rule)) yield ruleText(rule, this.#table, this.#sets);
    }
    yield 'COMMIT';
  }

  /**
   * Walk a built-in chain for a packet that now goes to `destination`:`port`. `opening`: conntrack calls it NEW.
   */
  walk(
    chain: string,
    packet: Packet,
    destination: number,
    port: number,
    opening: boolean,
    counts: Counts,
  ): Walked {
    const steps = this.#chains.get(chain);
    if (steps === undefined) return CONTINUE;
    const walked = this.#walk(steps, packet, destination, port, opening, counts);
    return walked === RETURNED ? CONTINUE : (walked as Walked);
  }

  #walk(
    steps: Step[],
    packet: Packet,
    destination: number,
    port: number,
    opening: boolean,
    counts: Counts,
  ): number {
    for (let i = 0; i < steps.length; i++) {
      const step = steps[i]!;
      counts[RULE]! += 1;
      const matched = this.#matches(step, packet, destination, port, opening, counts);
      this.recorder?.step(
        step.where,
        `${step.text.slice(step.rule.chain.length + 4)}: ${matched ? 'matched' : 'no'}`,
      );
      if (!matched) continue;
      if (step.rule.target === 'MARK-OR') this.mark |= this.#table.mark;
      else if (step.rule.target === 'MARK-XOR') this.mark ^= this.#table.mark;
      else if (step.target === undefined) return step.verdict;
      else {
        const walked = this.#walk(step.target, packet, destination, port, opening, counts);
        if (walked !== CONTINUE && walked !== RETURNED) return walked;
      }
    }
    return CONTINUE;
  }

  #matches(
    step: Step,
    packet: Packet,
    destination: number,
    port: number,
    opening: boolean,
    counts: Counts,
  ): boolean {
    const { rule } = step;
    if (rule.protocol !== undefined && rule.protocol !== packet.protocol) return false;
    if (rule.source !== undefined && !contains(rule.source, packet.source)) return false;
    if (rule.notSource !== undefined && contains(rule.notSource, packet.source)) return false;
    // Pods are told by their interface, whatever its name.
    if (rule.notLink !== undefined && packet.origin === FROM_POD) return false;
    if (step.commented) counts[MATCH]! += 1;
    if (rule.state !== undefined) {
      counts[MATCH]! += 1;
      if (opening !== (rule.state === 'NEW')) return false;
    }
    if (rule.virtual !== undefined) {
      counts[MATCH]! += 1;
      const { address, port: virtualPort, protocol } = rule.virtual;
      const hasPlace = packet.destination === address && packet.destinationPort === virtualPort;
      if (!hasPlace || packet.protocol !== protocol) return false;
    }
    if (step.set !== undefined && !this.#inSet(step, packet, destination, port, counts)) return false;
    if (rule.notBridged === true) counts[MATCH]! += 1;
    if (rule.sourceNotLocal === true) {
      counts[ADDRTYPE]! += 1;
      if (this.isLocal(packet.source)) return false;
    }
    if (rule.destinationLocal === true) {
      counts[ADDRTYPE]! += 1;
      if (!this.isLocal(destination)) return false;
    }
    if (rule.mark === undefined) return true;
    counts[MATCH]! += 1;
    return rule.mark === ((this.mark & this.#table.mark) !== 0);
  }

  /** Whether the node takes packets to this address for itself. */
  isLocal(address: number): boolean {
    return address >>> 24 === 127 || this.#local.has(address, 0, 0, 0);
  }

  #inSet(step: Step, packet: Packet, destination: number, port: number, counts: Counts): boolean {
    const set = step.set!;
    set.compares = 0;
    const address = step.rule.set!.parts === 'src,dst' ? packet.source : destination;
    const found = set.has(address, port, packet.protocol, packet.source);
    counts[SET_LOOKUP]! += 1;
    counts[SET_COMPARE]! += set.compares;
    return found;
  }

  *#rules(): Generator<Rule> {
    yield* this.#table.jumps.toReversed();
    for (const rule of this.#table.rules) if (this.#isLoaded(rule)) yield rule;
  }

  #isLoaded(rule: Rule): boolean {
    return rule.always === true || rule.set === undefined || this.#sets[rule.set.name].wanted > 0;
  }
}
