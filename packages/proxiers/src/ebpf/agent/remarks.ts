import type { Cluster } from '../../kubernetes/cluster.ts';
import { nextPowerOfTwo } from '../maps/buckets.ts';
import { FRONTENDS_MAX, type Frontends } from './frontends.ts';
import type { MaglevTables } from './maglev-tables.ts';
import { MAGLEV_SIZES, matrixBytes } from '../maglev/table.ts';
import type { AgentOptions } from './options.ts';
import { LB_MAP_DEFAULT, type ServiceMaps } from '../service-maps.ts';

const MEBIBYTE = 1_048_576;
const MILLISECOND = 1_000_000;
/** A map or a range of ids this full is worth a remark. */
const NEAR = 0.8;
/** Waiting worth a remark: grace periods of one Service's tables. */
const WAIT_NS = 100 * MILLISECOND;

export interface RemarkFacts {
  readonly options: AgentOptions;
  readonly cluster: Cluster;
  readonly frontends: Frontends;
  readonly maps: ServiceMaps;
  readonly tables: MaglevTables;
  readonly needed: number;
}

/** What a reader of results must know of the agent's limits: one sentence each. */
export function agentRemarks(facts: RemarkFacts): readonly string[] {
  return [...mapRemarks(facts), ...maglevRemarks(facts), ...frontendRemarks(facts)];
}

function* mapRemarks({ options, maps, needed }: RemarkFacts): Generator<string> {
  const { maxEntries, services } = maps;
  if (options.lbMapMax === 0 && maxEntries > LB_MAP_DEFAULT) {
    yield `The service maps are made for ${maxEntries} entries: this cluster needs ${needed}, and with Cilium's default bpf-lb-map-max of ${LB_MAP_DEFAULT} updates would fail with E2BIG.`;
    return;
  }
  const named = [
    services,
    maps.backends,
    maps.reverseNat,
    maps.affinityMatch,
    maps.sourceRanges,
    maps.maglev,
  ];
  for (const { spec, count } of named) {
    if (count <= maxEntries * NEAR) continue;
    const wanted = Math.max(maxEntries * 2, nextPowerOfTwo(needed));
    yield `${spec.name} holds ${count} entries of at most ${maxEntries} (bpf-lb-map-max); ${wanted} would leave room.`;
  }
}

function* maglevRemarks({ options, cluster, frontends, tables, maps }: RemarkFacts): Generator<string> {
  if (options.algorithm !== 'maglev') return;
  const { tableSize, backendsMax } = tables;
  const tabled = frontends.all.filter(({ maglev }) => maglev);
  if (tabled.length === 0) {
    yield 'No frontend is reachable from outside, so no Maglev table is built: all choices are random.';
    return;
  }
  if (maps.maglev.count > 0) {
    const mebibytes = ((maps.maglev.count * maps.innerBytes) / MEBIBYTE).toFixed(1);
    yield `Maglev tables of ${tableSize} slots: ${maps.maglev.count}, which take ${mebibytes} MiB in the kernel.`;
  }
  const byService = new Map<number, number>();
  for (const { servicePort } of tabled) {
    const service = cluster.ports.service[servicePort]!;
    byService.set(service, (byService.get(service) ?? 0) + 1);
  }
  const [service, count] = [...byService].reduce((most, one) => (one[1] > most[1] ? one : most));
  const waitNs = count * options.rcuGracePeriod;
  if (waitNs >= WAIT_NS) {
    const { namespace, name } = cluster.services[service]!;
    yield `Each change of an endpoint of ${namespace}/${name} replaces ${count} Maglev tables, and the agent waits ${(waitNs / 1e9).toFixed(2)} s for the kernel's grace periods, whatever the number of backends.`;
  }
  if (backendsMax * 100 >= tableSize) {
    const larger = MAGLEV_SIZES.find((size) => size > backendsMax * 100);
    const advice = larger === undefined ? 'no size has that many' : `bpf-lb-maglev-table-size ${larger} has`;
    yield `The largest Maglev table has ${backendsMax} backends in ${tableSize} slots; more than 100 slots for each are advised, and ${advice}.`;
    const gigabytes = (matrixBytes(backendsMax, tableSize) / 1e9).toFixed(2);
    yield `To compute it the agent holds permutations of ${gigabytes} GB.`;
  }
}

function* frontendRemarks({ options, frontends }: RemarkFacts): Generator<string> {
  if (frontends.needed > FRONTENDS_MAX * NEAR) {
    yield `This node has ${frontends.needed} frontends of at most ${FRONTENDS_MAX}, the number of reverse NAT ids.`;
  }
  if (frontends.collided > 0) {
    yield `Frontends that share address and port with one of another protocol and give way to it (bpf-lb-proto-diff is off): ${frontends.collided}.`;
  }
  if (options.socketLB && !options.socketLBHostOnly && options.algorithm === 'maglev') {
    yield 'Clients on the node choose at random when they connect: socket load balancing knows no Maglev.';
  }
}
