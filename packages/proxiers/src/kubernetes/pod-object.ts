import type { Field, Labels } from './field.ts';
import type { NodeTable } from './node-table.ts';
import { readAddress, readIdentity, readPort, readProtocol } from './service-object.ts';

/** What a Pod and the template of its controller have in common. */
interface PodLike {
  readonly field: Field;
  readonly namespace: string;
  readonly name: string;
  readonly labels: Labels;
  readonly hostNetwork: boolean;
  readonly ports: readonly ContainerPort[];
  readonly owner: Owner | undefined;
}

export interface PodObject extends PodLike {
  readonly kind: 'Pod';
  /** 0 if it is to be allocated. */
  readonly address: number;
  /** Row of its node; -1 if it is to be placed. */
  readonly node: number;
  readonly ready: boolean;
  readonly terminating: boolean;
  /** Finished, or without an address of the family: no endpoint. */
  readonly absent: boolean;
}

export interface WorkloadObject extends PodLike {
  readonly kind: 'Deployment' | 'StatefulSet' | 'ReplicaSet' | 'DaemonSet';
  /** Of a DaemonSet 0: its pods follow from the nodes. */
  readonly replicas: number;
}

export interface Owner {
  readonly kind: string;
  readonly name: string;
}

export interface ContainerPort {
  readonly name: string;
  readonly protocol: number;
  readonly port: number;
}

/** Readiness as getEndpointConditions takes it (staging/src/k8s.io/endpointslice/utils.go). */
export function readPod(field: Field, nodes: NodeTable): PodObject {
  const spec = field.get('spec');
  const status = field.get('status');
  // A manifest has no status, or an empty one: such a pod is taken as up and running.
  const written = !status.present || Object.keys(status.value as object).length === 0;
  const addresses = [
    status.get('podIP'),
    ...status
      .get('podIPs')
      .list()
      .map((entry) => entry.get('ip')),
  ];
  const address = addresses
    .filter((one) => one.text() !== '')
    .map((one) => readAddress(one, nodes.family))
    .find((one) => one !== undefined);
  const terminating = field.get('metadata').get('deletionTimestamp').present;
  const finished = ['Succeeded', 'Failed'].includes(status.get('phase').text()) && !terminating;
  const nodeName = spec.get('nodeName').text();
  return {
    ...readPodLike(field, field),
    kind: 'Pod',
    address: address ?? 0,
    node: nodeName === '' ? -1 : nodes.intern(nodeName, ''),
    ready: written || isReady(status),
    terminating,
    absent: finished || (!written && address === undefined),
  };
}

export function readWorkload(field: Field): WorkloadObject {
  const spec = field.get('spec');
  const kind = field.kind as WorkloadObject['kind'];
  return {
    ...readPodLike(field, spec.get('template')),
    kind,
    replicas:
      kind === 'DaemonSet' ? 0 : spec.get('replicas').integer('a number of replicas', 0, 2147483647, 1),
  };
}

/** The number of a target port on a pod; 0 if no container has a port of that name. Source: podutil.FindPort. */
export function targetOn(pod: PodLike, target: number | string, protocol: number): number {
  if (typeof target === 'number') return target;
  return pod.ports.find((port) => port.name === target && port.protocol === protocol)?.port ?? 0;
}

function readPodLike(field: Field, template: Field): PodLike {
  const spec = template.get('spec');
  return {
    field,
    ...readIdentity(field),
    labels: template.get('metadata').get('labels').labels(),
    hostNetwork: spec.get('hostNetwork').flag(false),
    ports: readContainerPorts(spec),
    owner: readOwner(field),
  };
}

function readContainerPorts(spec: Field): ContainerPort[] {
  const sidecars = spec
    .get('initContainers')
    .list()
    .filter((container) => container.get('restartPolicy').value === 'Always');
  const ports: ContainerPort[] = [];
  for (const container of [...spec.get('containers').list(), ...sidecars]) {
    for (const port of container.get('ports').list()) {
      ports.push({
        name: port.get('name').text(),
        protocol: readProtocol(port.get('protocol')),
        port: readPort(port.get('containerPort')),
      });
    }
  }
  return ports;
}

function readOwner(field: Field): Owner | undefined {
  for (const owner of field.get('metadata').get('ownerReferences').list()) {
    if (owner.get('controller').flag(false)) {
      return { kind: owner.get('kind').text(), name: owner.get('name').text() };
    }
  }
  return undefined;
}

function isReady(status: Field): boolean {
  return status
    .get('conditions')
    .list()
    .some((condition) => condition.get('type').value === 'Ready' && condition.get('status').value === 'True');
}
