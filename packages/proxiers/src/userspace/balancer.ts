import type { Stream } from '@vipsim/sim-core';

/** A service port without an endpoint: the client is accepted and closed again. */
export const NO_ENDPOINT = -1;

const SECOND = 1_000_000_000;
const DEFAULT_TTL_S = 10_800;

interface Affinity {
  endpoint: number;
  usedNs: number;
}

interface ServiceState {
  /** Endpoint rows in the order of service, and the next to be served. */
  endpoints: Int32Array;
  index: number;
  readonly ttlS: number;
  /** By client address; undefined without ClientIP affinity. */
  clients: Map<number, Affinity> | undefined;
}

/**
 * The round-robin balancer of the userspace proxy: per service port a list in shuffled order, an index, and the
 * endpoint that each client address had last.
 *
 * Models: the shuffle at every change of the *set* (rand.Perm's inside-out Fisher-Yates, an element going to the
 * place that the permutation names) with the index back at 0; affinity whose age counts in whole seconds and is
 * renewed by use; records that go with their endpoint, or with the last one.
 * Source: LoadBalancerRR, pkg/proxy/userspace/roundrobin.go; ShuffleStrings, pkg/proxy/util/utils.go; math/rand.
 * Its newServiceInternal sets a timeout only for a service that it does not know, and endpoints are known before
 * services: a Service that has endpoints at the start keeps the default of 10,800 s, whatever it asks for.
 */
export class RoundRobin {
  readonly #services: ServiceState[] = [];
  readonly #chance: Stream;

  constructor(chance: Stream) {
    this.#chance = chance;
  }

  /** Service ports are added in order, with the endpoints they start with; `affinityS` 0 is no affinity. */
  addService(endpoints: Int32Array, affinityS: number): void {
    this.#services.push({
      endpoints: this.#shuffle(endpoints),
      index: 0,
      ttlS: endpoints.length > 0 ? DEFAULT_TTL_S : affinityS,
      clients: affinityS > 0 ? new Map() : undefined,
    });
  }

  /** The ready endpoints as a slice tells them, in any order. Says whether the set is another one. */
  setEndpoints(service: number, endpoints: Int32Array): boolean {
    const state = this.#services[service]!;
    if (sameSet(state.endpoints, endpoints)) return false;
    this.#forget(state, endpoints);
    state.endpoints = this.#shuffle(endpoints);
    state.index = 0;
    return true;
  }

  /** The endpoint row for a connection of `client`; with `reset`, whatever it had before. */
  next(service: number, client: number, reset: boolean, nowNs: number): number {
    const state = this.#services[service]!;
    const { endpoints, clients } = state;
    if (endpoints.length === 0) return NO_ENDPOINT;
    const known = clients?.get(client);
    if (known !== undefined && !reset && ageS(known, nowNs) < state.ttlS) {
      known.usedNs = nowNs;
      return known.endpoint;
    }
    const endpoint = endpoints[state.index]!;
    state.index = (state.index + 1) % endpoints.length;
    if (known !== undefined) {
      known.endpoint = endpoint;
      known.usedNs = nowNs;
    } else {
      clients?.set(client, { endpoint, usedNs: nowNs });
    }
    return endpoint;
  }

  /** Part of every re-check: records as old as the timeout go. */
  dropStale(nowNs: number): void {
    for (const { clients, ttlS } of this.#services) {
      if (clients === undefined) continue;
      for (const [client, affinity] of clients) if (ageS(affinity, nowNs) >= ttlS) clients.delete(client);
    }
  }

  /** The list in the order of service. Do not modify. */
  endpointsOf(service: number): Int32Array {
    return this.#services[service]!.endpoints;
  }

  /** Affinity records held. */
  records(): number {
    return this.#services.reduce((sum, { clients }) => sum + (clients?.size ?? 0), 0);
  }

  #forget(state: ServiceState, endpoints: Int32Array): void {
    const { clients } = state;
    if (clients === undefined || clients.size === 0) return;
    if (endpoints.length === 0) {
      clients.clear();
      return;
    }
    const kept = new Set(endpoints);
    for (const [client, { endpoint }] of clients) if (!kept.has(endpoint)) clients.delete(client);
  }

  #shuffle(endpoints: Int32Array): Int32Array {
    const places = new Int32Array(endpoints.length);
    for (let i = 0; i < places.length; i++) {
      const j = this.#chance.below(i + 1);
      places[i] = places[j]!;
      places[j] = i;
    }
    const shuffled = new Int32Array(endpoints.length);
    for (let i = 0; i < places.length; i++) shuffled[places[i]!] = endpoints[i]!;
    return shuffled;
  }
}

/** Go's int(time.Since(last).Seconds()). */
function ageS(affinity: Affinity, nowNs: number): number {
  return Math.floor((nowNs - affinity.usedNs) / SECOND);
}

function sameSet(x: Int32Array, y: Int32Array): boolean {
  if (x.length !== y.length) return false;
  const left = x.slice().sort();
  const right = y.slice().sort();
  return left.every((row, i) => row === right[i]);
}
