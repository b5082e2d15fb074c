import { parseCidr, type Cidr } from '@vipsim/sim-core';
import { NodeAddresses } from './allocate.ts';
import type { Node } from './cluster.ts';
import { shown, type Field } from './field.ts';
import { readAddress, readIdentity } from './service-object.ts';

interface NodeRow {
  readonly name: string;
  /** 0 until settled, if the input gives none. */
  address: number;
  zone: string;
  readonly podCidr: Cidr | undefined;
  /** Whether the scheduler would place a pod there that tolerates nothing. */
  readonly schedulable: boolean;
}

/** In no node of the cluster: an endpoint that names no node is local to none (kube-proxy compares names). */
export const OUTSIDE = '(outside)';
const NO_SCHEDULE = ['NoSchedule', 'NoExecute'];

/**
 * The nodes: Node objects first, then those that endpoints or pods name, then those made up, each in order of
 * appearance. Not modelled: node selectors, affinity, single tolerations.
 */
export class NodeTable {
  /** Nodes named by endpoints or pods without a Node object. */
  named = 0;
  /** Nodes that nothing in the input names. */
  madeUp = 0;
  /** Pods that are on no node. */
  outside = 0;
  readonly given: number;
  readonly #rows: NodeRow[] = [];
  readonly #byName = new Map<string, number>();
  readonly #byAddress = new Map<number, number>();
  #outside = -1;
  #addresses = new NodeAddresses(new Set());

  constructor(objects: readonly Field[]) {
    for (const field of objects) {
      const row = readNode(field);
      this.#add(row);
      if (row.address !== 0) this.#byAddress.set(row.address, this.#rows.length - 1);
    }
    this.given = this.#rows.length;
  }

  get count(): number {
    return this.#rows.length;
  }

  /** The row of a node by name, which a new name adds. */
  intern(name: string, zone: string): number {
    const known = this.#byName.get(name);
    if (known !== undefined) {
      if (this.#rows[known]!.zone === '') this.#rows[known]!.zone = zone;
      return known;
    }
    this.named++;
    return this.#add({ name, address: 0, zone, podCidr: undefined, schedulable: true });
  }

  /** Make up nodes until there are so many; rows of `intern` may follow no more. */
  ensure(count: number): void {
    for (let number = 0; this.#rows.length < count; number++) {
      const name = `node-${number}`;
      if (this.#byName.has(name)) continue;
      this.#add({ name, address: 0, zone: '', podCidr: undefined, schedulable: true });
      this.madeUp++;
    }
  }

  /** Give addresses to the nodes that have none. */
  settle(taken: ReadonlySet<number>): void {
    this.#addresses = new NodeAddresses(taken);
    for (const row of this.#rows) if (row.address === 0) row.address = this.#addresses.next();
  }

  /** Where an endpoint without a node name is: on the node that has its address, else outside. */
  holding(address: number): number {
    const known = this.#byAddress.get(address);
    if (known !== undefined) return known;
    this.outside++;
    if (this.#outside < 0) {
      this.#outside = this.#add({
        name: OUTSIDE,
        address: this.#addresses.next(),
        zone: '',
        podCidr: undefined,
        schedulable: false,
      });
    }
    return this.#outside;
  }

  address(row: number): number {
    return this.#rows[row]!.address;
  }

  podCidr(row: number): Cidr | undefined {
    return this.#rows[row]!.podCidr;
  }

  /** Rows that take any pod; all if there is none. */
  schedulable(): number[] {
    const all = this.#rows.map((_, row) => row);
    const open = all.filter((row) => this.#rows[row]!.schedulable);
    return open.length > 0 ? open : all;
  }

  addresses(): number[] {
    return this.#rows.map((row) => row.address).filter((address) => address !== 0);
  }

  podCidrs(): Cidr[] {
    return this.#rows.map((row) => row.podCidr).filter((cidr) => cidr !== undefined);
  }

  toNodes(): Node[] {
    return this.#rows.map(({ name, address, zone }) => ({ name, address, zone }));
  }

  #add(row: NodeRow): number {
    this.#byName.set(row.name, this.#rows.length);
    return this.#rows.push(row) - 1;
  }
}

function readNode(field: Field): NodeRow {
  const { name } = readIdentity(field);
  const spec = field.get('spec');
  const internal = field
    .get('status')
    .get('addresses')
    .list()
    .filter((entry) => entry.get('type').text() === 'InternalIP')
    .map((entry) => readAddress(entry.get('address')));
  const labels = field.get('metadata').get('labels').labels();
  const closed = spec
    .get('taints')
    .list()
    .some((taint) => NO_SCHEDULE.includes(taint.get('effect').text()));
  return {
    name,
    address: internal.find((address) => address !== undefined) ?? 0,
    zone:
      labels.get('topology.kubernetes.io/zone') ?? labels.get('failure-domain.beta.kubernetes.io/zone') ?? '',
    podCidr: readPodCidr([spec.get('podCIDR'), ...spec.get('podCIDRs').list()]),
    schedulable: !closed && !spec.get('unschedulable').flag(false),
  };
}

function readPodCidr(fields: readonly Field[]): Cidr | undefined {
  for (const field of fields) {
    const text = field.text();
    if (text === '' || text.includes(':')) continue;
    const cidr = parseCidr(text);
    if (cidr === undefined)
      throw field.error(`${shown(text)} is not a CIDR`, 'wanted one such as 10.244.1.0/24');
    return cidr;
  }
  return undefined;
}
