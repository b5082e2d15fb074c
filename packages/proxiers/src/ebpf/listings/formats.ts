import { formatCidr, formatIpv4 } from '@vipsim/sim-core';
import { ctList } from './ct-list.ts';
import type { EbpfDataplane } from '../programs/dataplane.ts';
import type { Frontends } from '../agent/frontends.ts';
import { LbList, protocolWord } from './lb-list.ts';
import { serviceList } from './service-list.ts';
import type { ServiceMaps } from '../service-maps.ts';
import { twoColumns } from './text-table.ts';

const ADDRESS = 'BACKEND ADDRESS (REVNAT_ID) (SLOT)';

/** What cilium-dbg prints, the default first; those that end in a release print as releases before it did. */
export const NATIVE_FORMATS = [
  'cilium-lb-list',
  'cilium-lb-frontends',
  'cilium-lb-backends',
  'cilium-lb-revnat',
  'cilium-lb-source-ranges',
  'cilium-lb-maglev',
  'cilium-service-list',
  'cilium-service-list-without-id',
  'cilium-ct-list',
  'cilium-ct-list-old',
] as const;

/** @param withProtocol whether services of different protocols are told apart. */
export function nativeText(
  format: string,
  { services, flows, tracking }: EbpfDataplane,
  frontends: Frontends,
  withProtocol: boolean,
): Iterable<string> {
  const list = new LbList(services, frontends, withProtocol);
  switch (format) {
    case 'cilium-lb-frontends':
      return list.frontends();
    case 'cilium-lb-backends':
      return backends(services);
    case 'cilium-lb-revnat':
      return reverseNat(services, frontends);
    case 'cilium-lb-source-ranges':
      return sourceRanges(frontends);
    case 'cilium-lb-maglev':
      return maglevList(services, frontends);
    case 'cilium-service-list':
    case 'cilium-service-list-without-id':
      return serviceList(services, frontends, list, format === 'cilium-service-list');
    case 'cilium-ct-list':
    case 'cilium-ct-list-old':
      return ctList(flows, tracking, format === 'cilium-ct-list-old');
    default:
      return list.list();
  }
}

/** `cilium-dbg bpf lb list --backends`: ids in the order of their text, addresses without ports. */
function backends(maps: ServiceMaps): Generator<string> {
  const rows = [...maps.backends.elements()].map((element) => {
    const scheme = protocolWord(maps.backendProtocol(element));
    return [
      String(maps.backends.keyWord(element, 0)),
      `${scheme}://${formatIpv4(maps.backendAddress(element))}`,
    ] as const;
  });
  return twoColumns('ID', ADDRESS, rows);
}

/** `cilium-dbg bpf lb list --revnat`. */
function reverseNat(maps: ServiceMaps, frontends: Frontends): Generator<string> {
  const rows = frontends.all.flatMap(({ revNat }) => {
    const element = maps.reverse(revNat).find();
    if (element < 0) return [];
    return [
      [String(revNat), `${formatIpv4(maps.reverseAddress(element))}:${maps.reversePort(element)}`] as const,
    ];
  });
  return twoColumns('ID', ADDRESS, rows);
}

/** `cilium-dbg bpf lb list --source-ranges`. */
function sourceRanges(frontends: Frontends): Generator<string> {
  const rows = frontends.all.flatMap(({ revNat, sourceRanges: ranges, ranged }) =>
    ranges.slice(0, ranged).map((range) => [`${formatCidr(range)} (${revNat})`, ''] as const),
  );
  return twoColumns('SOURCE RANGE (REVNAT_ID)', '', rows);
}

/** `cilium-dbg bpf lb maglev list`, each line as `maglev get <id>` prints it. */
function maglevList(maps: ServiceMaps, frontends: Frontends): Generator<string> {
  const rows = frontends.all.flatMap(({ revNat }) => {
    const table = maps.maglevTable(revNat).lookup();
    return table === undefined ? [] : [[`[${revNat}]/v4`, `[${table.join(' ')}]`] as const];
  });
  return twoColumns('SVC ID', 'LOOKUP TABLE', rows);
}
