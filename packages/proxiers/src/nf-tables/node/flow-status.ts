import { isDestinationTranslated, isSourceTranslated, type Flow } from '../../netfilter/flows.ts';
import { STATUS_DNAT, STATUS_SNAT } from '../kernel/skb.ts';

// enum ip_conntrack_status, the rest of it
const SEEN_REPLY = 0x2;
const ASSURED = 0x4;
const CONFIRMED = 0x8;
const SRC_NAT_DONE = 0x80;
const DST_NAT_DONE = 0x100;

/** How far a flow's first packet has come. */
export interface Decided {
  readonly confirmed: boolean;
  readonly source: boolean;
  readonly destination: boolean;
}

/** The bits of `ct status`: include/uapi/linux/netfilter/nf_conntrack_common.h. */
export function flowStatus(flow: Flow, decided: Decided): number {
  return (
    (flow.replySeen ? SEEN_REPLY : 0) |
    (flow.assured ? ASSURED : 0) |
    (decided.confirmed ? CONFIRMED : 0) |
    (isSourceTranslated(flow) ? STATUS_SNAT : 0) |
    (isDestinationTranslated(flow) ? STATUS_DNAT : 0) |
    (decided.source ? SRC_NAT_DONE : 0) |
    (decided.destination ? DST_NAT_DONE : 0)
  );
}
