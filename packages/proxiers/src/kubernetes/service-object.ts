import { parseIpv4, SCTP, TCP, UDP, type AddressFamily, type Cidr } from '@vipsim/sim-core';
import type { ServiceType } from './cluster.ts';
import { shown, type Field, type Labels } from './field.ts';

/** A Service as it is written, its half of one family. Source: validation and defaults of core/v1 Service. */
export interface ServiceObject {
  readonly field: Field;
  readonly namespace: string;
  readonly name: string;
  readonly type: ServiceType;
  readonly families: 'IPv4' | 'IPv6' | 'both';
  readonly headless: boolean;
  /** undefined when it is left to the API server. */
  readonly clusterIp: number | undefined;
  readonly externalIps: readonly number[];
  readonly loadBalancerIps: readonly number[];
  readonly sourceRanges: readonly Cidr[];
  readonly affinityS: number;
  readonly internalPolicyLocal: boolean;
  readonly externalPolicyLocal: boolean;
  /** 0 when it is left to the API server. */
  readonly healthCheckNodePort: number;
  readonly allocateNodePorts: boolean;
  readonly publishNotReady: boolean;
  /** What trafficDistribution asks of the EndpointSlice controller. */
  readonly distribution: 'zone' | 'node' | undefined;
  /** Topology aware routing: hints in proportion to the zones' CPUs, whatever trafficDistribution says. */
  readonly topologyAuto: boolean;
  /** Empty without a selector. */
  readonly selector: Labels;
  readonly ports: readonly PortObject[];
}

export interface PortObject {
  readonly field: Field;
  readonly name: string;
  readonly protocol: number;
  readonly port: number;
  /** A number, or the name of a container port. */
  readonly target: number | string;
  readonly nodePort: number;
}

const TYPES = ['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'] as const;
/** PreferClose is the older name of PreferSameZone (KEP-3015). */
const DISTRIBUTIONS = ['PreferClose', 'PreferSameZone', 'PreferSameNode', ''] as const;
const POLICIES = ['Cluster', 'Local'] as const;
const PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const;
const PROTOCOL_NUMBERS = { TCP, UDP, SCTP };
/** API default of sessionAffinityConfig.clientIP.timeoutSeconds, and its upper bound. */
const AFFINITY_S = 10800;
const AFFINITY_S_MAX = 86400;

export function readService(field: Field, family: AddressFamily): ServiceObject {
  const identity = readIdentity(field);
  const spec = field.get('spec');
  const type = spec.get('type').choice(TYPES, 'ClusterIP');
  const addresses = readClusterIps(spec, family);
  const proxied = type !== 'ExternalName' && !addresses.headless;
  const allocateNodePorts =
    type === 'NodePort' || (type === 'LoadBalancer' && spec.get('allocateLoadBalancerNodePorts').flag(true));
  const ports = spec.get('ports').list().map(readServicePort);
  if (proxied) checkPorts(spec, ports, type);
  return {
    field,
    ...identity,
    type,
    ...addresses,
    externalIps: readAddresses(spec.get('externalIPs').list(), family),
    loadBalancerIps: readIngress(field.get('status').get('loadBalancer').get('ingress'), family),
    sourceRanges: readRanges(spec.get('loadBalancerSourceRanges'), family),
    affinityS: readAffinity(spec),
    internalPolicyLocal: spec.get('internalTrafficPolicy').choice(POLICIES, 'Cluster') === 'Local',
    externalPolicyLocal: spec.get('externalTrafficPolicy').choice(POLICIES, 'Cluster') === 'Local',
    healthCheckNodePort: spec.get('healthCheckNodePort').integer('a port', 0, 65535, 0),
    allocateNodePorts,
    publishNotReady: spec.get('publishNotReadyAddresses').flag(false),
    distribution: readDistribution(spec),
    topologyAuto: isTopologyAuto(field.get('metadata').get('annotations')),
    selector: spec.get('selector').labels(),
    ports,
  };
}

function readDistribution(spec: Field): 'zone' | 'node' | undefined {
  switch (spec.get('trafficDistribution').choice(DISTRIBUTIONS, '')) {
    case 'PreferClose':
    case 'PreferSameZone':
      return 'zone';
    case 'PreferSameNode':
      return 'node';
    case '':
      return undefined;
  }
}

/** The older name of the annotation wins (hintsEnabled, staging/src/k8s.io/endpointslice/utils.go). */
function isTopologyAuto(annotations: Field): boolean {
  const older = annotations.get('service.kubernetes.io/topology-aware-hints');
  const mode = older.present ? older : annotations.get('service.kubernetes.io/topology-mode');
  return mode.value === 'Auto' || mode.value === 'auto';
}

/** Whether it has a ClusterIP, given or to be allocated, and so rows of ports. */
export function isProgrammed(service: ServiceObject): boolean {
  return service.type !== 'ExternalName' && !service.headless;
}

/** Any name but an empty one will do: it is for the API server to be strict, and for writers to escape. */
export function readIdentity(field: Field): { namespace: string; name: string } {
  const metadata = field.get('metadata');
  const name = metadata.get('name');
  if (name.text() === '') throw name.error('is missing', 'wanted a name');
  return { namespace: metadata.get('namespace').text('default') || 'default', name: name.text() };
}

export function readProtocol(field: Field): number {
  return PROTOCOL_NUMBERS[field.choice(PROTOCOLS, 'TCP')];
}

export function readPort(field: Field, otherwise = 0): number {
  if (!field.present && otherwise === 0) throw field.error('is missing', 'wanted 1 to 65535');
  return field.integer('a port', 1, 65535, otherwise);
}

