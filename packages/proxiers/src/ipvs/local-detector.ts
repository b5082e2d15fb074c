import type { Cidr } from '@vipsim/sim-core';

/**
 * How kube-proxy tells traffic of pods from other traffic: by source address, by the interface that it comes in by,
 * or not at all. Source: pkg/proxy/util/localdetector.go.
 */
export type LocalDetector =
  | { readonly kind: 'cidr'; readonly cidr: Cidr }
  /** As `-i` takes it: `cni0`, or `veth+` for all that begin so. */
  | { readonly kind: 'link'; readonly link: string }
  | { readonly kind: 'none' };

export function byCidr(cidr: Cidr): LocalDetector {
  return { kind: 'cidr', cidr };
}
