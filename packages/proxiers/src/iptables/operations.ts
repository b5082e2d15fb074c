import { operationIndex } from '../cost/operations.ts';
import { CONNECTION_OPERATIONS } from '../netfilter/connection-path.ts';

/** What either backend is seen to do. `legacy` is x_tables, `nft` the same rules in nf_tables by iptables-nft. */
export const IPTABLES_OPERATIONS = [
  ...CONNECTION_OPERATIONS,
  // One walk of a table at a hook.
  'iptables.hook',
  // x_tables: a rule whose addresses or protocol differ; one whose selector fits; one that fits in all, counters included.
  'iptables.legacy.skipped',
  'iptables.legacy.selected',
  'iptables.legacy.matched',
  // nf_tables: rules begun, and expressions evaluated by kind.
  'iptables.nft.rule',
  'iptables.nft.meta',
  'iptables.nft.payload',
  'iptables.nft.bitwise',
  'iptables.nft.cmp',
  'iptables.nft.counter',
  'iptables.nft.verdict',
  // Extensions of both backends: matches and targets that are calls into xt modules.
  'iptables.match.comment',
  'iptables.match.transport',
  'iptables.match.statistic',
  'iptables.match.addrtype',
  'iptables.match.mark',
  'iptables.match.conntrack',
  'iptables.match.nfacct',
  // recent, all under one lock of the host: evaluations, lists compared by name, entries of a bucket and their
  // stamps looked at, entries made.
  'iptables.match.recent',
  'iptables.recent.list',
  'iptables.recent.entry',
  'iptables.recent.stamp',
  'iptables.recent.insert',
  'iptables.target',
  'iptables.jump',
  // kube-proxy: processes started, service ports and endpoints visited by generation.
  'process.launch',
  'iptables.sync.service',
  'iptables.sync.endpoint',
  // Lines of iptables-restore input, generated and parsed; lines of iptables-save output.
  'iptables.sync.line-legacy',
  'iptables.sync.line-nft',
  'iptables.sync.saved',
  // The kernel: table entries copied out, entries checked and installed (legacy: always the whole table).
  'iptables.kernel.read',
  'iptables.kernel.replaced',
  // nf_tables transactions: rules and chains written or deleted, rules passed by validation.
  'iptables.kernel.written',
  'iptables.kernel.validated',
  // x_tables: entries that libiptc packs into the table it hands to the kernel.
  'iptables.sync.packed',
] as const;

export const OPERATION = operationIndex(IPTABLES_OPERATIONS);
