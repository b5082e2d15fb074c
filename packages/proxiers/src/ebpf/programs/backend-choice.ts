import type { Packet, Stream } from '@vipsim/sim-core';
import type { Endpoints } from '../../kubernetes/cluster.ts';
import { EndpointRows } from './endpoint-rows.ts';
import { maglevIndex } from '../maglev/maglev-index.ts';
import { PRANDOM } from '../operations.ts';
import { AFFINITY, ALGORITHM_DEFAULT, ALGORITHM_MAGLEV } from '../service-maps.ts';
import type { Walk } from './walk.ts';

/**
 * Which backend a new flow gets when packets are balanced.
 * Models: a random slot, or the slot of the frontend's Maglev table that the packet hashes to (with affinity all its
 * ports to one); a frontend's own algorithm. A slot, table or backend that is missing is not tried again.
 * Source: lb4_select_backend_id, bpf/lib/lb.h. The program at a pod does not heed bpf-lb-algorithm (bpf_lxc.c
 * sets LB_SELECTION itself): frontends inside the cluster have no table, unless they name the algorithm themselves.
 */
export class BackendChoice {
  /** Id of the last choice, 0 when there was none. */
  id = 0;
  /** The endpoint row behind it, -1 if it is not known. */
  row = -1;
  readonly #walk: Walk;
  readonly #prandom: Stream;
  readonly #maglev: boolean;
  readonly #seed: number;
  readonly #endpoints: Endpoints;
  readonly #rows: EndpointRows;

  /** @param maglev bpf-lb-algorithm. @param seed the IPv4 word of bpf-lb-maglev-hash-seed. */
  constructor(walk: Walk, prandom: Stream, endpoints: Endpoints, maglev: boolean, seed: number) {
    this.#walk = walk;
    this.#prandom = prandom;
    this.#maglev = maglev;
    this.#seed = seed;
    this.#endpoints = endpoints;
    this.#rows = new EndpointRows(endpoints);
  }

  /** Element of `backends`, or -1. The master counts at least one backend. @param atPod at a pod's program. */
  choose(packet: Packet, master: number, scope: number, atPod: boolean): number {
    const walk = this.#walk;
    const algorithm = walk.services.algorithm(master);
    const maglev = algorithm === ALGORITHM_DEFAULT ? this.#maglev && !atPod : algorithm === ALGORITHM_MAGLEV;
    if (maglev) return this.#byTable(packet, master, scope);
    walk.counts[PRANDOM]! += 1;
    const slot = (this.#prandom.uint32() % walk.services.count(master)) + 1;
    const entry = walk.service(packet.destination, packet.destinationPort, slot, packet.protocol, scope);
    this.id = entry < 0 ? 0 : walk.services.backendId(entry);
    this.row = entry < 0 ? -1 : walk.services.endpoint(entry);
    return walk.backend(this.id);
  }

  /** Take the backend that the client had; -1 when it is gone. */
  take(id: number, packet: Packet, scope: number): number {
    this.id = id;
    const element = this.#walk.backend(id);
    this.row =
      element < 0
        ? -1
        : this.rowOf(element, packet.destination, packet.destinationPort, packet.protocol, scope);
    return element;
  }

  /** The endpoint row of an element of `backends` behind a frontend. */
  rowOf(element: number, address: number, port: number, protocol: number, scope: number): number {
    const first = this.#walk.rowOfFirstSlot(address, port, protocol, scope);
    if (first < 0) return -1;
    const { services } = this.#walk;
    const servicePort = this.#endpoints.servicePort[first]!;
    return this.#rows.rowOf(servicePort, services.backendAddress(element), services.backendPort(element));
  }

  #byTable(packet: Packet, master: number, scope: number): number {
    const walk = this.#walk;
    const revNat = walk.services.revNat(master);
    const table = walk.maglev(revNat);
    if (table === undefined) return this.take(0, packet, scope);
    const sourcePort = (walk.services.flags(master) & AFFINITY) !== 0 ? 0 : packet.sourcePort;
    const { source, destinationPort, protocol } = packet;
    const slot = maglevIndex(source, sourcePort, destinationPort, protocol, this.#seed, table.length);
    return this.take(walk.maglevSlot(revNat, table, slot), packet, scope);
  }
}
