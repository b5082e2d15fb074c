import { parseCidr, parseIpv6, type AddressFamily, type Cidr } from '@vipsim/sim-core';
import { familyOf, type Cluster } from '../kubernetes/cluster.ts';
import { layoutOf, type Layout, type Version } from './layout.ts';

/** What KubeProxyConfiguration says about the rules themselves; see mode.ts for the meaning of each. */
export interface RulesetSettings {
  readonly kubeProxyVersion: Version;
  readonly masqueradeAll: boolean;
  readonly masqueradeBit: number;
  readonly nodePortAddresses: string;
  readonly serviceCidrs: string;
  readonly detectLocalMode: 'ClusterCIDR' | 'NodeCIDR' | 'BridgeInterface' | 'InterfaceNamePrefix' | 'none';
  readonly bridgeInterface: string;
  readonly interfaceNamePrefix: string;
}

/**
 * How kube-proxy tells traffic of pods from other traffic. A link ends in `*` for all that begin so.
 * Source: pkg/proxy/util/localdetector.go of 1.36. Earlier ones wrote `iif`, for which nft knows no prefix.
 */
export type LocalDetector =
  | { readonly kind: 'cidr'; readonly cidr: Cidr }
  | { readonly kind: 'link'; readonly link: string }
  | { readonly kind: 'none' };

/** What the configuration comes to on one node. */
export interface RulesetOptions {
  readonly layout: Layout;
  readonly family: AddressFamily;
  readonly nodeAddress: number;
  readonly masqueradeAll: boolean;
  readonly mark: number;
  /** Addresses that serve node ports; undefined for all local ones. */
  readonly nodePortAddresses: readonly number[] | undefined;
  readonly serviceCidrs: readonly Cidr[];
  readonly detector: LocalDetector;
}

/** The node's own address alone: what nftables mode makes of an empty list (KEP-3866). */
const PRIMARY = 'primary';
const NONE = 'none';

/** Throws RangeError for a CIDR that is none; the scenario's reader refuses it before. */
export function resolveOptions(settings: RulesetSettings, cluster: Cluster, node: number): RulesetOptions {
  const family = familyOf(cluster);
  const { address } = cluster.nodes[node]!;
  return {
    layout: layoutOf(settings.kubeProxyVersion),
    family,
    nodeAddress: address,
    masqueradeAll: settings.masqueradeAll,
    mark: (1 << settings.masqueradeBit) >>> 0,
    nodePortAddresses: nodePortAddresses(settings.nodePortAddresses, address, family),
    serviceCidrs: serviceCidrs(settings.serviceCidrs, cluster),
    detector: detectorOf(settings, cluster, node),
  };
}

/** What was wanted of a list of node port addresses, empty if it is one. */
export function wantedAddresses(text: string): string {
  const good = text === '' || text === PRIMARY || listOf(text).every(isCidr);
  return good ? '' : 'wanted CIDRs with commas between, such as 10.0.0.0/8,192.168.0.0/16, or primary';
}

/** What was wanted of a list of Service networks, empty if it is one. */
export function wantedServiceCidrs(text: string): string {
  const good = text === '' || text === NONE || listOf(text).every(isCidr);
  return good ? '' : 'wanted CIDRs with commas between, such as 10.96.0.0/12, or none';
}

function listOf(text: string): string[] {
  return text.split(',').map((one) => one.trim());
}

/** Of either family: each proxier takes those of its own. */
function isCidr(text: string): boolean {
  if (parseCidr(text) !== undefined) return true;
  const [address, prefix] = text.split(/\/(\d{1,3})$/);
  return prefix !== undefined && Number(prefix) <= 128 && parseIpv6(address!) !== undefined;
}

function cidrsOf(text: string, family: AddressFamily): Cidr[] {
  const cidrs: Cidr[] = [];
  for (const one of listOf(text)) {
    if (one === '' || one.includes(':') !== (family.name === 'ipv6')) continue;
    const cidr = family.parseCidr(one);
    if (cidr === undefined) throw new RangeError(`${one} is not a CIDR`);
    cidrs.push(cidr);
  }
  return cidrs;
}

/**
 * Without a CIDR of this family all addresses serve. Of the node's addresses one is known here; loopback ones never
 * serve. Source: NewNodePortAddresses in pkg/proxy/util/nodeport_addresses.go.
 */
function nodePortAddresses(
  text: string,
  address: number,
  family: AddressFamily,
): readonly number[] | undefined {
  if (text === '' || text === PRIMARY) return [address];
  const cidrs = cidrsOf(text, family);
  if (cidrs.length === 0 || cidrs.some(({ prefix }) => prefix === 0)) return undefined;
  return cidrs.some((cidr) => family.contains(cidr, address)) ? [address] : [];
}

function serviceCidrs(text: string, cluster: Cluster): readonly Cidr[] {
  if (text === '') return [cluster.serviceCidr];
  return text === NONE ? [] : cidrsOf(text, familyOf(cluster));
}

function detectorOf(settings: RulesetSettings, cluster: Cluster, node: number): LocalDetector {
  const { podCidr } = cluster.nodes[node]!;
  switch (settings.detectLocalMode) {
    case 'ClusterCIDR':
      return { kind: 'cidr', cidr: cluster.podCidr };
    case 'NodeCIDR':
      return podCidr === undefined ? { kind: 'none' } : { kind: 'cidr', cidr: podCidr };
    case 'BridgeInterface':
      return { kind: 'link', link: settings.bridgeInterface };
    case 'InterfaceNamePrefix':
      return { kind: 'link', link: `${settings.interfaceNamePrefix}*` };
    case 'none':
      return { kind: 'none' };
  }
}
