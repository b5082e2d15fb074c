import type { AddressFamily, Cidr } from '@vipsim/sim-core';
import type { RuleColumns } from './rule-columns.ts';
import { FROM_LINK, FROM_LINK_NOT, SOURCE, SOURCE_NOT } from './rule.ts';

/**
 * How kube-proxy tells traffic of this node's pods, or of all pods, from the rest: the extra test of a rule.
 * Source: pkg/proxy/util/localdetector.go.
 */
export interface LocalDetector {
  /** Match bits of "from a pod" and of "not from a pod"; 0 where there is no way to tell. */
  readonly ifLocal: number;
  readonly ifNotLocal: number;
  /** Network and mask as rule columns hold them. */
  readonly address: number;
  readonly mask: number;
  /** The interface as `-i` takes it, `veth+` for a prefix. */
  readonly link: string;
}

export const NO_DETECTOR: LocalDetector = { ifLocal: 0, ifNotLocal: 0, address: 0, mask: 0, link: '' };

export function byCidr({ address, prefix }: Cidr, family: AddressFamily): LocalDetector {
  return { ifLocal: SOURCE, ifNotLocal: SOURCE_NOT, address, mask: family.mask(prefix), link: '' };
}

export function byLink(link: string): LocalDetector {
  return { ifLocal: FROM_LINK, ifNotLocal: FROM_LINK_NOT, address: 0, mask: 0, link };
}

/** Write the detector's address into a rule that was added with one of its match bits. */
export function setLocal(rules: RuleColumns, row: number, { address, mask }: LocalDetector): void {
  rules.source[row] = address;
  rules.sourceMask[row] = mask;
}
