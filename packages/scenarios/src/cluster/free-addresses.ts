import { formatCidr, sizeOf, type Cidr } from '@vipsim/sim-core';
import type { Cluster } from '@vipsim/proxiers';
import { ScenarioError } from '../scenario/scenario.ts';

/** Pod addresses that nothing in the cluster uses, from the top of the pod network downwards; none is given twice. */
export class FreeAddresses {
  readonly #network: Cidr;
  readonly #used: Uint32Array;
  #at: number;
  #candidate: number;

  constructor(cluster: Cluster) {
    this.#network = cluster.podCidr;
    this.#used = cluster.pods.address.slice(0, cluster.pods.count).sort();
    this.#at = this.#used.length - 1;
    // The last address of a network is its broadcast address.
    this.#candidate = this.#network.address + sizeOf(this.#network) - 2;
  }

  /** @throws ScenarioError when the pod network is used up. */
  take(): number {
    for (;;) {
      while (this.#at >= 0 && this.#used[this.#at]! > this.#candidate) this.#at--;
      if (this.#candidate <= this.#network.address) {
        throw new ScenarioError(
          `the pod network ${formatCidr(this.#network)} has no address left for clients and pods to come; ` +
            'wanted fewer workload.clients, less churn, or nodes with larger podCIDRs',
        );
      }
      const address = this.#candidate--;
      if (this.#at < 0 || this.#used[this.#at] !== address) return address;
    }
  }
}
