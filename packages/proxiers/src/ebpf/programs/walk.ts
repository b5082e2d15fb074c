import { formatIpv4, jhash2, swap16, swap32, type Packet } from '@vipsim/sim-core';
import type { Counts } from '../../cost/operations.ts';
import { protocolName } from '../../kubernetes/cluster.ts';
import type { Recorder } from '../../proxier.ts';
import type { FlowMaps } from './flow-maps.ts';
import type { LruHashMap } from '../maps/lru-hash-map.ts';
import {
  AFFINITY_MATCH_LOOKUP,
  BACKENDS_LOOKUP,
  IPCACHE_LOOKUP,
  LXC_LOOKUP,
  MAGLEV_LOOKUP,
  MAGLEV_READ,
  MAP_STEP,
  NEIGH_LOOKUP,
  NEIGH_UPDATE,
  REVNAT_LOOKUP,
  SERVICES_LOOKUP,
  SIGNAL,
  SOURCE_RANGE_LOOKUP,
  TRIE_STEP,
} from '../operations.ts';
import type { ServiceMaps } from '../service-maps.ts';

const SECOND = 1_000_000_000;
/** What a neighbour entry holds: any constant stands for the client's link address. */
const LINK_ADDRESS = 1;

/**
 * One packet's way through the maps: every access is counted here, and told to the recorder if there is one.
 * Not modelled: the longest-prefix walk of ipcache (one counted lookup of an exact answer).
 */
export class Walk {
  readonly services: ServiceMaps;
  readonly flows: FlowMaps;
  recorder: Recorder | undefined;
  counts: Counts = new Float64Array(0);
  /** bpf_ktime in whole seconds, the unit of lifetimes. */
  nowS = 0;
  /** Whose LRU lists the program uses: the flow's CPU, the same for both directions. */
  cpu = 0;
  /** Perf events that asked the agent for a sweep, so far. */
  signals = 0;
  readonly #cpus: number;
  readonly #hostAddresses: ReadonlySet<number>;
  readonly #nodeAddresses: ReadonlySet<number>;

  /** @param hostAddresses of this node. @param nodeAddresses of all nodes; ipcache knows both as hosts. */
  constructor(
    services: ServiceMaps,
    flows: FlowMaps,
    cpus: number,
    hostAddresses: ReadonlySet<number>,
    nodeAddresses: ReadonlySet<number>,
  ) {
    this.services = services;
    this.flows = flows;
    this.#cpus = cpus;
    this.#hostAddresses = hostAddresses;
    this.#nodeAddresses = nodeAddresses;
  }

  begin(packet: Packet, nowNs: number, counts: Counts): void {
    this.counts = counts;
    this.nowS = Math.floor(nowNs / SECOND);
    this.cpu =
      this.#cpus === 1
        ? 0
        : jhash2(packet.source ^ packet.destination, packet.sourcePort ^ packet.destinationPort, 0) %
          this.#cpus;
  }

  /** Element of `services`, or -1. Slot 0 is the master. */
  service(address: number, port: number, slot: number, protocol: number, scope: number): number {
    const map = this.services.service(address, port, slot, protocol, scope);
    const element = map.find();
    this.counts[SERVICES_LOOKUP]! += 1;
    this.counts[MAP_STEP]! += map.steps;
    if (this.recorder !== undefined) {
      const key = `${formatIpv4(address)}:${port}/${protocolWord(protocol)}${scope === 0 ? '' : '/i'} (${slot})`;
      this.#tell(map.spec.name, key, element, map.steps, element < 0 ? '' : this.#serviceText(element, slot));
    }
    return element;
  }

  /** Element of `backends`, or -1. */
  backend(id: number): number {
    const map = this.services.backend(id);
    const element = map.find();
    this.counts[BACKENDS_LOOKUP]! += 1;
    this.counts[MAP_STEP]! += map.steps;
    if (this.recorder !== undefined) {
      const { services } = this;
      const value =
        element < 0
          ? ''
          : `${formatIpv4(services.backendAddress(element))}:${services.backendPort(element)} state ${services.backendState(element)}`;
      this.#tell(map.spec.name, String(id), element, map.steps, value);
    }
    return element;
  }

