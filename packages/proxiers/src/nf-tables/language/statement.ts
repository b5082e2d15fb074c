/**
 * The words of nft: rules, sets, chains, tables and commands as they are written. Every other part speaks in
 * these: the reader makes them of text, the linearizer makes expressions of them for the kernel, the
 * delinearizer makes them of expressions again, and the listing prints them.
 *
 * source: nftables 1.0.6, src/parser_bison.y, include/statement.h, include/expression.h
 */
export type Family = 'ip' | 'ip6' | 'inet';

/** A value as written; what it means depends on the type of what it is compared with. */
export type Value =
  | { readonly kind: 'integer'; readonly value: number }
  /** tcp, new, dnat, local, lo, and interface names such as `veth*` (without their quotes). */
  | { readonly kind: 'symbol'; readonly text: string }
  /** 1 or 4 words of 32 bits in host order, most significant first. */
  | { readonly kind: 'address'; readonly words: readonly number[] }
  | { readonly kind: 'prefix'; readonly words: readonly number[]; readonly length: number }
  | { readonly kind: 'range'; readonly from: Value; readonly to: Value }
  /** a . b . c */
  | { readonly kind: 'tuple'; readonly parts: readonly Value[] }
  | { readonly kind: 'verdict'; readonly verdict: Verdict }
  /** { ... }: an anonymous set or map. */
  | { readonly kind: 'set'; readonly elements: readonly Element[] }
  /** established,related: any of these bits. */
  | { readonly kind: 'flags'; readonly names: readonly string[] }
  /** @name */
  | { readonly kind: 'reference'; readonly name: string };

export interface Element {
  readonly key: Value;
  readonly data?: Value;
  readonly comment?: string;
  readonly timeoutMs?: number;
  readonly expiresMs?: number;
}

export type Verdict =
  | { readonly kind: 'accept' | 'drop' | 'return' | 'continue' }
  | { readonly kind: 'jump' | 'goto'; readonly chain: string };

export type Expression =
  /** ip saddr, ip protocol, ip6 daddr, tcp dport, th dport */
  | { readonly kind: 'payload'; readonly header: string; readonly field: string }
  /** mark l4proto iif oif iifname oifname nfproto */
  | { readonly kind: 'meta'; readonly key: string }
  /** state status mark */
  | { readonly kind: 'ct'; readonly key: string }
  | { readonly kind: 'fib'; readonly flags: readonly string[]; readonly result: string }
  | {
      readonly kind: 'numgen';
      readonly mode: 'random' | 'inc';
      readonly modulus: number;
      readonly offset: number;
    }
  | { readonly kind: 'concat'; readonly parts: readonly Expression[] }
  | {
      readonly kind: 'binary';
      readonly operator: '&' | '|' | '^';
      readonly left: Expression;
      readonly right: Value;
    }
  /** numgen ... map { ... } */
  | { readonly kind: 'map'; readonly key: Expression; readonly map: Value }
  | { readonly kind: 'value'; readonly value: Value };

export type MatchOperator = '==' | '!=' | '<' | '>' | '<=' | '>=';

export type Statement =
  | {
      readonly kind: 'match';
      readonly left: Expression;
      readonly operator: MatchOperator;
      readonly right: Value;
      /** `==` is written out before a bit field: `ct state == new` means that value and no other bit. */
      readonly exactly?: true;
    }
  | { readonly kind: 'verdict'; readonly verdict: Verdict }
  | { readonly kind: 'vmap'; readonly key: Expression; readonly map: Value }
  | { readonly kind: 'mangle'; readonly key: Expression; readonly value: Expression }
  | {
      readonly kind: 'nat';
      readonly type: 'dnat' | 'snat';
      readonly family?: 'ip' | 'ip6';
      /** addr . port from one map */
      readonly concatenated: boolean;
      readonly address?: Expression;
      readonly port?: Expression;
      readonly flags: readonly string[];
    }
  | {
      readonly kind: 'masquerade' | 'redirect';
      readonly port?: Expression;
      readonly flags: readonly string[];
    }
  | { readonly kind: 'reject'; readonly type?: string; readonly code?: string }
  | { readonly kind: 'counter'; readonly packets: number; readonly bytes: number }
  | {
      readonly kind: 'dynset';
      readonly operation: 'add' | 'update' | 'delete';
      readonly set: string;
      readonly key: Expression;
      readonly timeoutMs?: number;
    };

