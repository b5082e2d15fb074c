import { parseCidr, parseIpv6, type AddressFamily, type Cidr } from '@vipsim/sim-core';
import { familyOf, type Cluster } from '../kubernetes/cluster.ts';
import { byCidr, byLink, NO_DETECTOR, type LocalDetector } from './local-detector.ts';
import type { TextStyle } from './rule-text.ts';

/** What KubeProxyConfiguration says about the rules themselves; see mode.ts for the meaning of each. */
export interface RulesetSettings {
  readonly masqueradeAll: boolean;
  readonly masqueradeBit: number;
  readonly randomFully: boolean;
  readonly localhostNodePorts: boolean;
  readonly nodePortAddresses: string;
  readonly detectLocalMode: 'ClusterCIDR' | 'NodeCIDR' | 'BridgeInterface' | 'InterfaceNamePrefix' | 'none';
  readonly bridgeInterface: string;
  readonly interfaceNamePrefix: string;
  readonly nfacct: boolean;
  readonly snatNodeInternalIP: boolean;
  readonly tcpBeLiberal: boolean;
}

/** What the configuration comes to on one node. */
export interface RulesetOptions {
  readonly nodeAddress: number;
  readonly masqueradeAll: boolean;
  readonly mark: number;
  readonly localhostNodePorts: boolean;
  /** Local addresses that serve node ports; undefined for all but `exceptLoopback`. */
  readonly nodePortAddresses: readonly number[] | undefined;
  /** Loopback addresses that serve none: 127.0.0.0/8 as wanted, ::1/128 always. */
  readonly exceptLoopback: Cidr | undefined;
  readonly detector: LocalDetector;
  readonly nfacct: boolean;
  readonly snat: boolean;
  readonly tcpBeLiberal: boolean;
  readonly style: TextStyle;
}

/** The node's own address alone. */
const PRIMARY = 'primary';
const LOOPBACK_NET: Cidr = { address: 0x7f000000, prefix: 8 };
const LOOPBACK = 0x7f000001;
const IPV6_LOOPBACK = '::1/128';

/** Throws RangeError for a node port CIDR that is none; the scenario's reader refuses it before. */
export function resolveOptions(settings: RulesetSettings, cluster: Cluster, node: number): RulesetOptions {
  const family = familyOf(cluster);
  const { address } = cluster.nodes[node]!;
  const cidrs = nodePortCidrs(settings.nodePortAddresses, address, family);
  const localhostNodePorts = settings.localhostNodePorts && coversLoopback(cidrs, family);
  const loopback = family.name === 'ipv4' ? LOOPBACK_NET : family.parseCidr(IPV6_LOOPBACK)!;
  const mark = (1 << settings.masqueradeBit) >>> 0;
  const detector = detectorOf(settings, cluster, node);
  return {
    nodeAddress: address,
    masqueradeAll: settings.masqueradeAll,
    mark,
    localhostNodePorts,
    nodePortAddresses: cidrs.some(({ prefix }) => prefix === 0)
      ? undefined
      : nodePortAddresses(cidrs, address, localhostNodePorts, family),
    exceptLoopback: localhostNodePorts ? undefined : loopback,
    detector,
    nfacct: settings.nfacct,
    snat: settings.snatNodeInternalIP && !family.contains(loopback, address),
    tcpBeLiberal: settings.tcpBeLiberal,
    style: {
      mark: `0x${mark.toString(16).padStart(8, '0')}`,
      randomFully: settings.randomFully,
      link: detector.link,
      nodeAddress: address,
    },
  };
}

/** What was wanted of a list of CIDRs, empty if it is one. */
export function wantedCidrs(text: string): string {
  const good = text === '' || text === PRIMARY || text.split(',').every((one) => isCidr(one.trim()));
  return good ? '' : 'wanted CIDRs with commas between, such as 10.0.0.0/8,127.0.0.0/8, or primary';
}

/** Of either family: each proxier takes those of its own. */
function isCidr(text: string): boolean {
  if (parseCidr(text) !== undefined) return true;
  const [address, prefix] = text.split(/\/(\d{1,3})$/);
  return prefix !== undefined && Number(prefix) <= 128 && parseIpv6(address!) !== undefined;
}

/**
 * The CIDRs of this family; without any, all addresses.
 * Source: NewNodePortAddresses in pkg/proxy/util/nodeport_addresses.go.
 */
function nodePortCidrs(text: string, nodeAddress: number, family: AddressFamily): readonly Cidr[] {
  if (text === PRIMARY) return [{ address: nodeAddress, prefix: family.bits }];
  const cidrs: Cidr[] = [];
  for (const one of text.split(',').map((part) => part.trim())) {
    if (one === '' || one.includes(':') !== (family.name === 'ipv6')) continue;
    const cidr = family.parseCidr(one);
    if (cidr === undefined) throw new RangeError(`nodePortAddresses: ${one} is not a CIDR`);
    cidrs.push(cidr);
  }
  return cidrs.length === 0 ? [{ address: 0, prefix: 0 }] : cidrs;
}

/** IPv6 has no node ports on localhost: nothing there is like route_localnet. */
function coversLoopback(cidrs: readonly Cidr[], family: AddressFamily): boolean {
  if (family.name === 'ipv6') return false;
  return cidrs.some(
    (cidr) => family.contains(LOOPBACK_NET, cidr.address) || family.contains(cidr, LOOPBACK_NET.address),
  );
}

/**
 * Addresses of this node's interfaces inside the CIDRs: its own and the loopback's are known here. Upstream lists
 * them in the order of a set, which is random.
 */
function nodePortAddresses(
  cidrs: readonly Cidr[],
  address: number,
  localhost: boolean,
  family: AddressFamily,
): number[] {
  const local = localhost ? [address, LOOPBACK] : [address];
  return local.filter((one) => cidrs.some((cidr) => family.contains(cidr, one)));
}

function detectorOf(settings: RulesetSettings, cluster: Cluster, node: number): LocalDetector {
  const { podCidr } = cluster.nodes[node]!;
  const family = familyOf(cluster);
  switch (settings.detectLocalMode) {
    case 'ClusterCIDR':
      return byCidr(cluster.podCidr, family);
    case 'NodeCIDR':
      return podCidr === undefined ? NO_DETECTOR : byCidr(podCidr, family);
    case 'BridgeInterface':
      return byLink(settings.bridgeInterface);
    case 'InterfaceNamePrefix':
      return byLink(`${settings.interfaceNamePrefix}+`);
    case 'none':
      return NO_DETECTOR;
  }
}
