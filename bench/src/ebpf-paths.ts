import { nodeTurn } from './children.ts';
import { contest, type Contender, type Score } from './contest.ts';
import { surveyCourse } from './ebpf-paths-turn.ts';
import { LOOKUP_WAYS } from './ebpf-paths-tables-turn.ts';
import { COURSE_NAMES, COURSES, kindsOf, type CourseName, type Kind } from './ebpf-paths-courses.ts';
import type { Table } from './report.ts';
import type { TurnResult } from './turn.ts';

export interface PathsEffort {
  readonly rounds: number;
  /** Services of the clusters. */
  readonly services: readonly number[];
  /** Of each Service. */
  readonly endpoints: number;
  /** New flows that a turn opens. */
  readonly flows: number;
  readonly lookups: number;
  /** Endpoints that go and come back after the first sync. */
  readonly changes: number;
}

export interface PathsScore {
  readonly services: number;
  readonly endpoints: number;
  /** ns per packet: the kinds of each course, then the three ways to look one service up. */
  readonly packets: readonly Score[];
  /** ns of the first sync, bytes held, `ownBytes` in the kernel; the result is the entries of the service maps. */
  readonly build: Score;
  /** ns of a change. */
  readonly change: Score;
}

export interface PathScores {
  readonly sizes: readonly PathsScore[];
  /** Operations per packet, by course and kind. */
  readonly operations: readonly {
    readonly name: string;
    readonly counts: Readonly<Record<string, number>>;
  }[];
}

const KIND_TITLES = { first: 'first packet', later: 'later packet', answer: 'answer' };
const LOOKUP_TITLES = {
  map: 'the services map alone',
  number: 'Map, key a number',
  string: 'Map, key a text',
};
/** What packets are compared with. */
const BASELINE = LOOKUP_TITLES.number;
/** With fewer entries the noise of the heap is larger than what they take. */
const BYTES_FROM = 100_000;

/** Packets on every path, lookups of a service beside them, and the building of the maps, size by size. */
export function measurePaths(effort: PathsEffort): PathScores {
  const operations = COURSE_NAMES.flatMap((course) =>
    kindsOf(course).map((kind) => ({
      name: titleOf(course, kind),
      counts: Object.fromEntries(surveyCourse(course, kind)),
    })),
  );
  return { sizes: effort.services.map((services) => measureSize(services, effort)), operations };
}

function measureSize(services: number, effort: PathsEffort): PathsScore {
  const { endpoints, rounds, flows, lookups, changes } = effort;
  const size = { services, endpoints };
  const courses = COURSE_NAMES.flatMap((course) =>
    inOneTurn(
      kindsOf(course).map((kind) => titleOf(course, kind)),
      () => nodeTurn({ bench: 'ebpf-course', course, ...size, flows }),
    ),
  );
  const ways = LOOKUP_WAYS.map((way) => ({
    name: LOOKUP_TITLES[way],
    agrees: true,
    turn: () => nodeTurn({ bench: 'ebpf-lookup', way, ...size, lookups }),
  }));
  const packets = contest([...courses, ...ways], rounds);
  const [build, change] = contest(
    inOneTurn(['build', 'change'], () => nodeTurn({ bench: 'ebpf-build', ...size, changes })),
    rounds,
  );
  return { ...size, packets, build: build!, change: change! };
}

/** Contenders that one turn measures one after another: the first plays it, the others take what it found. */
export function inOneTurn(names: readonly string[], play: () => TurnResult): Contender[] {
  let last: TurnResult;
  return names.map((name, at) => ({
    name,
    agrees: false,
    turn: () => {
      if (at === 0) return (last = play());
      return { ns: last.parts![at - 1]! };
    },
  }));
}

function titleOf(course: CourseName, kind: Kind): string {
  return `${COURSES[course].title}: ${KIND_TITLES[kind]}`;
}

export function pathTables({ sizes, operations }: PathScores): Table[] {
  return [packetsTable(sizes), operationsTable(operations), buildTable(sizes)];
}

function packetsTable(sizes: readonly PathsScore[]): Table {
  return {
    title: 'eBPF, packets through the dataplane: ns of processor time per packet, million packets per second',
    head: [
      'path',
      ...sizes.flatMap(({ services, endpoints }) => [
        `${short(services * endpoints)} backends`,
        'M/s',
        '÷ Map',
      ]),
    ],
    rows: sizes[0]!.packets.map(({ name }, row) => [
      name,
      ...sizes.flatMap(({ packets }) => {
        const { ns } = packets[row]!;
        const map = packets.find((score) => score.name === BASELINE)!;
        return [ns.toFixed(0), (1000 / ns).toPrecision(3), (ns / map.ns).toFixed(1)];
      }),
    ]),
    notes: [
      `${sizes[0]!.endpoints} backends a Service, all on other nodes; Services in a scattered order; 16 flows of each client`,
      'first packets: entries made, the growth of our columns included; no entry is evicted',
      '÷ Map: time over that of a JavaScript Map which finds the Service under address × 65536 + port and does nothing else; a text as key is put together for each lookup',
      'the services map has an entry for each Service, each slot and each address; a Map has the Services',
    ],
  };
}

function operationsTable(operations: PathScores['operations']): Table {
  return {
    title: 'eBPF, operations of a packet',
    head: ['path', 'lookups', 'updates', 'which'],
    rows: operations.map(({ name, counts }) => {
      const entries = Object.entries(counts).map(
        ([operation, n]) => [operation.slice('ebpf.'.length), n] as const,
      );
      const sum = (end: string): number =>
        entries.reduce((all, [operation, n]) => (operation.endsWith(end) ? all + n : all), 0);
      const which = entries
        .filter(([operation]) => !operation.endsWith('.step'))
        .map(([operation, n]) => (n === 1 ? operation : `${operation} ${Number(n.toFixed(2))}`));
      return [name, digits(sum('.lookup')), digits(sum('.update')), which.join(', ')];
    }),
    notes: ['the same for any number of Services and backends; means over 256 flows'],
  };
}

function buildTable(sizes: readonly PathsScore[]): Table {
  return {
    title: 'eBPF, service maps of a first sync',
    head: [
      'services x endpoints',
      'entries',
      's',
      'ns an entry',
      'one endpoint changed, µs',
      'MB',
      'bytes an entry',
      'of the kernel',
    ],
    rows: sizes.map(({ services, endpoints, build, change }) => {
      const bytes = build.result >= BYTES_FROM;
      return [
        `${services} x ${endpoints}`,
        String(build.result),
        (build.ns / 1e9).toFixed(2),
        (build.ns / build.result).toFixed(0),
        (change.ns / 1e3).toFixed(0),
        (build.bytes / 1e6).toFixed(0),
        bytes ? (build.bytes / build.result).toFixed(0) : '–',
        bytes ? (build.ownBytes / build.result).toFixed(0) : '–',
      ];
    }),
    notes: [
      'processor time; bytes: of the agent, its service maps and the empty maps of flows; of the kernel: service maps alone, 16 for each bucket and 48 with key and value for each element',
    ],
  };
}

function digits(n: number): string {
  return String(Number(n.toFixed(2)));
}

function short(n: number): string {
  return n >= 1e6 ? `${n / 1e6}M` : n >= 1e3 ? `${n / 1e3}k` : String(n);
}
