import { SCTP, TCP, UDP } from '@vipsim/sim-core';
import { isProxied, type Cluster, type Service } from '../kubernetes/cluster.ts';
import type { EndpointsMap } from '../kubernetes/endpoints-map.ts';
import { entryOf, type Entry } from './ipset.ts';
import type { NodeSettings } from './node-settings.ts';
import type { VirtualPlace } from './rules.ts';
import type { SetName, Sets } from './sets.ts';

const NODE_PORT_SETS: Readonly<Record<number, readonly [all: SetName, local: SetName]>> = {
  [TCP]: ['KUBE-NODE-PORT-TCP', 'KUBE-NODE-PORT-LOCAL-TCP'],
  [UDP]: ['KUBE-NODE-PORT-UDP', 'KUBE-NODE-PORT-LOCAL-UDP'],
  [SCTP]: ['KUBE-NODE-PORT-SCTP-HASH', 'KUBE-NODE-PORT-LOCAL-SCTP-HASH'],
};

/** One `ipset add` or `ipset del`. */
export interface SetChange {
  readonly set: SetName;
  readonly entry: Entry;
  readonly add: boolean;
}

/**
 * What kube-proxy wants in its sets. All but KUBE-LOOP-BACK, the node's own endpoints, follow from Services
 * alone. Each change is one ipset process, `del` before `add`, entries in the order of their text.
 * Source: syncProxyRules and syncIPSetEntries, pkg/proxy/ipvs.
 */
export class SetContents {
  /** Load balancer addresses whose source ranges leave this node out: each has a rule of its own. */
  readonly barred: VirtualPlace[] = [];
  readonly #cluster: Cluster;
  readonly #node: number;
  readonly #settings: NodeSettings;
  readonly #sets: Sets;
  /** How many service ports want an element of KUBE-LOOP-BACK, by its text. */
  readonly #loops = new Map<string, number>();
  readonly #loopsOf = new Map<number, readonly Entry[]>();

