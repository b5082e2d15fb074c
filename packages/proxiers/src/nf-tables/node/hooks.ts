/** In which order netfilter runs what stands at one of its hooks. */

export type HookName = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';

/** A base chain, as far as its place is concerned. */
export interface HookedChain {
  readonly type: 'filter' | 'nat' | 'route';
  readonly hook: HookName;
  readonly priority: number;
  /** The order in which chains were registered: greater is later. */
  readonly registered: number;
}

/** `nat` is where the translation happens; `chains` are asked until one has decided. */
export type HookStep<Chain> =
  | { readonly kind: 'track' }
  | { readonly kind: 'nat'; readonly chains: readonly Chain[] }
  | { readonly kind: 'chain'; readonly chain: Chain };

// enum nf_ip_hook_priorities
const CONNTRACK = -200;
const NAT_DST = -100;
const NAT_SRC = 100;

interface Placed<Chain> {
  readonly priority: number;
  readonly registered: number;
  readonly step: HookStep<Chain>;
}

/**
 * What a packet meets at a hook, first to last.
 *
 * Models: priorities, and of equal ones the chain registered last comes first (nf_hook_entries_grow); connection
 * tracking at −200; all nat chains at −100 (destinations) or 100 (sources), in the order of their priorities among
 * each other, whatever these are otherwise (nf_nat_register_fn, nf_nat_inet_fn).
 * Source: net/netfilter/core.c, nf_nat_core.c; seen with nft monitor trace on Linux 6.18.
 * Not modelled: whether a chain at exactly −200 was there before connection tracking was switched on: it comes after.
 */
export function hookSteps<Chain extends HookedChain>(
  all: readonly Chain[],
  hook: HookName,
): HookStep<Chain>[] {
  const placed: Placed<Chain>[] = [];
  if (hook === 'prerouting' || hook === 'output') {
    placed.push({ priority: CONNTRACK, registered: Infinity, step: { kind: 'track' } });
  }
  const nat = all.filter(({ type }) => type === 'nat');
  if (nat.length > 0 && hook !== 'forward') {
    const chains = nat.filter((chain) => chain.hook === hook).sort(before);
    const priority = hook === 'prerouting' || hook === 'output' ? NAT_DST : NAT_SRC;
    // The four hooks of NAT are registered together, with the first chain that needs one of them.
    const registered = nat.reduce((first, chain) => Math.min(first, chain.registered), Infinity);
    placed.push({ priority, registered, step: { kind: 'nat', chains } });
  }
  for (const chain of all) {
    if (chain.hook !== hook || chain.type === 'nat') continue;
    const { priority, registered } = chain;
    placed.push({ priority, registered, step: { kind: 'chain', chain } });
  }
  return placed.sort(before).map(({ step }) => step);
}

function before(
  one: { readonly priority: number; readonly registered: number },
  other: { readonly priority: number; readonly registered: number },
): number {
  if (one.priority !== other.priority) return one.priority - other.priority;
  return one.registered > other.registered ? -1 : 1;
}
