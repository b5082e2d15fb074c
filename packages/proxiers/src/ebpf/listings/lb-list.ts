import { formatIpv4 } from '@vipsim/sim-core';
import { protocolName } from '../../kubernetes/cluster.ts';
import type { Frontend, Frontends } from '../agent/frontends.ts';
import {
  AFFINITY,
  EXTERNAL,
  EXTERNAL_IP,
  EXTERNAL_LOCAL,
  FORWARD_DSR,
  INTERNAL_LOCAL,
  LOAD_BALANCER,
  NODE_PORT,
  ROUTABLE,
  SOURCE_RANGE,
  TWO_SCOPES,
  type ServiceMaps,
} from '../service-maps.ts';
import { BACKENDS_MAX } from '../agent/overflow.ts';
import { cell } from './text-table.ts';

const HEADER = 'SERVICE ADDRESS';

/**
 * `cilium-dbg bpf lb list` and its `--frontends`: what the services map holds, keys in the order of their text. A
 * slot whose backend is gone says so.
 * Source: cilium-dbg/cmd/bpf_lb_list.go, pkg/loadbalancer/maps/types.go, ServiceFlags of pkg/loadbalancer.
 */
export class LbList {
  readonly #maps: ServiceMaps;
  readonly #frontends: Frontends;
  readonly #withProtocol: boolean;

  /** @param withProtocol whether protocols are told apart, and so printed. */
  constructor(maps: ServiceMaps, frontends: Frontends, withProtocol: boolean) {
    this.#maps = maps;
    this.#frontends = frontends;
    this.#withProtocol = withProtocol;
  }

  list(): Generator<string> {
    return this.#lines('BACKEND ADDRESS (REVNAT_ID) (SLOT)', (element, slot) =>
      slot === 0 ? this.#masterText(element) : this.#slotText(element, slot),
    );
  }

  frontends(): Generator<string> {
    return this.#lines('BACKEND ID', (element) => this.#rawText(element));
  }

  /** Address, port and protocol of a slot's backend; leaves it the key of the backends map. */
  backendText(element: number): string {
    const id = this.#maps.backendId(element);
    const backend = this.#maps.backend(id).find();
    if (backend < 0) return `backend ${id} not found`;
    const at = `${formatIpv4(this.#maps.backendAddress(backend))}:${this.#maps.backendPort(backend)}`;
    return this.#withProtocol ? `${at}/${protocolWord(this.#maps.backendProtocol(backend))}` : at;
  }

  frontendText({
    address,
    port,
    protocol,
    scope,
  }: Pick<Frontend, 'address' | 'port' | 'protocol' | 'scope'>): string {
    const word = this.#withProtocol ? `/${protocolWord(protocol)}` : '';
    return `${formatIpv4(address)}:${port}${word}${scope === EXTERNAL ? '' : '/i'}`;
  }

  masterOf({ address, port, protocol, scope }: Frontend): number {
    return this.#maps.service(address, port, 0, protocol, scope).find();
  }

  *#lines(title: string, valueOf: (element: number, slot: number) => string): Generator<string> {
    const keys = [...this.#keys()].sort((a, b) => (a.text < b.text ? -1 : a.text > b.text ? 1 : 0));
    let width = HEADER.length;
    for (const { text, last } of keys) width = Math.max(width, text.length + String(last).length + 3);
    yield `${cell(HEADER, width)}${title}`;
    for (const { text, last, address, port, protocol, scope } of keys) {
      for (const slot of slotsInTextOrder(last)) {
        const element = this.#maps.service(address, port, slot, protocol, scope).find();
        if (element >= 0) yield `${cell(`${text} (${slot})`, width)}${valueOf(element, slot)}`;
      }
    }
  }

  /** Masters with the number of their slots, slots that a failed update left without one, and wildcards. */
  *#keys(): Generator<ServiceKey> {
    const maps = this.#maps;
    const wildcards = new Set<number>();
    for (const frontend of this.#frontends.all) {
      const { address, port, protocol, scope } = frontend;
      const master = this.masterOf(frontend);
      let last = master < 0 ? 0 : maps.count(master) + maps.queuedCount(master);
      while (last < BACKENDS_MAX && maps.service(address, port, last + 1, protocol, scope).find() >= 0)
        last++;
      if (master >= 0 || last > 0)
        yield { text: this.frontendText(frontend), address, port, protocol, scope, last };
      if (!frontend.wildcard || wildcards.has(address)) continue;
      if (maps.service(address, 0, 0, 0, EXTERNAL).find() < 0) continue;
      wildcards.add(address);
      const wildcard = { address, port: 0, protocol: 0, scope: EXTERNAL };
      yield { text: this.frontendText(wildcard), ...wildcard, last: 0 };
    }
  }

  #masterText(element: number): string {
    return `0.0.0.0:0 (${this.#maps.revNat(element)}) (0) [${flagsText(this.#maps.flags(element))}]`;
  }

  #slotText(element: number, slot: number): string {
    if (this.#maps.backend(this.#maps.backendId(element)).find() < 0) return this.backendText(element);
    return `${this.backendText(element)} (${this.#maps.revNat(element)}) (${slot})`;
  }

  /** The value as it is: union, counts, reverse NAT id and flag bytes. */
  #rawText(element: number): string {
    const maps = this.#maps;
    const flags = maps.flags(element);
    const bytes = `0x${(flags & 0xff).toString(16)} 0x${(flags >>> 8).toString(16)}`;
    return `${maps.backendId(element)} ${maps.count(element)}[${maps.queuedCount(element)}] (${maps.revNat(element)}) [${bytes}]`;
  }
}

interface ServiceKey {
  readonly text: string;
  readonly address: number;
  readonly port: number;
  readonly protocol: number;
  readonly scope: number;
  /** Highest slot in the map. */
  readonly last: number;
}

/** TCP, UDP, SCTP, and ANY of wildcards. */
export function protocolWord(protocol: number): string {
  return protocol === 0 ? 'ANY' : protocolName(protocol).toUpperCase();
}

/** 0, 1, 10, 100, 101, …, 2, 20: the order of `(slot)` as text. */
function* slotsInTextOrder(last: number): Generator<number> {
  yield 0;
  for (let digit = 1; digit <= Math.min(9, last); digit++) yield* withPrefix(digit, last);
}

function* withPrefix(prefix: number, last: number): Generator<number> {
  yield prefix;
  for (let next = prefix * 10; next < prefix * 10 + 10 && next <= last; next++) yield* withPrefix(next, last);
}

function flagsText(flags: number): string {
  const second = flags >>> 8;
  const words = [typeText(flags)];
  if ((flags & EXTERNAL_LOCAL) !== 0) words.push('Local');
  if ((second & INTERNAL_LOCAL) !== 0) words.push('InternalLocal');
  if ((second & TWO_SCOPES) !== 0) words.push('two-scopes');
  if ((flags & AFFINITY) !== 0) words.push('sessionAffinity');
  if ((flags & ROUTABLE) === 0) words.push('non-routable');
  if ((flags & SOURCE_RANGE) !== 0) words.push('check source-range');
  if ((second & FORWARD_DSR) !== 0) words.push('dsr');
  return words.join(', ');
}

function typeText(flags: number): string {
  if ((flags & EXTERNAL_IP) !== 0) return 'ExternalIPs';
  if ((flags & NODE_PORT) !== 0) return 'NodePort';
  return (flags & LOAD_BALANCER) !== 0 ? 'LoadBalancer' : 'ClusterIP';
}