  /** Element of `reverseNat`, or -1. */
  reverseNat(id: number): number {
    const map = this.services.reverse(id);
    const element = map.find();
    this.counts[REVNAT_LOOKUP]! += 1;
    this.counts[MAP_STEP]! += map.steps;
    if (this.recorder !== undefined) {
      const { services } = this;
      const value =
        element < 0 ? '' : `${formatIpv4(services.reverseAddress(element))}:${services.reversePort(element)}`;
      this.#tell(map.spec.name, String(id), element, map.steps, value);
    }
    return element;
  }

  /** Whether the agent lets a frontend's clients stick to this backend: it is active. */
  affinityMatch(backend: number, revNat: number): boolean {
    const map = this.services.affinity(backend, revNat);
    const element = map.find();
    this.counts[AFFINITY_MATCH_LOOKUP]! += 1;
    this.counts[MAP_STEP]! += map.steps;
    if (this.recorder !== undefined)
      this.#tell(map.spec.name, `backend ${backend}, reverse NAT ${revNat}`, element, map.steps, 'active');
    return element >= 0;
  }

  /** The frontend's Maglev table. */
  maglev(revNat: number): Uint32Array | undefined {
    const map = this.services.maglevTable(revNat);
    const table = map.lookup();
    this.counts[MAGLEV_LOOKUP]! += 1;
    this.counts[MAP_STEP]! += map.steps;
    if (table === undefined) this.recorder?.step('cilium_lb4_maglev', `${revNat}: miss`);
    return table;
  }

  /** Backend id at a slot of the frontend's table. */
  maglevSlot(revNat: number, table: Uint32Array, slot: number): number {
    this.counts[MAGLEV_READ]! += 1;
    const id = table[slot]!;
    this.recorder?.step(
      'cilium_lb4_maglev',
      `${revNat}: hit, slot ${slot} of ${table.length}: backend ${id}`,
    );
    return id;
  }

  /** Whether a source range of the frontend holds the address. */
  inSourceRange(revNat: number, source: number): boolean {
    const trie = this.services.sourceRange(revNat, source);
    const element = trie.lookup();
    this.counts[SOURCE_RANGE_LOOKUP]! += 1;
    this.counts[TRIE_STEP]! += trie.steps;
    if (this.recorder !== undefined) {
      const outcome = element < 0 ? 'miss' : 'hit';
      this.recorder.step(
        'cilium_lb4_source_range',
        `${revNat}, ${formatIpv4(source)}: ${outcome}; ${trie.steps} nodes`,
      );
    }
    return element >= 0;
  }

  /** The endpoint row behind a frontend's first slot, -1 without one; no program looks. */
  rowOfFirstSlot(address: number, port: number, protocol: number, scope: number): number {
    const element = this.services.service(address, port, 1, protocol, scope).find();
    return element < 0 ? -1 : this.services.endpoint(element);
  }

  /** Ask the agent for a sweep. */
  signal(why: string): void {
    this.signals++;
    this.counts[SIGNAL]! += 1;
    this.recorder?.step('cilium_signals', `${why}: the agent is woken`);
  }

  /** Whether the address is an endpoint of this node. */
  isLocalEndpoint(address: number): boolean {
    const map = this.flows.endpoint(address);
    const element = map.find();
    this.counts[LXC_LOOKUP]! += 1;
    this.counts[MAP_STEP]! += map.steps;
    if (this.recorder !== undefined)
      this.#tell(map.spec.name, formatIpv4(address), element, map.steps, 'local');
    return element >= 0;
  }

  /** Whether ipcache knows the address as a node of the cluster. */
  isNode(address: number): boolean {
    this.counts[IPCACHE_LOOKUP]! += 1;
    const known = this.#nodeAddresses.has(address) || this.#hostAddresses.has(address);
    this.recorder?.step('cilium_ipcache', `${formatIpv4(address)}: ${known ? 'a node' : 'no node'}`);
    return known;
  }

