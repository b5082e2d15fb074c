// Rules, sets, chains, tables and commands, as they are written.
export * from './language/statement.ts';
// Reading what is written for `nft -f`, and what `nft list` prints.
export { readNft, readRuleset } from './language/reader.ts';
export { timeText } from './language/reader-word.ts';
// Types of keys and data.
export { DATATYPES, type DataType } from './language/datatypes.ts';
// Rules and elements as nft hands them to the kernel, and back.
export { linearize, type LinearizeContext, type NamedSet } from './language/linearize.ts';
export {
  anonymousKernelSet,
  kernelElements,
  namedSetDescription,
  type KernelElement,
  type KernelSet,
} from './language/linearize-set.ts';
export { delinearize, type DelinearizeContext, type LoadedSet } from './language/delinearize.ts';
export { elementsFrom } from './language/delinearize-set.ts';
// Printing: listings, input for `nft -f -`, JSON.
export { listChain, listRuleset, listSet, type ListedTable } from './language/listing.ts';
export { elementText, expressionText, ruleText, verdictText } from './language/listing-rule.ts';
export { commandText, elementInputText, ruleInputText } from './language/input-text.ts';
export { jsonRuleset } from './language/json.ts';
// Any ruleset on a node: loaded, listed, met by packets.
export { NftRuleset } from './node/ruleset.ts';
export { listLoaded } from './node/loaded-listing.ts';
export {
  LOOKUPS,
  NftNode,
  RULES_ENTERED,
  type NftNodeOptions,
  type NftOutcome,
  type NodeRecorder,
} from './node/node.ts';
export type { LiteralPacket as NftPacket, NodeFacts } from '../netfilter/literal-node.ts';
export { bitsFor, type NumberDraw } from './node/number-source.ts';
export { WalkRecord, type WalkStep, type WalkedExpression, type WalkedRule } from './node/walk-record.ts';
// The kernel: programs, tables, transactions, evaluation.
export { ProgramBuilder } from './kernel/program.ts';
export { NfTables } from './kernel/tables.ts';
export { Transaction } from './kernel/transaction.ts';
export { NfTablesError } from './kernel/nf-error.ts';
export { Evaluator } from './kernel/evaluator.ts';
export { Skb } from './kernel/skb.ts';
