import { formatIpv4 } from '@vipsim/sim-core';
import { protocolName } from '../kubernetes/cluster.ts';
import type { Frontend, Frontends } from './frontends.ts';
import {
  AFFINITY,
  BACKEND_TERMINATING,
  EXTERNAL,
  EXTERNAL_LOCAL,
  INTERNAL_LOCAL,
  ROUTABLE,
  SOURCE_RANGE,
  TWO_SCOPES,
  type ServiceMaps,
} from './service-maps.ts';

/** Go's tabwriter as cilium-dbg sets it up: cells padded to the widest of their column and 3 spaces. */
const PADDING = 3;
const CELL_MIN = 5;

/**
 * `cilium-dbg bpf lb list`: what the maps hold, keys in the order of their text. A slot whose backend is gone says
 * so. Source: cilium-dbg/cmd/bpf_lb_list.go, pkg/loadbalancer/maps/types.go.
 */
export function* lbList(maps: ServiceMaps, frontends: Frontends): Generator<string> {
  const header = 'SERVICE ADDRESS';
  const keys = [...programmedKeys(maps, frontends)].sort((a, b) =>
    a.text < b.text ? -1 : a.text > b.text ? 1 : 0,
  );
  let width = header.length;
  for (const { text, last } of keys) width = Math.max(width, text.length + String(last).length + 3);
  yield `${cell(header, width)}BACKEND ADDRESS (REVNAT_ID) (SLOT)`;
  for (const key of keys) {
    for (const slot of slotsInTextOrder(key.last)) {
      const { address, port, protocol, scope } = key;
      const element = maps.service(address, port, slot, protocol, scope).find();
      if (element < 0) continue;
      const value = slot === 0 ? masterText(maps, element, key.type) : slotText(maps, element, slot);
      yield `${cell(`${key.text} (${slot})`, width)}${value}`;
    }
  }
}

/** `cilium-dbg service list`: frontends by id, a line for each backend. Source: cilium-dbg/cmd/service_list.go. */
export function* serviceList(maps: ServiceMaps, frontends: Frontends): Generator<string> {
  const listed = frontends.all.filter((frontend) => masterOf(maps, frontend) >= 0);
  const widthOf = (header: string, texts: (frontend: Frontend) => string): number =>
    listed.reduce((width, frontend) => Math.max(width, texts(frontend).length), header.length);
  const idWidth = widthOf('ID', (frontend) => String(frontend.revNat));
  const frontendWidth = widthOf('Frontend', frontendText);
  const typeWidth = widthOf('Service Type', (frontend) => frontend.type);
  const row = (id: string, text: string, type: string, backend: string): string =>
    `${cell(id, idWidth)}${cell(text, frontendWidth)}${cell(type, typeWidth)}${backend}`.trimEnd();
  yield row('ID', 'Frontend', 'Service Type', 'Backend');
  for (const frontend of listed) {
    const { address, port, protocol, scope } = frontend;
    const master = masterOf(maps, frontend);
    const total = maps.count(master) + maps.queuedCount(master);
    const head = [String(frontend.revNat), frontendText(frontend), frontend.type] as const;
    if (total === 0) yield row(...head, '');
    for (let slot = 1; slot <= total; slot++) {
      const element = maps.service(address, port, slot, protocol, scope).find();
      const text =
        element < 0 ? `${slot} => missing` : `${slot} => ${backendText(maps, element)}${stateText(maps)}`;
      yield slot === 1 ? row(...head, text) : row('', '', '', text);
    }
  }
}

interface ServiceKey {
  readonly text: string;
  readonly type: string;
  readonly address: number;
  readonly port: number;
  readonly protocol: number;
  readonly scope: number;
  /** Highest slot in the map. */
  readonly last: number;
}

/** Masters with the number of their slots, and wildcards. */
function* programmedKeys(maps: ServiceMaps, frontends: Frontends): Generator<ServiceKey> {
  const wildcards = new Set<number>();
  for (const frontend of frontends.all) {
    const { address, port, protocol, scope, type } = frontend;
    const master = masterOf(maps, frontend);
    let last = master < 0 ? 0 : maps.count(master) + maps.queuedCount(master);
    while (maps.service(address, port, last + 1, protocol, scope).find() >= 0) last++;
    if (master >= 0 || last > 0)
      yield { text: frontendText(frontend), type, address, port, protocol, scope, last };
    if (!frontend.wildcard || wildcards.has(address) || maps.service(address, 0, 0, 0, EXTERNAL).find() < 0)
      continue;
    wildcards.add(address);
    yield {
      text: `${formatIpv4(address)}:0/ANY`,
      type,
      address,
      port: 0,
      protocol: 0,
      scope: EXTERNAL,
      last: 0,
    };
  }
}

function masterOf(maps: ServiceMaps, { address, port, protocol, scope }: Frontend): number {
  return maps.service(address, port, 0, protocol, scope).find();
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

function masterText(maps: ServiceMaps, element: number, type: string): string {
  return `0.0.0.0:0 (${maps.revNat(element)}) (0) [${flagsText(type, maps.flags(element))}]`;
}

function slotText(maps: ServiceMaps, element: number, slot: number): string {
  return `${backendText(maps, element)} (${maps.revNat(element)}) (${slot})`;
}

/** Address, port and protocol of a slot's backend; leaves it the key of the backends map. */
function backendText(maps: ServiceMaps, element: number): string {
  const id = maps.backendId(element);
  const backend = maps.backend(id).find();
  if (backend < 0) return `backend ${id} not found`;
  const protocol = protocolName(maps.backendProtocol(backend)).toUpperCase();
  return `${formatIpv4(maps.backendAddress(backend))}:${maps.backendPort(backend)}/${protocol}`;
}

function stateText(maps: ServiceMaps): string {
  const backend = maps.backends.find();
  if (backend < 0) return '';
  return maps.backendState(backend) === BACKEND_TERMINATING ? ' (terminating)' : ' (active)';
}

/** Source: ServiceFlags.String, pkg/loadbalancer. */
function flagsText(type: string, flags: number): string {
  const words = [type];
  if ((flags & EXTERNAL_LOCAL) !== 0) words.push('Local');
  if (((flags >>> 8) & INTERNAL_LOCAL) !== 0) words.push('InternalLocal');
  if (((flags >>> 8) & TWO_SCOPES) !== 0) words.push('two-scopes');
  if ((flags & AFFINITY) !== 0) words.push('sessionAffinity');
  if ((flags & ROUTABLE) === 0) words.push('non-routable');
  if ((flags & SOURCE_RANGE) !== 0) words.push('check source-range');
  return words.join(', ');
}

function frontendText({ address, port, protocol, scope }: Frontend): string {
  return `${formatIpv4(address)}:${port}/${protocolName(protocol).toUpperCase()}${scope === EXTERNAL ? '' : '/i'}`;
}

function cell(text: string, width: number): string {
  return text.padEnd(Math.max(CELL_MIN, width + PADDING));
}