export interface Rule {
  readonly statements: readonly Statement[];
  readonly comment?: string;
  readonly handle?: number;
}

export type SetFlag = 'constant' | 'interval' | 'timeout' | 'dynamic';

export interface SetSpec {
  readonly name: string;
  /** ipv4_addr, inet_proto, inet_service, mark, ... one for each part of the key. */
  readonly types: readonly string[];
  /** Of a map: ['verdict'] or one type for each part of the data. */
  readonly data?: readonly string[];
  readonly flags: readonly SetFlag[];
  readonly timeoutMs?: number;
  readonly gcIntervalMs?: number;
  /** Above `performance`, which is not printed: the set is to be small. */
  readonly policy?: 'memory';
  readonly size?: number;
  readonly comment?: string;
  readonly handle?: number;
  readonly elements: readonly Element[];
}

export interface BaseChain {
  readonly type: 'filter' | 'nat' | 'route';
  readonly hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';
  readonly priority: number;
  readonly policy: 'accept' | 'drop';
}

export interface ChainSpec {
  readonly name: string;
  readonly base?: BaseChain;
  readonly comment?: string;
  readonly handle?: number;
  readonly rules: readonly Rule[];
}

export interface TableSpec {
  readonly family: Family;
  readonly name: string;
  readonly comment?: string;
  readonly handle?: number;
  readonly sets: readonly SetSpec[];
  readonly chains: readonly ChainSpec[];
}

/** Something that exists already and is meant by its name, or by its handle. */
export type Named =
  | { readonly name: string; readonly handle?: undefined }
  | { readonly name?: undefined; readonly handle: number };

export type CreateOp = 'add' | 'create';
export type RemoveOp = 'delete' | 'destroy';

/** Where a rule goes: after (add) or before (insert) the rule with a handle or an index (from 0). */
export interface RulePlace {
  readonly kind: 'handle' | 'index';
  readonly value: number;
}

/**
 * One command of an `nft -f` input. A `table { … }` block becomes commands in nft's order: the table; all its
 * chains, empty; its sets and maps as written, each empty and at once followed by its elements; then the
 * rules, chain by chain.
 * `family` and `table` say where; `flush ruleset` without a family means all families.
 * `line` is the line where the command (or the object in a block) begins, from 1.
 */
export type Command =
  | { readonly op: 'flush'; readonly what: 'ruleset'; readonly family?: Family; readonly line: number }
  | ({ readonly line: number; readonly family: Family; readonly table: string } & (
      | { readonly op: CreateOp; readonly what: 'table'; readonly comment?: string }
      | { readonly op: RemoveOp | 'flush'; readonly what: 'table' }
      /** `chain.rules` is always empty here: rules have their own commands. */
      | { readonly op: CreateOp; readonly what: 'chain'; readonly chain: ChainSpec }
      | { readonly op: RemoveOp; readonly what: 'chain'; readonly target: Named }
      | { readonly op: 'flush'; readonly what: 'chain'; readonly chain: string }
      /** `set.elements` is always empty here: elements have their own commands. */
      | { readonly op: CreateOp; readonly what: 'set' | 'map'; readonly set: SetSpec }
      | { readonly op: RemoveOp; readonly what: 'set' | 'map'; readonly target: Named }
      | { readonly op: 'flush'; readonly what: 'set' | 'map'; readonly set: string }
      | {
          readonly op: CreateOp | RemoveOp;
          readonly what: 'element';
          readonly set: string;
          readonly elements: readonly Element[];
        }
      | {
          readonly op: 'add' | 'create' | 'insert';
          readonly what: 'rule';
          readonly chain: string;
          readonly rule: Rule;
          readonly place?: RulePlace;
        }
      | {
          readonly op: 'replace';
          readonly what: 'rule';
          readonly chain: string;
          readonly handle: number;
          readonly rule: Rule;
        }
      | { readonly op: RemoveOp; readonly what: 'rule'; readonly chain: string; readonly handle: number }
    ));
