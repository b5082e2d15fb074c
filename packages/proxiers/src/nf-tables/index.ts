// Rules, sets, chains, tables and commands, as they are written.
export * from './statement.ts';
// Reading what is written for `nft -f`, and what `nft list` prints.
export { readNft, readRuleset } from './reader.ts';
export { timeText } from './reader-word.ts';
// Types of keys and data.
export { DATATYPES, type DataType } from './datatypes.ts';
// Rules and elements as nft hands them to the kernel, and back.
export { linearize, type LinearizeContext, type NamedSet } from './linearize.ts';
export {
  anonymousKernelSet,
  kernelElements,
  namedSetDescription,
  type KernelElement,
  type KernelSet,
} from './linearize-set.ts';
export { delinearize, type DelinearizeContext, type LoadedSet } from './delinearize.ts';
export { elementsFrom } from './delinearize-set.ts';
// Printing: listings, input for `nft -f -`, JSON.
export { listChain, listRuleset, listSet, type ListedTable } from './listing.ts';
export { elementText, expressionText, ruleText, verdictText } from './listing-rule.ts';
export { commandText, elementInputText, ruleInputText } from './input-text.ts';
export { jsonRuleset } from './json.ts';
// Any ruleset on a node: loaded, listed, met by packets.
export { NftRuleset } from './ruleset.ts';
export { listLoaded } from './loaded-listing.ts';
export {
  LOOKUPS,
  NftNode,
  RULES_ENTERED,
  type NftNodeOptions,
  type NftOutcome,
  type NftPacket,
  type NodeFacts,
  type NodeRecorder,
} from './node.ts';
export { bitsFor, type NumberDraw } from './number-source.ts';
export { WalkRecord, type WalkStep, type WalkedExpression, type WalkedRule } from './walk-record.ts';
// The kernel: programs, tables, transactions, evaluation.
export { ProgramBuilder } from './program.ts';
export { NfTables } from './tables.ts';
export { Transaction } from './transaction.ts';
export { NfTablesError } from './nf-error.ts';
export { Evaluator } from './evaluator.ts';
export { Skb } from './skb.ts';
