import { READY, SERVING, TERMINATING, type Hint } from './cluster.ts';
import type { Field } from './field.ts';
import type { NodeTable } from './node-table.ts';
import { readAddress, readPort, readProtocol } from './service-object.ts';

/** Endpoints that share their ports: an EndpointSlice, or half a subset of an Endpoints object. */
export interface EndpointGroup {
  readonly ports: readonly GroupPort[];
  readonly count: number;
  readonly addresses: Uint32Array;
  /** Rows of nodes; -1 where none is named. */
  readonly nodes: Int32Array;
  readonly conditions: Uint8Array;
  /** Names of the pods referred to; empty where there is none. */
  readonly pods: readonly string[];
  /** Of a slice, by endpoint; undefined where the controller would know better than the object. */
  readonly hints: readonly Hint[] | undefined;
}

interface GroupPort {
  readonly name: string;
  readonly protocol: number;
  readonly port: number;
}

/**
 * An EndpointSlice of discovery.k8s.io/v1 or v1beta1; undefined if its addresses are of another family. As kube-proxy
 * reads it: missing conditions mean ready, serving and not terminating; only the first address counts; a port
 * without a number is ignored (pkg/proxy/endpointslicecache.go).
 */
export function readSlice(field: Field, nodes: NodeTable): EndpointGroup | undefined {
  const { family } = nodes;
  const type = field.get('addressType').choice(['IPv4', 'IPv6', 'FQDN'], 'IPv4');
  if (type !== family.title) return undefined;
  const endpoints = field.get('endpoints').list();
  const hints: Hint[] = [];
  const group = { ...empty(readPorts(field.get('ports')), endpoints.length), hints };
  for (const endpoint of endpoints) {
    const first = endpoint.get('addresses').list()[0];
    const address = first && readAddress(first, family);
    if (address === undefined) continue;
    const conditions = endpoint.get('conditions');
    const topology = endpoint.get('topology');
    const nodeName = endpoint.get('nodeName').text(topology.get('kubernetes.io/hostname').text());
    const zone = endpoint.get('zone').text(topology.get('topology.kubernetes.io/zone').text());
    push(
      group,
      address,
      nodeName === '' ? -1 : nodes.intern(nodeName, zone),
      (conditions.get('ready').flag(true) ? READY : 0) |
        (conditions.get('serving').flag(true) ? SERVING : 0) |
        (conditions.get('terminating').flag(false) ? TERMINATING : 0),
      readPodReference(endpoint.get('targetRef')),
    );
    hints.push(readHints(endpoint.get('hints')));
  }
  return group;
}

function readHints(field: Field): Hint {
  const named = (key: string): string[] =>
    field
      .get(key)
      .list()
      .map((entry) => entry.get('name').text());
  return { zones: named('forZones'), nodes: named('forNodes') };
}

/** An Endpoints object, as the EndpointSlice mirroring controller would turn it into slices. */
export function readSubsets(field: Field, nodes: NodeTable): EndpointGroup[] {
  const groups: EndpointGroup[] = [];
  for (const subset of field.get('subsets').list()) {
    const ports = readPorts(subset.get('ports'));
    for (const [key, conditions] of [
      ['addresses', READY | SERVING] as const,
      ['notReadyAddresses', 0] as const,
    ]) {
      const entries = subset.get(key).list();
      const group = empty(ports, entries.length);
      for (const entry of entries) {
        const address = readAddress(entry.get('ip'), nodes.family);
        if (address === undefined) continue;
        const nodeName = entry.get('nodeName').text();
        const node = nodeName === '' ? -1 : nodes.intern(nodeName, '');
        push(group, address, node, conditions, readPodReference(entry.get('targetRef')));
      }
      groups.push(group);
    }
  }
  return groups;
}

type Growing = { -readonly [Key in keyof EndpointGroup]: EndpointGroup[Key] } & { readonly pods: string[] };

function empty(ports: readonly GroupPort[], capacity: number): Growing {
  return {
    ports,
    count: 0,
    addresses: new Uint32Array(capacity),
    nodes: new Int32Array(capacity),
    conditions: new Uint8Array(capacity),
    pods: [],
    hints: undefined,
  };
}

function push(group: Growing, address: number, node: number, conditions: number, pod: string): void {
  group.addresses[group.count] = address;
  group.nodes[group.count] = node;
  group.conditions[group.count] = conditions;
  group.pods.push(pod);
  group.count++;
}

function readPorts(field: Field): GroupPort[] {
  return field
    .list()
    .filter((port) => port.get('port').present && port.get('port').value !== 0)
    .map((port) => ({
      name: port.get('name').text(),
      protocol: readProtocol(port.get('protocol')),
      port: readPort(port.get('port')),
    }));
}

function readPodReference(reference: Field): string {
  return reference.get('kind').value === 'Pod' ? reference.get('name').text() : '';
}
