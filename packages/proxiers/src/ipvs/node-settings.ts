import { Ipv6Family, parseCidr, parseIpv4, type AddressFamily, type Cidr } from '@vipsim/sim-core';
import { familyOf, type Cluster } from '../kubernetes/cluster.ts';
import { byCidr, type LocalDetector } from './local-detector.ts';

/** What KubeProxyConfiguration and the node's own configuration say; see mode.ts for the meaning of each. */
export interface NodeOptions {
  readonly masqueradeAll: boolean;
  readonly masqueradeBit: number;
  readonly detectLocalMode: 'ClusterCIDR' | 'NodeCIDR' | 'BridgeInterface' | 'InterfaceNamePrefix' | 'none';
  readonly bridgeInterface: string;
  readonly interfaceNamePrefix: string;
  readonly nodePortAddresses: string;
  readonly otherAddresses: string;
  readonly excludeCIDRs: string;
}

/** What that comes to on one node, for one family. */
export interface NodeSettings {
  readonly family: AddressFamily;
  readonly masqueradeAll: boolean;
  readonly mark: number;
  readonly detector: LocalDetector;
  /** On interfaces other than kube-ipvs0 and the loopback, its own address first. */
  readonly nodeAddresses: readonly number[];
  /** Those of them that serve node ports. */
  readonly nodePortAddresses: readonly number[];
  /** Virtual servers in these are left alone, whoever made them. */
  readonly excluded: readonly Cidr[];
}

/** Only to look at texts; each cluster has a book of its own. */
const IPV6 = new Ipv6Family();
/** The node's own address alone. */
const PRIMARY = 'primary';

export function resolveSettings(options: NodeOptions, cluster: Cluster, node: number): NodeSettings {
  const family = familyOf(cluster);
  const { address } = cluster.nodes[node]!;
  const nodeAddresses = [...new Set([address, ...addressesIn(options.otherAddresses, family)])];
  return {
    family,
    masqueradeAll: options.masqueradeAll,
    mark: (1 << options.masqueradeBit) >>> 0,
    detector: detectorOf(options, cluster, node),
    nodeAddresses,
    nodePortAddresses: servingAddresses(options.nodePortAddresses, nodeAddresses, family),
    excluded: cidrsIn(options.excludeCIDRs, family),
  };
}

/** What was wanted of a list of CIDRs, empty if it is one. */
export function wantedCidrs(text: string): string {
  const good = text === '' || text.split(',').every((one) => isCidr(one.trim()));
  return good ? '' : 'wanted CIDRs with commas between, such as 10.0.0.0/8,192.168.0.0/16';
}

export function wantedNodePortCidrs(text: string): string {
  const wanted = text === PRIMARY ? '' : wantedCidrs(text);
  return wanted === '' ? '' : `${wanted}, or ${PRIMARY}`;
}

export function wantedAddresses(text: string): string {
  const good = text === '' || text.split(',').every((one) => isAddress(one.trim()));
  return good ? '' : 'wanted IP addresses with commas between, such as 172.17.0.1,10.244.0.1';
}

function isCidr(text: string): boolean {
  if (!text.includes(':')) return parseCidr(text) !== undefined;
  const [address, prefix, more] = text.split('/');
  return more === undefined && isAddress(address!) && /^\d{1,3}$/.test(prefix ?? '') && Number(prefix) <= 128;
}

function isAddress(text: string): boolean {
  return text.includes(':') ? IPV6.parse(text) !== undefined : parseIpv4(text) !== undefined;
}

/**
 * Of an IPv6 node link-local addresses serve no node ports; the loopback serves none in either family.
 * Source: syncProxyRules, pkg/proxy/ipvs/proxier.go; pkg/proxy/util/nodeport_addresses.go.
 */
function servingAddresses(text: string, addresses: readonly number[], family: AddressFamily): number[] {
  if (text === PRIMARY) return addresses.slice(0, 1);
  const linkLocal = family.name === 'ipv6' ? family.parseCidr('fe80::/10')! : undefined;
  const usable = addresses.filter((one) => linkLocal === undefined || !family.contains(linkLocal, one));
  const cidrs = cidrsIn(text, family);
  // Without a CIDR of this family every address will do.
  if (cidrs.length === 0) return usable;
  return usable.filter((one) => cidrs.some((cidr) => family.contains(cidr, one)));
}

function detectorOf(options: NodeOptions, cluster: Cluster, node: number): LocalDetector {
  const { podCidr } = cluster.nodes[node]!;
  switch (options.detectLocalMode) {
    case 'ClusterCIDR':
      return byCidr(cluster.podCidr);
    case 'NodeCIDR':
      return podCidr === undefined ? { kind: 'none' } : byCidr(podCidr);
    case 'BridgeInterface':
      return { kind: 'link', link: options.bridgeInterface };
    case 'InterfaceNamePrefix':
      return { kind: 'link', link: `${options.interfaceNamePrefix}+` };
    case 'none':
      return { kind: 'none' };
  }
}

/** CIDRs of the family; those of the other are not for this proxier. */
function cidrsIn(text: string, family: AddressFamily): Cidr[] {
  return partsOf(text, family).map((one) => {
    const cidr = family.parseCidr(one);
    if (cidr === undefined) throw new RangeError(`${one} is not a CIDR`);
    return cidr;
  });
}

function addressesIn(text: string, family: AddressFamily): number[] {
  return partsOf(text, family).map((one) => {
    const address = family.parse(one);
    if (address === undefined) throw new RangeError(`${one} is not an address`);
    return address;
  });
}

function partsOf(text: string, family: AddressFamily): string[] {
  const parts = text.split(',').map((part) => part.trim());
  return parts.filter((part) => part !== '' && part.includes(':') === (family.name === 'ipv6'));
}
