import type { AddressFamily, Cidr } from '@vipsim/sim-core';
import { NodeAddresses } from './allocate.ts';
import type { Node } from './cluster.ts';
import type { Field, Labels } from './field.ts';
import { readAddress, readCidr, readIdentity } from './service-object.ts';

interface NodeRow {
  readonly name: string;
  /** 0 until settled, if the input gives none. */
  address: number;
  zone: string;
  readonly podCidr: Cidr | undefined;
  /** Whether the scheduler would place a pod there that tolerates nothing. */
  readonly schedulable: boolean;
  /** Allocatable CPU as topology aware routing counts it: 0 unknown, -1 for a node that does not count. */
  readonly cpuMillis: number;
}

/** In no node of the cluster: an endpoint that names no node is local to none (kube-proxy compares names). */
export const OUTSIDE = '(outside)';
const CONTROL_PLANE = ['node-role.kubernetes.io/control-plane', 'node-role.kubernetes.io/master'];
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
  readonly family: AddressFamily;
  readonly #rows: NodeRow[] = [];
  readonly #byName = new Map<string, number>();
  readonly #byAddress = new Map<number, number>();
  #outside = -1;
  #addresses: NodeAddresses;

  constructor(objects: readonly Field[], family: AddressFamily) {
    this.family = family;
    this.#addresses = new NodeAddresses(new Set(), family);
    for (const field of objects) {
      const row = readNode(field, family);
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
    return this.#add({ name, address: 0, zone, podCidr: undefined, schedulable: true, cpuMillis: -1 });
  }

  /** Make up nodes until there are so many; rows of `intern` may follow no more. */
  ensure(count: number): void {
    for (let number = 0; this.#rows.length < count; number++) {
      const name = `node-${number}`;
      if (this.#byName.has(name)) continue;
      this.#add({ name, address: 0, zone: '', podCidr: undefined, schedulable: true, cpuMillis: -1 });
      this.madeUp++;
    }
  }

  /** Give addresses to the nodes that have none. */
  settle(taken: ReadonlySet<number>): void {
    this.#addresses = new NodeAddresses(taken, this.family);
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
        cpuMillis: -1,
      });
    }
    return this.#outside;
  }

  address(row: number): number {
    return this.#rows[row]!.address;
  }

  zone(row: number): string {
    return this.#rows[row]!.zone;
  }

  /**
   * Each zone's share of the CPUs of all ready workers; undefined unless every one tells its zone and its CPUs and
   * there are two zones. Source: SetNodes, staging/src/k8s.io/endpointslice/topologycache/topologycache.go.
   */
  cpuShares(): ReadonlyMap<string, number> | undefined {
    const workers = this.#rows.filter((row) => row.cpuMillis >= 0);
    if (workers.some((row) => row.zone === '' || row.cpuMillis === 0)) return undefined;
    const total = workers.reduce((sum, row) => sum + row.cpuMillis, 0);
    const byZone = new Map<string, number>();
    for (const { zone, cpuMillis } of workers) byZone.set(zone, (byZone.get(zone) ?? 0) + cpuMillis);
    if (byZone.size < 2) return undefined;
    return new Map([...byZone].map(([zone, millis]) => [zone, millis / total]));
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
    return this.#rows.map(({ name, address, zone, podCidr }) => ({ name, address, zone, podCidr }));
  }

  #add(row: NodeRow): number {
    this.#byName.set(row.name, this.#rows.length);
    return this.#rows.push(row) - 1;
  }
}

function readNode(field: Field, family: AddressFamily): NodeRow {
  const { name } = readIdentity(field);
  const spec = field.get('spec');
  const internal = field
    .get('status')
    .get('addresses')
    .list()
    .filter((entry) => entry.get('type').text() === 'InternalIP')
    .map((entry) => readAddress(entry.get('address'), family));
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
    podCidr: readPodCidr([spec.get('podCIDR'), ...spec.get('podCIDRs').list()], family),
    schedulable: !closed && !spec.get('unschedulable').flag(false),
    cpuMillis: countsForTopology(field, labels)
      ? readCpu(field.get('status').get('allocatable').get('cpu'))
      : -1,
  };
}

function countsForTopology(node: Field, labels: Labels): boolean {
  const conditions = node.get('status').get('conditions').list();
  const ready = conditions.find((condition) => condition.get('type').value === 'Ready');
  return ready?.get('status').value === 'True' && !CONTROL_PLANE.some((label) => labels.has(label));
}

/** `4`, `3.5` or `3920m`, in thousandths; 0 where it is missing or written otherwise. */
function readCpu(field: Field): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(m?)$/.exec(String(field.value ?? '')) ?? [];
  return number === undefined ? 0 : Math.ceil(Number(number) * (unit === 'm' ? 1 : 1000));
}

function readPodCidr(fields: readonly Field[], family: AddressFamily): Cidr | undefined {
  const example = family.name === 'ipv4' ? '10.244.1.0/24' : 'fd00:10:244:1::/64';
  for (const field of fields) {
    if (field.text() === '') continue;
    const cidr = readCidr(field, family, example);
    if (cidr !== undefined) return cidr;
  }
  return undefined;
}
