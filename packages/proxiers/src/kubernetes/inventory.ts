import { readObjects, type SourceText } from './documents.ts';
import type { Field } from './field.ts';
import type { Notes } from './notes.ts';
import type { ReadOptions } from './read-options.ts';

/** The objects of all sources that concern Services, by kind, each in the order of the input. */
export interface Inventory {
  readonly services: Field[];
  readonly slices: Field[];
  readonly endpoints: Field[];
  readonly pods: Field[];
  readonly nodes: Field[];
  readonly workloads: Field[];
}

const APPS = ['apps', 'extensions'];
/** Kind to its API groups (the core group is '') and its list. Knative has a Service, too. */
const KINDS: ReadonlyMap<string, readonly [groups: readonly string[], list: keyof Inventory]> = new Map([
  ['Service', [[''], 'services']],
  ['EndpointSlice', [['discovery.k8s.io'], 'slices']],
  ['Endpoints', [[''], 'endpoints']],
  ['Pod', [[''], 'pods']],
  ['Node', [[''], 'nodes']],
  ['Deployment', [APPS, 'workloads']],
  ['StatefulSet', [APPS, 'workloads']],
  ['ReplicaSet', [APPS, 'workloads']],
  ['DaemonSet', [APPS, 'workloads']],
]);

/** Read and sort the sources; other kinds are counted in the notes. Throws InputError, also for repeated objects. */
export function takeInventory(sources: readonly SourceText[], options: ReadOptions, notes: Notes): Inventory {
  const inventory: Inventory = {
    services: [],
    slices: [],
    endpoints: [],
    pods: [],
    nodes: [],
    workloads: [],
  };
  const seen = new Map<string, Field>();
  for (const source of sources) {
    for (const field of readObjects(source, options)) {
      const list = listOf(field);
      if (list === undefined) {
        const kind = KINDS.has(field.kind) ? `${field.kind}.${groupOf(field)}` : field.kind;
        notes.skipped.set(kind, (notes.skipped.get(kind) ?? 0) + 1);
        continue;
      }
      refuseRepetition(field, seen);
      inventory[list].push(field);
    }
  }
  return inventory;
}

function listOf(field: Field): keyof Inventory | undefined {
  const known = KINDS.get(field.kind);
  if (known === undefined) return undefined;
  const [groups, list] = known;
  return !field.get('apiVersion').present || groups.includes(groupOf(field)) ? list : undefined;
}

/** `apps/v1` is of group apps, `v1` of the core group. */
function groupOf(field: Field): string {
  const version = field.get('apiVersion').text();
  return version.includes('/') ? version.slice(0, version.indexOf('/')) : '';
}

function refuseRepetition(field: Field, seen: Map<string, Field>): void {
  const metadata = field.get('metadata');
  const name = metadata.get('name');
  // Slices of a template may leave their name to the API server (generateName).
  if (!name.present) return;
  const key = `${field.kind}/${metadata.get('namespace').text('default')}/${name.text()}`;
  const first = seen.get(key);
  if (first !== undefined)
    throw name.error(`is the name of two ${field.kind} objects`, `the other is at ${first.place}`);
  seen.set(key, field);
}
