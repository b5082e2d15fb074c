import type { Endpoints } from '../kubernetes/cluster.ts';
import type { Programmed } from './programmed.ts';
import type { ServicePlan } from '../kubernetes/service-plan.ts';

/** Lists up to this long are searched one by one. */
const SHORT = 32;

/** The endpoint row of a service port that has an address and a port. Indexes of long lists are made when asked for. */
export class EndpointFinder {
  readonly #endpoints: Endpoints;
  readonly #programmed: Programmed;
  readonly #indexes = new Map<
    number,
    { readonly plan: ServicePlan; readonly rows: ReadonlyMap<number, number> }
  >();

  constructor(endpoints: Endpoints, programmed: Programmed) {
    this.#endpoints = endpoints;
    this.#programmed = programmed;
  }

  /** -1 if it has none. */
  find(servicePort: number, address: number, port: number): number {
    if (servicePort < 0) return -1;
    const plan = this.#programmed.plan(servicePort);
    const { reachable } = plan;
    if (reachable.length > SHORT) return this.#indexOf(plan).get(address * 65_536 + port) ?? -1;
    for (let i = 0; i < reachable.length; i++) {
      const row = reachable[i]!;
      if (this.#endpoints.address[row] === address && this.#endpoints.port[row] === port) return row;
    }
    return -1;
  }

  #indexOf(plan: ServicePlan): ReadonlyMap<number, number> {
    const known = this.#indexes.get(plan.servicePort);
    if (known?.plan === plan) return known.rows;
    const { address, port } = this.#endpoints;
    const rows = new Map<number, number>();
    // The first of equal ones, as the search above.
    for (const row of plan.reachable.toReversed()) rows.set(address[row]! * 65_536 + port[row]!, row);
    this.#indexes.set(plan.servicePort, { plan, rows });
    return rows;
  }
}
