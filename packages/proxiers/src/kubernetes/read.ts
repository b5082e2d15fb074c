import { formatCidr } from '@vipsim/sim-core';
import { covering, NARROW_POD_CIDR, NODE_PORT_MAX, NODE_PORT_MIN } from './allocate.ts';
import type { Cluster } from './cluster.ts';
import type { SourceText } from './documents.ts';
import { EndpointRows } from './endpoint-rows.ts';
import type { Field } from './field.ts';
import { InputError } from './input-error.ts';
import { takeInventory } from './inventory.ts';
import { NodeTable } from './node-table.ts';
import { Notes } from './notes.ts';
import { readPod, readWorkload, type PodObject } from './pod-object.ts';
import { makeRoom } from './placement.ts';
import { PodSelection } from './pod-selection.ts';
import { PodTable } from './pod-table.ts';
import { DEFAULTS, type ReadOptions } from './read-options.ts';
import { isProgrammed, readService, type ServiceObject } from './service-object.ts';
import { ServiceTable } from './service-table.ts';
import { SliceIndex } from './slice-index.ts';

export type { SourceText } from './documents.ts';
export { InputError } from './input-error.ts';
export { DEFAULTS, type ReadOptions } from './read-options.ts';
export { scaleCluster } from './scale.ts';

/**
 * A cluster from Kubernetes manifests or dumps, YAML or JSON. What the control plane would add is added:
 * ClusterIPs, NodePorts, and the endpoints of Services without EndpointSlices.
 *
 * Models: Service defaults and allocation, EndpointSlice and Endpoints as kube-proxy reads them, pods from
 * selectors, replicas and templates, scheduling in turns.
 * Source: pkg/proxy/{serviceport,endpointslicecache}.go, pkg/registry/core/service, staging/src/k8s.io/endpointslice.
 * Not modelled: IPv6, topology hints, node selectors and affinity, trafficDistribution.
 *
 * Throws InputError for input that cannot be meant, naming file, line and field.
 */
export function readCluster(sources: readonly SourceText[], options: Partial<ReadOptions> = {}): Cluster {
  const settings: ReadOptions = { ...DEFAULTS, ...options };
  const notes = new Notes();
  const inventory = takeInventory(sources, settings, notes);
  const services = readServices(inventory.services, notes);
  if (services.length === 0) throw withoutServices(sources, notes);

  const nodes = new NodeTable(inventory.nodes);
  const slices = new SliceIndex(inventory, services, nodes, notes);
  const pods = inventory.pods.map((field) => readPod(field, nodes));
  const workloads = inventory.workloads.map(readWorkload);
  const derived = services.filter((service) => isProgrammed(service) && slices.of(service) === undefined);
  const selection = new PodSelection(derived, pods, workloads);
  notes.absentPods = pods.filter((pod) => pod.absent).length;
  notes.namedNodes = nodes.named;

  makeRoom(nodes, pods, derived, selection, settings);
  notes.madeUpNodes = nodes.madeUp;
  const taken = takenAddresses(services, pods, nodes, slices);
  nodes.settle(taken);
  for (const address of nodes.addresses()) taken.add(address);

  const table = new ServiceTable(services, taken, settings.serviceCidr, notes);
  const podTable = new PodTable(nodes, taken);
  const rows = new EndpointRows(table.ports, podTable, pods, selection, settings.maxEndpoints, notes);
  for (const [index, service] of services.entries()) {
    if (isProgrammed(service)) rows.add(service, table.firstPort[index]!, slices.of(service));
  }
  notes.outsidePods = nodes.outside;
  notes.derivedPods = podTable.derived;
  notes.derivedWorkloads = podTable.derivedWorkloads;

  const networks = [...nodes.podCidrs(), ...(podTable.network ? [podTable.network] : [])];
  return {
    name: nameOf(sources),
    nodes: nodes.toNodes(),
    services: table.services,
    ports: table.ports,
    workloads: podTable.toWorkloads(),
    pods: podTable.pods,
    endpoints: rows.endpoints,
    podCidr: covering(networks) ?? NARROW_POD_CIDR,
    serviceCidr: settings.serviceCidr,
    notes: notes.lines(formatCidr(settings.serviceCidr), `${NODE_PORT_MIN}-${NODE_PORT_MAX}`),
  };
}

/** All Services that have an IPv4 half. */
function readServices(fields: readonly Field[], notes: Notes): ServiceObject[] {
  const services = fields.map(readService);
  const kept = services.filter((service) => service.families !== 'IPv6');
  notes.ipv6Services = services.length - kept.length;
  notes.dualStackServices = kept.filter((service) => service.families === 'both').length;
  return kept;
}

/** Every address that the input names, so that none is given away twice. */
function takenAddresses(
  services: readonly ServiceObject[],
  pods: readonly PodObject[],
  nodes: NodeTable,
  slices: SliceIndex,
): Set<number> {
  const taken = new Set(nodes.addresses());
  for (const pod of pods) taken.add(pod.address);
  for (const service of services) {
    if (service.clusterIp !== undefined) taken.add(service.clusterIp);
    for (const address of service.externalIps) taken.add(address);
    for (const address of service.loadBalancerIps) taken.add(address);
  }
  slices.addAddresses(taken);
  return taken;
}

function withoutServices(sources: readonly SourceText[], notes: Notes): InputError {
  const skipped = notes.skippedKinds();
  const found = skipped === '' ? '' : `, only ${skipped}`;
  const problem =
    notes.ipv6Services > 0
      ? `all Services (${notes.ipv6Services}) are IPv6-only, which cannot be simulated`
      : `there is no Service${found}`;
  const hint = 'wanted manifests or a dump: kubectl get services,endpointslices,pods,nodes -A -o json';
  return new InputError({
    file: nameOf(sources),
    document: 0,
    line: 0,
    subject: '',
    field: '',
    problem,
    hint,
  });
}

function nameOf(sources: readonly SourceText[]): string {
  const names = sources.map((source) => source.name);
  if (names.length === 0) return '(no input)';
  if (names.length <= 3) return names.join(', ');
  return `${names[0]!}, ${names[1]!} and ${names.length - 2} more`;
}
