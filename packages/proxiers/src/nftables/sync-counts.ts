import type { Counts } from '../cost/operations.ts';
import type { TransactionCounts } from '../nf-tables/kernel/transaction-counts.ts';
import type { KernelSink } from './kernel-sink.ts';
import type { Listed } from './kernel-table.ts';
import type { Layout } from './layout.ts';
import { NFTABLES_OPERATIONS, OPERATION } from './operations.ts';

const PROCESS = OPERATION['process.launch'];
const SERVICE = OPERATION['nftables.sync.service'];
const ENDPOINT = OPERATION['nftables.sync.endpoint'];
const SYNC_OPERATION = OPERATION['nftables.sync.operation'];
const INLINE = OPERATION['nftables.sync.inline-element'];
const LISTED = OPERATION['nftables.sync.listed'];
const LISTED_RULE = OPERATION['nftables.sync.listed-rule'];
const LISTED_STEP = OPERATION['nftables.sync.listed-set-step'];
const ELEMENT_READ = OPERATION['nftables.sync.element-read'];
const MESSAGE = OPERATION['nftables.kernel.message'];
const ELEMENT = OPERATION['nftables.kernel.element'];
const SET_STEP = OPERATION['nftables.kernel.set-step'];
const LOOP_STEP = OPERATION['nftables.kernel.loop-step'];
const VALIDATED = OPERATION['nftables.kernel.validated'];
const WRITTEN = OPERATION['nftables.kernel.written'];
const PUBLISHED = OPERATION['nftables.kernel.published'];

/** One sync, its transaction prepared. */
export interface SyncFacts {
  readonly full: boolean;
  readonly servicePorts: number;
  readonly endpoints: number;
  /** Elements that kube-proxy reads back in a full sync. */
  readonly elements: number;
  /** What the table holds before. */
  readonly listed: Listed;
  readonly sink: KernelSink;
  readonly kernel: TransactionCounts;
}

/**
 * What the parts of a sync cost, in operations.
 *
 * Models: generation over all service ports and endpoints, whatever is written; the commands that list chains and
 * sets in every sync (two until 1.35, one of the whole table in 1.36, in 1.37 in full syncs alone), those that read
 * the shared sets back in full ones; nft, which parses the transaction; what its messages make the kernel do.
 * `nft list table` looks the set of each rule up by its name, as the kernel does.
 * Source: syncProxyRules in pkg/proxy/nftables/proxier.go; nftables src/rule.c; net/netfilter/nf_tables_api.c.
 */
export class SyncCounts {
  readonly #layout: Layout;

  constructor(layout: Layout) {
    this.#layout = layout;
  }

  sync({ full, servicePorts, endpoints, elements, listed, sink, kernel }: SyncFacts): Counts {
    const counts = this.transaction(sink, kernel, listed);
    counts[SERVICE] = servicePorts;
    counts[ENDPOINT] = endpoints;
    const { lists, netlink, endpointChains } = this.#layout;
    if (full) {
      counts[PROCESS]! += netlink ? 0 : endpointChains ? 6 : 7;
      counts[ELEMENT_READ] = elements;
    }
    if (lists === 'memory' && !full) return counts;
    if (!netlink) counts[PROCESS]! += lists === 'chains and sets' ? 2 : 1;
    const { chains, named, anonymous } = listed;
    counts[LISTED]! += chains + named + anonymous;
    if (lists !== 'table') return counts;
    counts[LISTED_RULE] = listed.rules;
    counts[LISTED_STEP] = anonymous * named + (anonymous * (anonymous + 1)) / 2;
    return counts;
  }

  /** One run of `nft -f -`, which first fetches all chains and sets into its cache, or one batch of messages. */
  transaction(sink: KernelSink, kernel: TransactionCounts, { chains, named, anonymous }: Listed): Counts {
    const counts = new Float64Array(NFTABLES_OPERATIONS.length);
    if (!this.#layout.netlink) {
      counts[PROCESS] = 1;
      counts[LISTED] = chains + named + anonymous;
    }
    counts[SYNC_OPERATION] = sink.operations;
    counts[INLINE] = sink.inlineElements;
    counts[MESSAGE] = kernel.messages;
    counts[ELEMENT] = kernel.newElements + kernel.deletedElements;
    counts[SET_STEP] = kernel.setListSteps;
    counts[LOOP_STEP] = sink.loopSteps;
    counts[VALIDATED] = kernel.rulesValidated + kernel.elementsValidated;
    counts[WRITTEN] = kernel.rulesRewritten;
    counts[PUBLISHED] = kernel.chainsPublished;
    return counts;
  }
}
