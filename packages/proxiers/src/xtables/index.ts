// Any iptables-save text: read, printed, walked.
export * from '../netfilter/address.ts';
export { parseWhole } from './options.ts';
export { protocolNumber, protocolText } from './protocol.ts';
export * from './rule.ts';
export * from './ruleset.ts';
export { readRuleset, restore, type RestoreOptions } from './restore.ts';
export { ruleText, saveLines, tableLines, type SaveOptions } from './save.ts';
export { RecentList, RecentTables, type RecentEntry } from './recent.ts';
export { type Flow, type Tuple } from '../netfilter/flows.ts';
export { XtNode, flowText, answerTo, type XtNodeOptions } from './node.ts';
export type {
  LiteralOutcome as XtOutcome,
  LiteralPacket as XtPacket,
  NodeFacts,
} from '../netfilter/literal-node.ts';
export { probabilityText as savedProbability } from './matches/statistic.ts';
