import type { Network } from '../netfilter/address.ts';
import type { NatTarget } from '../netfilter/nat.ts';

export type { NatTarget };
import type { Skb, World } from './skb.ts';

/** The tests that belong to a rule itself and are made before any match. */
export interface Selector {
  readonly source?: AddressTest;
  readonly destination?: AddressTest;
  readonly inLink?: LinkTest;
  readonly outLink?: LinkTest;
  readonly protocol?: { readonly value: number; readonly not: boolean };
  /** `-f`: second and further fragments. */
  readonly fragment?: { readonly not: boolean };
}

export interface AddressTest {
  readonly network: Network;
  readonly not: boolean;
}

export interface LinkTest {
  /** A name, or the beginning of names with a `+` behind it. */
  readonly name: string;
  readonly not: boolean;
}

/** One use of a match in a rule; state, such as that of nth or of a token bucket, belongs to the use. */
export interface Match {
  readonly name: string;
  /** Its options as iptables-save prints them, each with a blank before it. */
  save(): string;
  fits(skb: Skb, world: World): boolean;
  /** The rule was loaded again: state starts over. */
  restart?(): void;
  /** A list of xt_recent that the rule keeps alive, and the hits that it asks for. */
  readonly list?: { readonly name: string; readonly hits: number };
  /** It is not modelled. */
  readonly unknown?: true;
}

export type Target =
  | { readonly kind: 'verdict'; readonly name: 'ACCEPT' | 'DROP' | 'RETURN' }
  | { readonly kind: 'chain'; readonly chain: string; readonly isGoto: boolean }
  | { readonly kind: 'reject'; readonly name: 'REJECT'; readonly answer: string }
  | NatTarget
  | { readonly kind: 'mark'; readonly name: 'MARK'; readonly value: number; readonly mask: number }
  /** Goes on to the next rule whatever it does; `untracks` takes the packet out of connection tracking. */
  | {
      readonly kind: 'continue';
      readonly name: string;
      readonly options: string;
      readonly untracks: boolean;
    }
  | { readonly kind: 'unknown'; readonly name: string; readonly options: string };

export interface Rule {
  readonly selector: Selector;
  readonly matches: readonly Match[];
  readonly target: Target | undefined;
  /** Where it was read. */
  readonly line: number;
  packets: number;
  bytes: number;
}

export interface Chain {
  readonly name: string;
  /** Of a built-in chain. */
  policy: 'ACCEPT' | 'DROP' | undefined;
  packets: number;
  bytes: number;
  rules: Rule[];
}

export interface Table {
  readonly name: string;
  readonly chains: Map<string, Chain>;
  /** Comment lines before the table. */
  remarks: readonly string[];
}

/** The built-in chains, in the order in which iptables-save prints them. */
export const BUILT_IN: Readonly<Record<string, readonly string[]>> = {
  raw: ['PREROUTING', 'OUTPUT'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  security: ['INPUT', 'FORWARD', 'OUTPUT'],
};