/** An address of the family; undefined for one of the other. */
export function readAddress(field: Field, family: AddressFamily): number | undefined {
  const text = field.text();
  const address = family.parse(text);
  if (address !== undefined || isOfOther(family, text)) return address;
  const mapped = text.includes(':') && text.includes('.') ? 'wanted IPv4 addresses without ::ffff:' : '';
  throw field.error(`${shown(text)} is not an IP address`, mapped);
}

export function readAddresses(fields: readonly Field[], family: AddressFamily): number[] {
  return fields.map((field) => readAddress(field, family)).filter((address) => address !== undefined);
}

/** A CIDR of the family; undefined for one of the other. */
export function readCidr(field: Field, family: AddressFamily, example: string): Cidr | undefined {
  const text = field.text().trim();
  const cidr = family.parseCidr(text);
  if (cidr !== undefined || isOfOther(family, text.replace(/\/.*/, ''))) return cidr;
  throw field.error(`${shown(text)} is not a CIDR`, `wanted one such as ${example}`);
}

/** Read for IPv4, an address with colons is the other family's concern; read for IPv6, one with dots. */
function isOfOther(family: AddressFamily, address: string): boolean {
  return family.name === 'ipv4' ? address.includes(':') : parseIpv4(address) !== undefined;
}

function readClusterIps(
  spec: Field,
  family: AddressFamily,
): Pick<ServiceObject, 'families' | 'headless' | 'clusterIp'> {
  const given = [spec.get('clusterIP'), ...spec.get('clusterIPs').list()].filter((one) => one.text() !== '');
  const headless = given.some((one) => one.value === 'None');
  const addresses = given.filter((one) => one.value !== 'None').map((one) => readAddress(one, family));
  const clusterIp = addresses.find((address) => address !== undefined);
  if (clusterIp === 0) {
    throw given[0]!.error(`${family.text(0)} cannot be a ClusterIP`, 'wanted an address, or None');
  }
  const families = spec
    .get('ipFamilies')
    .list()
    .map((one) => one.choice(['IPv4', 'IPv6'], 'IPv4'));
  const policy = spec.get('ipFamilyPolicy').text('SingleStack');
  const hasOwn = clusterIp !== undefined;
  const hasOther = addresses.includes(undefined);
  const [given4, given6] = family.name === 'ipv4' ? [hasOwn, hasOther] : [hasOther, hasOwn];
  const dual = policy !== 'SingleStack';
  // Without addresses it is left to the API server, which gives both where the policy allows and nothing is said.
  const has6 = given6 || families.includes('IPv6') || (dual && given.length === 0);
  const has4 = given4 || families.includes('IPv4') || dual || !has6;
  return { families: has6 ? (has4 ? 'both' : 'IPv6') : 'IPv4', headless, clusterIp };
}

function readServicePort(field: Field): PortObject {
  const port = readPort(field.get('port'));
  const target = field.get('targetPort');
  return {
    field,
    name: field.get('name').text(),
    protocol: readProtocol(field.get('protocol')),
    port,
    target: typeof target.value === 'string' ? readPortName(target, port) : readPort(target, port),
    nodePort: field.get('nodePort').integer('a port', 0, 65535, 0),
  };
}

function readPortName(field: Field, otherwise: number): string | number {
  const name = field.text();
  if (/^\d+$/.test(name))
    throw field.error(`${shown(name)} is not a port name`, `wanted a name, or ${name} without quotes`);
  return name === '' ? otherwise : name;
}

function checkPorts(spec: Field, ports: readonly PortObject[], type: ServiceType): void {
  if (ports.length === 0) throw spec.get('ports').error('is missing', 'wanted at least one port');
  const names = new Set<string>();
  const numbers = new Set<string>();
  for (const { field, name, protocol, port, nodePort } of ports) {
    if (ports.length > 1 && name === '') {
      throw field.get('name').error('is missing', 'several ports need distinct names');
    }
    if (names.has(name)) {
      throw field
        .get('name')
        .error(`${shown(name)} is the name of two ports`, 'several ports need distinct names');
    }
    if (numbers.has(`${protocol}/${port}`))
      throw field.get('port').error(`${port} is given twice for one protocol`);
    if (type === 'ClusterIP' && nodePort !== 0) {
      throw field
        .get('nodePort')
        .error(`${nodePort} in a Service of type ClusterIP`, 'wanted type NodePort or LoadBalancer');
    }
    names.add(name);
    numbers.add(`${protocol}/${port}`);
  }
}

function readAffinity(spec: Field): number {
  if (spec.get('sessionAffinity').choice(['None', 'ClientIP'], 'None') === 'None') return 0;
  const timeout = spec.get('sessionAffinityConfig').get('clientIP').get('timeoutSeconds');
  return timeout.integer('a number of seconds', 1, AFFINITY_S_MAX, AFFINITY_S);
}

/** kube-proxy takes the entries that have an IP and are of VIP mode, which is the default (pkg/proxy/serviceport.go). */
function readIngress(field: Field, family: AddressFamily): number[] {
  const vips = field.list().filter((entry) => {
    return entry.get('ip').text() !== '' && entry.get('ipMode').choice(['VIP', 'Proxy'], 'VIP') === 'VIP';
  });
  return readAddresses(
    vips.map((entry) => entry.get('ip')),
    family,
  );
}

function readRanges(field: Field, family: AddressFamily): Cidr[] {
  return field
    .list()
    .map((entry) => readCidr(entry, family, family.name === 'ipv4' ? '10.0.0.0/8' : 'fd00::/8'))
    .filter((range) => range !== undefined);
}
