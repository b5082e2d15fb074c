import type { NodeTable } from './node-table.ts';
import { quantity } from './notes.ts';
import type { PodObject, WorkloadObject } from './pod-object.ts';
import type { PodSelection } from './pod-selection.ts';
import type { ReadOptions } from './read-options.ts';
import type { ServiceObject } from './service-object.ts';

/**
 * Make up nodes for the pods that are to be placed, unless the input has Node objects. Throws InputError where
 * replicas pass maxEndpoints: nothing has been made of them yet.
 */
export function makeRoom(
  nodes: NodeTable,
  pods: readonly PodObject[],
  derived: readonly ServiceObject[],
  selection: PodSelection,
  options: ReadOptions,
): void {
  const templates = new Set<WorkloadObject>();
  for (const service of derived)
    for (const template of selection.of(service).templates) templates.add(template);
  let placed = pods.filter((pod) => pod.node < 0).length;
  let everywhere = 0;
  for (const template of templates) {
    if (template.kind === 'DaemonSet') everywhere++;
    placed += template.replicas;
    if (placed > options.maxEndpoints) {
      const replicas = template.field.get('spec').get('replicas');
      throw replicas.error(`${quantity(placed, 'pod')} in all`, `maxEndpoints is ${options.maxEndpoints}`);
    }
  }
  if (nodes.given > 0) return;
  if (nodes.count > 0 && placed + everywhere === 0) return;
  const perNode = Math.max(1, options.podsPerNode - everywhere);
  nodes.ensure(Math.max(1, options.nodes, Math.ceil(placed / perNode)));
}
