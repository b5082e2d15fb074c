import { formatCidr, formatIpv4, netmask } from '@vipsim/sim-core';
import { DROP_COUNT, EXTERNAL_LOCAL, INTERNAL_LOCAL, type NatMaps } from './nat-maps.ts';
import type { ServiceState } from './service-state.ts';

/** Names of `calico-node -bpf` listings. */
export const CALICO_FORMATS: readonly string[] = ['calico-nat-dump'];

/**
 * `calico-node -bpf nat dump`: frontends, each with its backends. The tool goes through a Go map, in no order; here
 * they come by service port. Source: dumpNice, felix/cmd/calico-bpf/commands/nat.go.
 */
export function* natDump(maps: NatMaps, states: readonly ServiceState[]): Generator<string> {
  for (const { frontends } of states) {
    for (const { address, port, protocol, range } of frontends) {
      const source = range === undefined ? 0 : (range.address & netmask(range.prefix)) >>> 0;
      const element = maps.frontend(address, port, protocol, source).lookup();
      if (element < 0) continue;
      const id = maps.id(element);
      const drops = maps.count(element) === DROP_COUNT;
      // A range's first address may lie in a longer one; both have the same service.
      const count = drops ? -1 : maps.count(element);
      const flags = flagText(maps.flags(element));
      yield (
        `${formatIpv4(address)} port ${port} proto ${protocol} id ${id} count ${count} local ${maps.local(element)}` +
        `${flags === '' ? '' : ` flags ${flags}`}${range === undefined || range.prefix === 0 ? '' : ` src ${formatCidr({ ...range, address: source })}`}`
      );
      for (let ordinal = 0; ordinal < count; ordinal++) {
        const map = maps.backend(id, ordinal);
        const backend = map.find();
        const text =
          backend < 0 ? 'is missing' : `${formatIpv4(map.value(backend, 0))}:${map.value(backend, 1)}`;
        yield `\t${id}:${ordinal}\t ${text}`;
      }
    }
  }
}

function flagText(flags: number): string {
  const names: string[] = [];
  if ((flags & EXTERNAL_LOCAL) !== 0) names.push('external-local');
  if ((flags & INTERNAL_LOCAL) !== 0) names.push('internal-local');
  return names.join(', ');
}
