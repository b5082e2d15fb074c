import test from 'ava';
import { COURSE_NAMES, COURSES, kindsOf, type CourseName, type Kind } from '../src/ebpf-paths-courses.ts';
import { LOOKUP_WAYS, takeEbpfTablesTurn } from '../src/ebpf-paths-tables-turn.ts';
import { surveyCourse, takeCourseTurn } from '../src/ebpf-paths-turn.ts';

/**
 * Operations of packets as read from nodeport_lb4, lb4_local, the SNAT engine and __sock4_xlate_fwd of Cilium: H
 * lookups in hash maps, L in LRU maps, U updates. What a pod's own program does about a connection comes on top: a
 * lookup, and for a new one two entries (TCP and its ICMP companion).
 */
const VECTORS: readonly [CourseName, Kind, Readonly<Record<string, number>>][] = [
  // 4H 4L 4U: service, slot, backend, local endpoint; both conntrack entries, neighbour, SNAT.
  ['snat', 'first', { services: 2, backends: 1, lxc: 1, ct: 2, neigh: 1, snat: 1, '+ct': 2, '+snat': 2 }],
  // 3H 5L.
  ['snat', 'later', { services: 1, backends: 1, lxc: 1, ct: 2, neigh: 1, snat: 2 }],
  // 3H 4L: the service and the wildcard are missed.
  ['snat', 'answer', { services: 2, revnat: 1, ct: 2, snat: 2 }],
  // Without the flow's entries of this node: the backend's answers from there.
  ['dsr', 'first', { services: 2, backends: 1, lxc: 1, ct: 1, '+ct': 1 }],
  // 3H 1L 1U, and the pod's own 1L 2U.
  ['packet', 'first', { services: 2, backends: 1, ct: 2, '+ct': 3 }],
  ['packet', 'later', { services: 1, backends: 1, ct: 2 }],
  // At connect(): 3H 1L 1U; then packets are like any.
  ['socket', 'first', { services: 2, backends: 1, reverse_sk: 1, ct: 1, '+reverse_sk': 1, '+ct': 2 }],
  ['socket', 'later', { ct: 1 }],
  ['outside-else', 'later', { services: 2, ct: 1 }],
];

test('packets take as many map operations as their programs do', (t) => {
  for (const [course, kind, expected] of VECTORS) {
    const found: Record<string, number> = {};
    for (const [name, count] of surveyCourse(course, kind)) {
      const [, map, operation] = name.split('.');
      if (operation === 'lookup') found[map!] = count;
      // A neighbour is new with each client only, a second port is tried by chance.
      if (operation === 'update' && map !== 'neigh') found[`+${map}`] = Math.floor(count);
    }
    t.deepEqual(found, expected, `${course} ${kind}`);
  }
});

function besidesProgram(counts: ReadonlyMap<string, number>): [string, number][] {
  return [...counts].filter(([name]) => !/program|xdp/.test(name));
}

test('XDP does the same to the same packets, in another program', (t) => {
  for (const kind of kindsOf('snat')) {
    const [tc, xdp] = (['snat', 'xdp'] as const).map((course) => surveyCourse(course, kind));
    t.is(tc!.get('ebpf.program'), 1);
    t.is(xdp!.get('ebpf.xdp'), 1);
    t.deepEqual(besidesProgram(xdp!), besidesProgram(tc!));
  }
});

test('a turn measures every kind of packet of every course, and does the same each time', (t) => {
  for (const course of COURSE_NAMES) {
    const request = { bench: 'ebpf-course', course, services: 10, endpoints: 3, flows: 500 } as const;
    const { ns, parts, result } = takeCourseTurn(request);
    t.is(parts!.length, kindsOf(course).length - 1, COURSES[course].title);
    for (const each of [ns, ...parts!]) t.true(each > 0);
    t.is(takeCourseTurn(request).result, result, course);
  }
});

test('the map and both Maps find the same Services', (t) => {
  const asked = { bench: 'ebpf-lookup', services: 10, endpoints: 2, lookups: 100 } as const;
  const [first, ...others] = LOOKUP_WAYS.map((way) => takeEbpfTablesTurn({ ...asked, way }).result!);
  // Ids 1 to 10, ten times.
  t.is(first, 550);
  t.deepEqual(others, [550, 550]);
});

test('a build has the entries that the cluster needs, and the bytes of the kernel', (t) => {
  const { ns, parts, ownBytes, result } = takeEbpfTablesTurn({
    bench: 'ebpf-build',
    services: 20,
    endpoints: 50,
    changes: 4,
  });
  // Master, slots and a wildcard for each Service; backends; reverse NAT.
  t.is(result, 20 * (1 + 50 + 1) + 20 * 50 + 20);
  // Buckets of 16 bytes; elements of 48 with key and value in units of 8: 12 + 12, 4 + 12, 2 + 6.
  t.is(ownBytes, 3 * 65_536 * 16 + 20 * 52 * 80 + 1000 * 72 + 20 * 64);
  t.true(ns > 0 && parts![0]! > 0);
});