  constructor(cluster: Cluster, node: number, settings: NodeSettings, sets: Sets) {
    this.#cluster = cluster;
    this.#node = node;
    this.#settings = settings;
    this.#sets = sets;
    for (let p = 0; p < cluster.ports.count; p++) this.barred.push(...this.#barredBy(p));
  }

  /** Elements that Services want, and `bound` in KUBE-IPVS-IPS. */
  services(bound: readonly number[]): SetChange[] {
    const changes: SetChange[] = [];
    const add = (set: SetName, entry: Entry): void => void changes.push({ set, entry, add: true });
    for (let p = 0; p < this.#cluster.ports.count; p++) this.#servicePort(p, add);
    for (const address of bound) add('KUBE-IPVS-IPS', entryOf(address));
    return this.#sorted(changes);
  }

  /** Changes of KUBE-LOOP-BACK that follow from the present endpoints of these service ports. */
  loops(servicePorts: Iterable<number>, endpoints: EndpointsMap): SetChange[] {
    const { pods, ports, endpoints: rows } = this.#cluster;
    const touched = new Map<string, { readonly entry: Entry; readonly before: number }>();
    const count = (entry: Entry, step: number): void => {
      const text = this.#sets['KUBE-LOOP-BACK'].text(entry);
      const before = this.#loops.get(text) ?? 0;
      if (!touched.has(text)) touched.set(text, { entry, before });
      this.#loops.set(text, before + step);
    };
    for (const p of servicePorts) {
      for (const entry of this.#loopsOf.get(p) ?? []) count(entry, -1);
      const now: Entry[] = [];
      for (const row of endpoints.of(p)) {
        if (pods.node[rows.pod[row]!] !== this.#node) continue;
        const address = rows.address[row]!;
        now.push(entryOf(address, rows.port[row]!, ports.protocol[p]!, { address, prefix: 32 }));
      }
      for (const entry of now) count(entry, 1);
      if (now.length > 0) this.#loopsOf.set(p, now);
      else this.#loopsOf.delete(p);
    }
    const changes: SetChange[] = [];
    for (const [text, { entry, before }] of touched) {
      const wanted = this.#loops.get(text)!;
      if (wanted === 0) this.#loops.delete(text);
      if (wanted > 0 !== before > 0) changes.push({ set: 'KUBE-LOOP-BACK', entry, add: wanted > 0 });
    }
    return this.#sorted(changes);
  }

  #servicePort(p: number, add: (set: SetName, entry: Entry) => void): void {
    const { ports, services } = this.#cluster;
    const service = services[ports.service[p]!]!;
    if (!isProxied(service)) return;
    const [port, protocol] = [ports.port[p]!, ports.protocol[p]!];
    const local = service.externalPolicyLocal;
    add('KUBE-CLUSTER-IP', entryOf(ports.clusterIp[p]!, port, protocol));
    for (const address of service.externalIps) {
      add(local ? 'KUBE-EXTERNAL-IP-LOCAL' : 'KUBE-EXTERNAL-IP', entryOf(address, port, protocol));
    }
    for (const address of service.loadBalancerIps) {
      const entry = entryOf(address, port, protocol);
      add('KUBE-LOAD-BALANCER', entry);
      if (local) add('KUBE-LOAD-BALANCER-LOCAL', entry);
      if (service.sourceRanges.length === 0) continue;
      add('KUBE-LOAD-BALANCER-FW', entry);
      for (const range of service.sourceRanges) {
        add('KUBE-LOAD-BALANCER-SOURCE-CIDR', entryOf(address, port, protocol, range));
      }
      if (this.#admitsNode(service)) {
        const itself = { address, prefix: this.#settings.family.bits };
        add('KUBE-LOAD-BALANCER-SOURCE-IP', entryOf(address, port, protocol, itself));
      }
    }
    const served = this.#nodePort(p, local, add);
    if (served && service.healthCheckNodePort !== 0) {
      add('KUBE-HEALTH-CHECK-NODE-PORT', entryOf(0, service.healthCheckNodePort));
    }
  }

  /** False where no address of the node serves node ports: then the rest of the service port is left out, too. */
  #nodePort(p: number, local: boolean, add: (set: SetName, entry: Entry) => void): boolean {
    const { ports } = this.#cluster;
    const { nodePortAddresses } = this.#settings;
    const [nodePort, protocol] = [ports.nodePort[p]!, ports.protocol[p]!];
    if (nodePort === 0) return true;
    if (nodePortAddresses.length === 0) return false;
    const [all, own] = NODE_PORT_SETS[protocol]!;
    // Bitmaps hold ports alone; there is none of ports of SCTP.
    const addresses = protocol === SCTP ? nodePortAddresses : [0];
    for (const address of addresses) {
      const entry = entryOf(address, nodePort, protocol);
      add(all, entry);
      if (local) add(own, entry);
    }
    return true;
  }

  #barredBy(p: number): VirtualPlace[] {
    const { ports, services } = this.#cluster;
    const service = services[ports.service[p]!]!;
    if (!isProxied(service) || service.sourceRanges.length === 0 || this.#admitsNode(service)) return [];
    const [port, protocol] = [ports.port[p]!, ports.protocol[p]!];
    return service.loadBalancerIps.map((address) => ({ address, port, protocol }));
  }

  /** Whether a source range holds the node's own address. */
  #admitsNode({ sourceRanges }: Service): boolean {
    const { family, nodeAddresses } = this.#settings;
    return sourceRanges.some((range) => family.contains(range, nodeAddresses[0]!));
  }

  /** By set in kube-proxy's order, deletions first, then by text; an element that is wanted twice once. */
  #sorted(changes: readonly SetChange[]): SetChange[] {
    const order = new Map(Object.keys(this.#sets).map((name, index) => [name, index]));
    const keyed = changes.map((change) => ({
      change,
      set: order.get(change.set)!,
      text: this.#sets[change.set].text(change.entry),
    }));
    keyed.sort((a, b) =>
      a.set !== b.set
        ? a.set - b.set
        : a.change.add !== b.change.add
          ? Number(a.change.add) - Number(b.change.add)
          : a.text < b.text
            ? -1
            : a.text > b.text
              ? 1
              : 0,
    );
    return keyed
      .filter((at, i) => i === 0 || at.set !== keyed[i - 1]!.set || at.text !== keyed[i - 1]!.text)
      .map((at) => at.change);
  }
}
