import type { Cidr } from '@vipsim/sim-core';
import type { PodAllocator } from './address-plan.ts';
import { Pods, type Workload } from './cluster.ts';
import type { NodeTable } from './node-table.ts';
import type { Owner, PodObject, WorkloadObject } from './pod-object.ts';

/** What makes and replaces pods; for pods of EndpointSlices alone, their Service. */
export interface Controller {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

/** Rows of pods, made when the first endpoint needs them and shared by all Services behind which a pod stands. */
export class PodTable {
  readonly pods = new Pods();
  derived = 0;
  readonly #derivedFrom = new Set<string>();
  readonly #nodes: NodeTable;
  readonly #addresses: PodAllocator;
  readonly #schedulable: readonly number[];
  readonly #nodeCount: number;
  readonly #workloads: (Controller & { readonly members: number[] })[] = [];
  readonly #workloadRows = new Map<string, number>();
  readonly #objects = new Map<PodObject, number>();
  readonly #templates = new Map<WorkloadObject, readonly number[]>();
  readonly #byAddress = new Map<number, number>();
  readonly #byReference = new Map<string, number>();
  /** By row: the pod's name, where a slice refers to it. */
  readonly #names: string[] = [];
  #placed = 0;

  /** The nodes are to be settled. */
  constructor(nodes: NodeTable, addresses: PodAllocator) {
    this.#nodes = nodes;
    this.#nodeCount = nodes.count;
    this.#addresses = addresses;
    this.#schedulable = nodes.schedulable();
  }

  get network(): Cidr | undefined {
    return this.#addresses.network;
  }

  get derivedWorkloads(): number {
    return this.#derivedFrom.size;
  }

  /** `known`: the address that a slice gives for the pod, 0 for none. */
  ofObject(pod: PodObject, controller: Controller, known: number): number {
    const made = this.#objects.get(pod);
    if (made !== undefined) return made;
    const node = pod.node >= 0 ? pod.node : this.#place();
    const address = pod.address || known || this.#allocate(pod, node);
    const row = this.#add(address, node, controller);
    this.#objects.set(pod, row);
    return row;
  }

  /** The pods that a controller would make: as many as it has replicas, or one on each node. */
  ofTemplate(template: WorkloadObject, controller: Controller): readonly number[] {
    const made = this.#templates.get(template);
    if (made !== undefined) return made;
    const everywhere = template.kind === 'DaemonSet';
    const count = everywhere ? this.#nodeCount : template.replicas;
    const rows: number[] = [];
    for (let i = 0; i < count; i++) {
      const node = everywhere ? i : this.#place();
      rows.push(this.#add(this.#allocate(template, node), node, controller));
    }
    this.derived += count;
    if (count > 0) this.#derivedFrom.add(keyOf(controller));
    this.#templates.set(template, rows);
    return rows;
  }

  /** A pod that only EndpointSlices know, by its address; pods of the host network by their name, too. */
  ofAddress(address: number, node: number, name: string, service: Controller): number {
    const found = this.#byAddress.get(address);
    if (found === undefined) {
      const row = this.#addNamed(address, node, name, service);
      this.#byAddress.set(address, row);
      return row;
    }
    if (name === '' || this.#names[found] === '' || this.#names[found] === name) return found;
    const reference = `${address}/${service.namespace}/${name}`;
    let row = this.#byReference.get(reference);
    if (row === undefined) {
      row = this.#addNamed(address, node, name, service);
      this.#byReference.set(reference, row);
    }
    return row;
  }

  toWorkloads(): Workload[] {
    return this.#workloads.map(({ kind, namespace, name, members }) => {
      return { kind, namespace, name, pods: Uint32Array.from(members) };
    });
  }

  #addNamed(address: number, node: number, name: string, service: Controller): number {
    const row = this.#add(address, node >= 0 ? node : this.#nodes.holding(address), service);
    this.#names[row] = name;
    return row;
  }

  #add(address: number, node: number, controller: Controller): number {
    const workload = this.#workload(controller);
    const row = this.pods.add(address, node, workload);
    this.#workloads[workload]!.members.push(row);
    this.#names.push('');
    return row;
  }

  #workload(controller: Controller): number {
    const name = keyOf(controller);
    const known = this.#workloadRows.get(name);
    if (known !== undefined) return known;
    const row = this.#workloads.push({ ...controller, members: [] }) - 1;
    this.#workloadRows.set(name, row);
    return row;
  }

  #place(): number {
    return this.#schedulable[this.#placed++ % this.#schedulable.length]!;
  }

  #allocate(pod: PodObject | WorkloadObject, node: number): number {
    if (pod.hostNetwork) return this.#nodes.address(node);
    const address = this.#addresses.next(node, this.#nodes.podCidr(node));
    if (address === 0)
      throw pod.field.error(
        `no pod address is left in ${this.#addresses.widest}`,
        'wanted fewer nodes or pods',
      );
    return address;
  }
}

/**
 * Who made a pod or a ReplicaSet: its controller, and behind a ReplicaSet the Deployment, which is known from
 * the ReplicaSet object or else from the pod's name, `<deployment>-<pod-template-hash>`.
 */
export function controllerOf(
  object: PodObject | WorkloadObject,
  replicaSetOwner: (namespace: string, name: string) => Owner | undefined,
): Controller {
  const { kind, namespace, name, owner } = object;
  if (owner === undefined || (kind !== 'Pod' && kind !== 'ReplicaSet')) return { kind, namespace, name };
  if (owner.kind !== 'ReplicaSet') return { kind: owner.kind, namespace, name: owner.name };
  const known = replicaSetOwner(namespace, owner.name);
  if (known !== undefined) return { kind: known.kind, namespace, name: known.name };
  const hash = object.labels.get('pod-template-hash') ?? '';
  if (hash === '' || !owner.name.endsWith(`-${hash}`))
    return { kind: 'ReplicaSet', namespace, name: owner.name };
  return { kind: 'Deployment', namespace, name: owner.name.slice(0, -hash.length - 1) };
}

export function keyOf(object: Controller): string {
  return `${object.kind}/${object.namespace}/${object.name}`;
}
