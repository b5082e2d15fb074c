import { LabelIndex } from './label-index.ts';
import { controllerOf, keyOf, type Controller } from './pod-table.ts';
import type { PodObject, WorkloadObject } from './pod-object.ts';
import type { ServiceObject } from './service-object.ts';

export interface Selected {
  readonly pods: readonly PodObject[];
  /** Controllers whose pods the input does not have. */
  readonly templates: readonly WorkloadObject[];
}

/**
 * Which pods stand behind a Service by its selector, as the EndpointSlice controller picks them. A pod counts
 * once: a ReplicaSet stands back for its Deployment, and a controller for its pods, where the input has both.
 */
export class PodSelection {
  readonly #pods = new LabelIndex<PodObject>();
  readonly #templates = new LabelIndex<WorkloadObject>();
  readonly #replicaSets = new Map<string, WorkloadObject>();

  constructor(
    services: readonly ServiceObject[],
    pods: readonly PodObject[],
    workloads: readonly WorkloadObject[],
  ) {
    for (const { namespace, selector } of services) {
      this.#pods.announce(namespace, selector);
      this.#templates.announce(namespace, selector);
    }
    const standing = new Set<string>();
    for (const workload of workloads) {
      if (workload.kind === 'ReplicaSet')
        this.#replicaSets.set(`${workload.namespace}/${workload.name}`, workload);
      else standing.add(keyOf(workload));
    }
    const populated = new Set<string>();
    for (const pod of pods) {
      this.#pods.add(pod);
      populated.add(keyOf(this.controller(pod)));
    }
    for (const workload of workloads) {
      const controller = keyOf(this.controller(workload));
      if (populated.has(controller)) continue;
      if (workload.kind === 'ReplicaSet' && standing.has(controller)) continue;
      this.#templates.add(workload);
    }
  }

  of(service: ServiceObject): Selected {
    return {
      pods: this.#pods.matching(service.namespace, service.selector),
      templates: this.#templates.matching(service.namespace, service.selector),
    };
  }

  controller(object: PodObject | WorkloadObject): Controller {
    return controllerOf(object, (namespace, name) => this.#replicaSets.get(`${namespace}/${name}`)?.owner);
  }
}
