import type { AddressFamily } from '@vipsim/sim-core';
import { Endpoints, HINT_BY_SERVICE, READY, SERVING, TERMINATING, type ServicePorts } from './cluster.ts';
import type { EndpointGroup } from './endpoint-group.ts';
import type { Notes } from './notes.ts';
import { targetOn, type PodObject } from './pod-object.ts';
import type { PodSelection } from './pod-selection.ts';
import type { PodTable } from './pod-table.ts';
import type { PortObject, ServiceObject } from './service-object.ts';

/** The endpoint rows, port by port. Services are to be added in the order of their ports. */
export class EndpointRows {
  readonly endpoints: Endpoints;
  readonly #ports: ServicePorts;
  readonly #pods: PodTable;
  readonly #podsByName = new Map<string, PodObject>();
  readonly #podsByAddress = new Map<number, PodObject>();
  readonly #selection: PodSelection;
  readonly #max: number;
  readonly #notes: Notes;
  /** Address and port to the row, within one service port. */
  readonly #rows = new Map<number, number>();

  constructor(
    family: AddressFamily,
    ports: ServicePorts,
    table: PodTable,
    pods: readonly PodObject[],
    selection: PodSelection,
    max: number,
    notes: Notes,
  ) {
    this.endpoints = new Endpoints(family);
    this.#ports = ports;
    this.#pods = table;
    this.#selection = selection;
    this.#max = max;
    this.#notes = notes;
    for (const pod of pods) {
      this.#podsByName.set(`${pod.namespace}/${pod.name}`, pod);
      if (!pod.absent && !pod.hostNetwork && pod.address !== 0) this.#podsByAddress.set(pod.address, pod);
    }
  }

  /** `groups` undefined: as the EndpointSlice controller would make them from the selector. */
  add(service: ServiceObject, firstPort: number, groups: readonly EndpointGroup[] | undefined): void {
    for (const [index, port] of service.ports.entries()) {
      const row = firstPort + index;
      this.#ports.firstEndpoint[row] = this.endpoints.count;
      this.#rows.clear();
      if (groups === undefined) this.#addSelected(service, port, row);
      else this.#addGroups(service, port, row, groups);
      this.#ports.firstEndpoint[row + 1] = this.endpoints.count;
    }
    if (groups !== undefined) this.#notes.orphanPorts += countOrphanPorts(service, groups);
    else this.#noteNone(service);
  }

  /** Make the pods that `add` would make, and no rows: pods of both families share the nodes. */
  place(service: ServiceObject): void {
    const { pods, templates } = this.#selection.of(service);
    for (const { target, protocol } of service.ports) {
      for (const pod of pods) {
        if (pod.absent || targetOn(pod, target, protocol) === 0) continue;
        this.#pods.ofObject(pod, this.#selection.controller(pod), 0);
      }
      for (const template of templates) this.#pods.ofTemplate(template, this.#selection.controller(template));
    }
  }

  #addGroups(service: ServiceObject, port: PortObject, row: number, groups: readonly EndpointGroup[]): void {
    for (const group of groups) {
      for (const { name, protocol, port: number } of group.ports) {
        if (name !== port.name || protocol !== port.protocol) continue;
        for (let i = 0; i < group.count; i++) {
          this.#set(
            service,
            row,
            this.#podOf(service, group, i),
            group.addresses[i]!,
            number,
            group.conditions[i]!,
            this.#hintOf(group, i),
          );
        }
      }
    }
  }

  #hintOf({ hints }: EndpointGroup, index: number): number {
    if (hints === undefined) return HINT_BY_SERVICE;
    const { zones, nodes } = hints[index]!;
    return this.endpoints.intern(zones, nodes);
  }

  #addSelected(service: ServiceObject, port: PortObject, row: number): void {
    const { pods, templates } = this.#selection.of(service);
    const addresses = this.#pods.pods;
    let unresolved = 0;
    for (const pod of pods) {
      if (pod.absent) continue;
      const number = targetOn(pod, port.target, port.protocol);
      if (number === 0) {
        unresolved++;
        continue;
      }
      const member = this.#pods.ofObject(pod, this.#selection.controller(pod), 0);
      const conditions = conditionsOf(pod, service.publishNotReady);
      this.#set(service, row, member, addresses.address[member]!, number, conditions);
    }
    for (const template of templates) {
      const number = targetOn(template, port.target, port.protocol);
      const members = this.#pods.ofTemplate(template, this.#selection.controller(template));
      if (number === 0) {
        unresolved += members.length;
        continue;
      }
      for (const member of members) {
        this.#set(service, row, member, addresses.address[member]!, number, READY | SERVING);
      }
    }
    if (unresolved > 0) {
      const suffix = port.name === '' ? '' : `:${port.name}`;
      this.#notes.unresolvedTargets.set(`${service.namespace}/${service.name}${suffix}`, unresolved);
    }
  }

  /** The pod that a slice means: by name, by address, or one that only the slice knows. */
  #podOf(service: ServiceObject, group: EndpointGroup, index: number): number {
    const name = group.pods[index]!;
    const address = group.addresses[index]!;
    const pod =
      (name === '' ? undefined : this.#podsByName.get(`${service.namespace}/${name}`)) ??
      this.#podsByAddress.get(address);
    if (pod !== undefined) return this.#pods.ofObject(pod, this.#selection.controller(pod), address);
    const owner = { kind: 'Service', namespace: service.namespace, name: service.name };
    return this.#pods.ofAddress(address, group.nodes[index]!, name, owner);
  }

  /**
   * Slices may repeat an endpoint while it moves between them: one that is terminating does not replace
   * another, the rest do (pkg/proxy/endpointslicecache.go).
   */
  #set(
    service: ServiceObject,
    row: number,
    pod: number,
    address: number,
    port: number,
    conditions: number,
    hint = HINT_BY_SERVICE,
  ): void {
    const key = address * 65536 + port;
    const known = this.#rows.get(key);
    if (known !== undefined) {
      if ((conditions & TERMINATING) !== 0) return;
      this.endpoints.pod[known] = pod;
      this.endpoints.conditions[known] = conditions;
      this.endpoints.hint[known] = hint;
      return;
    }
    if (this.endpoints.count === this.#max) {
      throw service.field.error(
        `its endpoints make more than maxEndpoints (${this.#max})`,
        'raise maxEndpoints',
      );
    }
    this.#rows.set(key, this.endpoints.add(row, pod, address, port, conditions, hint));
  }

  #noteNone(service: ServiceObject): void {
    const name = `${service.namespace}/${service.name}`;
    const { pods, templates } = this.#selection.of(service);
    if (service.selector.size === 0) this.#notes.withoutSelector.push(name);
    else if (pods.length + templates.length === 0) this.#notes.unmatched.push(name);
  }
}

/** Source: podToEndpoint, staging/src/k8s.io/endpointslice/utils.go. */
function conditionsOf(pod: PodObject, publishNotReady: boolean): number {
  const ready = publishNotReady || (pod.ready && !pod.terminating);
  return (ready ? READY : 0) | (pod.ready ? SERVING : 0) | (pod.terminating ? TERMINATING : 0);
}

function countOrphanPorts(service: ServiceObject, groups: readonly EndpointGroup[]): number {
  const known = new Set(service.ports.map(({ name, protocol }) => `${protocol}/${name}`));
  let count = 0;
  for (const group of groups) {
    for (const { name, protocol } of group.ports) if (!known.has(`${protocol}/${name}`)) count++;
  }
  return count;
}
