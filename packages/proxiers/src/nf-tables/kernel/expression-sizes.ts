import {
  BITWISE,
  CMP,
  COUNTER,
  CT_LOAD,
  DYNSET,
  FIB,
  IMMEDIATE,
  IMMEDIATE_VERDICT,
  LOOKUP,
  MASQ,
  META_LOAD,
  META_SET,
  NAT,
  NUMGEN,
  NUMGEN_INC,
  PAYLOAD,
  RANGE,
  REDIR,
  REJECT,
  RULE_HEADER,
  expressionWords,
} from './program.ts';

/**
 * Bytes that expressions take in the kernel, each with the pointer to its operations, rounded up to 8.
 * Source: sizes of struct nft_* on x86-64, Linux 6.18 (BTF), net/netfilter/nft_cmp.c and nft_bitwise.c for which
 * variant serves which length.
 */

const SIZES = new Map<number, number>([
  [PAYLOAD, 16],
  [META_LOAD, 16],
  [META_SET, 16],
  [CT_LOAD, 16],
  [FIB, 16],
  [LOOKUP, 56],
  [IMMEDIATE, 32],
  [IMMEDIATE_VERDICT, 32],
  [NAT, 16],
  [MASQ, 16],
  [REDIR, 16],
  [REJECT, 16],
  [DYNSET, 96],
  [COUNTER, 16],
  [RANGE, 48],
]);

/** Of struct nft_rule with its expressions, and of the header of a rule in a blob. */
const RULE_BYTES = 24;
const BLOB_RULE_BYTES = 8;
/** struct nft_rule_blob and the mark that ends it: a chain without rules has one, too. */
const BLOB_BYTES = 48;

export function expressionBytes(words: Int32Array, at: number): number {
  const opcode = words[at]! & 255;
  const c = words[at]! >>> 24;
  if (opcode === CMP) {
    // cmp-fast compares one word, cmp16-fast up to sixteen bytes for (in)equality, cmp anything.
    const op = (words[at]! >>> 16) & 255;
    return op > 1 ? 32 : c <= 4 ? 24 : 48;
  }
  // An incremental one keeps a pointer to its counter.
  if (opcode === NUMGEN) return ((words[at]! >>> 8) & 255) === NUMGEN_INC ? 32 : 24;
  if (opcode === BITWISE) return c === 1 ? 24 : 64;
  return SIZES.get(opcode)!;
}

/** Of a chain's rules, once as rules and once as the blob that packets walk. */
export function expressionsBytes(words: Int32Array, start: number, length: number): number {
  let bytes = BLOB_BYTES;
  for (let rule = start; rule < start + length; rule += words[rule]!) {
    let expressions = 0;
    const end = rule + words[rule]!;
    for (let at = rule + RULE_HEADER; at < end; at += expressionWords(words, at)) {
      expressions += expressionBytes(words, at);
    }
    bytes += RULE_BYTES + BLOB_RULE_BYTES + 2 * expressions;
  }
  return bytes;
}
