import { operationIndex } from '../cost/operations.ts';
import { CONNECTION_OPERATIONS } from '../netfilter/connection-path.ts';

/** What packets and syncs are seen to do in nftables mode. */
export const NFTABLES_OPERATIONS = [
  ...CONNECTION_OPERATIONS,
  // One run of a base chain.
  'nftables.hook',
  // Rules begun.
  'nftables.rule',
  // Expressions evaluated, by kind.
  'nftables.payload',
  'nftables.cmp',
  'nftables.bitwise',
  'nftables.meta',
  'nftables.ct',
  'nftables.fib',
  'nftables.numgen',
  'nftables.lookup',
  'nftables.immediate',
  'nftables.nat',
  'nftables.masq',
  'nftables.reject',
  'nftables.dynset',
  // What lookups meet inside sets: chain steps of hashes, levels of trees.
  'nftables.set.step',
  // kube-proxy: processes started, service ports and endpoints visited by generation.
  'process.launch',
  'nftables.sync.service',
  'nftables.sync.endpoint',
  // Operations of a transaction as kube-proxy counts them, and elements that stand in rules: written, parsed, sent.
  'nftables.sync.operation',
  'nftables.sync.inline-element',
  // Chains and sets that nft fetches, for listings and for its own cache; rules that a listing of the table prints, and
  // sets passed while nft looks for those that they name; elements read back.
  'nftables.sync.listed',
  'nftables.sync.listed-rule',
  'nftables.sync.listed-set-step',
  'nftables.sync.element-read',
  // The kernel: messages and elements of a transaction; sets of the table passed while one is looked for by name, and
  // while each jump is checked for loops; rules and elements passed by validation, rules in blobs that are written anew, chains published.
  'nftables.kernel.message',
  'nftables.kernel.element',
  'nftables.kernel.set-step',
  'nftables.kernel.loop-step',
  'nftables.kernel.validated',
  'nftables.kernel.written',
  'nftables.kernel.published',
] as const;

export const OPERATION = operationIndex(NFTABLES_OPERATIONS);