  /** Whether ipcache knows the address as this host. */
  isThisHost(address: number): boolean {
    this.counts[IPCACHE_LOOKUP]! += 1;
    const known = this.#hostAddresses.has(address);
    this.recorder?.step('cilium_ipcache', `${formatIpv4(address)}: ${known ? 'this host' : 'not this host'}`);
    return known;
  }

  /** Remember through which neighbour a client is reached; written when it is new. */
  neighbour(client: number): void {
    const map = this.flows.neighbours;
    map.key[0] = swap32(client);
    let element = map.lookup();
    this.counts[NEIGH_LOOKUP]! += 1;
    this.counts[MAP_STEP]! += map.steps;
    if (this.recorder !== undefined)
      this.#tell(map.spec.name, formatIpv4(client), element, map.steps, 'known');
    if (element >= 0) return;
    element = map.update(this.cpu);
    this.counts[NEIGH_UPDATE]! += 1;
    if (element >= 0) map.setValue(element, 0, LINK_ADDRESS);
    this.recorder?.step(map.spec.name, `${formatIpv4(client)}: written`);
  }

  /** Look the key of an LRU map up, counted as `operation`. */
  lookup(map: LruHashMap, operation: number): number {
    const element = map.lookup();
    this.counts[operation]! += 1;
    this.counts[MAP_STEP]! += map.steps;
    if (this.recorder !== undefined)
      this.#tell(map.spec.name, this.#keyText(map), element, map.steps, 'found');
    return element;
  }

  /** Put the key of an LRU map, counted as `operation`. */
  update(map: LruHashMap, operation: number, mustBeNew: boolean): number {
    const element = map.update(this.cpu, mustBeNew);
    this.counts[operation]! += 1;
    this.recorder?.step(map.spec.name, `${this.#keyText(map)}: ${element < 0 ? 'not written' : 'written'}`);
    return element;
  }

  /** Delete the key of an LRU map, counted as `operation`. */
  remove(map: LruHashMap, operation: number): void {
    const removed = map.remove();
    this.counts[operation]! += 1;
    this.recorder?.step(
      map.spec.name,
      `${this.#keyText(map)}: ${removed ? 'deleted' : 'not there to delete'}`,
    );
  }

  #keyText(map: LruHashMap): string {
    const { key } = map;
    if (map.spec.keyBytes === 14) return tupleText(map);
    const revNat = low(key[2]!);
    if (map !== this.flows.affinity) {
      return `cookie ${key[0]!}, ${formatIpv4(swap32(key[2]!))}:${low(key[3]!)}`;
    }
    const isCookie = key[2]! >>> 16 !== 0;
    return `${isCookie ? `netns ${key[0]!}` : formatIpv4(swap32(key[0]!))}, reverse NAT ${revNat}`;
  }

  #serviceText(element: number, slot: number): string {
    const { services } = this;
    if (slot !== 0) return `backend ${services.backendId(element)}`;
    return `count ${services.count(element)} [${services.queuedCount(element)}] reverse NAT ${services.revNat(element)}`;
  }

  #tell(map: string, key: string, element: number, steps: number, value: string): void {
    const outcome = element < 0 ? 'miss' : `hit, ${value}`;
    this.recorder!.step(map, `${key}: ${outcome}; ${steps} chain ${steps === 1 ? 'step' : 'steps'}`);
  }
}

function protocolWord(protocol: number): string {
  return protocol === 0 ? 'ANY' : protocolName(protocol).toUpperCase();
}

/** A 14-byte tuple. */
function tupleText({ key, spec }: LruHashMap): string {
  const [destination, source, ports, rest] = [key[0]!, key[1]!, key[2]!, key[3]!];
  // Conntrack keeps the ports exchanged, NAT does not.
  const exchanged = !spec.name.startsWith('cilium_snat');
  const [from, to] = exchanged ? [low(ports), high(ports)] : [high(ports), low(ports)];
  return (
    `${formatIpv4(swap32(source))}:${from} -> ${formatIpv4(swap32(destination))}:${to} ` +
    `protocol ${rest & 0xff} flags ${rest >>> 8}`
  );
}

/** The port in a word's first or second two bytes. */
function low(word: number): number {
  return swap16(word & 0xffff);
}

function high(word: number): number {
  return swap16(word >>> 16);
}
