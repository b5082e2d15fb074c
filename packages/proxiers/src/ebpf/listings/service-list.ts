import type { Frontend, Frontends } from '../agent/frontends.ts';
import type { LbList } from './lb-list.ts';
import { BACKEND_TERMINATING, type ServiceMaps } from '../service-maps.ts';
import { cell } from './text-table.ts';

/**
 * `cilium-dbg service list`: a line for each backend; frontends by id, or in the newest releases without it and by
 * their text. Source: cilium-dbg/cmd/service_list.go.
 */
export function* serviceList(
  maps: ServiceMaps,
  frontends: Frontends,
  list: LbList,
  withId: boolean,
): Generator<string> {
  const listed = frontends.all.filter((frontend) => list.masterOf(frontend) >= 0);
  const text = (frontend: Frontend): string => list.frontendText(frontend);
  if (!withId) listed.sort((a, b) => (text(a) < text(b) ? -1 : text(a) > text(b) ? 1 : 0));
  const widthOf = (header: string, texts: (frontend: Frontend) => string): number =>
    listed.reduce((width, frontend) => Math.max(width, texts(frontend).length), header.length);
  const widths = [
    widthOf('ID', ({ revNat }) => String(revNat)),
    widthOf('Frontend', text),
    widthOf('Service Type', ({ type }) => type),
  ];
  const from = withId ? 0 : 1;
  const row = (head: readonly string[], backend: string): string => {
    const cells = widths.slice(from).map((width, i) => cell(head[i + from] ?? '', width));
    return `${cells.join('')}${backend}`.trimEnd();
  };
  yield row(['ID', 'Frontend', 'Service Type'], 'Backend');
  for (const frontend of listed) {
    let head = [String(frontend.revNat), text(frontend), frontend.type];
    const { address, port, protocol, scope } = frontend;
    const master = list.masterOf(frontend);
    const total = maps.count(master) + maps.queuedCount(master);
    if (total === 0) yield row(head, '');
    for (let slot = 1; slot <= total; slot++) {
      const element = maps.service(address, port, slot, protocol, scope).find();
      yield row(head, `${slot} => ${element < 0 ? 'missing' : backendText(maps, list, element)}`);
      head = [];
    }
  }
}

function backendText(maps: ServiceMaps, list: LbList, element: number): string {
  const text = list.backendText(element);
  const backend = maps.backends.find();
  if (backend < 0) return text;
  return `${text} (${maps.backendState(backend) === BACKEND_TERMINATING ? 'terminating' : 'active'})`;
}
