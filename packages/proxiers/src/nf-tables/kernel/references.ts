import { ALL_HOOKS, NEEDS_NAT, REFERS } from './chains.ts';
import {
  DNAT,
  FIB,
  FIB_IIF,
  FIB_OIF,
  GOTO,
  IMMEDIATE_VERDICT,
  JUMP,
  LOOKUP,
  MASQ,
  NAT,
  NO_REGISTER,
  REDIR,
  REJECT,
  RULE_HEADER,
  VERDICT,
  expressionWords,
  verdictKind,
} from './program.ts';

/**
 * What a run of rules demands: the hooks from which it may be reached, a chain of type nat, and whether validation
 * has to follow it (REFERS).
 * Source: the validate functions of net/netfilter/nft_nat.c, nft_masq.c, nft_redir.c, nft_reject.c, nft_fib.c.
 */

const PREROUTING = 1;
const INPUT = 2;
const FORWARD = 4;
const OUTPUT = 8;
const POSTROUTING = 16;

/** The bits of Chains.needs for the rules from `start` on. */
export function needsOf(words: Int32Array, start: number, length: number): number {
  let hooks = ALL_HOOKS;
  let flags = 0;
  for (let rule = start; rule < start + length; rule += words[rule]!) {
    const end = rule + words[rule]!;
    for (let at = rule + RULE_HEADER; at < end; at += expressionWords(words, at)) {
      const word = words[at]!;
      switch (word & 255) {
        case IMMEDIATE_VERDICT:
          if (isJump(words[at + 1]!)) flags |= REFERS;
          break;
        case LOOKUP:
          if (((word >>> 16) & 255) === VERDICT) flags |= REFERS;
          break;
        case NAT:
          flags |= NEEDS_NAT;
          hooks &= ((word >>> 8) & 255) === DNAT ? PREROUTING | OUTPUT : POSTROUTING | INPUT;
          break;
        case MASQ:
          flags |= NEEDS_NAT;
          hooks &= POSTROUTING;
          break;
        case REDIR:
          flags |= NEEDS_NAT;
          hooks &= PREROUTING | OUTPUT;
          break;
        case REJECT:
          hooks &= PREROUTING | INPUT | FORWARD | OUTPUT;
          break;
        case FIB:
          hooks &= fibHooks((word >>> 8) & 255);
          break;
      }
    }
  }
  return hooks | flags;
}

export function isJump(verdict: number): boolean {
  const kind = verdictKind(verdict);
  return kind === JUMP || kind === GOTO;
}

/** Whether a lookup copies data (a map), by its destination. */
export function readsMap(word: number): boolean {
  return ((word >>> 16) & 255) !== NO_REGISTER;
}

export function countRules(words: Int32Array, start: number, length: number): number {
  let rules = 0;
  for (let rule = start; rule < start + length; rule += words[rule]!) rules++;
  return rules;
}

function fibHooks(flags: number): number {
  if ((flags & FIB_IIF) !== 0) return PREROUTING | INPUT | FORWARD;
  return (flags & FIB_OIF) !== 0 ? OUTPUT | POSTROUTING | FORWARD : ALL_HOOKS;
}
