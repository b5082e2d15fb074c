import { IPV4, Ipv6Family, type AddressFamily } from '@vipsim/sim-core';
import { planOf } from './address-plan.ts';
import { covering, NODE_PORT_MAX, NODE_PORT_MIN } from './allocate.ts';
import type { Cluster } from './cluster.ts';
import type { SourceText } from './documents.ts';
import { EndpointRows } from './endpoint-rows.ts';
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
import { hintByZone } from './zone-hints.ts';

export type { SourceText } from './documents.ts';
export { InputError } from './input-error.ts';
export { DEFAULTS, type ReadOptions } from './read-options.ts';
export { scaleCluster } from './scale.ts';

/**
 * A cluster from Kubernetes manifests or dumps, YAML or JSON, its half of one address family. What the control plane
 * would add is added: ClusterIPs, NodePorts, and the endpoints of Services without EndpointSlices.
 *
 * Models: Service defaults and allocation, EndpointSlice and Endpoints as kube-proxy reads them, pods from
 * selectors, replicas and templates, scheduling in turns, topology hints of slices or as the controller makes them.
 * Source: pkg/proxy/{serviceport,endpointslicecache}.go, pkg/registry/core/service, staging/src/k8s.io/endpointslice.
 * Not modelled: node selectors and affinity, topology aware routing sharing endpoints out anew as they change.
 *
 * Throws InputError for input that cannot be meant, naming file, line and field.
 */
export function readCluster(sources: readonly SourceText[], options: Partial<ReadOptions> = {}): Cluster {
  const settings: ReadOptions = { ...DEFAULTS, ...options };
  const family = settings.family === 'ipv4' ? IPV4 : new Ipv6Family();
  const plan = planOf(family, settings.serviceCidr);
  const notes = new Notes();
  const inventory = takeInventory(sources, settings, notes);
  const all = inventory.services.map((field) => readService(field, family));
  const services = ofFamily(all, family, notes);
  if (services.length === 0) throw withoutServices(sources, family, notes);
  // A pod of a dual-stack cluster is on one node: the IPv6 half places all pods as the IPv4 half does.
  const sharing = family === IPV4 ? services : all;

  const nodes = new NodeTable(inventory.nodes, family);
  const slices = new SliceIndex(inventory, sharing, all, nodes, notes);
  const pods = inventory.pods.map((field) => readPod(field, nodes));
  const workloads = inventory.workloads.map(readWorkload);
  const derived = sharing.filter((service) => isProgrammed(service) && slices.of(service) === undefined);
  const selection = new PodSelection(derived, pods, workloads);
  notes.absentPods = pods.filter((pod) => pod.absent).length;
  notes.namedNodes = nodes.named;

  makeRoom(nodes, pods, derived, selection, settings);
  notes.madeUpNodes = nodes.madeUp;
  const taken = takenAddresses(services, pods, nodes, slices);
  nodes.settle(taken);
  for (const address of nodes.addresses()) taken.add(address);

  const table = new ServiceTable({ own: services, all }, taken, plan.serviceCidr, family, notes);
  const podTable = new PodTable(nodes, plan.podAddresses(nodes.count, taken, nodes.podCidrs()));
  const rows = new EndpointRows(family, table.ports, podTable, pods, selection, settings.maxEndpoints, notes);
  if (family !== IPV4) {
    for (const service of derived) if (service.families !== 'IPv6') rows.place(service);
  }
  for (const [index, service] of services.entries()) {
    if (!isProgrammed(service)) continue;
    const first = rows.endpoints.count;
    rows.add(service, table.firstPort[index]!, slices.of(service));
    if (service.topologyAuto && slices.of(service) === undefined) {
      hintByZone(rows.endpoints, first, podTable.pods, nodes);
    }
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
    podCidr: covering(networks, family) ?? plan.podCidr,
    serviceCidr: plan.serviceCidr,
    notes: notes.lines(family.title, family.cidrText(plan.serviceCidr), `${NODE_PORT_MIN}-${NODE_PORT_MAX}`),
  };
}

/** Those that have a half of the family. */
function ofFamily(
  services: readonly ServiceObject[],
  family: AddressFamily,
  notes: Notes,
): readonly ServiceObject[] {
  const other = family === IPV4 ? 'IPv6' : 'IPv4';
  const kept = services.filter((service) => service.families !== other);
  notes.otherFamilyServices = services.length - kept.length;
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

function withoutServices(sources: readonly SourceText[], family: AddressFamily, notes: Notes): InputError {
  const skipped = notes.skippedKinds();
  const found = skipped === '' ? '' : `, only ${skipped}`;
  const left = notes.otherFamilyServices;
  const [problem, hint] =
    left === 0
      ? [
          `there is no Service${found}`,
          'wanted manifests or a dump: kubectl get services,endpointslices,pods,nodes -A -o json',
        ]
      : family === IPV4
        ? [
            `all Services (${left}) are IPv6-only, which cannot be simulated`,
            'vipsim rules --mode iptables --family ipv6 shows their rules',
          ]
        : [
            `all Services (${left}) are IPv4-only`,
            'wanted one with an IPv6 ClusterIP, IPv6 among ipFamilies, or ipFamilyPolicy PreferDualStack',
          ];
  return new InputError({
    file: nameOf(sources),
    document: 0,
    line: 0,
    subject: '',
    field: '',
    problem: problem!,
    hint: hint!,
  });
}

function nameOf(sources: readonly SourceText[]): string {
  const names = sources.map((source) => source.name);
  if (names.length === 0) return '(no input)';
  if (names.length <= 3) return names.join(', ');
  return `${names[0]!}, ${names[1]!} and ${names.length - 2} more`;
}
