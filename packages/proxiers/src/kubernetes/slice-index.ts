import { readSlice, readSubsets, type EndpointGroup } from './endpoint-group.ts';
import type { Field } from './field.ts';
import type { Inventory } from './inventory.ts';
import type { NodeTable } from './node-table.ts';
import type { Notes } from './notes.ts';
import { readIdentity, type ServiceObject } from './service-object.ts';

const SERVICE_LABEL = 'kubernetes.io/service-name';

/** EndpointSlices by their Service; an Endpoints object stands in for a Service that has none. */
export class SliceIndex {
  readonly #groups = new Map<string, EndpointGroup[]>();
  /** Services with a selector. */
  readonly #selecting: ReadonlySet<string>;

  /** Of `services`; `all` has those of the other family, too, whose slices are no orphans. */
  constructor(
    inventory: Inventory,
    services: readonly ServiceObject[],
    all: readonly ServiceObject[],
    nodes: NodeTable,
    notes: Notes,
  ) {
    const known = new Set(services.map(keyOf));
    const elsewhere = new Set(all.map(keyOf));
    this.#selecting = new Set(services.filter(({ selector }) => selector.size > 0).map(keyOf));
    for (const field of inventory.slices) {
      const key = serviceOf(field);
      if (!known.has(key)) {
        if (elsewhere.has(key)) notes.otherFamilySlices++;
        else notes.orphanSlices++;
        continue;
      }
      const groups = this.#groups.get(key) ?? [];
      this.#groups.set(key, groups);
      const group = readSlice(field, nodes);
      if (group === undefined) notes.otherFamilySlices++;
      else groups.push(group);
    }
    for (const field of inventory.endpoints) {
      const { namespace, name } = readIdentity(field);
      const key = `${namespace}/${name}`;
      if (!elsewhere.has(key)) notes.orphanEndpoints++;
      else if (known.has(key) && !this.#groups.has(key)) this.#addSubsets(key, field, nodes);
    }
  }

  /** undefined if the input has neither slices nor an Endpoints object for it. */
  of(service: ServiceObject): readonly EndpointGroup[] | undefined {
    return this.#groups.get(keyOf(service));
  }

  /** Endpoints objects hold the first family alone; slices of the second the controller makes from the selector. */
  #addSubsets(key: string, field: Field, nodes: NodeTable): void {
    const groups = readSubsets(field, nodes);
    const second = nodes.family.name === 'ipv6' && groups.every(({ count }) => count === 0);
    if (!second || !this.#selecting.has(key)) this.#groups.set(key, groups);
  }

  addAddresses(into: Set<number>): void {
    for (const groups of this.#groups.values()) {
      for (const group of groups) for (let i = 0; i < group.count; i++) into.add(group.addresses[i]!);
    }
  }
}

function keyOf(service: ServiceObject): string {
  return `${service.namespace}/${service.name}`;
}

/** Empty if the slice does not say. */
function serviceOf(slice: Field): string {
  const metadata = slice.get('metadata');
  const name = metadata.get('labels').get(SERVICE_LABEL).text();
  return name === '' ? '' : `${metadata.get('namespace').text('default')}/${name}`;
}
